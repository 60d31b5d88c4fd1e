//! What can happen to an artifact, and what of two events of one second came first, as far as the store knows.

use super::origin::Actor;
use super::version_record::Mode;
use crate::types::{AliasName, ArtifactName, DistributedId, Tag, VersionNumber};
use std::collections::HashMap;

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// When, by the clock of who did it.
    pub at: String,
    /// To which artifact.
    pub artifact: ArtifactName,
    /// What.
    pub what: Happening,
    /// Who did it, as far as the record says.
    pub by: Actor,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Happening {
    /// A version was published.
    Published {
        /// Which.
        version: VersionNumber,
        /// How it was made.
        mode: Mode,
    },
    /// A version was removed.
    Removed(VersionNumber),
    /// A removed version was restored.
    Restored(VersionNumber),
    /// An alias moved.
    Alias {
        /// Which.
        alias: AliasName,
        /// Where it pointed before.
        from: Option<VersionNumber>,
        /// Where it points then.
        to: Option<VersionNumber>,
    },
    /// A version was annotated, or a run made its content again.
    Annotated {
        /// Which version.
        version: VersionNumber,
        /// The tags that were added.
        tags: Vec<Tag>,
        /// The tags that were removed.
        removed_tags: Vec<Tag>,
        /// Whether the description was set.
        description: bool,
        /// Whether the metadata was set.
        metadata: bool,
        /// The time to live that was set; 0: it was removed.
        ttl_seconds: Option<u64>,
    },
    /// Something was recorded in a draft.
    Draft {
        /// Its id.
        id: DistributedId,
        /// What.
        change: DraftChange,
    },
}

/// What was recorded in a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DraftChange {
    /// A run contributed.
    Contributed,
    /// A run's contributions were dropped.
    Dropped,
    /// It was discarded.
    Discarded,
    /// It was finished.
    Finished,
}

/// A place among the events of one second: the number after the newest version that is known to be published before it,
/// and which of the kinds of events about that version it is.
pub(super) type Place = (u64, u8);

const PUBLISHED: u8 = 0;
const ABOUT_IT: u8 = 1;
const AFTER_ALIASES: u8 = 2;
const FINISHED: u8 = 3;

/// The place of the finish of a draft: its version, which was compared with `newest`, is published after it.
pub(super) fn place_of_finish(newest: Option<VersionNumber>) -> Place {
    (newest.map_or(0, |newest| newest.0 + 1), FINISHED)
}

impl Happening {
    /// The place as the event alone tells it.
    pub(super) fn place(&self) -> Place {
        match self {
            Happening::Published { version, .. } => (version.0 + 1, PUBLISHED),
            Happening::Removed(version) | Happening::Restored(version) | Happening::Annotated { version, .. } => {
                (version.0 + 1, ABOUT_IT)
            }
            Happening::Alias { from, to, .. } => (from.max(to).map_or(0, |version| version.0 + 1), ABOUT_IT),
            Happening::Draft { .. } => (0, PUBLISHED),
        }
    }
}

/// An event of the second that is put in order.
pub(super) struct Placed<T> {
    /// Which log it is from.
    pub log: u64,
    pub place: Place,
    /// The version that it removes, or from which it moves an alias.
    pub leaves: Option<Leaves>,
    pub event: T,
}

/// What an event does to a version that was in use.
#[derive(Clone, Copy)]
pub(super) enum Leaves {
    /// It removes it: after the aliases left it, unless it was forced.
    Removes(VersionNumber),
    /// It moves an alias away from it.
    Unnames(VersionNumber),
}

impl Leaves {
    pub(super) fn of(what: &Happening) -> Option<Leaves> {
        match what {
            Happening::Removed(version) => Some(Leaves::Removes(*version)),
            Happening::Alias { from: Some(from), .. } => Some(Leaves::Unnames(*from)),
            _ => None,
        }
    }
}

/// Puts events of one second in order, the newest first. Those of one log come with the newest first, and stay so. A
/// version is published before anything else that concerns it.
pub(super) fn order<T>(second: &mut [Placed<T>]) {
    let mut unnamed: HashMap<VersionNumber, Place> = HashMap::new();
    for placed in second.iter() {
        if let Some(Leaves::Unnames(version)) = placed.leaves {
            let latest = unnamed.entry(version).or_default();
            *latest = (*latest).max(placed.place);
        }
    }
    let mut reached: HashMap<u64, Place> = HashMap::new();
    for placed in second.iter_mut().rev() {
        if let Some(Leaves::Removes(version)) = placed.leaves
            && let Some((number, _)) = unnamed.get(&version)
        {
            placed.place = placed.place.max((*number, AFTER_ALIASES));
        }
        let before = reached.entry(placed.log).or_default();
        placed.place = placed.place.max(*before);
        *before = placed.place;
    }
    second.sort_by_key(|event| std::cmp::Reverse(event.place));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(events: &[(u64, Place, Option<Leaves>, &'static str)]) -> Vec<&'static str> {
        let placed = |&(log, place, leaves, event): &_| Placed { log, place, leaves, event };
        let mut second: Vec<_> = events.iter().map(placed).collect();
        order(&mut second);
        second.into_iter().map(|placed| placed.event).collect()
    }

    #[test]
    fn a_log_keeps_its_order_and_a_version_comes_before_what_concerns_it() {
        let v = |number: u64, kind: u8| (number + 1, kind);
        // An alias that moved to v0, v1 and back to v0.
        let events = [
            (1, v(1, PUBLISHED), None, "v1"),
            (1, v(0, PUBLISHED), None, "v0"),
            (2, v(1, ABOUT_IT), None, "back to v0"),
            (2, v(1, ABOUT_IT), None, "to v1"),
            (2, v(0, ABOUT_IT), None, "to v0"),
        ];
        assert_eq!(ordered(&events), ["back to v0", "to v1", "v1", "to v0", "v0"]);
    }

    #[test]
    fn a_version_is_removed_after_aliases_left_it_and_published_after_its_draft_is_finished() {
        let events = [
            (3, (1, ABOUT_IT), Some(Leaves::Removes(VersionNumber(0))), "v0 removed"),
            (1, (2, PUBLISHED), None, "v1"),
            (2, (2, ABOUT_IT), Some(Leaves::Unnames(VersionNumber(0))), "prod to v1"),
            (4, place_of_finish(Some(VersionNumber(0))), None, "finished"),
            (4, (0, PUBLISHED), None, "contributed"),
        ];
        assert_eq!(ordered(&events), ["v0 removed", "prod to v1", "v1", "finished", "contributed"]);
    }
}
