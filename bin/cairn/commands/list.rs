//! `cairn list`

use super::shared_args::HeaderArg;
use crate::errors::{CommandResult, Failure};
use crate::help::Help;
use crate::output::{Context, Layout, dash};
use crate::progress::human;
use crate::times::Times;
use cairn::Store;
use cairn::catalog::{Version, alias};
use cairn::error::{Error, Kind, Result};
use cairn::internals::catalog::{artifact, lost, version};
use cairn::types::{AliasName, ArtifactName, ArtifactType, Tag, VersionNumber};
use clap::{Args, ValueEnum};
use globset::{Glob, GlobMatcher};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::iter;

/// `cairn list`
#[derive(Args, Debug)]
pub struct ListArgs {
    /// An artifact, to list its versions, or a pattern of names; without it, all artifacts are listed
    #[arg(value_name = "NAME|PATTERN")]
    pub name: Option<String>,
    /// List only what has this type
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// List only versions with this tag, or artifacts that have such a version
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
    /// List only the version that this alias names, or artifacts that have the alias
    #[arg(long, value_name = "ALIAS")]
    pub alias: Option<String>,
    /// The order; by default artifacts by name, versions by number
    #[arg(long, value_enum, value_name = "KEY")]
    pub sort: Option<SortKey>,
    /// List at most this many
    #[arg(long, short = 'n', value_name = "N", value_parser = super::shared_args::whole::<usize>(0..=u64::MAX))]
    pub limit: Option<usize>,
    /// Whether headings are printed.
    #[command(flatten)]
    pub header: HeaderArg,
    /// Print times as "3 hours ago"
    #[arg(long)]
    pub relative: bool,
}

/// What a list is ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SortKey {
    /// By name; versions by number
    Name,
    /// The newest first
    Created,
    /// The largest first
    Size,
    /// The one with the most files first
    Files,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "Without NAME the columns are NAME, TYPE, VERSIONS, LATEST, SIZE and CREATED; the last two are those of the \
         newest version. With NAME they are VERSION, CREATED, FILES, SIZE, MODE, DIGEST, ALIASES, TAGS and RUN. \
         Headings are printed on a terminal, or with --header. On a terminal, a column that has - in each line is left \
         out, unless there are more than 1,000 lines.",
        "In a pattern, * matches any characters, ? one, [ab] one of these, and {x,y} one of these texts.",
        "Times are local on a terminal, and UTC elsewhere.",
    ],
    examples: &[
        ("cairn list", ""),
        ("cairn list images", ""),
        ("cairn list 'img-*' --type dataset --sort size --limit 10", "the ten largest"),
        ("cairn list images --tag golden --relative", ""),
        ("cairn list images | awk '{print $1}'", "only the version numbers"),
    ],
    exit: &[],
    json: "Artifacts: [{\"artifact\", \"type\", \"versions\", \"latest\", \"files\", \"bytes\", \"created_at\"}]\n\
         One artifact: [{\"version\", \"digest\", \"aliases\", \"tags\", \"files\", \"bytes\", \
         \"created_at\", \"mode\", \"run\"}]",
    list: None,
};

/// Artifacts, or the versions of one.
pub fn run(context: &mut Context, args: ListArgs) -> CommandResult {
    let filter = Filter::parse(&args)?;
    match &args.name {
        Some(name) if !name.contains(['*', '?', '[', '{']) => {
            versions(context, &args, &filter, &ArtifactName::parse(name)?)
        }
        pattern => artifacts(context, &args, &filter, pattern.as_deref()),
    }
}

/// What is listed.
struct Filter {
    kind: Option<ArtifactType>,
    tag: Option<Tag>,
    /// `Latest` is every artifact's newest version.
    alias: Option<WantedAlias>,
}

/// The alias of the versions that are listed.
enum WantedAlias {
    Latest,
    Named(AliasName),
}

impl Filter {
    fn parse(args: &ListArgs) -> Result<Filter> {
        Ok(Filter {
            kind: args.kind.as_deref().map(ArtifactType::parse).transpose()?,
            tag: args.tag.as_deref().map(Tag::parse).transpose()?,
            alias: match args.alias.as_deref() {
                Some("latest") => Some(WantedAlias::Latest),
                alias => alias.map(AliasName::parse).transpose()?.map(WantedAlias::Named),
            },
        })
    }

    /// Whether the artifact has the wanted alias.
    fn has_alias(&self, store: &Store, name: &ArtifactName) -> Result<bool> {
        match &self.alias {
            Some(WantedAlias::Named(alias)) => Ok(alias::get(store, name, alias)?.is_some()),
            Some(WantedAlias::Latest) | None => Ok(true),
        }
    }

    /// Whether one of the versions has the wanted tag. They are read only until one has it.
    fn has_tag(&self, context: &Context, versions: impl Iterator<Item = Result<Option<Version>>>) -> Result<bool> {
        let Some(tag) = &self.tag else { return Ok(true) };
        for version in versions {
            if let Some(version) = version?
                && tags(context, &version)?.contains(tag)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// One line of a list.
struct Row {
    cells: Vec<String>,
    document: Value,
    created: Option<String>,
    bytes: u64,
    files: u64,
}

/// How many lines of a list are printed together.
const PART: usize = 1000;

/// The list. Unless it is sorted, it is printed as it comes: JSON one by one, lines in parts.
struct Rows {
    heads: &'static [&'static str],
    sort: Option<SortKey>,
    limit: usize,
    layout: Layout,
    streamed: usize,
    rows: Vec<Row>,
}

impl Rows {
    fn new(context: &mut Context, args: &ListArgs, heads: &'static [&'static str]) -> Rows {
        args.header.apply(context);
        let sort = args.sort.filter(|key| *key != SortKey::Name); // lists come in this order
        let limit = args.limit.unwrap_or(usize::MAX);
        Rows { heads, sort, limit, layout: Layout::default(), streamed: 0, rows: Vec::new() }
    }

    /// Whether no further row would be printed.
    fn is_full(&self) -> bool {
        self.sort.is_none() && self.rows.len() + self.streamed >= self.limit
    }

    fn add(&mut self, context: &mut Context, row: Row) -> std::result::Result<(), Failure> {
        if self.sort.is_none() && self.rows.len() == PART {
            self.print_part(context, false)?;
        }
        self.rows.push(row);
        if self.sort.is_none() && context.json() { self.print_part(context, false) } else { Ok(()) }
    }

    /// Prints the rest.
    fn end(mut self, context: &mut Context) -> std::result::Result<(), Failure> {
        match self.sort {
            Some(SortKey::Created) => self.rows.sort_by(|a, b| b.created.cmp(&a.created)),
            Some(SortKey::Size) => self.rows.sort_by_key(|row| Reverse(row.bytes)),
            Some(SortKey::Files) => self.rows.sort_by_key(|row| Reverse(row.files)),
            _ => {}
        }
        self.rows.truncate(self.limit.saturating_sub(self.streamed));
        if self.rows.is_empty() && self.streamed == 0 && !context.json() {
            context.status("there is nothing to list");
        }
        let is_all = self.streamed == 0;
        self.print_part(context, is_all)?;
        if context.json() { context.out.end_json_array(self.streamed == 0) } else { Ok(()) }
    }

    /// Prints the rows at hand.
    fn print_part(&mut self, context: &mut Context, is_all: bool) -> std::result::Result<(), Failure> {
        let rows = std::mem::take(&mut self.rows);
        if context.json() {
            for row in rows {
                context.out.json_element(&row.document, self.streamed == 0)?;
                self.streamed += 1;
            }
            return Ok(());
        }
        self.streamed += rows.len();
        let cells: Vec<_> = rows.into_iter().map(|row| row.cells).collect();
        context.out.table_part(&mut self.layout, self.heads, &cells, is_all)?;
        context.out.flush()
    }
}

fn artifacts(context: &mut Context, args: &ListArgs, filter: &Filter, pattern: Option<&str>) -> CommandResult {
    let matcher = pattern.map(matcher).transpose()?;
    let times = context.times(args.relative);
    let store = context.store()?;
    let heads = &["NAME", "TYPE", ">VERSIONS", "LATEST", ">SIZE", "CREATED"];
    let mut rows = Rows::new(context, args, heads);
    let mut any = false;
    for name in artifact::all(&store)? {
        any = true;
        if rows.is_full() {
            break;
        }
        if matcher.as_ref().is_none_or(|matcher| matcher.is_match(name.as_str()))
            && let Some(row) = artifact_row(context, filter, &store, &name, &times)?
        {
            rows.add(context, row)?;
        }
    }
    if !any && !context.json() {
        context.status("no artifacts yet: `cairn put NAME DIR` makes one");
        return Ok(0);
    }
    rows.end(context)?;
    Ok(0)
}

fn matcher(pattern: &str) -> Result<GlobMatcher> {
    let glob = Glob::new(pattern).map_err(|e| Error::usage(format!("`{pattern}` is not a pattern")).with_source(e))?;
    Ok(glob.compile_matcher())
}

/// The line of an artifact, if it is wanted.
fn artifact_row(
    context: &Context,
    filter: &Filter,
    store: &Store,
    name: &ArtifactName,
    times: &Times,
) -> Result<Option<Row>> {
    let kind = match artifact::kind(store, name) {
        Err(e) if e.kind() == Kind::Damaged => {
            context.warn(&format!("{name} is damaged: {e:#}"));
            None
        }
        kind => kind?,
    };
    if filter.kind.as_ref().is_some_and(|wanted| kind.as_ref() != Some(wanted)) || !filter.has_alias(store, name)? {
        return Ok(None);
    }
    let live = version::live_numbers(store, name)?;
    let latest = live.last().copied();
    let read = |number: &VersionNumber| Ok(readable(context, name, *number, version::read_live(store, name, *number)?));
    let newest = latest.as_ref().map_or(Ok(None), read)?;
    let all = iter::once_with(|| Ok(newest.clone())).chain(live.iter().rev().skip(1).map(read));
    if !filter.has_tag(context, all)? {
        return Ok(None);
    }
    let record = newest.as_ref().map(Version::record);
    let created = record.map(|record| record.created_at.clone());
    Ok(Some(Row {
        cells: vec![
            name.to_string(),
            kind.as_ref().map_or("damaged".into(), |kind| kind.to_string()),
            live.len().to_string(),
            latest.map_or("-".into(), |n| n.to_string()),
            record.map_or("-".into(), |record| human(record.bytes)),
            created.as_ref().map_or("-".into(), |created| times.show(created)),
        ],
        document: json!({
            "artifact": name, "type": kind, "versions": live.len(), "latest": latest,
            "files": record.map(|r| r.files), "bytes": record.map(|r| r.bytes), "created_at": created,
        }),
        created,
        bytes: record.map_or(0, |record| record.bytes),
        files: record.map_or(0, |record| record.files),
    }))
}

/// The version; a warning if it is damaged.
fn readable(context: &Context, name: &ArtifactName, number: VersionNumber, read: Result<Version>) -> Option<Version> {
    let warn = |e: &Error| {
        context.warn(&format!("{name}:{number} is damaged: {e:#}; `cairn rm {name}:{number}` removes it"));
    };
    read.inspect_err(warn).ok()
}

fn versions(context: &mut Context, args: &ListArgs, filter: &Filter, name: &ArtifactName) -> CommandResult {
    let times = context.times(args.relative);
    let store = context.store()?;
    let live = version::live_numbers(&store, name)?;
    let mut lost = lost::lost_numbers(&store, name)?;
    if live.is_empty() && lost.is_empty() {
        version::versions(&store, name)?; // the error for an artifact that does not exist
    }
    let latest = live.last().copied();
    let mut numbers = live;
    numbers.extend(lost.keys());
    numbers.sort_unstable();
    numbers.dedup();
    let (aliases, damaged) = alias::readable(&store, name)?;
    for e in damaged {
        context.warn(&format!("an alias of {name} is damaged: {e:#}"));
    }
    let wanted = filter.alias.as_ref().map(|alias| match alias {
        WantedAlias::Latest => latest,
        WantedAlias::Named(alias) => aliases.iter().find(|(a, _)| a == alias).map(|(_, number)| *number),
    });
    let heads = &["VERSION", "CREATED", ">FILES", ">SIZE", "MODE", "DIGEST", "ALIASES", "TAGS", "RUN"];
    let mut rows = Rows::new(context, args, heads);
    for number in numbers {
        if rows.is_full() {
            break;
        }
        if wanted.is_some_and(|wanted| wanted != Some(number)) {
            continue;
        }
        let aliases = version::aliases_of(number, &aliases, latest);
        let read = match lost.remove(&number) {
            Some(why) => Err(Error::damaged(format!("its number is lost: {why}"))
                .with_cause("`cairn verify --repair` gives it its number again if its record is in the store")),
            None => version::read_live(&store, name, number)?,
        };
        let why = read.as_ref().err().map(|e| format!("{e:#}"));
        let row = match (readable(context, name, number, read), why) {
            (Some(version), _) => version_row(context, filter, &version, &aliases, &times)?,
            (None, why) => Some(damaged_row(number, &aliases, why)),
        };
        if let Some(row) = row {
            rows.add(context, row)?;
        }
    }
    rows.end(context)?;
    Ok(0)
}

/// The line of a version, if it is wanted.
fn version_row(
    context: &Context,
    filter: &Filter,
    version: &Version,
    aliases: &[String],
    times: &Times,
) -> Result<Option<Row>> {
    let record = version.record();
    let tags = tags(context, version)?;
    if filter.tag.as_ref().is_some_and(|tag| !tags.contains(tag))
        || filter.kind.as_ref().is_some_and(|kind| *kind != record.kind)
    {
        return Ok(None);
    }
    let run = record.run.as_ref().map(|r| &r.id);
    Ok(Some(Row {
        cells: vec![
            version.number().to_string(),
            times.show(&record.created_at),
            record.files.to_string(),
            human(record.bytes),
            record.mode.as_str().to_owned(),
            version.digest().hex()[..12].to_owned(),
            dash(&aliases.join(",")),
            dash(&tags.iter().map(|t| t.to_string()).collect::<Vec<_>>().join(",")),
            run.map_or("-".into(), |r| r.to_string()),
        ],
        document: json!({
            "version": version.number(), "digest": version.digest(), "aliases": aliases, "tags": tags,
            "files": record.files,
            "bytes": record.bytes, "created_at": record.created_at, "mode": record.mode, "run": run,
        }),
        created: Some(record.created_at.clone()),
        bytes: record.bytes,
        files: record.files,
    }))
}

/// The tags of a version as they are now; those recorded at its commit if the later ones are damaged.
fn tags(context: &Context, version: &Version) -> Result<Vec<Tag>> {
    match version.annotations() {
        Err(e) if e.kind() == Kind::Damaged => {
            context.warn(&format!("the annotations of {version} are damaged: {e:#}"));
            Ok(version.record().tags.clone())
        }
        annotations => Ok(annotations?.tags),
    }
}

/// The line of a version whose record cannot be read.
fn damaged_row(number: VersionNumber, aliases: &[String], why: Option<String>) -> Row {
    let mut cells = vec!["-".to_owned(); 9];
    cells[0] = number.to_string();
    cells[5] = "damaged".into();
    cells[6] = dash(&aliases.join(","));
    let document = json!({
        "version": number, "digest": null, "aliases": aliases, "tags": null, "files": null, "bytes": null,
        "created_at": null, "mode": null,
        "run": null, "damaged": why,
    });
    Row { cells, document, created: None, bytes: 0, files: 0 }
}
