//! The names by which the kernel knows a node. A node has one name, unless its file has several; so one is kept without
//! a list.

use std::ffi::OsStr;

/// A name and the directory in which it is.
pub(super) type Name = (u64, Box<OsStr>);

/// The known names of a node. Most have one.
#[derive(Default)]
pub(super) struct KnownNames {
    last: Option<Name>,
    /// Those before it.
    earlier: Vec<Name>,
}

impl KnownNames {
    /// The names, the one that was looked up last first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Name> {
        self.last.iter().chain(self.earlier.iter().rev())
    }

    /// Adds a name, or makes it the last one.
    pub(super) fn add(&mut self, parent: u64, name: &OsStr) {
        self.remove(parent, name);
        if let Some(before) = self.last.replace((parent, name.into())) {
            self.earlier.push(before);
        }
    }

    /// Removes a name, if it is known.
    pub(super) fn remove(&mut self, parent: u64, name: &OsStr) {
        let is_it = |known: &Name| known.0 == parent && *known.1 == *name;
        self.earlier.retain(|known| !is_it(known));
        if self.last.as_ref().is_some_and(is_it) {
            self.last = self.earlier.pop();
        }
    }

    /// Whether no name is known.
    pub(super) fn is_empty(&self) -> bool {
        self.last.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_was_added_last_comes_first_and_each_can_be_removed() {
        let mut names = KnownNames::default();
        let shown = |names: &KnownNames| names.iter().map(|(p, n)| format!("{p}{}", n.display())).collect::<Vec<_>>();
        for (parent, name) in [(1, "a"), (2, "b"), (1, "c"), (2, "b")] {
            names.add(parent, OsStr::new(name));
        }
        assert_eq!(shown(&names), ["2b", "1c", "1a"]);
        names.remove(1, OsStr::new("c"));
        names.remove(1, OsStr::new("b"));
        assert_eq!(shown(&names), ["2b", "1a"]);
        names.remove(2, OsStr::new("b"));
        assert_eq!(shown(&names), ["1a"]);
        names.remove(1, OsStr::new("a"));
        assert!(names.is_empty() && names.earlier.is_empty());
    }
}
