//! What can be typed, and the help for it.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// Versions of directories: immutable, content-addressed, mountable, on plain disk.
#[derive(Parser, Debug)]
#[command(name = "cairn", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "\
A version is written NAME:vN, NAME:ALIAS, or NAME alone for the newest (NAME:latest).

Begin with:
  cairn init                        # a store in ./.cairn
  cairn put images ./photos         # prints images:v0
  cairn list images
  cairn mount /mnt/images images    # read it as a directory
  cairn demo                        # or see all of it at work

Exit status: 0 done; 1 the answer is no (diff: differences, verify: damage); 2 usage; 3 refused;
4 damaged store; 5 I/O; 6 not found.")]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that may stand before or after the command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The store [default: the nearest .cairn upwards from here]
    #[arg(long, global = true, env = "CAIRN_STORE", hide_env_values = true, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Print JSON; errors too, on stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// No talk: only data, warnings and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Make a store
    #[command(after_help = "\
Examples:
  cairn init                             # ./.cairn, found from here and below
  cairn init /data/store --group lab     # all of group lab may write
  export CAIRN_STORE=/data/store         # then use it from anywhere

Prints the store's directory. Where there is a store already: exit 3, nothing is changed.
--json: {\"path\"}")]
    Init(Init),
    /// Make a version from files and directories
    #[command(after_help = "\
Examples:
  cairn put images ./photos                              # what is in ./photos; prints images:v0
  cairn put model weights.bin config.json --type model --alias prod
  cairn put images ./photos --exclude '*.tmp' --tag raw --description 'as scanned'
  cairn put results out/ --at 2026/run1 --metadata '{\"loss\": 0.1}'
  cairn put shop-db --stdin-filename shop.sql --stdin-from-command -- mysqldump shop
  tar c ./photos | cairn put photos - --stdin-filename photos.tar
  cairn put corpus s3://bucket/corpus.tar                # a reference: recorded, not copied

A directory adds its contents, a file adds itself by its base name, - is stdin, SCHEME://... is a
reference. With --stdin-from-command nothing is published if the command fails; a pipe into - cannot
tell, so only an empty stdin is refused.
Nothing changed since the newest version: that one is printed. A put that was interrupted
stores only the rest when it is run again. `.cairnignore` files (gitignore's syntax) leave things out.
A file that looks unchanged is not read again where its file system's time stamps prove that;
--rehash reads all, CAIRN_STAT_CACHE=off keeps no cache.
--json: {\"artifact\",\"version\",\"digest\",\"created\",\"files\",\"bytes\",\"new_bytes\"}")]
    Put(Box<Put>),
    /// Contribute a run's part to a version that many runs make together
    #[command(after_help = "\
Examples:
  cairn upsert eval image1.png --distributed-id eval-7           # run 1; prints NAME ID RUN
  cairn upsert eval out/ --at rank-3 --run rank-3 --group job-99 # ID is the group: job-99
  cairn upsert eval fixed/ --run rank-3 --distributed-id eval-7  # goes over what rank-3 gave before
  cairn finish eval --distributed-id eval-7                      # makes the version

Any number of runs, on any number of hosts, at once. A later upsert of the same run goes over its
earlier ones path by path (--replace: stands instead of them). After the finish: exit 3, for ever.
One run writes at a time: beside another live process of the same run it is refused (exit 3).
--json: {\"artifact\",\"distributed_id\",\"run\",\"files\",\"bytes\"}")]
    Upsert(Box<Upsert>),
    /// Make one version of all contributions, and lock it
    #[command(after_help = "\
Examples:
  cairn finish eval --distributed-id eval-7                      # prints eval:v0
  cairn finish eval summary.json --distributed-id eval-7         # with a file of its own
  cairn finish eval --distributed-id job-99 --expect 64 --wait 600
  cairn finish eval --distributed-id eval-7 --on-conflict latest

Said again it prints the same version. Runs that differ at a path, or are still writing, are listed,
and nothing is recorded (exit 3); --wait waits for writers and for what is expected.
--json: {\"artifact\",\"version\",\"digest\",\"created\",\"files\",\"bytes\",\"new_bytes\"}")]
    Finish(Box<Finish>),
    /// List collaborative versions that are not finished
    #[command(after_help = "\
Examples:
  cairn drafts                           # ARTIFACT, ID, RUNS, FILES, SIZE, USERS, WRITING, SINCE
  cairn drafts eval --json
  cairn drafts --all                     # and what finished drafts left in staging/

Nothing expires by itself: `cairn draft discard NAME ID` gives one up.
--json: [{\"artifact\",\"distributed_id\",\"runs\",\"contributions\",\"files\",\"bytes\",\"users\",\"writing\",\"since\"}]
--all adds {\"artifact\",\"distributed_id\",\"run\",\"since\",\"left_at\",\"removed_by\"}")]
    Drafts(Drafts),
    /// Show a draft, take a run's part out, or give it up
    #[command(
        subcommand_required = true,
        arg_required_else_help = true,
        after_help = "\
Examples:
  cairn draft show eval eval-7
  cairn draft drop eval eval-7 --run rank-3
  cairn draft discard eval eval-7"
    )]
    Draft(Draft),
    /// Make the next version from changes of one
    #[command(after_help = "\
Examples:
  cairn patch crawl today.json --at 2026/11/25          # adds or replaces files; prints crawl:v8
  cairn patch crawl today.json --create                 # the first day too
  cairn patch images --remove raw/tmp --rename a.png b.png
  cairn patch images:v3 fixed/ --at labels              # the changes were made looking at v3
  cairn patch images:v3 fixed/ --onto v3                # v3 and this, whatever came after v3
  cairn diff images:v3 images:v5 --json | cairn patch images:v6 --from-diff -

Costs what it changes, however large the version. Removals and renames come first, then --from-diff,
then sources. A directory's contents go over what is there. Published on the newest version: if that is not
BASE, the changes are put on it (stderr says so), or refused (exit 3) where both changed the same path.
--from-diff needs the contents it names in the store (`cairn copy` brings them from another).
--json: {\"artifact\",\"version\",\"digest\",\"created\",\"files\",\"bytes\",\"new_bytes\"}")]
    Patch(Box<Patch>),
    /// Copy a version's content to another name or another store
    #[command(after_help = "\
Examples:
  cairn copy model:v7 model-released                    # promote, or rename
  cairn copy model:v3 model                             # roll back: v3's content is the newest again
  cairn copy images:prod images --to /backup/store      # only what is not there yet is copied

Content and type are copied; aliases, tags, description and metadata are what is said here.
--json: {\"artifact\",\"version\",\"digest\",\"created\",\"files\",\"bytes\",\"new_bytes\"}")]
    Copy(Box<Copy>),
    /// List artifacts, or the versions of one
    #[command(after_help = "\
Examples:
  cairn list                             # NAME, TYPE, VERSIONS, LATEST
  cairn list images                      # VERSION, CREATED, FILES, SIZE, MODE, DIGEST, ALIASES, TAGS, RUN
  cairn list images | awk '{print $1}'   # the headings are for terminals only
  cairn list images --json | jq -r '.[] | select(.tags | index(\"raw\")).version'

--json: [{\"artifact\",\"type\",\"versions\",\"latest\"}], of one artifact
[{\"version\",\"digest\",\"aliases\",\"tags\",\"files\",\"bytes\",\"created_at\",\"mode\",\"run\"}]")]
    List(List),
    /// List what is in a version
    #[command(after_help = "\
Examples:
  cairn ls images                        # the newest version's top level
  cairn ls images:v3 2026/raw -l         # mode, bytes, digest, path
  cairn ls images:prod -R                # everything below
  cairn ls images -R --json | jq -r 'select(.size > 1000000).path'

Paths are whole, from the version's root; a directory ends with /.
--json: one line for each entry {\"path\",\"kind\",\"size\",\"digest\",\"exec\",\"target\",\"uri\"}, what
applies; kind is file, directory, symlink or reference. Of a name that is not UTF-8, path is
readable and path_b64 exact.")]
    Ls(Ls),
    /// Show all that is known of a version
    #[command(after_help = "\
Examples:
  cairn show images:v3
  cairn show images --json | jq .metadata

--json: the version's record {\"artifact\",\"version\",\"type\",\"digest\",\"aliases\",\"tags\",\"description\",
\"metadata\",\"entries\",\"files\",\"bytes\",\"new_bytes\",\"created_at\",\"mode\",\"run\",\"group\",\"job_type\",
\"runs\"}; runs are those that made the same content")]
    Show(Show),
    /// Write a file of a version to stdout
    #[command(after_help = "\
Examples:
  cairn cat model:prod config.json
  cairn cat shop-db shop.sql | mysql shop")]
    Cat(Cat),
    /// Write a version out to a directory
    #[command(after_help = "\
Examples:
  cairn get images:v3 ./images
  cairn get images ./images --path 2026/raw     # that subtree, as ./images/2026/raw
  cairn get images ./images --force --prune     # make it exactly the version
  cairn get weights /scratch/w --link hardlink  # no copy; don't edit what you get

  cairn get corpus ./corpus --references skip   # what is in the store; references are left out

Files that are right already stay untouched; one that differs is refused (exit 3) without --force.
--prune leaves alone what a put would leave out too (.cairnignore), .git, other stores and mounts.
After an interruption, the same get continues. Prints the version it wrote.
--json: {\"artifact\",\"version\",\"directory\",\"files\",\"bytes\",\"written\",\"kept\",\"removed\",\"protected\",\"skipped\"}")]
    Get(Get),
    /// Compare two versions, or a version and a directory
    #[command(after_help = "\
Examples:
  cairn diff images:v3 images            # v3 against the newest
  cairn diff images ./photos             # what a put of ./photos would change
  cairn diff images:v3 images:v4 --stat
  cairn diff images:v3 ./photos --json > changes.json

Lines are `A path` (added), `D path` (removed), `M path` (changed). B is a directory when it begins
with ./, ../ or /, or is . or ... Exit status 1 when there are differences.
--json: {\"from\",\"to\",\"from_digest\",\"to_digest\",\"changes\":[{\"path\",\"change\":\"added|removed|changed\",
\"old\",\"new\"}],\"added\",\"removed\",\"changed\",...}; old and new are entries as of ls")]
    Diff(Diff),
    /// Read and hash again what is stored, and name what is damaged
    #[command(after_help = verify_help())]
    Verify(Verify),
    /// Show who is at work in the store
    #[command(after_help = "\
Examples:
  cairn locks
  cairn locks --break 3f0c               # its holder is gone for good; the beginning of an id will do

Breaking a lock costs at most work, never data. A lock whose process is certainly gone (it was taken
on this host, and the store is on a local disk) is removed by this command.
--json: [{\"id\",\"life\",\"purpose\",\"artifact\",\"version\",\"draft\",\"run\",\"mountpoint\",\"host\",\"pid\",
\"user\",\"since\"}]")]
    Locks(Locks),
    /// Remove versions
    #[command(after_help = "\
Examples:
  cairn rm images:v3 images:v4
  cairn rm images:v3 --dry-run           # says what would happen
  cairn rm images --all                  # every version; the name and its numbers stay taken

Refused (exit 3) while an alias other than latest names the version; --force takes the alias away
too. A number is never given again. The space it took is not freed yet: `cairn gc` is to come.
--json: {\"removed\":[{\"artifact\",\"version\"}],\"dry_run\"}")]
    Rm(Rm),
    /// Give a version an alias, or move one
    #[command(after_help = "\
Examples:
  cairn alias model:v7 prod              # prod now names v7
  cairn alias model prod best            # the newest version
  cairn alias model:v7 prod --expect v6  # only if prod is still at v6; else exit 3
  cairn alias model:v7 prod --expect none

--json: {\"artifact\",\"version\",\"aliases\"}")]
    Alias(Alias),
    /// Take aliases away
    #[command(after_help = "\
Examples:
  cairn unalias model prod

--json: {\"artifact\",\"aliases\"}")]
    Unalias(Unalias),
    /// Mount the store, or one version, as a read-only directory
    #[command(after_help = "\
Examples:
  cairn mount /mnt/all                   # /mnt/all/NAME/vN and /mnt/all/NAME/ALIAS, kept up to date
  mkdir -p /mnt/all/.staging/eval/eval-7/rank-3   # in it, a run's contribution begins; `cairn seal` ends it
  cairn mount /mnt/images images:v3      # prints images:v3; ends with `cairn umount /mnt/images`
  cairn mount /mnt/images images         # the newest now; the mount stays with it
  cairn mount /mnt/w model:prod --foreground --verify all
  cairn mount mnt eval --stage --distributed-id eval-7 --run rank-3   # a run's contribution, writable

--json: {\"artifact\",\"version\",\"mountpoint\"}, of a whole store {\"store\",\"mountpoint\"}")]
    Mount(Box<Mount>),
    /// List this host's mounts
    #[command(after_help = "\
Examples:
  cairn mounts                           # MOUNTPOINT, SHOWS, STORE, USER, SINCE, PID, STATE
  cairn mounts --json | jq -r '.[] | select(.healthy | not) | .mountpoint'

Of any store, in this mount namespace (a container lists its own). STATE: ok; dead (its daemon was
killed: `cairn umount` it); no answer (within two seconds). What only the store knows is shown as ?
or - where the user that mounted may not write to the store.
--json: [{\"mountpoint\",\"store\",\"shows\":\"store|version|stage\",\"artifact\",\"version\",\"distributed_id\",
\"run\",\"user\",\"since\",\"pid\",\"state\",\"healthy\"}]")]
    Mounts,
    /// Seal what a run has written in its staging directory
    #[command(after_help = "\
Examples:
  cairn mount mnt eval --stage --distributed-id eval-7 --run rank-3
  cp -r results mnt/                     # any program writes there
  cairn seal mnt                         # prints NAME ID RUN; from then on it is read-only

PATH is anything in the staging directory. Refused (exit 3) while a file of it is open for writing,
naming it and the process. Said again it prints the same.
--json: {\"artifact\",\"distributed_id\",\"run\",\"files\",\"bytes\"}")]
    Seal(Seal),
    /// Unmount, also after the daemon was killed
    #[command(after_help = "\
Examples:
  cairn umount /mnt/images
  cairn umount mnt --no-seal             # a staging directory: the run goes on with it later

A staging directory is sealed first, and stays mounted if that is refused. A plain umount seals nothing, nor does the unmount of a whole store: it says
which contributions are left open.
If the mount lives on elsewhere (a bind mount, a container's copy), a warning says where: its daemon
serves that place until it is unmounted there too, and `cairn rm` of the version is refused so long.
--json: {\"mountpoint\",\"elsewhere\":[{\"mountpoint\",\"pid\",\"process\"}]}")]
    Umount(Umount),
    /// Walk through cairn on a real directory, in a store that is thrown away
    #[command(after_help = "\
Examples:
  cairn demo                             # on cairn's own source tree
  cairn demo ~/photos --keep             # on a copy of this; the store stays to look at

Your directory is only read.")]
    Demo(Demo),
    /// Print a shell's completions
    #[command(after_help = "\
Examples:
  cairn completions bash > /etc/bash_completion.d/cairn
  cairn completions zsh > ~/.zfunc/_cairn
  cairn completions fish > ~/.config/fish/completions/cairn.fish")]
    Completions(Completions),
    /// Write the manual pages
    #[command(after_help = "\
Examples:
  cairn manpages /usr/local/share/man/man1

Prints the files written. --json: {\"files\"}")]
    Manpages(Manpages),
    /// Print the version of cairn
    #[command(after_help = "\
Example:
  cairn version

--json: {\"version\"}")]
    Version,
}

/// `init`
#[derive(Args, Debug)]
pub struct Init {
    /// Where; new or empty [default: --store, else .cairn]
    pub dir: Option<PathBuf>,
    /// All of this group may write, whatever their umasks
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// How long hosts that share the disk may cache directories [default: 120]
    #[arg(long, value_name = "SECONDS")]
    pub cache_bound: Option<u64>,
}

/// `put`
#[derive(Args, Debug)]
pub struct Put {
    /// The artifact: A-Z a-z 0-9 _ . -
    pub name: String,
    /// Directories, files, - for stdin, SCHEME://... for a reference
    #[arg(required = true, value_name = "SRC")]
    pub sources: Vec<OsString>,
    /// Where they go, and what of them
    #[command(flatten)]
    pub from: Sources,
    /// What is said of the version
    #[command(flatten)]
    pub words: AnnotationArgs,
    /// Make a version also when nothing changed
    #[arg(long)]
    pub new_version: bool,
    /// The run that makes it
    #[command(flatten)]
    pub run: Run,
}

/// `upsert`
#[derive(Args, Debug)]
pub struct Upsert {
    /// The artifact
    pub name: String,
    /// Directories, files, - for stdin, SCHEME://... for a reference; without: what the run has in its staging
    /// directory
    #[arg(value_name = "SRC")]
    pub sources: Vec<OsString>,
    /// The id that all runs of one version say [default: the group]
    #[arg(long, value_name = "ID")]
    pub distributed_id: Option<String>,
    /// Stand instead of this run's earlier contributions
    #[arg(long)]
    pub replace: bool,
    /// Where they go, and what of them
    #[command(flatten)]
    pub from: Sources,
    /// What is said of the version
    #[command(flatten)]
    pub words: AnnotationArgs,
    /// The run that contributes
    #[command(flatten)]
    pub run: Run,
}

/// `finish`
#[derive(Args, Debug)]
pub struct Finish {
    /// The artifact
    pub name: String,
    /// What this finish adds itself, after all contributions
    #[arg(value_name = "SRC")]
    pub sources: Vec<OsString>,
    /// The id that all runs of one version said [default: the group]
    #[arg(long, value_name = "ID")]
    pub distributed_id: Option<String>,
    /// Require at least N contributing runs
    #[arg(long, value_name = "N")]
    pub expect: Option<u64>,
    /// This run must have contributed (repeatable)
    #[arg(long = "expect-run", value_name = "RUN")]
    pub expect_runs: Vec<String>,
    /// Wait up to SECONDS for runs that are writing or expected; without it, check once
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub wait: Option<std::time::Duration>,
    /// Where runs differ at a path: refuse, or take what was appended last
    #[arg(long, value_enum, default_value_t = OnConflict::Refuse, value_name = "WHAT")]
    pub on_conflict: OnConflict,
    /// Finish without what runs are still writing or left open
    #[arg(long)]
    pub skip_open: bool,
    /// Where sources go, and what of them
    #[command(flatten)]
    pub from: Sources,
    /// What is said of the version
    #[command(flatten)]
    pub words: AnnotationArgs,
    /// The run that finishes
    #[command(flatten)]
    pub run: Run,
}

/// What is done where runs differ.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OnConflict {
    /// List the paths; nothing is recorded
    Refuse,
    /// Take what was appended last
    Latest,
}

/// Seconds, also in parts.
fn seconds(text: &str) -> Result<std::time::Duration, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    std::time::Duration::try_from_secs_f64(number).map_err(|e| e.to_string())
}

/// `drafts`
#[derive(Args, Debug)]
pub struct Drafts {
    /// An artifact; without, all of them
    pub name: Option<String>,
    /// List also what is left in the store's staging/ of finished drafts, and how to remove it
    #[arg(long)]
    pub all: bool,
}

/// `draft`
#[derive(Args, Debug)]
pub struct Draft {
    /// What to do with it
    #[command(subcommand)]
    pub verb: DraftVerb,
}

/// The verbs of `draft`.
#[derive(Subcommand, Debug)]
pub enum DraftVerb {
    /// Show what was contributed, and who is writing
    #[command(after_help = "\
Examples:
  cairn draft show eval eval-7

--json: {\"artifact\",\"distributed_id\",\"version\",\"contributions\":[{\"number\",\"run\",\"files\",\"bytes\",\"new_bytes\",
\"digest\",\"replace\",\"at\"}],\"writing\":[{\"run\",\"host\",\"pid\",\"since\"}]}; version when it is finished")]
    Show(DraftName),
    /// Take a run's contributions so far out
    #[command(after_help = "\
Examples:
  cairn draft drop eval eval-7 --run rank-3

Its staging directory is removed too, if it is mounted nowhere; of a finished draft, only that.
What the run contributes from now on counts again.
--json: {\"artifact\",\"distributed_id\",\"run\"}")]
    Drop {
        /// The draft
        #[command(flatten)]
        draft: DraftName,
        /// The run
        #[arg(long, value_name = "RUN")]
        run: String,
    },
    /// Give the draft up; its id can begin again
    #[command(after_help = "\
Examples:
  cairn draft discard eval eval-7

Staging directories of its runs are removed too, if they are mounted nowhere.
A finished draft cannot be discarded: `cairn rm` removes its version.
--json: {\"artifact\",\"distributed_id\"}")]
    Discard(DraftName),
}

/// One draft.
#[derive(Args, Debug)]
pub struct DraftName {
    /// The artifact
    pub name: String,
    /// The distributed id
    pub id: String,
}

/// Where sources go in a version, and what of them.
#[derive(Args, Debug)]
pub struct Sources {
    /// Put everything below this path
    #[arg(long, value_name = "PREFIX")]
    pub at: Option<OsString>,
    /// The name of stdin's bytes in the version
    #[arg(long, value_name = "NAME", default_value = "stdin")]
    pub stdin_filename: OsString,
    /// Add what the command after -- writes to its stdout, if it succeeds
    #[arg(long)]
    pub stdin_from_command: bool,
    /// Accept an empty stdin; without, it is refused
    #[arg(long)]
    pub allow_empty: bool,
    /// Leave out what matches (gitignore's syntax; repeatable)
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Add what symlinks point at; without, they stay symlinks
    #[arg(long)]
    pub follow_symlinks: bool,
    /// Leave out device nodes, sockets and FIFOs; without, they are an error
    #[arg(long)]
    pub skip_special: bool,
    /// Read every file of a directory, also those whose time stamps did not change
    #[arg(long)]
    pub rehash: bool,
}

impl Sources {
    /// The first of these options that was said.
    pub fn said(&self) -> Option<&'static str> {
        let said = [
            (self.at.is_some(), "--at"),
            (self.stdin_filename != "stdin", "--stdin-filename"),
            (self.stdin_from_command, "--stdin-from-command"),
            (self.allow_empty, "--allow-empty"),
            (!self.exclude.is_empty(), "--exclude"),
            (self.follow_symlinks, "--follow-symlinks"),
            (self.skip_special, "--skip-special"),
            (self.rehash, "--rehash"),
        ];
        said.into_iter().find_map(|(said, option)| said.then_some(option))
    }
}

/// What is said of a version.
#[derive(Args, Debug)]
pub struct AnnotationArgs {
    /// The artifact's type, one for ever [default: what it has, else dataset]
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Let this alias name the version (repeatable)
    #[arg(long = "alias", value_name = "ALIAS")]
    pub aliases: Vec<String>,
    /// Tag the version (repeatable)
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// A description for people
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// A JSON object, or @ and a file that holds one
    #[arg(long, value_name = "JSON|@FILE")]
    pub metadata: Option<String>,
}

/// `patch`
#[derive(Args, Debug)]
pub struct Patch {
    /// The version that the changes were made on [default: the newest]
    #[arg(value_name = "NAME[:BASE]")]
    pub base: String,
    /// What is added: directories, files, - for stdin, SCHEME://... for a reference
    #[arg(value_name = "SRC")]
    pub sources: Vec<OsString>,
    /// Remove this path, a directory with all below it (repeatable)
    #[arg(long = "remove", value_name = "PATH")]
    pub removals: Vec<OsString>,
    /// Give a path another name (repeatable)
    #[arg(long = "rename", num_args = 2, value_names = ["OLD", "NEW"])]
    pub renames: Vec<OsString>,
    /// Apply a difference from `cairn diff --json`; - is stdin
    #[arg(long, value_name = "FILE")]
    pub from_diff: Option<PathBuf>,
    /// Put the changes on this version, whatever was published since
    #[arg(long, value_name = "vN")]
    pub onto: Option<String>,
    /// Begin with nothing where the artifact has no version yet
    #[arg(long)]
    pub create: bool,
    /// Where sources go, and what of them
    #[command(flatten)]
    pub from: Sources,
    /// What is said of the version
    #[command(flatten)]
    pub words: AnnotationArgs,
    /// The run that makes it
    #[command(flatten)]
    pub run: Run,
}

/// `copy`
#[derive(Args, Debug)]
pub struct Copy {
    /// The version whose content is copied
    #[arg(value_name = "NAME[:V]")]
    pub version: String,
    /// The artifact that gets it
    #[arg(value_name = "NEWNAME")]
    pub name: String,
    /// The store that gets it [default: the same]
    #[arg(long, value_name = "STORE")]
    pub to: Option<PathBuf>,
    /// What is said of the version
    #[command(flatten)]
    pub words: AnnotationArgs,
    /// The run that makes it
    #[command(flatten)]
    pub run: Run,
}

/// Which run is at work.
#[derive(Args, Debug)]
pub struct Run {
    /// The run that makes it
    #[arg(long, value_name = "ID", env = "CAIRN_RUN", hide_env_values = true)]
    pub run: Option<String>,
    /// The run's group: one experiment, one batch job
    #[arg(long, value_name = "GROUP", env = "CAIRN_RUN_GROUP", hide_env_values = true)]
    pub group: Option<String>,
    /// What kind of work the run is
    #[arg(long, value_name = "TYPE", env = "CAIRN_JOB_TYPE", hide_env_values = true)]
    pub job_type: Option<String>,
}

/// `list`
#[derive(Args, Debug)]
pub struct List {
    /// An artifact; without, all of them
    pub name: Option<String>,
}

/// `ls`
#[derive(Args, Debug)]
pub struct Ls {
    /// The version
    #[arg(value_name = "NAME[:V]")]
    pub version: String,
    /// A directory or a file in it
    pub path: Option<OsString>,
    /// Mode, bytes, digest, path
    #[arg(short, long)]
    pub long: bool,
    /// Everything below
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

/// `show`
#[derive(Args, Debug)]
pub struct Show {
    /// The version
    #[arg(value_name = "NAME[:V]")]
    pub version: String,
}

/// `cat`
#[derive(Args, Debug)]
pub struct Cat {
    /// The version
    #[arg(value_name = "NAME[:V]")]
    pub version: String,
    /// A file in it
    pub path: OsString,
}

/// `get`
#[derive(Args, Debug)]
pub struct Get {
    /// The version
    #[arg(value_name = "NAME[:V]")]
    pub version: String,
    /// Where to
    pub dir: PathBuf,
    /// Only this directory or file of the version
    #[arg(long, value_name = "PREFIX")]
    pub path: Option<OsString>,
    /// How large files come out of the store
    #[arg(long, value_enum, default_value = "auto")]
    pub link: Link,
    /// What to do with references, whose bytes are not in the store
    #[arg(long, value_enum, default_value = "fetch", value_name = "WHAT")]
    pub references: References,
    /// Replace files that differ
    #[arg(long)]
    pub force: bool,
    /// Remove what is not in the version, except what .cairnignore leaves out, and .git
    #[arg(long)]
    pub prune: bool,
}

/// What `get` does with references.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum References {
    /// Fetch their bytes (not available yet: refused if the version has references)
    Fetch,
    /// Leave them out
    Skip,
    /// Make a symlink to what a file:/// URI names; other references are refused
    Link,
}

/// How `get` brings content out.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Link {
    /// Reflink where the file system can, else copy
    Auto,
    /// Always copy
    Copy,
    /// Share blocks; fail where the file system cannot
    Reflink,
    /// Share the file itself: read-only, and an edit would reach the store
    Hardlink,
}

/// `diff`
#[derive(Args, Debug)]
pub struct Diff {
    /// The version to compare from
    #[arg(value_name = "A")]
    pub from: String,
    /// A version, or a directory (./dir, ../dir, /dir)
    #[arg(value_name = "B")]
    pub to: OsString,
    /// Only counts and bytes
    #[arg(long)]
    pub stat: bool,
    /// Of a directory, leave out what matches (repeatable)
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Of a directory, compare what symlinks point at
    #[arg(long)]
    pub follow_symlinks: bool,
    /// Of a directory, leave out device nodes, sockets and FIFOs
    #[arg(long)]
    pub skip_special: bool,
    /// Of a directory, read every file, also those whose time stamps did not change
    #[arg(long)]
    pub rehash: bool,
}

fn verify_help() -> String {
    let codes: String =
        cairn::verify::code::ALL.iter().map(|(code, means)| format!("  {code:<14}  {means}\n")).collect();
    format!(
        "\
Examples:
  cairn verify                           # the whole store
  cairn verify images                    # all versions of images
  cairn verify images:v3 --quick         # records and structure; no file is hashed

Prints each finding on a line (its code, where, expected and found) and what it affects on lines
below. Exit status 1 if there are any. Lines that begin with `note:` are about caches, which the next
writer mends: they are not damage.

Codes:
{codes}
--json: {{\"findings\":[{{\"code\",\"what\",\"why\",\"affects\"}}],\"notes\":[...],\"artifacts\",\"versions\",\"packs\",
\"objects\",\"bytes\",\"tokens\"}}"
    )
}

/// `verify`
#[derive(Args, Debug)]
pub struct Verify {
    /// An artifact or one version; without, the whole store
    #[arg(value_name = "NAME[:V]")]
    pub what: Option<String>,
    /// Records and structure only; hash no file
    #[arg(long)]
    pub quick: bool,
}

/// `locks`
#[derive(Args, Debug)]
pub struct Locks {
    /// Remove this lock, even if its holder lives; the beginning of its id is enough
    #[arg(long = "break", value_name = "ID")]
    pub break_id: Option<String>,
}

/// `rm`
#[derive(Args, Debug)]
pub struct Rm {
    /// The versions; with --all, artifacts
    #[arg(required = true, value_name = "NAME:V")]
    pub versions: Vec<String>,
    /// Every version of these artifacts
    #[arg(long)]
    pub all: bool,
    /// Remove also what an alias names, and take that alias away
    #[arg(long)]
    pub force: bool,
    /// Say what would be removed, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `alias`
#[derive(Args, Debug)]
pub struct Alias {
    /// The version
    #[arg(value_name = "NAME:V")]
    pub version: String,
    /// The aliases that shall name it
    #[arg(required = true, value_name = "ALIAS")]
    pub aliases: Vec<String>,
    /// Move only from there: a version, or none if there is no such alias
    #[arg(long, value_name = "vN|none")]
    pub expect: Option<String>,
}

/// `unalias`
#[derive(Args, Debug)]
pub struct Unalias {
    /// The artifact
    pub name: String,
    /// Its aliases to take away
    #[arg(required = true, value_name = "ALIAS")]
    pub aliases: Vec<String>,
}

/// `mount`
#[derive(Args, Debug)]
pub struct Mount {
    /// An empty directory
    #[arg(value_name = "MNT")]
    pub mountpoint: PathBuf,
    /// Mount a run's contribution to a draft, writable
    #[arg(long, requires = "version")]
    pub stage: bool,
    /// With --stage: the id that all runs of one version say [default: the group]
    #[arg(long, value_name = "ID", requires = "stage")]
    pub distributed_id: Option<String>,
    /// Whole store: without staging directories
    #[arg(long, conflicts_with = "stage")]
    pub no_stage: bool,
    /// With --stage: begin with nothing, not with what the run left
    #[arg(long, requires = "stage")]
    pub fresh: bool,
    /// With --stage: the run
    #[command(flatten)]
    pub run: Run,
    /// The version; without one, the whole store
    #[arg(value_name = "NAME[:V]")]
    pub version: Option<String>,
    /// Stay in the foreground; Ctrl-C unmounts
    #[arg(long)]
    pub foreground: bool,
    /// Other users see it too, and read every version in it; into staging directories write only those of them who may
    /// write to the store themselves
    #[arg(long)]
    pub allow_other: bool,
    /// How files are opened and read; with --stage, no-open means: through the daemon
    #[arg(long, value_enum, default_value = "auto")]
    pub io: Io,
    /// When content is hashed
    #[arg(long, value_enum, default_value = "put")]
    pub verify: VerifyMode,
    /// How many requests are answered at a time, 1 to 256 [default: one per processor, 2 to 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=cairn::fuse::MOST_THREADS as i64))]
    pub threads: Option<u16>,
    /// Whole store: for how many seconds what is shown of names may be out of date
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub refresh: u16,
    /// Where the daemon writes what goes wrong, such as why a file is EIO [default: syslog, which systemd's journal
    /// keeps (journalctl -t cairnfs); with --foreground stderr]
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
}

/// How a mount reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Io {
    /// What suits the version: passthrough for mostly large files and root, else no-open
    Auto,
    /// The kernel opens by itself and asks for bytes that it has not cached: best for small files
    NoOpen,
    /// The kernel reads large files from the store by itself; root only
    Passthrough,
}

/// When a mount hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VerifyMode {
    /// Small files at every read, large ones when their size or time is not as stored
    Put,
    /// Every large file once more before its first byte
    All,
}

/// `seal`
#[derive(Args, Debug)]
pub struct Seal {
    /// Something in the staging directory
    pub path: PathBuf,
}

/// `umount`
#[derive(Args, Debug)]
pub struct Umount {
    /// Leave a staging directory's contribution open: the run can go on with it
    #[arg(long)]
    pub no_seal: bool,
    /// The directory
    #[arg(value_name = "MNT")]
    pub mountpoint: PathBuf,
}

/// `demo`
#[derive(Args, Debug)]
pub struct Demo {
    /// A directory to work on; it is only read [default: cairn's own source tree]
    pub dir: Option<PathBuf>,
    /// Keep the store and the copies, and say where they are
    #[arg(long)]
    pub keep: bool,
}

/// `completions`
#[derive(Args, Debug)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// `manpages`
#[derive(Args, Debug)]
pub struct Manpages {
    /// Where to write them
    pub dir: PathBuf,
}
