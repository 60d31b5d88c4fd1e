//! Versions without a commit: blobs and nodes straight into a store.

use super::support::{Thing, Things};
use cairn::disk::{Access, Disk};
use cairn::layout::{DIRECTORIES, Layout};
use cairn::manifest::{Builder, Entry, path_order};
use cairn::objects::Objects;
use cairn::words::{Digest, RelPath};
use std::path::Path;
use std::sync::Arc;

pub fn init(store: &Path) {
    for dir in DIRECTORIES {
        std::fs::create_dir_all(store.join(dir)).unwrap();
    }
}

pub fn open(store: &Path) -> Objects {
    Objects::open(Layout::new(store), Arc::new(Disk::of(store, Access::Umask).unwrap())).unwrap()
}

pub fn version(store: &Path, things: &Things) -> Digest {
    let objects = open(store);
    let mut sorted: Vec<(RelPath, &Thing)> = things.iter().map(|(p, t)| (RelPath::parse(p).unwrap(), t)).collect();
    sorted.sort_by(|a, b| path_order(&a.0, &b.0));
    let mut sink = &objects;
    let mut builder = Builder::new(&mut sink);
    for (path, thing) in sorted {
        let entry = match thing {
            Thing::File(bytes) | Thing::Exec(bytes) => {
                let digest = objects.put(bytes);
                Entry::File { digest, size: bytes.len() as u64, exec: matches!(thing, Thing::Exec(_)), place: None }
            }
            Thing::Link(target) => Entry::Symlink { target: target.clone() },
            Thing::Reference(r) => Entry::Reference(Box::new(r.clone())),
            Thing::Dir => {
                builder.add_directory(&path).unwrap();
                continue;
            }
        };
        builder.add(&path, entry).unwrap();
    }
    builder.finish().unwrap().digest()
}

/// Bytes that were changed, to be put back.
pub struct Flipped(std::path::PathBuf, u64);

impl Flipped {
    pub fn undo(self) {
        flip(&self.0, self.1);
    }
}

/// Flips a byte of the small blob, wherever it lies.
pub fn flip_small(store: &Path, digest: &Digest) -> Flipped {
    let object = Layout::new(store).object(digest);
    flip(&object, 100);
    Flipped(object, 100)
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
