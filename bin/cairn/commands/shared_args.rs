//! Arguments that several commands have, and what the library makes of them.

use crate::output::Context;
use cairn::catalog::Draft;
use cairn::error::Result;
use cairn::internals::commit::{MAX_OBJECTS, Run, RunOptions};
use cairn::manifest::Tree;
use cairn::types::{ArtifactName, DistributedId, RunId};
use cairn::{ScanOptions, Store};
use clap::Args;
use std::ffi::OsString;
use std::ops::RangeInclusive;

/// A parser of whole numbers in a range; an upper end of `u64::MAX` means no limit.
pub fn whole<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> std::result::Result<T, String> + Clone + Send + Sync {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| match (*range.start(), *range.end()) {
            (0, u64::MAX) => "expected a whole number".to_owned(),
            (from, u64::MAX) => format!("expected a whole number from {from}"),
            (from, to) => format!("expected a whole number from {from} to {to}"),
        })
    }
}

/// Whether a table gets headings.
#[derive(Args, Clone, Copy, Debug)]
pub struct HeaderArg {
    /// Print headings, also if the output is not a terminal
    #[arg(long)]
    pub header: bool,
}

impl HeaderArg {
    /// Sets it for the tables of this command.
    pub fn apply(self, context: &mut Context) {
        context.out.header = self.header;
    }
}

/// How a directory is read.
#[derive(Args, Debug)]
pub struct ScanArgs {
    /// Leave out files that match (gitignore syntax; repeatable)
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Follow symlinks and read their targets; by default they stay symlinks
    #[arg(long, hide_short_help = true)]
    pub follow_symlinks: bool,
    /// Leave out device nodes, sockets and FIFOs; by default they are an error
    #[arg(long, hide_short_help = true)]
    pub skip_special: bool,
    /// Read every file, also those whose time stamps show no change
    #[arg(long, hide_short_help = true)]
    pub rehash: bool,
}

impl ScanArgs {
    /// The library's options.
    pub fn options(&self) -> ScanOptions {
        ScanOptions::default()
            .exclude(&self.exclude)
            .follow_symlinks(self.follow_symlinks)
            .skip_special(self.skip_special)
            .rehash(self.rehash)
    }
}

/// Where sources go in the version, and how they are read.
#[derive(Args, Debug)]
#[command(next_help_heading = "Options for sources")]
pub struct SourceArgs {
    /// Put all sources below this directory of the version
    #[arg(long, value_name = "PREFIX")]
    pub at: Option<OsString>,
    /// The file name for the bytes of standard input
    #[arg(long, value_name = "NAME", default_value = "stdin")]
    pub stdin_filename: OsString,
    /// Run the command after -- and add what it writes to stdout, if it succeeds
    #[arg(long)]
    pub stdin_from_command: bool,
    /// Accept an empty standard input; by default it is refused
    #[arg(long, hide_short_help = true)]
    pub allow_empty: bool,
    /// Record only the URI of a reference, without contacting its source
    #[arg(long, hide_short_help = true)]
    pub no_checksum: bool,
    /// Refuse a URI that names more objects than this
    #[arg(long, value_name = "N", default_value_t = MAX_OBJECTS, hide_short_help = true)]
    pub max_objects: u64,
    /// How directories are read.
    #[command(flatten)]
    pub scan: ScanArgs,
}

impl SourceArgs {
    /// The first of these options that was given.
    pub fn first_given(&self) -> Option<&'static str> {
        let options = [
            (self.at.is_some(), "--at"),
            (self.stdin_filename != "stdin", "--stdin-filename"),
            (self.stdin_from_command, "--stdin-from-command"),
            (self.allow_empty, "--allow-empty"),
            (self.no_checksum, "--no-checksum"),
            (self.max_objects != MAX_OBJECTS, "--max-objects"),
            (!self.scan.exclude.is_empty(), "--exclude"),
            (self.scan.follow_symlinks, "--follow-symlinks"),
            (self.scan.skip_special, "--skip-special"),
            (self.scan.rehash, "--rehash"),
        ];
        options.into_iter().find_map(|(given, option)| given.then_some(option))
    }
}

/// What is recorded about the version in addition to its content.
#[derive(Args, Debug)]
#[command(next_help_heading = "Options for the new version")]
pub struct AnnotationArgs {
    /// The artifact's type, which never changes; another one is refused [default: its type; dataset for a new artifact]
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Point this alias at the version (repeatable)
    #[arg(long = "alias", value_name = "ALIAS")]
    pub aliases: Vec<String>,
    /// Tag the version (repeatable)
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// A description for people
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// A JSON object, or @FILE to read it from a file
    #[arg(long, value_name = "JSON|@FILE")]
    pub metadata: Option<String>,
}

impl AnnotationArgs {
    /// Says that the alias `latest` is not recorded: scripts that were written for other tools give it.
    pub fn note_latest(&self, context: &Context) {
        if self.aliases.iter().any(|alias| alias == "latest") {
            context.status("`latest` follows the newest version by itself: no such alias is recorded");
        }
    }
}

/// What all commands take that add files: where those go, what is recorded about them, and the run that does it.
#[derive(Args, Debug)]
pub struct ContentArgs {
    /// Where sources go, and how they are read.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Type, aliases, tags, description, metadata.
    #[command(flatten)]
    pub annotations: AnnotationArgs,
    /// The run that does the work.
    #[command(flatten)]
    pub run: RunArgs,
}

/// The run that does the work.
#[derive(Args, Debug)]
#[command(next_help_heading = "Options for the run")]
pub struct RunArgs {
    /// The id of the run that makes or uses the version
    #[arg(long, value_name = "ID", env = "CAIRN_RUN", hide_env_values = true)]
    pub run: Option<String>,
    /// The group of runs that the run belongs to, such as an experiment or a batch job
    #[arg(long, value_name = "GROUP", env = "CAIRN_RUN_GROUP", hide_env_values = true)]
    pub group: Option<String>,
    /// The kind of work that the run does
    #[arg(long, value_name = "TYPE", env = "CAIRN_JOB_TYPE", hide_env_values = true, hide_short_help = true)]
    pub job_type: Option<String>,
}

impl RunArgs {
    /// The library's options.
    pub fn options(&self) -> RunOptions {
        let mut options = RunOptions::default();
        options.id = self.run.clone();
        options.group = self.group.clone();
        options.job_type = self.job_type.clone();
        options
    }

    /// The run, if any of these options was given.
    pub fn run_if_given(&self, store: &Store) -> Result<Option<Run>> {
        let given = [&self.run, &self.group, &self.job_type].into_iter().flatten().any(|value| !value.is_empty());
        given.then(|| Run::new(store, self.options())).transpose()
    }
}

/// A draft instead of a version.
#[derive(Args, Debug)]
pub struct DraftSide {
    /// The draft with this distributed id: what a finish would make now
    #[arg(long, value_name = "ID")]
    pub draft: Option<String>,
    /// With --draft: only what this run has contributed
    #[arg(long, value_name = "RUN", requires = "draft")]
    pub run: Option<String>,
}

impl DraftSide {
    /// The entries of the draft of `name`, and what it is called. A warning says if a finish would refuse it.
    pub fn tree(&self, context: &Context, name: &ArtifactName) -> Result<Option<(String, Tree)>> {
        let Some(id) = &self.draft else { return Ok(None) };
        let draft = Draft::new(&context.store()?, name, &DistributedId::parse(id)?);
        let run = self.run.as_deref().map(RunId::parse).transpose()?;
        let preview = draft.preview(run.as_ref())?;
        if preview.conflicts > 0 {
            context.warn(&format!(
                "{} paths of {draft} differ between runs: what was added last is shown, and a finish without \
                 `--on-conflict latest` refuses them",
                preview.conflicts
            ));
        }
        let run = self.run.as_ref().map(|run| format!(", run {run}")).unwrap_or_default();
        Ok(Some((format!("{draft}{run}"), preview.tree)))
    }
}
