//! Paths, names and lists as messages show them, always on one line; and as a command in a message has them, quoted for
//! a shell.

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

/// A name, an id or a path as a command in a message has it: quoted if a shell would not take it for one word.
///
/// ```
/// # use cairn::error::shell_word;
/// assert_eq!(shell_word("eval:v3"), "eval:v3");
/// assert_eq!(shell_word("run 7"), "'run 7'");
/// assert_eq!(shell_word("it's"), r"'it'\''s'");
/// ```
pub fn shell_word(word: impl fmt::Display) -> String {
    shell_bytes(word.to_string().as_bytes())
}

/// [`shell_word`] of a path.
pub fn shell_path(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    shell_bytes(path.as_os_str().as_bytes())
}

fn shell_bytes(bytes: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"._-/:@%+=,".contains(b);
    match str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && bytes.iter().all(plain) => text.to_owned(),
        Ok(text) if !text.contains(char::is_control) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => format!("$'{}'", bytes.escape_ascii()), // bash, zsh and ksh understand it
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_shell_reads_a_quoted_word_as_it_was() {
        for word in [
            &b"plain/a.b-c:v1"[..],
            b"",
            b"a b",
            b"it's",
            b"$HOME `ls` \"x\" \\ *",
            b"a\nb'c",
            b"\xff\\ \x01",
            "\u{e4} b".as_bytes(),
        ] {
            let quoted = shell_path(Path::new(std::ffi::OsStr::from_bytes(word)));
            assert!(!quoted.contains('\n'), "{quoted}");
            let out = std::process::Command::new("bash").args(["-c", &format!("printf %s {quoted}")]).output().unwrap();
            assert_eq!(out.stdout, word, "{quoted}");
        }
    }
}
