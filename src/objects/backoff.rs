//! What is tried often in vain is tried less often: compressing photos, which do not get smaller, and comparing new
//! files with others, which they do not resemble.

/// After this many failures in succession some are left untried: 1, 3, 7, then 15 before each next one.
const PATIENCE: u32 = 4;
const MOST_DOUBLINGS: u32 = 4;

/// Leaves some untried after many were tried in vain.
#[derive(Default)]
pub(super) struct Backoff {
    failures: u32,
    untried: u32,
}

impl Backoff {
    /// Whether to try the next one.
    pub(super) fn is_next_tried(&mut self) -> bool {
        let is_tried = self.untried == 0;
        self.untried = self.untried.saturating_sub(1);
        is_tried
    }

    /// Call it with the result of each try.
    pub(super) fn record(&mut self, is_success: bool) {
        self.failures = if is_success { 0 } else { self.failures.saturating_add(1) };
        self.untried = (1 << self.failures.saturating_sub(PATIENCE).min(MOST_DOUBLINGS)) - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_failures_fewer_are_tried_and_one_success_ends_that() {
        let mut backoff = Backoff::default();
        // How many of the next ones are tried, if each of them has this result.
        let mut tried = |count: u32, is_success: bool| {
            let mut tried = 0;
            for _ in 0..count {
                if backoff.is_next_tried() {
                    backoff.record(is_success);
                    tried += 1;
                }
            }
            tried
        };
        assert_eq!(tried(100, true), 100);
        assert_eq!(tried(4, false), 4);
        assert_eq!(tried(4000, false), 4000 / 16 + 3);
        assert!(tried(16, true) >= 1);
        assert_eq!(tried(100, true), 100);
    }
}
