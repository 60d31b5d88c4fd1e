//! `cairn mount` and `cairn umount`

use super::shared_args::RunArgs;
use crate::errors::{CommandResult, Failure};
use crate::help::Help;
use crate::output::Context;
use crate::signals;
use cairn::Store;
use cairn::catalog::{Selector, VersionSpec, resolve};
use cairn::error::{Error, Kind, Result, shell_path, shell_word};
use cairn::fuse::{self, MountOptions, RunMode, VersionView};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `cairn mount`
#[derive(Args, Debug)]
pub struct MountArgs {
    /// The mount point: an empty directory
    #[arg(value_name = "MNT")]
    pub mountpoint: PathBuf,
    /// Mount a run's staging directory for a draft, writable
    #[arg(long, requires = "version")]
    pub stage: bool,
    /// With --stage: the draft's id, the same for all its runs [default: the value of --group]
    #[arg(long, value_name = "ID", requires = "stage")]
    pub distributed_id: Option<String>,
    /// Whole store: without staging directories
    #[arg(long, conflicts_with = "stage")]
    pub no_stage: bool,
    /// With --stage: start empty instead of with the files that the run left
    #[arg(long, requires = "stage")]
    pub fresh: bool,
    /// The version; without it, the whole store
    #[arg(value_name = "NAME[:V]")]
    pub version: Option<String>,
    /// Stay in the foreground; Ctrl-C unmounts
    #[arg(long)]
    pub foreground: bool,
    /// Let other users read all versions in the mount; those who may write to the store can write to its staging
    /// directories
    #[arg(long)]
    pub allow_other: bool,
    /// How files are opened and read
    #[arg(long, value_enum, default_value = "auto")]
    pub io: IoArg,
    /// When content is hashed
    #[arg(long, value_enum, default_value = "put")]
    pub verify: VerifyModeArg,
    /// Answer N requests at a time, 1 to 256 [default: one per processor, 2 to 4]
    #[arg(long, value_name = "N", value_parser = super::shared_args::whole::<u16>(1..=cairn::fuse::MAX_THREADS as u64))]
    pub threads: Option<u16>,
    /// Whole store: show new versions and moved aliases within SECONDS
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = super::shared_args::whole::<u16>(1..=3600))]
    pub refresh: u16,
    /// Read through a cache in DIR, a directory on a disk of this node; for stores on slow shared disks
    #[arg(long, value_name = "DIR", env = "CAIRN_NODE_CACHE", hide_env_values = true)]
    pub cache: Option<PathBuf>,
    /// The bytes that the cache may have, for all that use it, such as 500M or 100G [default: as it was; 10G at first]
    #[arg(long, value_name = "N", requires = "cache", value_parser = super::cache::size)]
    pub cache_size: Option<u64>,
    /// One version: read all its content ahead in the background, into memory and into the cache; see `cairn warm`
    #[arg(long, requires = "version", conflicts_with = "stage")]
    pub warm: bool,
    /// Write the daemon's errors (such as why a read gives EIO) to FILE [default: syslog; with --foreground stderr]
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// The run that --stage is for.
    #[command(flatten)]
    pub run: RunArgs,
}

/// How a mount reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IoArg {
    /// As passthrough if most files are large and the user is root, else as no-open
    Auto,
    /// The kernel opens files without asking the daemon, and asks it only for bytes that are not in the page cache;
    /// best for small files. With --stage: all reads go through the daemon
    NoOpen,
    /// The kernel reads large files directly from the store; only root may
    Passthrough,
}

/// When a mount hashes content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VerifyModeArg {
    /// Small files at each read; large files if their size or time is not as stored
    Put,
    /// Also each large file before its first byte is read
    All,
}

/// The text of `--help`.
pub const MOUNT_HELP: Help = Help {
    description: &[
        "Without NAME the whole store is mounted: MNT/NAME/vN and MNT/NAME/ALIAS. New versions and moved \
         aliases appear in it. With NAME one version is mounted at MNT itself, and printed. The mount keeps that \
         version, also if an alias moves or a new version is made.",
        "--stage mounts a run's staging directory: what the run writes there becomes its contribution \
         (`cairn seal`, `cairn umount`). If a run was interrupted, mount again: it continues with its \
         files. In a mount of the whole store, `mkdir -p MNT/.staging/NAME/ID/RUN` makes the staging directory of a \
         run for the draft ID of the artifact NAME.",
        "--cache keeps what is read of packs and of large files in DIR. Later reads on this node, by any process that \
         uses DIR, are as fast as DIR's disk. A missing DIR is made for you alone; to share one, make it for a group \
         (chmod 2770). A full disk or damage in DIR fails no read. `cairn cache` shows and trims it.",
        "`cairn umount MNT` unmounts. Where there is no --log, `journalctl -t cairnfs` shows the daemon's errors.",
    ],
    examples: &[
        ("cairn mount /mnt/all", "the whole store"),
        ("mkdir -p /mnt/all/.staging/eval/eval-7/rank-3", "in it: a staging directory"),
        ("cairn mount /mnt/images images:v3", "one version; prints images:v3"),
        ("cairn mount /mnt/images images", "the version that is the newest now"),
        ("cairn mount /mnt/w model:prod --foreground --verify all", ""),
        ("cairn mount /mnt/w model:prod --cache /scratch/cairn --cache-size 200G", "read through a local disk"),
        ("cairn mount mnt eval --stage --distributed-id eval-7 --run rank-3", "a run's staging directory"),
    ],
    exit: &[(3, "refused: another process of the run is writing, the draft is finished, or the mount point is in use")],
    json: "One version: {\"artifact\", \"version\", \"mountpoint\"}\n\
         Whole store: {\"store\", \"mountpoint\"}\n\
         --stage: {\"artifact\", \"distributed_id\", \"run\", \"mountpoint\"}",
    list: None,
};

/// `cairn umount`
#[derive(Args, Debug)]
pub struct UmountArgs {
    /// Do not seal a staging directory; the run can continue with it later
    #[arg(long)]
    pub no_seal: bool,
    /// The mount point
    #[arg(value_name = "MNT")]
    pub mountpoint: PathBuf,
}

/// The text of `--help`.
pub const UMOUNT_HELP: Help = Help {
    description: &[
        "If the sealing is refused, the staging directory stays mounted. An unmount of the whole store, and a plain \
         umount(8), seal nothing. Staging directories that stay open are listed; mount them again, or run `cairn \
         upsert` without SRC, to make them contributions.",
        "It also unmounts after the daemon was killed. If the same mount exists at another place (a bind \
         mount, a container), a warning names that place: the daemon runs until it is unmounted there \
         too, and until then `cairn rm` of the version is refused.",
    ],
    examples: &[("cairn umount /mnt/images", ""), ("cairn umount mnt --no-seal", "the run continues later")],
    exit: &[(3, "the staging directory could not be sealed, or the mount is in use; it stays mounted")],
    json: "{\"mountpoint\", \"elsewhere\": [{\"mountpoint\", \"pid\", \"process\"}]}",
    list: None,
};

/// Mounts a version, or the whole store.
pub fn mount(context: &mut Context, args: MountArgs) -> CommandResult {
    if args.stage {
        return super::stage::mount(context, args);
    }
    match &args.version {
        None => mount_store(context, &args),
        Some(spec) => mount_version(context, &args, spec),
    }
}

fn mount_store(context: &mut Context, args: &MountArgs) -> CommandResult {
    let root = context.store()?.root().to_path_buf();
    let document = json!({ "store": root.to_string_lossy(), "mountpoint": absolute(&args.mountpoint) });
    let print = |context: &mut Context| if context.json() { context.out.json(&document) } else { Ok(()) };
    serve(context, args, print, |options| fuse::mount_store(&root, &args.mountpoint, options))
}

fn mount_version(context: &mut Context, args: &MountArgs, spec: &str) -> CommandResult {
    let version = context.version(spec).map_err(|e| first_the_mount_point(context, e, args, spec))?;
    let name = version.to_string();
    // The daemon opens the store itself: files that this process has open are closed when it ends.
    let root = version.store().root().to_path_buf();
    let exact = VersionSpec { artifact: version.artifact().clone(), selector: Selector::Number(version.number()) };
    let document = json!({ "artifact": version.artifact(), "version": version.number(),
    "mountpoint": absolute(&args.mountpoint) });
    drop(version);
    let print =
        |context: &mut Context| if context.json() { context.out.json(&document) } else { context.out.line(&name) };
    serve(context, args, print, |options| {
        fuse::mount_version(
            |at| VersionView::of(&resolve(&Store::open(&root)?, &exact)?, at),
            &root,
            &args.mountpoint,
            options,
        )
    })
}

/// The error for a version that does not exist, with a hint if the arguments are exchanged.
fn first_the_mount_point(context: &Context, e: Error, args: &MountArgs, spec: &str) -> Error {
    let first = args.mountpoint.to_str().filter(|first| context.version(first).is_ok());
    match first.filter(|_| e.kind() == Kind::NotFound) {
        Some(first) => e.with_hint(format!(
            "the mount point comes first: `cairn mount {} {}`",
            shell_word(spec),
            shell_word(first)
        )),
        None => e,
    }
}

/// Mounts, and prints what is mounted. In the foreground it prints first, because the call returns only when the mount
/// ends.
fn serve(
    context: &mut Context,
    args: &MountArgs,
    print: impl Fn(&mut Context) -> std::result::Result<(), Failure>,
    mount: impl FnOnce(&MountOptions) -> Result<()>,
) -> CommandResult {
    if args.foreground {
        print(context)?;
        context.out.flush()?;
    }
    signals::unwatch(); // the library handles the signals that end a mount
    mount(&options(args))?;
    if !args.foreground {
        print(context)?;
        context.out.flush()?;
        context.status(&format!("mounted; `cairn umount {}` ends it", shell_path(&args.mountpoint)));
    }
    Ok(0)
}

/// A mount point's absolute path, for JSON.
pub fn absolute(path: &Path) -> String {
    path.canonicalize()
        .or_else(|_| std::path::absolute(path))
        .unwrap_or_else(|_| path.to_path_buf())
        .to_string_lossy()
        .into_owned()
}

fn options(args: &MountArgs) -> MountOptions {
    let mut options = MountOptions::default()
        .run_mode(if args.foreground { RunMode::Foreground } else { RunMode::Background })
        .allow_other(args.allow_other)
        .verify(match args.verify {
            VerifyModeArg::Put => fuse::VerifyMode::Put,
            VerifyModeArg::All => fuse::VerifyMode::All,
        })
        .io(match args.io {
            IoArg::Auto => fuse::Io::Auto,
            IoArg::NoOpen => fuse::Io::NoOpen,
            IoArg::Passthrough => fuse::Io::Passthrough,
        })
        .warm(args.warm)
        .staging(!args.no_stage)
        .refresh(Duration::from_secs(args.refresh.into()));
    options.log = args.log.clone();
    options.cache = args.cache.as_ref().map(|dir| {
        let cache = fuse::CacheOptions::new(dir);
        if let Some(size) = args.cache_size { cache.size(size) } else { cache }
    });
    if let Some(threads) = args.threads {
        options.threads = usize::from(threads);
    }
    options
}

/// Unmounts.
pub fn umount(context: &mut Context, args: UmountArgs) -> CommandResult {
    signals::unwatch(); // the daemon may not answer: a signal must end the wait at once
    let unmounting = super::stage::before_unmount(context, &args.mountpoint, !args.no_seal)?;
    let left = fuse::unmount(&args.mountpoint)?;
    for place in &left.elsewhere {
        context.warn(&format!("it is still mounted at {place}"));
    }
    if let Some(daemon) = left.daemon {
        let what = if left.elsewhere.is_empty() { "still runs" } else { "serves it there" };
        let then = "until it ends, `cairn rm` of what is mounted is refused";
        context.warn(&format!("the daemon, process {daemon}, {what}: {then}"));
    }
    unmounting.end(context, &args.mountpoint, left.daemon.is_some())?;
    if context.json() {
        let elsewhere = left.elsewhere.iter().map(|e| {
            let (pid, name) = e.process.as_ref().map(|(pid, name)| (pid, name)).unzip();
            json!({ "mountpoint": e.at.to_string_lossy(), "pid": pid, "process": name })
        });
        context
            .out
            .json(&json!({ "mountpoint": absolute(&args.mountpoint), "elsewhere": elsewhere.collect::<Vec<_>>() }))?;
    }
    Ok(0)
}
