//! The pack in which a thread found content last. What is put again in path order lies mostly in one pack after the
//! other, so a thread keeps the footer of one pack and asks it before the index.

use super::pack::{BlobKind, Footer};
use crate::types::{Digest, Location, PackRef};
use std::sync::Arc;

/// After this many contents that were found in the same pack, its footer is read.
const FIRST_RUN: usize = if cfg!(test) { 3 } else { 8 };
/// A footer in which fewer contents were found than this was not worth reading.
const WORTH: usize = 4 * FIRST_RUN;

/// A thread's recent pack.
pub(super) struct RecentPack {
    footer: Option<(PackRef, Arc<Footer>)>,
    /// How many contents were found in the footer.
    hits: usize,
    /// Where the index found the last content, and how many in a row.
    run: (Option<PackRef>, usize),
    /// How long a run must be.
    needed: usize,
}

impl RecentPack {
    pub(super) fn new() -> RecentPack {
        RecentPack { footer: None, hits: 0, run: (None, 0), needed: FIRST_RUN }
    }

    /// Where content lies in the recent pack.
    pub(super) fn find(&mut self, digest: &Digest) -> Option<Location> {
        let (pack, footer) = self.footer.as_ref()?;
        let blob = footer.find(digest, BlobKind::Content)?;
        self.hits += 1;
        Some(Location { pack: *pack, offset: blob.offset })
    }

    /// Records in which pack the index found content. `true` if this should become the recent pack.
    pub(super) fn found_in(&mut self, pack: PackRef) -> bool {
        self.run = if self.run.0 == Some(pack) { (Some(pack), self.run.1 + 1) } else { (Some(pack), 1) };
        self.run.1 == self.needed
    }

    /// Replaces the recent pack by one whose footer was checked.
    pub(super) fn replace(&mut self, pack: PackRef, footer: Option<Arc<Footer>>) {
        if self.footer.is_some() {
            self.needed = if self.hits < WORTH { self.needed.saturating_mul(2) } else { FIRST_RUN };
        }
        self.hits = 0;
        self.footer = footer.map(|footer| (pack, footer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::pack::{Blob, Codec};

    fn footer(numbers: std::ops::Range<u32>) -> Arc<Footer> {
        let mut blobs: Vec<Blob> = numbers
            .map(|n| Blob { digest: digest(n), kind: BlobKind::Content, codec: Codec::Raw, offset: n, len: 1 })
            .collect();
        blobs.sort_by_key(|blob| blob.digest);
        Arc::new(Footer { blobs })
    }

    fn digest(n: u32) -> Digest {
        Digest::of(&n.to_le_bytes())
    }

    #[test]
    fn a_pack_becomes_the_recent_one_after_a_run_and_footers_that_were_not_used_need_longer_runs() {
        let mut recent = RecentPack::new();
        let (a, b) = (PackRef(1), PackRef(2));
        assert!(!recent.found_in(a) && !recent.found_in(a) && !recent.found_in(b));
        assert!(!recent.found_in(a) && !recent.found_in(a) && recent.found_in(a));
        recent.replace(a, Some(footer(0..100)));
        assert_eq!(recent.find(&digest(7)), Some(Location { pack: a, offset: 7 }));
        assert_eq!(recent.find(&digest(100)), None);
        assert!(!recent.found_in(b) && !recent.found_in(b) && recent.found_in(b));
        recent.replace(b, Some(footer(100..200)));
        assert_eq!((recent.find(&digest(7)), recent.needed), (None, 2 * FIRST_RUN), "one hit was not worth it");
        assert!((100..100 + WORTH as u32).all(|n| recent.find(&digest(n)).is_some()));
        recent.replace(a, None);
        assert_eq!((recent.find(&digest(100)), recent.needed), (None, FIRST_RUN));
    }
}
