//! What a finding affects: the first few paths, and how many there are.

/// How many affected paths a finding lists at most; a last line counts the others.
const MAX_LISTED: usize = 20;
/// About how many paths all findings together list: if very much is damaged, each finding lists fewer.
const MAX_LISTED_IN_ALL: usize = 400_000;

/// How many paths each finding lists, if there are this many findings.
pub(super) fn limit(findings: usize) -> usize {
    (MAX_LISTED_IN_ALL / findings.max(1)).clamp(1, MAX_LISTED)
}

/// The first few things that are affected, and how many there are.
#[derive(Default)]
pub(super) struct Affected {
    pub first: Vec<String>,
    pub count: u64,
}

impl Affected {
    pub fn add(&mut self, what: impl FnOnce() -> String) {
        if self.first.len() < MAX_LISTED {
            self.first.push(what());
        }
        self.count += 1;
    }

    /// As a finding lists them.
    pub fn list(mut self) -> Vec<String> {
        let more = self.count.saturating_sub(self.first.len() as u64);
        if more > 0 {
            self.first.push(format!("and {more} more"));
        }
        self.first
    }
}
