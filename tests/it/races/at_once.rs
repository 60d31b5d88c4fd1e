//! Writers that work at the same time: versions, aliases, types.

use super::*;

#[test]
fn eight_processes_that_put_different_content_to_one_name_get_dense_numbers_and_every_version_is_whole() {
    let test_store = TestStore::new();
    for i in 0..PROCESSES * 3 {
        make_tree(
            &test_store.path(&format!("s{i}")),
            &[
                ("own", format!("content {i}").as_bytes()),
                ("same", b"same"),
                ("big", &random_bytes(i as u64 / 3, 140_000)),
            ],
        );
    }
    let mut acknowledged = BTreeMap::new();
    for round in 0..3 {
        let sources: Vec<String> = (0..PROCESSES).map(|i| format!("s{}", round * PROCESSES + i)).collect();
        let children: Vec<Child> = sources.iter().map(|s| start(&test_store, &["put", "a", s, "--json"], "")).collect();
        for (child, source) in children.into_iter().zip(sources) {
            let answer = json(&child.wait_with_output().unwrap());
            assert_eq!(answer["created"], true);
            assert!(acknowledged.insert(number(&answer), source).is_none(), "a number goes to one writer");
        }
    }
    dense(&test_store, "a", PROCESSES * 3);
    for (number, source) in &acknowledged {
        holds(&test_store, &format!("a:v{number}"), source);
    }
    assert_eq!(
        number(&json(&test_store.cairn(&["show", "a", "--json"]).output().unwrap())),
        PROCESSES as u64 * 3 - 1,
        "latest is the highest"
    );
    work_is_empty(&test_store);
    assert_eq!(unpublished(&test_store, "a"), 0);
    test_store.clean("at the end");
}

#[test]
fn eight_processes_that_put_the_same_content_to_one_name_make_one_version_of_it() {
    let test_store = TestStore::new();
    for round in 0..6 {
        make_tree(&test_store.path("source"), &[("f", format!("round {round}").as_bytes())]);
        let children: Vec<Child> =
            (0..PROCESSES).map(|_| start(&test_store, &["put", "a", "source", "--json"], "")).collect();
        let answers: Vec<_> = children.into_iter().map(|c| json(&c.wait_with_output().unwrap())).collect();
        assert_eq!(answers.iter().filter(|a| a["created"] == true).count(), 1, "one of them made it: {answers:?}");
        assert!(answers.iter().all(|a| number(a) == round), "all got that version: {answers:?}");
        dense(&test_store, "a", round as usize + 1);
    }
    work_is_empty(&test_store);
    assert_eq!(unpublished(&test_store, "a"), 0);
    test_store.clean("at the end");
}

#[test]
fn eight_processes_that_add_the_same_bytes_store_a_large_one_once_and_small_ones_equally() {
    let test_store = TestStore::new();
    make_tree(
        &test_store.path("source"),
        &[("large", &random_bytes(1, 300_000)), ("small", b"small"), ("d/small", &random_bytes(2, 90_000))],
    );
    let names: Vec<String> = (0..PROCESSES).map(|i| format!("n{i}")).collect();
    let children: Vec<Child> = names.iter().map(|n| start(&test_store, &["put", n, "source", "--json"], "")).collect();
    let digests: BTreeSet<String> =
        children.into_iter().map(|c| json(&c.wait_with_output().unwrap())["digest"].to_string()).collect();
    assert_eq!(digests.len(), 1);
    assert_eq!(files(&test_store.store_path().join("objects")).len(), 1);
    for n in &names {
        dense(&test_store, n, 1);
        holds(&test_store, n, "source");
    }
    work_is_empty(&test_store);
    test_store.clean("at the end");
}

#[test]
fn eight_threads_with_one_handle_put_to_one_name_and_add_the_same_bytes() {
    let test_store = TestStore::new();
    let store = test_store.store();
    let large = random_bytes(5, 200_000);
    let versions: Vec<(u64, String)> = std::thread::scope(|s| {
        let threads: Vec<_> = (0..PROCESSES)
            .map(|i| {
                let (store, large) = (&store, &large);
                s.spawn(move || {
                    let mut out = Vec::new();
                    for round in 0..4 {
                        let mut artifact = Artifact::new("a", None).unwrap();
                        let own = format!("thread {i} round {round}");
                        artifact
                            .add_bytes("own", &own)
                            .unwrap()
                            .add_bytes("large", large)
                            .unwrap()
                            .add_bytes("small", "small")
                            .unwrap();
                        out.push((artifact.save(store).unwrap().version.number().0, own));
                    }
                    out
                })
            })
            .collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    dense(&test_store, "a", PROCESSES * 4);
    assert_eq!(versions.iter().map(|v| v.0).collect::<BTreeSet<_>>().len(), PROCESSES * 4);
    for (number, own) in versions {
        let version =
            cairn::resolve(&test_store.store(), &VersionSpec::parse(&format!("a:v{number}")).unwrap()).unwrap();
        assert_eq!(std::io::read_to_string(version.open("own").unwrap()).unwrap(), own);
    }
    work_is_empty(&test_store);
    test_store.clean("at the end");
}

#[test]
fn an_alias_that_moves_while_its_version_is_removed_is_moved_back_or_the_removal_fails() {
    let test_store = TestStore::new();
    let (alias_name, a) = (AliasName::parse("prod").unwrap(), name("a"));
    let mut outcomes = BTreeMap::new();
    for round in 0..40 {
        for i in 0..3 {
            let mut artifact = Artifact::new("a", None).unwrap();
            artifact.add_bytes("f", format!("{round} {i}")).unwrap();
            artifact.save(&test_store.store()).unwrap();
        }
        let first = VersionNumber(round * 3);
        let (second, _) = (VersionNumber(round * 3 + 1), ());
        alias::set(&test_store.store(), &a, &alias_name, alias::Expected::Any, Some(first)).unwrap();
        let gate = std::sync::Barrier::new(3);
        let (moved, rm1, rm2) = std::thread::scope(|s| {
            let at_once = |f: Box<dyn FnOnce(Store) -> cairn::Result<()> + Send>| {
                let (gate, store) = (&gate, test_store.store());
                s.spawn(move || {
                    gate.wait();
                    f(store)
                })
            };
            let (a1, a2, a3, n) = (a.clone(), a.clone(), a.clone(), alias_name.clone());
            let moved = at_once(Box::new(move |store| {
                alias::set(&store, &a1, &n, alias::Expected::Any, Some(second)).map(drop)
            }));
            let rm1 = at_once(Box::new(move |store| remove::remove(&store, &a2, first, Force::No)));
            let rm2 = at_once(Box::new(move |store| remove::remove(&store, &a3, second, Force::No)));
            (moved.join().unwrap(), rm1.join().unwrap(), rm2.join().unwrap())
        });
        let store = test_store.store();
        for (result, what) in [(&moved, "alias"), (&rm1, "rm"), (&rm2, "rm")] {
            if let Err(e) = result {
                assert!(matches!(e.kind(), Kind::Conflict | Kind::NotFound), "{what}: {e:?}");
            }
        }
        let at = alias::get(&store, &a, &alias_name).unwrap();
        if moved.is_ok() {
            assert_eq!(at, Some(second));
        }
        if let Some(at) = at
            && removal::is_removed(&store, &a, at).unwrap()
        {
            // The setter checked before the marker was made, so the remover checked after the move: it failed. The
            // user does what its hint says.
            let refused = if at == first { &rm1 } else { &rm2 };
            let message = refused.as_ref().unwrap_err();
            assert_eq!(message.kind(), Kind::Conflict, "round {round}: prod names {at}: {moved:?} {rm1:?} {rm2:?}");
            assert!(message.hint().unwrap().contains("is removed"), "{message:?}");
            alias::set(&store, &a, &alias_name, alias::Expected::Exactly(Some(at)), None).unwrap();
        }
        *outcomes.entry((moved.is_ok(), rm1.is_ok(), rm2.is_ok())).or_insert(0) += 1;
    }
    println!("alias against rm: {outcomes:?}");
    test_store.clean("at the end");
}

#[test]
fn an_alias_moved_by_eight_at_once_ends_at_one_of_them_and_every_move_is_recorded() {
    let test_store = TestStore::new();
    for i in 0..PROCESSES {
        make_tree(&test_store.path(&format!("s{i}")), &[("f", format!("{i}").as_bytes())]);
        test_store.ok(&["put", "a", &format!("s{i}")]);
    }
    let targets: Vec<String> = (0..PROCESSES).map(|i| format!("a:v{i}")).collect();
    let children: Vec<Child> = targets.iter().map(|t| start(&test_store, &["alias", t, "prod"], "")).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let log = test_store.store_path().join("artifacts/a/aliases/prod");
    let moves = std::fs::read_dir(&log)
        .unwrap()
        .filter(|e| !e.as_ref().unwrap().file_name().to_str().unwrap().starts_with('.'))
        .count();
    assert_eq!(moves, PROCESSES);
    assert_eq!(unpublished(&test_store, "a"), 0, "a process that lost a number removed its record");
    work_is_empty(&test_store);
    test_store.clean("at the end");
}

#[test]
fn puts_of_two_types_at_once_agree_on_one_and_the_others_fail_and_name_both() {
    let test_store = TestStore::new();
    for round in 0..4 {
        let artifact = format!("n{round}");
        for i in 0..PROCESSES {
            make_tree(&test_store.path(&format!("s{i}")), &[("f", format!("{round} {i}").as_bytes())]);
        }
        let sources: Vec<String> = (0..PROCESSES).map(|i| format!("s{i}")).collect();
        let children: Vec<Child> = sources
            .iter()
            .enumerate()
            .map(|(i, s)| start(&test_store, &["put", &artifact, s, "--type", ["model", "table"][i % 2], "--json"], ""))
            .collect();
        let outputs: Vec<Output> = children.into_iter().map(|c| c.wait_with_output().unwrap()).collect();
        let mut won = [0, 0];
        for (i, output) in outputs.iter().enumerate() {
            match output.status.code() {
                Some(0) => won[i % 2] += 1,
                Some(3) => assert!(
                    text(&output.stderr).contains("model") && text(&output.stderr).contains("table"),
                    "{}",
                    text(&output.stderr)
                ),
                other => panic!("{other:?}: {}", text(&output.stderr)),
            }
        }
        assert!(won == [PROCESSES / 2, 0] || won == [0, PROCESSES / 2], "one type won: {won:?}");
        dense(&test_store, &artifact, PROCESSES / 2);
    }
    work_is_empty(&test_store);
    test_store.clean("at the end");
}
