//! `cairn use` and `cairn lineage`

use super::shared_args::RunArgs;
use crate::errors::{CommandResult, Failure};
use crate::help::Help;
use crate::output::Context;
use cairn::catalog::lineage::{self, ContentStep, Did, Lineage, Step, VersionName};
use cairn::catalog::uses;
use cairn::error::{Error, show_bytes};
use cairn::types::RunId;
use clap::{Args, ValueEnum};
use serde_json::json;
use std::collections::{BTreeSet, HashMap, HashSet};

/// `cairn use`
#[derive(Args, Debug)]
pub struct UseArgs {
    /// The version
    #[arg(value_name = "NAME[:V]")]
    pub version: String,
    /// The run that uses it.
    #[command(flatten)]
    pub run: RunArgs,
}

/// The text of `cairn use --help`.
pub const USE_HELP: Help = Help {
    description: &[
        "Prints the name of the version, with its number, and records that the run uses it. If that was recorded \
         before, nothing changes. `cairn lineage` shows it.",
        "A use is a note. It does not keep the version from being removed.",
    ],
    examples: &[
        ("cairn use images:prod --run train-7", "prints images:v3"),
        ("cairn get $(cairn use images --run train-7) ./images", "write out what was recorded"),
    ],
    exit: &[],
    json: "{\"artifact\", \"version\", \"digest\", \"run\", \"recorded\"}\n\
         recorded is false if it was recorded before.",
    list: None,
};

/// How `cairn lineage` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Indented lines
    Text,
    /// One JSON document
    Json,
    /// A graph for Graphviz
    Dot,
}

/// `cairn lineage`
#[derive(Args, Debug)]
pub struct LineageArgs {
    /// The version
    #[arg(value_name = "NAME[:V]")]
    pub version: String,
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
    /// Follow at most N runs, one after the other, in each direction
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = super::shared_args::whole::<u16>(1..=1000))]
    pub depth: u16,
}

/// The text of `cairn lineage --help`.
pub const HELP: Help = Help {
    description: &[
        "Prints where a version comes from, and what was made from it. A run *made* a version if it was given to --run \
         of `cairn put` or of another command that makes versions. A run *used* a version if `cairn use` recorded \
         that.",
        "So the answer is: the runs that made the version and what those runs used, and so on; and the runs that used \
         the version and what those runs made, and so on. A run or version that appears a second time is not followed \
         again. Removed versions are marked.",
        "If a version is a copy, or if content of another version was added to it (cairn://NAME:V/PATH, or an object), \
         those versions are shown too, and followed. `cairn show` prints the paths. A patch is not followed to its \
         base.",
    ],
    examples: &[
        ("cairn lineage model:prod", ""),
        ("cairn lineage images:v3 --format dot | dot -Tsvg > images.svg", "a picture"),
        ("cairn lineage images:v3 --json | jq -r '.results[].version'", ""),
    ],
    exit: &[],
    json: "{\"artifact\", \"version\", \"complete\", \"sources\", \"content\", \"results\"}\n\
         sources and results are [{\"run\", \"event\": \"made|used\", \"artifact\", \"version\", \"removed\"}]. \
         content is [{\"artifact\", \"version\", \"source\", \"event\": \"copied|added\", \"removed\"}]; source is \
         {\"artifact\", \"version\", \"digest\", \"store_id\"}, with store_id only if it is in another store. \
         complete is false if there is more beyond --depth.",
    list: None,
};

/// Records a use.
pub fn use_version(context: &mut Context, args: UseArgs) -> CommandResult {
    let version = context.version(&args.version)?;
    let run = args.run.run_if_given(version.store())?.filter(|run| run.is_named()).ok_or_else(|| {
        Error::usage("no run is named, and only the use by a run can be recorded")
            .with_hint("name the run with --run or CAIRN_RUN")
    })?;
    let recorded = uses::record(&version, run.record())?;
    if context.json() {
        context.out.json(&json!({
            "artifact": version.artifact(), "version": version.number(), "digest": version.digest(),
            "run": run.id(), "recorded": recorded,
        }))?;
    } else {
        context.out.line(&version.to_string())?;
        context.out.flush()?;
        let what = if recorded { "recorded" } else { "it was recorded before" };
        context.status(&format!("{what}: run {} uses {version}", run.id()));
    }
    Ok(0)
}

/// Prints the lineage of a version.
pub fn run(context: &mut Context, args: LineageArgs) -> CommandResult {
    let version = context.version(&args.version)?;
    let lineage = lineage::of(&version, usize::from(args.depth))?;
    for e in &lineage.damaged {
        context.warn(&format!("not followed: {e:#}"));
    }
    match args.format {
        Format::Json => document(context, &lineage)?,
        _ if context.json() => document(context, &lineage)?,
        Format::Dot => dot(context, &lineage)?,
        Format::Text => text(context, &lineage)?,
    }
    context.out.flush()?;
    if !lineage.is_complete {
        let more = args.depth.saturating_mul(2).min(1000);
        let hint = if more > args.depth { format!("; --depth {more} follows more runs") } else { String::new() };
        context.status(&format!("there is more{hint}"));
    }
    Ok(0)
}

fn document(context: &mut Context, lineage: &Lineage) -> Result<(), Failure> {
    let steps = |steps: &[Step]| -> Vec<serde_json::Value> {
        let one = |step: &Step| {
            json!({
                "run": step.run, "event": if step.did == Did::Made { "made" } else { "used" },
                "artifact": step.version.artifact, "version": step.version.version,
                "removed": lineage.removed.contains(&step.version),
            })
        };
        steps.iter().map(one).collect()
    };
    let content = |step: &ContentStep| {
        json!({
            "artifact": step.version.artifact, "version": step.version.version, "source": step.source,
            "event": if step.is_copy { "copied" } else { "added" }, "removed": is_removed(lineage, step),
        })
    };
    context.out.json(&json!({
        "artifact": lineage.version.artifact, "version": lineage.version.version, "complete": lineage.is_complete,
        "sources": steps(&lineage.sources), "results": steps(&lineage.results),
        "content": lineage.content.iter().map(content).collect::<Vec<_>>(),
    }))
}

fn is_removed(lineage: &Lineage, step: &ContentStep) -> bool {
    step.source_here().is_some_and(|source| lineage.removed.contains(&source))
}

/// A version as a box, a run as an ellipse, and arrows in the direction of time.
fn dot(context: &mut Context, lineage: &Lineage) -> Result<(), Failure> {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let steps: BTreeSet<&Step> = lineage.sources.iter().chain(&lineage.results).collect();
    let named = steps.iter().map(|step| step.version.clone()).chain([lineage.version.clone()]);
    let came_from =
        lineage.content.iter().flat_map(|step| step.source_here().into_iter().chain([step.version.clone()]));
    let versions: BTreeSet<VersionName> = named.chain(came_from).collect();
    context.out.line("digraph lineage {\n  rankdir=LR;\n  node [shape=box];")?;
    for version in versions {
        let style = match (version == lineage.version, lineage.removed.contains(&version)) {
            (true, _) => " [style=bold]",
            (false, true) => " [style=dashed]",
            (false, false) => "",
        };
        context.out.line(&format!("  {}{style};", quoted(&version.to_string())))?;
    }
    let runs: BTreeSet<&RunId> = steps.iter().map(|step| &step.run).collect();
    for run in runs {
        let label = quoted(run.as_str());
        context.out.line(&format!("  {} [shape=ellipse, label={label}];", quoted(&format!("run {run}"))))?;
    }
    for step in steps {
        let (run, version) = (quoted(&format!("run {}", step.run)), quoted(&step.version.to_string()));
        let (from, to) = if step.did == Did::Made { (run, version) } else { (version, run) };
        context.out.line(&format!("  {from} -> {to};"))?;
    }
    for step in &lineage.content {
        let from = step.source_here().map_or_else(|| step.source.to_string(), |source| source.to_string());
        let to = step.version.to_string();
        context.out.line(&format!("  {} -> {} [style=dashed];", quoted(&from), quoted(&to)))?;
    }
    context.out.line("}")
}

/// The version, and below it each run with what it used or made.
fn text(context: &mut Context, lineage: &Lineage) -> Result<(), Failure> {
    context.out.line(&lineage.version.to_string())?;
    for (steps, first) in [(&lineage.sources, Did::Made), (&lineage.results, Did::Used)] {
        let (runs, versions, content) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut branch = Branch { context, lineage, first, runs, versions, content };
        for step in lineage.content.iter().filter(|_| first == Did::Made) {
            branch.content.entry(step.version.clone()).or_default().push(step);
        }
        for step in steps {
            if step.did == first {
                branch.runs.entry(step.version.clone()).or_default().push(&step.run);
            } else {
                branch.versions.entry(&step.run).or_default().push(&step.version);
            }
        }
        branch.print()?;
    }
    if lineage.sources.is_empty() && lineage.results.is_empty() && lineage.content.is_empty() {
        context.status("no run is recorded that made or used it");
    }
    Ok(())
}

/// One direction of a lineage.
struct Branch<'a> {
    context: &'a mut Context,
    lineage: &'a Lineage,
    /// What leads from a version to runs.
    first: Did,
    runs: HashMap<VersionName, Vec<&'a RunId>>,
    versions: HashMap<&'a RunId, Vec<&'a VersionName>>,
    content: HashMap<VersionName, Vec<&'a ContentStep>>,
}

/// A line of the text: a run or what content came from below a version, or a version below a run.
enum Line<'a> {
    Run(&'a RunId),
    Version(&'a VersionName),
    Content(&'a ContentStep),
}

impl<'a> Branch<'a> {
    fn print(&mut self) -> Result<(), Failure> {
        let mut seen: HashSet<String> = HashSet::new();
        let mut stack = vec![(0_usize, Line::Version(&self.lineage.version))];
        while let Some((depth, line)) = stack.pop() {
            let text = self.line(&line);
            let below: Vec<Line<'a>> = match &line {
                Line::Version(version) => self.below(version),
                Line::Content(step) => step.source_here().map_or(Vec::new(), |source| self.below(&source)),
                Line::Run(run) => self.versions.get(run).into_iter().flatten().map(|v| Line::Version(v)).collect(),
            };
            let again = !seen.insert(text.clone()) && !below.is_empty();
            if depth > 0 {
                let again = if again { " (above)" } else { "" };
                self.context.out.line(&format!("{:1$}{text}{again}", "", depth * 2))?;
            }
            if !again {
                stack.extend(below.into_iter().rev().map(|line| (depth + 1, line)));
            }
        }
        Ok(())
    }

    /// What is printed below a version.
    fn below(&self, version: &VersionName) -> Vec<Line<'a>> {
        let runs = self.runs.get(version).into_iter().flatten().map(|run| Line::Run(run));
        runs.chain(self.content.get(version).into_iter().flatten().map(|step| Line::Content(step))).collect()
    }

    fn line(&self, line: &Line<'_>) -> String {
        match (line, self.first) {
            (Line::Content(step), _) => {
                let did = if step.is_copy { "copied from" } else { "with content of" };
                let source = step.source_here().map_or_else(|| step.source.to_string(), |source| source.to_string());
                let removed = if is_removed(self.lineage, step) { " (removed)" } else { "" };
                format!("{did} {source}{removed}")
            }
            (Line::Run(run), Did::Made) => format!("made by run {}", show_bytes(run.as_str().as_bytes())),
            (Line::Run(run), _) => format!("used by run {}", show_bytes(run.as_str().as_bytes())),
            (Line::Version(version), first) => {
                let did = if first == Did::Made { "which used" } else { "which made" };
                let removed = if self.lineage.removed.contains(version) { " (removed)" } else { "" };
                format!("{did} {version}{removed}")
            }
        }
    }
}
