//! A scraper's dataset, appended to every day by two hosts' cron jobs that know nothing of each other.
//!
//! `cargo run --example scraper`: makes a store, starts itself twice a "day", at once, and shows that no day of either
//! is lost. `scraper STORE HOST DAY` is the job itself. In a shell it is one line:
//!
//! ```sh
//! cairn patch news "$(hostname).jsonl" --at "$(date +%Y/%m/%d)" --create
//! ```

use cairn::{Artifact, InitOptions, Kind, Result, Run, RunOptions, Store};
use std::process::Command;

const DAYS: u32 = 7;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [store, host, day] => append(store, host, day),
        _ => both(),
    }
}

/// The job: one file a day for each host, as the next version of `news`, whichever other host has made versions since.
fn append(store: &str, host: &str, day: &str) -> Result<()> {
    let store = Store::open(store)?;
    // The first day there is nothing to be a difference on; if the other host is quicker, this is added to what it
    // made.
    let mut today = match store.version("news") {
        Ok(newest) => newest.new_draft(),
        Err(e) if e.kind() == Kind::NotFound => Artifact::patch_from_empty("news", "dataset")?,
        Err(e) => return Err(e),
    };
    today
        .add_bytes(format!("2026/11/{day}/{host}.jsonl"), format!("{{\"host\": \"{host}\", \"day\": \"{day}\"}}\n"))?;
    let run = Run::new(&store, RunOptions::default().id(format!("cron-{host}-{day}")))?;
    let published = run.log_artifact(&today)?;
    let rebased = published.rebased.map(|n| format!(", put on {n}, which came meanwhile")).unwrap_or_default();
    println!("{host} {day}: {}{rebased}", published.version);
    Ok(())
}

fn both() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("cairn-scraper-{}", std::process::id()));
    let store = Store::init(&dir, &InitOptions::default())?;
    let me = std::env::current_exe().expect("a running program has a file");
    for day in 1..=DAYS {
        let day = format!("{day:02}");
        let job = |host: &str| Command::new(&me).arg(&dir).args([host, &day]).spawn().expect("this program runs");
        for mut child in [job("alpha"), job("beta")] {
            assert!(child.wait().expect("a child can be waited for").success());
        }
    }
    let newest = store.version("news")?;
    println!("{newest}: {} files of {DAYS} days and 2 hosts", newest.record().files);
    assert_eq!((newest.record().files, newest.number().0), (u64::from(2 * DAYS), u64::from(2 * DAYS - 1)));
    std::fs::remove_dir_all(&dir).expect("the example's own directory");
    Ok(())
}
