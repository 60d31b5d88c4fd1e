//! Makes two versions of a small dataset, compares them and reads one back.
//!
//! `cargo run --example put_and_read`

use cairn::{Artifact, InitOptions, Result, Run, RunOptions, Store};
use std::io::{Read, Write};

fn main() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("cairn-example-{}", std::process::id()));
    let store = Store::init(&dir, &InitOptions::default())?;
    let run = Run::new(&store, RunOptions::default().id("example"))?;

    let mut first = Artifact::new("measurements", "dataset")?;
    first.add_bytes("2026-11-24.csv", "t,celsius\n0,4.5\n")?;
    first.add_bytes("README", "one file a day")?;
    let v0 = run.log_artifact(&first)?.version;

    let mut second = Artifact::new("measurements", None)?;
    second.add_bytes("2026-11-24.csv", "t,celsius\n0,4.5\n")?;
    second.add_bytes("README", "one file a day, in UTC")?;
    let mut today = second.new_file("2026-11-25.csv")?;
    for hour in 0..24 {
        writeln!(today, "{hour},{}", 3 + hour % 5).expect("a temporary file takes a few lines");
    }
    today.finish()?;
    second.add_alias("checked")?;
    let v1 = run.log_artifact(&second)?.version;

    println!("{v0} {}", v0.digest());
    println!("{v1} {}", v1.digest());
    for change in v0.diff(&v1)? {
        let change = change?;
        let letter = match (&change.old, &change.new) {
            (None, _) => 'A',
            (_, None) => 'D',
            _ => 'M',
        };
        println!("{letter} {}", change.path);
    }
    let mut text = String::new();
    v1.open("README")?.read_to_string(&mut text).expect("README is UTF-8");
    println!("README: {text}");

    // The same again makes no version.
    let again = run.log_artifact(&second)?;
    println!("again: {} created: {}", again.version, again.created);
    std::fs::remove_dir_all(&dir).map_err(|e| cairn::Error::io("remove", &dir, e))
}
