//! Making versions: artifacts in the making, runs, and the one door through which a version is published.

mod artifact;
mod publish;
mod run;

pub use artifact::{Artifact, FileWriter};
pub use publish::{Published, SaveOptions, help, scan_dir};
pub use run::{Run, RunOptions};
