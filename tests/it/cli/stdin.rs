//! Standard input and commands as sources, of each command that takes them.

use crate::support::{TestStore, make_tree, random_bytes, text};
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
fn expect(output: Output, status: i32, said: &str) {
    let err = text(&output.stderr);
    assert!(output.status.code() == Some(status) && err.contains(said), "{:?}: {err}", output.status);
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
    let lab = TestStore::new();
    std::fs::write(lab.path("a"), "a").unwrap();
    lab.ok(&["put", "p", "a"]);
    lab.ok(&["upsert", "u", "a", "--distributed-id", "d"]);
    let commands: [&[&str]; 4] = [
        &["put", "x", "-"],
        &["patch", "p", "-"],
        &["upsert", "u", "-", "--distributed-id", "d", "--run", "r"],
        &["finish", "u", "-", "--distributed-id", "d"],
    ];
    for args in commands {
        expect(piped(lab.cairn(args), b""), 3, "standard input had no bytes: nothing was published");
        expect(lab.cairn(args).stdin(Stdio::null()).output().unwrap(), 3, "--allow-empty");
    }
    assert_eq!(lab.json(&["list"]).as_array().unwrap().len(), 1, "only p");
    assert_eq!(lab.json(&["drafts"])[0]["contributions"], 1);
    assert_eq!(lab.ok(&["locks"]), "", "what was refused holds nothing");
    for args in commands {
        expect(piped(lab.cairn(&[args, &["--allow-empty"]].concat()), b""), 0, "");
    }
    for name in ["x", "p", "u"] {
        assert_eq!(lab.run(&["cat", name, "stdin"], 0).stdout, b"");
    }
}

#[test]
fn what_a_command_writes_is_published_only_if_it_succeeds() {
    let lab = TestStore::new();
    make_tree(&lab.path("src"), &[("a.txt", b"hello")]);
    let script = "printf '%s|' \"$@\"; exit $STATUS";
    let with = |args: &[&str], status: &str| {
        let args = [args, &["--stdin-from-command", "--", "sh", "-c", script, "x", "-", "--json", "b c"]].concat();
        lab.cairn(&args).env("STATUS", status).output().unwrap()
    };
    expect(with(&["put", "x", "src", "--stdin-filename", "d/out"], "0"), 0, "");
    assert_eq!(lab.ok(&["cat", "x", "d/out"]), "-|--json|b c|");
    assert_eq!(lab.ok(&["cat", "x", "a.txt"]), "hello");
    expect(with(&["patch", "x", "--at", "more"], "0"), 0, "");
    expect(with(&["upsert", "u", "--distributed-id", "d"], "0"), 0, "");
    let before = (lab.ok(&["list", "x"]), lab.ok(&["drafts"]));
    for args in [
        &["put", "x"][..],
        &["patch", "x"],
        &["upsert", "u", "--distributed-id", "d"],
        &["finish", "u", "--distributed-id", "d"],
    ] {
        expect(with(args, "3"), 5, "`sh` failed (exit status: 3): nothing was published");
    }
    assert_eq!((lab.ok(&["list", "x"]), lab.ok(&["drafts"])), before);
    expect(with(&["finish", "u", "--distributed-id", "d"], "0"), 0, "");
    // A signal, nothing written, no such command, no command.
    let from =
        |command: &[&str]| lab.cairn(&[&["put", "y", "--stdin-from-command"], command].concat()).output().unwrap();
    expect(from(&["--", "sh", "-c", "echo half; kill -KILL $$"]), 5, "signal: 9");
    expect(from(&["--", "true"]), 3, "`true` wrote no bytes");
    expect(from(&["--", "/does/not/exist"]), 6, "cannot run /does/not/exist");
    expect(from(&["echo", "x"]), 2, "needs a command after `--`");
    expect(from(&["-", "--", "echo", "x"]), 2, "and not together with --stdin-from-command");
    assert_eq!(lab.json(&["list"]).as_array().unwrap().len(), 2);
}

#[test]
fn the_users_umask_holds_for_a_command_and_for_what_get_writes() {
    let lab = TestStore::new();
    make_tree(&lab.path("src"), &[("d/a", b"1")]);
    let script = "umask 027; \"$CAIRN\" upsert u src --distributed-id d --stdin-from-command -- sh -c 'umask; echo x'
        \"$CAIRN\" finish u --distributed-id d && \"$CAIRN\" get u out";
    let cairn = lab.cairn(&[]);
    let mut sh = Command::new("sh");
    sh.args(["-c", script]).env("CAIRN", env!("CARGO_BIN_EXE_cairn")).current_dir(lab.dir.path());
    for (key, value) in cairn.get_envs() {
        if let Some(value) = value {
            sh.env(key, value);
        }
    }
    expect(sh.output().unwrap(), 0, "");
    assert_eq!(lab.ok(&["cat", "u", "stdin"]), "0027\nx");
    let mode = |path: &str| std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(lab.path(path)).unwrap()) & 0o777;
    assert_eq!((mode("out"), mode("out/d"), mode("out/d/a")), (0o750, 0o750, 0o640));
}

#[test]
fn a_signal_ends_the_command_too() {
    let lab = TestStore::new();
    let args = ["put", "x", "--stdin-from-command", "--", "sh", "-c", "echo $$ >pid; echo half; exec sleep 60"];
    let mut child = lab.cairn(&args).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the command runs", || std::fs::read_to_string(lab.path("pid")).is_ok_and(|p| p.ends_with('\n')));
    let pid: i32 = std::fs::read_to_string(lab.path("pid")).unwrap().trim().parse().unwrap();
    // SAFETY: a signal to a child of ours that was not waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "it was ended and waited for");
    lab.expect_nothing();
}

#[test]
fn stdin_is_kept_on_the_stores_file_system_and_nothing_is_left_of_it() {
    let lab = TestStore::new();
    let bytes = random_bytes(4, 700_000);
    let command = |args: &[&str]| {
        let mut command = lab.cairn(args);
        command.env("TMPDIR", "/does/not/exist");
        command
    };
    for (name, bytes) in [("large", &bytes[..]), ("small", b"few")] {
        expect(piped(command(&["put", name, "-"]), bytes), 0, "");
        assert_eq!(lab.run(&["cat", name, "stdin"], 0).stdout, bytes);
    }
    let mut child = command(&["put", "killed", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(&bytes).unwrap();
    let fds = format!("/proc/{}/fd", child.id());
    let work = lab.store_path().join("work");
    let spooled = || {
        let mut links = std::fs::read_dir(&fds).unwrap().filter_map(|e| std::fs::read_link(e.ok()?.path()).ok());
        links.any(|l| l.starts_with(&work) && l != work)
    };
    wait_for("it is spooled in the store", spooled);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(std::fs::read_dir(&work).unwrap().count(), 0);
    lab.ok(&["verify"]);
}

#[test]
fn an_upsert_that_reads_stdin_is_seen_by_finish_and_by_its_twin() {
    let lab = TestStore::new();
    std::fs::write(lab.path("a"), "a").unwrap();
    lab.ok(&["upsert", "e", "a", "--distributed-id", "j", "--run", "r0"]);
    let args = ["upsert", "e", "-", "--distributed-id", "j", "--run", "r1"];
    let mut child =
        lab.cairn(&args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(&random_bytes(5, 200_000)).unwrap();
    wait_for("it is at work", || lab.ok(&["locks"]).contains("r1"));
    assert!(lab.fails(&["finish", "e", "--distributed-id", "j"], 3).contains("r1"));
    let twin = ["upsert", "e", "a", "--at", "b", "--distributed-id", "j", "--run", "r1"];
    assert!(lab.fails(&twin, 3).contains("run r1 is already writing"));
    drop(child.stdin.take());
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    lab.ok(&["finish", "e", "--distributed-id", "j", "--expect-run", "r1"]);
    assert_eq!(lab.run(&["cat", "e", "stdin"], 0).stdout, random_bytes(5, 200_000));
    // One that is killed while it reads is not waited for, and one whose draft is finished is refused before it reads.
    let begin = |id: &str| {
        let args = ["upsert", "e", "-", "--distributed-id", id, "--run", "r1"];
        lab.cairn(&args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    lab.ok(&["upsert", "e", "a", "--distributed-id", "k", "--run", "r0"]);
    let mut killed = begin("k");
    wait_for("it is at work", || lab.ok(&["locks"]).contains("r1"));
    killed.kill().unwrap();
    killed.wait().unwrap();
    lab.ok(&["finish", "e", "--distributed-id", "k"]);
    assert_eq!(begin("k").wait().unwrap().code(), Some(3));
}

/// A command whose stdout is read by nobody.
fn with_closed_pipe(lab: &TestStore, args: &[&str]) -> Option<i32> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors, which are owned from here on.
    let write = unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        libc::close(ends[0]);
        std::fs::File::from_raw_fd(ends[1])
    };
    lab.cairn(args).stdout(write).stderr(Stdio::null()).status().unwrap().code()
}

#[test]
fn the_exit_status_is_the_answer_even_if_the_output_is_not_read() {
    let lab = TestStore::new();
    make_tree(&lab.path("src"), &[("a", b"1"), ("b", &random_bytes(1, 200_000))]);
    lab.ok(&["put", "x", "src"]);
    for more in [&[][..], &["--json"], &["--stat"]] {
        assert_eq!(with_closed_pipe(&lab, &[&["diff", "x", "./src"], more].concat()), Some(0), "{more:?}");
    }
    for i in 0..3000 {
        std::fs::write(lab.path(&format!("src/a-file-with-a-long-name-{i}")), "").unwrap();
    }
    for more in [&[][..], &["--json"], &["--stat"]] {
        assert_eq!(with_closed_pipe(&lab, &[&["diff", "x", "./src"], more].concat()), Some(1), "{more:?}");
    }
    assert_eq!(with_closed_pipe(&lab, &["verify"]), Some(0));
    let object = walkdir::WalkDir::new(lab.store_path().join("objects"))
        .into_iter()
        .find(|e| e.as_ref().unwrap().file_type().is_file());
    std::fs::remove_file(object.unwrap().unwrap().path()).unwrap();
    for args in [&["verify"][..], &["verify", "--json"]] {
        assert_eq!(with_closed_pipe(&lab, args), Some(1), "{args:?}");
    }
}

#[test]
fn an_empty_cairn_store_is_none_and_a_working_directory_that_is_gone_is_not_needed() {
    let lab = TestStore::new();
    make_tree(&lab.path("project"), &[("a", b"1")]);
    let out = lab.cairn(&["init"]).env("CAIRN_STORE", "").current_dir(lab.path("project")).output().unwrap();
    expect(out, 0, "");
    let out = lab.cairn(&["put", "x", "a"]).env("CAIRN_STORE", "").current_dir(lab.path("project")).output().unwrap();
    expect(out, 0, "");
    let out = lab.cairn(&["list"]).env("CAIRN_STORE", "").output().unwrap();
    expect(out, 6, "no store: neither --store nor CAIRN_STORE is given");
    let out = lab.cairn(&["--store", "", "list"]).output().unwrap();
    expect(out, 2, "--store");
    // From a directory that is gone.
    let gone = |store: &str, command: &str| {
        let script =
            format!("mkdir gone && cd gone && rmdir ../gone && exec {} {command}", env!("CARGO_BIN_EXE_cairn"));
        let mut sh = lab.cairn(&[]);
        let vars: Vec<_> = sh.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
        sh = Command::new("sh");
        for (key, value) in vars {
            match value {
                Some(value) => sh.env(key, value),
                None => sh.env_remove(key),
            };
        }
        sh.args(["-c", &script]).env("CAIRN_STORE", store).current_dir(lab.dir.path()).output().unwrap()
    };
    let store = lab.str("store");
    expect(gone(&store, &format!("put y {}", lab.str("project/a"))), 0, "");
    expect(gone(&store, &format!("get y {}", lab.str("out"))), 0, "");
    expect(gone(&store, "list"), 0, "");
    expect(gone("", "list"), 5, "name the store with --store or CAIRN_STORE");
    assert_eq!(std::fs::read(lab.path("out/a")).unwrap(), b"1");
}

#[test]
fn a_path_that_is_missing_is_not_found_and_metadata_that_is_not_utf_8_is_bad_input() {
    let lab = TestStore::new();
    std::fs::write(lab.path("a"), "a").unwrap();
    std::fs::write(lab.path("m.json"), b"{\"k\":\"\xff\"}").unwrap();
    assert!(lab.fails(&["seal", "nowhere"], 6).contains("nowhere: it does not exist"));
    assert!(
        lab.fails(&["put", "y", "a", "--metadata", "@m.json"], 2).contains("m.json cannot be used: it is not UTF-8")
    );
    lab.expect_nothing();
}

#[test]
fn a_description_cannot_control_the_terminal_that_shows_it() {
    let lab = TestStore::new();
    std::fs::write(lab.path("a"), "a").unwrap();
    let description = "one\x1b[31m red\x07\r\nzwei: ä\u{9b}2J";
    lab.ok(&["put", "x", "a", "--description", description]);
    let (mut master, mut slave) = (0, 0);
    // SAFETY: room for two descriptors; names and settings are left out.
    let opened =
        unsafe { libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), std::ptr::null()) };
    assert_eq!(opened, 0);
    // SAFETY: just opened, and owned from here on.
    let (mut master, slave) = unsafe { (std::fs::File::from_raw_fd(master), std::fs::File::from_raw_fd(slave)) };
    let mut command = lab.cairn(&["show", "x"]);
    assert!(command.stdout(slave).status().unwrap().success());
    drop(command); // it holds the other end
    let mut shown = Vec::new();
    let _ = std::io::Read::read_to_end(&mut master, &mut shown); // ends with EIO
    let shown = text(&shown);
    assert!(shown.contains("one\\u{1b}[31m red\\u{7}\\r") && shown.contains("zwei: ä\\u{9b}2J"), "{shown:?}");
    assert!(!shown.chars().any(|c| c.is_control() && !matches!(c, '\r' | '\n')), "{shown:?}");
    // To anything else it goes as it is.
    assert!(text(&lab.run(&["show", "x"], 0).stdout).contains("one\x1b[31m red"));
}
