//! Whether directories are cut by the rule (M10): otherwise equal content has different digests.

use super::report::{Finding, VerifyReport, code};
use super::root::ManifestOwner;
use crate::error::Result;
use crate::manifest::{Node, NodeSource, digest_by_the_rule};
use crate::types::Digest;
use std::collections::HashSet;
use std::sync::Arc;

/// A patch of a large directory makes a new root over many old nodes, and a check reads all of them. So the
/// number of entries that are read for this is bounded: by `ENTRIES`, plus `TIMES` the number of distinct entries.
const ENTRIES: u64 = 1_000_000;
const TIMES: u64 = 16;

/// The check of cuts.
#[derive(Default)]
pub(super) struct Cuts {
    /// Entries that were read.
    read: u64,
    /// Roots that were found wrong.
    wrong: HashSet<Digest>,
}

impl Cuts {
    /// Checks the directory `root`. `distinct` is the number of distinct entries that were met so far.
    pub fn check(
        &mut self,
        root: &Arc<Node>,
        source: &dyn NodeSource,
        distinct: u64,
        owner: &ManifestOwner,
        report: &mut VerifyReport,
    ) -> Result<()> {
        let own = root.totals().own;
        if self.read + own > ENTRIES + TIMES * distinct {
            report.uncut += 1;
            return Ok(());
        }
        self.read += own;
        let expected = match digest_by_the_rule(root, source) {
            Err(e) if e.is_loss() => return Ok(()), // another finding
            expected => expected?,
        };
        let found = root.digest();
        if expected != found && self.wrong.insert(found) {
            let why = format!("it is not cut by the rule: a directory with its entries has the root {expected}");
            let (what, affects) = (format!("manifest node {found}"), vec![owner.to_string()]);
            report.findings.push(Finding { code: code::CUT, what, why, affects });
        }
        Ok(())
    }
}
