//! What a benchmark reads from its environment: numbers, and the directory that holds its data.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use tempfile::TempDir;

/// The number in the variable `name`, or `default` where it is not set or not a number.
pub fn number<T: FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// `CAIRN_BENCH_DIR`, or a temporary directory, which exists until it is dropped.
pub fn directory() -> io::Result<(PathBuf, Option<TempDir>)> {
    if let Some(dir) = std::env::var_os("CAIRN_BENCH_DIR") {
        return Ok((dir.into(), None));
    }
    let made = tempfile::tempdir()?;
    Ok((made.path().to_path_buf(), Some(made)))
}
