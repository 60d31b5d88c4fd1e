//! What a staging directory asks of its daemon, counted: each request is one read by it.

use super::support::{Staged, stage};
use crate::support::{TestStore, make_tree, text};
use std::path::Path;
use std::process::Command;

const FILES: u64 = 200;

/// How often the daemon has read.
fn reads(staged: &Staged<'_>) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{}/io", staged.daemon())).unwrap();
    io.lines().find_map(|line| line.strip_prefix("syscr: ")).unwrap().parse().unwrap()
}

fn output(directory: &Path, program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_small_file_is_made_with_four_requests_and_listed_with_none_of_its_own() {
    let test_store = TestStore::new();
    let names: Vec<String> = (0..FILES).map(|i| format!("d{}/{i}", i % 2)).collect();
    make_tree(&test_store.path("src"), &names.iter().map(|n| (n.as_str(), n.as_bytes())).collect::<Vec<_>>());
    let staged = stage(&test_store, "r");
    let before = reads(&staged);
    output(test_store.dir.path(), "cp", &["-r", "src", staged.at("copy").to_str().unwrap()]);
    let made = reads(&staged) - before;
    // Look-up, create, `security.capability`, release; and a write where the kernel does not write by itself.
    assert!(made < FILES * 11 / 2, "{made} requests for {FILES} files");
    test_store.ok(&["umount", "--no-seal", staged.mnt.to_str().unwrap()]);
    assert!(staged.mount(&[]).status.success());
    let before = reads(&staged);
    let listed = output(&staged.mnt, "find", &["copy", "-type", "f", "-size", "-2", "-newermt", "2020-01-01"]);
    assert_eq!(listed.lines().count() as u64, FILES);
    let asked = reads(&staged) - before;
    assert!(asked < FILES / 4, "{asked} requests to list {FILES} files with their attributes");
}

#[test]
fn a_listing_is_right_while_entries_come_and_go_and_after_the_seal() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    let names: Vec<String> = (0..900).map(|i| format!("a-name-that-takes-some-room-in-a-listing-{i}")).collect();
    make_tree(&staged.mnt, &names.iter().map(|n| (n.as_str(), n.as_bytes())).collect::<Vec<_>>());
    std::fs::create_dir(staged.at("sub")).unwrap();
    std::thread::scope(|s| {
        s.spawn(|| (0..2000).for_each(|i| std::fs::write(staged.at(&format!("t{}", i % 7)), "t").unwrap()));
        s.spawn(|| (0..2000).for_each(|i| drop(std::fs::remove_file(staged.at(&format!("t{}", i % 7))))));
        for _ in 0..5 {
            // It may say that one of the others went meanwhile.
            let listed = Command::new("ls").arg("-l").current_dir(&staged.mnt).output().unwrap();
            assert!(!text(&listed.stderr).contains("Stale"), "{}", text(&listed.stderr));
            assert_eq!(text(&listed.stdout).lines().filter(|line| line.contains("a-name-that")).count(), names.len());
        }
    });
    (0..7).for_each(|i| drop(std::fs::remove_file(staged.at(&format!("t{i}")))));
    let by_number = |listed: String| {
        let mut lines: Vec<String> = listed.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let seen = by_number(output(&staged.mnt, "find", &[".", "-printf", "%p %s %y\n"]));
    staged.sealed();
    let sealed: Vec<_> = by_number(output(&staged.mnt, "find", &[".", "-type", "f", "-printf", "%p %s %y\n"]));
    assert_eq!(sealed, seen.into_iter().filter(|line| line.ends_with('f')).collect::<Vec<_>>());
}

/// In a mount that only root may use the kernel leaves it to the daemon.
#[test]
fn access_is_what_it_is_in_a_local_directory() {
    let code = "
import os
for mode in (0, 0o111, 0o200, 0o444, 0o600, 0o755):
    open(f'f{mode}', 'w').close(); os.chmod(f'f{mode}', mode); os.mkdir(f'd{mode}'); os.chmod(f'd{mode}', mode)
os.symlink('f0', 'l'); os.symlink('none', 'dangling')
for name in sorted(os.listdir('.')) + ['none', '.']:
    hows = (os.F_OK, os.R_OK, os.W_OK, os.X_OK, os.R_OK | os.X_OK)
    print(name, [os.access(name, how, effective_ids=True) for how in hows])
    try: os.execv(name, [name])
    except OSError as e: print(e.errno)
for mode in (0, 0o600): os.chdir(f'd{mode}'), os.chdir('..')";
    let plain = tempfile::tempdir().unwrap();
    let local = output(plain.path(), "python3", &["-c", code]);
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    assert_eq!(output(&staged.mnt, "python3", &["-c", code]), local);
    staged.sealed();
    let script = "test -r f493 -a -x f493 -a ! -x f384 -a ! -w f384 -a -x d493 && cat f384";
    output(&staged.mnt, "bash", &["-c", script]);
}

/// A program whose output was refused may end without an error; the seal reports it.
#[test]
fn a_seal_says_what_was_refused_and_that_there_is_nothing_in_it() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "none");
    let stderr = text(&staged.seal().stderr);
    assert!(stderr.contains("warning: the contribution of run none has no files"), "{stderr}");
    let (_disk, test_store) = crate::support::store_on("ext4", 16 << 20);
    let staged = super::support::stage_with(&test_store, "full", &["--io", "no-open"]);
    std::fs::write(staged.at("small"), "small").unwrap();
    let full = std::fs::write(staged.at("large"), vec![1; 32 << 20]).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
    std::fs::remove_file(staged.at("large")).unwrap();
    let refused = |stderr: &str| {
        stderr.contains("refused")
            && stderr.contains("write large: No space left on device")
            && stderr.contains("run full")
    };
    let umounted = test_store.cairn(&["-q", "umount", staged.mnt.to_str().unwrap()]).output().unwrap();
    assert!(umounted.status.success() && refused(&text(&umounted.stderr)), "{}", text(&umounted.stderr));
}
