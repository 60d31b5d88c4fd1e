//! `cairn archive` and `cairn manifest`

use super::entry::Line;
use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::{Context, count};
use cairn::error::Error;
use cairn::export::{ArchiveFormat, archive as write_archive, wandb_manifest};
use cairn::types::RelPath;
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;

/// `cairn archive`
#[derive(Args, Debug)]
pub struct ArchiveArgs {
    /// The version
    #[arg(value_name = "NAME[:V]")]
    pub version: String,
    /// Only what is at this path of the version
    #[arg(long, value_name = "PATH")]
    pub path: Option<OsString>,
    /// The form of the archive
    #[arg(long, value_enum, default_value_t = Form::Tar)]
    pub format: Form,
}

/// The form of an archive.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Form {
    /// POSIX tar
    Tar,
    /// Zip, not compressed
    Zip,
}

/// The text of `--help`.
pub const ARCHIVE_HELP: Help = Help {
    description: &[
        "Writes the archive to stdout. The same version gives the same bytes on every host: entries are in \
         path order, with modes 0644 and 0755, without owners, and with the time of the commit.",
    ],
    examples: &[
        ("cairn archive images:v3 > images.tar", ""),
        ("cairn archive images:v3 | zstd > images.tar.zst", ""),
        ("cairn archive images --path 2026 --format zip > 2026.zip", ""),
    ],
    exit: &[],
    json: "",
    list: None,
};

/// `cairn manifest`
#[derive(Args, Debug)]
pub struct ManifestArgs {
    /// The version
    #[arg(value_name = "NAME[:V]")]
    pub version: String,
    /// The form of the manifest
    #[arg(long, value_enum, default_value_t = ManifestForm::Json)]
    pub format: ManifestForm,
}

/// The form of a manifest.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ManifestForm {
    /// A line of JSON for each entry, with its SHA-256
    Json,
    /// W&B's manifest, version 1, with MD5 digests
    Wandb,
}

/// The text of `--help`.
pub const MANIFEST_HELP: Help = Help {
    description: &[
        "Prints what the version contains, for other tools. --format json prints the lines of `cairn ls -R --json`.",
        "--format wandb reads and hashes every file. It leaves out symlinks and empty directories, which W&B's \
         manifest does not have, and prints W&B's digest of the version on stderr.",
    ],
    examples: &[
        ("cairn manifest images:v3 | jq -r 'select(.kind == \"file\").digest'", ""),
        ("cairn manifest images:v3 --format wandb > manifest.json", ""),
    ],
    exit: &[],
    json: "What --format says; there is no other form.",
    list: None,
};

/// Writes an archive.
pub fn archive(context: &mut Context, args: ArchiveArgs) -> CommandResult {
    let path = args.path.as_ref().map_or(Ok(RelPath::root()), |p| RelPath::parse_or_root(p.as_bytes()))?;
    let version = context.version(&args.version)?;
    if std::io::stdout().is_terminal() {
        return Err(Error::usage("an archive is not written to a terminal")
            .with_hint(format!("write it to a file: cairn archive {version} > {}.tar", version.artifact()))
            .into());
    }
    let format = match args.format {
        Form::Tar => ArchiveFormat::Tar,
        Form::Zip => ArchiveFormat::Zip,
    };
    match write_archive(&version, &path, format, &mut context.out) {
        Err(e) if e.errno() == Some(libc::EPIPE) => Err(crate::errors::Failure::PipeClosed),
        result => Ok(result.map(|()| 0)?),
    }
}

/// Prints a manifest.
pub fn manifest(context: &mut Context, args: ManifestArgs) -> CommandResult {
    let version = context.version(&args.version)?;
    match args.format {
        ManifestForm::Json => {
            for visit in version.entries()? {
                let visit = visit?;
                context.out.json(&Line::of(visit.path.as_bytes(), &visit.entry))?;
            }
        }
        ManifestForm::Wandb => {
            let manifest = wandb_manifest(&version)?;
            context.out.json(&manifest.json)?;
            if !manifest.omitted.is_empty() {
                let omitted = count(manifest.omitted.len() as u64, "entry");
                context.warn(&format!("left out {omitted}: W&B's manifest has no symlinks and no empty directories"));
            }
            context.status(&format!("digest {}", manifest.digest));
        }
    }
    Ok(0)
}
