//! Which versions have a content or a path.

use super::artifact;
use super::version::{self, Version};
use crate::error::{Error, Kind, Result};
use crate::manifest::{Census, Entry, Listing, Tree, Visitor};
use crate::store::Store;
use crate::types::{ArtifactName, Digest, Location, RelPath};
use globset::{GlobBuilder, GlobMatcher};
use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How many directories without a match are remembered.
const MOST_REMEMBERED: usize = 1_000_000;

/// How many entries of one version are visited at most on the way to a content: a manifest can name one directory more
/// often than a search could report.
const MOST_VISITED: u64 = 1 << 32;

/// What is searched for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Wanted {
    /// Files with this content.
    Content(Digest),
    /// Entries whose path matches.
    Path(PathPattern),
}

/// A pattern of paths, as in `.gitignore`: `*` and `?` match within a name, `**` any number of directories; a pattern
/// without a slash matches names in every directory.
#[derive(Clone, Debug)]
pub struct PathPattern {
    matcher: GlobMatcher,
    /// The directory that every match is in.
    below: RelPath,
}

impl Wanted {
    /// Parses a SHA-256 in hexadecimal digits, or else a pattern of paths.
    ///
    /// # Errors
    /// Usage: not a pattern.
    pub fn parse(text: &str) -> Result<Wanted> {
        match Digest::of_hex(text.strip_prefix("sha256:").unwrap_or(text).as_bytes()) {
            Some(digest) => Ok(Wanted::Content(digest)),
            None => Ok(Wanted::Path(PathPattern::parse(text)?)),
        }
    }
}

impl PathPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// Usage: not a pattern.
    pub fn parse(text: &str) -> Result<PathPattern> {
        if text.is_empty() {
            return Err(Error::usage("the pattern is empty").with_hint("`**` matches everything"));
        }
        let text = text.strip_prefix('.').filter(|rest| rest.starts_with('/')).unwrap_or(text);
        let anchored = text.strip_prefix('/').unwrap_or(text).trim_end_matches('/');
        let pattern = if text.contains('/') { anchored.to_owned() } else { format!("**/{text}") };
        let glob = GlobBuilder::new(&pattern).literal_separator(true).backslash_escape(true).build();
        let glob = glob.map_err(|e| Error::usage(format!("`{text}` is not a pattern of paths: {}", e.kind())))?;
        let special = |part: &&str| !part.contains(['*', '?', '[', ']', '{', '}', '\\']);
        let parts: Vec<&str> = pattern.split('/').collect();
        let literal: Vec<&str> = parts[..parts.len() - 1].iter().copied().take_while(special).collect();
        let below = RelPath::parse_or_root(literal.join("/").as_bytes())?;
        Ok(PathPattern { matcher: glob.compile_matcher(), below })
    }

    fn matches(&self, path: &RelPath) -> bool {
        self.matcher.is_match(Path::new(std::ffi::OsStr::from_bytes(path.as_bytes())))
    }
}

/// Reports every version that has what is wanted, with the path and the entry: artifacts by name, versions ascending,
/// removed ones not. Equal directories are searched once. Returns the errors of versions that cannot be read.
///
/// # Errors
/// Not found: the artifact. What `found` returns. I/O.
pub fn search(
    store: &Store,
    artifact: Option<&ArtifactName>,
    wanted: &Wanted,
    found: &mut dyn FnMut(&Version, &RelPath, &Entry) -> Result<()>,
) -> Result<Vec<Error>> {
    let names = match artifact {
        Some(name) if artifact::find(store, name)?.is_none() => return Err(artifact::no_artifact(store, name)?),
        Some(name) => vec![name.clone()],
        None => artifact::all(store)?,
    };
    let mut searcher = Searcher { census: Census::new(), without: HashSet::new() };
    let mut damaged = Vec::new();
    for name in names {
        for (_, version) in version::each(store, &name)? {
            let searched = version.and_then(|version| {
                let tree = version.tree()?;
                for (path, entry) in searcher.matches(&tree, wanted)? {
                    found(&version, &path, &entry)?;
                }
                Ok(())
            });
            match searched {
                Err(e) if e.kind() == Kind::Damaged => damaged.push(e),
                result => result?,
            }
        }
    }
    Ok(damaged)
}

struct Searcher {
    census: Census,
    /// Directories in which nothing matches, by path and digest.
    without: HashSet<(RelPath, Digest)>,
}

/// A directory that is being searched.
struct Level {
    path: RelPath,
    listing: Listing,
    digest: Option<Digest>,
    matched: bool,
}

impl Searcher {
    fn matches(&mut self, tree: &Tree, wanted: &Wanted) -> Result<Vec<(RelPath, Entry)>> {
        match wanted {
            Wanted::Content(digest) => self.content(tree, digest),
            Wanted::Path(pattern) => self.paths(tree, pattern),
        }
    }

    fn content(&mut self, tree: &Tree, wanted: &Digest) -> Result<Vec<(RelPath, Entry)>> {
        struct Files<'a>(&'a Digest);
        impl Visitor for Files<'_> {
            fn file(&mut self, digest: &Digest, _: u64, _: Option<Location>) -> Result<bool> {
                Ok(digest == self.0)
            }
            fn fault(&mut self, _: &Digest, error: Error) -> Result<()> {
                Err(error)
            }
        }
        let mut out = Vec::new();
        if !self.census.visit(tree, &mut Files(wanted))? {
            return Ok(out);
        }
        let mut paths = Vec::new();
        let mut left = MOST_VISITED;
        let _ = self.census.marked(tree, &mut left, &|d| d == wanted, &mut |_, path| paths.push(path.clone()));
        for path in paths {
            if let Some(found) = tree.lookup(&path)? {
                out.push((path, found.entry));
            }
        }
        Ok(out)
    }

    fn paths(&mut self, tree: &Tree, pattern: &PathPattern) -> Result<Vec<(RelPath, Entry)>> {
        let mut out = Vec::new();
        let Some(start) = tree.lookup(&pattern.below)? else { return Ok(out) };
        let Entry::Directory(dir) = &start.entry else { return Ok(out) };
        let level = |path: RelPath, listing, digest| Level { path, listing, digest, matched: false };
        let mut stack = vec![level(pattern.below.clone(), tree.list(dir, start.rank)?, None)];
        while let Some(top) = stack.last_mut() {
            let Some(listed) = top.listing.next().transpose()? else {
                self.leave(&mut stack);
                continue;
            };
            let path = top.path.join(&listed.name)?;
            if pattern.matches(&path) {
                top.matched = true;
                out.push((path.clone(), listed.entry.clone()));
            }
            if let Entry::Directory(dir) = &listed.entry {
                let digest = dir.node_ref().map(|at| at.digest);
                if digest.is_none_or(|digest| !self.without.contains(&(path.clone(), digest))) {
                    stack.push(level(path, tree.list(dir, listed.rank)?, digest));
                }
            }
        }
        Ok(out)
    }

    /// Ends a directory: remembers it if nothing in it matches.
    fn leave(&mut self, stack: &mut Vec<Level>) {
        let Some(done) = stack.pop() else { return };
        match (done.matched, stack.last_mut(), done.digest) {
            (true, Some(above), _) => above.matched = true,
            (false, _, Some(digest)) if self.without.len() < MOST_REMEMBERED => {
                self.without.insert((done.path, digest));
            }
            _ => {}
        }
    }
}
