//! What a process knows of object files on the list of known damage.

use super::damage::{DamagedItem, KnownDamage};
use super::verified_objects::VerifiedObjects;
use crate::locks::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a process counts with the list that it read.
const LIST_IS_RECENT: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Distrusted {
    list: Mutex<Option<(Instant, Arc<KnownDamage>)>>,
    right: VerifiedObjects,
    wrong: VerifiedObjects,
}

impl Default for Distrusted {
    fn default() -> Self {
        Distrusted { list: Mutex::cache(), right: VerifiedObjects::default(), wrong: VerifiedObjects::default() }
    }
}

impl Distrusted {
    /// The list, perhaps as it was a second ago. `read` reads it.
    pub(super) fn list(&self, read: impl FnOnce() -> KnownDamage) -> Arc<KnownDamage> {
        let mut list = self.list.lock();
        if let Some((at, known)) = &*list
            && at.elapsed() < LIST_IS_RECENT
        {
            return known.clone();
        }
        let known = Arc::new(read());
        self.right.retain(|digest| known.has(&DamagedItem::Object(*digest)));
        *list = Some((Instant::now(), known.clone()));
        known
    }

    /// Listed objects that were hashed and are right. Once they are not listed, they are forgotten: if they are listed
    /// again, they may be wrong, although their files do not show it.
    pub(super) fn right(&self) -> &VerifiedObjects {
        &self.right
    }

    /// Listed objects that were hashed and are wrong.
    pub(super) fn wrong(&self) -> &VerifiedObjects {
        &self.wrong
    }
}
