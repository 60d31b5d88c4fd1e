//! Sealing turns a stage into a contribution.
//!
//! 1. The files are checked for what a version cannot contain and for what this user may not read. Only the owner of a
//!    stage, or a user who may write to all of it, can seal it. So a refusal comes before anything is changed.
//! 2. The marker `T.sealing` is made, then a revalidated lookup checks for another live holder. *After a crash the
//!    marker remains: the stage is never mounted again, and the next process seals it.*
//! 3. The files are stored: small ones are packed, large ones share their blocks, or become objects under a lease, or
//!    are copied. *After a crash some files are also objects: the next process first gives these objects inodes of
//!    their own.*
//! 4. The contribution's token is written into the marker, then the contribution is recorded. *After a crash the next
//!    process finds it by that token, and does not make a second one.*
//! 5. The stage's files are removed. Objects whose file a process waits to write to get inodes of their own. The leases
//!    end, and the notes are removed.
//!
//! If a step before the end of 4 fails, the stage is opened again: objects get inodes of their own, and the marker is
//! removed. If that fails too, the stage stays closed.

use super::holders::holders;
use super::removal::clear_notes;
use crate::catalog::draft::Draft;
use crate::catalog::stage::StageRecord;
use crate::commit::{Artifact, Run, Sealing, UpsertOptions, Upserted, sealed};
use crate::disk::{self, Right};
use crate::error::{Error, Result, show_list, show_path};
use crate::ingest::ScanOptions;
use crate::locks::{Condvar, Mutex};
use crate::objects::{Leases, OtherNames};
use crate::progress::Progress;
use crate::setters::setters;
use crate::store::Store;
use crate::types::Token;
use std::fs::File;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How often leases are checked while files are stored. The kernel breaks a lease after 45 seconds.
const LEASE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Annotations and options of a seal.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct SealOptions<'a> {
    /// Type, description, metadata, tags and aliases, as an artifact of that name without files.
    pub annotations: Option<&'a Artifact>,
    /// Replace the run's earlier contributions.
    pub replace: bool,
    /// Counters to update.
    pub progress: Arc<Progress>,
}

setters! {
    SealOptions<'a> {
        annotations: &'a Artifact => Some(annotations),
        replace: bool,
        progress: Arc<Progress>,
    }
}

pub(super) struct Sealer<'a> {
    draft: &'a Draft,
    record: &'a StageRecord,
    token: &'a Token,
    store: &'a Store,
    directory: PathBuf,
    marker: PathBuf,
    /// The open directory, if its files are reached through it.
    open: OnceLock<Option<File>>,
}

impl<'a> Sealer<'a> {
    pub(super) fn of(draft: &'a Draft, record: &'a StageRecord, token: &'a Token) -> Self {
        let (store, layout) = (draft.store(), draft.store().layout());
        let (directory, marker) = (layout.stage(token), layout.stage_sealing(token));
        Sealer { draft, record, token, store, directory, marker, open: OnceLock::new() }
    }

    pub(super) fn seal(&self, options: &SealOptions<'_>, recorded: &mut dyn FnMut(&Upserted)) -> Result<Upserted> {
        let leases = Arc::new(Leases::new(self.store.layout().stage_copies(self.token)));
        let done = match self.begin(&leases)? {
            Some(done) => self.record_annotations(options, done)?,
            None => match self.store(options, &leases) {
                Ok(done) => done,
                Err(e) => self.give_back(e, &leases)?,
            },
        };
        recorded(&done);
        let removed = self
            .remove(&leases)
            .map_err(|e| e.context("the contribution is recorded, but its staging directory could not be removed"));
        removed.map(|()| done)
    }

    /// Makes the marker. If it exists, returns what its sealer recorded, or gives objects that it made inodes of their
    /// own.
    fn begin(&self, leases: &Leases) -> Result<Option<Upserted>> {
        if disk::lstat_revalidated(&self.marker)?.is_some() {
            // Recorded or not: a process may have a file open that is also an object.
            self.reached(|directory| self.store.objects().undo_adoption(directory, leases))?;
            let done = sealed(self.draft, &self.record.run.id, &self.marker, None)?;
            if done.is_none() {
                self.reached(|directory| self.check(directory))?;
            }
            return Ok(done);
        }
        self.reached(|directory| self.check(directory))?;
        let file = self.store.disk().write_file(self.marker.clone(), b"")?;
        self.store.disk().sync_file(&file)?;
        self.store.disk().sync_dir(&self.store.layout().staging())?;
        Ok(None)
    }

    /// Records the annotations in a contribution of their own, because the sealer that recorded the files did not have
    /// them.
    fn record_annotations(&self, options: &SealOptions<'_>, done: Upserted) -> Result<Upserted> {
        if let Some(annotations) = options.annotations.filter(|annotations| annotations.has_annotations()) {
            Run::of(self.store, self.record.run.clone())
                .upsert_artifact(annotations, self.record.distributed_id.as_str())?;
        }
        Ok(done)
    }

    fn store(&self, options: &SealOptions<'_>, leases: &Arc<Leases>) -> Result<Upserted> {
        if let Some(holder) = holders(self.draft, &self.record.run.id)?.first() {
            let why = format!(
                "the staging directory of run {} is held by process {} on {} too",
                self.record.run.id, holder.pid, holder.host
            );
            return Err(Error::conflict(why).with_hint("unmount it there first"));
        }
        self.reached(|directory| self.contribute(directory, options, leases))
    }

    /// Runs `work` with the path of the stage's directory. If a path in it is too long, runs it again with the
    /// directory's descriptor.
    fn reached<T>(&self, work: impl Fn(&Path) -> Result<T>) -> Result<T> {
        match work(&self.directory) {
            Err(e) if e.errno() == Some(libc::ENAMETOOLONG) => {
                let open = self.open.get_or_init(|| disk::open_directory(&self.directory).ok()).as_ref();
                open.map_or(Err(e), |open| work(&disk::descriptor_path(open)))
            }
            done => done,
        }
    }

    fn contribute(&self, directory: &Path, options: &SealOptions<'_>, leases: &Arc<Leases>) -> Result<Upserted> {
        let mut artifact = Artifact::new(self.record.artifact.as_str(), self.record.kind.as_ref().map(|k| k.as_str()))?;
        if let Some(annotations) = options.annotations {
            artifact.copy_annotations(annotations);
        }
        let everything = ScanOptions { no_ignore_files: true, no_stat_cache: true, ..ScanOptions::default() };
        artifact.add_dir_at("", directory, &everything)?;
        let run = Run::of(self.store, self.record.run.clone());
        let owner = disk::lstat(&self.directory)?.map_or_else(disk::own_uid, |meta| meta.uid());
        let sealing = Sealing { leases: leases.clone(), marker: self.marker.clone(), owner };
        let upsert =
            UpsertOptions { replace: options.replace, progress: options.progress.clone(), sealing: Some(sealing) };
        self.watching(leases, || run.upsert_artifact_with(&artifact, self.record.distributed_id.as_str(), &upsert))
    }

    /// Runs `work` while a thread checks the leases.
    fn watching<T>(&self, leases: &Leases, work: impl FnOnce() -> T) -> T {
        let (ended, end) = (Mutex::new(false), Condvar::new());
        std::thread::scope(|s| {
            s.spawn(|| {
                let mut ended = ended.lock();
                while !*ended {
                    // The check before the commit reports errors.
                    drop(self.store.objects().protect_adopted(leases, OtherNames::Staged));
                    end.wait_for(&mut ended, LEASE_CHECK_INTERVAL);
                }
            });
            let done = work();
            *ended.lock() = true;
            end.notify_all();
            done
        })
    }

    /// After an error: returns the contribution if it was recorded anyway, else opens the stage again.
    fn give_back(&self, e: Error, leases: &Leases) -> Result<Upserted> {
        let disk = self.store.disk();
        if !disk.is_sound() {
            return Err(e); // the next process continues
        }
        let opened = sealed(self.draft, &self.record.run.id, &self.marker, None).and_then(|done| match done {
            Some(done) => Ok(Some(done)),
            None => {
                // Untouched files need no check, which this user might not be permitted.
                if !leases.adopted_none() {
                    self.reached(|directory| self.store.objects().undo_adoption(directory, leases))?;
                }
                disk.remove_file(&self.marker)?;
                Ok(None)
            }
        });
        match opened {
            Ok(Some(done)) => Ok(done),
            Ok(None) => Err(e),
            Err(why) => Err(e.with_cause(format!("the staging directory stays closed: {}", why.message()))),
        }
    }

    fn remove(&self, leases: &Leases) -> Result<()> {
        self.store.disk().remove_tree(&self.directory)?;
        self.store.objects().release_leases(leases)?;
        clear_notes(self.store, self.token)
    }
}

impl Sealer<'_> {
    /// Refuses what cannot be in a version (device nodes, sockets and FIFOs), and a user who may not seal the stage.
    fn check(&self, directory: &Path) -> Result<()> {
        refuse_special(&self.check_rights(directory, "seal")?)
    }

    /// Refuses a user who may not discard the stage.
    pub(super) fn check_owner(&self) -> Result<()> {
        if disk::lstat(&self.directory)?.is_none() {
            return Ok(());
        }
        self.reached(|directory| self.check_rights(directory, "discard")).map(drop)
    }

    /// What a sealer that is gone left: no object shares its file with the stage any more.
    pub(super) fn make_harmless(&self) -> Result<()> {
        let leases = Leases::new(self.store.layout().stage_copies(self.token));
        self.reached(|directory| self.store.objects().undo_adoption(directory, &leases))
    }

    /// Refuses a user who neither owns the stage nor may write to all of it, or who cannot read it. Returns what
    /// special files are in it.
    fn check_rights(&self, directory: &Path, verb: &str) -> Result<Vec<String>> {
        let owner = std::fs::metadata(directory).map_err(|e| Error::io("look at", directory, e))?.uid();
        // SAFETY: geteuid cannot fail.
        let user = unsafe { libc::geteuid() };
        let right = if owner == user { Right::Read } else { Right::ReadAndWrite };
        // Root may do everything on a local disk.
        let is_asked = user != 0 || !self.store.disk().kind().is_local();
        let mut special = Vec::new();
        for entry in walkdir::WalkDir::new(directory).sort_by_file_name() {
            let denied = |path: &Path| self.denied(verb, path.strip_prefix(directory).unwrap_or(path), owner, user);
            let entry = entry.map_err(|e| match e.io_error().and_then(std::io::Error::raw_os_error) {
                Some(libc::EACCES) => denied(e.path().unwrap_or(directory)),
                _ => disk::walk_error(directory, &e),
            })?;
            let kind = entry.file_type();
            if kind.is_block_device() || kind.is_char_device() || kind.is_fifo() || kind.is_socket() {
                special.push(show_path(entry.path().strip_prefix(directory).unwrap_or(entry.path())));
            } else if is_asked && !kind.is_symlink() && !disk::may(right, entry.path(), kind.is_dir())? {
                return Err(denied(entry.path()));
            }
        }
        Ok(special)
    }

    /// Why this user may not do that to the stage.
    fn denied(&self, verb: &str, path: &Path, owner: u32, user: u32) -> Error {
        let (run, at) = (
            &self.record.run.id,
            if path.as_os_str().is_empty() { "the directory itself".to_owned() } else { show_path(path) },
        );
        let what = format!("user {user} cannot {verb} the staging directory of run {run}");
        if owner == user {
            return Error::conflict(format!("{what}: no permission to read {at}"))
                .with_hint("make it readable, then run the command again");
        }
        let why = format!(
            "it belongs to user {owner}: another user must be able to read and write all of it, which {at} does not \
             allow"
        );
        Error::conflict(what).with_cause(why).with_hint("its owner can, or root")
    }
}

fn refuse_special(special: &[String]) -> Result<()> {
    if special.is_empty() {
        return Ok(());
    }
    Err(Error::usage(format!("device nodes, sockets and FIFOs cannot be in a version: {}", show_list(special)))
        .with_hint("remove them, then seal again"))
}
