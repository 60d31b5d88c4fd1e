//! A whole store as one mount: `NAME/vN/…` and `NAME/ALIAS` → `vN`, alive: what is published, moved or removed shows
//! within the time for which the kernel may keep names, one second unless said otherwise.
//!
//! Inode numbers: versions have slots (the bits above [`RANK_BITS`]), below them entries have their ranks; slot 0 is
//! the store's own level: the root, artifacts from [`ARTIFACTS`] on in the order in which they were seen, and links.
//! All stay what they are for the mount's life. Staging directories are not here: they are writable, and versions never
//! share a connection with what can be written. `.staging` and `NAME/staging` are links to where they are mounted.

mod links;
mod shelves;
mod slots;

use super::attributes::{Attributes, FileKind, Item, Looked, RANK_BITS, ROOT};
use super::errno::{Answer, Failure};
use super::inode_tree::{InodeTree, Readable};
use super::session::Forgetter;
use super::staging::Companion;
use crate::catalog::{Version, alias, removal};
use crate::clock;
use crate::disk;
use crate::mount;
use crate::pins::Pins;
use crate::store::Store;
use crate::types::{AliasName, MAX_NAME, Token, VersionNumber};
use links::Links;
use parking_lot::Mutex;
use shelves::Shelves;
use slots::Slots;
use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Inode numbers of artifacts begin here; below are the root and links.
const ARTIFACTS: u64 = 1 << 32;
/// Inode numbers of links to staging directories begin here: the root's, then those of artifacts.
const STAGING: u64 = 1 << 31;
/// In an artifact's listing aliases come after all versions: their offsets begin here.
const ALIASES: u64 = 1 << 62;
/// The link to staging directories comes last: the offset after it.
const AFTER_STAGING: u64 = 3 << 61;

/// What the link to an artifact's staging directories is called: no alias can be.
const STAGED: &[u8] = b"staging";

/// InodeTree of a version that the kernel is told to forget at a time.
const FORGOTTEN_AT_ONCE: usize = 1 << 14;
/// Directories in use that a chase remembers.
const DIRECTORIES_KEPT: usize = 1 << 12;
/// The offset of the first entry after `.` and `..` in a directory of a version.
const FIRST_ENTRY: u64 = 2;

/// The kernel being told to forget a version, name by name. A name that it keeps because something below is in use
/// can't be reached by name a second time, so the directories found in use are remembered.
#[derive(Default)]
struct Chase {
    /// Directories to be gone through, from these offsets on.
    next: VecDeque<(u64, u64)>,
    /// Directories that were in use.
    kept: Vec<u64>,
}

impl Chase {
    fn begin(&mut self, slot: u32) {
        let directories = std::iter::once(Slots::root(slot)).chain(std::mem::take(&mut self.kept));
        self.next = directories.map(|directory| (directory, FIRST_ENTRY)).collect();
        self.kept = self.next.iter().skip(1).map(|(directory, _)| *directory).collect();
    }

    fn keep(&mut self, directory: u64) {
        if self.kept.len() < DIRECTORIES_KEPT && !self.kept.contains(&directory) {
            self.kept.push(directory);
        }
    }
}

/// A store's artifacts, versions and aliases as one tree.
pub(super) struct StoreTree {
    store: Store,
    owner: (u32, u32),
    generation: u32,
    /// For how long the kernel may keep what can change.
    keep: Duration,
    /// When it was mounted.
    begun: i64,
    shelves: Shelves,
    links: Links,
    slots: Slots,
    /// What is writable.
    beside: Option<Arc<Companion>>,
    /// Versions that the kernel is told to forget, by slot.
    chases: Mutex<HashMap<u32, Chase>>,
}

/// What an inode of the store's own level is.
enum Level {
    Root,
    Artifact(u32),
    Link,
    /// A link to the staging directories, of an artifact or of all.
    Staging(Option<u32>),
}

fn level(ino: u64) -> Level {
    match ino {
        ROOT => Level::Root,
        _ if ino >= ARTIFACTS => Level::Artifact((ino - ARTIFACTS) as u32),
        STAGING => Level::Staging(None),
        _ if ino > STAGING => Level::Staging(Some((ino - STAGING - 1) as u32)),
        _ => Level::Link,
    }
}

impl StoreTree {
    /// The tree of a store whose growth is seen within `refresh`; versions that are looked into are pinned by `pins`.
    pub(super) fn new(
        store: &Store,
        owner: (u32, u32),
        refresh: Duration,
        pins: Option<Arc<Pins>>,
        beside: Option<Arc<Companion>>,
    ) -> StoreTree {
        // Other mounts number artifacts and versions otherwise: handles of theirs are to be stale here.
        let generation = u32::from_str_radix(&Token::fresh().as_str()[..8], 16).unwrap_or(1);
        // The two parts of the age of what is shown: the kernel's and ours.
        let (keep, ours) = (refresh * 3 / 4, refresh / 4);
        StoreTree {
            store: store.clone(),
            owner,
            generation,
            keep,
            begun: clock::unix_now(),
            shelves: Shelves::new(store.clone(), ours),
            links: Links::default(),
            slots: Slots::new(store.clone(), owner, generation, pins),
            beside,
            chases: Mutex::default(),
        }
    }

    /// Unpins what the kernel no longer knows. It is told to forget what another process wants to remove, and versions
    /// that were removed, down to the names that are in use: so their last use is the end of what the kernel knows.
    pub(super) fn keep_house(&self, forget: &Forgetter) {
        let wanted = self.slots.wanted(&self.shelves);
        let removed = self.slots.removed_in_use(&self.shelves);
        let mut chases = self.chases.lock();
        chases.retain(|slot, _| self.slots.is_known(*slot));
        for slot in wanted {
            chases.entry(slot).or_default().begin(slot);
        }
        for slot in removed {
            let chase = chases.entry(slot).or_default();
            if chase.next.is_empty() {
                chase.begin(slot);
            }
        }
        for (slot, chase) in chases.iter_mut().filter(|(_, chase)| !chase.next.is_empty()) {
            self.chase(*slot, chase, forget);
        }
        drop(chases);
        self.slots.release_forgotten(&self.shelves);
    }

    /// Goes on with a chase for a while.
    fn chase(&self, slot: u32, chase: &mut Chase, forget: &Forgetter) {
        let Ok((artifact, number)) = self.slots.version(slot) else { return };
        // All that is not in use goes by this. What is in use keeps the directories above it.
        forget(ARTIFACTS + u64::from(artifact), number.to_string().as_bytes());
        let Ok(tree) = self.slots.tree(slot, &self.shelves) else { return };
        let mut left = FORGOTTEN_AT_ONCE;
        while let Some((directory, offset)) = chase.next.pop_front() {
            let (mut names, mut next) = (Vec::new(), offset);
            let mut note = |item: Item<'_>| {
                if names.len() == left {
                    return ControlFlow::Break(());
                }
                names.push((item.name.to_vec(), item.attributes.ino, item.attributes.kind));
                next = item.next;
                ControlFlow::Continue(())
            };
            // A directory that can't be listed now is looked at again with the next chase.
            if tree.list(directory, offset, &mut note).is_err() {
                continue;
            }
            left -= names.len();
            for (name, ino, kind) in names {
                if forget(directory, &name) && kind == FileKind::Directory {
                    chase.next.push_back((ino, FIRST_ENTRY));
                    chase.keep(ino);
                }
            }
            if left == 0 {
                chase.next.push_front((directory, next));
                return;
            }
        }
    }

    fn artifact_attributes(&self, id: u32) -> Answer<Attributes> {
        let shelf = self.shelves.shelf(id)?;
        Ok(Attributes::directory(ARTIFACTS + u64::from(id), self.generation, self.owner, shelf.time, self.keep))
    }

    fn root_attributes(&self) -> Answer<Attributes> {
        Ok(Attributes::directory(ROOT, 0, self.owner, self.shelves.time()?, self.keep))
    }

    /// A version's directory in a listing: its time, which stands in its record, is read when somebody asks for it.
    fn version_listed(&self, artifact: u32, number: VersionNumber) -> Answer<Attributes> {
        let slot = self.slots.of(artifact, number)?;
        Ok(match self.slots.known_time(slot) {
            Some(time) => self.slots.attributes(slot, time, self.keep),
            None => Attributes { attributes_for: Duration::ZERO, ..self.slots.attributes(slot, 0, self.keep) },
        })
    }

    fn link_listed(&self, artifact: u32, name: &str, to: VersionNumber) -> Attributes {
        let ino = self.links.of(artifact, name, to);
        self.link_attributes(ino, to.to_string().len(), 0, Duration::ZERO)
    }

    fn link_attributes(&self, ino: u64, size: usize, time: i64, attributes_for: Duration) -> Attributes {
        Attributes {
            ino,
            generation: self.generation,
            kind: FileKind::Symlink,
            size: size as u64,
            mode: 0o777,
            owner: self.owner,
            time: (time, 0),
            name_for: self.keep,
            attributes_for,
        }
    }

    /// The link to the staging directories, of an artifact or of all, while there are any.
    fn staging_link(&self, artifact: Option<u32>) -> Option<(PathBuf, Attributes)> {
        let at = self.beside.as_ref()?.path()?;
        let target = match artifact {
            Some(id) => at.join(self.shelves.name(id)?.as_str()),
            None => at.to_path_buf(),
        };
        let ino = STAGING + artifact.map_or(0, |id| u64::from(id) + 1);
        let attributes = self.link_attributes(ino, target.as_os_str().len(), self.begun, self.keep);
        Some((target, attributes))
    }

    /// Shows that link at the end of a listing.
    fn list_staging(
        &self,
        artifact: Option<u32>,
        name: &[u8],
        offset: u64,
        show: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>,
    ) {
        if offset < AFTER_STAGING
            && let Some((_, attributes)) = self.staging_link(artifact)
        {
            let _ = show(Item { name, attributes, next: AFTER_STAGING }); // the last anyway
        }
    }

    fn lookup_in_artifact(&self, id: u32, name: &[u8]) -> Answer<Looked> {
        let nothing = Looked::Nothing(Duration::ZERO);
        let (Some(artifact), Ok(text)) = (self.shelves.name(id), std::str::from_utf8(name)) else { return Ok(nothing) };
        if let Some(number) = VersionNumber::from_text(text) {
            if disk::lstat_revalidated(&self.store.layout().version(&artifact, number))?.is_none()
                || removal::is_removed(&self.store, &artifact, number)?
            {
                return Ok(nothing);
            }
            let slot = self.slots.of(id, number)?;
            let time = self.slots.time(slot, &artifact)?;
            let found = self.slots.attributes(slot, time, self.keep);
            self.slots.looked_up(slot);
            return Ok(Looked::Found(found));
        }
        let to = match AliasName::parse(text) {
            _ if text == "latest" => Version::newest_number(&self.store, &artifact)?,
            Ok(alias) => alias::get(&self.store, &artifact, &alias)?,
            Err(_) => None,
        };
        let Some(to) = to else {
            let staging = if name == STAGED { self.staging_link(Some(id)) } else { None };
            return Ok(staging.map_or(nothing, |(_, found)| Looked::Found(found)));
        };
        if removal::is_removed(&self.store, &artifact, to)? {
            return Ok(nothing);
        }
        let time = self.slots.time(self.slots.of(id, to)?, &artifact)?;
        let ino = self.links.of(id, text, to);
        Ok(Looked::Found(self.link_attributes(ino, to.to_string().len(), time, self.keep)))
    }

    fn list_root(&self, offset: u64, show: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>) -> Answer<()> {
        for (id, name) in self.shelves.all()?.into_iter().skip(offset.saturating_sub(2) as usize) {
            // Its time is that of its listing: read by who asks for it.
            let ino = ARTIFACTS + u64::from(id);
            let attributes = Attributes {
                attributes_for: Duration::ZERO,
                ..Attributes::directory(ino, self.generation, self.owner, (0, 0), self.keep)
            };
            if show(Item { name: name.as_str().as_bytes(), attributes, next: u64::from(id) + 3 }).is_break() {
                return Ok(());
            }
        }
        self.list_staging(None, mount::LINK.as_bytes(), offset, show);
        Ok(())
    }

    /// Offsets of versions are their numbers plus two, so that a listing goes on at the right place however it has
    /// changed.
    fn list_artifact(&self, id: u32, offset: u64, show: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>) -> Answer<()> {
        let shelf = self.shelves.shelf(id)?;
        let from = shelf.versions.partition_point(|v| v.0 + 2 < offset);
        for number in &shelf.versions[from..] {
            let attributes = self.version_listed(id, *number)?;
            if show(Item { name: number.to_string().as_bytes(), attributes, next: number.0 + 3 }).is_break() {
                return Ok(());
            }
        }
        let from = offset.saturating_sub(ALIASES) as usize;
        for (i, (name, to)) in shelf.aliases.iter().enumerate().skip(from) {
            let attributes = self.link_listed(id, name, *to);
            if show(Item { name: name.as_bytes(), attributes, next: ALIASES + i as u64 + 1 }).is_break() {
                return Ok(());
            }
        }
        self.list_staging(Some(id), STAGED, offset, show);
        Ok(())
    }
}

impl InodeTree for StoreTree {
    fn grows(&self) -> bool {
        true
    }

    fn attributes(&self, ino: u64) -> Answer<Attributes> {
        let slot = (ino >> RANK_BITS) as u32;
        match level(ino) {
            _ if slot > 0 && self.slots.is_root(ino) => {
                let artifact = self.shelves.name(self.slots.version(slot)?.0).ok_or(Failure::Stale)?;
                Ok(self.slots.attributes(slot, self.slots.time(slot, &artifact)?, self.keep))
            }
            _ if slot > 0 => self.slots.tree(slot, &self.shelves)?.attributes(ino),
            Level::Root => self.root_attributes(),
            Level::Artifact(id) => self.artifact_attributes(id),
            Level::Link => {
                let (artifact, to) = self.links.target(ino).ok_or(Failure::Stale)?;
                let name = self.shelves.name(artifact).ok_or(Failure::Stale)?;
                Ok(self.link_attributes(
                    ino,
                    to.to_string().len(),
                    self.slots.time(self.slots.of(artifact, to)?, &name)?,
                    self.keep,
                ))
            }
            Level::Staging(artifact) => self.staging_link(artifact).map(|(_, a)| a).ok_or(Failure::Gone),
        }
    }

    fn lookup(&self, parent: u64, name: &[u8]) -> Answer<Looked> {
        if name.len() > MAX_NAME {
            return Err(Failure::NameTooLong);
        }
        let slot = (parent >> RANK_BITS) as u32;
        match (level(parent), name) {
            (_, b"..") if slot > 0 && self.slots.is_root(parent) => {
                self.artifact_attributes(self.slots.version(slot)?.0).map(Looked::Found)
            }
            (_, b".") => {
                let found = self.attributes(parent)?;
                self.listed(parent);
                Ok(Looked::Found(found))
            }
            _ if slot > 0 => {
                let looked = self.slots.tree(slot, &self.shelves)?.lookup(parent, name)?;
                if let Looked::Found(found) = &looked {
                    self.listed(found.ino); // `..` of a directory in the root
                }
                Ok(looked)
            }
            (_, b"..") => self.root_attributes().map(Looked::Found),
            (Level::Root, _) if name == mount::LINK.as_bytes() => {
                Ok(self.staging_link(None).map_or(Looked::Nothing(Duration::ZERO), |(_, found)| Looked::Found(found)))
            }
            (Level::Root, _) => match self.shelves.find(name)? {
                Some(id) => self.artifact_attributes(id).map(Looked::Found),
                None => Ok(Looked::Nothing(Duration::ZERO)),
            },
            (Level::Artifact(id), _) => self.lookup_in_artifact(id, name),
            (Level::Link | Level::Staging(_), _) => Err(Failure::NotADirectory),
        }
    }

    fn read_link(&self, ino: u64) -> Answer<Vec<u8>> {
        let slot = (ino >> RANK_BITS) as u32;
        if slot > 0 {
            return self.slots.tree(slot, &self.shelves)?.read_link(ino);
        }
        match level(ino) {
            Level::Link => Ok(self.links.target(ino).ok_or(Failure::Stale)?.1.to_string().into_bytes()),
            Level::Staging(artifact) => {
                Ok(self.staging_link(artifact).ok_or(Failure::Gone)?.0.into_os_string().into_encoded_bytes())
            }
            Level::Root | Level::Artifact(_) => Err(Failure::WrongKind),
        }
    }

    /// Offset 0 is `.`, 1 is `..`.
    fn list(&self, ino: u64, offset: u64, show: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>) -> Answer<()> {
        let slot = (ino >> RANK_BITS) as u32;
        if slot > 0 {
            return self.slots.tree(slot, &self.shelves)?.list(ino, offset, show);
        }
        let level = level(ino);
        if matches!(level, Level::Link | Level::Staging(_)) {
            return Err(Failure::NotADirectory);
        }
        for (at, name, ino) in [(0, b".".as_slice(), ino), (1, b"..".as_slice(), ROOT)] {
            let attributes = Attributes::directory(ino, self.generation, self.owner, (0, 0), Duration::ZERO);
            if offset <= at && show(Item { name, attributes, next: at + 1 }).is_break() {
                return Ok(());
            }
        }
        match level {
            Level::Artifact(id) => self.list_artifact(id, offset, show),
            Level::Root | Level::Link | Level::Staging(_) => self.list_root(offset, show),
        }
    }

    fn readable(&self, ino: u64) -> Answer<Readable> {
        let slot = (ino >> RANK_BITS) as u32;
        match level(ino) {
            _ if slot > 0 => self.slots.tree(slot, &self.shelves)?.readable(ino),
            Level::Link | Level::Staging(_) => Err(Failure::WrongKind),
            Level::Root | Level::Artifact(_) => Err(Failure::IsADirectory),
        }
    }

    fn listed(&self, ino: u64) {
        let slot = (ino >> RANK_BITS) as u32;
        if slot > 0 && self.slots.is_root(ino) {
            self.slots.looked_up(slot);
        }
    }

    fn forget(&self, ino: u64, times: u64) {
        let slot = (ino >> RANK_BITS) as u32;
        if slot > 0 && self.slots.is_root(ino) {
            self.slots.forget(slot, times);
        }
    }

    fn path(&self, ino: u64) -> Option<String> {
        let slot = (ino >> RANK_BITS) as u32;
        if slot > 0 {
            let (artifact, number) = self.slots.version(slot).ok()?;
            let within =
                if self.slots.is_root(ino) { None } else { self.slots.tree(slot, &self.shelves).ok()?.path(ino) };
            return Some(format!("/{}/{number}{}", self.shelves.name(artifact)?, within.unwrap_or_default()));
        }
        match level(ino) {
            Level::Root => Some("/".into()),
            Level::Artifact(id) => Some(format!("/{}", self.shelves.name(id)?)),
            Level::Staging(_) => Some("the link to staging directories".into()),
            Level::Link => Some(format!("a link in /{}", self.shelves.name(self.links.target(ino)?.0)?)),
        }
    }
}
