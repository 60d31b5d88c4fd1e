//! A whole store as one mount: `NAME/vN/…` and `NAME/ALIAS` → `vN`. What is published, moved or removed shows within
//! the time for which the kernel may cache names, by default one second.
//!
//! Inode numbers: the bits above [`RANK_BITS`] are a version's slot, the bits below are the rank of an entry in it.
//! Slot 0 is for what is outside the versions: the root, the artifacts (from [`ARTIFACTS`] on, in the order in which
//! they were seen) and links. Numbers stay the same as long as the mount exists. Staging directories are not in this
//! tree: they are writable, and versions never share a connection with writable files. `.staging` and `NAME/.staging`
//! are links to where they are mounted.

mod inodes;
mod invalidation;
mod links;
mod listings;
mod names_read;
mod version_slots;

use super::attributes::{Attributes, FileKind, ListedName, Looked, RANK_BITS, ROOT};
use super::errno::{FuseResult, RequestFailure};
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
use inodes::{ARTIFACTS, InodeKind, STAGING};
use invalidation::Invalidations;
use links::AliasLinks;
use listings::ArtifactListings;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use version_slots::VersionSlots;

/// In an artifact's listing aliases come after all versions. Their offsets begin here.
const ALIASES: u64 = 1 << 62;
/// The offset after the link to staging directories, which comes last.
const AFTER_STAGING: u64 = 3 << 61;

/// The name of the link to an artifact's staging directories. Aliases and artifacts do not begin with a dot.
const STAGING_LINK: &[u8] = mount::COMPANION_LINK.as_bytes();

/// A store's artifacts, versions and aliases as one tree.
pub(super) struct StoreTree {
    store: Store,
    owner: (u32, u32),
    generation: u32,
    /// How long the kernel may cache what can change.
    keep: Duration,
    /// When it was mounted.
    mounted_at: i64,
    listings: ArtifactListings,
    links: AliasLinks,
    slots: VersionSlots,
    /// The mount with the staging directories.
    companion: Option<Arc<Companion>>,
    invalidations: Invalidations,
}

impl StoreTree {
    /// The tree of a store; changes show within `refresh`, and versions in use are pinned with `pins`.
    pub(super) fn new(
        store: &Store,
        owner: (u32, u32),
        refresh: Duration,
        pins: Option<Arc<Pins>>,
        companion: Option<Arc<Companion>>,
    ) -> StoreTree {
        // Each mount numbers artifacts and versions in another way, so handles of other mounts must be stale here.
        let generation = u32::from_str_radix(&Token::fresh().as_str()[..8], 16).unwrap_or(1);
        // What is shown can be cached by the kernel and by this process: both together must not exceed `refresh`.
        let (keep, listings_for) = (refresh * 3 / 4, refresh / 4);
        StoreTree {
            store: store.clone(),
            owner,
            generation,
            keep,
            mounted_at: clock::unix_now(),
            listings: ArtifactListings::new(store.clone(), listings_for),
            links: AliasLinks::default(),
            slots: VersionSlots::new(store.clone(), owner, generation, pins),
            companion,
            invalidations: Invalidations::default(),
        }
    }

    /// Makes the kernel forget versions that another process wants to remove or has removed, and unpins those that it
    /// has forgotten.
    pub(super) fn housekeeping(&self, forget: &Forgetter) {
        self.invalidations.step(&self.slots, &self.listings, forget);
        self.slots.release_forgotten(&self.listings);
    }

    fn artifact_attributes(&self, id: u32) -> FuseResult<Attributes> {
        let listing = self.listings.of(id)?;
        Ok(Attributes::directory(ARTIFACTS + u64::from(id), self.generation, self.owner, listing.time, self.keep))
    }

    fn root_attributes(&self) -> FuseResult<Attributes> {
        Ok(Attributes::directory(ROOT, 0, self.owner, self.listings.time()?, self.keep))
    }

    /// The attributes of a version's directory in a listing. Its time is in its record, which is read only when the
    /// kernel asks for the attributes.
    fn version_listed(&self, artifact: u32, number: VersionNumber) -> FuseResult<Attributes> {
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

    /// The link to the staging directories, of an artifact or of all, while these are mounted.
    fn staging_link(&self, artifact: Option<u32>) -> Option<(PathBuf, Attributes)> {
        let at = self.companion.as_ref()?.path()?;
        let target = match artifact {
            Some(id) => at.join(self.listings.name(id)?.as_str()),
            None => at.to_path_buf(),
        };
        let ino = STAGING + artifact.map_or(0, |id| u64::from(id) + 1);
        let attributes = self.link_attributes(ino, target.as_os_str().len(), self.mounted_at, self.keep);
        Some((target, attributes))
    }

    /// Adds that link to the end of a listing.
    fn list_staging(
        &self,
        artifact: Option<u32>,
        name: &[u8],
        offset: u64,
        show: &mut dyn FnMut(ListedName<'_>) -> ControlFlow<()>,
    ) {
        if offset < AFTER_STAGING
            && let Some((_, attributes)) = self.staging_link(artifact)
        {
            let _ = show(ListedName { name, attributes, next: AFTER_STAGING }); // it is the last entry anyway
        }
    }

    fn lookup_in_artifact(&self, id: u32, name: &[u8]) -> FuseResult<Looked> {
        let nothing = Looked::Nothing(Duration::ZERO);
        let (Some(artifact), Ok(text)) = (self.listings.name(id), std::str::from_utf8(name)) else {
            return Ok(nothing);
        };
        if let Some(number) = VersionNumber::of_text(text) {
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
            let staging = if name == STAGING_LINK { self.staging_link(Some(id)) } else { None };
            return Ok(staging.map_or(nothing, |(_, found)| Looked::Found(found)));
        };
        if removal::is_removed(&self.store, &artifact, to)? {
            return Ok(nothing);
        }
        let time = self.slots.time(self.slots.of(id, to)?, &artifact)?;
        let ino = self.links.of(id, text, to);
        Ok(Looked::Found(self.link_attributes(ino, to.to_string().len(), time, self.keep)))
    }

    fn list_root(&self, offset: u64, show: &mut dyn FnMut(ListedName<'_>) -> ControlFlow<()>) -> FuseResult<()> {
        for (id, name) in self.listings.all()?.into_iter().skip(offset.saturating_sub(2) as usize) {
            // Its time depends on its listing, which is read only when the kernel asks for the attributes.
            let ino = ARTIFACTS + u64::from(id);
            let attributes = Attributes {
                attributes_for: Duration::ZERO,
                ..Attributes::directory(ino, self.generation, self.owner, (0, 0), self.keep)
            };
            if show(ListedName { name: name.as_str().as_bytes(), attributes, next: u64::from(id) + 3 }).is_break() {
                return Ok(());
            }
        }
        self.list_staging(None, mount::COMPANION_LINK.as_bytes(), offset, show);
        Ok(())
    }

    /// The offset of a version is its number plus two, so that a listing continues at the right place even if it has
    /// changed.
    fn list_artifact(
        &self,
        id: u32,
        offset: u64,
        show: &mut dyn FnMut(ListedName<'_>) -> ControlFlow<()>,
    ) -> FuseResult<()> {
        let listing = self.listings.of(id)?;
        let from = listing.versions.partition_point(|v| v.0 + 2 < offset);
        for number in &listing.versions[from..] {
            let attributes = self.version_listed(id, *number)?;
            if show(ListedName { name: number.to_string().as_bytes(), attributes, next: number.0 + 3 }).is_break() {
                return Ok(());
            }
        }
        let from = offset.saturating_sub(ALIASES) as usize;
        for (i, (name, to)) in listing.aliases.iter().enumerate().skip(from) {
            let attributes = self.link_listed(id, name, *to);
            if show(ListedName { name: name.as_bytes(), attributes, next: ALIASES + i as u64 + 1 }).is_break() {
                return Ok(());
            }
        }
        self.list_staging(Some(id), STAGING_LINK, offset, show);
        Ok(())
    }
}

impl InodeTree for StoreTree {
    fn grows(&self) -> bool {
        true
    }

    fn attributes(&self, ino: u64) -> FuseResult<Attributes> {
        let slot = (ino >> RANK_BITS) as u32;
        match InodeKind::of(ino) {
            _ if slot > 0 && self.slots.is_root(ino) => {
                let artifact = self.listings.name(self.slots.version(slot)?.0).ok_or(RequestFailure::Stale)?;
                Ok(self.slots.attributes(slot, self.slots.time(slot, &artifact)?, self.keep))
            }
            _ if slot > 0 => self.slots.tree(slot, &self.listings)?.attributes(ino),
            InodeKind::Root => self.root_attributes(),
            InodeKind::Artifact(id) => self.artifact_attributes(id),
            InodeKind::AliasLink => {
                let (artifact, to) = self.links.target(ino).ok_or(RequestFailure::Stale)?;
                let name = self.listings.name(artifact).ok_or(RequestFailure::Stale)?;
                Ok(self.link_attributes(
                    ino,
                    to.to_string().len(),
                    self.slots.time(self.slots.of(artifact, to)?, &name)?,
                    self.keep,
                ))
            }
            InodeKind::StagingLink(artifact) => self.staging_link(artifact).map(|(_, a)| a).ok_or(RequestFailure::Gone),
        }
    }

    fn lookup(&self, parent: u64, name: &[u8]) -> FuseResult<Looked> {
        if name.len() > MAX_NAME {
            return Err(RequestFailure::NameTooLong);
        }
        let slot = (parent >> RANK_BITS) as u32;
        match (InodeKind::of(parent), name) {
            (_, b"..") if slot > 0 && self.slots.is_root(parent) => {
                self.artifact_attributes(self.slots.version(slot)?.0).map(Looked::Found)
            }
            (_, b".") => {
                let found = self.attributes(parent)?;
                self.listed(parent);
                Ok(Looked::Found(found))
            }
            _ if slot > 0 => {
                let looked = self.slots.tree(slot, &self.listings)?.lookup(parent, name)?;
                if let Looked::Found(found) = &looked {
                    self.listed(found.ino); // `..` of a directory in the root
                }
                Ok(looked)
            }
            (_, b"..") => self.root_attributes().map(Looked::Found),
            (InodeKind::Root, _) if name == mount::COMPANION_LINK.as_bytes() => {
                Ok(self.staging_link(None).map_or(Looked::Nothing(Duration::ZERO), |(_, found)| Looked::Found(found)))
            }
            (InodeKind::Root, _) => match self.listings.find(name)? {
                Some(id) => self.artifact_attributes(id).map(Looked::Found),
                None => Ok(Looked::Nothing(Duration::ZERO)),
            },
            (InodeKind::Artifact(id), _) => self.lookup_in_artifact(id, name),
            (InodeKind::AliasLink | InodeKind::StagingLink(_), _) => Err(RequestFailure::NotADirectory),
        }
    }

    fn read_link(&self, ino: u64) -> FuseResult<Vec<u8>> {
        let slot = (ino >> RANK_BITS) as u32;
        if slot > 0 {
            return self.slots.tree(slot, &self.listings)?.read_link(ino);
        }
        match InodeKind::of(ino) {
            InodeKind::AliasLink => Ok(self.links.target(ino).ok_or(RequestFailure::Stale)?.1.to_string().into_bytes()),
            InodeKind::StagingLink(artifact) => {
                Ok(self.staging_link(artifact).ok_or(RequestFailure::Gone)?.0.into_os_string().into_encoded_bytes())
            }
            InodeKind::Root | InodeKind::Artifact(_) => Err(RequestFailure::WrongKind),
        }
    }

    /// Offset 0 is `.`, offset 1 is `..`.
    fn list(&self, ino: u64, offset: u64, show: &mut dyn FnMut(ListedName<'_>) -> ControlFlow<()>) -> FuseResult<()> {
        let slot = (ino >> RANK_BITS) as u32;
        if slot > 0 {
            return self.slots.tree(slot, &self.listings)?.list(ino, offset, show);
        }
        let kind = InodeKind::of(ino);
        if matches!(kind, InodeKind::AliasLink | InodeKind::StagingLink(_)) {
            return Err(RequestFailure::NotADirectory);
        }
        for (at, name, ino) in [(0, b".".as_slice(), ino), (1, b"..".as_slice(), ROOT)] {
            let attributes = Attributes::directory(ino, self.generation, self.owner, (0, 0), Duration::ZERO);
            if offset <= at && show(ListedName { name, attributes, next: at + 1 }).is_break() {
                return Ok(());
            }
        }
        match kind {
            InodeKind::Artifact(id) => self.list_artifact(id, offset, show),
            InodeKind::Root | InodeKind::AliasLink | InodeKind::StagingLink(_) => self.list_root(offset, show),
        }
    }

    fn readable(&self, ino: u64) -> FuseResult<Readable> {
        let slot = (ino >> RANK_BITS) as u32;
        match InodeKind::of(ino) {
            _ if slot > 0 => self.slots.tree(slot, &self.listings)?.readable(ino),
            InodeKind::AliasLink | InodeKind::StagingLink(_) => Err(RequestFailure::WrongKind),
            InodeKind::Root | InodeKind::Artifact(_) => Err(RequestFailure::IsADirectory),
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
                if self.slots.is_root(ino) { None } else { self.slots.tree(slot, &self.listings).ok()?.path(ino) };
            return Some(format!("/{}/{number}{}", self.listings.name(artifact)?, within.unwrap_or_default()));
        }
        match InodeKind::of(ino) {
            InodeKind::Root => Some("/".into()),
            InodeKind::Artifact(id) => Some(format!("/{}", self.listings.name(id)?)),
            InodeKind::StagingLink(_) => Some("the link to staging directories".into()),
            InodeKind::AliasLink => Some(format!("a link in /{}", self.listings.name(self.links.target(ino)?.0)?)),
        }
    }
}
