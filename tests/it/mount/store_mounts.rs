//! Mounts of a whole store, while it grows, changes and shrinks.

use super::support::*;
use cairn::catalog::alias::{self, Expected};
use cairn::catalog::remove::{self, Force};
use cairn::types::{AliasName, ArtifactName, VersionNumber};
use cairn::{Artifact, Error, Kind, SaveOptions, Store};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A store whose versions are made by name, and its mount.
struct Whole {
    place: Location,
    store: Store,
}

impl Whole {
    fn new() -> Whole {
        let place = Location::new();
        let store = Store::open(place.store()).unwrap();
        Whole { place, store }
    }

    fn publish(&self, name: &str, text: &str) -> VersionNumber {
        let mut artifact = Artifact::new(name, None).unwrap();
        artifact.add_bytes("d/f", text).unwrap();
        artifact.save_with(&self.store, &SaveOptions::default().always_new(true)).unwrap().version.number()
    }

    /// Versions with the texts `0`, `1` and `2`.
    fn publish_three(&self, name: &str) {
        for text in ["0", "1", "2"] {
            self.publish(name, text);
        }
    }

    fn point(&self, name: &str, to_alias: &str, to: u64) {
        alias::set(
            &self.store,
            &ArtifactName::parse(name).unwrap(),
            &AliasName::parse(to_alias).unwrap(),
            Expected::Any,
            Some(VersionNumber(to)),
        )
        .unwrap();
    }

    fn remove(&self, name: &str, number: u64, force: Force) -> Result<(), Error> {
        remove::remove(&self.store, &ArtifactName::parse(name).unwrap(), VersionNumber(number), force)
    }

    fn mount(&self, more: &str) -> Mounted {
        let mnt = self.place.path("mnt");
        fs::create_dir_all(&mnt).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairnfs"));
        command.arg(self.place.store()).arg(&mnt).arg("-o").arg(format!("log={}{more}", self.place.log().display()));
        let output = command.output().unwrap();
        let mounted = Mounted(mnt);
        assert!(output.status.success(), "{}", stderr_of(&output));
        mounted
    }

    /// Files below `pins/`, holders not counted.
    fn pinned(&self) -> Vec<String> {
        let files = walkdir::WalkDir::new(self.place.store().join("pins"))
            .into_iter()
            .flatten()
            .filter(|e| e.file_type().is_file());
        let mut names: Vec<String> =
            files.map(|e| e.file_name().to_str().unwrap().to_owned()).filter(|n| n != "holder").collect();
        names.sort();
        names
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// How long until it is so; at most two seconds.
fn within(what: &str, done: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(2), "{what} took more than two seconds");
        std::thread::sleep(Duration::from_millis(20));
    }
    begun.elapsed()
}

#[test]
fn a_store_is_its_artifacts_their_versions_and_links_for_aliases() {
    let whole = Whole::new();
    for text in ["a0", "a1", "a2"] {
        whole.publish("a", text);
    }
    whole.publish("b.x", "b0");
    whole.point("a", "prod", 1);
    let mounted = whole.mount("");
    assert_eq!(names(mounted.path()), [".staging", "a", "b.x"]);
    assert_eq!(names(&mounted.at("a")), [".staging", "latest", "prod", "v0", "v1", "v2"]);
    assert_eq!(fs::read_link(mounted.at("a/prod")).unwrap(), Path::new("v1"));
    assert_eq!(
        fs::read_link(mounted.at("a/.staging")).unwrap(),
        fs::read_link(mounted.at(".staging")).unwrap().join("a")
    );
    for alias in ["staging", "dev"] {
        whole.point("b.x", alias, 0);
        within("the alias", || fs::read_to_string(mounted.at("b.x").join(alias).join("d/f")).is_ok_and(|t| t == "b0"));
    }
    within("both", || names(&mounted.at("b.x")) == [".staging", "dev", "latest", "staging", "v0"]);
    for (path, text) in [("a/v0", "a0"), ("a/prod", "a1"), ("a/latest", "a2"), ("b.x/latest", "b0")] {
        assert_eq!(fs::read_to_string(mounted.at(path).join("d/f")).unwrap(), text);
    }
    for missing in ["c", "a/v3", "a/v01", "a/none", "a/v0/x", "a/v0/.staging", "a/staging", "b.x/prod"] {
        assert_eq!(
            fs::symlink_metadata(mounted.at(missing)).unwrap_err().raw_os_error(),
            Some(libc::ENOENT),
            "{missing}"
        );
    }
    assert_eq!(fs::create_dir(mounted.at("a/v9")).unwrap_err().raw_os_error(), Some(libc::EROFS));
    assert_eq!(fs::remove_file(mounted.at("a/prod")).unwrap_err().raw_os_error(), Some(libc::EROFS));
}

#[test]
fn inode_numbers_are_one_for_each_thing_and_stay() {
    let whole = Whole::new();
    whole.publish_three("a");
    whole.publish("b", "0");
    let mounted = whole.mount("");
    let inodes = || -> Vec<(PathBuf, u64)> {
        let entries = walkdir::WalkDir::new(mounted.path()).sort_by_file_name().into_iter().map(Result::unwrap);
        let seen = entries.map(|e| {
            let meta = fs::symlink_metadata(e.path()).unwrap();
            use walkdir::DirEntryExt;
            assert!(e.depth() == 0 || e.ino() == meta.ino(), "d_ino of {:?}", e.path());
            (e.into_path(), meta.ino())
        });
        seen.collect()
    };
    let before = inodes();
    let distinct: std::collections::BTreeSet<u64> = before.iter().map(|(_, ino)| *ino).collect();
    assert_eq!(distinct.len(), before.len());
    assert!(distinct.iter().all(|ino| *ino < 1 << 53));
    fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    assert_eq!(inodes(), before, "also when the kernel has forgotten them");
    let up = fs::metadata(mounted.at("a/v1/..")).unwrap().ino();
    assert_eq!(up, fs::metadata(mounted.at("a")).unwrap().ino());
    assert_eq!(fs::metadata(mounted.at("a/..")).unwrap().ino(), 1);
    let commit = cairn::resolve(&whole.store, &cairn::VersionSpec::parse("a:v1").unwrap()).unwrap();
    assert_eq!(
        Some(fs::metadata(mounted.at("a/v1")).unwrap().mtime()),
        cairn::internals::clock::parse(&commit.record().created_at)
    );
}

#[test]
fn what_is_published_and_moved_shows_within_a_second_and_a_listing_that_changed_has_another_mtime() {
    let whole = Whole::new();
    whole.publish("a", "0");
    whole.publish("a", "1");
    whole.point("a", "prod", 0);
    let mounted = whole.mount("");
    let mtime = |path: &str| fs::metadata(mounted.at(path)).map(|m| (m.mtime(), m.mtime_nsec())).unwrap();
    assert_eq!(names(&mounted.at("a")), [".staging", "latest", "prod", "v0", "v1"]);
    let (root, artifact) = (mtime(""), mtime("a"));
    let prod = fs::symlink_metadata(mounted.at("a/prod")).unwrap().ino();
    whole.publish("a", "2");
    whole.publish("new", "0");
    whole.point("a", "prod", 1);
    let second = Duration::from_millis(1100);
    assert!(
        within("a version", || names(&mounted.at("a")) == [".staging", "latest", "prod", "v0", "v1", "v2"]) < second
    );
    assert!(within("an artifact", || names(mounted.path()) == [".staging", "a", "new"]) < second);
    assert!(within("latest", || fs::read_to_string(mounted.at("a/latest/d/f")).unwrap() == "2") < second);
    assert!(within("an alias", || fs::read_to_string(mounted.at("a/prod/d/f")).unwrap() == "1") < second);
    assert_ne!(fs::symlink_metadata(mounted.at("a/prod")).unwrap().ino(), prod, "a link that moved is another");
    within("the times", || mtime("") != root && mtime("a") != artifact);
    whole.publish("a", "3");
    assert!(mounted.at("a/v3").exists(), "a name that was not there is not remembered");
}

#[test]
fn a_version_removed_while_it_is_open_stays_readable_there_and_is_found_no_more() {
    let whole = Whole::new();
    for text in ["0", "1"] {
        whole.publish("a", text);
    }
    let mounted = whole.mount("");
    let mut open = File::open(mounted.at("a/v0/d/f")).unwrap();
    assert_eq!(whole.pinned(), ["a@v0"]);
    let e = whole.remove("a", 0, Force::No).unwrap_err();
    assert_eq!(e.kind(), Kind::Conflict);
    assert!(e.to_string().contains("in use by a mount"), "{e}");
    // A process whose directory is in the version.
    let mut inside = Command::new("sh")
        .args(["-c", "read x; cat f"])
        .current_dir(mounted.at("a/v0/d"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    whole.remove("a", 0, Force::Yes).unwrap();
    within("the removal", || names(&mounted.at("a")) == [".staging", "latest", "v1"]);
    within("the removal", || {
        fs::metadata(mounted.at("a/v0/d/f")).is_err_and(|e| e.raw_os_error() == Some(libc::ENOENT))
    });
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "0");
    assert_eq!(whole.pinned(), ["a@v0"], "what is open is pinned");
    drop(inside.stdin.take());
    assert_eq!(inside.wait_with_output().unwrap().stdout, b"0");
    drop(open);
    wait_until("the pin to go", || whole.pinned().is_empty());
}

#[test]
fn the_last_version_removed_leaves_the_artifact_without_any() {
    let whole = Whole::new();
    whole.publish("a", "0");
    let mounted = whole.mount("");
    assert_eq!(names(&mounted.at("a")), [".staging", "latest", "v0"]);
    whole.remove("a", 0, Force::No).unwrap();
    within("the removal", || names(&mounted.at("a")) == [".staging"]);
    assert_eq!(names(mounted.path()), [".staging", "a"]);
}

#[test]
fn versions_are_pinned_by_the_first_lookup_below_them_and_unpinned_when_forgotten_and_at_the_end() {
    let whole = Whole::new();
    whole.publish_three("a");
    let mounted = whole.mount("");
    names(&mounted.at("a"));
    fs::metadata(mounted.at("a/v1")).unwrap();
    assert!(whole.pinned().is_empty(), "looking at names pins nothing");
    fs::read(mounted.at("a/v1/d/f")).unwrap();
    names(&mounted.at("a/v2"));
    assert_eq!(whole.pinned(), ["a@v1", "a@v2"]);
    fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    wait_until("the pins to go", || {
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
        whole.pinned().is_empty()
    });
    assert_eq!(fs::read(mounted.at("a/v1/d/f")).unwrap(), b"1");
    assert_eq!(whole.pinned(), ["a@v1"]);
    drop(mounted);
    // The daemon ends later if another test makes a mount namespace at this moment, which has a copy of the mount.
    let pins = whole.place.store().join("pins");
    wait_until("the end of the daemon", || fs::read_dir(&pins).unwrap().count() == 0);
}

#[test]
fn a_walk_over_many_versions_leaves_few_pins_and_what_is_open_stays_pinned() {
    let whole = Whole::new();
    for n in 0..50 {
        whole.publish("a", &n.to_string());
    }
    let mounted = whole.mount("");
    let file = |n: u64| mounted.at(format!("a/v{n}/d/f"));
    let mut open = File::open(file(0)).unwrap();
    for n in 0..50 {
        assert_eq!(fs::read(file(n)).unwrap(), n.to_string().as_bytes());
    }
    wait_until("the pins to be fewer", || whole.pinned().len() <= 32);
    assert!(whole.pinned().contains(&"a@v0".to_owned()), "{:?}", whole.pinned());
    assert_eq!(whole.remove("a", 0, Force::No).unwrap_err().kind(), Kind::Conflict);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut open, &mut text).unwrap();
    assert_eq!(text, "0");
    // What was forgotten is read and pinned again.
    assert_eq!(fs::read(file(1)).unwrap(), b"1");
    assert!(whole.pinned().contains(&"a@v1".to_owned()));
}

#[test]
fn a_version_that_is_only_remembered_is_given_back_to_rm_and_one_in_use_is_not() {
    let whole = Whole::new();
    whole.publish_three("a");
    let mounted = whole.mount("");
    fs::read(mounted.at("a/v0/d/f")).unwrap();
    let open = File::open(mounted.at("a/v1/d/f")).unwrap();
    assert_eq!(whole.pinned(), ["a@v0", "a@v1"]);
    whole.remove("a", 0, Force::No).unwrap();
    assert_eq!(whole.remove("a", 1, Force::No).unwrap_err().kind(), Kind::Conflict);
    assert_eq!(fs::read(mounted.at("a/v1/d/f")).unwrap(), b"1");
    assert_eq!(whole.pinned(), ["a@v1"]);
    drop(open);
    whole.remove("a", 1, Force::No).unwrap();
}

#[test]
fn a_killed_mount_pins_nothing_any_more() {
    let whole = Whole::new();
    whole.publish("a", "0");
    let mounted = whole.mount("");
    fs::read(mounted.at("a/v0/d/f")).unwrap();
    let open = File::open(mounted.at("a/v0/d/f")).unwrap();
    assert_eq!(whole.remove("a", 0, Force::No).unwrap_err().kind(), Kind::Conflict);
    drop(open);
    kill(daemons(mounted.path())[0], libc::SIGKILL);
    wait_until("the daemon to end", || daemons(mounted.path()).is_empty());
    assert_eq!(whole.pinned(), ["a@v0"]);
    wait_until("the removal to be allowed", || whole.remove("a", 0, Force::No).is_ok());
}

#[test]
fn a_mount_of_one_version_pins_it() {
    let whole = Whole::new();
    whole.publish("a", "0");
    let mounted = whole.mount(",version=a:v0");
    assert_eq!(whole.pinned(), ["a@v0"]);
    assert_eq!(whole.remove("a", 0, Force::No).unwrap_err().kind(), Kind::Conflict);
    whole.remove("a", 0, Force::Yes).unwrap();
    assert_eq!(fs::read(mounted.at("d/f")).unwrap(), b"0", "it stays what it was");
    drop(mounted);
    assert!(whole.pinned().is_empty());
}

#[test]
fn thousands_of_versions_and_names_are_listed_whole_and_found_at_once() {
    let whole = Whole::new();
    whole.publish("many", "0");
    // Numbers and names as a store has them, without the work of a put for each.
    let versions =
        cairn::internals::layout::Layout::new(whole.place.store()).versions(&ArtifactName::parse("many").unwrap());
    let token = fs::read_link(versions.join("v0")).unwrap();
    for n in 1..3000 {
        std::os::unix::fs::symlink(&token, versions.join(format!("v{n}"))).unwrap();
    }
    let artifacts = whole.place.store().join("artifacts");
    for n in 0..3000 {
        fs::create_dir_all(artifacts.join(format!("name-{n:04}/versions"))).unwrap();
        std::os::unix::fs::symlink(&token, artifacts.join(format!("name-{n:04}/versions/v0"))).unwrap();
    }
    fs::create_dir_all(artifacts.join("unborn/versions")).unwrap();
    let mounted = whole.mount("");
    assert_eq!(names(mounted.path()).len(), 3002, "what has no version yet is not there");
    let listed = names(&mounted.at("many"));
    assert_eq!(listed.len(), 3002);
    assert!(listed.contains(&"v2999".to_owned()) && listed.contains(&"latest".to_owned()));
    assert_eq!(fs::read(mounted.at("many/v2999/d/f")).unwrap(), b"0");
    assert_eq!(fs::read_link(mounted.at("many/latest")).unwrap(), Path::new("v2999"));
    let ls = Command::new("ls").arg("-l").arg(mounted.at("many")).output().unwrap();
    assert_eq!(ls.stdout.split(|b| *b == b'\n').count(), 3003, "`.staging` is hidden");
}

#[test]
fn damage_in_one_version_is_eio_there_and_the_others_are_right() {
    let whole = Whole::new();
    for text in ["0", "1"] {
        whole.publish("a", text);
    }
    let versions =
        cairn::internals::layout::Layout::new(whole.place.store()).versions(&ArtifactName::parse("a").unwrap());
    let manifest = versions.join(fs::read_link(versions.join("v0")).unwrap()).join("manifest");
    super::build::flip(&manifest, 50);
    let mounted = whole.mount("");
    assert_eq!(fs::read_dir(mounted.at("a/v0")).unwrap().next().unwrap().unwrap_err().raw_os_error(), Some(libc::EIO));
    assert_eq!(fs::read(mounted.at("a/v1/d/f")).unwrap(), b"1");
    assert!(whole.place.logged().contains("/a/v0"), "{}", whole.place.logged());
    super::build::flip(&manifest, 50);
    assert_eq!(fs::read(mounted.at("a/v0/d/f")).unwrap(), b"0");
}

/// Removes a version again and again until it is removed, for that long at most.
fn removed_within(whole: &Whole, number: u64, longest: Duration) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < longest {
        match whole.remove("x", number, Force::No) {
            Ok(()) => return true,
            Err(e) => assert_eq!(e.kind(), Kind::Conflict, "{e}"),
        }
    }
    false
}

#[test]
fn a_version_that_was_in_use_when_its_removal_was_refused_is_removed_after_the_last_close() {
    let whole = Whole::new();
    whole.publish_three("x");
    let mounted = whole.mount(",nostage");
    let held = File::open(mounted.at("x/v0/d/f")).unwrap();
    assert_eq!(whole.remove("x", 0, Force::No).unwrap_err().kind(), Kind::Conflict);
    assert_eq!(fs::read_to_string(mounted.at("x/v0/d/f")).unwrap(), "0", "looked up again by its path");
    drop(held);
    assert!(removed_within(&whole, 0, Duration::from_secs(20)));
    // Names that are looked up, while the version is wanted, from a directory in which a process works.
    let script = "cd \"$1\"; echo in; read go; cat f; echo; read go; cd /; echo out; read go";
    let mut worker = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(mounted.at("x/v1/d"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(worker.stdout.take().unwrap()).lines();
    let mut says = || lines.next().unwrap().unwrap();
    let mut input = worker.stdin.take().unwrap();
    assert_eq!(says(), "in");
    assert_eq!(whole.remove("x", 1, Force::No).unwrap_err().kind(), Kind::Conflict);
    input.write_all(b"\n").unwrap();
    assert_eq!(says(), "1");
    assert_eq!(whole.remove("x", 1, Force::No).unwrap_err().kind(), Kind::Conflict, "it still works there");
    input.write_all(b"\n").unwrap();
    assert_eq!(says(), "out");
    let removed = removed_within(&whole, 1, Duration::from_secs(20));
    drop(input);
    worker.wait().unwrap();
    assert!(removed);
    assert_eq!(fs::read_to_string(mounted.at("x/v2/d/f")).unwrap(), "2");
}

#[test]
fn a_version_is_in_use_while_a_directory_of_it_is_open_or_a_working_directory() {
    let whole = Whole::new();
    whole.publish_three("x");
    let mounted = whole.mount(",nostage");
    let rm = |spec: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        command.arg("--store").arg(whole.place.store()).args(["rm", spec]).output().unwrap()
    };
    let refused = |spec: &str| {
        let output = rm(spec);
        let message = stderr_of(&output);
        assert_eq!(output.status.code(), Some(3), "{message}");
        assert!(message.contains(&format!("error: {spec} is in use by a mount of ")), "{message}");
        let hint = format!("hint: unmount {} first; ", mounted.0.display());
        assert!(message.contains(&hint), "{message}");
    };
    let open = File::open(mounted.at("x/v0/d")).unwrap();
    refused("x:v0");
    drop(open);
    assert!(removed_within(&whole, 0, Duration::from_secs(20)));
    // Its only use is a working directory.
    let mut worker = Command::new("cat").current_dir(mounted.at("x/v1/d")).stdin(Stdio::piped()).spawn().unwrap();
    refused("x:v1");
    drop(worker.stdin.take());
    worker.wait().unwrap();
    assert!(removed_within(&whole, 1, Duration::from_secs(20)));
    // The root alone is not a use: nothing was looked up below it.
    let open = File::open(mounted.at("x/v2")).unwrap();
    assert_eq!(rm("x:v2").status.code(), Some(0));
    drop(open);
}
