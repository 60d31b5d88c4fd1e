//! How a stage begins, is resumed and ends.

use super::support::{LARGE, contributions, finished, is_mounted, kill, left, stage, whole};
use crate::support::{TestStore, make_tree, plain_umount, random_bytes, snapshot, text};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

const SEAL: [&str; 6] = ["upsert", "a", "--run", "r", "--distributed-id", "d"];

#[test]
fn a_run_copies_files_and_umount_makes_them_its_part_of_the_version() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("x", b"x"), ("d/y", &random_bytes(1, LARGE)), ("empty/", b"")]);
    let staged = stage(&test_store, "r");
    let copied = Command::new("cp").arg("-r").arg(test_store.path("src/.")).arg(&staged.mnt).status().unwrap();
    assert!(copied.success());
    assert_eq!(test_store.ok(&["umount", staged.mnt.to_str().unwrap()]), "");
    assert!(!is_mounted(&staged.mnt) && left(&test_store).is_empty());
    assert!(finished(&test_store) == snapshot(&test_store.path("src")));
    let later = staged.mount(&[]);
    assert_eq!(later.status.code(), Some(3), "a finished draft takes nothing: {}", text(&later.stderr));
}

#[test]
fn several_runs_write_through_a_mount_each_and_all_of_it_is_in_the_version() {
    let test_store = TestStore::new();
    let stages: Vec<_> = (0..4).map(|i| stage(&test_store, &format!("r{i}"))).collect();
    let mut writers: Vec<_> = stages
        .iter()
        .map(|s| {
            Command::new("sh")
                .arg("-c")
                .arg("for i in $(seq 100); do echo $1-$i > $2/$1-$i; done")
                .args(["sh", &s.run])
                .arg(&s.mnt)
                .spawn()
                .unwrap()
        })
        .collect();
    assert!(writers.iter_mut().all(|w| w.wait().unwrap().success()));
    stages.iter().for_each(|s| s.sealed());
    assert_eq!(finished(&test_store).len(), 400);
}

#[test]
fn after_a_killed_daemon_what_was_fsynced_is_there_and_the_contribution_is_open() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    let mut file = File::create(staged.at("synced")).unwrap();
    file.write_all(&random_bytes(1, LARGE)).unwrap();
    file.sync_all().unwrap();
    fs::create_dir(staged.at("d")).unwrap();
    File::open(&staged.mnt).unwrap().sync_all().unwrap();
    kill(staged.daemon(), libc::SIGKILL);
    assert_eq!(fs::read_dir(&staged.mnt).err().unwrap().raw_os_error(), Some(libc::ENOTCONN));
    drop(file);
    assert_eq!(contributions(&test_store, "r"), 0);
    let shown = test_store.ok(&["drafts", "a"]);
    assert!(shown.contains('r') && shown.contains('d'), "{shown}");
    let stderr = text(&test_store.run(&["umount", staged.mnt.to_str().unwrap()], 3).stderr);
    assert!(
        stderr.contains("left open: a d r") && stderr.contains("cairn upsert a --distributed-id d --run r"),
        "{stderr}"
    );
    assert!(
        !is_mounted(&staged.mnt) && contributions(&test_store, "r") == 0,
        "nothing is sealed that a dead daemon served"
    );
    assert!(staged.mount(&[]).status.success());
    assert!(fs::read(staged.at("synced")).unwrap() == random_bytes(1, LARGE) && staged.at("d").is_dir());
    staged.sealed();
    assert_eq!(finished(&test_store).len(), 2);
}

#[test]
fn a_second_holder_of_a_run_is_refused_and_fresh_begins_with_nothing() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    fs::write(staged.at("x"), "x").unwrap();
    let other = test_store.path("other");
    fs::create_dir(&other).unwrap();
    let args = ["mount", other.to_str().unwrap(), "a", "--stage", "--distributed-id", "d", "--run", "r"];
    for more in [&[][..], &["--fresh"]] {
        let stderr = text(&test_store.run(&[&args[..], more].concat(), 3).stderr);
        assert!(stderr.contains("held by process") && stderr.contains(&staged.daemon().to_string()), "{stderr}");
    }
    fs::write(test_store.path("more"), "1").unwrap();
    test_store.run(&["upsert", "a", "--run", "r", "--distributed-id", "d", "more"], 3);
    test_store.ok(&["umount", "--no-seal", staged.mnt.to_str().unwrap()]);
    assert!(staged.mount(&["--fresh"]).status.success());
    assert_eq!(fs::read_dir(&staged.mnt).unwrap().count(), 0);
}

#[test]
fn a_plain_umount_and_a_signal_leave_the_contribution_open() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    fs::write(staged.at("one"), "1").unwrap();
    plain_umount(&staged.mnt);
    for _ in 0..200 {
        if test_store.ok(&["locks"]).is_empty() || !test_store.ok(&["locks"]).contains("stage") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(staged.mount(&[]).status.success());
    fs::write(staged.at("two"), "2").unwrap();
    kill(staged.daemon(), libc::SIGTERM);
    assert_eq!(contributions(&test_store, "r"), 0);
    assert!(staged.mount(&[]).status.success());
    assert_eq!(snapshot(&staged.mnt).len(), 2);
}

#[test]
fn finish_refuses_while_a_stage_is_open_and_says_whose() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    fs::write(staged.at("x"), "x").unwrap();
    let finish = ["finish", "a", "--distributed-id", "d"];
    assert!(text(&test_store.run(&finish, 3).stderr).contains("run r is writing on"));
    test_store.ok(&["umount", "--no-seal", staged.mnt.to_str().unwrap()]);
    assert!(text(&test_store.run(&finish, 3).stderr).contains("run r has left its staging directory open"));
    test_store.ok(&SEAL);
    assert_eq!(finished(&test_store).len(), 1);
}

#[test]
fn upsert_without_a_source_seals_what_is_mounted_and_what_is_not() {
    let test_store = TestStore::new();
    test_store.run(&SEAL, 6);
    let staged = stage(&test_store, "r");
    fs::write(staged.at("x"), random_bytes(1, LARGE)).unwrap();
    assert_eq!(test_store.ok(&SEAL), "a d r");
    assert_eq!(fs::write(staged.at("y"), "y").err().unwrap().raw_os_error(), Some(libc::EROFS));
    test_store.ok(&["umount", staged.mnt.to_str().unwrap()]);
    assert!(staged.mount(&[]).status.success(), "a run may continue: a new stage, over what it sealed");
    assert_eq!(fs::read_dir(&staged.mnt).unwrap().count(), 0);
    fs::write(staged.at("y"), "y").unwrap();
    test_store.ok(&["umount", "--no-seal", staged.mnt.to_str().unwrap()]);
    assert_eq!(
        test_store.ok(&[&SEAL[..], &["--json"]].concat()),
        r#"{"artifact":"a","distributed_id":"d","run":"r","files":1,"bytes":1}"#
    );
    assert_eq!(finished(&test_store).len(), 2);
    whole(&test_store, "upsert without a source");
}

#[test]
fn two_sealers_at_once_make_one_contribution_or_one_is_refused() {
    for round in 0..8 {
        let test_store = TestStore::new();
        let staged = stage(&test_store, "r");
        (0..50).for_each(|i| fs::write(staged.at(&format!("f{i}")), random_bytes(round * 50 + i, 5000)).unwrap());
        fs::write(staged.at("large"), random_bytes(round, 10 * LARGE)).unwrap();
        test_store.ok(&["umount", "--no-seal", staged.mnt.to_str().unwrap()]);
        let sealers: Vec<_> = (0..2)
            .map(|_| {
                test_store
                    .cairn(&SEAL)
                    .stderr(std::process::Stdio::piped())
                    .stdout(std::process::Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let ends: Vec<_> = sealers.into_iter().map(|s| s.wait_with_output().unwrap()).collect();
        assert!(
            ends.iter().all(|o| matches!(o.status.code(), Some(0 | 3 | 6))),
            "{:?}",
            ends.iter().map(|o| text(&o.stderr)).collect::<Vec<_>>()
        );
        if ends.iter().all(|o| !o.status.success()) {
            test_store.ok(&SEAL); // each saw the other's lock
        }
        assert_eq!(contributions(&test_store, "r"), 1);
        assert_eq!(finished(&test_store).len(), 51);
        whole(&test_store, "two sealers");
    }
}

#[test]
fn a_sealer_that_was_taken_for_dead_and_continues_loses_nothing() {
    // It is stopped at each of its steps. Its lock is broken meanwhile, and another process seals.
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    make_tree(&staged.mnt, &[("large", &random_bytes(1, LARGE)), ("d/small", b"small"), ("b", b"b")]);
    test_store.ok(&["umount", "--no-seal", staged.mnt.to_str().unwrap()]);
    crate::support::copy_tree(&super::support::backing(&test_store, "r"), &test_store.path("want"));
    crate::support::copy_tree(&test_store.store_path(), &test_store.path("template"));
    for step in (2..).step_by(4) {
        fs::remove_dir_all(test_store.store_path()).unwrap();
        crate::support::copy_tree(&test_store.path("template"), &test_store.store_path());
        let _ = fs::remove_dir_all(test_store.path("got"));
        let mut first = test_store
            .cairn(&SEAL)
            .env("CAIRN_FAULT", format!("stop:{step}"))
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        if !stops(&mut first) {
            break;
        }
        for lock in fs::read_dir(test_store.store_path().join("locks")).unwrap().flatten() {
            fs::remove_file(lock.path()).unwrap();
        }
        let second = test_store.cairn(&SEAL).output().unwrap();
        assert!(matches!(second.status.code(), Some(0 | 6)), "step {step}: {}", text(&second.stderr));
        crate::support::resume(&first);
        first.wait().unwrap();
        test_store.run(&["locks"], 0);
        let again = test_store.cairn(&SEAL).output().unwrap();
        assert!(matches!(again.status.code(), Some(0 | 6)), "step {step}: {}", text(&again.stderr));
        assert!(finished(&test_store) == snapshot(&test_store.path("want")), "step {step}");
        whole(&test_store, &format!("stopped at step {step}"));
    }
}

/// Whether a child stops itself before it ends.
fn stops(child: &mut std::process::Child) -> bool {
    loop {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        match stat.rsplit_once(')').map(|(_, rest)| rest.trim_start().chars().next()) {
            Some(Some('T')) => return true,
            Some(Some('Z')) | None => {
                child.wait().unwrap();
                return false;
            }
            _ => std::thread::sleep(std::time::Duration::from_millis(2)),
        }
    }
}

#[test]
fn stages_are_distinguished_by_inode_and_mount_table() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    fs::write(staged.at("x"), "x").unwrap();
    let (shown, real) = (fs::metadata(staged.at("x")).unwrap(), fs::metadata(staged.backing().join("x")).unwrap());
    assert_eq!((shown.ino(), shown.size(), shown.mtime_nsec()), (real.ino(), real.size(), real.mtime_nsec()));
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|l| l.split(' ').nth(4) == staged.mnt.to_str()).unwrap();
    assert!(line.contains("fuse.cairnfs") && line.contains("rw,nosuid,nodev"), "{line}");
}

#[test]
fn annotations_of_a_seal_are_recorded_whether_a_daemon_seals_or_the_command() {
    let long = format!(r#"{{"k": 1, "long": "{}"}}"#, "é\\\"".repeat(9000));
    let args = ["--alias", "best", "--tag", "t", "--description", "text", "--metadata", &long, "--type", "model"];
    for mounted in [true, false] {
        let test_store = TestStore::new();
        let staged = stage(&test_store, "r");
        fs::write(staged.at("f"), "1").unwrap();
        if !mounted {
            test_store.ok(&["umount", "--no-seal", staged.mnt.to_str().unwrap()]);
        }
        for option in [
            &["--at", "p"][..],
            &["--exclude", "f"],
            &["--follow-symlinks"],
            &["--skip-special"],
            &["--rehash"],
            &["--stdin-filename", "n"],
        ] {
            let stderr = text(&test_store.run(&[&SEAL[..], option].concat(), 2).stderr);
            assert!(stderr.contains(&format!("{} applies to SRC", option[0])), "{stderr}");
        }
        assert_eq!(contributions(&test_store, "r"), 0);
        assert_eq!(test_store.ok(&[&SEAL[..], &args].concat()), "a d r");
        assert_eq!(test_store.ok(&["finish", "a", "--distributed-id", "d"]), "a:v0");
        let shown = test_store.json(&["show", "a"]);
        let (want, shown_text) = (serde_json::from_str::<serde_json::Value>(&long).unwrap(), shown.to_string());
        assert_eq!(shown["metadata"], want, "mounted: {mounted}");
        for part in [r#""model""#, r#""best""#, r#""t""#, r#""text""#] {
            assert!(shown_text.contains(part), "{part} in {shown_text}");
        }
    }
}

#[test]
fn a_seal_by_a_daemon_can_replace_what_the_run_contributed_before() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("old", b"old")]);
    test_store.ok(&["upsert", "a", "src", "--run", "r", "--distributed-id", "d"]);
    let staged = stage(&test_store, "r");
    fs::write(staged.at("new"), "new").unwrap();
    test_store.ok(&[&SEAL[..], &["--replace"]].concat());
    assert_eq!(finished(&test_store).into_keys().collect::<Vec<_>>(), [b"new".to_vec()]);
}

#[test]
fn an_upsert_seals_no_other_run_that_is_mounted_where_its_own_was() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    fs::write(staged.at("r"), "r").unwrap();
    let note = staged.backing().with_extension("mount");
    let other = stage(&test_store, "other");
    fs::write(other.at("half"), "half").unwrap();
    fs::write(note, other.mnt.to_str().unwrap()).unwrap();
    let stderr = text(&test_store.run(&SEAL, 3).stderr);
    assert!(stderr.contains("is held by process"), "{stderr}");
    assert_eq!((contributions(&test_store, "r"), contributions(&test_store, "other")), (0, 0));
}

#[test]
fn of_two_mounts_for_one_run_one_is_made_and_the_error_of_the_other_names_it() {
    let test_store = TestStore::new();
    let points = ["one", "two"].map(|p| test_store.path(p));
    points.iter().for_each(|p| fs::create_dir(p).unwrap());
    for round in 0..10 {
        let start = |at: &std::path::PathBuf| {
            let args = ["mount", at.to_str().unwrap(), "a", "--stage", "--distributed-id", "d", "--run", "r"];
            test_store.cairn(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let mounts = points.each_ref().map(start).map(|c| c.wait_with_output().unwrap());
        let made = mounts.iter().position(|m| m.status.success());
        let stderr = mounts.each_ref().map(|m| text(&m.stderr));
        let Some(made) = made else { panic!("round {round}: both refused: {stderr:?}") };
        assert!(
            mounts[1 - made].status.code() == Some(3) && stderr[1 - made].contains("is held by process "),
            "round {round}: {stderr:?}"
        );
        test_store.ok(&["umount", "--no-seal", points[made].to_str().unwrap()]);
    }
}
