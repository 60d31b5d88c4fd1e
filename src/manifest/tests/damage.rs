//! Damage and foreign hands: an error, or another digest; never a panic, never two encodings of one thing.

use super::model::*;
use super::*;
use crate::error::Kind;
use crate::manifest::encode::{NodeItem, encode};
use crate::types::Digest;
use proptest::prelude::*;
use std::sync::Arc;

/// A leaf with every kind of entry, among them an inlined directory with one inside, and a stored one.
fn leaf_and_inner() -> Vec<Arc<Node>> {
    let nodes = MemoryNodes::new();
    let reference = |size, etag: Option<&str>, digest| {
        Entry::Reference(Box::new(Reference {
            uri: "https://example.org/x".into(),
            size,
            etag: etag.map(Into::into),
            digest,
        }))
    };
    let mut entries = vec![
        (path("a"), file(1)),
        (path("b"), file(7)),
        (path("c"), Entry::Symlink { target: b"../a".to_vec() }),
        (path("d/e/f"), file(3)),
        (path("d/e/empty"), Entry::Directory(Subtree::empty())),
        (path("d/g"), file(4)),
        (path("r1"), reference(None, None, None)),
        (path("r2"), reference(Some(5), Some("tag"), Some(Digest::of(b"r")))),
    ];
    entries.extend((0..400u64).map(|i| (path(format!("s/{i:04}")), file(i))));
    let leaf = build(&model(entries), &nodes).node;
    let inner = build(&model((0..700u64).map(|i| (path(format!("{i:04}")), file(i)))), &nodes).node;
    assert!(leaf.is_leaf() && leaf.children().len() == 1 && !inner.is_leaf());
    vec![leaf, inner, Arc::new(Node::empty())]
}

/// What is decoded can be read whole, and has one encoding.
fn check_result(bytes: &[u8]) -> bool {
    let Ok(node) = Node::decode(bytes, Vec::new()) else { return false };
    let items: Vec<NodeItem> = (0..node.len()).map(|i| node.item(i)).collect();
    let _ = (node.children(), node.blobs(), node.places().count(), node.totals());
    assert!((0..node.len()).all(|i| node.weight(i) == items[i].weight(node.level())));
    let (again, places) = encode(node.level(), &items);
    assert_eq!(again, bytes, "decodes, but is not what would be encoded");
    assert_eq!(places.len(), node.places().len());
    true
}

#[test]
fn a_flipped_byte_is_an_error_or_another_digest() {
    for node in leaf_and_inner() {
        assert!(check_result(node.bytes()));
        for at in 0..node.bytes().len() {
            for flip in [1, 2, 4, 0x10, 0x40, 0x80, 0xff] {
                let mut bytes = node.bytes().to_vec();
                bytes[at] ^= flip;
                if check_result(&bytes) {
                    assert_ne!(Node::decode(bytes, Vec::new()).unwrap().digest(), node.digest());
                }
            }
        }
    }
}

#[test]
fn a_truncated_or_extended_node_is_an_error() {
    for node in leaf_and_inner() {
        for len in 0..node.bytes().len() {
            assert!(!check_result(&node.bytes()[..len]), "{len}");
        }
        assert!(!check_result(&[node.bytes(), &[0]].concat()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn scrambled_nodes_never_panic(seed: u64, changes in 1usize..12) {
        let mut dice = Dice(seed);
        for node in leaf_and_inner() {
            let mut bytes = node.bytes().to_vec();
            for _ in 0..changes {
                let head = bytes.len().min(200) as u64;
                match dice.roll(4) {
                    0 => bytes[dice.roll(head) as usize] = dice.roll(256) as u8,
                    1 => { let at = dice.roll(bytes.len() as u64) as usize; bytes[at] = dice.roll(256) as u8 }
                    2 if bytes.len() > 4 => { bytes.remove(dice.roll(head) as usize); }
                    _ => bytes.insert(dice.roll(head) as usize, dice.roll(256) as u8),
                }
            }
            check_result(&bytes);
        }
    }
}

fn item(name: &[u8]) -> NodeItem {
    NodeItem::new(name, file(1))
}

#[test]
fn a_node_of_another_program_is_refused() {
    let refuse = |what: &str, level: u8, items: &[NodeItem]| {
        let (bytes, _) = encode(level, items);
        match Node::decode(bytes, Vec::new()) {
            Err(e) => assert_eq!(e.kind(), Kind::Damaged, "{what}"),
            Ok(_) => panic!("{what} was accepted"),
        }
    };
    for name in [b"..".as_slice(), b".", b"", b"a/b", b"/x", b"../x", b"a\0", &[b'x'; 256]] {
        refuse("a bad name", 0, &[item(name)]);
    }
    refuse("a duplicate", 0, &[item(b"a"), item(b"a")]);
    refuse("an unsorted name", 0, &[item(b"b"), item(b"a")]);
    let sized = |name: &[u8], size| {
        NodeItem::new(name, Entry::File { digest: Digest::default(), size, exec: false, place: None })
    };
    refuse("a huge size", 0, &[sized(b"a", u64::MAX)]);
    refuse("a sum that overflows", 0, &[sized(b"a", MAX_BYTES), sized(b"b", 1)]);
    refuse("an empty target", 0, &[NodeItem::new(b"a", Entry::Symlink { target: vec![] })]);
    refuse("a NUL in a target", 0, &[NodeItem::new(b"a", Entry::Symlink { target: vec![0] })]);
    refuse("a long target", 0, &[NodeItem::new(b"a", Entry::Symlink { target: vec![b'x'; 4096] })]);
    let uri =
        |uri: &str| Entry::Reference(Box::new(Reference { uri: uri.into(), size: None, etag: None, digest: None }));
    refuse("an empty URI", 0, &[NodeItem::new(b"a", uri(""))]);
    refuse("a line end in a URI", 0, &[NodeItem::new(b"a", uri("a\nb"))]);
    refuse("no children", 1, &[]);
    let stored =
        |totals| NodeItem::child(b"a", crate::manifest::node_ref::ChildRef { at: Digest::default().into(), totals });
    let good = Totals { own: 2, entries: 3, files: 2, directories: 1, bytes: 9, longest: 3 };
    assert!(Node::decode(encode(1, &[stored(good)]).0, Vec::new()).is_ok());
    refuse("a level too high", 64, &[stored(good)]);
    for (what, bad) in [
        ("nothing below", Totals { own: 0, ..good }),
        ("more own than all", Totals { own: 4, ..good }),
        ("more files than all", Totals { files: 4, ..good }),
        ("more directories than all", Totals { directories: 2, ..good }),
        ("bytes without files", Totals { files: 0, ..good }),
        ("too many bytes", Totals { bytes: u64::MAX, ..good }),
        ("too many entries", Totals { entries: u64::MAX, own: u64::MAX, ..good }),
        ("a path too long", Totals { longest: 5000, ..good }),
        ("no path", Totals { longest: 0, ..good }),
    ] {
        refuse(what, 1, &[stored(bad)]);
        refuse(what, 0, &[stored(bad)]);
    }
    refuse("a path grown too long", 0, &[stored(Totals { longest: 4096, ..good })]);
    // An inlined directory that is too large, and one that is not a leaf.
    let large: Vec<NodeItem> = (0..60).map(|i| item(format!("{i:03}").as_bytes())).collect();
    let inline =
        |node| NodeItem::new(b"a", Entry::Directory(Subtree(crate::manifest::entry::DirAt::Inline(Arc::new(node)))));
    refuse("a large inlined directory", 0, &[inline(Node::of(0, &large).unwrap())]);
    refuse("an inlined inner node", 0, &[inline(Node::of(1, &[stored(good)]).unwrap())]);
    // A column of a later release.
    let mut bytes = Node::of(0, &[item(b"a")]).unwrap().bytes().to_vec();
    bytes[1] += 1;
    bytes.splice(16..16, [10, 1, 0]);
    bytes.push(0);
    let e = Node::decode(bytes, Vec::new()).unwrap_err();
    assert!(e.to_string().contains("column 10 is unknown"), "{e}");
}

#[test]
fn inlined_directories_nested_to_the_bound_are_read_without_overflow() {
    let mut node = Node::empty();
    let mut depth = 0;
    loop {
        let around = Node::of(
            0,
            &[NodeItem::new(
                b"a",
                Entry::Directory(Subtree(crate::manifest::entry::DirAt::Inline(Arc::new(node.clone())))),
            )],
        );
        match around {
            Ok(n) => node = n,
            Err(e) => {
                assert!(format!("{e:#}").contains("inlined directory of"), "{e:#}");
                break;
            }
        }
        depth += 1;
    }
    assert!((80..200).contains(&depth), "{depth}");
    assert_eq!(node.totals().directories, depth);
}

/// A node that is whole, but not the one that its parent describes.
#[test]
fn a_node_that_does_not_fit_its_parent_is_an_error() {
    let nodes = MemoryNodes::new();
    let m = model((0..5000u64).map(|i| (path(format!("d/{i:05}")), file(i))));
    let good = build_tree(&m, &nodes);
    let dir = nodes.get(&good.root().children()[0].digest).unwrap();
    let leaf_at = dir.children();
    let leaf = |i: usize| nodes.get(&leaf_at[i].digest).unwrap();
    let rename = |from: &Node, at: usize, name: &[u8]| {
        let mut items: Vec<NodeItem> = (0..from.len()).map(|i| from.item(i)).collect();
        items[at].name = name.into();
        Node::of(from.level(), &items).unwrap()
    };
    let two = leaf(2);
    // Between the last name of the leaf before and its own first; behind the first of the next.
    let early = [leaf(1).name(leaf(1).len() - 1), b"x"].concat();
    let bad: Vec<(&str, Digest, Node)> = vec![
        ("another leaf", leaf_at[2].digest, (*leaf(1)).clone()),
        ("another level", leaf_at[2].digest, (*dir).clone()),
        ("another first name", leaf_at[2].digest, rename(&two, 0, &early)),
        ("names of the next leaf", leaf_at[2].digest, rename(&two, two.len() - 1, b"99999")),
        ("empty", leaf_at[2].digest, Node::empty()),
        ("a leaf for a directory's root", good.root().children()[0].digest, (*leaf(0)).clone()),
    ];
    let name = path(format!("d/{}", String::from_utf8_lossy(two.name(3))));
    let rank = good.lookup(&name).unwrap().unwrap().rank;
    for (what, digest, node) in bad {
        let keep = nodes.get(&digest).unwrap();
        nodes.insert(digest, node);
        let tree = Tree::of(&good.as_root(), Arc::new(nodes.clone()));
        let errors = [
            tree.walk().find_map(|v| v.err()),
            tree.lookup(&name).err(),
            tree.by_rank(rank).err(),
            diff(&tree, &build_tree(&Model::new(), &nodes)).find_map(|c| c.err()),
            apply(&tree, vec![Edit::remove(name.clone())], &mut nodes.clone()).err(),
        ];
        for (i, e) in errors.into_iter().enumerate() {
            let e = e.unwrap_or_else(|| panic!("{what}: {i} saw nothing"));
            assert_eq!(e.kind(), Kind::Damaged, "{what} {i}: {e}");
        }
        nodes.insert(digest, (*keep).clone());
    }
    let missing = MemoryNodes::new();
    let tree = Tree::of(&good.as_root(), Arc::new(missing));
    assert_eq!(tree.walk().find_map(|v| v.err()).unwrap().kind(), Kind::Damaged);
}
