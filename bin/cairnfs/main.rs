//! `cairnfs STORE MNT [-o options]`: mounts a store, a version or a run's staging directory, from the command line,
//! mount(8) or fstab.

mod options;

use cairn::Store;
use cairn::catalog::resolve;
use cairn::catalog::{Draft, RunRecord};
use cairn::error::{ErrorReport, Result};
use cairn::fuse::staging::{StagingOptions, mount_staging};
use cairn::fuse::{Guard, Io, MountOptions, VersionView, mount_store, mount_version};
use cairn::internals::manifest::NodeRef;
use cairn::manifest::Tree;
use cairn::staging::{Resume, Stage};
use cairn::types::Digest;
use clap::Parser;
use options::What;
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = concat!(
    "Examples:\n",
    "  cairnfs /data/store /mnt/all                                    # MNT/NAME/vN, MNT/NAME/ALIAS\n",
    "  cairnfs /data/store /mnt/set -o version=set:v3,allow_other\n",
    "  cairnfs /data/store /mnt/out -o stage=eval,distributed_id=job-99,run=rank-3   # writable\n",
    "  mount -t fuse.cairnfs /data/store /mnt/set -o version=set:v3\n",
    "  /etc/fstab:  /data/store  /mnt/set  fuse.cairnfs  version=set:latest,allow_other,_netdev  0 0",
);

/// Mount a cairn store or one version of it, read-only, or the staging directory of a run, writable
#[derive(Parser)]
#[command(
    name = "cairnfs",
    version,
    after_help = EXAMPLES
)]
struct Arguments {
    /// The directory of the store
    store: PathBuf,
    /// The mount point, an empty directory
    mnt: PathBuf,
    /// Mount options, separated by commas, as in fstab: version=NAME:V, stage=NAME,distributed_id=ID,run=R, nostage,
    /// allow_other, threads=N, foreground, io=auto|no-open|passthrough, verify=put|all, refresh=SECONDS,
    /// deadline=SECONDS, log=FILE (default: syslog or systemd's journal, in the foreground stderr), and the options of
    /// mount(8), which are accepted
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<String>,
}

fn main() -> ExitCode {
    cairn::internals::disk::umask_is_ours();
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprint!("{}", ErrorReport::from(&e).to_text());
            ExitCode::from(e.kind().exit_status())
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let (what, options) = options::parse(&arguments.options)?;
    // The daemon opens the store by itself, because locks and files of this process end with it.
    let root = Store::open(&arguments.store)?.root().to_path_buf();
    match what {
        What::Store => mount_store(&root, &arguments.mnt, &options),
        What::Version(spec) => mount_version(
            |at| VersionView::of(&resolve(&Store::open(&root)?, &spec)?, at),
            &root,
            &arguments.mnt,
            &options,
        ),
        What::Stage(name, id, run) => {
            let open = || {
                let record = RunRecord { id: run, group: None, job_type: None };
                Stage::open(&Draft::new(&Store::open(&root)?, &name, &id), &record, None, Resume::Continue)
            };
            mount_staging(open, &root, &arguments.mnt, &staging(&options))
        }
        What::Tree(digest, time) => {
            mount_version(|_| open_tree(&Store::open(&root)?, digest, time), &root, &arguments.mnt, &options)
        }
    }
}

/// The options that also apply to a staging directory.
fn staging(options: &MountOptions) -> StagingOptions {
    let mut staging = StagingOptions::default()
        .run_mode(options.run_mode)
        .passthrough(options.io != Io::NoOpen)
        .allow_other(options.allow_other)
        .execution(options.execution)
        .threads(options.threads);
    staging.log = options.log.clone();
    staging
}

/// Opens a tree by the digest of its root, without a version record: a version whose record is damaged can be read this
/// way.
fn open_tree(store: &Store, digest: Digest, time: i64) -> Result<(VersionView, Guard)> {
    let objects = store.objects().clone();
    let tree = Tree::open(NodeRef::from(digest), objects.clone())?;
    Ok((VersionView { tree, objects, commit_time: time, label: format!("tree {}", &digest.hex()[..12]) }, Box::new(())))
}
