//! Rules about the sources that a reader relies on: the storeys of ARCHITECTURE.md (each module names lower ones only,
//! only `disk` changes the disk, only some files of `fuse` name fuser), no circles of files, files and lines of bounded
//! length, no reference to a law that is not written down.

#[path = "architecture/imports.rs"]
mod imports;
#[path = "architecture/text.rs"]
mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Bottom first. A module may name those before it.
const STOREYS: [&str; 36] = [
    "locks",
    "setters",
    "error",
    "types",
    "clock",
    "memory",
    "threads",
    "recent_cache",
    "prefixes",
    "progress",
    "record",
    "disk",
    "cache",
    "layout",
    "manifest",
    "remote",
    "objects",
    "store",
    "lock",
    "txn",
    "pins",
    "access",
    "catalog",
    "ingest",
    "view",
    "export",
    "commit",
    "assets",
    "staging",
    "verify",
    "repair",
    "gc",
    "mount",
    "fuse",
    "lib",
    "bin",
];
/// Two modules need each other: an error shows values of `types`, and parsing those fails with errors.
const FLOOR: [&str; 2] = ["error", "types"];

fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut out = Vec::new();
    for entry in walkdir::WalkDir::new(&root) {
        let entry = entry.unwrap();
        if entry.path().extension().is_none_or(|e| e != "rs") {
            continue;
        }
        let relative = entry.path().strip_prefix(&root).unwrap();
        let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = first.strip_suffix(".rs").unwrap_or(first).to_owned();
        out.push((module, relative.to_path_buf(), std::fs::read_to_string(entry.path()).unwrap()));
    }
    assert!(out.len() > 40, "the sources were found");
    out
}

/// The code without comments and without its tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    text.lines().map(|l| l.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

fn is_test(path: &Path) -> bool {
    path.components().any(|c| c.as_os_str() == "tests") || path.file_name().is_some_and(|n| n == "tests.rs")
}

#[test]
fn no_arrow_points_up() {
    let rank: BTreeMap<_, _> = STOREYS.iter().enumerate().map(|(i, s)| (*s, i)).collect();
    let mut wrong = Vec::new();
    for (module, path, text) in sources() {
        if module == "lib" || is_test(&path) {
            continue;
        }
        let own = *rank
            .get(module.as_str())
            .unwrap_or_else(|| panic!("module {module} has no storey: give it one here and in ARCHITECTURE.md"));
        let code = code(&text);
        let mut named: Vec<&str> = Vec::new();
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + 7..];
            if let Some(group) = rest.strip_prefix('{') {
                named.extend(group.split('}').next().unwrap().split(',').map(|n| n.trim().split("::").next().unwrap()));
            } else {
                named.push(rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap());
            }
        }
        for name in named.into_iter().filter(|n| !n.is_empty() && *n != module) {
            let Some(other) = rank.get(name) else {
                wrong.push(format!(
                    "{}: crate::{name} is no module: name things by the module they live in",
                    path.display()
                ));
                continue;
            };
            if *other > own && !(FLOOR.contains(&module.as_str()) && FLOOR.contains(&name)) {
                wrong.push(format!("{}: {module} names {name}, which is above it", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_disk_changes_the_disk() {
    const BANNED: [&str; 17] = [
        "fs::write(",
        "File::create",
        "OpenOptions::new().write",
        ".write(true)",
        ".append(true)",
        "fs::rename",
        "fs::remove",
        "fs::create_dir",
        "fs::hard_link",
        "fs::copy(",
        "fs::symlink(",
        "set_permissions(",
        "sync_all(",
        "sync_data(",
        "libc::rename",
        "libc::unlink",
        "libc::symlink",
    ];
    let mut wrong = Vec::new();
    for (module, path, text) in sources() {
        if module == "disk" || is_test(&path) {
            continue;
        }
        let code = code(&text);
        for word in BANNED {
            if code.contains(word) {
                wrong.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "these belong into src/disk:\n{}", wrong.join("\n"));
}

/// Where a mapped file was cut, or the disk cannot read it, the process gets SIGBUS, which ends it. `read` gives an
/// error.
#[test]
fn no_file_is_mapped() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = 0;
    let mut wrong = Vec::new();
    for dir in ["src", "bin", "python/src"] {
        for entry in walkdir::WalkDir::new(root.join(dir)).into_iter().map(Result::unwrap) {
            if entry.path().extension().is_none_or(|e| e != "rs") || is_test(entry.path()) {
                continue;
            }
            files += 1;
            let code = code(&std::fs::read_to_string(entry.path()).unwrap());
            wrong
                .extend(["mmap", "mremap"].iter().filter(|word| code.contains(*word)).map(|_| entry.path().to_owned()));
        }
    }
    assert!(files > 200, "the sources were found");
    assert!(wrong.is_empty(), "these map files: {wrong:?}");
}

/// A program that uses the library need not know which versions of these two crates it was built with. `disk` is not
/// public.
#[test]
fn no_public_function_has_a_type_of_libc_or_fuser() {
    let mut wrong = Vec::new();
    for (module, path, text) in sources() {
        if module == "disk" || is_test(&path) {
            continue;
        }
        let code = code(&text);
        for (at, _) in code.match_indices("\n    pub fn ").chain(code.match_indices("\npub fn ")) {
            let signature = code[at..].split(['{', ';']).next().unwrap();
            if ["libc::", "fuser::"].iter().any(|foreign| signature.contains(foreign)) {
                wrong.push(format!("{}: {}", path.display(), signature.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_connections_know_fuser_and_the_manifest_does_no_io() {
    for (module, path, text) in sources() {
        let code = code(&text);
        let knows_fuser = ["adapter", "connection", "open_mode", "passthrough", "reply"].iter().any(|name| {
            let file = format!("{name}.rs");
            path == Path::new("fuse").join(&file) || path == Path::new("fuse/staging").join(&file)
        });
        assert!(knows_fuser || !code.contains("fuser::"), "{} names fuser", path.display());
        if module == "manifest" && !is_test(&path) {
            assert!(!code.contains("std::fs") && !code.contains("libc::"), "{} does I/O", path.display());
        }
    }
}

#[test]
fn nothing_unwraps_and_every_file_says_what_it_is() {
    let mut wrong = Vec::new();
    for (_, path, text) in sources() {
        if is_test(&path) {
            continue;
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{}: begins without //!", path.display()));
        }
        let code = code(&text);
        if code.contains(".unwrap()") {
            wrong.push(format!("{}: .unwrap()", path.display()));
        }
        let lines: Vec<_> = text.lines().collect();
        for (i, line) in lines.iter().enumerate().filter(|(_, l)| l.split("//").next().unwrap().contains("unsafe {")) {
            if !lines[i.saturating_sub(6)..=i].iter().any(|l| l.contains("SAFETY:")) {
                wrong.push(format!("{}:{}: unsafe without SAFETY: {}", path.display(), i + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_invariant_of_format_md_is_named_by_code_and_by_a_test_or_finding() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let format = std::fs::read_to_string(root.join("FORMAT.md")).unwrap();
    let numbers: Vec<String> =
        format.lines().filter_map(|l| l.strip_prefix("- **F")?.split("**").next().map(|n| format!("F{n}"))).collect();
    assert!(numbers.len() >= 10, "FORMAT.md lists its invariants as `- **F1** …`");
    let mut text = String::new();
    for dir in ["src", "tests"] {
        for entry in walkdir::WalkDir::new(root.join(dir))
            .into_iter()
            .filter_map(|e| e.ok())
            .filter(|e| e.path().extension().is_some_and(|x| x == "rs"))
        {
            text.push_str(&std::fs::read_to_string(entry.path()).unwrap());
        }
    }
    let named =
        |n: &str| text.match_indices(n).any(|(i, _)| !text[i + n.len()..].starts_with(|c: char| c.is_ascii_digit()));
    let missing: Vec<_> = numbers.iter().filter(|n| !named(n)).collect();
    assert!(missing.is_empty(), "no code or test names {missing:?}");
}
