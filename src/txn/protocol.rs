//! The claim, step by step (FORMAT.md, "The claim"). Each step makes a value that only the next step takes, so no step
//! can be left out or done in another order:
//!
//! | step | what is done | value |
//! |---|---|---|
//! | 1 | the token is made | [`Txn`], by [`Txn::begin`]; [`Unfenced`] for records that one claim decides |
//! | 2 | content is looked up and stored | by the caller, with an `ObjectWriter` |
//! | 3 | the record is written, whole, where its number will be | [`Prepared`] |
//! | 4 | record and content become durable | [`Durable`] |
//! | 5 | the token is committed, or found fenced | [`Committed`], [`Commit::Fenced`] |
//! | 6 | a number is claimed | |
//! | 7 | the number becomes durable | [`Placed`]; [`Placed::end`] removes the token |
//!
//! Where the numbers of a kind of record are, and which of them a record may have, is [`Numbers`]. A record that was
//! fenced or got no number is removed by its owner; if that fails, it is left to a collector.

use super::claim::{self, Claimed};
use super::token::{Outcome, Txn, lost_on_this_thread};
use crate::disk::NewFile;
use crate::error::{Error, Result};
use crate::objects::{IndexUpdate, ObjectWriter};
use crate::store::Store;
use crate::types::Token;
use std::path::{Path, PathBuf};

/// Where the numbers of one record are: in the versions of an artifact, in a log, …
pub trait Numbers {
    /// Why a record gets no number.
    type Refusal;

    /// Whether the owner of a refused record answers with, or builds on, what took its number. That must be durable
    /// then.
    const RELIES_ON_WINNER: bool;

    /// What is true once the record has its number, for the error if that does not become durable.
    fn done(&self) -> &'static str {
        "it is published"
    }

    /// The directory that holds the numbers.
    fn dir(&self) -> PathBuf;

    /// The first number that the record may have.
    fn first(&self) -> u64;

    /// Whether that is the only one.
    fn is_exact(&self) -> bool;

    /// The path of a number.
    fn path(&self, number: u64) -> PathBuf;

    /// Decides what follows when `number` belongs to `other`. The decision depends on published, immutable records
    /// alone, so every helper comes to the same one.
    ///
    /// # Errors
    /// Damaged: the other record cannot be read. I/O.
    fn passed(&self, number: u64, other: &Token) -> Result<Pass<Self::Refusal>>;
}

/// What follows from a number that belongs to another token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pass<R> {
    /// The claim walks up to the next number.
    Next,
    /// The record gets no number.
    Refused(R),
}

/// Which number a record got.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place<R> {
    /// This one.
    At(u64),
    /// None.
    Refused(R),
}

/// The token under which a record is written: it knows how it ends.
pub trait Attempt {
    /// The token.
    fn token(&self) -> &Token;

    /// The end of C7.
    fn end(self);
}

impl Attempt for Txn {
    fn token(&self) -> &Token {
        Txn::token(self)
    }

    fn end(self) {
        Txn::end(self);
    }
}

/// A token without a directory of its own, for a record that one claim of one number decides, and that relies on
/// nothing in the store: the removal of a version, the record of an artifact. No process waits for it, fences it or
/// helps it, so it has neither the rest of C1 nor C5.
#[derive(Debug)]
pub struct Unfenced(Token);

impl Unfenced {
    /// A fresh token.
    pub fn begin() -> Unfenced {
        Unfenced(Token::fresh())
    }
}

impl Attempt for Unfenced {
    fn token(&self) -> &Token {
        &self.0
    }

    fn end(self) {}
}

/// A record that is written, and not yet durable.
#[must_use = "a record that is not published must be removed"]
#[derive(Debug)]
pub struct Prepared<N, A = Txn> {
    record: Written<N, A>,
    files: Vec<NewFile>,
}

/// A record that is durable, with all that it relies on.
#[must_use = "a record that is not published must be removed"]
#[derive(Debug)]
pub struct Durable<N, A = Txn>(Written<N, A>);

/// A record whose token is committed: from here on anyone may claim its number for it.
#[must_use = "a committed record gets its number now, or from another process"]
#[derive(Debug)]
pub struct Committed<N, A = Txn>(Written<N, A>);

/// What came of the commit.
#[must_use]
#[derive(Debug)]
pub enum Commit<N> {
    /// The record will be published, unless its number is refused.
    Committed(Committed<N>),
    /// Another process fenced the token: everything is done again, with a new one.
    Fenced,
}

/// A record whose claim was decided, durably.
#[must_use = "the token must be ended"]
#[derive(Debug)]
pub struct Placed<R, A = Txn> {
    attempt: A,
    place: Place<R>,
}

#[derive(Debug)]
struct Written<N, A> {
    /// Done when this is dropped, which is before the token is: its temporary files lie in the token's directory.
    index: Option<IndexUpdate>,
    store: Store,
    attempt: A,
    numbers: N,
    /// The record, and what belongs to it alone.
    paths: Vec<PathBuf>,
}

impl<N, A> Written<N, A> {
    /// Removes a record that can never be published. What remains is a collector's.
    fn remove(&self) {
        for path in &self.paths {
            let _ = self.store.disk().remove_tree(path);
        }
    }
}

impl<N: Numbers, A: Attempt> Prepared<N, A> {
    /// C3: `files` are the record, written whole at `paths`, where its number will be. They never move. `paths` are
    /// removed if the record cannot be published.
    pub fn new(store: &Store, attempt: A, numbers: N, files: Vec<NewFile>, paths: Vec<PathBuf>) -> Prepared<N, A> {
        Prepared { record: Written { index: None, store: store.clone(), attempt, numbers, paths }, files }
    }

    /// [`Prepared::new`] for a record that is one file: `bytes` in the directory of the numbers.
    ///
    /// # Errors
    /// I/O.
    pub fn one_file(store: &Store, attempt: A, numbers: N, bytes: &[u8]) -> Result<Prepared<N, A>> {
        let path = numbers.dir().join(attempt.token().record_name());
        let file = store.disk().write_file(path.clone(), bytes)?;
        Ok(Prepared::new(store, attempt, numbers, vec![file], vec![path]))
    }
}

impl<N: Numbers> Prepared<N> {
    /// Adds files that belong to this record, and the directory that they are in. They become durable before it.
    pub fn with(mut self, files: impl IntoIterator<Item = NewFile>, dir: PathBuf) -> Prepared<N> {
        self.files.splice(0..0, files);
        self.record.paths.push(dir);
        self
    }

    /// C4, for a record that names no content.
    ///
    /// # Errors
    /// I/O; the store's handle is poisoned then.
    pub fn durable(self) -> Result<Durable<N>> {
        let barrier = self.record.store.disk().publish_barrier(None);
        self.files.iter().try_for_each(|file| barrier.record(file))?;
        Ok(Durable(self.record))
    }

    /// C4: the record becomes durable together with the content that `writer` stored, and the names in `dirs`. Returns
    /// how many bytes of content are new.
    ///
    /// The index gets its new segment after the number is claimed: it is a cache, which the version does not need.
    ///
    /// # Errors
    /// I/O, also when storing failed before; the store's handle may be poisoned then.
    pub fn durable_with(self, writer: ObjectWriter, dirs: &[&Path]) -> Result<(Durable<N>, u64)> {
        let sealed = writer.seal(&self.files, dirs)?;
        Ok((Durable(Written { index: sealed.index, ..self.record }), sealed.new_bytes))
    }
}

impl<N: Numbers> Durable<N> {
    /// The token.
    pub fn token(&self) -> &Token {
        self.0.attempt.token()
    }

    /// Withdraws the record instead of committing it.
    ///
    /// # Errors
    /// I/O.
    pub fn withdraw(self) -> Result<()> {
        self.0.paths.iter().try_for_each(|path| self.0.store.disk().remove_tree(path))
    }

    /// C5: commits the token, unless it is fenced.
    ///
    /// # Errors
    /// I/O: whether it is committed is unknown then; the record counts as live.
    pub fn commit(self) -> Result<Commit<N>> {
        let mut record = self.0;
        let (token, numbers) = (record.attempt.token().clone(), &record.numbers);
        Ok(match record.attempt.commit(|| is_claimed(&token, numbers))? {
            Outcome::Committed => Commit::Committed(Committed(record)),
            Outcome::Fenced => {
                record.remove();
                Commit::Fenced
            }
            Outcome::Revoked => Commit::Fenced,
        })
    }
}

impl<N: Numbers> Prepared<N, Unfenced> {
    /// C4 for a record without a C5. Its name becomes durable with its number: neither is
    /// acknowledged before C7.
    ///
    /// # Errors
    /// I/O; the store's handle is poisoned then.
    pub fn durable(self) -> Result<Committed<N, Unfenced>> {
        self.files.iter().try_for_each(|file| self.record.store.disk().sync_file(file))?;
        Ok(Committed(self.record))
    }
}

impl<N: Numbers, A: Attempt> Committed<N, A> {
    /// C6 and C7: claims a number, and makes it durable.
    ///
    /// # Errors
    /// Damaged: a record on the way cannot be read. I/O: whether the record is published may be unknown then.
    pub fn place(mut self) -> Result<Placed<N::Refusal, A>> {
        let Written { store, attempt, numbers, .. } = &self.0;
        let place = claim_number(store, attempt.token(), numbers)?;
        let is_published = matches!(place, Place::At(_));
        if is_published || N::RELIES_ON_WINNER {
            sync_number(store, numbers)?;
        }
        if !is_published {
            self.0.remove();
        }
        drop(self.0.index.take());
        Ok(Placed { attempt: self.0.attempt, place })
    }
}

impl<R, A: Attempt> Placed<R, A> {
    /// Which number the record got. The token stays: for a record whose consequences are not complete yet.
    pub fn place(&self) -> &Place<R> {
        &self.place
    }

    /// The end of C7: removes the token.
    pub fn end(self) -> Place<R> {
        self.attempt.end();
        self.place
    }
}

/// C6 and C7 for a committed token of another process, as often as anyone likes and at once with its owner. What it
/// may not have is its owner's to remove.
///
/// # Errors
/// As [`Committed::place`].
pub fn help<N: Numbers>(store: &Store, token: &Token, numbers: &N) -> Result<Place<N::Refusal>> {
    let place = claim_number(store, token, numbers)?;
    if matches!(place, Place::At(_)) {
        sync_number(store, numbers)?;
    }
    Ok(place)
}

/// C6: walks up from the first number that the record may have, past those that it has read, and claims the first
/// free one.
fn claim_number<N: Numbers>(store: &Store, token: &Token, numbers: &N) -> Result<Place<N::Refusal>> {
    let mut number = numbers.first();
    let mut is_busy = false; // then the next number may be taken too, and a look is cheaper than a claim in vain
    loop {
        let path = numbers.path(number);
        let taken = if is_busy { claim::holder_as_seen(&path)?.filter(|holder| holder != token) } else { None };
        let other = match taken.map_or_else(|| claim::claim(store, &path, token), |other| Ok(Claimed::Other(other)))? {
            Claimed::Own => return Ok(Place::At(number)),
            Claimed::Other(other) => other,
        };
        is_busy = true;
        match numbers.passed(number, &other)? {
            Pass::Next => number += 1,
            Pass::Refused(why) => return Ok(Place::Refused(why)),
        }
    }
}

/// C7, until the end: makes the number durable. On file systems that keep the order of names, this makes everything
/// before it durable too.
fn sync_number<N: Numbers>(store: &Store, numbers: &N) -> Result<()> {
    store.disk().sync_dir(&numbers.dir()).map_err(|e: Error| {
        e.context(format!("{}, but that may not survive a loss of power", numbers.done()))
            .with_hint("look at the disk and the kernel's log, then run the command again")
    })
}

/// Whether `token` is at one of the numbers that its record may have.
///
/// # Errors
/// Damaged; I/O.
pub fn is_claimed<N: Numbers>(token: &Token, numbers: &N) -> Result<bool> {
    let mut number = numbers.first();
    loop {
        match claim::holder(&numbers.path(number))? {
            None => return Ok(false),
            Some(found) if found == *token => return Ok(true),
            Some(_) if numbers.is_exact() => return Ok(false),
            Some(_) => number += 1,
        }
    }
}

/// What one attempt, under one token, came to.
#[must_use]
#[derive(Debug)]
pub enum AttemptOutcome<T> {
    /// The result.
    Done(T),
    /// The token was fenced, or its only number belongs to another: everything is looked at again, under a new token.
    Again,
}

/// How many attempts in a row may fail after another process ended their tokens.
const LOST_ATTEMPTS: u32 = 16;

/// Calls `attempt` until it is done. An attempt that fails after another process ended its token (it took this process
/// for dead, or a user broke its lock) is made again, with a new token: what it had stored may be freed already, and
/// nothing of it was published.
///
/// # Errors
/// Those of `attempt`.
pub fn retry<T>(mut attempt: impl FnMut() -> Result<AttemptOutcome<T>>) -> Result<T> {
    let mut lost = 0;
    loop {
        let before = lost_on_this_thread();
        match attempt() {
            Ok(AttemptOutcome::Done(done)) => return Ok(done),
            Ok(AttemptOutcome::Again) => lost = 0,
            Err(_) if lost_on_this_thread() > before && lost < LOST_ATTEMPTS => lost += 1,
            Err(e) => return Err(e),
        }
    }
}

/// [`retry`] for an attempt that can be made only once: after it, `Again` is for the caller to begin with a new one.
///
/// # Errors
/// Those of `attempt`, unless another process ended its token.
pub fn once<T>(attempt: impl FnOnce() -> Result<AttemptOutcome<T>>) -> Result<AttemptOutcome<T>> {
    let before = lost_on_this_thread();
    attempt().or_else(|e| if lost_on_this_thread() > before { Ok(AttemptOutcome::Again) } else { Err(e) })
}
