//! Sources that are URIs: they are recorded as references. A mistyped one is refused, not recorded.

use cairn::error::{Error, Result, show_path};
use cairn::view::shown_uri;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Schemes that are in common use for data, the most common first. Others are accepted, unless they look like a typing
/// error of one of these.
const KNOWN: [&str; 32] = [
    "https", "http", "s3", "gs", "file", "az", "cairn", "hf", "hdfs", "sftp", "ssh", "ftp", "ftps", "abfs", "abfss",
    "adl", "azure", "b2", "dav", "davs", "dbfs", "dvc", "gcs", "ipfs", "oci", "oss", "r2", "rsync", "s3a", "s3n",
    "wandb", "wasbs",
];

/// The URI that `source` is, or `None` if it is a path.
///
/// # Errors
/// Usage: a URI that names nothing, or with a scheme that looks mistyped; a name that is a path as well.
pub fn parse(source: &OsStr) -> Result<Option<&str>> {
    let lossy = source.to_string_lossy();
    let Some((scheme, _)) = lossy.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else { return Ok(None) };
    let path = Path::new(source);
    let Some(text) = source.to_str() else {
        return Err(Error::usage(format!("{} is not a URI: it is not UTF-8", show_path(path))));
    };
    let shown = shown_uri(text);
    if path.symlink_metadata().is_ok() {
        return Err(Error::usage(format!("{shown} is a URI, and there is a file with that path"))
            .with_hint(format!("for the file, write ./{shown}; for the URI, run the command in another directory")));
    }
    if let Some(meant) = mistyped(scheme) {
        let rest = &shown[scheme.len()..];
        return Err(Error::usage(format!("{shown}: the scheme `{scheme}` is not known"))
            .with_hint(format!("did you mean {meant}{rest}? Any other scheme is recorded as it is")));
    }
    Ok(Some(text))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// The known scheme that was probably meant.
fn mistyped(scheme: &str) -> Option<&'static str> {
    let scheme = scheme.to_ascii_lowercase();
    if KNOWN.contains(&scheme.as_str()) || scheme.contains('+') {
        return None;
    }
    // Between two short names one letter is too little to tell.
    KNOWN.into_iter().find(|known| known.len().max(scheme.len()) > 3 && is_one_slip(&scheme, known))
}

/// Whether one letter is missing, added, changed, or exchanged with the next.
fn is_one_slip(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let from = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[from..], &b[from..]);
    let exchanged = a.len() == b.len() && a.len() >= 2 && a[0] == b[1] && a[1] == b[0] && a[2..] == b[2..];
    exchanged
        || match a.len() as isize - b.len() as isize {
            0 => a.get(1..) == b.get(1..),
            1 => a[1..] == *b,
            -1 => *a == b[1..],
            _ => false,
        }
}

/// A hint for a path that was probably meant as a URI: `s3:/bucket/x`, `s3:bucket/x`.
pub fn with_two_slashes(path: &Path) -> Option<String> {
    let text = std::str::from_utf8(path.as_os_str().as_bytes()).ok()?;
    let (scheme, rest) = text.split_once(':')?;
    KNOWN
        .contains(&scheme.to_ascii_lowercase().as_str())
        .then(|| format!("it was taken for a path; a reference is written {scheme}://{}", rest.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_with_one_slip_is_recognized_and_others_are_accepted() {
        for (typed, meant) in
            [("htps", "https"), ("httpss", "https"), ("fiel", "file"), ("flie", "file"), ("sfpt", "sftp")]
        {
            assert_eq!(mistyped(typed), Some(meant), "{typed}");
        }
        for fine in ["s3", "S3", "gs", "https", "git+ssh", "lakefs", "myproto", "x", "t3", "minio", "zenodo"] {
            assert_eq!(mistyped(fine), None, "{fine}");
        }
    }

    #[test]
    fn a_uri_has_a_scheme_and_a_path_is_none() {
        let is_uri = |text| parse(OsStr::new(text)).unwrap().is_some();
        assert!(is_uri("s3://bucket/a/b.tar?x=1#y") && is_uri("https://host/dir/"));
        assert!(!is_uri("./a/b") && !is_uri("1a://b"));
        assert_eq!(with_two_slashes(Path::new("s3:/b/x")).unwrap().split_whitespace().last(), Some("s3://b/x"));
        assert_eq!(with_two_slashes(Path::new("C:/x")), None);
    }
}
