//! What commands cost in stores that have collected much.

use super::place::{Place, Values, median, millis, save};
use super::support::process;
use cairn::catalog::alias::{self, Expected};
use cairn::types::{AliasName, ArtifactName, Digest, Token, VersionNumber};
use cairn::{Artifact, Run, RunOptions};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// How many puts one figure is of.
const PUTS: usize = 5;
/// How many puts are traced, of which the one with the most calls counts.
const TRACED: usize = 100;

pub fn make_one(place: &Place, _: u64) {
    save(&place.store(), "x", "0");
    place.write();
}

pub fn put_new(place: &Place, _: u64) -> Values {
    let time = place.put();
    place.write();
    vec![("put", "calls", place.calls(&["put", "x", "d"])), ("put", "ms of processor", time)]
}

pub fn make_aliases(place: &Place, aliases: u64) {
    make_one(place, 0);
    let (store, name) = (place.store(), ArtifactName::parse("x").unwrap());
    for n in 0..aliases {
        let alias = AliasName::parse(&format!("alias-{n}")).unwrap();
        alias::set(&store, &name, &alias, Expected::Any, Some(VersionNumber(0))).unwrap();
    }
}

/// As [`put_new`]; then what one of the versions costs to remove, and how long the answer for an unknown alias is.
pub fn with_aliases(place: &Place, _: u64) -> Values {
    let mut values = put_new(place, 0);
    let rm = place.run(&["rm", "x:v1", "x:v2", "x:v3", "x:v4"]);
    values.push(("rm of four versions", "ms of processor", millis(rm)));
    let answer = place.output(&["show", "x:unknown"]);
    values.push(("unknown alias", "bytes of text", (answer.stdout.len() + answer.stderr.len()) as f64));
    values
}

pub fn make_names(place: &Place, names: u64) {
    make_one(place, 0);
    let store = place.store();
    (1..names).for_each(|n| save(&store, &format!("name-{n}"), "0"));
    place.run(&["gc"]);
}

/// Runs that all made the content of one version.
pub fn make_runs(place: &Place, runs: u64) {
    make_one(place, 0);
    let store = place.store();
    let content = fs::read(place.at("d/f")).unwrap();
    for n in 0..runs {
        let run = Run::new(&store, RunOptions::default().id(format!("run-{n}"))).unwrap();
        let mut artifact = Artifact::new("x", None).unwrap();
        artifact.add_bytes("f", content.as_slice()).unwrap();
        run.log_artifact(&artifact).unwrap();
    }
}

pub fn put_by_runs(place: &Place, _: u64) -> Values {
    let put = |n: usize| millis(place.run(&["put", "x", "d", "--run", &format!("new-{n}")]));
    put(0);
    let time = median((1..=PUTS).map(put));
    let calls = place.calls(&["put", "x", "d", "--run", "traced"]);
    let again = place.calls(&["put", "x", "d", "--run", "traced"]);
    let described = ["put", "x", "d", "--run", "described", "--description", "text"];
    place.run(&described);
    vec![
        ("unchanged put", "calls", calls),
        ("unchanged put", "ms of processor", time),
        ("the same run again", "calls", again),
        ("unchanged put with a description", "ms of processor", millis(place.run(&described))),
        ("show", "calls", place.calls(&["show", "x"])),
        ("show", "ms of processor", millis(place.run(&["show", "x"]))),
        ("list", "ms of processor", millis(place.run(&["list", "x"]))),
    ]
}

/// What killed writers left.
pub fn make_dead(place: &Place, writers: u64) {
    make_one(place, 0);
    let system = |path: &str| fs::read_to_string(path).unwrap().trim().to_owned();
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    for _ in 0..writers {
        let token = Token::fresh();
        let work = place.at("store/work").join(token.as_str());
        fs::create_dir(&work).unwrap();
        symlink(format!("artifacts/x/versions/{}", token.record_name()), work.join("record")).unwrap();
        let lock = serde_json::json!({
            "beat": "000000000000", "purpose": "put", "artifact": "x", "draft": null, "run": null,
            "host": system("/proc/sys/kernel/hostname"), "boot_id": system("/proc/sys/kernel/random/boot_id"),
            "pid": gone.id(), "pid_start": 1, "user": "u", "since": "2026-01-01T00:00:00Z",
        });
        fs::write(place.at("store/locks").join(token.as_str()), lock.to_string()).unwrap();
    }
}

/// A put clears what 2,048 of them left.
pub fn put_after_dead(place: &Place, _: u64) -> Values {
    let put = || {
        place.write();
        millis(place.run(&["put", "x", "d"]))
    };
    let first = put();
    for _ in 0..6 {
        put();
    }
    place.write();
    let calls = place.calls(&["put", "x", "d"]);
    vec![
        ("first put", "ms of processor", first),
        ("eighth put", "calls", calls),
        ("ninth put", "ms of processor", place.put()),
    ]
}

pub fn make_versions(place: &Place, versions: u64) {
    let store = place.store();
    (0..versions).for_each(|n| save(&store, "x", &n.to_string()));
}

pub fn put_and_list(place: &Place, _: u64) -> Values {
    let mut values = several_puts(place, 0);
    let list = place.run(&["list", "x", "--limit", "20"]);
    values.push(("list --limit 20", "ms of processor", millis(list)));
    values.push(("list --limit 20", "MiB", list.peak_kib as f64 / 1024.0));
    let list = place.run(&["list", "x"]);
    values.push(("list", "ms of processor", millis(list)));
    values.push(("list", "MiB", list.peak_kib as f64 / 1024.0));
    values
}

/// Contents in nine segments of one size class. The first put finds no more than these.
pub fn make_index(place: &Place, contents: u64) {
    make_one(place, 0);
    let store = place.store();
    for segment in 0..9 {
        let work = place.at("store/work").join(Token::fresh().as_str());
        fs::create_dir(&work).unwrap();
        let writer = store.objects().writer(&work).unwrap();
        let mut lane = writer.thread_writer();
        for n in 0..contents / 9 {
            let content = (segment * contents + n).to_le_bytes();
            lane.put_small(Digest::of(&content), &content).unwrap();
        }
        lane.close().unwrap();
        writer.seal(&[], &[]).unwrap();
        fs::remove_dir_all(&work).unwrap();
    }
}

/// The median and the most of several puts.
pub fn several_puts(place: &Place, _: u64) -> Values {
    let mut times: Vec<f64> = Vec::new();
    for _ in 0..TRACED {
        place.write();
        times.push(millis(place.run(&["put", "x", "d"])));
    }
    let calls = (0..TRACED / 4).map(|_| {
        place.write();
        place.calls(&["put", "x", "d"])
    });
    let calls = calls.fold(0.0, f64::max);
    let most = times.iter().copied().fold(0.0, f64::max);
    vec![
        ("put, most of 25", "calls", calls),
        ("put, median", "ms of processor", median(times.into_iter())),
        ("put, most of 100", "ms of processor", most),
    ]
}

/// Small commits from four processes at a time: what each took in the first and in the last tenth.
pub fn commit_by_four(place: &Place, commits: u64) -> Values {
    let (begun, next) = (Instant::now(), AtomicU64::new(0)); // all four are at work until the end
    let writer = |n: u64| {
        let dir = format!("d{n}");
        fs::create_dir_all(place.at(&dir)).unwrap();
        let commit = |i: u64| {
            fs::write(place.at(&dir).join("f"), format!("{n} {i}")).unwrap();
            let run = place.run(&["put", &format!("x{n}"), &dir]);
            (begun.elapsed().as_secs_f64(), millis(run))
        };
        let mine = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed)).take_while(|i| *i < commits);
        mine.map(commit).collect::<Vec<_>>()
    };
    let mut ends: Vec<(f64, f64)> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4).map(|n| scope.spawn(move || writer(n))).collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let tenth = ends.len() / 10;
    let (first, last) = (&ends[..=tenth], &ends[ends.len() - 1 - tenth..]);
    let each = |of: &[(f64, f64)]| (of[tenth].0 - of[0].0) * 1e3 / tenth as f64;
    let processor = |of: &[(f64, f64)]| of.iter().map(|(_, millis)| millis).sum::<f64>() / of.len() as f64;
    vec![
        ("the first tenth, each", "ms", each(first)),
        ("the last tenth, each", "ms", each(last)),
        ("rate at the end, of that at the beginning", "", each(first) / each(last)),
        ("the first tenth, each", "ms of processor", processor(first)),
        ("the last tenth, each", "ms of processor", processor(last)),
    ]
}

/// Contributions to a draft, each by a run of its own.
pub fn make_contributions(place: &Place, runs: u64) {
    make_one(place, 0);
    let store = place.store();
    for n in 0..runs {
        let run = Run::new(&store, RunOptions::default().id(format!("run-{n}"))).unwrap();
        let mut artifact = Artifact::new("x", None).unwrap();
        artifact.add_bytes(format!("f{n}"), n.to_string()).unwrap();
        run.upsert_artifact(&artifact, "d").unwrap();
    }
}

/// A finish that waits for three seconds for a run that does not come.
pub fn wait_for_more(place: &Place, runs: u64) -> Values {
    let expected = (runs + 1).to_string();
    let finish = ["finish", "x", "--distributed-id", "d", "--expect", &expected, "--wait"];
    let processor = |seconds: &str| {
        let mut command = place.command(&finish);
        process::run_any(command.arg(seconds)).unwrap()
    };
    let (none, three) = (processor("0"), processor("3"));
    let mut answer = finish.to_vec();
    answer.push("0");
    let answer = place.output(&answer);
    vec![
        ("finish --wait: each second", "ms of processor", (millis(three) - millis(none)).max(0.1) / 3.0),
        ("finish refused", "bytes of text", (answer.stdout.len() + answer.stderr.len()) as f64),
    ]
}

/// Versions of 2,000 files, each a patch of the one before; one content of the first is damaged.
pub fn make_damaged(place: &Place, versions: u64) {
    let store = place.store();
    let mut artifact = Artifact::new("x", None).unwrap();
    for n in 0..2_000 {
        artifact.add_bytes(format!("f{n}"), format!("{n:0100}")).unwrap();
    }
    let mut last = artifact.save(&store).unwrap().version;
    let packs = place.at("store/packs");
    let pack = fs::read_dir(packs).unwrap().next().unwrap().unwrap().path();
    for n in 1..versions {
        let mut patch = last.new_draft();
        patch.add_bytes(format!("g{n}"), n.to_string()).unwrap();
        last = patch.save(&store).unwrap().version;
    }
    let mut bytes = fs::read(&pack).unwrap();
    let at = bytes.windows(100).position(|w| w.ends_with(b"0000000007") && w.starts_with(b"000")).unwrap_or(100);
    bytes[at + 50] ^= 1;
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, bytes).unwrap();
}

pub fn verify_damaged(place: &Place, _: u64) -> Values {
    let verify = process::run_any(&mut place.command(&["verify"])).unwrap();
    vec![("verify, one content damaged", "ms of processor", millis(verify))]
}
