//! Import circles of files inside a module: a file that needs a second one, which needs the first, can only be read
//! together with it.
//!
//! An edge is a path in code (`use` or not) that begins with `crate::`, `super::`, `self::` or a child module's name,
//! followed to the file that defines the item: a re-export leads to the file behind it and is not an edge of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A file's module path, from the crate root: `["objects", "pack"]`.
type ModulePath = Vec<String>;

/// How many files of each top-level module are in a circle today. Only ever lower these.
const CIRCLES: &[(&str, usize)] = &[];

#[test]
fn no_files_of_a_module_import_each_other_in_a_circle() {
    let mut sources: BTreeMap<ModulePath, String> = BTreeMap::new();
    for (_, path, text) in super::sources() {
        if !super::is_test(&path) {
            sources.insert(module_path(&path), super::code(&text));
        }
    }
    let graph = Graph::new(sources);
    let mut wrong = Vec::new();
    for (module, circles) in graph.circles() {
        let allowed = CIRCLES.iter().find(|(name, _)| *name == module).map_or(0, |(_, n)| *n);
        if circles.iter().map(BTreeSet::len).sum::<usize>() > allowed {
            wrong.push(format!("{module}: at most {allowed} files may be in a circle, found {circles:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_circle_is_found_also_through_re_exports_and_paths_without_use() {
    let text = |code: &str| code.to_owned();
    let sources = BTreeMap::from([
        (vec![text("a")], text("mod x;\nmod y;\nmod z;\npub(crate) use x::{Thing as Other, make};")),
        (vec![text("a"), text("x")], text("fn make() { super::y::go() }")),
        (vec![text("a"), text("y")], text("use crate::{a::{z, Other}, b::B};")),
        (vec![text("a"), text("z")], text("use std::fmt;")),
        (vec![text("b")], text("use crate::a::make;")),
    ]);
    let circles = Graph::new(sources).circles();
    assert_eq!(circles.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(circles["a"], [BTreeSet::from([text("a/x"), text("a/y")])]);
}

fn module_path(path: &Path) -> ModulePath {
    let mut parts: ModulePath = path.with_extension("").iter().map(|p| p.to_str().unwrap().to_owned()).collect();
    parts.pop_if(|last| last == "mod" || last == "lib");
    parts
}

/// One path as code writes it, with what it is called in its file.
struct Import {
    segments: Vec<String>,
    name: String,
    /// A `use` that gives an item to others: not a need of this file.
    exported: bool,
}

struct Graph {
    /// What each file imports.
    files: BTreeMap<ModulePath, Vec<Import>>,
}

impl Graph {
    fn new(sources: BTreeMap<ModulePath, String>) -> Graph {
        let names: Vec<ModulePath> = sources.keys().cloned().collect();
        let files = sources.into_iter().map(|(module, code)| {
            let children: BTreeSet<String> = names
                .iter()
                .filter(|n| n.len() == module.len() + 1 && n.starts_with(&module))
                .filter_map(|n| n.last().cloned())
                .collect();
            let imports = imports(&code, &children);
            (module, imports)
        });
        Graph { files: files.collect() }
    }

    /// The file that defines what `path`, written in `from`, names.
    fn target(&self, from: &ModulePath, path: &[String], depth: usize) -> Option<ModulePath> {
        let mut at = match path.first()?.as_str() {
            "crate" => Vec::new(),
            "super" => from[..from.len().checked_sub(1)?].to_vec(),
            "self" => from.clone(),
            first => [from.as_slice(), &[first.to_owned()]].concat(),
        };
        let mut rest = &path[1..];
        while let Some((first, more)) = rest.split_first() {
            if first == "super" {
                at.pop()?;
            } else if self.files.contains_key(&[at.as_slice(), std::slice::from_ref(first)].concat()) {
                at.push(first.clone());
            } else {
                break;
            }
            rest = more;
        }
        let imports = self.files.get(&at)?;
        let (Some(item), true) = (rest.first(), depth < 8) else { return Some(at) };
        let behind = imports.iter().find(|i| i.exported && i.name == *item);
        behind.map_or(Some(at.clone()), |i| self.target(&at, &i.segments, depth + 1).or(Some(at)))
    }

    fn edges(&self) -> BTreeMap<&ModulePath, BTreeSet<ModulePath>> {
        let of = |(module, imports): (_, &Vec<Import>)| {
            let targets = imports.iter().filter(|i| !i.exported).filter_map(|i| self.target(module, &i.segments, 0));
            (module, targets.filter(|t| t != module && t.first() == module.first()).collect())
        };
        self.files.iter().filter(|(module, _)| !module.is_empty()).map(of).collect()
    }

    /// The circles of each top-level module: sets of files that all need each other.
    fn circles(&self) -> BTreeMap<String, Vec<BTreeSet<String>>> {
        let edges = self.edges();
        let reached = |from: &ModulePath| {
            let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
            while let Some(next) = open.pop().and_then(|at| edges.get(at)) {
                open.extend(next.iter().filter(|to| seen.insert((*to).clone())));
            }
            seen
        };
        let all: BTreeMap<&ModulePath, BTreeSet<ModulePath>> = edges.keys().map(|m| (*m, reached(m))).collect();
        let mut circles: BTreeMap<String, Vec<BTreeSet<String>>> = BTreeMap::new();
        for (module, reach) in all.iter().filter(|(module, reach)| reach.contains(**module)) {
            let circle = reach.iter().filter(|m| all.get(m).is_some_and(|back| back.contains(*module)));
            let circle: BTreeSet<String> = circle.map(|m| m.join("/")).collect();
            let found = circles.entry(module[0].clone()).or_default();
            if !found.contains(&circle) {
                found.push(circle);
            }
        }
        circles
    }
}

/// All paths in `code` that may name another file of the crate.
fn imports(code: &str, children: &BTreeSet<String>) -> Vec<Import> {
    let mut out = Vec::new();
    for (at, _) in code.match_indices("::") {
        let start = code[..at].rfind(|c: char| !is_name(c)).map_or(0, |i| i + 1);
        let first = &code[start..at];
        let before = code[..start].trim_end();
        let known = matches!(first, "crate" | "super" | "self") || children.contains(first);
        // Not in the middle of a path, nor inside the braces of one: those are reached from its beginning.
        if !known || before.ends_with("::") || in_use_braces(before) {
            continue;
        }
        let exported = before.ends_with("use") && before.trim_end_matches("use").trim_end().ends_with(['b', ')']);
        expand(&code[start..], &mut Vec::new(), exported, &mut out);
    }
    out
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `before` ends inside the braces of a `use`.
fn in_use_braces(before: &str) -> bool {
    let statement = &before[before.rfind(';').map_or(0, |i| i + 1)..];
    statement.rfind("use ").is_some_and(|at| statement[at..].contains("::{") && !statement[at..].contains(['(', '=']))
}

/// Reads one path of a `use` tree, or of an expression, and returns how many bytes it has.
fn expand(text: &str, prefix: &mut Vec<String>, exported: bool, out: &mut Vec<Import>) -> usize {
    let depth = prefix.len();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        if let Some(group) = rest.strip_prefix('{') {
            at += 1 + expand_group(group, prefix, exported, out);
            break;
        }
        let len = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        if len > 0 {
            prefix.push(rest[..len].to_owned());
        }
        at += len.max(usize::from(rest.starts_with('*')));
        if text[at..].starts_with("::") && !text[at..].starts_with("::<") {
            at += 2;
            continue;
        }
        let name = text[at..].strip_prefix(" as ").map(|n| n[..n.find(|c| !is_name(c)).unwrap_or(n.len())].to_owned());
        at += name.as_ref().map_or(0, |n| n.len() + 4);
        let name = name.or_else(|| prefix.last().cloned()).unwrap_or_default();
        out.push(Import { segments: prefix.clone(), name, exported });
        break;
    }
    prefix.truncate(depth);
    at
}

/// The paths between the braces of a `use` tree; returns how many bytes there are, the closing brace included.
fn expand_group(group: &str, prefix: &mut Vec<String>, exported: bool, out: &mut Vec<Import>) -> usize {
    let mut at = 0;
    while let Some(c) = group[at..].chars().next() {
        match c {
            '}' => return at + 1,
            c if is_name(c) || c == '*' || c == '{' => at += expand(&group[at..], prefix, exported, out),
            _ => at += c.len_utf8(),
        }
    }
    at
}
