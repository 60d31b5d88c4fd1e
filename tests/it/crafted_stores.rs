//! Makes and changes files of a store from FORMAT.md alone: files whose checksums are all right and whose content is
//! wrong.

use cairn::internals::manifest::{MemoryNodes, Node, NodeRef};
use cairn::manifest::{Totals, Tree};
use cairn::types::{Digest, Token};
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// A record with its own SHA-256.
pub fn record(fields: &Map<String, Value>) -> Vec<u8> {
    let text = serde_json::to_string_pretty(fields).unwrap();
    let head = if fields.is_empty() { "{\n".to_owned() } else { format!("{},\n", text.strip_suffix("\n}").unwrap()) };
    format!("{head}  \"sha256\": \"{}\"\n}}\n", Digest::of(head.as_bytes())).into_bytes()
}

/// The fields of a record.
pub fn fields(path: &Path) -> Option<Map<String, Value>> {
    let mut fields: Map<String, Value> = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    fields.shift_remove("sha256");
    Some(fields)
}

/// Changes a record, and gives it the right sum again.
pub fn resign(path: &Path, change: impl FnOnce(&mut Map<String, Value>)) {
    let mut fields = fields(path).unwrap();
    change(&mut fields);
    write(path, &record(&fields));
}

/// What the symlink of a number names: a record's file, or a version's directory.
pub fn behind(link: &Path) -> PathBuf {
    link.parent().unwrap().join(std::fs::read_link(link).unwrap())
}

/// Sets when a version was made.
pub fn made_at(store: &Path, artifact: &str, version: &str, at: &str) {
    let version = behind(&store.join("artifacts").join(artifact).join("versions").join(version));
    resign(&version.join("version.json"), |record| record["created_at"] = at.into());
}

/// Writes a file, also where there is one that is read-only.
pub fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _ = std::fs::remove_file(path);
    std::fs::write(path, bytes).unwrap();
    let is_pack = path.parent().is_some_and(|dir| dir.ends_with("packs")) && path.file_name().unwrap().len() == 64;
    if is_pack {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o444)).unwrap();
    }
}

/// A blob of a pack: its digest, its kind (1 content, 2 node), its bytes.
pub type Blob = (Digest, u8, Vec<u8>);

/// A pack: its name and its bytes.
pub fn pack(blobs: &[Blob]) -> (Digest, Vec<u8>) {
    let mut out = b"cairnpk1".to_vec();
    let mut entries = Vec::new();
    for (digest, kind, bytes) in blobs {
        entries.push((*digest, *kind, out.len() as u32, bytes.len() as u32));
        out.extend_from_slice(&digest.0);
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(&[*kind, 0, 0, 0]);
        out.extend_from_slice(bytes);
    }
    entries.sort_by_key(|e| (e.0, e.1));
    let start = out.len() as u64;
    let mut foot = Vec::new();
    for (digest, kind, offset, len) in &entries {
        foot.extend_from_slice(&digest.0);
        foot.extend_from_slice(&offset.to_le_bytes());
        foot.extend_from_slice(&len.to_le_bytes());
        foot.extend_from_slice(&[*kind, 0, 0, 0]);
    }
    foot.extend_from_slice(&start.to_le_bytes());
    foot.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    foot.extend_from_slice(&1u32.to_le_bytes());
    foot.extend_from_slice(b"cairnpkE");
    let name = Digest::of(&foot);
    out.extend_from_slice(&foot);
    (name, out)
}

/// A node as it is stored, without hints.
pub fn stored_node(node: &[u8], slots: usize) -> Vec<u8> {
    let mut hints = vec![1, 0, 0];
    hints.resize(3 + 6 * slots, 0);
    let sum = Digest::of(&hints);
    let mut out = (node.len() as u32).to_le_bytes().to_vec();
    out.extend_from_slice(node);
    out.extend_from_slice(&hints);
    out.extend_from_slice(&sum.0[..8]);
    out
}

/// A version's `manifest`.
pub fn manifest(packs: &[Digest], root: &[u8]) -> Vec<u8> {
    let mut out = b"cairnmf1".to_vec();
    out.extend_from_slice(&(packs.len() as u16).to_le_bytes());
    out.extend_from_slice(&0u16.to_le_bytes());
    packs.iter().for_each(|p| out.extend_from_slice(&p.0));
    out.extend_from_slice(root);
    let sum = Digest::of(&out);
    out.extend_from_slice(&sum.0);
    out
}

/// Publishes a manifest, with its nodes and some content in one pack, as version `number` of an artifact that exists
/// already or is made.
pub fn publish(store: &Path, artifact: &str, number: u64, tree: &Tree, nodes: &MemoryNodes, content: &[&[u8]]) {
    let mut blobs: Vec<Blob> = content.iter().map(|c| (Digest::of(c), 1, c.to_vec())).collect();
    let mut seen = HashSet::new();
    let mut next = vec![NodeRef::from(tree.digest())];
    while let Some(NodeRef { digest, .. }) = next.pop() {
        if seen.insert(digest) {
            let node = nodes.get(&digest).unwrap();
            next.extend(node.children());
            blobs.push((digest, 2, stored(&node)));
        }
    }
    let (name, bytes) = pack(&blobs);
    write(&store.join("packs").join(name.hex()), &bytes);
    let dir = store.join("artifacts").join(artifact);
    if !dir.exists() {
        let token = Token::fresh();
        let record = record(
            json!({"artifact": artifact, "type": "dataset", "created_at": "2026-01-01T00:00:00Z"}).as_object().unwrap(),
        );
        write(&dir.join(token.record_name()), &record);
        std::os::unix::fs::symlink(token.record_name(), dir.join("artifact.json")).unwrap();
    }
    let token = Token::fresh();
    let at = dir.join("versions").join(token.record_name());
    write(&at.join("manifest"), &manifest(&[name], &stored(tree.root())));
    let Totals { entries, files, bytes, .. } = tree.totals();
    let version = json!({
        "token": token.as_str(), "artifact": artifact, "type": "dataset", "digest": tree.digest().hex(),
        "entries": entries, "files": files, "bytes": bytes, "new_bytes": 0, "created_at": "2026-01-01T00:00:00Z",
        "mode": "simple", "run": null, "description": null, "metadata": {}, "tags": [],
        "from": format!("v{number}"), "always_new": false,
    });
    write(&at.join("version.json"), &record(version.as_object().unwrap()));
    std::os::unix::fs::symlink(token.record_name(), dir.join(format!("versions/v{number}"))).unwrap();
}

fn stored(node: &Node) -> Vec<u8> {
    stored_node(node.bytes(), node.places().len())
}

/// A directory of `width` directories that are all the same one, `levels` times over, with some files at the bottom,
/// the first of them holding `content`: a few hundred kilobytes of nodes, and more entries than anyone can walk. `salt`
/// makes it another one.
pub fn bomb(width: usize, levels: usize, content: &[u8], salt: &str) -> (Tree, MemoryNodes) {
    use cairn::internals::manifest::{Edit, RootNode, apply};
    use cairn::manifest::Entry;
    use cairn::types::RelPath;
    let nodes = MemoryNodes::new();
    let path = |text: String| RelPath::parse(text.as_bytes()).unwrap();
    let mut tree = Tree::of(
        &RootNode { node: std::sync::Arc::new(Node::empty()), place: None },
        std::sync::Arc::new(nodes.clone()),
    );
    let mut edits = vec![Edit::put(
        path("f".into()),
        Entry::File { digest: Digest::of(content), size: content.len() as u64, exec: false, place: None },
    )];
    edits.extend((0..40).map(|i| {
        Edit::put(path(format!("l{i:03}")), Entry::Symlink { target: format!("{salt}{}", "t".repeat(80)).into_bytes() })
    }));
    for level in 0..=levels {
        let root = apply(&tree, std::mem::take(&mut edits), &mut nodes.clone()).unwrap();
        tree = Tree::of(&root, tree.source().clone());
        if level < levels {
            let dir = tree.dir();
            edits = (0..width).map(|i| Edit::put(path(format!("d{i:03}")), Entry::Directory(dir.clone()))).collect();
            tree = Tree::of(&RootNode { node: std::sync::Arc::new(Node::empty()), place: None }, tree.source().clone());
        }
    }
    (tree, nodes)
}
