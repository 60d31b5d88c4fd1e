//! `cairn verify`

use crate::args::Verify;
use crate::errors::Done;
use crate::output::{Context, count};
use cairn::catalog::{VersionSpec, artifact, resolve, version};
use cairn::error::show_bytes;
use cairn::verify::{Scope, VerifyOptions, verify};
use cairn::words::ArtifactName;
use serde_json::json;

/// Reads and hashes again; exit status 1 when anything is damaged.
pub fn run(context: &mut Context, args: Verify) -> Done {
    let scope = match &args.what {
        None => Scope::All,
        Some(what) if what.contains(':') => Scope::Version(Box::new(resolve(&context.store()?, &VersionSpec::parse(what)?)?)),
        Some(what) => Scope::Artifact(ArtifactName::parse(what)?),
    };
    let store = context.store()?;
    if let Scope::Artifact(name) = &scope
        && artifact::find(&store, name)?.is_none()
    {
        version::versions(&store, name)?; // says that there is none, with the nearest names
    }
    context.if_interrupted("nothing was changed; what was not reached is not verified");
    let bar = context.bar("verify");
    let report = verify(&store, &scope, &VerifyOptions { quick: args.quick, progress: bar.progress() })?;
    drop(bar);
    let sound = report.findings.is_empty();
    if context.json() {
        context.out.json(&json!(report))?;
    } else {
        for finding in &report.findings {
            context.out.line(&format!("{}  {}: {}", finding.code, finding.what, finding.why))?;
            for affected in &finding.affects {
                context.out.line(&format!("  affects {}", show_bytes(affected.as_bytes())))?;
            }
        }
        context.out.flush()?;
        let result = if sound { "no damage found".to_owned() } else { format!("{}: see above", count(report.findings.len() as u64, "finding")) };
        context.talk(&result);
    }
    Ok(u8::from(!sound))
}
