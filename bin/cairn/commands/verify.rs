//! `cairn verify`

use crate::errors::{CommandResult, Failure};
use crate::help::Help;
use crate::output::{Context, count};
use crate::progress::human;
use cairn::error::{Error, show_bytes};
use cairn::types::ArtifactName;
use cairn::verify::{Checkpoint, Scope, VerifyOptions, VerifyReport, code, next_step, verify};
use cairn::{RepairReport, Store};
use clap::Args;
use std::collections::BTreeSet;
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
    /// Whole store: read no faster than this: bytes per second, such as 50M (K, M, G: 1024 and its powers)
    #[arg(long, value_name = "RATE", value_parser = rate, conflicts_with_all = ["repair", "repair_from"])]
    pub limit: Option<u64>,
    /// Whole store: hash only this share of the packs and objects, such as 1%; each run chooses another share at random
    #[arg(long, value_name = "PERCENT", value_parser = share, conflicts_with_all = ["repair", "repair_from"])]
    pub sample: Option<f64>,
    /// Continue an interrupted `cairn verify`: do not read again what it read and found right
    #[arg(long)]
    pub resume: bool,
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
        ("cairn verify --resume", "the rest, after Ctrl-C or a crash"),
        ("cairn verify --repair-from /backup/store", "repair with what a copy of the store has"),
    ],
    exit: &[(0, "no damage was found"), (1, "damage was found")],
    json: "{\"findings\": [{\"code\", \"what\", \"why\", \"affects\"}], \"notes\": [...], \"artifacts\", \
         \"versions\", \"packs\", \"objects\", \"bytes\", \"tokens\", \
         \"resumed\": null or {\"begun_at\", \"files\", \"bytes\"}}; with --repair also \
         \"repaired\": {\"contents\", \"nodes\", \"records\", \"segments\", \"modes\", \"cleared\"}",
    list: Some(("Codes (the numbers are those of FORMAT.md's invariants)", code::ALL)),
};

/// Bytes per second.
fn rate(text: &str) -> Result<u64, String> {
    let (number, power) = match text.to_ascii_uppercase().strip_suffix(['K', 'M', 'G']) {
        Some(number) => {
            (number.to_owned(), 1 + "KMG".find(text.to_ascii_uppercase().chars().last().unwrap_or('K')).unwrap_or(0))
        }
        None => (text.to_owned(), 0),
    };
    let rate = number.parse::<u64>().ok().filter(|n| *n > 0).and_then(|n| n.checked_mul(1 << (10 * power)));
    rate.ok_or_else(|| format!("`{text}` is not a number of bytes, such as 50M"))
}

/// A share from 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok().filter(|p| (0.0..=100.0).contains(p));
    percent.map(|p| p / 100.0).ok_or_else(|| format!("`{text}` is not a share, such as 1%"))
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
    let options = options.checkpoint(if args.resume { Checkpoint::Resume } else { Checkpoint::Write });
    let report = verify(&store, &scope, &options.progress(bar.progress()))?;
    drop(bar);
    if args.resume && report.resumed.is_none() {
        context.status("there was no interrupted verification to continue: everything was read");
    }
    match print(context, &report) {
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
    let others = args.repair_from.iter().map(Store::open).collect::<Result<Vec<_>, _>>()?;
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
    print(context, after)
}

fn print(context: &mut Context, report: &VerifyReport) -> CommandResult {
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
    let looked = format!(
        "{}, {}, {}, {} read",
        count(report.versions, "version"),
        count(report.packs, "pack"),
        count(report.objects, "object"),
        human(report.bytes)
    );
    if let Some(resumed) = &report.resumed {
        let (files, bytes) = (count(resumed.files, "file"), human(resumed.bytes));
        context.status(&format!("continued the verification of {}, which read {files}, {bytes}", resumed.begun_at));
    }
    let result = if sound { "no damage found".to_owned() } else { count(report.findings.len() as u64, "finding") };
    context.status(&format!("{looked}: {result}"));
    let codes: BTreeSet<&str> = report.findings.iter().chain(&report.notes).map(|f| f.code).collect();
    for code in codes {
        context.status(&format!("hint: {code}: {}", next_step(code)));
    }
    Ok(u8::from(!sound))
}
