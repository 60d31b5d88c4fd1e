//! Rules about text: lines and files of bounded length, references that lead somewhere, plain English.
//!
//! Where old text still breaks a rule, a list says how many places of each folder do. Only ever lower these numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Two windows fit next to each other on a screen.
const LINE: usize = 120;
/// A file of the program is read in one sitting, about ten screens. The median is 130 lines. Inline tests don't count.
const PROGRAM_FILE: usize = 450;
/// Tests are read one by one, so their files may be longer.
const TEST_FILE: usize = 700;

/// Folders with files over their length, and how many.
const LONG_FILES: &[(&str, usize)] = &[];
/// Folders with references to something that is not written down, and how many.
const DANGLING: &[(&str, usize)] =
    &[("src/commit", 2), ("src/ingest", 3), ("src/mount", 1), ("src/store", 1), ("tests/it", 9)];

/// Phrases of a private language, and what to write in their place.
const PHRASES: [(&str, &str); 47] = [
    ("say it again", "run the command again"),
    ("says it again", "runs the command again"),
    ("said again", "repeated"),
    ("for ever", "permanently"),
    ("whoever", "the process that …, any user who …"),
    ("leave away", "omit"),
    ("leaves away", "omits"),
    ("left away", "omitted"),
    ("manners", "advisory"),
    ("and the like", "name the others"),
    ("is no store", "is not a store"),
    ("is no file", "is not a file"),
    ("is no directory", "is not a directory"),
    ("is no symlink", "is not a symlink"),
    ("gone on with", "continued, resumed"),
    ("is nobody's", "belongs to no process"),
    ("goes on", "continues"),
    ("given up", "discarded, abandoned"),
    ("gives up", "discards, abandons"),
    ("gave up", "discarded, abandoned"),
    ("take out", "remove"),
    ("taken out", "removed"),
    ("everybody", "all users, each process"),
    ("nobody has", "no process has"),
    ("told", "logged, refused, asked, informed by an error"),
    ("by nobody", "by no user, by no process"),
    ("to nobody", "to no user, to no process"),
    ("nobody else", "no other user, no other process"),
    ("is said", "is given, is printed, is recorded"),
    ("was said", "was given, was printed, was recorded"),
    ("is nobody", "is no user, is no process"),
    ("stands still", "is stopped, waits"),
    ("stands at", "is at, has"),
    ("stands there", "is there"),
    ("what stands", "what is there"),
    ("beside", "next to, while, at the same time as"),
    ("so many", "this many, a number of"),
    ("so long after", "long enough after"),
    ("who asks", "the process that asks"),
    ("who comes", "the process that comes"),
    ("the way on", "how to continue"),
    ("the last word", "the newest, what counts"),
    ("in honour", "as committed"),
    ("is no damage", "is not damage"),
    ("is no root", "is not a root"),
    ("is no text", "is not text"),
    ("is no difference", "is not a difference"),
];

#[test]
fn lines_have_at_most_120_characters() {
    let mut found = Found::default();
    for (path, text) in files(&["rs", "py", "sh", "c"]) {
        for (i, line) in text.lines().enumerate().filter(|(_, line)| line.chars().count() > LINE) {
            found.add(&path, format!("{path}:{}: {} characters", i + 1, line.chars().count()));
        }
    }
    found.at_most(&[]);
}

#[test]
fn files_are_read_in_one_sitting() {
    let mut found = Found::default();
    for (path, text) in files(&["rs"]) {
        let test = !path.starts_with("src") && !path.starts_with("bin") || super::is_test(Path::new(&path));
        let most = if test { TEST_FILE } else { PROGRAM_FILE };
        let lines = if test { text.as_str() } else { text.split("#[cfg(test)]\nmod tests").next().unwrap() };
        let lines = lines.lines().count();
        if lines > most {
            found.add(&path, format!("{path}: {lines} lines, at most {most}"));
        }
    }
    found.at_most(LONG_FILES);
}

/// `F1` and `M1` are defined in FORMAT.md, `L1` in docs/LAWS.md.
#[test]
fn what_text_refers_to_is_written_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut defined = BTreeSet::new();
    for file in ["FORMAT.md", "docs/LAWS.md"] {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        defined.extend(text.lines().filter_map(|l| Some(l.strip_prefix("- **")?.split_once("**")?.0.to_owned())));
    }
    let mut found = Found::default();
    for (path, text) in files(&["rs", "md", "py", "c", "toml"]) {
        for (i, line) in text.lines().enumerate() {
            let lost = references(line).filter(|name| !defined.contains(*name));
            let private = ["CASES", "DESIGN"].into_iter().filter(|word| line.contains(word));
            for name in lost.chain(private).chain(case(line)) {
                found.add(&path, format!("{path}:{}: {name} is defined nowhere: {}", i + 1, line.trim()));
            }
        }
    }
    found.at_most(DANGLING);
}

/// Documents name tests in backticks, as evidence: a renamed one must be renamed there too.
#[test]
fn tests_that_documents_name_exist() {
    let tests: String = files(&["rs"]).into_iter().map(|(_, text)| text).collect();
    let mut missing = Vec::new();
    for (path, text) in files(&["md"]) {
        for name in text.split('`').skip(1).step_by(2) {
            let is_test =
                name.matches('_').count() >= 4 && name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric());
            if is_test && name.bytes().any(|b| b.is_ascii_lowercase()) && !tests.contains(&format!("fn {name}(")) {
                missing.push(format!("{path}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "no such test:\n{}", missing.join("\n"));
}

/// Documents name source files in backticks, from the project's root or from `src/`: a renamed one must be renamed
/// there too.
#[test]
fn source_files_that_documents_name_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    for (path, text) in files(&["md"]) {
        for name in text.split('`').skip(1).step_by(2) {
            let is_file = name.ends_with(".rs") && name.contains('/') && !name.contains([' ', '*', '\n']);
            let near = root.join(&path).with_file_name(name);
            if is_file && ![root.join(name), root.join("src").join(name), near].iter().any(|file| file.exists()) {
                missing.push(format!("{path}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "no such source file:\n{}", missing.join("\n"));
}

#[test]
fn text_is_plain_english() {
    let mut found = Found::default();
    for (path, text) in files(&["rs", "md", "py", "sh", "c", "toml", "service", ""]) {
        let flat = flat(&text);
        for (phrase, better) in PHRASES {
            for (at, _) in flat.match_indices(&format!(" {phrase} ")) {
                let around: String = flat[at..].chars().take(60).collect();
                found.add(&path, format!("{path}: \"{phrase}\" ({better}): …{around}…"));
            }
        }
    }
    found.at_most(&[]);
}

/// The text in small letters, words apart by one space, comment marks and line breaks left out.
fn flat(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || "/!*#_\"`([.,;:".contains(c)).filter(|w| !w.is_empty());
    let mut out = String::new();
    words.for_each(|word| out.extend([" ", &word.to_lowercase()]));
    out + " "
}

/// The names like `L12` in a line.
fn references(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| {
        let digits = word.strip_prefix(['F', 'L', 'M']).unwrap_or_default();
        matches!(digits.len(), 1 | 2) && digits.bytes().all(|b| b.is_ascii_digit())
    })
}

/// "case 12", "cases 3 and 4": numbers of a list that is not in the repository.
fn case(line: &str) -> Option<&str> {
    let at = line.find("case ").or_else(|| line.find("cases "))?;
    let number = line[at..].split_once(' ')?.1;
    number.starts_with(|c: char| c.is_ascii_digit()).then(|| &line[at..])
}

/// All text files of the project with these endings, by path from its root. The empty ending is that of scripts: files
/// without an ending that begin with `#!`. These rules themselves are left out.
fn files(endings: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut out = Vec::new();
    let folders =
        ["src", "bin", "tests", "benches", "examples", "contrib", "docs", "fuzz", ".ci"].map(|f| root.join(f));
    let top = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file());
    for start in folders.into_iter().filter(|f| f.exists()).chain(top) {
        for entry in walkdir::WalkDir::new(start) {
            let path = entry.unwrap().into_path();
            let relative = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let ending = path.extension().unwrap_or_default().to_str().unwrap().to_owned();
            if !endings.contains(&ending.as_str()) || !path.is_file() || relative == "tests/architecture/text.rs" {
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&path) else { continue }; // not text
            if !ending.is_empty() || text.starts_with("#!") {
                out.push((relative, text));
            }
        }
    }
    assert!(!out.is_empty());
    out
}

/// What breaks a rule, by folder.
#[derive(Default)]
struct Found(BTreeMap<String, Vec<String>>);

impl Found {
    fn add(&mut self, path: &str, what: String) {
        let parts: Vec<&str> = path.split('/').collect();
        let folder = parts[..(parts.len() - 1).min(2)].join("/");
        self.0.entry(folder).or_default().push(what);
    }

    fn at_most(self, allowed: &[(&str, usize)]) {
        let mut wrong = Vec::new();
        for (folder, places) in self.0 {
            let most = allowed.iter().find(|(name, _)| *name == folder).map_or(0, |(_, n)| *n);
            if places.len() > most {
                wrong.push(format!(
                    "(\"{folder}\", {}): at most {most} are allowed\n  {}",
                    places.len(),
                    places.join("\n  ")
                ));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
