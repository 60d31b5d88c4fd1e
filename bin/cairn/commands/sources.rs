//! Adding sources to a version in the making: directories, files, standard input and references.

use super::shared_args::SourceArgs;
use super::stdin::{self, SourceList};
use super::uri;
use crate::output::count;
use crate::progress::Bar;
use crate::signals;
use cairn::assets::Table;
use cairn::error::{Error, Result, show_path};
use cairn::internals::commit::Artifact;
use cairn::progress::{Progress, Reading};
use cairn::types::RelPath;
use cairn::{ReferenceOptions, ScanOptions, Store};
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Adds every source, and the output of a command if there is one.
pub fn add_sources(
    artifact: &mut Artifact,
    store: &Store,
    given: &SourceList<'_>,
    args: &SourceArgs,
    progress: &Arc<Progress>,
) -> Result<()> {
    let prefix = args.at.as_ref().map_or(Ok(RelPath::root()), |at| RelPath::parse_or_root(at.as_bytes()))?;
    let options = args.scan.options();
    given.check()?;
    for source in given.sources {
        let path = Path::new(source);
        if source == "-" {
            stdin::add(artifact, store, args, &prefix, &[])?;
        } else if let Some(uri) = uri::parse(source)? {
            let how = ReferenceOptions::default().checksum(!args.no_checksum).max_objects(args.max_objects);
            let how = how.store(store.clone()).below(prefix.clone()).progress(progress.clone());
            artifact.add_reference(uri, None, &how)?;
        } else {
            add_path(artifact, path, &prefix, &options, progress)?;
        }
    }
    if !given.command.is_empty() {
        stdin::add(artifact, store, args, &prefix, given.command)?;
    }
    Ok(())
}

/// [`add_sources`], from the sources of the command line. After that, an interrupt cancels the work that `bar` shows.
pub fn add_all_sources(
    artifact: &mut Artifact,
    store: &Store,
    sources: &[OsString],
    args: &SourceArgs,
    bar: &Bar,
) -> Result<()> {
    add_sources(artifact, store, &SourceList::split(sources, args)?, args, &bar.progress())?;
    signals::cancel_on_interrupt(bar.progress());
    Ok(())
}

/// A directory's contents, or a file by its base name.
fn add_path(
    artifact: &mut Artifact,
    path: &Path,
    prefix: &RelPath,
    options: &ScanOptions,
    progress: &Progress,
) -> Result<()> {
    let kind = std::fs::metadata(path).map_err(|e| unreadable("add", path, e))?.file_type();
    if kind.is_dir() {
        artifact.add_dir_at(prefix.as_bytes(), path, options)?;
    } else if kind.is_file() {
        artifact.add_file_at(prefix.join(base_name(path)?.as_bytes())?.as_bytes(), path)?;
    } else if options.skip_special {
        progress.skipped_special(1);
    } else {
        let why = format!("{} is a device node, socket or FIFO: it cannot be added", show_path(path));
        return Err(Error::usage(why)
            .with_hint("leave it out with --skip-special; to add the data of a pipe, use - (standard input)"));
    }
    Ok(())
}

/// Adds a file as a table under its base name, without the suffix.
pub fn add_table(artifact: &mut Artifact, path: &Path, args: &SourceArgs) -> Result<()> {
    let stem = path.file_stem().ok_or_else(|| Error::usage(format!("{} has no base name", show_path(path))))?;
    let prefix = args.at.as_ref().map_or(Ok(RelPath::root()), |at| RelPath::parse_or_root(at.as_bytes()))?;
    artifact.add(prefix.join(stem.as_bytes())?.as_bytes(), &Table::from_file(path)?)?;
    Ok(())
}

fn base_name(path: &Path) -> Result<&OsStr> {
    path.file_name().ok_or_else(|| Error::usage(format!("{} has no base name", show_path(path))))
}

/// The error for a source that cannot be read: "not found" if it is missing, else an I/O error.
pub fn unreadable(action: &str, path: &Path, e: std::io::Error) -> Error {
    if e.kind() == ErrorKind::NotFound {
        let why = if path.is_symlink() { "it is a symlink to nothing" } else { "it does not exist" };
        let hint = uri::with_two_slashes(path)
            .unwrap_or_else(|| "check the path; a relative one begins at the current directory".to_owned());
        return Error::not_found(format!("cannot {action} {}: {why}", show_path(path))).with_hint(hint);
    }
    Error::io(action, path, e)
}

/// Warns about sources that were stored in another way than the user may expect.
pub fn warn_of_sources(progress: &Progress) {
    let Reading { outside_symlinks: links, skipped_special: special, .. } = progress.read();
    if links > 0 {
        let lead = if links == 1 { "leads" } else { "lead" };
        eprintln!(
            "warning: {} {lead} out of what was added and will not resolve in a version; --follow-symlinks stores the \
             targets",
            count(links, "symlink")
        );
    }
    if special > 0 {
        eprintln!("warning: {} left out: device nodes, sockets or FIFOs", count(special, "special file"));
    }
}
