//! What holds for all commands.

use crate::support::{TestStore, make_tree, random_bytes, text};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const COMMANDS: [&str; 46] = [
    "table",
    "access",
    "upgrade",
    "gc",
    "init",
    "put",
    "upsert",
    "finish",
    "drafts",
    "draft",
    "patch",
    "copy",
    "fetch",
    "list",
    "ls",
    "show",
    "cat",
    "get",
    "diff",
    "verify",
    "locks",
    "rm",
    "restore",
    "alias",
    "unalias",
    "tag",
    "untag",
    "annotate",
    "log",
    "mount",
    "mounts",
    "seal",
    "umount",
    "demo",
    "completions",
    "manpages",
    "version",
    "cache",
    "warm",
    "find",
    "du",
    "archive",
    "manifest",
    "info",
    "use",
    "lineage",
];

#[test]
fn every_command_has_an_example_in_its_help() {
    let test_store = TestStore::new();
    for command in COMMANDS {
        let help = test_store.ok(&[command, "--help"]);
        assert!(
            help.contains("Example") && help.contains(&format!("  cairn {command}"))
                || help.contains(&format!("| cairn {command}")),
            "{command}: {help}"
        );
        assert!(help.lines().all(|l| l.chars().count() <= 104), "{command}: {help}");
    }
    let help = test_store.ok(&["--help"]);
    for command in COMMANDS {
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
    }
    assert!(test_store.ok(&["--version"]).starts_with("cairn "));
}

#[test]
fn without_a_command_the_help_is_shown_and_the_status_is_2() {
    let out = TestStore::new().run(&[], 2);
    assert!(text(&out.stderr).contains("Usage: cairn"));
}

#[test]
fn global_options_stand_before_or_after_the_command() {
    let test_store = TestStore::new();
    let store = test_store.str("store");
    for args in [
        vec!["--json", "--store", &store, "list"],
        vec!["list", "--json", "--store", &store],
        vec!["--store", &store, "list", "--json"],
        vec!["-q", "--json", "list"],
        vec!["list", "-q", "--json"],
    ] {
        let out = test_store
            .cairn(&args)
            .env_remove("CAIRN_STORE")
            .env("CAIRN_STORE", if args.len() == 4 { &store } else { "" })
            .output()
            .unwrap();
        let out = if args.contains(&"-q") { test_store.run(&args, 0) } else { out };
        assert_eq!((out.status.code(), text(&out.stdout)), (Some(0), "[]\n".into()), "{args:?}: {}", text(&out.stderr));
    }
}

#[test]
fn usage_errors_are_status_2_in_the_one_form_and_json_under_json() {
    let test_store = TestStore::new();
    for args in [
        vec!["putt"],
        vec!["put"],
        vec!["put", "x"],
        vec!["list", "--no-such"],
        vec!["ls"],
        vec!["get", "x"],
        vec!["get", "x", "d", "--link", "soft"],
        vec!["rm"],
    ] {
        let message = test_store.fails(&args, 2);
        assert!(message.contains("\nhint: "), "{args:?}: {message}");
        let out = test_store.run(&[&["--json"], args.as_slice()].concat(), 2);
        let error: serde_json::Value = serde_json::from_slice(&out.stderr).unwrap();
        assert!(
            error["error"].is_string() && error["causes"].is_array() && error["hint"].is_string() && error["exit"] == 2,
            "{error}"
        );
        assert!(out.stdout.is_empty());
    }
    test_store.expect_nothing();
}

#[test]
fn errors_about_arguments_say_what_to_write() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("a", b"1")]);
    test_store.ok(&["put", "images", "src"]);
    for (args, wanted) in [
        (&["put", "images"][..], "nothing to put: images gets no SRC"),
        (&["put", "images", "src", "--at", "/x"], "it is absolute"),
        (&["cat", "images", ""], "the path is empty"),
        (&["list", "images:v0"], "\"images:v0\" is a version; here the artifact name alone is expected"),
        (&["list", "images:v0"], "hint: write `images`"),
        (&["alias", "images", "a/b"], "it must not contain / or :"),
        (&["lineage", "images", "--depth", "0"], "expected a whole number from 1 to 1000"),
        (&["list", "-n", "x"], "expected a whole number"),
        (&["find", "[ab"], "`[ab` is not a pattern of paths: unclosed character class"),
        (&["use", "images"], "no run is named"),
    ] {
        let message = test_store.fails(args, 2);
        assert!(message.contains(wanted) && !message.contains("**/"), "{args:?}: {message}");
    }
    test_store.ok(&["tag", "images", "for review", "golden"]);
    test_store.ok(&["untag", "images", "golden"]);
    let log = test_store.ok(&["log", "images"]);
    assert!(log.contains("images:v0 tagged for review, golden") && log.contains("images:v0 untagged golden"), "{log}");
    test_store.ok(&["alias", "images", "prod"]);
    let message = test_store.fails(&["alias", "images", "prod", "--expect", "v4"], 3);
    assert!(message.contains("hint: to move it all the same, give --expect v0, or omit --expect"), "{message}");
}

#[test]
fn errors_say_what_was_expected_and_found_and_the_next_step() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("a", b"1")]);
    test_store.ok(&["put", "images", "src"]);
    let message = test_store.fails(&["show", "imges"], 6);
    assert_eq!(message, "error: there is no artifact imges\nhint: did you mean images?\n");
    let error = test_store.run(&["show", "images:v7", "--json"], 6).stderr;
    let error: serde_json::Value = serde_json::from_slice(&error).unwrap();
    assert_eq!(
        error,
        serde_json::json!({
            "error": "there is no version images:v7", "causes": [], "hint": "it has v0, and latest", "exit": 6,
            "kind": "not_found",
            "detail": { "type": "not_found", "what": "version", "name": "images:v7", "candidates": [] },
        })
    );
    test_store.ok(&["alias", "images:v0", "prod"]);
    let moved = test_store.run(&["alias", "images:v0", "prod", "--expect", "none", "--json"], 3).stderr;
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&moved).unwrap()["detail"],
        serde_json::json!({ "type": "alias_moved", "alias": "prod", "expected": null, "found": "v0" })
    );
    let message = test_store.fails(&["--store", "/nonexistent", "list"], 6);
    assert!(message.contains("hint: `cairn init DIR` makes one"), "{message}");
}

#[test]
fn the_store_comes_from_the_option_or_the_environment_or_the_nearest_directory_above() {
    let test_store = TestStore::new();
    std::fs::create_dir_all(test_store.path("w/deep/er")).unwrap();
    let at = |dir: &str, args: &[&str]| {
        test_store.cairn(args).env_remove("CAIRN_STORE").current_dir(test_store.path(dir)).output().unwrap()
    };
    let out = at("w/deep", &["list"]);
    assert_eq!(out.status.code(), Some(6));
    assert!(text(&out.stderr).contains("`cairn init` makes one"));
    let out = at("w", &["init"]);
    assert_eq!(
        text(&out.stdout).trim_end(),
        std::fs::canonicalize(test_store.path("w/.cairn")).unwrap().to_str().unwrap()
    );
    assert_eq!(text(&at("w/deep/er", &["list", "--json"]).stdout), "[]\n");
    assert_eq!(at("w/deep/er", &["put", "x", "."]).status.code(), Some(0));
    assert!(text(&at("w", &["list"]).stdout).starts_with("x  dataset  1  v0  "));
    assert_eq!(test_store.ok(&["list"]), "", "the environment's store is another one");
    assert!(test_store.ok(&["list", "--store", "w/.cairn"]).starts_with("x  dataset  1  v0  "));
}

#[test]
fn init_on_a_store_or_on_what_is_not_empty_changes_nothing() {
    let test_store = TestStore::new();
    let before = std::fs::read(test_store.path("store/cairn.json")).unwrap();
    assert!(test_store.fails(&["init", "store"], 3).contains("is a store already"));
    assert!(test_store.fails(&["init"], 3).contains("is a store already"), "CAIRN_STORE is where init makes one");
    assert_eq!(std::fs::read(test_store.path("store/cairn.json")).unwrap(), before);
    make_tree(&test_store.path("full"), &[("a", b"1")]);
    test_store.fails(&["init", "full"], 3);
    assert_eq!(std::fs::read_dir(test_store.path("full")).unwrap().count(), 1);
    assert!(test_store.json(&["init", "new"])["path"].as_str().unwrap().ends_with("/new"));
    test_store.fails(&["init", "other", "--group", "no-such-group"], 2);
    test_store.ok(&["init", "other", "--group", "0", "--cache-bound", "7"]);
    assert!(
        std::fs::read_to_string(test_store.path("other/cairn.json")).unwrap().contains("\"cache_bound_seconds\": 7")
    );
}

#[test]
fn stdout_is_data_and_quiet_silences_status_messages_but_not_errors() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("a", b"1")]);
    let out = test_store.run(&["put", "x", "src"], 0);
    assert_eq!(
        (text(&out.stdout).as_str(), text(&out.stderr).as_str()),
        ("x:v0\n", "1 file, 1 B; 1 B new in the store\n")
    );
    let out = test_store.run(&["put", "x", "src", "-q"], 0);
    assert_eq!((text(&out.stdout).as_str(), text(&out.stderr).as_str()), ("x:v0\n", ""));
    assert!(text(&test_store.run(&["-q", "show", "y"], 6).stderr).starts_with("error: "));
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let test_store = TestStore::new();
    let names: Vec<String> = (0..1500).map(|i| format!("{}-{i:05}", "n".repeat(80))).collect();
    make_tree(&test_store.path("src"), &names.iter().map(|n| (n.as_str(), b"" as &[u8])).collect::<Vec<_>>());
    test_store.ok(&["put", "x", "src"]);
    for args in [
        vec!["ls", "x", "-R"],
        vec!["ls", "x", "-R", "--json"],
        vec!["ls", "x"],
        vec!["diff", "x", "./store", "--json"],
        vec!["--help"],
        vec!["put", "--help"],
        vec!["completions", "bash"],
    ] {
        let mut child = test_store.cairn(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let out = child.wait_with_output().unwrap();
        assert!(
            matches!(out.status.code(), Some(0 | 1)) && out.stderr.is_empty(),
            "{args:?}: {:?} {}",
            out.status,
            text(&out.stderr)
        );
    }
    let out = Command::new("sh")
        .arg("-c")
        .arg(format!("'{}' ls -R x | head -1; exit ${{PIPESTATUS:-0}}", env!("CARGO_BIN_EXE_cairn")))
        .env("CAIRN_STORE", test_store.store_path())
        .output()
        .unwrap();
    assert_eq!(
        (out.status.code(), text(&out.stdout), text(&out.stderr)),
        (Some(0), format!("{}\n", names[0]), String::new())
    );
}

#[test]
fn a_write_to_stdout_that_fails_is_an_io_error() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("a", b"1")]);
    test_store.ok(&["put", "x", "src"]);
    for args in [vec!["list"], vec!["ls", "x", "--json"], vec!["cat", "x", "a"], vec!["show", "x"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let out = test_store.cairn(&args).stdout(full).output().unwrap();
        assert_eq!(out.status.code(), Some(5), "{args:?}");
        assert!(text(&out.stderr).contains("cannot write to standard output"), "{}", text(&out.stderr));
    }
}

#[test]
fn an_interrupted_put_says_what_was_kept_and_makes_nothing() {
    let test_store = TestStore::new();
    for json in [false, true] {
        let args: &[&str] = if json { &["put", "x", "-", "--json"] } else { &["put", "x", "-"] };
        let tmp = test_store.path("tmp");
        std::fs::create_dir_all(&tmp).unwrap();
        let mut child = test_store
            .cairn(args)
            .env("TMPDIR", &tmp)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let bytes = vec![b'x'; 400_000]; // more than a pipe and the memory hold, so it is being read and spooled
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), &bytes).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        // SAFETY: the child runs: it waits for stdin.
        unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
        let stdin = child.stdin.take();
        let out = child.wait_with_output().unwrap();
        drop(stdin);
        assert_eq!(out.status.code(), Some(130));
        for dir in [tmp, test_store.store_path().join("work")] {
            assert!(std::fs::read_dir(&dir).unwrap().next().is_none(), "what came through the pipe stays in {dir:?}");
        }
        let message = text(&out.stderr);
        if json {
            let error: serde_json::Value = serde_json::from_str(message.trim()).unwrap();
            assert!(error["exit"] == 130 && error["hint"].as_str().unwrap().contains("kept"), "{message}");
        } else {
            assert!(
                message.contains("error: interrupted\nhint: ")
                    && message.contains("run the same put again, and it stores only the rest"),
                "{message}"
            );
        }
        test_store.expect_nothing();
    }
    make_tree(&test_store.path("src"), &[("a", b"1")]);
    assert_eq!(test_store.ok(&["put", "x", "src"]), "x:v0");
}

#[test]
fn what_an_interrupted_put_stored_is_kept_and_it_leaves_no_lock_and_no_temporaries() {
    for (signal, status, error) in [
        (libc::SIGINT, 130, "interrupted"),
        (libc::SIGTERM, 143, "interrupted by SIGTERM"),
        (libc::SIGHUP, 129, "interrupted by SIGHUP"),
    ] {
        interrupted_put(&["put", "x", "src"], signal, status, error);
    }
    interrupted_put(&["patch", "x", "src", "--create"], libc::SIGTERM, 143, "interrupted by SIGTERM");
    interrupted_put(
        &["upsert", "x", "src", "--distributed-id", "j", "--run", "r"],
        libc::SIGTERM,
        143,
        "interrupted by SIGTERM",
    );
}

/// Interrupts `args` (they store `src`, which takes long) and checks that the store is left in order, and that a put
/// stores only the rest.
fn interrupted_put(args: &[&str], signal: i32, status: i32, error: &str) {
    let test_store = TestStore::new();
    let small: Vec<(String, Vec<u8>)> = (0..300).map(|i| (format!("a{i:03}"), random_bytes(i, 10_000))).collect();
    make_tree(&test_store.path("src"), &small.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect::<Vec<_>>());
    make_tree(&test_store.path("src"), &[("b-large", &random_bytes(999, 3_000_000))]);
    std::fs::File::create(test_store.path("src/z-hole")).unwrap().set_len(40 << 30).unwrap(); // takes long to hash
    let mut command = test_store.cairn(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: signal is safe between fork and exec. Under nohup, a hangup would stay ignored.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            Ok(())
        })
    };
    let child = command.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    // SAFETY: the child runs: it is not waited for yet.
    unsafe { libc::kill(child.id() as i32, signal) };
    let begun = Instant::now();
    let out = child.wait_with_output().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(15), "it stops in the middle of a file");
    assert_eq!((out.status.code(), text(&out.stdout)), (Some(status), String::new()), "{}", text(&out.stderr));
    let message = text(&out.stderr);
    assert!(
        message.contains(&format!("error: {error}\nhint: no ")) && message.contains("are kept: run the same"),
        "{message}"
    );
    test_store.expect_nothing();
    assert_eq!(test_store.json(&["locks"]), serde_json::json!([]));
    assert_eq!(std::fs::read_dir(test_store.path("store/work")).unwrap().count(), 0);
    std::fs::remove_file(test_store.path("src/z-hole")).unwrap();
    let put = test_store.json(&["put", "x", "src"]);
    assert_eq!(
        (&put["files"], &put["created"], &put["new_bytes"]),
        (&301.into(), &true.into(), &0.into()),
        "only the rest is stored: nothing"
    );
    assert_eq!(test_store.json(&["verify"])["findings"], serde_json::json!([]));
}

#[test]
fn long_work_shows_a_bar_on_a_terminal_and_only_there() {
    let test_store = TestStore::new();
    std::fs::create_dir(test_store.path("src")).unwrap();
    std::fs::File::create(test_store.path("src/hole")).unwrap().set_len(600 << 20).unwrap();
    let (terminal, mut other_side) = open_terminal();
    let begun = Instant::now();
    let reader = std::thread::spawn(move || {
        let mut seen = Vec::new();
        let _ = std::io::Read::read_to_end(&mut other_side, &mut seen); // a terminal ends with EIO
        text(&seen)
    });
    let status = test_store.cairn(&["put", "x", "src"]).stdout(Stdio::null()).stderr(terminal).status().unwrap();
    let took = begun.elapsed();
    let seen = reader.join().unwrap();
    assert!(status.success());
    if took > Duration::from_millis(1200) {
        assert!(
            seen.contains("put: storing 0/1 file") && seen.contains("/600.00 MiB"),
            "{took:?}: {}",
            &seen[..seen.len().min(500)]
        );
    }
    let mut child = test_store
        .cairn(&["put", "y", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(700));
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"x").unwrap();
    let message = text(&child.wait_with_output().unwrap().stderr);
    assert_eq!(message, "1 file, 1 B; 1 B new in the store\n");
}

#[test]
fn on_a_terminal_tables_have_headings_and_names_cannot_command_it() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("evil\u{1b}[2Jname", b"1")]);
    test_store.ok(&["put", "x", "src"]);
    let seen = |args: &[&str]| {
        let (terminal, mut other_side) = open_terminal();
        assert!(test_store.cairn(args).stdout(terminal).status().unwrap().success());
        let mut seen = [0; 4096];
        let n = std::io::Read::read(&mut other_side, &mut seen).unwrap();
        text(&seen[..n]).replace('\r', "")
    };
    let table = seen(&["list"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "NAME  TYPE     VERSIONS  LATEST  SIZE  CREATED");
    assert!(lines[1].starts_with("x     dataset         1  v0       1 B  20"), "{table}");
    let offset = lines[1].rsplit(' ').next().unwrap();
    assert!(offset.len() == 5 && offset.starts_with(['+', '-']), "local time: {table}");
    assert_eq!(seen(&["ls", "x"]), "evil\\u{1b}[2Jname\n");
    assert_eq!(test_store.ok(&["ls", "x"]), "evil\u{1b}[2Jname", "elsewhere a name is its bytes");
}

/// A new terminal: for the child, and what a person would see.
fn open_terminal() -> (OwnedFd, std::fs::File) {
    let (mut ours, mut childs) = (0, 0);
    let size = libc::winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: openpty fills both descriptors, which are owned from here on.
    unsafe {
        assert_eq!(libc::openpty(&mut ours, &mut childs, std::ptr::null_mut(), std::ptr::null(), &size), 0);
        libc::fcntl(ours, libc::F_SETFD, libc::FD_CLOEXEC);
        libc::fcntl(childs, libc::F_SETFD, libc::FD_CLOEXEC);
        (OwnedFd::from_raw_fd(childs), std::fs::File::from_raw_fd(ours))
    }
}

#[test]
fn completions_and_manual_pages_exist_for_every_command() {
    let test_store = TestStore::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = test_store.ok(&["completions", shell]);
        assert!(COMMANDS.iter().all(|c| script.contains(c)), "{shell}");
    }
    test_store.fails(&["completions", "tcsh"], 2);
    let files = test_store.ok(&["manpages", "man"]);
    // One for cairn itself, one for each subcommand of `draft` and `cache`, and cairnfs(8).
    assert_eq!(files.lines().count(), COMMANDS.len() + 7, "{files}");
    let page = std::fs::read_to_string(test_store.path("man/cairn-put.1")).unwrap();
    assert!(page.contains(".nf\ncairn put images ./photos\n.fi\n"), "examples are not filled: {page}");
    assert!(
        std::fs::read_to_string(test_store.path("man/cairnfs.8")).unwrap().contains("distributed_id=job\\-99,run=rank")
    );
    assert_eq!(test_store.json(&["manpages", "man"])["files"].as_array().unwrap().len(), COMMANDS.len() + 7);
}

#[test]
fn groff_renders_the_manual_pages_without_a_warning() {
    if Command::new("groff").arg("--version").output().is_err() {
        return; // not installed here
    }
    let test_store = TestStore::new();
    for file in test_store.ok(&["manpages", "man"]).lines() {
        let page = Command::new("groff").args(["-man", "-Tutf8", "-ww"]).arg(test_store.path(file)).output().unwrap();
        assert!(page.status.success() && page.stderr.is_empty(), "{file}: {}", text(&page.stderr));
    }
}

#[test]
fn help_is_wrapped_once_and_examples_are_never_broken() {
    let test_store = TestStore::new();
    for columns in ["40", "80", "120", "200", ""] {
        let width = columns.parse().map_or(100, |columns: usize| columns.min(100));
        for command in COMMANDS {
            let out = test_store.cairn(&[command, "--help"]).env("COLUMNS", columns).output().unwrap();
            check_wrapping(&text(&out.stdout), width, &format!("{command} at {columns:?} columns"));
        }
    }
}

#[test]
fn the_help_and_the_readme_show_the_same_groups_with_every_command_once() {
    let help = TestStore::new().ok(&["--help"]);
    let in_help = |title: &str| -> Vec<String> {
        let section = help.split(&format!("\n{title}:\n")).nth(1).unwrap_or_else(|| panic!("no {title}: {help}"));
        let lines = section.split("\n\n").next().unwrap().lines().filter(|line| !line.starts_with("    "));
        lines.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
    };
    let readme = include_str!("../../../README.md");
    let table = readme.split("\n| commands | |\n|---|---|\n").nth(1).expect("README has a table of commands");
    let mut shown = Vec::new();
    for row in table.lines().take_while(|line| line.starts_with('|')) {
        let (title, names) = row.trim_matches(['|', ' ']).split_once(" | ").unwrap();
        let names: Vec<String> = names.split(", ").map(|name| name.trim_matches('`').to_owned()).collect();
        assert_eq!(names, in_help(title), "{title}");
        shown.extend(names);
    }
    let mut all: Vec<String> = COMMANDS.iter().map(|command| (*command).to_owned()).collect();
    all.push("help".into());
    all.sort();
    shown.sort();
    assert_eq!(shown, all);
    assert!(in_help("Terms").iter().any(|term| term == "draft"), "{help}");
}

#[test]
fn help_of_help_is_the_list_of_commands() {
    let test_store = TestStore::new();
    let help = test_store.ok(&["--help"]);
    for args in [["help", "--help"], ["help", "-h"], ["help", "help"]] {
        assert!(test_store.ok(&args).contains("\nMake versions:\n"), "{args:?}");
    }
    assert!(help.contains("\n  help "), "{help}");
}

#[test]
fn the_long_list_of_options_of_put_is_in_sections() {
    let test_store = TestStore::new();
    for command in ["put", "upsert", "finish", "patch"] {
        let help = test_store.ok(&[command, "-h"]);
        let sections = ["Options:", "Options for sources:", "Options for the new version:", "Options for the run:"];
        let places: Vec<_> = sections.iter().map(|s| help.find(&format!("\n{s}\n"))).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{command}: {help}");
    }
    let mount = test_store.ok(&["mount", "-h"]);
    let run = mount.split("\nOptions for the run:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    assert!(!run.contains("--log"), "{mount}");
}

#[test]
fn help_of_cairnfs_has_the_sections_of_a_command_and_its_errors_have_the_same_form() {
    let cairnfs =
        |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_cairnfs")).args(args).env("COLUMNS", "80").output().unwrap();
    let help = text(&cairnfs(&["--help"]).stdout);
    let sections = ["Usage: cairnfs", "Arguments:", "Options:", "Mount options:", "Examples:", "Exit status:"];
    let places: Vec<_> =
        sections.iter().map(|s| help.find(&format!("\n{s}")).unwrap_or_else(|| panic!("{s}: {help}"))).collect();
    assert!(places.is_sorted(), "{help}");
    let description = help.split("Usage:").next().unwrap();
    assert!(description.lines().count() > 5 && description.lines().all(|line| line.chars().count() <= 80), "{help}");
    let short = text(&cairnfs(&["-h"]).stdout);
    assert!(short.ends_with("`cairnfs --help` says more.\n") && short.lines().count() < 25, "{short}");
    let output = cairnfs(&["store"]);
    let message = "error: the following required arguments were not provided: <MNT>\n  usage: cairnfs <STORE> <MNT>\n";
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stderr), format!("{message}hint: `cairnfs --help` has examples\n"));
}

/// A line is filled: the first word of the next one would not fit. Only examples may be longer than the terminal.
fn check_wrapping(help: &str, width: usize, what: &str) {
    let examples = help.split("Examples:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    assert!(examples.lines().any(|line| line.starts_with("  cairn ")), "{what}: {help}");
    if width == 80 {
        let long: Vec<_> = examples.lines().filter(|line| line.chars().count() > width).collect();
        assert!(long.is_empty(), "{what}: {long:?}");
    }
    let description = help.split("Usage:").next().unwrap();
    for lines in description.lines().collect::<Vec<_>>().windows(2) {
        let next_word = lines[1].split(' ').next().unwrap().chars().count();
        let filled = lines[0].chars().count() + 1 + next_word > width;
        assert!(lines[0].is_empty() || lines[1].is_empty() || filled, "{what}: {lines:?}");
    }
    for line in help.replace(examples, "").lines().filter(|line| !line.starts_with("Usage:")) {
        let (length, indent) = (line.chars().count(), line.len() - line.trim_start().len());
        assert!(length <= width || !line[indent..].contains(' '), "{what}: {line:?} is longer than {width}");
    }
}

#[test]
fn short_help_is_a_screen_and_long_help_has_sections() {
    let test_store = TestStore::new();
    for command in COMMANDS {
        let short = test_store.ok(&[command, "-h"]);
        assert!(short.lines().count() <= 50 && !short.contains("Exit status:"), "{command}: {short}");
        let long = test_store.ok(&[command, "--help"]);
        for section in ["Usage:", "Global options:", "Examples:", "Exit status:"] {
            assert!(long.contains(section), "{command} {section}: {long}");
        }
    }
}

#[test]
fn draft_without_a_subcommand_says_what_is_needed() {
    let message = TestStore::new().fails(&["draft"], 2);
    assert!(message.contains("`cairn draft` needs a subcommand: show, drop, discard"), "{message}");
}

#[test]
fn random_bytes_depend_only_on_the_seed() {
    assert_eq!(random_bytes(1, 100), random_bytes(1, 100));
    assert_ne!(random_bytes(1, 100), random_bytes(2, 100));
}

#[test]
fn of_twelve_concurrent_inits_one_makes_the_store_with_its_own_options() {
    let test_store = TestStore::new();
    for round in 0..6 {
        let dir = format!("made-{round}");
        let inits: Vec<_> = (0..12)
            .map(|n| {
                (
                    100 + n,
                    test_store
                        .cairn(&["init", &dir, "--cache-bound", &(100 + n).to_string()])
                        .stderr(Stdio::piped())
                        .stdout(Stdio::piped())
                        .spawn()
                        .unwrap(),
                )
            })
            .collect();
        let mut made = Vec::new();
        for (bound, init) in inits {
            let output = init.wait_with_output().unwrap();
            match output.status.code() {
                Some(0) => made.push(bound),
                code => assert_eq!(
                    (code, text(&output.stderr).contains("is a store already")),
                    (Some(3), true),
                    "{}",
                    text(&output.stderr)
                ),
            }
        }
        let config = std::fs::read_to_string(test_store.path(&dir).join("cairn.json")).unwrap();
        assert_eq!(made.len(), 1, "{made:?}");
        assert!(config.contains(&format!("\"cache_bound_seconds\": {}", made[0])), "{made:?} {config}");
        let hidden = std::fs::read_dir(test_store.path(&dir))
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'))
            .count();
        assert_eq!(hidden, 0, "claims, records and what was tried are gone");
    }
}

#[test]
fn an_unreadable_path_is_not_reported_as_not_a_store() {
    let test_store = TestStore::new();
    std::os::unix::fs::symlink("loop", test_store.path("loop")).unwrap();
    for args in [&["list", "--store", "loop"][..], &["list", "--store", "loop/store"]] {
        let message = test_store.fails(args, 5);
        assert!(message.contains("cannot open the store") && !message.contains("init"), "{message}");
    }
    assert!(test_store.fails(&["list", "--store", "nowhere"], 6).contains("cairn init"));
}
