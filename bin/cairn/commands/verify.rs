//! `cairn verify`

use crate::errors::{CommandResult, Failure};
use crate::help::Help;
use crate::output::{Context, count};
use crate::progress::human;
use cairn::error::show_bytes;
use cairn::types::ArtifactName;
use cairn::verify::{Scope, VerifyOptions, VerifyReport, code, verify};
use clap::Args;

/// `cairn verify`
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// An artifact or one version; without it, the whole store
    #[arg(value_name = "NAME[:V]")]
    pub what: Option<String>,
    /// Check records and structure only; hash no file
    #[arg(long)]
    pub quick: bool,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &["Reads the store and hashes its content again. Prints a line for each finding (its code, where it \
         is, what was expected and what was found) and below it the versions and paths that it affects. \
         Lines that begin with `note:` are not damage: the next writer repairs them."],
    examples: &[
        ("cairn verify", "the whole store"),
        ("cairn verify images", "all versions of images"),
        ("cairn verify images:v3 --quick", "records and structure only"),
    ],
    exit: &[(0, "no damage was found"), (1, "damage was found")],
    json: "{\"findings\": [{\"code\", \"what\", \"why\", \"affects\"}], \"notes\": [...], \"artifacts\", \
         \"versions\", \"packs\", \"objects\", \"bytes\", \"tokens\"}",
    list: Some(("Codes", code::ALL)),
};

/// What to do about objects whose times were lost, as by a copy of the store without `-a`.
const TOUCHED: &str = "hint: the content of F1-touched objects is right. They are read more slowly until they have \
    mode 0444 and \
    that time again: a reader sets them, or `touch -d @1000000000`";

/// Reads and hashes again; exit status 1 when anything is damaged.
pub fn run(context: &mut Context, args: VerifyArgs) -> CommandResult {
    let scope = match &args.what {
        None => Scope::All,
        Some(what) if what.contains(':') => Scope::Version(Box::new(context.version(what)?)),
        Some(what) => Scope::Artifact(ArtifactName::parse(what)?),
    };
    let store = context.store()?;
    context.if_interrupted("nothing was changed; the rest is not verified");
    let bar = context.bar("verify");
    let report = verify(&store, &scope, &VerifyOptions::default().quick(args.quick).progress(bar.progress()))?;
    drop(bar);
    match print(context, &report) {
        // The reader has gone, but the answer is known.
        Err(Failure::PipeClosed) => Ok(u8::from(!report.findings.is_empty())),
        done => done,
    }
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
    let result = if sound { "no damage found".to_owned() } else { count(report.findings.len() as u64, "finding") };
    context.status(&format!("{looked}: {result}"));
    if report.findings.iter().any(|f| f.code == code::TOUCHED) {
        context.status(TOUCHED);
    }
    Ok(u8::from(!sound))
}
