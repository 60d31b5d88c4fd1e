//! What is left out of a source: `.cairnignore` files and `--exclude`, both in gitignore's syntax.

use crate::error::{Error, Result, show_path};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::path::Path;
use std::sync::Arc;

/// The file that says what a directory leaves out.
const IGNORE_FILE: &str = ".cairnignore";

/// The patterns in force in one directory.
#[derive(Debug)]
pub(super) struct Filter {
    patterns: Gitignore,
    above: Option<Arc<Filter>>,
}

impl Filter {
    /// What `--exclude` says for the whole source.
    pub(super) fn root(root: &Path, exclude: &[String]) -> Result<Filter> {
        let mut builder = GitignoreBuilder::new(root);
        for pattern in exclude {
            builder.add_line(None, pattern).map_err(|e| Error::usage(format!("`{pattern}` is no pattern")).because(e))?;
        }
        Ok(Filter { patterns: built(builder)?, above: None })
    }

    /// The filter inside `dir`, with its `.cairnignore` if it has one.
    pub(super) fn enter(outside: &Arc<Filter>, dir: &Path) -> Result<Arc<Filter>> {
        let file = dir.join(IGNORE_FILE);
        if !std::fs::symlink_metadata(&file).is_ok_and(|m| m.is_file()) {
            return Ok(outside.clone());
        }
        let mut builder = GitignoreBuilder::new(dir);
        if let Some(e) = builder.add(&file) {
            return Err(Error::usage(format!("{} has a line that is no pattern", show_path(&file))).because(e));
        }
        Ok(Arc::new(Filter { patterns: built(builder)?, above: Some(outside.clone()) }))
    }

    /// Whether an entry is left out: `--exclude` always counts, else the innermost file that speaks of it decides.
    pub(super) fn leaves_out(&self, path: &Path, is_dir: bool) -> bool {
        let mut verdict = None;
        let mut at = Some(self);
        while let Some(filter) = at {
            let found = match filter.patterns.matched(path, is_dir) {
                _ if filter.patterns.is_empty() => None,
                ignore::Match::Ignore(_) => Some(true),
                ignore::Match::Whitelist(_) => Some(false),
                ignore::Match::None => None,
            };
            if filter.above.is_none() && found == Some(true) {
                return true;
            }
            verdict = verdict.or(found);
            at = filter.above.as_deref();
        }
        verdict.unwrap_or(false)
    }
}

fn built(builder: GitignoreBuilder) -> Result<Gitignore> {
    builder.build().map_err(|e| Error::usage("the patterns of what to leave out are too large").because(e))
}
