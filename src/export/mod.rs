//! Versions for other tools: as a tar or zip archive, and as W&B's manifest.

mod archive;
mod wandb;

pub use archive::{ArchiveFormat, archive};
pub use wandb::{WandbManifest, wandb_manifest};
