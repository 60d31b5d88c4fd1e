//! A store that several users share. One user's strict umask excludes no other user, an unreadable lock file stops no
//! one, and a user without access gets an error that names the store's owner.

use crate::support::{TestStore, copy_program, make_tree, random_bytes, steps, text};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

const STRANGER: u32 = 65_533;
const MEMBER: u32 = 65_534;

fn is_root() -> bool {
    // SAFETY: geteuid cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        println!("skipped: other users can be played by root alone");
    }
    root
}

/// A test store that other users can reach; they get a copy of the command.
fn reachable_store() -> TestStore {
    let test_store = TestStore::new();
    std::fs::set_permissions(test_store.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    copy_program(env!("CARGO_BIN_EXE_cairn"), &test_store.path("cairn"));
    test_store
}

/// [`reachable_store`], with a store `groups` of the group of [`MEMBER`].
fn with_group_store() -> TestStore {
    let test_store = reachable_store();
    test_store.ok(&["init", "groups", "--group", &MEMBER.to_string()]);
    test_store
}

/// The command as another user; `None` if that user cannot reach the test store.
fn as_user(test_store: &TestStore, uid: u32, args: &[&str]) -> Option<Output> {
    let mut command = Command::new(test_store.path("cairn"));
    command
        .env("CAIRN_STORE", test_store.store_path())
        .env("CAIRN_CACHE_DIR", "")
        .current_dir(test_store.dir.path())
        .args(args)
        .uid(uid)
        .gid(uid)
        .groups_none();
    match command.output() {
        Ok(output) => Some(output),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            println!("skipped: other users cannot reach {}", test_store.dir.path().display());
            None
        }
        Err(e) => panic!("{e}"),
    }
}

trait Groups {
    fn groups_none(&mut self) -> &mut Self;
}

impl Groups for Command {
    fn groups_none(&mut self) -> &mut Self {
        // SAFETY: setgroups is a system call without memory effects; std sets the ids after it.
        unsafe {
            self.pre_exec(|| {
                libc::setgroups(0, std::ptr::null());
                Ok(())
            })
        }
    }
}

/// The command under a umask.
fn with_umask(test_store: &TestStore, umask: u32, args: &[&str]) -> Command {
    let mut command = test_store.cairn(args);
    // SAFETY: umask cannot fail and has no memory effects.
    unsafe {
        command.pre_exec(move || {
            libc::umask(umask);
            Ok(())
        });
    }
    command
}

/// Everything in the store that lacks bits it should have: directories, and files.
fn too_closed(root: &Path, directories: u32, files: u32) -> Vec<String> {
    let mut out = Vec::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1) {
        let Ok(entry) = entry else { continue };
        let Ok(meta) = entry.metadata() else { continue };
        // Objects and packs are read-only; staging directories are a user's.
        let sealed = meta.mode() & 0o222 == 0;
        let wanted = if meta.is_dir() {
            directories
        } else if sealed {
            files & 0o444
        } else {
            files
        };
        if !meta.is_symlink() && meta.mode() & wanted != wanted {
            out.push(format!("{} has {:o}", entry.path().display(), meta.mode()));
        }
    }
    out
}

#[test]
fn what_is_made_in_a_store_is_as_open_as_its_directory_whatever_the_umask() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("a", b"a"), ("large", &random_bytes(1, 200_000))]);
    for (mode, umask, directories, files) in
        [(0o755, 0o077, 0o755, 0o644), (0o750, 0o077, 0o750, 0o640), (0o700, 0o022, 0o755, 0o644)]
    {
        let store = test_store.path(&format!("store-{mode:o}"));
        test_store.ok(&["init", store.to_str().unwrap()]);
        std::fs::set_permissions(&store, PermissionsExt::from_mode(mode)).unwrap();
        let at = ["--store", store.to_str().unwrap()];
        for args in [
            &["put", "x", "d", "--alias", "prod"][..],
            &["patch", "x", "d/a", "--at", "more"],
            &["upsert", "y", "d", "--distributed-id", "j", "--run", "r"],
            &["finish", "y", "--distributed-id", "j"],
            &["rm", "x:v1"],
        ] {
            let output = with_umask(&test_store, umask, &[args, &at].concat()).output().unwrap();
            assert!(output.status.success(), "{}", text(&output.stderr));
        }
        assert_eq!(too_closed(&store, directories, files), Vec::<String>::new(), "{mode:o}");
    }
}

#[test]
fn in_a_groups_store_everything_is_open_to_the_group_from_its_first_moment() {
    if !is_root() {
        return;
    }
    let test_store = TestStore::in_memory();
    make_tree(&test_store.path("d"), &[("a", b"a"), ("large", &random_bytes(1, 200_000))]);
    let store = test_store.path("groups");
    test_store.ok(&["init", "groups", "--group", &MEMBER.to_string()]);
    let copy = test_store.path("copy");
    crate::support::copy_tree(&store, &copy);
    let put = ["put", "x", "d", "--alias", "prod", "--store", "copy"];
    let last = steps(&test_store, &put);
    for step in 1..=last {
        std::fs::remove_dir_all(&copy).unwrap();
        crate::support::copy_tree(&store, &copy);
        with_umask(&test_store, 0o077, &put).env("CAIRN_FAULT", format!("kill:{step}")).output().unwrap();
        assert_eq!(too_closed(&copy, 0o2775, 0o664), Vec::<String>::new(), "killed before step {step} of {last}");
    }
}

#[test]
fn what_is_written_outside_of_a_store_keeps_to_the_users_umask() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("a", b"a"), ("sub/b", b"b")]);
    std::fs::set_permissions(test_store.store_path(), PermissionsExt::from_mode(0o755)).unwrap();
    let put = with_umask(&test_store, 0o077, &["put", "x", "d"]).output().unwrap();
    assert!(put.status.success());
    assert!(with_umask(&test_store, 0o077, &["get", "x", "out"]).output().unwrap().status.success());
    for at in ["out", "out/a", "out/sub"] {
        let mode = std::fs::metadata(test_store.path(at)).unwrap().mode();
        assert_eq!(mode & 0o077, 0, "{at} has {mode:o}");
    }
}

#[test]
fn an_unreadable_lock_file_stops_no_other_user() {
    if !is_root() {
        return;
    }
    let test_store = with_group_store();
    std::fs::write(test_store.path("a"), "a").unwrap();
    let lock = test_store.path("groups/locks").join("a".repeat(32));
    std::fs::write(&lock, "{").unwrap();
    std::fs::set_permissions(&lock, PermissionsExt::from_mode(0o600)).unwrap();
    for args in [
        &["upsert", "e", "a", "--distributed-id", "j", "--run", "r"][..],
        &["drafts"],
        &["locks"],
        &["finish", "e", "--distributed-id", "j"],
    ] {
        let Some(output) = as_user(&test_store, MEMBER, &[args, &["--store", "groups"]].concat()) else { return };
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        assert!(args != ["locks"] || text(&output.stdout).contains("unreadable"), "{}", text(&output.stdout));
    }
}

#[test]
fn an_error_about_missing_rights_names_the_owner_and_mode_of_the_store() {
    if !is_root() {
        return;
    }
    let test_store = reachable_store();
    make_tree(&test_store.path("d"), &[("a", b"a")]);
    test_store.ok(&["put", "x", "d"]);
    let writes: [&[&str]; 6] = [
        &["put", "x", "d"],
        &["put", "new", "d"],
        &["upsert", "x", "d", "--distributed-id", "j", "--run", "r"],
        &["patch", "x", "d", "--at", "p"],
        &["alias", "x:v0", "prod"],
        &["rm", "x:v0"],
    ];
    for args in writes {
        let Some(output) = as_user(&test_store, STRANGER, args) else { return };
        let message = text(&output.stderr);
        assert!(
            output.status.code() == Some(5)
                && message.contains("you may not write to the store")
                && message.contains("(owner root, group root, mode 0"),
            "{args:?}: {message}"
        );
    }
    std::fs::set_permissions(test_store.store_path(), PermissionsExt::from_mode(0o700)).unwrap();
    for args in [&["list"][..], &["get", "x", "out"]] {
        let Some(output) = as_user(&test_store, STRANGER, args) else { return };
        let message = text(&output.stderr);
        assert!(
            output.status.code() == Some(5) && message.contains("you may not read the store"),
            "{args:?}: {message}"
        );
    }
}

#[test]
fn a_collection_says_which_user_must_end_the_token_of_a_dead_process() {
    if !is_root() {
        return;
    }
    let test_store = with_group_store();
    make_tree(&test_store.path("d"), &[("a", b"a"), ("large", &random_bytes(1, 200_000))]);
    test_store.ok(&["put", "x", "d", "--store", "groups"]);
    test_store.ok(&["rm", "x:v0", "--store", "groups"]);
    // A release that followed the umask left this: the token's directory may be written by its owner alone.
    let mut put = test_store.cairn(&["put", "y", "d", "--store", "groups"]);
    assert!(!put.env("CAIRN_FAULT", "kill:12").output().unwrap().status.success());
    let token = std::fs::read_dir(test_store.path("groups/work")).unwrap().next().unwrap().unwrap().path();
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o755)).unwrap();
    // `--wait` ends too: waiting would not help.
    for wait in [&[][..], &["--wait"]] {
        let args = [&["gc", "--min-age", "0", "--store", "groups"][..], wait].concat();
        let Some(output) = as_user(&test_store, MEMBER, &args) else { return };
        let message = text(&output.stderr);
        assert!(output.status.success(), "{message}");
        let name = token.file_name().unwrap().to_str().unwrap();
        assert!(message.contains("nothing more is freed before root runs `cairn gc`"), "{message}");
        assert!(message.contains(name) && message.contains("a put of root on"), "{message}");
        let Some(output) = as_user(&test_store, MEMBER, &[&args[..], &["--json"]].concat()) else { return };
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["freed"]["files"], 0, "{report}");
        let of_other = &report["tokens_of_others"][0];
        assert_eq!(
            (of_other["owner"].as_str(), of_other["is_alive"].as_bool()),
            (Some("root"), Some(false)),
            "{report}"
        );
        assert!(of_other["holder"]["pid"].is_u64() && of_other["since"].is_string(), "{report}");
    }
    // That user's collection ends it, and frees.
    let report = test_store.json(&["gc", "--min-age", "0", "--store", "groups"]);
    assert!(report["freed"]["files"].as_u64() > Some(0) && report["dead_writers"] == 1, "{report}");
}
