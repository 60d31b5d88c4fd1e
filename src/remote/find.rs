//! What a URI names, when it is added: one object, or all below a directory or a prefix.

use super::local;
use super::named::{FindOptions, Named, bare, too_many};
use super::uri::{Location, Uri, below};
use crate::error::{Error, Result, show_path};
use crate::manifest::Reference;
use crate::progress::Activity;
use crate::threads;
use crate::types::RelPath;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Finds what `uri` names. `cairn://` URIs are not asked here.
///
/// # Errors
/// Usage: more than `max_objects`. Not found; I/O.
pub(crate) fn find(uri: &Uri, options: &FindOptions<'_>) -> Result<Named> {
    let found = match &uri.at {
        Location::File(path) => file(uri, path, options)?,
        #[cfg(feature = "remote")]
        Location::Http if options.checksum => Named::One(super::network::one(uri, options)?),
        #[cfg(feature = "remote")]
        Location::Object(at) if options.checksum || at.key.is_empty() || at.key.ends_with('/') => {
            super::network::objects(uri, at, options)?
        }
        #[cfg(not(feature = "remote"))]
        Location::Http | Location::Object(_) if options.checksum => {
            let shown = super::uri::shown_uri(&uri.text);
            let why = "this build of cairn lacks the feature `remote`, so its source cannot be asked";
            return Err(
                Error::usage(format!("cannot add {shown}: {why}")).with_hint("--no-checksum records the URI alone")
            );
        }
        _ => Named::One(bare(&uri.text)),
    };
    options.progress.check_cancelled()?;
    Ok(found)
}

/// A local file, or all files below a directory.
fn file(uri: &Uri, path: &Path, options: &FindOptions<'_>) -> Result<Named> {
    let missing = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::not_found(format!("cannot add {}: {} does not exist", uri.text, show_path(path)))
        }
        _ => Error::io("look at", path, e).context(format!("cannot add {}", uri.text)),
    };
    let meta = std::fs::metadata(path).map_err(missing)?;
    if meta.is_file() {
        return Ok(Named::One(file_reference(&uri.text, path, options)?));
    }
    if !meta.is_dir() {
        return Err(Error::usage(format!("cannot add {}: it is not a file or a directory", uri.text)));
    }
    options.progress.set_activity(Activity::Scanning);
    let mut paths = Vec::new();
    walk(uri, path, &mut PathBuf::new(), options, &mut paths)?;
    paths.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    options.progress.set_activity(Activity::Storing);
    let many = threads::map(threads::count(), &paths, |below_path| {
        let reference = file_reference(&below(&uri.text, below_path), &path.join(below_path), options)?;
        options.progress.add_done(1, reference.size.unwrap_or(0));
        Ok::<_, Error>((RelPath::parse(below_path.as_os_str().as_bytes())?, reference))
    })?;
    Ok(Named::Many(many))
}

fn walk(uri: &Uri, root: &Path, at: &mut PathBuf, options: &FindOptions<'_>, out: &mut Vec<PathBuf>) -> Result<()> {
    options.progress.check_cancelled()?;
    let dir = root.join(&*at);
    let names = std::fs::read_dir(&dir).map_err(|e| Error::io("list", &dir, e))?;
    for entry in names {
        let entry = entry.map_err(|e| Error::io("list", &dir, e))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(|e| Error::io("look at", &path, e))?;
        at.push(entry.file_name());
        if kind.is_dir() {
            walk(uri, root, at, options, out)?;
        } else if kind.is_file() || std::fs::metadata(&path).map_err(|e| Error::io("look at", &path, e))?.is_file() {
            if out.len() as u64 >= options.max_objects {
                return Err(too_many(&uri.text, options.max_objects));
            }
            options.progress.add_total(1, 0);
            out.push(at.clone());
        } else {
            let why = format!("cannot add {}: {} is not a regular file", uri.text, show_path(&path));
            return Err(Error::usage(why).with_hint("a symlink to a directory is not followed: add its target"));
        }
        at.pop();
    }
    Ok(())
}

fn file_reference(uri: &str, path: &Path, options: &FindOptions<'_>) -> Result<Reference> {
    if !options.checksum {
        return Ok(bare(uri));
    }
    let (size, digest) = local::identify(path, &mut |_| options.progress.check_cancelled())?;
    Ok(Reference { size: Some(size), digest: Some(digest), ..bare(uri) })
}
