//! A fault at every step that changes the disk: a real process is killed there, or gets an error there. Afterwards the
//! store verifies, acknowledged changes are complete, other changes are absent or complete, and the same command, run
//! again, succeeds (L7, F1 to F8).

use crate::support::{
    TestStore, at_once, copy_tree, faults, make_tree, memory_dir, random_bytes, snapshot, steps, text,
};
use cairn::catalog::VersionSpec;
use cairn::view::{CheckoutOptions, checkout};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

/// A test store with `a:v0` with alias `prod`, and a source for `v1`, kept to be copied for each fault.
fn start() -> TestStore {
    let test_store = TestStore::new();
    let big = random_bytes(1, 200_000);
    make_tree(&test_store.path("one"), &[("x.txt", b"one"), ("d/y.txt", b"two"), ("d/e/z.bin", &big), ("empty/", b"")]);
    test_store.ok(&["put", "a", "one", "--alias", "prod"]);
    let other = random_bytes(2, 150_000);
    make_tree(
        &test_store.path("two"),
        &[
            ("x.txt", b"changed"),
            ("d/y.txt", b"two"),
            ("d/e/z.bin", &big),
            ("d/e/w.bin", &other),
            ("n/1", b"1"),
            ("n/2", b"2"),
            ("n/3", b"3"),
        ],
    );
    std::os::unix::fs::symlink("x.txt", test_store.path("two").join("link")).unwrap();
    test_store
}

/// A copy of the starting point, in memory.
fn copy_of(from: &TestStore) -> TestStore {
    from.copy(&["store", "one", "two"])
}

/// The same on the disk.
fn on_disk(from: &TestStore) -> TestStore {
    from.copy_on_disk(&["store", "one", "two"])
}

/// Runs `args` in copies of `from`, with a fault at each step in turn. `check` sees each outcome, before and after the
/// command is repeated.
fn sweep_copies(
    copy: fn(&TestStore) -> TestStore,
    from: &TestStore,
    args: &[&str],
    repeat: &[i32],
    check: impl Fn(&TestStore, Option<bool>) + Sync,
) -> u64 {
    let test_store = copy(from);
    let steps = steps(&test_store, args);
    check(&test_store, Some(true));
    at_once(&faults(steps), |(kind, step)| {
        let test_store = copy(from);
        let output = test_store.cairn(args).env("CAIRN_FAULT", format!("{kind}:{step}")).output().unwrap();
        let label = format!("{args:?} with {kind} at step {step}: {:?} {}", output.status, text(&output.stderr));
        match *kind {
            // A fault that was never reached would test nothing; threads may end in another order, so the last few
            // may differ.
            "kill" => assert!(output.status.signal() == Some(9) || step + 8 > steps, "{label}"),
            _ => assert!(matches!(output.status.code(), Some(0 | 5)), "{label}"),
        }
        let acknowledged = output.status.code() == Some(0);
        test_store.clean(&label);
        check(&test_store, Some(acknowledged).filter(|a| *a));
        let output = test_store.cairn(args).output().unwrap();
        assert!(
            output.status.code().is_some_and(|c| repeat.contains(&c)),
            "again after {label}: {:?} {}",
            output.status,
            text(&output.stderr)
        );
        test_store.clean(&label);
        check(&test_store, Some(true));
    });
    steps
}

/// [`sweep_copies`] in memory.
fn sweep(from: &TestStore, args: &[&str], repeat: &[i32], check: impl Fn(&TestStore, Option<bool>) + Sync) -> u64 {
    sweep_copies(copy_of, from, args, repeat, check)
}

fn content(test_store: &TestStore, spec: &str) -> Option<std::collections::BTreeMap<Vec<u8>, Vec<u8>>> {
    let version = cairn::resolve(&test_store.store(), &VersionSpec::parse(spec).unwrap()).ok()?;
    let out = tempfile::tempdir_in(test_store.dir.path()).unwrap();
    checkout(&version, &out.path().join("got"), &CheckoutOptions::default()).unwrap();
    Some(snapshot(&out.path().join("got")))
}

fn same(test_store: &TestStore, spec: &str, source: &str) {
    assert!(content(test_store, spec).unwrap() == snapshot(&test_store.path(source)), "{spec} is {source}");
}

fn numbers(test_store: &TestStore) -> Vec<String> {
    let mut out: Vec<_> = std::fs::read_dir(test_store.store_path().join("artifacts/a/versions"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.starts_with('v'))
        .collect();
    out.sort();
    out
}

#[test]
fn a_put_killed_or_failed_at_every_step_loses_nothing_and_succeeds_when_repeated() {
    let from = start();
    // In memory and on the disk, whose file system may need other steps.
    let steps = [copy_of, on_disk].map(|copy| {
        sweep_copies(copy, &from, &["put", "a", "two"], &[0], |test_store, acknowledged| {
            same(test_store, "a:v0", "one");
            match numbers(test_store).len() {
                1 => assert_eq!(acknowledged, None, "an acknowledged version is there"),
                2 => same(test_store, "a:v1", "two"),
                n => panic!("{n} versions of two puts: {:?}", numbers(test_store)),
            }
        })
    });
    println!("put: {steps:?} steps, each killed and failed");
    assert!(steps.into_iter().all(|steps| steps > 20));
}

#[test]
fn the_first_put_of_a_name_killed_or_failed_at_every_step_leaves_nothing_visible() {
    let from = start();
    // In memory and on the disk: a new artifact needs other steps where names reach the disk in their order.
    let steps = [copy_of, on_disk].map(|copy| {
        sweep_copies(copy, &from, &["put", "b", "two", "--type", "model"], &[0], |test_store, acknowledged| {
            same(test_store, "a:v0", "one");
            let listed = cairn::internals::catalog::artifact::all(&test_store.store()).unwrap();
            let there = listed.iter().any(|n| n.as_str() == "b");
            assert!(there || acknowledged.is_none());
            if there {
                same(test_store, "b:v0", "two");
            }
        })
    });
    println!("first put: {steps:?} steps, each killed and failed");
}

#[test]
fn a_put_that_compresses_files_killed_or_failed_at_every_step_loses_nothing_and_succeeds_when_repeated() {
    let from = start();
    let lines = |n: usize| (0..n).map(|n| format!("line {n}\n")).collect::<String>().into_bytes();
    make_tree(&from.path("two"), &[("text", &lines(900)), ("d/more", &lines(8000))]);
    let steps = sweep(&from, &["put", "a", "two"], &[0], |test_store, acknowledged| {
        same(test_store, "a:v0", "one");
        match numbers(test_store).len() {
            1 => assert_eq!(acknowledged, None, "an acknowledged version is there"),
            2 => same(test_store, "a:v1", "two"),
            n => panic!("{n} versions of two puts: {:?}", numbers(test_store)),
        }
        let packs = crate::support::files(&test_store.store_path().join("packs"));
        let longest = packs.iter().map(|path| path.metadata().unwrap().len()).max().unwrap();
        assert!(longest < 50_000, "the texts are compressed: {longest}");
    });
    println!("put that compresses: {steps} steps, each killed and failed");
    assert!(steps > 20);
}

#[test]
fn a_put_that_composes_files_killed_or_failed_at_every_step_loses_nothing_and_succeeds_when_repeated() {
    let from = start();
    let old = random_bytes(5, 1_200_000);
    let other = random_bytes(7, 1_060_000);
    make_tree(&from.path("one"), &[("x", &old), ("y", &old[..1_100_000]), ("z", &other)]);
    from.ok(&["put", "a", "one"]);
    let (mut x, mut y) = (old.clone(), old[..1_100_000].to_vec());
    x.extend(random_bytes(6, 200_000)); // the rest is an object
    y.splice(500..500, *b"inserted"); // the rest is packed
    let z = [&other[..], &b"a line of text".repeat(10_000)].concat(); // the rest is packed in compressed frames
    make_tree(&from.path("two"), &[("x", &x), ("y", &y), ("z", &z)]);
    let steps = sweep(&from, &["put", "a", "two"], &[0], |test_store, acknowledged| {
        same(test_store, "a:v1", "one");
        match numbers(test_store).len() {
            2 => assert_eq!(acknowledged, None, "an acknowledged version is there"),
            3 => same(test_store, "a:v2", "two"),
            n => panic!("{n} versions of three puts: {:?}", numbers(test_store)),
        }
        let objects = crate::support::files(&test_store.store_path().join("objects"));
        let sizes: Vec<u64> = objects.iter().map(|path| std::fs::metadata(path).unwrap().len()).collect();
        // A put that is killed before the index knows its pack may leave packed parts that the next one does not find.
        assert!(!sizes.contains(&(x.len() as u64)), "a file whose rest is an object is never stored whole: {sizes:?}");
        assert!(sizes.iter().sum::<u64>() < 6_300_000, "the large files are not stored twice: {sizes:?}");
    });
    println!("composing put: {steps} steps, each killed and failed");
    assert!(steps > 20);
}

#[test]
fn a_put_that_compresses_large_files_killed_or_failed_at_every_step_loses_nothing_and_succeeds_when_repeated() {
    let from = start();
    from.ok(&["upgrade", "--compression", "all"]);
    let lines =
        |from: usize, to: usize| (from..to).flat_map(|n| format!("line {n}\n").into_bytes()).collect::<Vec<_>>();
    let (short, long) = (lines(0, 15_000), lines(0, 150_000)); // 150 KB and 1.5 MB
    make_tree(&from.path("one"), &[("short", &short), ("z", &long)]);
    from.ok(&["put", "a", "one"]);
    let grown = [&long[..], &lines(0, 16_000)].concat(); // the rest is packed in compressed frames
    make_tree(
        &from.path("two"),
        &[("short", &lines(3, 15_000)), ("shuffled", &lines(200_000, 300_000)), ("z", &grown)],
    );
    let steps = sweep(&from, &["put", "a", "two"], &[0], |test_store, acknowledged| {
        same(test_store, "a:v1", "one");
        match numbers(test_store).len() {
            2 => assert_eq!(acknowledged, None, "an acknowledged version is there"),
            3 => same(test_store, "a:v2", "two"),
            n => panic!("{n} versions of three puts: {:?}", numbers(test_store)),
        }
        let objects = crate::support::files(&test_store.store_path().join("objects"));
        assert!(objects.len() <= 2, "of random bytes: {objects:?}");
    });
    println!("put that compresses large files: {steps} steps, each killed and failed");
    assert!(steps > 15);
}

#[test]
fn a_collection_of_composed_files_killed_or_failed_at_every_step_keeps_what_they_need() {
    let from = start();
    let mut bytes = random_bytes(5, 1_200_000);
    for i in 0..10 {
        bytes.splice(i * 5000..i * 5000, random_bytes(i as u64, 100));
        if i % 4 == 2 {
            bytes.extend(format!("day {i}\n").repeat(20_000).into_bytes()); // packed in compressed frames
        }
        make_tree(&from.path("two"), &[("x", &bytes)]);
        from.ok(&["put", "a", "two"]);
    }
    from.ok(&["rm", "a:v1", "a:v2", "a:v3"]);
    let steps = sweep(&from, &["gc", "--min-age", "0"], &[0], |test_store, _| {
        same(test_store, "a:v0", "one");
        same(test_store, "a:v10", "two");
    });
    println!("gc of composed files: {steps} steps, each killed and failed");
}

#[test]
fn a_patch_killed_or_failed_at_every_step_loses_nothing_and_succeeds_when_repeated() {
    let from = start();
    make_tree(&from.path("one/p"), &[("new", b"patched"), ("large", &random_bytes(4, 140_000))]);
    let steps =
        sweep(&from, &["patch", "a", "one"], &[0], |test_store, acknowledged| match numbers(test_store).len() {
            1 => assert_eq!(acknowledged, None, "an acknowledged version is there"),
            2 => same(test_store, "a:v1", "one"),
            n => panic!("{n} versions of a put and a patch: {:?}", numbers(test_store)),
        });
    println!("patch: {steps} steps, each killed and failed");
    assert!(steps > 15);
}

#[test]
fn a_rebased_patch_killed_or_failed_at_every_step_keeps_both_changes() {
    let from = start();
    make_tree(&from.path("two"), &[("theirs", b"theirs")]);
    from.ok(&["patch", "a:v0", "two/theirs"]);
    make_tree(&from.path("one"), &[("mine", b"mine"), ("theirs", b"theirs")]);
    let steps = sweep(&from, &["patch", "a:v0", "one/mine"], &[0], |test_store, acknowledged| {
        match numbers(test_store).len() {
            2 => assert_eq!(acknowledged, None, "an acknowledged version is there"),
            3 => same(test_store, "a:v2", "one"),
            n => panic!("{n} versions: {:?}", numbers(test_store)),
        }
    });
    println!("rebased patch: {steps} steps, each killed and failed");
}

#[test]
fn a_copy_killed_or_failed_at_every_step_is_whole_or_absent() {
    let from = start();
    let steps = sweep(&from, &["copy", "a:v0", "b"], &[0], |test_store, acknowledged| {
        same(test_store, "a:v0", "one");
        let there =
            cairn::internals::catalog::artifact::all(&test_store.store()).unwrap().iter().any(|n| n.as_str() == "b");
        assert!(there || acknowledged.is_none());
        if there {
            same(test_store, "b:v0", "one");
        }
    });
    println!("copy: {steps} steps, each killed and failed");
}

#[test]
fn an_alias_move_killed_or_failed_at_every_step_is_done_or_not_done() {
    let from = start();
    from.ok(&["put", "a", "two"]);
    let steps = sweep(&from, &["alias", "a:v1", "prod"], &[0], |test_store, acknowledged| {
        let at = cairn::resolve(&test_store.store(), &VersionSpec::parse("a:prod").unwrap()).unwrap().number().0;
        assert!(at == 1 || (at == 0 && acknowledged.is_none()), "prod is at v{at}");
        same(test_store, "a:v0", "one");
        same(test_store, "a:v1", "two");
    });
    println!("alias: {steps} steps, each killed and failed");
}

#[test]
fn a_removal_killed_or_failed_at_every_step_is_done_or_not_done() {
    let from = start();
    from.ok(&["put", "a", "two"]);
    // Repeated after it was done, it finds nothing to remove.
    let steps = sweep(&from, &["rm", "a:v1"], &[0, 6], |test_store, acknowledged| {
        let there = content(test_store, "a:v1").is_some();
        assert!(!there || acknowledged.is_none());
        same(test_store, "a:v0", "one");
    });
    println!("rm: {steps} steps, each killed and failed");
}

#[test]
fn an_init_killed_or_failed_at_every_step_leaves_no_store_or_a_whole_one() {
    let test_store = TestStore { dir: memory_dir() };
    let run = |name: &str, fault: &str| test_store.cairn(&["init", name]).env("CAIRN_FAULT", fault).output().unwrap();
    let count = test_store.path("steps");
    assert!(run("s", &format!("count:{}", count.display())).status.success());
    let steps: u64 = std::fs::read_to_string(&count).unwrap().parse().unwrap();
    // At once: the second `init` waits for the first, which may be alive.
    at_once(&faults(steps), |(kind, step)| {
        let name = format!("{kind}{step}");
        let first = run(&name, &format!("{kind}:{step}"));
        assert!(!first.status.success(), "{kind} at {step}");
        let second = run(&name, "");
        let opened = cairn::Store::open(test_store.path(&name)).is_ok();
        assert!(opened, "{kind} at {step}: {} then {}", text(&first.stderr), text(&second.stderr));
        assert!(second.status.success() || Path::new(&test_store.path(&name)).join("cairn.json").exists());
    });
    println!("init: {steps} steps, each killed and failed");
}

#[test]
fn an_upsert_killed_or_failed_at_every_step_is_in_the_version_or_absent() {
    let from = start();
    make_tree(&from.path("one"), &[("mine", b"mine")]);
    let args = ["upsert", "a", "two", "--run", "r", "--distributed-id", "d"];
    from.ok(&["upsert", "a", "one/mine", "--run", "other", "--distributed-id", "d"]);
    let steps = sweep(&from, &args, &[0], |test_store, acknowledged| {
        let shown = test_store.ok(&["draft", "show", "a", "d", "--json"]);
        let there = shown.contains("\"run\":\"r\"");
        assert!(there || acknowledged.is_none(), "an acknowledged contribution is there: {shown}");
        if acknowledged.is_some() {
            let trial = copy_of_store(test_store);
            assert_eq!(trial.ok(&["finish", "a", "--distributed-id", "d"]), "a:v1");
            make_tree(&test_store.path("want"), &[("mine", b"mine")]);
            copy_tree(&test_store.path("two/."), &test_store.path("want"));
            assert!(content(&trial, "a:v1").unwrap() == snapshot(&test_store.path("want")));
        }
    });
    println!("upsert: {steps} steps, each killed and failed");
    assert!(steps > 12);
}

/// A copy of a store, to try something on it.
fn copy_of_store(test_store: &TestStore) -> TestStore {
    test_store.copy(&["store"])
}

#[test]
fn a_finish_killed_at_every_step_gives_exactly_one_version_whichever_process_comes_next() {
    let from = start();
    make_tree(&from.path("one"), &[("mine", b"mine"), ("third", b"3")]);
    for (run, source) in [("r", "two"), ("other", "one/mine")] {
        from.ok(&["upsert", "a", source, "--run", run, "--distributed-id", "d", "--alias", "done", "--tag", run]);
    }
    let args = ["finish", "a", "one/third", "--run", "last", "--distributed-id", "d"];
    make_tree(&from.path("want"), &[("mine", b"mine"), ("third", b"3")]);
    copy_tree(&from.path("two/."), &from.path("want"));
    let want = snapshot(&from.path("want"));
    let steps = sweep(&from, &args, &[0], |test_store, acknowledged| {
        let trial = copy_of_store(test_store);
        // Any process can finish, and the version gets all its annotations.
        let next = trial.cairn(&["finish", "a", "--distributed-id", "d", "--json"]).output().unwrap();
        assert_eq!(next.status.code(), Some(0), "{}", text(&next.stderr));
        assert_eq!(numbers(&trial), ["v0", "v1"]);
        let made = content(&trial, "a:v1").unwrap();
        let without: std::collections::BTreeMap<_, _> =
            want.iter().filter(|(k, _)| *k != b"third").map(|(k, v)| (k.clone(), v.clone())).collect();
        assert!(made == want || (acknowledged.is_none() && made == without), "a:v1 is the union");
        let shown = trial.ok(&["show", "a:done", "--json"]);
        assert!(shown.contains("\"version\":\"v1\"") && shown.contains("\"tags\":[\"r\",\"other\"]"), "{shown}");
        assert_eq!(trial.ok(&["finish", "a", "--distributed-id", "d"]), "a:v1");
        trial.clean("after another finish");
    });
    println!("finish: {steps} steps, each killed and failed");
    assert!(steps > 20);
}

#[test]
fn a_drop_and_a_discard_killed_or_failed_at_every_step_are_done_or_not_done() {
    let from = start();
    make_tree(&from.path("one"), &[("mine", b"mine")]);
    for (run, source) in [("r", "two"), ("other", "one/mine")] {
        from.ok(&["upsert", "a", source, "--run", run, "--distributed-id", "d"]);
    }
    let count =
        |test_store: &TestStore| test_store.ok(&["draft", "show", "a", "d", "--json"]).matches("\"run\":").count();
    let dropped = sweep(&from, &["draft", "drop", "a", "d", "--run", "r"], &[0, 6], |test_store, acknowledged| {
        let n = count(test_store);
        assert!(n == 1 || (n == 2 && acknowledged.is_none()), "{n} contributions");
    });
    let discarded = sweep(&from, &["draft", "discard", "a", "d"], &[0, 6], |test_store, acknowledged| {
        let n = count(test_store);
        assert!(n == 0 || (n == 2 && acknowledged.is_none()), "{n} contributions");
    });
    println!("draft drop: {dropped} steps, draft discard: {discarded} steps, each killed and failed");
}
