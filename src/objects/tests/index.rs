//! Segments, and finding blobs with, and without them.

use super::super::index::IndexScope;
use super::super::index_segment::{OpenedSegment, PER_BLOCK, Segment, SegmentEntry};
use super::super::segment_merge::{SegmentMerge, packs_of};
use super::super::segment_writer::write_segment;
use super::super::{BlobKind, Damage};
use super::*;
use std::collections::BTreeMap;

type Model = BTreeMap<(Digest, u8), Vec<(Digest, u32)>>;

/// A segment of `n` entries in three packs, some digests in several of them and some with equal beginnings.
fn make_segment(dir: &Path, seed: u64, n: usize, model: &mut Model) -> Arc<Segment> {
    let packs: Vec<Digest> = (0..3).map(|i| Digest::of(&[seed as u8, i])).collect();
    let mut entries = Vec::new();
    for i in 0..n as u64 {
        let mut digest = Digest::of(&(seed % 2 * 1_000_000 + i).to_le_bytes());
        if i % 3 == 0 {
            digest.0[..9].fill(i as u8 % 4); // more of one beginning than a block holds
        }
        for (pack, offset) in [(i % 3, i), ((i + 1) % 3, i + 1)].into_iter().take(1 + usize::from(i % 5 == 0)) {
            entries.push(SegmentEntry {
                digest,
                kind: if i % 7 == 0 { BlobKind::Node } else { BlobKind::Content },
                pack: pack as u32,
                offset: offset as u32,
            });
        }
    }
    entries.sort_by_key(|e| (e.digest, e.kind, e.pack));
    for e in &entries {
        model.entry((e.digest, e.kind as u8)).or_default().push((packs[e.pack as usize], e.offset));
    }
    let disk = Disk::of(dir, Access::Umask).unwrap();
    let mut file = disk.create_file(dir.join(format!("r{seed}"))).unwrap();
    let name = write_segment(&mut file, &packs, entries.len(), &mut entries.into_iter().map(Ok)).unwrap();
    Arc::new(open_segment(file.path(), name).unwrap())
}

fn open_segment(path: &Path, name: Digest) -> Option<Segment> {
    match Segment::open(path, name) {
        OpenedSegment::Valid(segment) => Some(segment),
        OpenedSegment::Gone | OpenedSegment::Damaged => None,
    }
}

fn assert_as_model(segment: &Segment, model: &Model) {
    let mut all = 0;
    for ((digest, kind), expected) in model {
        let kind = if *kind == 1 { BlobKind::Content } else { BlobKind::Node };
        let mut found = Vec::new();
        segment.find(digest, kind, &mut found);
        let mut found: Vec<_> = found.iter().map(|e| (segment.packs()[e.pack as usize], e.offset)).collect();
        let mut expected = expected.clone();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{digest}");
        all += found.len();
    }
    assert_eq!(segment.len(), all);
    for i in 0..500u64 {
        let mut found = Vec::new();
        segment.find(&Digest::of(&[b"absent".as_slice(), &i.to_le_bytes()].concat()), BlobKind::Content, &mut found);
        assert!(found.is_empty());
    }
}

#[test]
fn segments_and_their_merges_find_what_a_map_finds() {
    let dir = tempfile::tempdir().unwrap();
    for n in [0, 1, PER_BLOCK, PER_BLOCK + 1, 5000] {
        let mut model = Model::new();
        let segment = make_segment(dir.path(), 100 + n as u64, n, &mut model);
        assert_as_model(&segment, &model);
    }
    let mut model = Model::new();
    let segments: Vec<_> = (0..5).map(|seed| make_segment(dir.path(), seed, 1000, &mut model)).collect();
    // The same segment twice, as two writers may make it; and a pack that is gone.
    let segments: Vec<_> = segments.iter().chain(&segments[..1]).cloned().collect();
    let gone = Digest::of(&[3, 1]);
    model.values_mut().for_each(|places| places.retain(|p| p.0 != gone));
    model.retain(|_, places| !places.is_empty());
    let packs = packs_of(&segments, |p| *p != gone);
    let count = SegmentMerge::new(&segments, &packs).count();
    let mut file = Disk::of(dir.path(), Access::Umask).unwrap().create_file(dir.path().join("merged")).unwrap();
    let name = write_segment(&mut file, &packs, count, &mut SegmentMerge::new(&segments, &packs)).unwrap();
    let cached: usize = segments.iter().map(|segment| segment.cached_blocks()).sum();
    assert_eq!(cached, 0, "a pass over all of them leaves nothing in memory");
    assert_as_model(&open_segment(file.path(), name).unwrap(), &model);
}

#[test]
fn every_flipped_byte_of_a_segment_is_noticed_f12() {
    let dir = tempfile::tempdir().unwrap();
    // One that is read whole, and one that is not.
    for n in [20, 120] {
        let mut model = Model::new();
        let segment = make_segment(dir.path(), n, n as usize, &mut model);
        let path = dir.path().join(format!("r{n}"));
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            let Some(segment) = open_segment(&path, segment.name) else { continue };
            for ((digest, kind), expected) in &model {
                let mut found = Vec::new();
                segment.find(digest, if *kind == 1 { BlobKind::Content } else { BlobKind::Node }, &mut found);
                let named = found.iter().filter_map(|e| Some((*segment.packs().get(e.pack as usize)?, e.offset)));
                assert!(named.into_iter().all(|place| expected.contains(&place)), "byte {at}");
            }
            assert!(segment.is_damaged(), "byte {at}");
        }
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(open_segment(&path, segment.name).is_none());
    }
}

/// `n` puts of one small content each.
fn puts(store: &TestStore, n: u64) -> Vec<(Digest, Vec<u8>)> {
    (0..n).map(|i| random_bytes(1000 + i, 30)).map(|c| (store.put(std::slice::from_ref(&c))[0], c)).collect()
}

fn all_found(store: &TestStore, contents: &[(Digest, Vec<u8>)]) {
    let objects = store.afresh();
    for (digest, content) in contents {
        assert_eq!(&objects.read_small(digest, content.len() as u64, None).unwrap(), content);
    }
}

/// The segment that knows the content.
fn segment_with(store: &TestStore, digest: &Digest) -> PathBuf {
    let knows = |path: &PathBuf| {
        let mut found = Vec::new();
        let name = Digest::of_hex(path.file_name().unwrap().as_encoded_bytes()).unwrap();
        open_segment(path, name).unwrap().find(digest, BlobKind::Content, &mut found);
        !found.is_empty()
    };
    store.segments().into_iter().find(knows).expect("each writer leaves a segment over its packs")
}

#[test]
fn many_small_puts_leave_few_segments_and_all_is_found_once() {
    let store = TestStore::new();
    let contents = puts(&store, 140);
    assert_eq!(store.packs().len(), 140);
    assert!(store.segments().len() <= 2 * 9 + 1, "ten of a size class become one: {}", store.segments().len());
    assert!(store.afresh().check_index().unwrap().is_empty());
    all_found(&store, &contents);
    // One by one, so that no writer looks for enough to list the packs.
    contents.iter().for_each(|c| drop(store.put(std::slice::from_ref(&c.1))));
    assert_eq!(store.packs().len(), 140, "nothing is stored twice");
}

#[test]
fn a_small_put_merges_no_long_segments_and_a_collection_does() {
    let store = TestStore::new();
    let segments = || {
        let sizes = store.segments().into_iter().map(|path| (std::fs::metadata(&path).unwrap().len(), path));
        sizes.collect::<BTreeMap<_, _>>()
    };
    for put in 0..90u64 {
        store.put(&(0..60).map(|i| random_bytes(put * 60 + i, 20)).collect::<Vec<_>>());
        // In tests a step of merging is 500 entries, of 44 bytes.
        let longest = segments().pop_last().unwrap().0;
        assert!(longest < 500 * 44 + 1024, "put {put}: {longest}");
    }
    assert!(store.segments().len() > 10, "{}", store.segments().len());
    let objects = store.afresh();
    assert!(objects.index_needs_tidying().unwrap());
    objects.tidy_index(&store.work()).unwrap();
    assert!(!objects.index_needs_tidying().unwrap());
    assert!(segments().pop_last().unwrap().0 > 4000 * 44);
    assert!(store.afresh().check_index().unwrap().is_empty());
}

#[test]
fn missing_and_damaged_segments_hide_nothing_and_are_written_again() {
    let store = TestStore::new();
    let contents = puts(&store, 66);
    let (digest, last) = contents.iter().max().unwrap().clone();
    // The magic, the header, a pack's name, the last block.
    for (i, from_end) in [(0, false), (26, false), (24 + 16 + 64 + 3, false), (1, true)] {
        let segment = &segment_with(&store, &digest);
        let mut bytes = std::fs::read(segment).unwrap();
        let at = if from_end { bytes.len() - i } else { i };
        bytes[at] ^= 1;
        overwrite(segment, &bytes);
        assert!(matches!(&store.afresh().check_index().unwrap()[..], [(_, Damage::Segment(_))]));
        all_found(&store, &contents);
        store.put(&[random_bytes(at as u64, 10), last.clone()]);
        assert!(store.afresh().check_index().unwrap().is_empty(), "byte {at}: a writer made it anew");
    }
    store.segments().iter().for_each(|r| std::fs::remove_file(r).unwrap());
    all_found(&store, &contents);
    let packs = store.packs().len();
    store.put(std::slice::from_ref(&last));
    assert_eq!(store.packs().len(), packs, "a writer that finds no segments lists the packs");
    store.put(&[random_bytes(5, 10)]);
    assert_eq!(store.segments().len(), 2, "all that there was, and the new one");
    std::fs::write(store.layout.index().join("stranger"), b"x").unwrap();
    assert_eq!(store.afresh().check_index().unwrap().len(), 1);
    store.put(&[random_bytes(6, 10)]);
    assert_eq!(store.afresh().check_index().unwrap().len(), 1, "what is not ours stays, and is passed over");
    assert!(!store.objects.load_index(IndexScope::Packs).unwrap().needs_repair());
}

#[test]
fn a_writer_that_stores_much_finds_uncovered_packs_and_repairs_the_index() {
    let store = TestStore::new();
    let contents = puts(&store, 30);
    std::fs::remove_file(segment_with(&store, &contents[3].0)).unwrap();
    let all: Vec<Vec<u8>> =
        (0..100).map(|i| random_bytes(9000 + i, 20)).chain(contents.iter().map(|c| c.1.clone())).collect();
    store.put(&all);
    assert_eq!(store.packs().len(), 31);
    contents.iter().for_each(|c| drop(segment_with(&store, &c.0)));
}

#[test]
fn a_process_that_saw_a_damaged_segment_sees_the_new_one() {
    let store = TestStore::new();
    let contents = puts(&store, 66);
    let segment = &store.segments().into_iter().max_by_key(|r| std::fs::metadata(r).unwrap().len()).unwrap();
    let whole = std::fs::read(segment).unwrap();
    let mut bytes = whole.clone();
    *bytes.last_mut().unwrap() ^= 1;
    overwrite(segment, &bytes);
    for (digest, content) in &contents {
        store.objects.read_small(digest, content.len() as u64, None).unwrap();
    }
    assert!(store.objects.index().unwrap().needs_repair());
    std::fs::remove_file(segment).unwrap();
    std::fs::write(segment, &whole).unwrap();
    assert!(!store.objects.load_index(IndexScope::Packs).unwrap().needs_repair());
}

#[test]
fn uncovered_packs_beyond_the_memory_limit_are_searched_in_place() {
    let store = TestStore::new();
    // 30 packs of 40 entries, of which memory takes 200 in tests.
    let contents: Vec<Vec<Vec<u8>>> =
        (0..30u64).map(|p| (0..40).map(|i| random_bytes(p * 40 + i, 20)).collect()).collect();
    contents.iter().for_each(|c| drop(store.put(c)));
    store.segments().iter().for_each(|r| std::fs::remove_file(r).unwrap());
    assert!(store.objects.load_index(IndexScope::Packs).unwrap().needs_repair());
    for content in contents.iter().flatten() {
        assert!(store.place(&Digest::of(content)).is_some());
    }
    store.put(&contents.concat());
    assert_eq!(store.packs().len(), 30, "nothing was stored twice");
    assert!(!store.objects.load_index(IndexScope::Packs).unwrap().needs_repair(), "the writer made segments first");
}

#[test]
fn a_hit_in_a_pack_that_is_gone_or_damaged_does_not_count() {
    let store = TestStore::new();
    let contents = puts(&store, 66);
    let place = store.place(&contents[0].0).unwrap();
    let pack = store.layout.pack(&store.objects.table().name(place.pack).unwrap());
    overwrite(&pack, b"cairnpk1");
    let other = store.place(&contents[1].0).unwrap();
    std::fs::remove_file(store.layout.pack(&store.objects.table().name(other.pack).unwrap())).unwrap();
    store.put(&[contents[0].1.clone(), contents[1].1.clone(), contents[2].1.clone()]);
    all_found(&store, &contents);
    assert_eq!(store.packs().len(), 66, "65 and the new one, with the two");
}

#[test]
fn a_segment_that_names_a_missing_pack_misleads_no_writer_even_with_an_open_handle() {
    let store = TestStore::new();
    let contents = puts(&store, 3);
    // This process has the pack open, and an index that knows it.
    let place = store.place(&contents[0].0).unwrap();
    store.objects.read_small(&contents[0].0, 30, Some(place)).unwrap();
    let pack = store.layout.pack(&store.objects.table().name(place.pack).unwrap());
    std::fs::remove_file(&pack).unwrap();
    let writer = store.objects.writer(&store.work()).unwrap();
    let mut thread_writer = writer.thread_writer();
    assert!(put_small(&mut thread_writer, &contents[0].1).1.new, "the pack's own look decides");
    assert!(!put_small(&mut thread_writer, &contents[1].1).1.new);
}

#[test]
fn a_segment_that_is_truncated_while_in_use_is_ignored() {
    let store = TestStore::new();
    let contents: Vec<Vec<u8>> = (0..400).map(|i| random_bytes(i, 30)).collect();
    let digests = store.put(&contents);
    // Several blocks, of which this process has seen one.
    let segment = &store.segments()[0];
    assert!(std::fs::metadata(segment).unwrap().len() > 4 * 4092);
    store.objects.read_small(&digests[0], 30, None).unwrap();
    overwrite(segment, &std::fs::read(segment).unwrap()[..100]);
    for (digest, content) in digests.iter().zip(&contents) {
        assert_eq!(&store.objects.read_small(digest, 30, None).unwrap(), content);
    }
    store.put(&[random_bytes(1000, 30)]);
    assert!(store.afresh().check_index().unwrap().is_empty(), "the next writer made it anew");
}
