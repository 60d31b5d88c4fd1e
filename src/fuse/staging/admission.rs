//! Which users may write through a staging mount that other users can enter (`allow_other`): those who may write to the
//! store themselves, by its modes. A mount never grants more than the store does.
//!
//! The kernel tells the user and the process of each request. Supplementary groups are read from `/proc/PID/status`,
//! and only if user and group still match: the process waits for the answer, but a killed process does not, and another
//! one may get its id.

use crate::disk::{Identity, may_write_as};
use crate::fuse::log::Log;
use crate::mount;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a decision is cached.
const CACHE_FOR: Duration = Duration::from_secs(1);
/// The most decisions that are cached.
const MAX_CACHED: usize = 1024;
/// CAP_DAC_OVERRIDE: the process may write to files regardless of their modes.
const OVERRIDES_MODES: u64 = 1 << 1;

/// The rule of a mount.
pub(super) struct Admission {
    /// The user that serves the mount.
    own: u32,
    /// Which users the kernel lets in.
    access: KernelAccess,
    /// `STORE/work`: a user who may write there may write to the store.
    work: PathBuf,
    log: Option<Log>,
    known: Mutex<HashMap<Requester, (bool, Instant)>>,
}

/// The sender of a request: user, group and thread, as the kernel reports them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Requester {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) pid: u32,
}

/// Which users the kernel lets in, as far as is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum KernelAccess {
    /// Only the mounting user.
    MountingUser,
    /// Perhaps all users.
    AllUsers,
    /// Perhaps all users, with ids that mean other users here, because the mount was made in another user namespace.
    Unknown,
}

impl Admission {
    /// The rule for a mount that this process made (or another program, if `handed_over`), with or without
    /// `allow_other`.
    pub(super) fn new(work: PathBuf, allow_other: bool, handed_over: bool, log: Option<Log>) -> Admission {
        let access = match (handed_over, allow_other) {
            (true, _) if !mount::users_are_the_hosts() => KernelAccess::Unknown,
            (true, _) | (_, true) => KernelAccess::AllUsers,
            (false, false) => KernelAccess::MountingUser,
        };
        Admission { own: mount::effective_ids().0, access, work, log, known: Mutex::default() }
    }

    /// Whether the kernel lets only the mounting user in.
    pub(super) fn is_private(&self) -> bool {
        self.access == KernelAccess::MountingUser
    }

    /// Whether this user may change files in the mount.
    pub(super) fn may_write(&self, requester: Requester) -> bool {
        match self.access {
            KernelAccess::MountingUser => return true,
            KernelAccess::Unknown => return false,
            KernelAccess::AllUsers => {}
        }
        if requester.uid == self.own && requester.uid != 0 {
            return true;
        }
        if let Some((may, when)) = self.known.lock().get(&requester)
            && when.elapsed() < CACHE_FOR
        {
            return *may;
        }
        let may = self.decide(requester);
        if let Some(log) = self.log.as_ref().filter(|log| !may && log.is_due(requester.uid.into())) {
            log.line(&format!(
                "user {} may not write here: the modes of the store do not permit this user to write to it",
                requester.uid
            ));
        }
        let mut known = self.known.lock();
        if known.len() >= MAX_CACHED {
            known.clear();
        }
        known.insert(requester, (may, Instant::now()));
        may
    }

    /// Whether the sender is the mounting user or root.
    pub(super) fn is_own(&self, requester: Requester) -> bool {
        self.access == KernelAccess::MountingUser
            || self.access == KernelAccess::AllUsers && (requester.uid == self.own || requester.uid == 0)
    }

    fn decide(&self, requester: Requester) -> bool {
        let Requester { uid, gid, pid } = requester;
        let process = std::fs::read_to_string(format!("/proc/{pid}/status")).ok().and_then(|text| Process::of(&text));
        let process = process.filter(|p| pid != 0 && (p.uid, p.gid) == (uid, gid));
        if uid == 0
            && process.as_ref().is_some_and(|p| p.capabilities & OVERRIDES_MODES != 0)
            && is_in_own_namespace(pid)
        {
            return true;
        }
        let groups = process.map(|p| p.groups).unwrap_or_default();
        may_write_as(&self.work, &Identity { uid, gid, groups })
    }
}

/// Whether a process is in the user namespace of this process, so that its capabilities count here.
fn is_in_own_namespace(pid: u32) -> bool {
    let namespace = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/user")).ok();
    namespace("self").is_some_and(|own| namespace(&pid.to_string()) == Some(own))
}

/// The credentials of a process, from `/proc/PID/status`.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    capabilities: u64,
}

impl Process {
    /// `Uid:` and `Gid:` have four ids; the last one applies to files.
    fn of(status: &str) -> Option<Process> {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let for_files = |name: &str| field(name)?.split_whitespace().nth(3)?.parse().ok();
        let groups = field("Groups")?.split_whitespace().map(|g| g.parse().ok()).collect::<Option<Vec<u32>>>()?;
        let capabilities = u64::from_str_radix(field("CapEff")?.trim(), 16).ok()?;
        Some(Process { uid: for_files("Uid")?, gid: for_files("Gid")?, groups, capabilities })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_what_counts_for_files() {
        let status =
            "Name:\tGroups: 7\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \nCapEff:\t0000000000000002\n";
        assert_eq!(Process::of(status), Some(Process { uid: 4, gid: 8, groups: vec![9, 10], capabilities: 2 }));
        assert_eq!(Process::of(&status.replace("9 10", "")).unwrap().groups, [0; 0]);
        assert_eq!(Process::of(&status.replace("9 10", "9 x")), None);
        assert_eq!(Process::of("Name:\tx\n"), None);
        let own = Process::of(&std::fs::read_to_string("/proc/self/status").unwrap()).unwrap();
        assert_eq!((own.uid, own.gid), mount::effective_ids());
    }
}
