//! The README's tour, run line by line as a reader would type it.

use crate::support::{TestStore, text};
use std::path::Path;

/// One command of the tour and what the README says that it prints.
struct Step {
    command: String,
    output: String,
}

fn tour() -> Vec<Step> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, rest) = readme.split_once("```console\n").expect("README.md has a tour");
    let mut steps: Vec<Step> = Vec::new();
    for line in rest.split("```").next().unwrap().lines() {
        match line.strip_prefix("$ ") {
            Some(command) => steps.push(Step { command: command.into(), output: String::new() }),
            None => {
                let step = steps.last_mut().expect("the tour begins with a command");
                step.output += line;
                step.output.push('\n');
            }
        }
    }
    steps
}

/// Times, which differ at each run, as `TIME`.
fn without_times(text: &str) -> String {
    let is_time = |word: &str| word.len() == 20 && word.starts_with("20") && word.ends_with('Z');
    text.split(' ').map(|word| if is_time(word) { "TIME" } else { word }).collect::<Vec<_>>().join(" ")
}

/// Unmounts what the tour has mounted, also after a failure.
struct Unmount<'a>(&'a TestStore);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = self.0.cairn(&["umount", "home/mnt"]).output();
    }
}

#[test]
fn every_line_of_the_readmes_tour_runs_and_prints_what_the_readme_says() {
    let test_store = TestStore::new();
    let home = test_store.path("home");
    std::fs::create_dir(&home).unwrap();
    let home = home.canonicalize().unwrap();
    let _unmount = Unmount(&test_store);
    let steps = tour();
    assert!(steps.len() >= 12, "{} commands", steps.len());
    for Step { command, output } in steps {
        if !Path::new("/dev/fuse").exists() && command.contains("mnt") {
            println!("skipped, no /dev/fuse: {command}");
            continue;
        }
        let ran = test_store.reader("sh", &home, &command);
        let printed = text(&ran.stdout).replace(home.to_str().unwrap(), "/home/ada");
        assert!(ran.status.success(), "{command}: {:?}\n{printed}", ran.status);
        assert_eq!(without_times(&printed), without_times(&output), "{command}");
    }
}
