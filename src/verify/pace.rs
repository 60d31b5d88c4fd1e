//! How much of the content is read, and how fast.

use crate::locks::Mutex;
use crate::types::{Digest, Token};
use std::time::{Duration, Instant};

/// A limit of bytes per second for all threads together.
#[derive(Default)]
pub(super) struct Pace {
    limit: Option<u64>,
    /// When everything that was begun may be done.
    free_at: Mutex<Option<Instant>>,
}

impl Pace {
    pub fn new(limit: Option<u64>) -> Pace {
        Pace { limit: limit.filter(|limit| *limit > 0), free_at: Mutex::default() }
    }

    /// Waits until `bytes` may be read.
    pub fn wait_for(&self, bytes: u64) {
        let Some(limit) = self.limit else { return };
        let now = Instant::now();
        let begin = {
            let mut free_at = self.free_at.lock();
            let begin = free_at.map_or(now, |at| at.max(now));
            *free_at = Some(begin + Duration::from_secs_f64(bytes as f64 / limit as f64));
            begin
        };
        std::thread::sleep(begin.duration_since(now));
    }
}

/// A share of all files, another one for each verification.
#[derive(Default)]
pub(super) struct Sample {
    /// A number that is added to each name, and the bound below which the sum is in the sample.
    part: Option<(u64, u64)>,
}

impl Sample {
    pub fn new(share: Option<f64>) -> Sample {
        let seed = || Digest::of(Token::fresh().as_str().as_bytes()).prefix();
        let bound = |share: f64| (share.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        Sample { part: share.map(|share| (seed(), bound(share))) }
    }

    /// Whether the file with that name is read.
    pub fn has(&self, name: &Digest) -> bool {
        // The first bytes of digests are as good as random; adding a random number makes another choice each time.
        self.part.is_none_or(|(seed, bound)| name.prefix().wrapping_add(seed) <= bound)
    }
}
