//! Standard input and commands as sources, of each command that takes them.

use crate::support::{TestStore, files, make_tree, random_bytes, text};
use std::io::Write;
use std::os::fd::FromRawFd;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn piped(mut command: Command, bytes: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(bytes); // a command that refuses does not read
    child.wait_with_output().unwrap()
}

#[track_caller]
fn expect(output: Output, status: i32, message: &str) {
    let err = text(&output.stderr);
    assert!(output.status.code() == Some(status) && err.contains(message), "{:?}: {err}", output.status);
}

fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_empty_stdin_is_refused_unless_it_is_allowed() {
    let test_store = TestStore::new();
    std::fs::write(test_store.path("a"), "a").unwrap();
    test_store.ok(&["put", "p", "a"]);
    test_store.ok(&["upsert", "u", "a", "--distributed-id", "d"]);
    let commands: [&[&str]; 4] = [
        &["put", "x", "-"],
        &["patch", "p", "-"],
        &["upsert", "u", "-", "--distributed-id", "d", "--run", "r"],
        &["finish", "u", "-", "--distributed-id", "d"],
    ];
    for args in commands {
        expect(piped(test_store.cairn(args), b""), 3, "standard input had no bytes: nothing was published");
        expect(test_store.cairn(args).stdin(Stdio::null()).output().unwrap(), 3, "--allow-empty");
    }
    assert_eq!(test_store.json(&["list"]).as_array().unwrap().len(), 1, "only p");
    assert_eq!(test_store.json(&["drafts"])[0]["contributions"], 1);
    assert_eq!(test_store.ok(&["locks"]), "", "what was refused holds nothing");
    for args in commands {
        expect(piped(test_store.cairn(&[args, &["--allow-empty"]].concat()), b""), 0, "");
    }
    for name in ["x", "p", "u"] {
        assert_eq!(test_store.run(&["cat", name, "stdin"], 0).stdout, b"");
    }
}

#[test]
fn what_a_command_writes_is_published_only_if_it_succeeds() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("a.txt", b"hello")]);
    let script = "printf '%s|' \"$@\"; exit $STATUS";
    let with = |args: &[&str], status: &str| {
        let args = [args, &["--stdin-from-command", "--", "sh", "-c", script, "x", "-", "--json", "b c"]].concat();
        test_store.cairn(&args).env("STATUS", status).output().unwrap()
    };
    expect(with(&["put", "x", "src", "--stdin-filename", "d/out"], "0"), 0, "");
    assert_eq!(test_store.ok(&["cat", "x", "d/out"]), "-|--json|b c|");
    assert_eq!(test_store.ok(&["cat", "x", "a.txt"]), "hello");
    expect(with(&["patch", "x", "--at", "more"], "0"), 0, "");
    expect(with(&["upsert", "u", "--distributed-id", "d"], "0"), 0, "");
    let before = (test_store.ok(&["list", "x"]), test_store.ok(&["drafts"]));
    for args in [
        &["put", "x"][..],
        &["patch", "x"],
        &["upsert", "u", "--distributed-id", "d"],
        &["finish", "u", "--distributed-id", "d"],
    ] {
        expect(with(args, "3"), 5, "`sh` failed (exit status: 3): nothing was published");
    }
    assert_eq!((test_store.ok(&["list", "x"]), test_store.ok(&["drafts"])), before);
    expect(with(&["finish", "u", "--distributed-id", "d"], "0"), 0, "");
    // A signal, nothing written, no such command, no command.
    let from = |command: &[&str]| {
        test_store.cairn(&[&["put", "y", "--stdin-from-command"], command].concat()).output().unwrap()
    };
    expect(from(&["--", "sh", "-c", "echo half; kill -KILL $$"]), 5, "signal: 9");
    expect(from(&["--", "true"]), 3, "`true` wrote no bytes");
    expect(from(&["--", "/does/not/exist"]), 6, "cannot run /does/not/exist");
    expect(from(&["echo", "x"]), 2, "needs a command after `--`");
    expect(from(&["-", "--", "echo", "x"]), 2, "and not together with --stdin-from-command");
    assert_eq!(test_store.json(&["list"]).as_array().unwrap().len(), 2);
}

#[test]
fn the_users_umask_holds_for_a_command_and_for_what_get_writes() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("d/a", b"1")]);
    let script = "umask 027; \"$CAIRN\" upsert u src --distributed-id d --stdin-from-command -- sh -c 'umask; echo x'
        \"$CAIRN\" finish u --distributed-id d && \"$CAIRN\" get u out";
    let cairn = test_store.cairn(&[]);
    let mut sh = Command::new("sh");
    sh.args(["-c", script]).env("CAIRN", env!("CARGO_BIN_EXE_cairn")).current_dir(test_store.dir.path());
    for (key, value) in cairn.get_envs() {
        if let Some(value) = value {
            sh.env(key, value);
        }
    }
    expect(sh.output().unwrap(), 0, "");
    assert_eq!(test_store.ok(&["cat", "u", "stdin"]), "0027\nx");
    let mode =
        |path: &str| std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(test_store.path(path)).unwrap()) & 0o777;
    assert_eq!((mode("out"), mode("out/d"), mode("out/d/a")), (0o750, 0o750, 0o640));
}

#[test]
fn a_signal_ends_the_command_too() {
    let test_store = TestStore::new();
    let args = ["put", "x", "--stdin-from-command", "--", "sh", "-c", "echo $$ >pid; echo half; exec sleep 60"];
    let mut child = test_store.cairn(&args).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the command runs", || std::fs::read_to_string(test_store.path("pid")).is_ok_and(|p| p.ends_with('\n')));
    let pid: i32 = std::fs::read_to_string(test_store.path("pid")).unwrap().trim().parse().unwrap();
    // SAFETY: a signal to a child of ours that was not waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "it was ended and waited for");
    test_store.expect_nothing();
}

#[test]
fn stdin_is_kept_on_the_stores_file_system_and_nothing_is_left_of_it() {
    let test_store = TestStore::new();
    let bytes = random_bytes(4, 700_000);
    let command = |args: &[&str]| {
        let mut command = test_store.cairn(args);
        command.env("TMPDIR", "/does/not/exist");
        command
    };
    for (name, bytes) in [("large", &bytes[..]), ("small", b"few")] {
        expect(piped(command(&["put", name, "-"]), bytes), 0, "");
        assert_eq!(test_store.run(&["cat", name, "stdin"], 0).stdout, bytes);
    }
    let mut child = command(&["put", "killed", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(&bytes).unwrap();
    let fds = format!("/proc/{}/fd", child.id());
    let work = test_store.store_path().join("work");
    let spooled = || {
        let mut links = std::fs::read_dir(&fds).unwrap().filter_map(|e| std::fs::read_link(e.ok()?.path()).ok());
        links.any(|l| l.starts_with(&work) && l != work)
    };
    wait_for("it is spooled in the store", spooled);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(std::fs::read_dir(&work).unwrap().count(), 0);
    test_store.ok(&["verify"]);
}

#[test]
fn an_upsert_that_reads_stdin_is_seen_by_finish_and_by_its_twin() {
    let test_store = TestStore::new();
    std::fs::write(test_store.path("a"), "a").unwrap();
    test_store.ok(&["upsert", "e", "a", "--distributed-id", "j", "--run", "r0"]);
    let args = ["upsert", "e", "-", "--distributed-id", "j", "--run", "r1"];
    let mut child =
        test_store.cairn(&args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(&random_bytes(5, 200_000)).unwrap();
    wait_for("it is at work", || test_store.ok(&["locks"]).contains("r1"));
    assert!(test_store.fails(&["finish", "e", "--distributed-id", "j"], 3).contains("r1"));
    let twin = ["upsert", "e", "a", "--at", "b", "--distributed-id", "j", "--run", "r1"];
    assert!(test_store.fails(&twin, 3).contains("run r1 is already writing"));
    drop(child.stdin.take());
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    test_store.ok(&["finish", "e", "--distributed-id", "j", "--expect-run", "r1"]);
    assert_eq!(test_store.run(&["cat", "e", "stdin"], 0).stdout, random_bytes(5, 200_000));
    // One that is killed while it reads is not waited for, and one whose draft is finished is refused before it reads.
    let begin = |id: &str| {
        let args = ["upsert", "e", "-", "--distributed-id", id, "--run", "r1"];
        test_store.cairn(&args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    test_store.ok(&["upsert", "e", "a", "--distributed-id", "k", "--run", "r0"]);
    let mut killed = begin("k");
    wait_for("it is at work", || test_store.ok(&["locks"]).contains("r1"));
    killed.kill().unwrap();
    killed.wait().unwrap();
    test_store.ok(&["finish", "e", "--distributed-id", "k"]);
    assert_eq!(begin("k").wait().unwrap().code(), Some(3));
}

/// A command whose stdout no process reads.
fn with_closed_pipe(test_store: &TestStore, args: &[&str]) -> Option<i32> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors, which are owned from here on.
    let write = unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        libc::close(ends[0]);
        std::fs::File::from_raw_fd(ends[1])
    };
    test_store.cairn(args).stdout(write).stderr(Stdio::null()).status().unwrap().code()
}

#[test]
fn the_exit_status_is_the_answer_even_if_the_output_is_not_read() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("a", b"1"), ("b", &random_bytes(1, 200_000))]);
    test_store.ok(&["put", "x", "src"]);
    for more in [&[][..], &["--json"], &["--stat"]] {
        assert_eq!(with_closed_pipe(&test_store, &[&["diff", "x", "./src"], more].concat()), Some(0), "{more:?}");
    }
    for i in 0..3000 {
        std::fs::write(test_store.path(&format!("src/a-file-with-a-long-name-{i}")), "").unwrap();
    }
    for more in [&[][..], &["--json"], &["--stat"]] {
        assert_eq!(with_closed_pipe(&test_store, &[&["diff", "x", "./src"], more].concat()), Some(1), "{more:?}");
    }
    assert_eq!(with_closed_pipe(&test_store, &["verify"]), Some(0));
    std::fs::remove_file(&files(&test_store.store_path().join("objects"))[0]).unwrap();
    for args in [&["verify"][..], &["verify", "--json"]] {
        assert_eq!(with_closed_pipe(&test_store, args), Some(1), "{args:?}");
    }
}

#[test]
fn an_empty_cairn_store_is_none_and_a_working_directory_that_is_gone_is_not_needed() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("project"), &[("a", b"1")]);
    let out =
        test_store.cairn(&["init"]).env("CAIRN_STORE", "").current_dir(test_store.path("project")).output().unwrap();
    expect(out, 0, "");
    let out = test_store
        .cairn(&["put", "x", "a"])
        .env("CAIRN_STORE", "")
        .current_dir(test_store.path("project"))
        .output()
        .unwrap();
    expect(out, 0, "");
    let out = test_store.cairn(&["list"]).env("CAIRN_STORE", "").output().unwrap();
    expect(out, 6, "no store: none is named, CAIRN_STORE is not set");
    let out = test_store.cairn(&["--store", "", "list"]).output().unwrap();
    expect(out, 2, "--store");
    // From a directory that is gone.
    let gone = |store: &str, command: &str| {
        let script =
            format!("mkdir gone && cd gone && rmdir ../gone && exec {} {command}", env!("CARGO_BIN_EXE_cairn"));
        let mut sh = test_store.cairn(&[]);
        let vars: Vec<_> = sh.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
        sh = Command::new("sh");
        for (key, value) in vars {
            match value {
                Some(value) => sh.env(key, value),
                None => sh.env_remove(key),
            };
        }
        sh.args(["-c", &script]).env("CAIRN_STORE", store).current_dir(test_store.dir.path()).output().unwrap()
    };
    let store = test_store.str("store");
    expect(gone(&store, &format!("put y {}", test_store.str("project/a"))), 0, "");
    expect(gone(&store, &format!("get y {}", test_store.str("out"))), 0, "");
    expect(gone(&store, "list"), 0, "");
    expect(gone("", "list"), 5, "name the store with --store or CAIRN_STORE");
    assert_eq!(std::fs::read(test_store.path("out/a")).unwrap(), b"1");
}

#[test]
fn a_path_that_is_missing_is_not_found_and_metadata_that_is_not_utf_8_is_bad_input() {
    let test_store = TestStore::new();
    std::fs::write(test_store.path("a"), "a").unwrap();
    std::fs::write(test_store.path("m.json"), b"{\"k\":\"\xff\"}").unwrap();
    assert!(test_store.fails(&["seal", "nowhere"], 6).contains("nowhere: it does not exist"));
    assert!(
        test_store
            .fails(&["put", "y", "a", "--metadata", "@m.json"], 2)
            .contains("m.json cannot be used: it is not UTF-8")
    );
    test_store.expect_nothing();
}

#[test]
fn a_description_cannot_control_the_terminal_that_shows_it() {
    let test_store = TestStore::new();
    std::fs::write(test_store.path("a"), "a").unwrap();
    let description = "one\x1b[31m red\x07\r\nzwei: ä\u{9b}2J";
    test_store.ok(&["put", "x", "a", "--description", description]);
    let (mut master, mut slave) = (0, 0);
    // SAFETY: room for two descriptors; names and settings are left out.
    let opened =
        unsafe { libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), std::ptr::null()) };
    assert_eq!(opened, 0);
    // SAFETY: just opened, and owned from here on.
    let (mut master, slave) = unsafe { (std::fs::File::from_raw_fd(master), std::fs::File::from_raw_fd(slave)) };
    let mut command = test_store.cairn(&["show", "x"]);
    assert!(command.stdout(slave).status().unwrap().success());
    drop(command); // it holds the other end
    let mut shown = Vec::new();
    let _ = std::io::Read::read_to_end(&mut master, &mut shown); // ends with EIO
    let shown = text(&shown);
    assert!(shown.contains("one\\u{1b}[31m red\\u{7}\\r") && shown.contains("zwei: ä\\u{9b}2J"), "{shown:?}");
    assert!(!shown.chars().any(|c| c.is_control() && !matches!(c, '\r' | '\n')), "{shown:?}");
    // To anything else it goes as it is.
    assert!(text(&test_store.run(&["show", "x"], 0).stdout).contains("one\x1b[31m red"));
}
