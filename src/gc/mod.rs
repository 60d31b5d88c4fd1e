//! Garbage collection: frees content that no version, unfinished draft, pin or token at work needs (L14), while writers
//! and readers keep working.
//!
//! A collection marks what is needed, moves the rest into a batch of the trash, where readers still find it, and
//! settles every token that was at work then: it waits for the live ones and fences the dead ones. Then it marks again,
//! puts back what is needed by now, and frees the rest of its batch. FORMAT.md, "Freeing", has the steps and what a
//! crash after each leaves.
//!
//! Anything that cannot be read or listed ends the collection before something is freed (L18).

mod attribution;
mod batch;
mod history;
mod marks;
mod moves;
mod report;
mod rewrite;
mod roots;
mod survey;
mod tokens;
mod trash;

pub use crate::lock::LockRecord;
pub use report::{Amount, GcReport, IdleDraft, TokenOfOther};

use crate::catalog::noted_runs;
use crate::disk::{self, ReserveUse};
use crate::error::{Error, Result};
use crate::lock::{self, LockFile};
use crate::progress::Progress;
use crate::setters::setters;
use crate::staging;
use crate::store::{Config, Store};
use crate::txn;
use crate::types::Token;
use attribution::Garbage;
use batch::{Batch, Item};
use history::History;
use roots::{Marker, Removals};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use survey::Survey;
use tokens::{Settled, purpose};

/// How long a directory of pins must have been empty, in seconds.
const EMPTY_PINS: i64 = 60 * 60;

/// How a collection works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GcOptions {
    /// Report what would be moved, and change nothing.
    pub dry_run: bool,
    /// How long content stays readable in the trash before it is freed, by the store's own clock.
    pub min_age: Duration,
    /// Wait until writers that are at work have ended, so that everything old enough is freed by this collection.
    pub wait: bool,
    /// Cancels the work.
    pub progress: Arc<Progress>,
}

setters! {
    GcOptions {
        dry_run: bool,
        min_age: Duration,
        wait: bool,
        progress: Arc<Progress>,
    }
}

impl Default for GcOptions {
    fn default() -> GcOptions {
        GcOptions { dry_run: false, min_age: Duration::from_secs(24 * 60 * 60), wait: false, progress: Arc::default() }
    }
}

/// Collects garbage.
///
/// # Errors
/// A conflict, if the store has a feature that this release does not know, shows less than last time, or the collection
/// was cancelled. Damaged or I/O, if something that is or may be needed cannot be read. Nothing is freed after an
/// error; what was moved to the trash stays readable there.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
/// use cairn::gc::{GcOptions, collect};
/// let report = collect(&store, &GcOptions::default().dry_run(true))?;
/// assert_eq!(report.moved.files, 0);
/// # Ok::<(), cairn::Error>(())
/// ```
pub fn collect(store: &Store, options: &GcOptions) -> Result<GcReport> {
    check_features(store)?;
    let mut report = GcReport { staging: staging::leftovers(store)?, ..GcReport::default() };
    // Read before the store is listed: what another collection has seen by now is listed too.
    let before = History::read(store)?;
    // G1: versions that are removed from now on count as not removed.
    let removals = Removals::read(store)?;
    // G2: the first mark.
    let mut marker = Marker::new(store, &removals, &options.progress);
    marker.mark()?;
    report.open_drafts = marker.open_drafts;
    report.kept_for_parts = marker.marks.kept_for_parts();
    report.idle_drafts = roots::idle_drafts(store, marker.open_drafts > 0)?;
    if let Some(before) = before {
        before.check(&marker.history, store)?;
    }
    if options.dry_run {
        plan(store, &marker, &removals, options, &mut report)?;
        return Ok(report);
    }
    store.check_writable()?;
    let reserve = store.disk().use_reserve(ReserveUse::Collection);
    let token = Token::fresh();
    let lock = LockFile::take(store, &token, &purpose())?;
    // A writer adds a feature first, then it looks for collectors that do not know it.
    check_features(store)?;
    let own = Batch::locked(store, &token, lock)?;
    marker.history.leave_marks(store)?;
    own.write_history(&marker.history)?;
    let rest = move_unneeded(store, &own, &marker, &removals, options, &mut report)?;
    sweep(store, (own, rest), marker, options, &mut report)?;
    for (name, removed) in removals.by_artifact().filter(|(_, removed)| !removed.is_empty()) {
        noted_runs::remove(store, name, removed);
    }
    drop(reserve);
    store.disk().make_reserve()?;
    Ok(report)
}

/// If a store uses a feature that this release does not know, content may be named in ways that this release does not
/// see. The store was perhaps opened before: the configuration is read again.
fn check_features(store: &Store) -> Result<()> {
    let config = Config::read(store.layout())?;
    let unknown = config.as_ref().unwrap_or(store.config()).unknown_features();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Error::conflict(format!("nothing is freed: this release does not know the feature {}", unknown.join(", ")))
        .with_hint("use the newest release of cairn that writes to this store"))
}

/// What a collection would do now.
fn plan(
    store: &Store,
    marker: &Marker<'_>,
    removals: &Removals,
    options: &GcOptions,
    report: &mut GcReport,
) -> Result<()> {
    let progress = &options.progress;
    let mut survey = Survey::of_packs(store, &marker.marks, &marker.recipes, report, progress)?;
    let plan = survey.plan(report);
    plan.rewrite.iter().for_each(|pack| report.rewritten.add(pack.size));
    report.written.bytes = plan.rewrite.iter().map(|pack| pack.kept).sum();
    let mut garbage = Garbage::default();
    garbage.add_packs(store, marker, plan.dead.iter().chain(&plan.rewrite))?;
    survey.unneeded_objects(store, &marker.marks, report, progress, &mut |items| {
        garbage.add_objects(&items);
        Ok(())
    })?;
    garbage.attribute(store, removals, report, progress)
}

/// G3: moves what is not marked into a batch, then rewrites packs and moves the old ones too. With a minimum age,
/// new garbage goes into a batch of its own, which a later collection frees, and batches that are old enough come into
/// this collection's. Returns those of which something stayed where it is: it is in this collection's batch already.
fn move_unneeded(
    store: &Store,
    own: &Batch<'_>,
    marker: &Marker<'_>,
    removals: &Removals,
    options: &GcOptions,
    report: &mut GcReport,
) -> Result<Vec<OsString>> {
    let mut garbage = Garbage::default();
    let mut later: Option<Batch<'_>> = None;
    let progress = &options.progress;
    let mut take = |items: Vec<Item>| {
        if items.is_empty() {
            return Ok(());
        }
        if options.min_age.is_zero() {
            return own.take(&items);
        }
        if later.is_none() {
            later = Some(Batch::new(store)?);
        }
        later.as_ref().map_or(Ok(()), |later| later.take(&items))
    };
    let mut survey = Survey::of_packs(store, &marker.marks, &marker.recipes, report, progress)?;
    let plan = survey.plan(report);
    garbage.add_packs(store, marker, plan.dead.iter().chain(&plan.rewrite))?;
    meanwhile(&mut take, |take| {
        survey.unneeded_objects(store, &marker.marks, report, progress, &mut |items| {
            garbage.add_objects(&items);
            take(items)
        })
    })?;
    drop(survey);
    // Before packs are moved: the manifests of removed versions are read from their places.
    garbage.attribute(store, removals, report, progress)?;
    take(plan.dead.iter().map(|pack| Item::Pack(pack.name)).collect())?;
    rewrite::rewrite(store, &plan.rewrite, report, progress, &mut take)?;
    let known: Vec<_> = std::iter::once(own.name()).chain(later.as_ref().map(Batch::name)).collect();
    let older = trash::older(store, own.now()?, options.min_age, &known, report)?;
    let adopted = own.adopt(&older)?;
    if later.is_some() {
        report.in_trash.files += report.moved.files + report.rewritten.files;
        report.in_trash.bytes += report.moved.bytes + report.rewritten.bytes;
    }
    Ok(adopted.rest)
}

/// Lets `find` find items while a thread takes those that were found before.
fn meanwhile(
    take: &mut (dyn FnMut(Vec<Item>) -> Result<()> + Send),
    find: impl FnOnce(&mut dyn FnMut(Vec<Item>) -> Result<()>) -> Result<()>,
) -> Result<()> {
    let (send, receive) = mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        let taker = scope.spawn(move || receive.into_iter().try_for_each(take));
        // If the thread has ended, it has failed: its error counts.
        let found = find(&mut |items| send.send(items).map_err(|_| Error::conflict("files could not be moved")));
        drop(send);
        taker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        found
    })
}

/// G4 to G9.
fn sweep(
    store: &Store,
    (own, rest): (Batch<'_>, Vec<OsString>),
    mut marker: Marker<'_>,
    options: &GcOptions,
    report: &mut GcReport,
) -> Result<()> {
    let bound = if store.disk().kind().is_local() { Duration::ZERO } else { store.cache_bound() };
    // G4: wait until every host sees that the batch's content has left its place.
    wait(2 * bound, &options.progress)?;
    let records = ended_records(store)?;
    // G5.
    let settled = tokens::settle(store, options.wait, &options.progress)?;
    // G6: wait until this host sees every committed record.
    wait(bound, &options.progress)?;
    // G7.
    marker.recipes.forget_blobs();
    marker.mark()?;
    for (token, record) in &settled.committed {
        // A token that ended meanwhile has published its record, and the mark has seen it; or its record can never be
        // published.
        if txn::record_path(store, token)?.is_some() {
            marker.committed(token, record)?;
        }
    }
    marker.mark_sources()?;
    marker.marks.settle();
    remove_empty_pins(store, &own, &marker.empty_pins)?;
    // G8.
    if settled.is_complete() {
        own.empty(rest, &marker.marks, report, &options.progress)?;
    } else {
        own.leave(options.min_age, report)?;
    }
    // G9.
    remains(store, &settled, records, &marker, report)?;
    rewrite::tidy_index(store)?;
    store.objects().forget_damage_of_what_is_gone()?;
    report.waits_for = settled.waits_for;
    report.tokens_of_others = settled.of_others;
    Ok(())
}

/// Waits by this host's monotonic clock.
fn wait(time: Duration, progress: &Progress) -> Result<()> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        progress.check_cancelled()?;
        std::thread::sleep(Duration::from_millis(200).min(until - Instant::now()));
    }
    Ok(())
}

/// Directories of version records whose tokens have ended. Each record is published by now, and the second mark sees
/// it, or it never will be.
fn ended_records(store: &Store) -> Result<Vec<(Token, PathBuf)>> {
    let mut out = Vec::new();
    for name in roots::artifacts(store)? {
        let dir = store.layout().versions(&name);
        for entry in disk::list(&dir)? {
            let Some(token) = Token::from_record_name(entry.as_encoded_bytes()) else { continue };
            if disk::lstat_revalidated(&store.layout().token(&token))?.is_none() {
                out.push((token, dir.join(entry)));
            }
        }
    }
    Ok(out)
}

/// Removes what dead writers left: fenced tokens with their records, and records of versions that will never get a
/// number.
fn remains(
    store: &Store,
    settled: &Settled,
    records: Vec<(Token, PathBuf)>,
    marker: &Marker<'_>,
    report: &mut GcReport,
) -> Result<()> {
    let is_published = |token: &Token| marker.published.contains(token);
    // A holder that took its lock after another collection had fenced its token is alive: it writes to its directory
    // until it finds the fence. The next collection removes what it leaves.
    let alive = tokens::alive_among(store, settled.fenced.iter().map(|(token, _)| token))?;
    for (token, record) in settled.fenced.iter().filter(|(token, _)| !alive.contains(token)) {
        if let Some(record) = record.as_ref().filter(|_| !is_published(token)) {
            remove_record(store, record)?;
        }
        match txn::remove_ended(store, token) {
            // Its holder took its lock just now.
            Err(e) if e.errno() == Some(libc::ENOTEMPTY) => continue,
            removed => removed?,
        }
        store.disk().remove_file(&store.layout().lock(token))?;
        report.dead_writers += 1;
    }
    for dir in &marker.dead_pins {
        store.disk().remove_tree(dir)?;
    }
    // The lock of a token that stays says whose it is.
    if settled.of_others.is_empty() {
        lock::remove_all_dead(store)?;
    }
    for (token, record) in records {
        if !is_published(&token) {
            remove_record(store, &record)?;
        }
    }
    Ok(())
}

/// Removes directories of pins that have been empty for a long time by the store's own clock: no process is about to
/// hold pins there.
fn remove_empty_pins(store: &Store, own: &Batch<'_>, empty: &[PathBuf]) -> Result<()> {
    if empty.is_empty() {
        return Ok(());
    }
    let now = own.now()?;
    for dir in empty {
        if disk::lstat_revalidated(dir)?.is_some_and(|meta| meta.mtime() + EMPTY_PINS <= now) {
            // Not if something is in it by now.
            let _ = store.disk().remove_dir(dir);
        }
    }
    Ok(())
}

fn remove_record(store: &Store, record: &Path) -> Result<()> {
    match disk::lstat(record)? {
        Some(meta) if meta.is_dir() => store.disk().remove_tree(record),
        Some(_) => store.disk().remove_file(record),
        None => Ok(()),
    }
}
