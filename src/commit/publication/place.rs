//! Step 6 for a version: which number it gets.

use crate::catalog::{Mode, VersionRecord, numbers, version};
use crate::error::Result;
use crate::store::Store;
use crate::txn::claim::{self, Claimed};
use crate::types::{Token, VersionNumber};

/// Where a committed version came to stand.
pub(in crate::commit) enum Placed {
    /// At this number.
    At(VersionNumber),
    /// Nowhere: on its way up it met this version with the same content (case 12).
    SameAs(VersionNumber),
    /// Nowhere: the one number it may have is another's.
    Taken,
}

/// Step 6 for a version: walks up from the number in the record, past what it has read, and claims the first free one;
/// an exact record has one number only (L9). The rule for equal content depends on published, immutable records alone,
/// so every helper comes to the same end.
pub(in crate::commit) fn place(store: &Store, token: &Token, record: &VersionRecord) -> Result<Placed> {
    let name = &record.artifact;
    let mut number = record.from;
    loop {
        match claim::claim(store, &store.layout().version(name, number), token)? {
            Claimed::Own => return Ok(Placed::At(number)),
            Claimed::Other(other) => {
                if record.exact {
                    return Ok(Placed::Taken);
                }
                // Whose walk does not depend on content needs the token alone: a damaged record is passed.
                if record.mode == Mode::Simple && !record.always_new {
                    let other = version::read_record(store, name, &other)?;
                    numbers::check_number(&other, number.0, &store.layout().version(name, number))?;
                    if other.digest == record.digest {
                        return Ok(Placed::SameAs(number));
                    }
                }
                number.0 += 1;
            }
        }
    }
}
