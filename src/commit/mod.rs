//! Making versions: artifacts in the making, runs, and the one door through which a version is published.

mod artifact;
mod chain;
mod changes;
mod collect;
mod copy;
mod patch;
mod publish;
mod run;
mod simple;
mod stage;

pub use artifact::{Artifact, FileWriter};
pub use changes::{Change, parse_changes};
pub use collect::scan_dir;
pub use copy::copy;
pub use publish::{Published, SaveOptions, help};
#[doc(hidden)]
pub use simple::publish_generated;
pub use run::{Run, RunOptions};
