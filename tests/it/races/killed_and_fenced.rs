//! Writers that die, stop or are fenced between any two steps.

use super::*;

#[test]
fn writers_killed_at_any_step_among_others_lose_nothing_that_was_acknowledged() {
    let test_store = TestStore::new();
    let mut acknowledged = BTreeMap::new();
    let mut killed = 0;
    for round in 0..8u64 {
        let sources: Vec<String> = (0..PROCESSES).map(|i| format!("s{round}-{i}")).collect();
        for source in &sources {
            make_tree(
                &test_store.path(source),
                &[("f", source.as_bytes()), ("same", b"same"), ("large", &random_bytes(round, 131_072))],
            );
        }
        // Every other one is killed, each at a step of its own.
        let children: Vec<Child> = sources
            .iter()
            .enumerate()
            .map(|(i, s)| {
                start(
                    &test_store,
                    &["put", "a", s, "--json"],
                    &if i % 2 == 0 { String::new() } else { format!("kill:{}", 3 + (round * 5 + i as u64 * 4) % 34) },
                )
            })
            .collect();
        for (i, (child, source)) in children.into_iter().zip(sources).enumerate() {
            let output = child.wait_with_output().unwrap();
            if output.status.signal() == Some(9) {
                killed += 1;
                continue;
            }
            assert!(output.status.success(), "{i}: {}", text(&output.stderr));
            assert!(acknowledged.insert(number(&json(&output)), source).is_none());
        }
    }
    assert!(killed > 16, "{killed}");
    let count = numbers(&test_store, "a").len();
    dense(&test_store, "a", count);
    assert!(count >= acknowledged.len());
    for (number, source) in &acknowledged {
        holds(&test_store, &format!("a:v{number}"), source);
    }
    test_store.clean("at the end");
    println!("{killed} killed, {} acknowledged, {count} published", acknowledged.len());
}

/// The step of `put a two` just before which it has committed and not claimed.
fn claim_step(test_store: &TestStore) -> u64 {
    let store = test_store.store_path();
    let _ = store;
    find_step(test_store, &["put", "a", "two"], |token| {
        outcome(token).as_deref() == Some("commit")
            && !token.parent().unwrap().parent().unwrap().join("artifacts/a/versions/v1").is_symlink()
    })
}

#[test]
fn a_writer_killed_between_commit_and_claim_is_helped_by_the_next_put() {
    let test_store = one_version();
    let step = claim_step(&test_store);
    let output = faulty(&test_store, &["put", "a", "two"], &format!("kill:{step}")).output().unwrap();
    assert_eq!(output.status.signal(), Some(9));
    dense(&test_store, "a", 1);
    assert_eq!(test_store.ok(&["put", "a", "three"]), "a:v2");
    dense(&test_store, "a", 3);
    holds(&test_store, "a:v1", "two");
    holds(&test_store, "a:v2", "three");
    work_is_empty(&test_store);
    test_store.clean("at the end");
}

#[test]
fn a_put_killed_between_commit_and_claim_and_repeated_makes_one_version() {
    let test_store = one_version();
    let step = claim_step(&test_store);
    let output = faulty(&test_store, &["put", "a", "two"], &format!("kill:{step}")).output().unwrap();
    assert_eq!(output.status.signal(), Some(9));
    assert_eq!(test_store.ok(&["put", "a", "two"]), "a:v1");
    dense(&test_store, "a", 2);
    holds(&test_store, "a:v1", "two");
    test_store.clean("at the end");
}

fn the_token(test_store: &TestStore) -> PathBuf {
    let tokens: Vec<_> =
        std::fs::read_dir(test_store.store_path().join("work")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(tokens.len(), 1);
    tokens.into_iter().next().unwrap()
}

#[test]
fn a_writer_paused_after_its_commit_is_published_by_another_and_finds_its_number_when_it_continues() {
    let test_store = one_version();
    let step = claim_step(&test_store);
    let child = start(&test_store, &["put", "a", "two", "--json"], &format!("stop:{step}"));
    wait_stopped(&child);
    assert_eq!(test_store.ok(&["put", "a", "three"]), "a:v2");
    resume(&child);
    assert_eq!(number(&json(&child.wait_with_output().unwrap())), 1);
    dense(&test_store, "a", 3);
    holds(&test_store, "a:v1", "two");
    work_is_empty(&test_store);
    test_store.clean("at the end");
}

#[test]
fn a_writer_fenced_before_its_commit_looks_at_everything_again_and_succeeds_with_a_new_token() {
    let test_store = one_version();
    let args = ["put", "a", "two"];
    let step = find_step(&test_store, &args, |token| outcome(token).is_none() && token.join("record").is_symlink());
    let child = start(&test_store, &["put", "a", "two", "--json"], &format!("stop:{step}"));
    wait_stopped(&child);
    let token = the_token(&test_store);
    std::os::unix::fs::symlink("fenced", token.join("outcome")).unwrap();
    // What it had stored is freed, as a collector may do once it has fenced it.
    for pack in std::fs::read_dir(test_store.store_path().join("packs")).unwrap().map(|e| e.unwrap().path()) {
        let relied: BTreeSet<PathBuf> = all_packs(&test_store);
        if !relied.contains(&pack) {
            std::fs::remove_file(pack).unwrap();
        }
    }
    resume(&child);
    assert_eq!(number(&json(&child.wait_with_output().unwrap())), 1);
    dense(&test_store, "a", 2);
    holds(&test_store, "a:v0", "one");
    holds(&test_store, "a:v1", "two");
    let link = std::fs::read_link(test_store.store_path().join("artifacts/a/versions/v1")).unwrap();
    assert_ne!(
        link.to_str().unwrap().trim_start_matches('.'),
        token.file_name().unwrap().to_str().unwrap(),
        "the fenced token has no number"
    );
    work_is_empty(&test_store);
    assert_eq!(unpublished(&test_store, "a"), 0);
    test_store.clean("at the end");
}

/// The packs that published versions need.
fn all_packs(test_store: &TestStore) -> BTreeSet<PathBuf> {
    let store = test_store.store();
    let versions = cairn::internals::catalog::version::versions(&store, &name("a")).unwrap();
    versions.iter().flat_map(|v| v.manifest_file().unwrap().packs().to_vec()).map(|p| store.layout().pack(&p)).collect()
}

#[test]
fn a_fence_between_the_last_two_steps_of_a_token_that_has_ended_holds_for_nothing() {
    let test_store = one_version();
    let step = find_step(&test_store, &["put", "a", "two"], |token| {
        std::fs::read_dir(token).unwrap().count() == 0 && token.join("../../artifacts/a/versions/v1").is_symlink()
    });
    let child = start(&test_store, &["put", "a", "two", "--json"], &format!("stop:{step}"));
    wait_stopped(&child);
    std::os::unix::fs::symlink("fenced", the_token(&test_store).join("outcome")).unwrap();
    // While the link exists too: a token that has ended is not fenced.
    test_store.clean("while the link exists");
    resume(&child);
    assert_eq!(number(&json(&child.wait_with_output().unwrap())), 1);
    holds(&test_store, "a:v1", "two");
    work_is_empty(&test_store);
    test_store.clean("at the end");
}

/// A put that is stopped before its commit while `meanwhile` runs with its token.
fn before_its_commit(test_store: &TestStore, meanwhile: impl Fn(&Path)) -> serde_json::Value {
    let args = ["put", "a", "two", "--json"];
    let step = find_step(test_store, &args, |token| outcome(token).is_none() && token.join("record").is_symlink());
    let child = start(test_store, &args, &format!("stop:{step}"));
    wait_stopped(&child);
    meanwhile(&the_token(test_store));
    resume(&child);
    let answer = json(&child.wait_with_output().unwrap());
    work_is_empty(test_store);
    test_store.clean("at the end");
    answer
}

/// Its commit was done, its reply lost, and another helped it to v1.
fn committed_and_helped(test_store: &TestStore, token: &Path) {
    std::os::unix::fs::symlink("commit", token.join("outcome")).unwrap();
    assert_eq!(test_store.ok(&["put", "a", "three"]), "a:v2");
    assert!(!token.exists());
}

#[test]
fn a_writer_whose_token_was_ended_by_a_helper_before_it_heard_of_its_commit_finds_its_number() {
    let test_store = one_version();
    assert_eq!(number(&before_its_commit(&test_store, |token| committed_and_helped(&test_store, token))), 1);
    dense(&test_store, "a", 3);
    holds(&test_store, "a:v1", "two");
}

#[test]
fn a_writer_helped_and_then_fenced_before_it_heard_of_its_commit_keeps_its_version() {
    let test_store = one_version();
    let answer = before_its_commit(&test_store, |token| {
        committed_and_helped(&test_store, token);
        // A fence that came before the helper could remove the directory.
        std::fs::create_dir(token).unwrap();
        std::os::unix::fs::symlink("fenced", token.join("outcome")).unwrap();
    });
    assert_eq!(number(&answer), 1);
    dense(&test_store, "a", 3);
    holds(&test_store, "a:v1", "two");
}

#[test]
fn a_commit_into_a_token_that_was_fenced_and_half_taken_away_counts_for_nothing() {
    for gone in [true, false] {
        let test_store = one_version();
        let was = std::cell::RefCell::new(PathBuf::new());
        let answer = before_its_commit(&test_store, |token| {
            *was.borrow_mut() = token.to_owned();
            std::fs::remove_dir_all(token).unwrap();
            if !gone {
                std::fs::create_dir(token).unwrap();
            }
        });
        assert_eq!(number(&answer), 1);
        let link = std::fs::read_link(test_store.store_path().join("artifacts/a/versions/v1")).unwrap();
        assert_ne!(
            link.to_str().unwrap().trim_start_matches('.'),
            was.borrow().file_name().unwrap().to_str().unwrap(),
            "the token that was taken away has no number"
        );
        holds(&test_store, "a:v1", "two");
    }
}

#[test]
fn an_alias_move_fenced_before_its_commit_is_done_with_a_new_token() {
    let test_store = one_version();
    test_store.ok(&["put", "a", "two"]);
    let args = ["alias", "a:v1", "prod"];
    let step = find_step(&test_store, &args, |token| outcome(token).is_none() && token.join("record").is_symlink());
    let child = start(&test_store, &args, &format!("stop:{step}"));
    wait_stopped(&child);
    std::os::unix::fs::symlink("fenced", the_token(&test_store).join("outcome")).unwrap();
    resume(&child);
    assert!(child.wait_with_output().unwrap().status.success());
    assert_eq!(
        alias::get(&test_store.store(), &name("a"), &AliasName::parse("prod").unwrap()).unwrap(),
        Some(VersionNumber(1))
    );
    work_is_empty(&test_store);
    assert_eq!(unpublished(&test_store, "a"), 0);
    test_store.clean("at the end");
}

#[test]
fn what_another_left_broken_in_work_does_not_stop_a_put() {
    let test_store = one_version();
    let work = test_store.store_path().join("work");
    let token = |digit: &str| work.join(digit.repeat(32));
    for digit in ["1", "2", "3", "4"] {
        std::fs::create_dir(token(digit)).unwrap();
    }
    std::fs::write(token("1").join("outcome"), "no link").unwrap();
    std::os::unix::fs::symlink("neither", token("2").join("outcome")).unwrap();
    // Refused, and killed while it took its record away: a directory without its files.
    for digit in ["3", "4"] {
        std::os::unix::fs::symlink("commit", token(digit).join("outcome")).unwrap();
        std::os::unix::fs::symlink(format!("artifacts/a/versions/.{}", digit.repeat(32)), token(digit).join("record"))
            .unwrap();
    }
    std::fs::create_dir(test_store.store_path().join("artifacts/a/versions").join(format!(".{}", "3".repeat(32))))
        .unwrap();
    assert_eq!(test_store.ok(&["put", "a", "two"]), "a:v1");
    dense(&test_store, "a", 2);
    test_store.clean("at the end");
}

#[test]
fn a_writer_whose_token_a_collection_removed_before_its_lock_was_made_takes_another_one() {
    let from = one_version();
    for args in [&["put", "a", "two"][..], &["alias", "a:v0", "prod"], &["annotate", "a", "--description", "new"]] {
        let mut removed = 0;
        for step in 1..=4 {
            let test_store = from.copy(&["store", "one", "two"]);
            let child = start(&test_store, args, &format!("stop:{step}"));
            wait_stopped(&child);
            let has_token = || std::fs::read_dir(test_store.store_path().join("work")).unwrap().next().is_some();
            let had = has_token();
            // The first collection fences a token without a lock, the second one removes it.
            for _ in 0..2 {
                test_store.ok(&["gc", "--min-age", "0"]);
            }
            removed += u32::from(had && !has_token());
            resume(&child);
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{args:?} stopped at {step}: {}", text(&output.stderr));
            work_is_empty(&test_store);
            test_store.clean(&format!("{args:?} stopped at {step}"));
        }
        assert!(removed >= 2, "{args:?}: the token was removed {removed} times");
    }
}
