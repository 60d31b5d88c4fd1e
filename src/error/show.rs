//! Paths, names and lists as messages show them: always one line.

use std::fmt;
use std::path::Path;

/// A path for people: control bytes and what is not UTF-8 escaped, so that a message stays one line.
pub fn show_path(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    show_bytes(path.as_os_str().as_bytes())
}

/// The first ten of a list for a message, and how many more there are: `a, b`, or `a, …, j and 5 more`.
pub fn show_list<T: fmt::Display>(items: &[T]) -> String {
    show_first(items, items.len())
}

/// How many items of a list a message names.
pub const SHOWN: usize = 10;

/// [`show_list`] of `count` items, of which `first` are the first.
pub fn show_first<T: fmt::Display>(first: &[T], count: usize) -> String {
    let shown: Vec<String> = first.iter().take(SHOWN).map(T::to_string).collect();
    let more = count - shown.len();
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// Raw name bytes for people, as [`show_path`] shows a path.
pub fn show_bytes(bytes: &[u8]) -> String {
    if let Ok(text) = str::from_utf8(bytes)
        && !text.is_empty()
        && !text.contains(char::is_control)
    {
        return text.to_owned(); // nearly always
    }
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
        }
        for b in chunk.invalid() {
            out.push_str(&format!("\\x{b:02x}"));
        }
    }
    if out.is_empty() { "\"\"".into() } else { out }
}
