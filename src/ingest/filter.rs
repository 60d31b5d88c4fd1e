//! What is left out of a source: `.cairnignore` files and `--exclude`, both in gitignore's syntax.

use crate::disk::{DirHandle, Follow};
use crate::error::{Error, Result, show_path};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::ffi::CStr;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// The file with the patterns of what is left out of a directory.
pub(crate) const IGNORE_FILE: &CStr = c".cairnignore";
/// The most bytes it may have.
const MAX_BYTES: u64 = 16 << 20;

/// The patterns in force in one directory.
#[derive(Debug)]
pub(crate) struct Filter {
    patterns: Gitignore,
    above: Option<Arc<Filter>>,
}

impl Filter {
    /// The patterns of `--exclude`, for the whole source.
    pub(crate) fn root(root: &Path, exclude: &[String]) -> Result<Filter> {
        let mut builder = GitignoreBuilder::new(root);
        for pattern in exclude {
            check_pattern(pattern)?;
            builder
                .add_line(None, pattern)
                .map_err(|e| Error::usage(format!("`{pattern}` is not a pattern")).with_source(e))?;
        }
        Ok(Filter { patterns: built(builder)?, above: None })
    }

    /// The filter inside the directory `dir`, which has a name `.cairnignore`, at `path`. Only a regular file counts.
    pub(crate) fn enter(outside: &Arc<Filter>, dir: &DirHandle, path: &Path) -> Result<Arc<Filter>> {
        if !dir.stat_at(IGNORE_FILE, Follow::No).is_ok_and(|s| s.is_file()) {
            return Ok(outside.clone());
        }
        let file = path.join(".cairnignore");
        let failed = |e| Error::io("read", &file, e);
        let mut text = Vec::new();
        dir.file_at(IGNORE_FILE, Follow::No)
            .map_err(failed)?
            .take(MAX_BYTES + 1)
            .read_to_end(&mut text)
            .map_err(failed)?;
        let bad = |why: String| {
            Error::usage(format!("{} has a line that is not a pattern", show_path(&file))).with_cause(why)
        };
        if text.len() as u64 > MAX_BYTES {
            return Err(Error::usage(format!("{} is longer than {MAX_BYTES} bytes", show_path(&file))));
        }
        let text = std::str::from_utf8(&text).map_err(|e| bad(e.to_string()))?;
        let mut builder = GitignoreBuilder::new(path);
        for line in text.trim_start_matches('\u{feff}').lines() {
            builder.add_line(Some(file.clone()), line).map_err(|e| bad(e.to_string()))?;
        }
        Ok(Arc::new(Filter { patterns: built(builder)?, above: Some(outside.clone()) }))
    }

    /// Whether any pattern is in force.
    pub(super) fn leaves_something_out(&self) -> bool {
        let mut at = Some(self);
        while let Some(filter) = at {
            if !filter.patterns.is_empty() {
                return true;
            }
            at = filter.above.as_deref();
        }
        false
    }

    /// Whether an entry is left out: `--exclude` always counts, else the innermost file with a matching pattern
    /// decides.
    pub(crate) fn leaves_out(&self, path: &Path, is_dir: bool) -> bool {
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

/// Refuses a pattern that gitignore's syntax accepts although it can never match.
fn check_pattern(pattern: &str) -> Result<()> {
    let bad = |why: String| Err(Error::usage(format!("`{pattern}` is not a pattern: {why}")));
    if let Some(at) = unclosed_class(pattern) {
        return bad(format!("the [ at character {} has no ]", at + 1))
            .map_err(|e| e.with_hint("for a name with a [ in it, write \\["));
    }
    if pattern.starts_with('#') {
        return bad("a line that begins with # is a comment".into())
            .map_err(|e| e.with_hint("for such a name, write \\#"));
    }
    if pattern.trim().is_empty() {
        return bad("it is empty".into());
    }
    Ok(())
}

/// Where a character class begins that does not end, in characters.
fn unclosed_class(pattern: &str) -> Option<usize> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut at = 0;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 1,
            '[' => {
                let negated = matches!(chars.get(at + 1), Some('!' | '^'));
                let first = at + 1 + usize::from(negated); // a ] here is a member of the class
                let length = chars.get(first + 1..).and_then(|rest| rest.iter().position(|c| *c == ']'));
                match length {
                    Some(length) => at = first + 1 + length,
                    None => return Some(at),
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

fn built(builder: GitignoreBuilder) -> Result<Gitignore> {
    builder.build().map_err(|e| Error::usage("the patterns of what to leave out are too large").with_source(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_without_an_end_is_found_at_its_position() {
        for (pattern, at) in [("[", 0), ("a[b", 1), ("[]", 0), ("[!]", 0), ("[a]x[b", 4), ("ä[", 1)] {
            assert_eq!(unclosed_class(pattern), Some(at), "{pattern}");
        }
        for pattern in ["", "*.tmp", "[a]", "[]]", "[!]a]", "\\[", "a[0-9]/**", "[[]"] {
            assert_eq!(unclosed_class(pattern), None, "{pattern}");
        }
    }
}
