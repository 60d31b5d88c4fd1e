//! Three runs make one version together: each contributes an image under one distributed id, and the third finishes.
//!
//! `cargo run --example three_runs`. In a shell:
//!
//! ```sh
//! cairn upsert images image1.png --run run-1 --distributed-id my_dist_artifact     # on any host
//! cairn upsert images image2.png --run run-2 --distributed-id my_dist_artifact
//! cairn finish images image3.png --run run-3 --distributed-id my_dist_artifact     # images:v0, locked
//! ```

use cairn::{Artifact, InitOptions, Kind, Result, Run, RunOptions, Store};

const ID: &str = "my_dist_artifact";

fn main() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("cairn-three-runs-{}", std::process::id()));
    let store = Store::init(&dir, &InitOptions::default())?;
    let run = |id: &str| Run::new(&store, RunOptions::default().id(id));
    let image = |n: u8| -> Result<Artifact> {
        let mut part = Artifact::new("images", "dataset")?;
        part.add_bytes(format!("image{n}.png"), [0x89, b'P', b'N', b'G', n])?;
        Ok(part)
    };

    // Run 1 and run 2, in any order, at once, on any hosts that share the disk.
    for n in [1, 2] {
        let done = run(&format!("run-{n}"))?.upsert_artifact(&image(n)?, ID)?;
        println!("{} contributed {} file to {}", done.run, done.files, done.draft);
    }

    // Run 3 brings its own and finishes: one version, and the id is closed.
    let third = run("run-3")?;
    let published = third.finish_artifact(&image(3)?, ID)?;
    for visit in published.version.entries()? {
        println!("{} {}", published.version, visit?.path);
    }
    assert_eq!(published.version.record().files, 3);

    // Repeated, it returns the same version; new content is refused.
    let again = third.finish_artifact(&Artifact::new("images", None)?, ID)?;
    assert_eq!((again.created, again.version.number()), (false, published.version.number()));
    let late = run("run-4")?.upsert_artifact(&image(4)?, ID).expect_err("the id is closed");
    println!("run-4: {late}");
    assert_eq!(late.kind(), Kind::Conflict);
    std::fs::remove_dir_all(&dir).map_err(|e| cairn::Error::io("remove", &dir, e))
}
