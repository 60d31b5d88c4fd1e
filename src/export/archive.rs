//! A version as one archive. The same version gives the same bytes on every host: entries in path order, modes 0644 and
//! 0755, no owner, and the commit's time.

use crate::catalog::Version;
use crate::clock;
use crate::error::{Error, Result, show_path};
use crate::manifest::{Entry, Visit};
use crate::types::RelPath;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

/// The form of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArchiveFormat {
    /// POSIX tar.
    Tar,
    /// Zip, not compressed.
    Zip,
}

/// Writes what is at `path` of a version (the root: all of it) as an archive. A reference has no bytes to write.
///
/// # Errors
/// Not found: the path. Usage: a reference; a name that is not UTF-8, in a zip archive. Damaged; I/O.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = cairn::Store::init(dir.path().join("s"), &Default::default())?;
/// # let mut artifact = cairn::Artifact::new("a", None)?;
/// # let version = artifact.add_bytes("x/y.txt", "hello")?.save(&store)?.version;
/// use cairn::export::{ArchiveFormat, archive};
/// use cairn::types::RelPath;
///
/// let mut tar = Vec::new();
/// archive(&version, &RelPath::root(), ArchiveFormat::Tar, &mut tar)?;
/// assert_eq!(tar.len() % 512, 0);
/// # Ok::<(), cairn::Error>(())
/// ```
pub fn archive(version: &Version, path: &RelPath, format: ArchiveFormat, out: impl Write) -> Result<()> {
    let tree = version.tree()?;
    let time = commit_seconds(version);
    let mut visits: Box<dyn Iterator<Item = Result<Visit>>> = match version.entry(path)? {
        Entry::Directory(_) => Box::new(tree.walk_below(path)?),
        entry => Box::new(std::iter::once(Ok(Visit { path: path.clone(), entry, rank: 0 }))),
    };
    match format {
        ArchiveFormat::Tar => tar(version, &mut visits, time, out),
        ArchiveFormat::Zip => zip(version, &mut visits, time, out),
    }
}

fn tar(version: &Version, visits: &mut dyn Iterator<Item = Result<Visit>>, time: u64, out: impl Write) -> Result<()> {
    let mut builder = tar::Builder::new(out);
    for visit in visits {
        let Visit { path, entry, .. } = visit?;
        let name = Path::new(OsStr::from_bytes(path.as_bytes()));
        let written = |e| cannot_write(version, &path, e);
        let mut header = tar::Header::new_gnu();
        header.set_mtime(time);
        header.set_mode(0o644);
        header.set_size(0);
        match &entry {
            Entry::File { size, exec, .. } => {
                header.set_size(*size);
                header.set_mode(if *exec { 0o755 } else { 0o644 });
                builder.append_data(&mut header, name, version.open_entry(&path, &entry)?).map_err(written)?;
            }
            Entry::Directory(_) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                builder.append_data(&mut header, name, std::io::empty()).map_err(written)?;
            }
            Entry::Symlink { target } => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                builder.append_link(&mut header, name, OsStr::from_bytes(target)).map_err(written)?;
            }
            Entry::Reference(r) => return Err(has_no_bytes(version, &path, &r.uri)),
        }
    }
    let end = |e| cannot_write(version, &RelPath::root(), e);
    builder.into_inner().map_err(end)?.flush().map_err(end)
}

fn zip(version: &Version, visits: &mut dyn Iterator<Item = Result<Visit>>, time: u64, out: impl Write) -> Result<()> {
    let mut writer = zip::ZipWriter::new_stream(out);
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .large_file(true)
        .last_modified_time(zip_time(time));
    for visit in visits {
        let Visit { path, entry, .. } = visit?;
        let failed = |e: zip::result::ZipError| cannot_write(version, &path, e.into());
        let name = std::str::from_utf8(path.as_bytes()).map_err(|_| {
            Error::usage(format!("{path} of {version} cannot be in a zip archive: its name is not UTF-8"))
                .with_hint("a tar archive can have it")
        })?;
        match &entry {
            Entry::File { exec, .. } => {
                let mode = if *exec { 0o755 } else { 0o644 };
                writer.start_file(name, options.unix_permissions(mode)).map_err(failed)?;
                std::io::copy(&mut version.open_entry(&path, &entry)?, &mut writer)
                    .map_err(|e| cannot_write(version, &path, e))?;
            }
            Entry::Directory(_) => {
                writer.add_directory(name, options.unix_permissions(0o755)).map_err(failed)?;
            }
            Entry::Symlink { target } => {
                let target = String::from_utf8_lossy(target);
                writer.add_symlink(name, target, options).map_err(failed)?;
            }
            Entry::Reference(r) => return Err(has_no_bytes(version, &path, &r.uri)),
        }
    }
    let end = |e| cannot_write(version, &RelPath::root(), e);
    writer.finish().map_err(|e| end(e.into()))?.into_inner().flush().map_err(end)
}

/// An error of the reader is that of the version; another is the archive's.
fn cannot_write(version: &Version, path: &RelPath, e: std::io::Error) -> Error {
    match e.downcast::<Error>() {
        Ok(e) => e,
        Err(e) => Error::io(&format!("write an archive of {version} at"), &path.on_disk(Path::new("/")), e),
    }
}

fn has_no_bytes(version: &Version, path: &RelPath, uri: &str) -> Error {
    let shown = show_path(Path::new(uri));
    Error::usage(format!("{path} of {version} is a reference to {shown}: its bytes are not in the store"))
        .with_hint("choose a part without references with --path")
}

/// The second of its commit; 0 if it cannot be read.
fn commit_seconds(version: &Version) -> u64 {
    clock::parse(&version.record().created_at).and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0)
}

/// A zip archive has times from 1980 on, in UTC here.
fn zip_time(seconds: u64) -> zip::DateTime {
    let time = i64::try_from(seconds).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    let civil = time.map(|t| t.to_zoned(jiff::tz::TimeZone::UTC));
    let part = |n: i8| u8::try_from(n).unwrap_or(0);
    civil
        .and_then(|c| {
            let year = u16::try_from(c.year()).ok()?;
            let (month, day) = (part(c.month()), part(c.day()));
            zip::DateTime::from_date_and_time(year, month, day, part(c.hour()), part(c.minute()), part(c.second())).ok()
        })
        .unwrap_or_default()
}
