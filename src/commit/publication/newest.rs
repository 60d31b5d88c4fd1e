//! The newest version of an artifact, looked up before another one is published.

use super::recover::recover_finished;
use crate::catalog::{Version, removal, version};
use crate::error::{Kind, Result};
use crate::store::Store;
use crate::txn::Txn;
use crate::types::{ArtifactName, VersionNumber};

/// The newest version, or its error if it is damaged: that does not stop the next version.
pub(in crate::commit) type Newest = Option<Result<Version>>;

/// The highest number and the newest version that is not removed. The token pins that version; it has pinned `known`
/// already.
pub(in crate::commit) fn newest(
    store: &Store,
    name: &ArtifactName,
    known: Option<&Version>,
    work: &Txn,
) -> Result<(Option<VersionNumber>, Newest)> {
    loop {
        let highest = highest(store, name, known)?;
        let Some(number) = Version::newest_up_to(store, name, highest)? else { return Ok((highest, None)) };
        if let Some(known) = known.filter(|k| k.number() == number) {
            return Ok((highest, Some(Ok(known.clone()))));
        }
        work.pin_base(name, number)?;
        if !removal::is_removed(store, name, number)? {
            return Ok((highest, as_far_as_readable(store, name, number)?));
        }
    }
}

/// [`newest`] for an attempt that relies on nothing of it: nothing is pinned.
pub(in crate::commit) fn newest_unrelied(
    store: &Store,
    name: &ArtifactName,
) -> Result<(Option<VersionNumber>, Newest)> {
    let highest = highest(store, name, None)?;
    let number = Version::newest_up_to(store, name, highest)?;
    Ok((highest, number.map(|n| as_far_as_readable(store, name, n)).transpose()?.flatten()))
}

/// The highest number that was given, searched from the `known` version on; including that of a finished draft's
/// version, which gets its number now if it has none.
fn highest(store: &Store, name: &ArtifactName, known: Option<&Version>) -> Result<Option<VersionNumber>> {
    let look = || {
        let highest = known.map(|k| version::highest_after(store, name, Some(k.number()))).transpose()?.flatten();
        if highest.is_some() { Ok(highest) } else { version::highest(store, name) }
    };
    let highest = look()?;
    if recover_finished(store, name, highest)? { look() } else { Ok(highest) }
}

fn as_far_as_readable(store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<Newest> {
    match Version::read(store, name, number) {
        Err(e) if e.kind() != Kind::Damaged => Err(e),
        read => Ok(read.transpose()),
    }
}
