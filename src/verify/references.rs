//! Whether the sources of references still have what was recorded.

use super::options::VerifyOptions;
use super::report::{Finding, VerifyReport, code};
use crate::catalog::Version;
use crate::error::{Kind, Result};
use crate::locks::Mutex;
use crate::manifest::{Entry, Reference};
use crate::remote::{self, shown_uri};
use crate::threads;
use std::collections::HashMap;

/// How many sources are asked at once.
const AT_ONCE: usize = 16;
/// How many places of one reference a finding names.
const NAMED: usize = 10;

/// What is recorded of a reference: equal ones are asked once.
type Recorded = (String, Option<u64>, Option<String>, Option<crate::types::Digest>);

/// Asks each source once. What cannot be read by design (an unknown scheme, nothing recorded) is not checked.
pub(super) fn check(versions: &[Version], options: &VerifyOptions, report: &mut VerifyReport) -> Result<()> {
    let mut places: HashMap<Recorded, (Reference, Vec<String>)> = HashMap::new();
    for version in versions {
        collect(version, &mut places);
    }
    let mut all: Vec<_> = places.into_values().collect();
    all.sort_by(|a, b| a.0.uri.cmp(&b.0.uri));
    options.progress.add_total(all.len() as u64, 0);
    let findings = Mutex::new(Vec::new());
    threads::for_each(AT_ONCE, &all, |(reference, places)| {
        options.progress.check_cancelled()?;
        let checked = remote::check(reference);
        options.progress.add_done(1, 0);
        match checked {
            Ok(()) => {}
            Err(e) if e.kind() == Kind::Io => {
                let (what, why) = (shown_uri(&reference.uri), format!("{e:#}"));
                findings.lock().push(Finding { code: code::REFERENCE, what, why, affects: places.clone() });
            }
            Err(e) => return Err(e),
        }
        Ok(())
    })?;
    let mut findings = findings.into_inner();
    findings.sort_by(|a, b| a.what.cmp(&b.what));
    report.references = all.len() as u64;
    report.findings.extend(findings);
    Ok(())
}

/// Damage in the manifest ends the walk of its version: it is a finding of its own.
fn collect(version: &Version, places: &mut HashMap<Recorded, (Reference, Vec<String>)>) {
    let Ok(tree) = version.tree() else { return };
    for visit in tree.walk().map_while(Result::ok) {
        let Entry::Reference(reference) = &visit.entry else { continue };
        if remote::is_readable(reference).is_err() {
            continue;
        }
        let key = (reference.uri.clone(), reference.size, reference.etag.clone(), reference.digest);
        let (_, named) = places.entry(key).or_insert_with(|| ((**reference).clone(), Vec::new()));
        if named.len() < NAMED {
            named.push(format!("{version} {}", visit.path));
        }
    }
}
