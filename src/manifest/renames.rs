//! Renames in a difference: content that is gone at one path and new at another.

use super::diff::Change;
use super::entry::Entry;
use crate::types::{Digest, RelPath};
use std::collections::{HashMap, HashSet};

/// What of a list of changes is a rename.
#[derive(Debug, Default)]
pub struct Renames {
    /// The places in the list of what was removed and of what was added, in the order of the latter.
    pub pairs: Vec<(usize, usize)>,
    /// For each change, whether it is part of a rename: one of a pair, or below a renamed directory.
    pub is_part: Vec<bool>,
}

/// Finds renames: a file or directory that was removed and one that was added, of the same content, if there is only
/// one of each with that content (or one of each with that content and that base name). Empty files and directories
/// are not taken for renamed. `changes` are those of [`super::diff::diff`], in its order.
pub fn renames(changes: &[Change]) -> Renames {
    let is_directory = |change: &Change| change.old.as_ref().or(change.new.as_ref()).is_some_and(Entry::is_directory);
    let directories: Vec<usize> = (0..changes.len()).filter(|i| is_directory(&changes[*i])).collect();
    let mut pairs = pair(changes, &directories);
    let mut moved: [HashSet<&RelPath>; 2] = Default::default();
    for (old, new) in &pairs {
        moved[0].insert(&changes[*old].path);
        moved[1].insert(&changes[*new].path);
    }
    let is_below = |i: usize| {
        let side = usize::from(changes[i].old.is_none());
        let mut above = std::iter::successors(changes[i].path.parent(), RelPath::parent);
        changes[i].old.is_some() != changes[i].new.is_some() && above.any(|path| moved[side].contains(&path))
    };
    let mut is_part: Vec<bool> = (0..changes.len()).map(is_below).collect();
    // A directory in a renamed one went with it.
    pairs.retain(|(old, _)| !is_part[*old]);
    let files: Vec<usize> = (0..changes.len()).filter(|i| !is_directory(&changes[*i]) && !is_part[*i]).collect();
    pairs.extend(pair(changes, &files));
    pairs.sort_by_key(|(_, new)| *new);
    for (old, new) in &pairs {
        is_part[*old] = true;
        is_part[*new] = true;
    }
    Renames { pairs, is_part }
}

/// What a renamed entry keeps.
type Content = (bool, Digest, bool);

fn content(entry: &Entry) -> Option<Content> {
    match entry {
        Entry::File { digest, size, exec, .. } => (*size > 0).then_some((false, *digest, *exec)),
        Entry::Directory(dir) => (dir.totals().entries > 0).then(|| (true, dir.digest(), false)),
        _ => None,
    }
}

/// Pairs of what was removed and what was added among these changes.
fn pair(changes: &[Change], among: &[usize]) -> Vec<(usize, usize)> {
    let mut left: Vec<usize> = among.to_vec();
    let mut pairs = Vec::new();
    for by_name in [false, true] {
        let mut groups: HashMap<(Content, &[u8]), [Vec<usize>; 2]> = HashMap::new();
        for &i in &left {
            let Change { path, old, new } = &changes[i];
            let (entry, side) = match (old, new) {
                (Some(entry), None) => (entry, 0),
                (None, Some(entry)) => (entry, 1),
                _ => continue,
            };
            let name = path.parts().last().filter(|_| by_name).unwrap_or_default();
            if let Some(content) = content(entry) {
                groups.entry((content, name)).or_default()[side].push(i);
            }
        }
        let mut taken = HashSet::new();
        for [old, new] in groups.into_values() {
            if let ([old], [new]) = (old.as_slice(), new.as_slice()) {
                taken.extend([*old, *new]);
                pairs.push((*old, *new));
            }
        }
        left.retain(|i| !taken.contains(i));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Entry {
        Entry::File { digest: Digest::of(text.as_bytes()), size: text.len() as u64, exec: false, place: None }
    }

    fn found(removed: &[(&str, &str)], added: &[(&str, &str)]) -> Vec<(String, String)> {
        let path = |path: &str| RelPath::parse(path.as_bytes()).unwrap();
        let gone = removed.iter().map(|(at, text)| Change { path: path(at), old: Some(file(text)), new: None });
        let new = added.iter().map(|(at, text)| Change { path: path(at), old: None, new: Some(file(text)) });
        let changes: Vec<Change> = gone.chain(new).collect();
        let name = |i: usize| changes[i].path.to_string();
        renames(&changes).pairs.into_iter().map(|(old, new)| (name(old), name(new))).collect()
    }

    #[test]
    fn only_what_is_certain_is_a_rename() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(found(&[("a", "1")], &[("b", "1"), ("c", "2")]), [pair("a", "b")]);
        assert_eq!(found(&[("a", "1"), ("b", "1")], &[("c", "1")]), []);
        assert_eq!(found(&[("a", "")], &[("b", "")]), [], "empty files say nothing");
        let both = [pair("d/x", "e/x"), pair("d/y", "e/y")];
        assert_eq!(found(&[("d/x", "1"), ("d/y", "1")], &[("e/x", "1"), ("e/y", "1")]), both);
    }
}
