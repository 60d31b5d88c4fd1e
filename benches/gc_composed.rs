//! A store of many composed files, each an object and a compressed part in a pack, without the bytes of either: a
//! collection reads footers and recipes, and lists objects. The packs are written here by FORMAT.md, "Packs" and
//! "Recipes".

use cairn::internals::commit::publish_generated;
use cairn::manifest::Entry;
use cairn::types::{Digest, Hasher};
use cairn::{Artifact, Store};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const OBJECT: u64 = 1 << 20;
const PART: u64 = 200 << 10;
const MAX_BLOBS: usize = 65_536;
const CONTENT: u8 = 1;
const RECIPE: u8 = 3;
const RAW: u8 = 0;
const FRAMES: u8 = 2;
/// In the size of a source: it is packed.
const PACKED: u64 = 1 << 63;

fn digest(what: &str, i: usize) -> Digest {
    Digest::of(format!("{what} {i}").as_bytes())
}

/// Makes a version of `n` composed files.
pub fn make(root: &Path, n: usize) {
    let store = Store::init(root, &Default::default()).unwrap();
    let mut pack = Pack::new(&store);
    for i in 0..n {
        pack.add(digest("content", i), RECIPE, RAW, &recipe(i));
        pack.add(digest("part", i), CONTENT, FRAMES, &[0; 64]);
        let path = store.layout().object(&digest("object", i));
        let _ = std::fs::create_dir(path.parent().unwrap());
        let file = std::fs::File::create_new(&path).unwrap();
        file.set_len(OBJECT).unwrap();
        file.set_permissions(std::fs::Permissions::from_mode(0o444)).unwrap();
    }
    pack.close();
    publish_generated(&store, &Artifact::new("x", None).unwrap(), &[], &mut |builder, _| {
        for i in 0..n {
            if i % super::WIDE == 0 {
                builder.enter(format!("d{:05}", i / super::WIDE).as_bytes())?;
            }
            let entry = Entry::File { digest: digest("content", i), size: OBJECT + PART, exec: false, place: None };
            builder.entry(format!("file-{i:08}.log").as_bytes(), entry)?;
            if i % super::WIDE == super::WIDE - 1 || i == n - 1 {
                builder.leave()?;
            }
        }
        Ok(())
    })
    .unwrap();
    println!("{n} composed files");
}

/// File `i`: all of an object, and all of a part.
fn recipe(i: usize) -> Vec<u8> {
    let mut out = Vec::new();
    [2u32, 2, 2].iter().for_each(|n| out.extend(n.to_le_bytes())); // version, sources, extents
    out.extend((OBJECT + PART).to_le_bytes());
    for (what, size) in [("object", OBJECT), ("part", PART | PACKED)] {
        out.extend(digest(what, i).0);
        out.extend(size.to_le_bytes());
    }
    for (source, len) in [(0u32, OBJECT), (1, PART)] {
        out.extend(source.to_le_bytes());
        out.extend(0u64.to_le_bytes());
        out.extend(len.to_le_bytes());
    }
    let mut sum = Hasher::new();
    sum.update(b"cairn-recipe-1\n");
    sum.update(&digest("content", i).0);
    sum.update(&out);
    out.extend(sum.finish().0);
    out
}

/// A pack that is being written.
struct Pack<'a> {
    store: &'a Store,
    bytes: Vec<u8>,
    entries: Vec<[u8; 44]>,
}

impl Pack<'_> {
    fn new(store: &Store) -> Pack<'_> {
        Pack { store, bytes: b"cairnpk1".to_vec(), entries: Vec::new() }
    }

    fn add(&mut self, digest: Digest, kind: u8, codec: u8, blob: &[u8]) {
        if self.entries.len() == MAX_BLOBS {
            std::mem::replace(self, Pack::new(self.store)).close();
        }
        let (offset, len) = ((self.bytes.len() as u32).to_le_bytes(), (blob.len() as u32).to_le_bytes());
        let form = [kind, codec, 0, 0];
        self.entries.push([&digest.0[..], &offset, &len, &form].concat().try_into().unwrap());
        self.bytes.extend([&digest.0[..], &len, &form, blob].concat());
    }

    fn close(mut self) {
        self.entries.sort_unstable_by_key(|entry| (entry[..32].to_vec(), entry[40]));
        let mut footer = self.entries.concat();
        footer.extend((self.bytes.len() as u64).to_le_bytes());
        footer.extend((self.entries.len() as u32).to_le_bytes());
        footer.extend(1u32.to_le_bytes());
        footer.extend(b"cairnpkE");
        let path = self.store.layout().pack(&Digest::of(&footer));
        self.bytes.extend(footer);
        std::fs::write(&path, self.bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
    }
}
