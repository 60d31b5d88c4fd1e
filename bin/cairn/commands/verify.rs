//! `cairn verify`

use super::stage::is_same_directory;
use crate::errors::{CommandResult, Failure};
use crate::help::Help;
use crate::output::{Context, count};
use crate::progress::human;
use cairn::error::{Error, Kind, show_bytes, show_path};
use cairn::types::ArtifactName;
use cairn::verify::{Checkpoint, Finding, Scope, VerifyOptions, VerifyReport, code, next_step, verify};
use cairn::{RepairReport, Store};
use clap::Args;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// `cairn verify`
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// An artifact or one version; without it, the whole store
    #[arg(value_name = "NAME[:V]")]
    pub what: Option<String>,
    /// Check records and structure only; hash no file
    #[arg(long)]
    pub quick: bool,
    /// Whole store: read no faster than this: bytes per second, such as 50M; at least 64K (K, M, G: powers of 1024)
    #[arg(long, value_name = "RATE", value_parser = rate, conflicts_with_all = ["repair", "repair_from"])]
    pub limit: Option<u64>,
    /// Whole store: hash only this share of the packs and objects, such as 1%; each run chooses another share at random
    #[arg(long, value_name = "PERCENT", value_parser = share, conflicts_with_all = ["repair", "repair_from"])]
    pub sample: Option<f64>,
    /// Continue an interrupted `cairn verify`: do not read again what it read and found right
    #[arg(long)]
    pub resume: bool,
    /// Ask the sources of references too whether they still have what was recorded
    #[arg(long)]
    pub references: bool,
    /// Replace what is damaged by an intact copy from elsewhere in the store; remove damaged files that are not needed
    #[arg(long)]
    pub repair: bool,
    /// Repair from another store too, such as a backup made by `cp -a` or contrib/backup.sh (repeatable)
    #[arg(long, value_name = "STORE")]
    pub repair_from: Vec<PathBuf>,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "Reads the store and hashes its content again. Prints a line for each finding (its code, where it \
         is, what was expected and what was found) and below it the versions and paths that it affects. \
         A line that begins with `note:` is not damage: the next writer repairs it.",
        "A check of the whole store saves its progress in the user's cache directory. \
         If it is interrupted, `cairn verify --resume` reads only the rest, and what was changed since.",
        "A large file that shares parts with another is read whole, in every version that has it. So more bytes can be \
         read than the store has. For a check each night, --sample or --quick takes less time.",
        "--repair and --repair-from store again what is damaged or missing. They use only copies that they have \
         checked: content and manifests by their SHA-256, records by their checksum and the token in them (the random \
         number that names one commit). Index segments and artifact.json are made again from what the store has. \
         Damaged files that no version needs are removed, unless another process writes. What has no intact copy stays \
         a finding. Writers, mounts and gc can work meanwhile.",
    ],
    examples: &[
        ("cairn verify", "the whole store"),
        ("cairn verify images", "all versions of images"),
        ("cairn verify images:v3 --quick", "records and structure only"),
        ("cairn verify --sample 1% --limit 50M", "hash one hundredth of the store, slowly"),
        ("cairn verify corpus:v3 --references", "are the sources of its references as recorded?"),
        ("cairn verify --resume", "the rest, after Ctrl-C or a crash"),
        ("cairn verify --repair-from /backup/store", "repair with what a copy of the store has"),
    ],
    exit: &[
        (0, "no damage was found"),
        (1, "damage was found"),
        (4, "the check could not be made or finished, because the store's own records are damaged"),
    ],
    json: "{\"findings\": [{\"code\", \"what\", \"why\", \"affects\"}], \"notes\": [...], \"artifacts\", \
         \"versions\", \"packs\", \"objects\", \"references\", \"bytes\", \"uncut\", \"tokens\", \
         \"resumed\": null or {\"begun_at\", \"files\", \"bytes\"}}; with --repair also \
         \"repaired\": {\"contents\", \"nodes\", \"records\", \"segments\", \"modes\", \"cleared\"}.\n\
         uncut counts the directories for which M10 was not checked.",
    list: Some(("Codes (the numbers are those of FORMAT.md's invariants)", code::ALL)),
};

/// The lowest limit: less is more likely a forgotten M than a wish.
const MIN_RATE: u64 = 64 << 10;

/// Bytes per second.
fn rate(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let number = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[number.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return Err("expected bytes per second, such as 50M: the units are K, M and G".to_owned()),
    };
    let rate = number.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift));
    match rate {
        Some(rate) if rate >= MIN_RATE => Ok(rate),
        Some(_) => Err("that is less than 64K bytes per second: is a unit missing, as in 50M?".to_owned()),
        None => Err("expected bytes per second, such as 50M".to_owned()),
    }
}

/// A share above 0, up to 1.
fn share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok().filter(|p| *p > 0.0 && *p <= 100.0);
    percent.map(|p| p / 100.0).ok_or_else(|| "expected a share above 0% and up to 100%, such as 1%".to_owned())
}

/// Reads and hashes again; exit status 1 when anything is damaged.
pub fn run(context: &mut Context, args: VerifyArgs) -> CommandResult {
    let (store, scope) = match &args.what {
        None => (context.store()?, Scope::All),
        Some(what) if what.contains(':') => {
            let version = context.version(what)?;
            (version.store().clone(), Scope::Version(Box::new(version)))
        }
        Some(what) => {
            let name = ArtifactName::parse(what)?;
            (context.store()?, Scope::Artifact(name))
        }
    };
    let is_resumable = args.what.is_none() && !args.quick && args.sample.is_none();
    let repairs = args.repair || !args.repair_from.is_empty();
    context.if_interrupted(match is_resumable && !repairs {
        true => "nothing was changed; `cairn verify --resume` verifies the rest",
        false => "nothing was changed; the rest is not verified",
    });
    if args.resume && (!is_resumable || repairs) {
        return Err(Error::usage("--resume is for a check of the whole store that reads all of it").into());
    }
    if repairs {
        return repair(context, &store, &args);
    }
    if args.what.is_some() && (args.limit.is_some() || args.sample.is_some()) {
        return Err(Error::usage("--limit and --sample are for a check of the whole store").into());
    }
    let bar = context.bar("verify");
    let options = VerifyOptions::default().quick(args.quick).limit(args.limit).sample(args.sample);
    let options = options.references(args.references);
    let options = options.checkpoint(if args.resume { Checkpoint::Resume } else { Checkpoint::Write });
    let report = verify(&store, &scope, &options.progress(bar.progress()))?;
    drop(bar);
    if args.resume && report.resumed.is_none() {
        context.status("there was no interrupted verification to continue: everything was read");
    }
    let read = match args.sample {
        _ if args.quick => Read::Nothing,
        Some(share) => Read::Share(share),
        None if args.what.is_some() => Read::Named,
        None => Read::All,
    };
    match print(context, &report, read) {
        // The reader has gone, but the answer is known.
        Err(Failure::PipeClosed) => Ok(u8::from(!report.findings.is_empty())),
        done => done,
    }
}

fn repair(context: &mut Context, store: &Store, args: &VerifyArgs) -> CommandResult {
    if args.what.is_some() || args.quick {
        let e = Error::usage("a repair is of the whole store, and reads all of it");
        return Err(e.with_hint("run `cairn verify --repair` without a name and without --quick").into());
    }
    let others = args.repair_from.iter().map(|dir| other(store, dir)).collect::<Result<Vec<_>, _>>()?;
    let bar = context.bar("repair");
    let report = store.repair(&others, &VerifyOptions::default().progress(bar.progress()))?;
    drop(bar);
    if context.json() {
        context.out.json(&report)?;
        return Ok(u8::from(!report.after.findings.is_empty()));
    }
    let RepairReport { repaired, after, .. } = &report;
    context.status(&format!(
        "repaired {}, {}, {}, {}, {}; cleared {}",
        count(repaired.contents, "content"),
        count(repaired.nodes, "manifest node"),
        count(repaired.records, "record"),
        count(repaired.segments, "index segment"),
        count(repaired.modes, "mode"),
        count(repaired.cleared, "damaged file"),
    ));
    let status = print(context, after, Read::All)?;
    // Numbers and the records of aliases and notes are only in copies of this store.
    let of_records = |f: &Finding| f.code == code::GAP || f.code == code::RECORD || f.code == code::NUMBER;
    if after.findings.iter().any(of_records) {
        for other in others.iter().filter(|other| other.config().store_id != store.config().store_id) {
            context.status(&format!(
                "{} is not a copy of this store: it has no numbers, aliases or notes of it",
                show_path(other.root())
            ));
        }
    }
    Ok(status)
}

/// Another store, from which to repair.
fn other(store: &Store, dir: &PathBuf) -> Result<Store, Error> {
    let other = Store::open(dir).map_err(|e| match e.kind() {
        Kind::NotFound => e.with_hint("--repair-from takes a store that may have what is lost, such as a copy"),
        _ => e,
    })?;
    if is_same_directory(store.root(), other.root()) {
        let e = Error::usage(format!("--repair-from {}: that is the store itself", show_path(dir)));
        return Err(e.with_hint("`cairn verify --repair` repairs from the store itself"));
    }
    Ok(other)
}

/// What a verification read, for the summary.
#[derive(Clone, Copy)]
enum Read {
    /// Records and structure.
    Nothing,
    /// A share of the content.
    Share(f64),
    /// One artifact or version. Packs and objects are not counted then.
    Named,
    /// The whole store.
    All,
}

fn print(context: &mut Context, report: &VerifyReport, read: Read) -> CommandResult {
    let sound = report.findings.is_empty();
    if context.json() {
        context.out.json(report)?;
        return Ok(u8::from(!sound));
    }
    let line = |code: &str, what: &str, why: &str| {
        format!("{code}  {}: {}", show_bytes(what.as_bytes()), show_bytes(why.as_bytes()))
    };
    for finding in &report.findings {
        context.out.line(&line(finding.code, &finding.what, &finding.why))?;
        for affected in &finding.affects {
            context.out.line(&format!("  affects {}", show_bytes(affected.as_bytes())))?;
        }
    }
    for note in &report.notes {
        context.out.line(&format!("note: {}", line(note.code, &note.what, &note.why)))?;
    }
    context.out.flush()?;
    if let Some(resumed) = &report.resumed {
        let (files, bytes) = (count(resumed.files, "file"), human(resumed.bytes));
        context.status(&format!("continued the verification of {}, which read {files}, {bytes}", resumed.begun_at));
    }
    context.status(&summary(report, read));
    let mut codes_of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for finding in report.findings.iter().chain(&report.notes) {
        codes_of.entry(next_step(finding.code)).or_default().insert(finding.code);
    }
    for (step, codes) in codes_of {
        let codes: Vec<&str> = codes.into_iter().collect();
        context.status(&format!("hint: {}: {step}", codes.join(", ")));
    }
    Ok(u8::from(!sound))
}

/// What was checked, and the result. It does not say more than what was read.
fn summary(report: &VerifyReport, read: Read) -> String {
    let mut looked = vec![count(report.versions, "version")];
    if report.packs > 0 || report.objects > 0 {
        looked.extend([count(report.packs, "pack"), count(report.objects, "object")]);
    }
    if report.references > 0 {
        looked.push(format!("{} asked", count(report.references, "reference")));
    }
    looked.push(format!("{} read", human(report.bytes)));
    let result = match (report.findings.len() as u64, read) {
        (1.., _) => count(report.findings.len() as u64, "finding"),
        (0, Read::Nothing) => "no damage found in records and structure; content was not hashed".to_owned(),
        (0, Read::Share(share)) => format!("no damage found; about {}% of the content was hashed", share * 100.0),
        (0, Read::Named | Read::All) => "no damage found".to_owned(),
    };
    format!("{}: {result}", looked.join(", "))
}
