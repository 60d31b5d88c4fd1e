//! Large contents that begin as an earlier one: what is compared, copied and composed when their beginnings are known.

use super::super::{Content, Earlier, EarlierContents};
use super::*;
use std::fs::File;
use std::os::unix::fs::FileExt;

const MIB: usize = 1 << 20;

/// One content at the same path, of which parts may be taken.
struct Before(Earlier);

impl EarlierContents for Before {
    fn at_same_path(&self) -> Option<Earlier> {
        Some(self.0)
    }

    fn at_other_paths(&self) -> Vec<Earlier> {
        Vec::new()
    }

    fn may_compose(&self) -> crate::Result<bool> {
        Ok(true)
    }

    fn may_pack_parts(&self) -> crate::Result<bool> {
        Ok(true)
    }
}

/// Puts a file that is compared with `earlier`. `tick` is called after each part that was read, with the end of it.
fn put(store: &TestStore, path: &Path, earlier: Option<Earlier>, tick: &dyn Fn(u64)) -> super::super::LargePut {
    let mut writer = store.afresh().writer(&store.work()).unwrap();
    writer.keep_beginnings_in(&store.dir.path().join("beginnings"));
    let mut thread_writer = writer.thread_writer();
    let (file, mut at) = (File::open(path).unwrap(), 0);
    let mut tick = |bytes| {
        at += bytes;
        tick(at);
        Ok(())
    };
    let put = match earlier {
        None => thread_writer.put_large(&file, path, &mut tick),
        Some(earlier) => thread_writer.put_large_like(&file, path, &Before(earlier), &mut tick),
    };
    thread_writer.close().unwrap();
    writer.seal(&[], &[]).unwrap();
    put.unwrap()
}

fn stored(store: &TestStore, put: &super::super::LargePut) -> (Vec<u8>, bool) {
    let mut out = vec![0; put.size as usize];
    let is_composed = match store.afresh().content(&put.digest, put.size, None).unwrap() {
        Content::Composed(composed) => {
            assert_eq!(composed.read_at(&mut out, 0).unwrap(), out.len());
            true
        }
        Content::Large(object) => {
            object.file().read_exact_at(&mut out, 0).unwrap();
            false
        }
        Content::Small(_) => panic!("it is large"),
    };
    (out, is_composed)
}

#[test]
fn what_is_stored_is_what_was_hashed_while_the_file_changes_behind_the_reader() {
    let store = TestStore::new();
    let source = store.dir.path().join("source");
    let first = random_bytes(1, 20 * MIB + 5);
    std::fs::write(&source, &first).unwrap();
    let earlier = put(&store, &source, None, &|_| ());
    let earlier = Earlier { digest: earlier.digest, size: earlier.size, stored_at: 0 };
    let changed = |at: usize| {
        let mut bytes = [&first[..], b"appended"].concat();
        bytes[at] ^= 1;
        bytes
    };
    for bytes in [[&first[..], b"more"].concat(), changed(0), changed(9 * MIB + 17), changed(20 * MIB)] {
        std::fs::write(&source, &bytes).unwrap();
        // What was read is overwritten at once, in part with what the earlier content has there.
        let writer = File::options().write(true).open(&source).unwrap();
        let scribble = |end: u64| {
            let from = end.saturating_sub(MIB as u64);
            let old = &first[(from as usize).min(first.len())..(end as usize).min(first.len())];
            writer.write_all_at(&old[..old.len() / 2], from).unwrap();
            writer.write_all_at(&[7; 4096][..(end - from).min(4096) as usize], from + (end - from) / 2).unwrap();
        };
        let put = put(&store, &source, Some(earlier), &scribble);
        assert_eq!((put.digest, put.size), (Digest::of(&bytes), bytes.len() as u64));
        let (found, is_composed) = stored(&store, &put);
        assert!(found == bytes && is_composed);
    }
}

#[test]
fn two_contents_that_begin_alike_and_differ_in_one_step_share_all_but_the_difference() {
    let store = TestStore::new();
    let source = store.dir.path().join("source");
    let first = random_bytes(2, 18 * MIB);
    std::fs::write(&source, &first).unwrap();
    let earlier = put(&store, &source, None, &|_| ());
    let earlier = Earlier { digest: earlier.digest, size: earlier.size, stored_at: 0 };
    for (at, len) in [(0, 1), (MIB - 1, 2), (MIB, 1), (17 * MIB + 3, 40_000), (18 * MIB - 1, 1), (5 * MIB, 3 * MIB)] {
        let mut bytes = first.clone();
        bytes.splice(at..(at + len).min(first.len()), random_bytes(at as u64, len + 3));
        std::fs::write(&source, &bytes).unwrap();
        let put = put(&store, &source, Some(earlier), &|_| ());
        assert_eq!(put.digest, Digest::of(&bytes));
        let (found, is_composed) = stored(&store, &put);
        assert!(found == bytes && is_composed, "{len} bytes at {at}");
    }
}
