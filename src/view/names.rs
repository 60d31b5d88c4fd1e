//! Names that a file system does not tell apart: by case (cifs, vfat, exfat), by their Unicode form, or by what it cuts
//! off.

use super::options::{CheckoutOptions, selected};
use crate::catalog::Version;
use crate::disk::Dir;
use crate::error::{Error, Result, show_bytes, show_path};
use crate::layout::unfinished_name;
use crate::types::{RelPath, Token};
use std::collections::HashMap;

/// How many pairs an error names.
const NAMED: usize = 5;

/// Refuses a version with names that become one in `target`, before anything is written. Only where names have no case
/// there: a pair that is one for another reason is found when the second is written.
pub(super) fn refuse_clashes(version: &Version, target: &Dir, options: &CheckoutOptions) -> Result<()> {
    if !ignores_case(target)? {
        return Ok(());
    }
    let mut seen: HashMap<String, RelPath> = HashMap::new();
    let (mut pairs, mut more) = (Vec::new(), 0);
    for visit in selected(version, options)? {
        let visit = visit?;
        let Ok(text) = std::str::from_utf8(visit.path.as_bytes()) else { continue };
        match seen.entry(text.to_lowercase()) {
            std::collections::hash_map::Entry::Occupied(first) if pairs.len() < NAMED => {
                pairs.push(format!("{} and {}", first.get(), visit.path))
            }
            std::collections::hash_map::Entry::Occupied(_) => more += 1,
            std::collections::hash_map::Entry::Vacant(free) => drop(free.insert(visit.path)),
        }
    }
    if pairs.is_empty() {
        return Ok(());
    }
    let more = if more > 0 { format!(" and {more} more pairs") } else { String::new() };
    Err(Error::conflict(format!(
        "the file system of {} does not tell names apart by case, and {version} has {}{more}",
        show_path(target.path()),
        pairs.join(", ")
    ))
    .with_hint(
        "nothing was written; name a directory on a file system that does, or get parts of the version with --path",
    ))
}

/// Makes a file, looks for it under a name of another case, and removes it.
fn ignores_case(target: &Dir) -> Result<bool> {
    let name = unfinished_name(&Token::fresh());
    let Some(file) = target.create_file(name.as_bytes(), 0o600)? else { return Ok(false) };
    drop(file);
    let other = target.lstat(name.to_uppercase().as_bytes());
    target.remove_file(name.as_bytes())?;
    Ok(other?.is_some())
}

/// The name in `dir` of what is there under `name`, if that is another. `None`: it has this very name, or is gone.
pub(super) fn other_name(dir: &Dir, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some(found) = dir.lstat(name)? else { return Ok(None) };
    let names = dir.names()?;
    if names.iter().any(|n| n == name) {
        return Ok(None);
    }
    for other in names {
        if dir.lstat(&other)?.is_some_and(|l| l.id() == found.id()) {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

/// That `name` cannot be written in `dir`, where it is the same as `other`.
pub(super) fn clash(dir: &Dir, name: &[u8], other: &[u8]) -> Error {
    let (name, other) = (show_bytes(name), show_bytes(other));
    Error::conflict(format!("{name} and {other} are one name on the file system of {}", show_path(dir.path())))
        .with_hint("name a directory on a file system that tells them apart, or get parts of the version with --path")
}
