//! Versions without a commit: blobs and nodes straight into a store.

use super::support::{Thing, Things};
use cairn::Store;
use cairn::internals::layout::Layout;
use cairn::internals::manifest::{Builder, path_order};
use cairn::internals::objects::SMALL_MAX;
use cairn::manifest::Entry;
use cairn::types::{Digest, Location, RelPath};
use std::path::{Path, PathBuf};

pub fn init(store: &Path) {
    Store::init(store, &Default::default()).unwrap();
}

/// Stores these things; the digest of their manifest's root.
pub fn version(store: &Path, things: &Things) -> Digest {
    let store = Store::open(store).unwrap();
    let work = tempfile::tempdir_in(store.layout().work()).unwrap();
    let writer = store.objects().writer(work.path()).unwrap();
    let mut sorted: Vec<(RelPath, &Thing)> = things.iter().map(|(p, t)| (RelPath::parse(p).unwrap(), t)).collect();
    sorted.sort_by(|a, b| path_order(&a.0, &b.0));
    let mut lane = writer.thread_writer();
    let mut put = |bytes: &[u8]| -> (Digest, Option<Location>) {
        let digest = Digest::of(bytes);
        if bytes.len() as u64 >= SMALL_MAX {
            lane.put_large_bytes(digest, bytes).unwrap();
            return (digest, None);
        }
        (digest, Some(lane.put_small(digest, bytes).unwrap().place))
    };
    let entries: Vec<(RelPath, Option<Entry>)> = sorted
        .into_iter()
        .map(|(path, thing)| {
            let entry = match thing {
                Thing::File(bytes) | Thing::Exec(bytes) => {
                    let (digest, place) = put(bytes);
                    Some(Entry::File { digest, size: bytes.len() as u64, exec: matches!(thing, Thing::Exec(_)), place })
                }
                Thing::Link(target) => Some(Entry::Symlink { target: target.clone() }),
                Thing::Reference(r) => Some(Entry::Reference(Box::new(r.clone()))),
                Thing::Dir => None,
            };
            (path, entry)
        })
        .collect();
    lane.close().unwrap();
    let mut nodes = writer.node_writer().unwrap();
    let mut builder = Builder::new(&mut nodes);
    for (path, entry) in entries {
        match entry {
            Some(entry) => builder.add(&path, entry).unwrap(),
            None => builder.add_directory(&path).unwrap(),
        }
    }
    let root = builder.finish().unwrap();
    nodes.close().unwrap();
    writer.seal(&[], &[]).unwrap();
    root.digest()
}

/// The bytes of the last node below the root's.
pub fn last_child(store: &Path, tree: Digest) -> Vec<u8> {
    use cairn::internals::manifest::NodeSource;
    let store = Store::open(store).unwrap();
    let root = store.objects().load(&tree.into()).unwrap();
    let last = *root.children().last().expect("more than one node");
    store.objects().load(&last).unwrap().bytes().to_vec()
}

/// Bytes that were changed, to be put back.
pub struct Flipped(PathBuf, u64);

impl Flipped {
    pub fn undo(self) {
        flip(&self.0, self.1);
    }
}

/// Flips a byte of the small blob of these bytes, wherever it lies.
pub fn flip_small(store: &Path, bytes: &[u8]) -> Flipped {
    for pack in
        walkdir::WalkDir::new(Layout::new(store).packs()).into_iter().flatten().filter(|e| e.file_type().is_file())
    {
        let all = std::fs::read(pack.path()).unwrap();
        if let Some(at) = all.windows(bytes.len()).position(|w| w == bytes) {
            let at = at as u64 + 100;
            flip(pack.path(), at);
            return Flipped(pack.path().to_path_buf(), at);
        }
    }
    panic!("no pack holds these bytes");
}

pub fn flip(path: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    writable(path);
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

pub fn truncate(path: &Path, len: u64) {
    writable(path);
    std::fs::File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

/// Puts an object in place as a repair does: whole, with the recorded time, by a rename.
pub fn replace(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    std::fs::write(&new, bytes).unwrap();
    set_mtime(&new, std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000));
    std::fs::rename(&new, path).unwrap();
}

pub fn set_mtime(path: &Path, to: std::time::SystemTime) {
    writable(path);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(to).unwrap();
}

fn writable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
}
