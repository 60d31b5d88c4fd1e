//! Who wrote a record: the user, the host and the run. Records of older releases don't have it.

use crate::disk;
use crate::lock;
use crate::store::Store;
use crate::types::RunId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A user of the host on which something was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    /// The number.
    pub uid: u32,
    /// Its name on that host.
    pub name: Option<String>,
}

impl UserRecord {
    /// The user who started this process.
    pub fn own() -> UserRecord {
        UserRecord { uid: disk::own_uid(), name: disk::own_name() }
    }

    /// A user of this host.
    pub fn of(uid: u32) -> UserRecord {
        UserRecord { uid, name: crate::disk::name_of_user(uid) }
    }
}

impl fmt::Display for UserRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "uid {}", self.uid),
        }
    }
}

/// Where a record was written, and by which user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserRecord>,
    /// The host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

impl Origin {
    /// This process.
    pub fn here() -> Origin {
        Origin { user: Some(UserRecord::own()), host: Some(lock::host_name().to_owned()) }
    }
}

/// Who did something: where, by which user, and for which run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Where, and which user.
    #[serde(flatten)]
    pub origin: Origin,
    /// For which run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
}

impl Actor {
    /// This process, for the run that the store's handle is used for ([`Store::for_run`]).
    pub fn of(store: &Store) -> Actor {
        Actor { origin: Origin::here(), run: store.run().cloned() }
    }
}

/// ` by USER on HOST, run RUN`, as far as it is known.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.origin.user {
            write!(f, " by {user}")?;
        }
        if let Some(host) = &self.origin.host {
            write!(f, " on {host}")?;
        }
        if let Some(run) = &self.run {
            write!(f, ", run {run}")?;
        }
        Ok(())
    }
}
