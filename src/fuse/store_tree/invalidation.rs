//! Making the kernel forget versions, so that their pins can be removed.
//!
//! The daemon asks the kernel to forget a version name by name, down to the names in use; so after the last use it
//! forgets the rest by itself. A name that it keeps because something below is in use cannot be reached by name a
//! second time, so the directories that were in use are remembered.

use super::super::attributes::{FileKind, ListedName};
use super::super::inode_tree::InodeTree;
use super::super::session::Forgetter;
use super::inodes::ARTIFACTS;
use super::listings::ArtifactListings;
use super::version_slots::VersionSlots;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;

/// How many names of a version the kernel is asked to forget in one step.
const NAMES_PER_STEP: usize = 1 << 14;
/// How many directories in use are remembered.
const MAX_DIRECTORIES: usize = 1 << 12;
/// The offset of the first entry after `.` and `..` in a directory of a version.
const FIRST_ENTRY: u64 = 2;

/// The invalidation of one version.
#[derive(Default)]
struct Invalidation {
    /// Directories to go through, from these offsets on.
    pending: VecDeque<(u64, u64)>,
    /// Directories that were in use.
    in_use: Vec<u64>,
}

impl Invalidation {
    fn begin(&mut self, slot: u32) {
        let directories = std::iter::once(VersionSlots::root(slot)).chain(std::mem::take(&mut self.in_use));
        self.pending = directories.map(|directory| (directory, FIRST_ENTRY)).collect();
        self.in_use = self.pending.iter().skip(1).map(|(directory, _)| *directory).collect();
    }

    fn remember(&mut self, directory: u64) {
        if self.in_use.len() < MAX_DIRECTORIES && !self.in_use.contains(&directory) {
            self.in_use.push(directory);
        }
    }

    /// Continues for [`NAMES_PER_STEP`] names.
    fn step(&mut self, slot: u32, slots: &VersionSlots, listings: &ArtifactListings, forget: &Forgetter) {
        let Ok((artifact, number)) = slots.version(slot) else { return };
        // This makes the kernel forget all that is not in use. What is in use keeps the directories above it.
        forget(ARTIFACTS + u64::from(artifact), number.to_string().as_bytes());
        let Ok(tree) = slots.tree(slot, listings) else { return };
        let mut left = NAMES_PER_STEP;
        while let Some((directory, offset)) = self.pending.pop_front() {
            let (mut names, mut next) = (Vec::new(), offset);
            let mut note = |item: ListedName<'_>| {
                if names.len() == left {
                    return ControlFlow::Break(());
                }
                names.push((item.name.to_vec(), item.attributes.ino, item.attributes.kind));
                next = item.next;
                ControlFlow::Continue(())
            };
            // A directory that cannot be listed now is tried again with the next invalidation.
            if tree.list(directory, offset, &mut note).is_err() {
                continue;
            }
            left -= names.len();
            for (name, ino, kind) in names {
                if forget(directory, &name) && kind == FileKind::Directory {
                    self.pending.push_back((ino, FIRST_ENTRY));
                    self.remember(ino);
                }
            }
            if left == 0 {
                self.pending.push_front((directory, next));
                return;
            }
        }
    }
}

/// The versions that the kernel is to forget, by slot.
#[derive(Default)]
pub(super) struct Invalidations(Mutex<HashMap<u32, Invalidation>>);

impl Invalidations {
    /// Continues all invalidations for a step, and begins new ones: of versions whose pins another process asks for,
    /// and of removed versions that are still known. Of versions that were pinned too long, the names alone are
    /// forgotten: what is in use stays.
    pub(super) fn step(&self, slots: &VersionSlots, listings: &ArtifactListings, forget: &Forgetter) {
        let wanted = slots.wanted(listings);
        let removed = slots.removed_in_use(listings);
        let mut running = self.0.lock();
        running.retain(|slot, _| slots.is_known(*slot));
        for slot in slots.pinned_too_long() {
            if let Ok((artifact, number)) = slots.version(slot) {
                forget(ARTIFACTS + u64::from(artifact), number.to_string().as_bytes());
            }
        }
        for slot in wanted {
            running.entry(slot).or_default().begin(slot);
        }
        for slot in removed {
            let invalidation = running.entry(slot).or_default();
            if invalidation.pending.is_empty() {
                invalidation.begin(slot);
            }
        }
        for (slot, invalidation) in running.iter_mut().filter(|(_, i)| !i.pending.is_empty()) {
            invalidation.step(*slot, slots, listings, forget);
        }
    }
}
