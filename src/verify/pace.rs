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

/// At least this many pieces are checked at a time, and more while they are small: what is found in them is in memory
/// until all of them are checked.
const TOGETHER: usize = 16;
const BYTES_TOGETHER: u64 = 64 << 20;

/// For `chunk_by`: whether the next piece is checked together with those before it.
pub(super) fn together<T>(size_of: impl Fn(&T) -> u64) -> impl FnMut(&T, &T) -> bool {
    let (mut pieces, mut bytes) = (1, 0);
    move |last, _| {
        bytes += size_of(last);
        let is_enough = pieces >= TOGETHER && bytes >= BYTES_TOGETHER;
        (pieces, bytes) = if is_enough { (1, 0) } else { (pieces + 1, bytes) };
        !is_enough
    }
}
