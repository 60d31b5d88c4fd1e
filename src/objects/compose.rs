//! Storing a large file of whose bytes the store has at least half: what is new is stored, and a recipe.
//!
//! A sample of the file is searched in the earlier content at the same path, or at others. If it shares something with
//! one of them, the two are compared while the file is copied. What is not found so is searched by chunks. Only equal
//! bytes count, and the digest is that of the bytes that were compared and written.
//!
//! Crash safety is that of every other content. The recipe names contents that were in place after this writer's token
//! was made, or that it stored itself (L14). It becomes visible with the writer's packs, and is needed by nothing
//! before a version names its content.

use super::chunks::{Bytes, Match, find_matches};
use super::compared_base::Base;
use super::compared_copy::{Compared, NewBytes, compare, fill_holes, unmatched, unmatched_in_base};
use super::compose_plan::{Limits, Plan};
use super::compose_rest::Rest;
use super::large_put::LargePut;
use super::pack::BlobKind;
use super::read::Content;
use super::recipe::{COMPOSED_MIN, Recipe};
use super::resemblance::{Ranges, resembles};
use super::thread_writer::ThreadWriter;
use crate::disk::NewFile;
use crate::error::{Error, Result};
use crate::types::Digest;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::slice;

/// Shorter ranges that are in no match are not searched by chunks.
const MIN_SEARCHED: u64 = 2 << 10;
/// If there is more to search by chunks, a sample must show that something is shared.
const SAMPLED_FROM: u64 = 4 << 20;

/// The content of a file in an earlier version.
#[derive(Clone, Copy, Debug)]
pub struct Earlier {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// When the version was made, in seconds since 1970. A file that was modified before is probably unchanged.
    pub stored_at: i64,
}

/// What a new file is probably similar to.
pub trait EarlierContents {
    /// The content at the same path.
    fn at_same_path(&self) -> Option<Earlier>;

    /// A few contents of similar names and sizes. The most similar one is the first.
    fn at_other_paths(&self) -> Vec<Earlier>;

    /// Whether content may be composed of parts of other contents.
    ///
    /// # Errors
    /// I/O.
    fn may_compose(&self) -> Result<bool>;

    /// Whether a recipe may name long contents that are packed.
    ///
    /// # Errors
    /// I/O.
    fn may_pack_parts(&self) -> Result<bool>;
}

/// How long a file can be trusted not to change after it was compared.
type IsUnchanged<'a> = &'a dyn Fn() -> Result<bool>;

/// A file and what it is compared with.
struct Comparing<'a> {
    source: &'a File,
    path: &'a Path,
    base: &'a Base,
    /// What is known of the beginnings of the base.
    beginnings: Vec<Digest>,
    contents: &'a dyn EarlierContents,
}

/// Gets the number of bytes as they are read. Its error stops the copy.
type Tick<'a> = &'a mut dyn FnMut(u64) -> Result<()>;

impl ThreadWriter<'_> {
    /// As [`ThreadWriter::put_large`], for a file that may have much in common with an earlier content. If at least
    /// half of it is in the store and `contents` allow it, only the rest is stored, and a recipe.
    ///
    /// # Errors
    /// As [`ThreadWriter::put_large`]; those of [`EarlierContents::may_compose`].
    pub fn put_large_like(
        &mut self,
        source: &File,
        path: &Path,
        contents: &dyn EarlierContents,
        tick: Tick<'_>,
    ) -> Result<LargePut> {
        let meta = source.metadata().map_err(|e| Error::io("stat", path, e))?;
        if meta.len() < COMPOSED_MIN {
            return self.put_large(source, path, tick);
        }
        let earlier = contents.at_same_path();
        // A file that is probably unchanged is only hashed: comparing would read the earlier content too.
        if earlier.is_some_and(|earlier| meta.len() == earlier.size && meta.mtime() < earlier.stored_at)
            && let Some(put) = self.find_by_hash(source, path, tick)?
        {
            return Ok(put);
        }
        let new = NewBytes { file: source, path };
        let base = self.similar_base(&new, meta.len(), earlier, contents)?;
        let Some(base) = base else { return self.put_large(source, path, tick) };
        let beginnings = self.writer.beginnings().of(&base.digest, base.size);
        let comparing = Comparing { source, path, base: &base, beginnings, contents };
        match self.put_compared(&comparing, tick) {
            Ok(Some(put)) => Ok(put),
            Ok(None) => self.put_large(source, path, tick),
            Err(_) if base.has_failed() => self.put_large(source, path, tick),
            Err(e) => {
                // There is no room for a copy, but the content may be stored already.
                let is_full = matches!(e.errno(), Some(libc::ENOSPC | libc::EDQUOT));
                let known = if is_full { self.find_by_hash(source, path, tick).ok().flatten() } else { None };
                known.ok_or(e)
            }
        }
    }

    /// A content that shares bytes with a file, as far as a sample shows: the earlier one, or one at another path.
    fn similar_base(
        &self,
        new: &NewBytes<'_>,
        size: u64,
        earlier: Option<Earlier>,
        contents: &dyn EarlierContents,
    ) -> Result<Option<Base>> {
        if let Some(earlier) = earlier
            && let Some(base) = self.resembling(new, size, &earlier)?
        {
            return Ok(Some(base));
        }
        if !self.writer.other_paths().lock().is_next_tried() {
            return Ok(None);
        }
        let others = contents.at_other_paths();
        for other in &others {
            if let Some(base) = self.resembling(new, size, other)? {
                self.writer.other_paths().lock().record(true);
                return Ok(Some(base));
            }
        }
        if !others.is_empty() {
            self.writer.other_paths().lock().record(false);
        }
        Ok(None)
    }

    /// This content, open, if a sample shows that the file shares bytes with it.
    fn resembling(&self, new: &NewBytes<'_>, size: u64, earlier: &Earlier) -> Result<Option<Base>> {
        let Some(base) = self.base(earlier)? else { return Ok(None) };
        let (whole, whole_base) = (0..size, 0..base.size);
        let there = Ranges { bytes: &base, size: base.size, ranges: slice::from_ref(&whole_base) };
        // If one of them cannot be read, the file is put without a comparison, which reports what concerns it.
        let is_similar =
            resembles(Ranges { bytes: new, size, ranges: slice::from_ref(&whole) }, there).unwrap_or(false);
        Ok(is_similar.then_some(base))
    }

    /// Stores a file that is compared with the earlier content. `None`: it changed while it was compared.
    fn put_compared(&mut self, comparing: &Comparing<'_>, tick: Tick<'_>) -> Result<Option<LargePut>> {
        if let Some(clone) = self.clone_of(comparing.source)? {
            let new = NewBytes { file: clone.file(), path: clone.path() };
            let stored = self
                .compare(&new, comparing, None, tick)
                .and_then(|compared| Ok((self.keep_or_compose(&new, comparing, &compared, &|| Ok(true))?, compared)));
            return self.composed_or_kept(clone, stored).map(Some);
        }
        if let Some(leases) = self.writer.leases().cloned()
            && let Some(leased) = self.writer.objects().lease_file(&leases, comparing.source, comparing.path)?
        {
            let new = NewBytes { file: comparing.source, path: comparing.path };
            let compared = self.compare(&new, comparing, None, tick)?;
            let is_unchanged = || leased.is_unchanged(compared.hashed.size);
            if let Some(put) = self.keep_or_compose(&new, comparing, &compared, &is_unchanged)? {
                return Ok(Some(put));
            }
            return self.adopt(&leased, compared.hashed.content(), &leases);
        }
        let temp = self.writer.create_object()?;
        let stored = self.copy_compared(&temp, comparing, tick);
        self.composed_or_kept(temp, stored).map(Some)
    }

    /// Compares a file, and remembers its beginnings for the next version of it.
    fn compare(
        &self,
        new: &NewBytes<'_>,
        comparing: &Comparing<'_>,
        copy: Option<&NewFile>,
        tick: Tick<'_>,
    ) -> Result<Compared> {
        let compared = compare(new, comparing.base, &comparing.beginnings, copy, tick)?;
        self.writer.beginnings().remember(&compared.hashed);
        Ok(compared)
    }

    /// Copies a file while it is compared. If it is not composed, the copy is complete.
    fn copy_compared(
        &mut self,
        temp: &NewFile,
        comparing: &Comparing<'_>,
        tick: Tick<'_>,
    ) -> Result<(Option<LargePut>, Compared)> {
        let new = NewBytes { file: comparing.source, path: comparing.path };
        let compared = self.compare(&new, comparing, Some(temp), tick)?;
        let put = self.keep_or_compose(temp, comparing, &compared, &|| Ok(true))?;
        if put.is_none() {
            fill_holes(temp, comparing.base, &compared.matches)?;
        }
        Ok((put, compared))
    }

    /// Removes a copy whose content is composed, or was stored already; keeps any other as an object.
    fn composed_or_kept(&mut self, copy: NewFile, stored: Result<(Option<LargePut>, Compared)>) -> Result<LargePut> {
        match stored {
            Ok((Some(put), _)) => {
                self.writer.remove_temp(&copy)?;
                Ok(put)
            }
            Ok((None, compared)) => self.keep_or_drop(copy, Ok(compared.hashed.content())),
            Err(e) => {
                let _: Result<()> = self.writer.remove_temp(&copy);
                Err(e)
            }
        }
    }

    /// The earlier content, open, if the version may rely on all that it consists of.
    fn base(&self, earlier: &Earlier) -> Result<Option<Base>> {
        if earlier.size < COMPOSED_MIN {
            return Ok(None);
        }
        let objects = self.writer.objects();
        let Earlier { digest, size, .. } = earlier;
        // Everywhere: the newest version names it, and the index may not know its recipe yet.
        let base = match objects.content(digest, *size, None) {
            Ok(Content::Large(object)) => Base::of_object(object, *digest),
            Ok(Content::Composed(composed)) => Base::of_composed(composed, *digest),
            Ok(Content::Small(_)) => return Ok(None),
            Err(e) if e.is_loss() => return Ok(None),
            Err(e) => return Err(e),
        };
        for source in &base.sources {
            if !self.writer.dedup().sees_source(source)? {
                return Ok(None);
            }
        }
        Ok(Some(base))
    }

    /// Composes a file that was compared, unless it is stored already. `new` has what is in no match. `None`: it is to
    /// be stored whole.
    fn keep_or_compose(
        &mut self,
        new: &dyn Bytes,
        comparing: &Comparing<'_>,
        compared: &Compared,
        is_unchanged: IsUnchanged<'_>,
    ) -> Result<Option<LargePut>> {
        let (digest, size) = compared.hashed.content();
        let base = comparing.base;
        if self.writer.dedup().has_large(&digest, size)? {
            return Ok(Some(LargePut::known(digest, size)));
        }
        if size < COMPOSED_MIN || self.writer.dedup().is_damaged_object(&digest) {
            return Ok(None); // a damaged object is to be replaced: recipes may name it, and readers find it first
        }
        let mut matches = compared.matches.clone();
        matches.extend(moved_matches(new, size, base, &matches)?);
        matches.sort_unstable_by_key(|found| found.at);
        let limits = Limits::new(size, self.writer.compresses_large());
        let Some(plan) = Plan::new(size, &matches, base, &limits) else {
            let plan = Plan::of_rest(size, &matches, base);
            let Some(parts) = self.put_whole_rest(&Rest::new(new, base, &plan))? else { return Ok(None) };
            return self.compose(&plan.recipe(base, &parts), digest, is_unchanged);
        };
        if !comparing.contents.may_compose()? {
            return Ok(None);
        }
        let rest = self.put_rest(&Rest::new(new, base, &plan), &limits, &|| comparing.contents.may_pack_parts())?;
        self.compose(&plan.recipe(base, &rest), digest, is_unchanged)
    }

    /// Stores the recipe. `None`: something that the recipe would name is not in place by itself.
    pub(super) fn compose(
        &mut self,
        recipe: &Recipe,
        digest: Digest,
        is_unchanged: IsUnchanged<'_>,
    ) -> Result<Option<LargePut>> {
        let writer = self.writer;
        // A content can be what an earlier file grew by, and then packed already. It would be composed of itself.
        if recipe.sources.iter().any(|source| source.digest == digest) {
            return Ok(None);
        }
        for source in &recipe.sources {
            if !writer.dedup().has_source(source)? {
                return Ok(None);
            }
        }
        if !is_unchanged()? {
            return Ok(None);
        }
        let put = LargePut { digest, size: recipe.size, new: true, adopted: false };
        // If two threads have the same content, the first one stores the recipe.
        if writer.dedup().insert_composed(digest) {
            writer.fail_on_error(self.append(digest, BlobKind::Recipe, &recipe.encode(&digest)))?;
        }
        Ok(Some(put))
    }
}

/// What is in no match, but at another place of the earlier content.
fn moved_matches(new: &dyn Bytes, size: u64, base: &Base, matches: &[Match]) -> Result<Vec<Match>> {
    let (mut rest, mut earlier) = (unmatched(matches, size), unmatched_in_base(matches, base.size));
    rest.retain(|range| range.end - range.start >= MIN_SEARCHED);
    earlier.retain(|range| range.end - range.start >= MIN_SEARCHED);
    let here = Ranges { bytes: new, size, ranges: &rest };
    let there = Ranges { bytes: base, size: base.size, ranges: &earlier };
    let is_empty = rest.is_empty() || earlier.is_empty();
    if is_empty || (here.len() + there.len() > SAMPLED_FROM && !resembles(here, there)?) {
        return Ok(Vec::new());
    }
    find_matches(new, &rest, base, base.size, &earlier)
}
