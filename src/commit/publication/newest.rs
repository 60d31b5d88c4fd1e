//! The newest version of an artifact, looked up before another one is published.

use super::recover::recover_finished;
use crate::catalog::{Version, lost, removal, version};
use crate::error::{Kind, Result};
use crate::store::Store;
use crate::txn::Txn;
use crate::types::{ArtifactName, VersionNumber};

/// The newest version, or its error if it is damaged: that does not stop the next version.
pub(in crate::commit) type Newest = Option<Result<Version>>;

/// The highest number that was given, and the newest version that is not removed. The token pins that version; it has
/// pinned `known` already.
pub(in crate::commit) fn newest(
    store: &Store,
    name: &ArtifactName,
    known: Option<&Version>,
    work: &Txn,
) -> Result<(Option<VersionNumber>, Newest)> {
    loop {
        let (highest, given) = highest(store, name, known)?;
        let Some(number) = Version::newest_up_to(store, name, highest)? else { return Ok((given, None)) };
        if let Some(known) = known.filter(|k| k.number() == number) {
            return Ok((given, Some(Ok(known.clone()))));
        }
        work.pin_base(name, number)?;
        if !removal::is_removed(store, name, number)? {
            return Ok((given, as_far_as_readable(store, name, number)?));
        }
    }
}

/// [`newest`] for an attempt that relies on nothing of it: nothing is pinned.
pub(in crate::commit) fn newest_unrelied(
    store: &Store,
    name: &ArtifactName,
) -> Result<(Option<VersionNumber>, Newest)> {
    let (highest, given) = highest(store, name, None)?;
    let number = Version::newest_up_to(store, name, highest)?;
    Ok((given, number.map(|n| as_far_as_readable(store, name, n)).transpose()?.flatten()))
}

/// The highest number with a link, searched from the `known` version on, and the highest that was given: another one if
/// that number's link is lost. A finished draft's version gets its number first if it has none.
fn highest(
    store: &Store,
    name: &ArtifactName,
    known: Option<&Version>,
) -> Result<(Option<VersionNumber>, Option<VersionNumber>)> {
    let look = || {
        let highest = known.map(|k| version::highest_after(store, name, Some(k.number()))).transpose()?.flatten();
        if highest.is_some() { Ok(highest) } else { version::highest(store, name) }
    };
    lost::highest_given(store, name, || {
        let highest = look()?;
        if recover_finished(store, name, highest)? { look() } else { Ok(highest) }
    })
}

fn as_far_as_readable(store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<Newest> {
    match Version::read(store, name, number) {
        Err(e) if e.kind() != Kind::Damaged => Err(e),
        read => Ok(read.transpose()),
    }
}
