//! The commands: one file for each, or for a few that belong together. A file has the arguments, the help, and the
//! function that calls the library and prints.

mod access;
mod alias;
mod annotate;
mod cache;
mod copy;
mod demo;
mod diff;
mod draft;
mod du;
mod entry;
mod export;
mod fetch;
mod find;
mod finish;
mod gc;
mod get;
mod info;
mod init;
mod lineage;
mod list;
mod locks;
mod log;
mod ls;
mod mount;
mod mounts;
mod patch;
mod put;
mod restore;
mod rm;
mod shared_args;
mod shell;
mod show;
mod sources;
mod stage;
mod stdin;
mod table;
mod upgrade;
mod upsert;
mod uri;
mod verify;
mod warm;

use crate::errors::CommandResult;
use crate::help::{Group, Help};
use crate::output::Context;
use clap::Subcommand;

/// The groups of `cairn --help`, as in README's table.
pub const GROUPS: [Group; 9] = [
    ("Make versions", &["put", "patch", "copy", "fetch"]),
    ("Make one version by many runs", &["upsert", "finish", "drafts", "draft"]),
    ("Read versions", &["list", "show", "log", "ls", "cat", "table", "get", "diff", "find", "archive", "manifest"]),
    ("Record and show where versions come from", &["use", "lineage"]),
    ("Name and describe versions", &["alias", "unalias", "tag", "untag", "annotate"]),
    ("Mount", &["mount", "mounts", "seal", "umount", "warm", "cache"]),
    ("Remove versions and free space", &["rm", "restore", "gc"]),
    ("Make, describe and check a store", &["init", "info", "du", "access", "upgrade", "locks", "verify"]),
    ("Help", &["help", "demo", "completions", "manpages", "version"]),
];

/// The commands. The order is that of the manual page; `cairn --help` has [`GROUPS`].
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Make a version from files and directories
    Put(Box<put::PutArgs>),
    /// Make the next version by changing an earlier one
    Patch(Box<patch::PatchArgs>),
    /// Copy a version to another name or another store
    Copy(copy::CopyArgs),
    /// Store the content of references: the next version has files in their place
    Fetch(fetch::FetchArgs),
    /// Contribute one run's files to a draft
    Upsert(Box<upsert::UpsertArgs>),
    /// Publish the contributions to a draft as one version
    Finish(Box<finish::FinishArgs>),
    /// List the drafts: versions of many runs that are not finished
    Drafts(draft::DraftsArgs),
    /// Show or discard a draft, or remove a run's contributions
    Draft(draft::DraftArgs),
    /// List artifacts, or the versions of one artifact
    List(list::ListArgs),
    /// Show what is recorded about a version
    Show(show::ShowArgs),
    /// Show who published, removed, moved or annotated what, and when
    Log(log::LogArgs),
    /// List the files of a version
    Ls(ls::LsArgs),
    /// Write a file of a version to stdout
    Cat(ls::CatArgs),
    /// Print a table from a version
    Table(table::TableArgs),
    /// Write a version to a directory
    Get(get::GetArgs),
    /// Compare two versions, or a version and a directory
    Diff(diff::DiffArgs),
    /// Find the versions that contain a file, by its digest or path
    Find(find::FindArgs),
    /// Write a version as a tar or zip archive to stdout
    Archive(export::ArchiveArgs),
    /// Print what a version contains, for other tools
    Manifest(export::ManifestArgs),
    /// Record that a run uses a version
    Use(lineage::UseArgs),
    /// Show which runs made and used a version, and what was made from it
    Lineage(lineage::LineageArgs),
    /// Point an alias at a version
    Alias(alias::AliasArgs),
    /// Remove aliases
    Unalias(alias::UnaliasArgs),
    /// Add tags to a version
    Tag(annotate::TagArgs),
    /// Remove tags from a version
    Untag(annotate::TagArgs),
    /// Set the description and the metadata of a version
    Annotate(annotate::AnnotateArgs),
    /// Mount the store, a version or a run's staging directory
    Mount(Box<mount::MountArgs>),
    /// List the cairn mounts of this host
    Mounts(mounts::MountsArgs),
    /// Make a run's staging directory its contribution
    Seal(stage::SealArgs),
    /// Unmount; a staging directory is sealed first
    Umount(mount::UmountArgs),
    /// Read a version ahead, into memory or into a node-local cache
    Warm(warm::WarmArgs),
    /// Show or trim a node-local cache, which keeps what was read from slow places
    Cache(cache::CacheArgs),
    /// Remove versions
    Rm(rm::RmArgs),
    /// Bring back a removed version
    Restore(restore::RestoreArgs),
    /// Free the space of content that no version needs
    Gc(gc::GcArgs),
    /// Make a store
    Init(init::InitArgs),
    /// Describe the store: where it is, its format, and what it contains
    Info(info::InfoArgs),
    /// Print the sizes of artifacts and versions, and what removing them would free
    Du(du::DuArgs),
    /// Show who may use the store, or open it to a group of users
    Access(access::AccessArgs),
    /// Turn on newer features of the store
    Upgrade(upgrade::UpgradeArgs),
    /// List the mounts, and the commands that are at work
    Locks(locks::LocksArgs),
    /// Check the store for damage by hashing its content again
    Verify(verify::VerifyArgs),
    /// Show cairn at work on a directory, in a temporary store
    Demo(demo::DemoArgs),
    /// Print the completions for a shell
    Completions(shell::CompletionsArgs),
    /// Write the manual pages
    Manpages(shell::ManpagesArgs),
    /// Print the version of cairn
    Version,
}

/// Runs one command and returns its exit status.
pub fn run(context: &mut Context, command: Command) -> CommandResult {
    match command {
        Command::Init(args) => init::run(context, args),
        Command::Upgrade(args) => upgrade::run(context, args),
        Command::Put(args) => put::run(context, *args),
        Command::Upsert(args) => upsert::run(context, *args),
        Command::Finish(args) => finish::run(context, *args),
        Command::Drafts(args) => draft::list(context, args),
        Command::Draft(args) => draft::run(context, args),
        Command::Patch(args) => patch::run(context, *args),
        Command::Copy(args) => copy::run(context, args),
        Command::Fetch(args) => fetch::run(context, args),
        Command::List(args) => list::run(context, args),
        Command::Ls(args) => ls::ls(context, args),
        Command::Show(args) => show::run(context, args),
        Command::Use(args) => lineage::use_version(context, args),
        Command::Lineage(args) => lineage::run(context, args),
        Command::Cat(args) => ls::cat(context, args),
        Command::Table(args) => table::run(context, args),
        Command::Find(args) => find::run(context, args),
        Command::Du(args) => du::run(context, args),
        Command::Archive(args) => export::archive(context, args),
        Command::Manifest(args) => export::manifest(context, args),
        Command::Info(args) => info::run(context, args),
        Command::Get(args) => get::run(context, args),
        Command::Diff(args) => diff::run(context, args),
        Command::Verify(args) => verify::run(context, args),
        Command::Locks(args) => locks::run(context, args),
        Command::Gc(args) => gc::run(context, args),
        Command::Access(args) => access::run(context, args),
        Command::Rm(args) => rm::run(context, args),
        Command::Restore(args) => restore::run(context, args),
        Command::Alias(args) => alias::alias(context, args),
        Command::Unalias(args) => alias::unalias(context, args),
        Command::Tag(args) => annotate::tag(context, args),
        Command::Untag(args) => annotate::untag(context, args),
        Command::Annotate(args) => annotate::annotate(context, args),
        Command::Log(args) => log::run(context, args),
        Command::Mount(args) => mount::mount(context, *args),
        Command::Mounts(args) => mounts::run(context, args),
        Command::Seal(args) => stage::seal(context, args),
        Command::Umount(args) => mount::umount(context, args),
        Command::Warm(args) => warm::run(context, args),
        Command::Cache(args) => cache::run(context, args),
        Command::Demo(args) => demo::run(context, args),
        Command::Completions(args) => shell::completions(context, args),
        Command::Manpages(args) => shell::manpages(context, args),
        Command::Version => shell::version(context),
    }
}

/// The long help of a command, or of a subcommand as `draft show`.
pub fn help_of(path: &str) -> Option<&'static Help> {
    Some(match path {
        "init" => &init::HELP,
        "put" => &put::HELP,
        "upsert" => &upsert::HELP,
        "finish" => &finish::HELP,
        "drafts" => &draft::DRAFTS_HELP,
        "draft" => &draft::DRAFT_HELP,
        "draft show" => &draft::DRAFT_SHOW_HELP,
        "draft drop" => &draft::DRAFT_DROP_HELP,
        "draft discard" => &draft::DRAFT_DISCARD_HELP,
        "patch" => &patch::HELP,
        "copy" => &copy::HELP,
        "fetch" => &fetch::HELP,
        "list" => &list::HELP,
        "ls" => &ls::LS_HELP,
        "show" => &show::HELP,
        "cat" => &ls::CAT_HELP,
        "table" => &table::HELP,
        "find" => &find::HELP,
        "du" => &du::HELP,
        "archive" => &export::ARCHIVE_HELP,
        "manifest" => &export::MANIFEST_HELP,
        "info" => &info::HELP,
        "get" => &get::HELP,
        "diff" => &diff::HELP,
        "verify" => &verify::HELP,
        "locks" => &locks::HELP,
        "rm" => &rm::HELP,
        "restore" => &restore::HELP,
        "gc" => &gc::HELP,
        "access" => &access::HELP,
        "upgrade" => &upgrade::HELP,
        "alias" => &alias::ALIAS_HELP,
        "unalias" => &alias::UNALIAS_HELP,
        "tag" => &annotate::TAG_HELP,
        "untag" => &annotate::UNTAG_HELP,
        "annotate" => &annotate::ANNOTATE_HELP,
        "log" => &log::HELP,
        "use" => &lineage::USE_HELP,
        "lineage" => &lineage::HELP,
        "mount" => &mount::MOUNT_HELP,
        "mounts" => &mounts::HELP,
        "seal" => &stage::HELP,
        "umount" => &mount::UMOUNT_HELP,
        "warm" => &warm::HELP,
        "cache" => &cache::CACHE_HELP,
        "cache show" => &cache::CACHE_SHOW_HELP,
        "cache trim" => &cache::CACHE_TRIM_HELP,
        "demo" => &demo::HELP,
        "completions" => &shell::COMPLETIONS_HELP,
        "manpages" => &shell::MANPAGES_HELP,
        "version" => &shell::VERSION_HELP,
        _ => return None,
    })
}
