//! Storing a large file of whose bytes the store has at least half: what is new is stored, and a recipe.
//!
//! The earlier content at the same path is compared with the file while it is copied; what is not equal at the same
//! offset is searched in it by chunks. Only equal bytes count, and the digest is that of the bytes that were compared
//! and written.
//!
//! Crash safety is that of every other content. The recipe names contents that were in place after this writer's token
//! was made, or that it stored itself (L14). It becomes visible with the writer's packs, and is needed by nothing
//! before a version names its content.

use super::chunks::{Bytes, Match, find_matches};
use super::compared_copy::{Base, Compared, compare_copy, fill_holes, others};
use super::compose_plan::{Piece, Plan};
use super::copy_in::CHUNK;
use super::large_put::LargePut;
use super::pack::{BlobKind, SMALL_MAX};
use super::read::Content;
use super::recipe::{COMPOSED_MIN, RecipeSource};
use super::thread_writer::ThreadWriter;
use crate::disk::NewFile;
use crate::error::{Error, Result};
use crate::types::{Digest, Hasher};
use std::fs::File;
use std::path::Path;

/// The content at the same path in an earlier version.
#[derive(Clone, Copy, Debug)]
pub struct Earlier {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// What became of a copy that was compared.
enum Kept {
    /// It is the whole file, with this digest and size.
    Whole(Digest, u64),
    /// Its content is composed, or was stored already.
    Composed(LargePut),
    /// It is not needed.
    Nothing,
}

/// Gets the number of bytes as they are read. Its error stops the copy.
type Tick<'a> = &'a mut dyn FnMut(u64) -> Result<()>;

impl ThreadWriter<'_> {
    /// As [`ThreadWriter::put_large`], for a file that probably has much in common with an earlier content. If at least
    /// half of it is in the store and `may_compose` allows it, only the rest is stored, and a recipe.
    ///
    /// # Errors
    /// As [`ThreadWriter::put_large`]; those of `may_compose`.
    pub fn put_large_like(
        &mut self,
        source: &File,
        path: &Path,
        earlier: &Earlier,
        may_compose: &dyn Fn() -> Result<bool>,
        tick: Tick<'_>,
    ) -> Result<LargePut> {
        let size = source.metadata().map_err(|e| Error::io("stat", path, e))?.len();
        if size < COMPOSED_MIN {
            return self.put_large(source, path, tick);
        }
        let Some(base) = self.base(earlier)? else { return self.put_large(source, path, tick) };
        let mut temp = self.writer.create_object()?;
        let is_cloned = self.clone_into(source, &mut temp)?;
        let compared = compare_copy(source, path, &temp, &base, is_cloned, tick);
        let stored = compared.and_then(|compared| self.keep_compared(&temp, &base, &compared, is_cloned, may_compose));
        match stored {
            Ok(Kept::Whole(digest, size)) => return self.keep_or_drop(temp, Ok((digest, size))),
            Ok(Kept::Composed(put)) => {
                self.writer.remove_temp(&temp)?;
                return Ok(put);
            }
            Ok(Kept::Nothing) => {}
            Err(_) if base.has_failed() => {}
            Err(e) => {
                let _: Result<()> = self.writer.remove_temp(&temp);
                // There is no room for a copy, but the content may be stored already.
                let is_full = matches!(e.errno(), Some(libc::ENOSPC | libc::EDQUOT));
                let known = if is_full { self.find_by_hash(source, path, tick).ok().flatten() } else { None };
                return known.ok_or(e);
            }
        }
        self.writer.remove_temp(&temp)?;
        self.put_large(source, path, tick)
    }

    /// What becomes of a copy that was compared.
    fn keep_compared(
        &mut self,
        temp: &NewFile,
        base: &Base,
        compared: &Compared,
        is_cloned: bool,
        may_compose: &dyn Fn() -> Result<bool>,
    ) -> Result<Kept> {
        if compared.is_different && self.writer.leases().is_some() {
            return Ok(Kept::Nothing); // a file that can be taken over need not be copied
        }
        if let Some(put) = self.keep_or_compose(temp, base, compared, may_compose)? {
            return Ok(Kept::Composed(put));
        }
        if !is_cloned {
            fill_holes(temp, base, &compared.equal)?;
        }
        Ok(Kept::Whole(compared.digest, compared.size))
    }

    /// The earlier content, open, if the version may rely on all that it consists of.
    fn base(&self, earlier: &Earlier) -> Result<Option<Base>> {
        if earlier.size < COMPOSED_MIN {
            return Ok(None);
        }
        let objects = self.writer.objects();
        let Earlier { digest, size } = earlier;
        // Everywhere: the newest version names it, and the index may not know its recipe yet.
        let base = match objects.content(digest, *size, None) {
            Ok(Content::Large(object)) => Base::of_object(object, *digest),
            Ok(Content::Composed(composed)) => Base::of_composed(composed),
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

    /// Shares the file's blocks with the copy, where the file system can.
    fn clone_into(&self, source: &File, temp: &mut NewFile) -> Result<bool> {
        let reflink = self.writer.reflink();
        if reflink.is_ruled_out() {
            return Ok(false);
        }
        let is_cloned = temp.reflink_from(source)?;
        if !is_cloned {
            reflink.rule_out();
        }
        Ok(is_cloned)
    }

    /// Composes a file that was compared, unless it is stored already. `None`: it is to be stored whole.
    fn keep_or_compose(
        &mut self,
        temp: &NewFile,
        base: &Base,
        compared: &Compared,
        may_compose: &dyn Fn() -> Result<bool>,
    ) -> Result<Option<LargePut>> {
        let Compared { digest, size, ref equal, is_different } = *compared;
        if self.writer.dedup().has_large(&digest, size)? {
            return Ok(Some(LargePut::known(digest, size)));
        }
        if is_different || size < COMPOSED_MIN {
            return Ok(None);
        }
        let mut matches: Vec<Match> =
            equal.iter().map(|r| Match { at: r.start, base: r.start, len: r.end - r.start }).collect();
        let (new, earlier) = (others(equal, size), others(equal, base.size));
        if !new.is_empty() && !earlier.is_empty() {
            matches.extend(find_matches(temp, &new, base, base.size, &earlier)?);
            matches.sort_unstable_by_key(|found| found.at);
        }
        let Some(plan) = Plan::new(size, &matches, base) else { return Ok(None) };
        if !may_compose()? {
            return Ok(None);
        }
        self.compose(temp, base, &plan, digest)
    }

    /// Stores the new bytes and the recipe. `None`: something that the recipe would name is not in place by itself.
    fn compose(&mut self, temp: &NewFile, base: &Base, plan: &Plan, digest: Digest) -> Result<Option<LargePut>> {
        let writer = self.writer;
        let rest = self.put_rest(temp, base, plan)?;
        let recipe = plan.recipe(base, rest);
        for source in &recipe.sources {
            if !writer.dedup().has_source(source)? {
                return Ok(None);
            }
        }
        let put = LargePut { digest, size: plan.size, new: true, adopted: false };
        // If two threads have the same content, the first one stores the recipe.
        if writer.dedup().insert_composed(digest) {
            writer.fail_on_error(self.append(digest, BlobKind::Recipe, &recipe.encode(&digest)))?;
        }
        Ok(Some(put))
    }

    /// Stores the bytes that are not taken from the store, one after another, as a content of its own.
    fn put_rest(&mut self, temp: &NewFile, base: &Base, plan: &Plan) -> Result<Option<RecipeSource>> {
        let size = plan.stored_again();
        if size == 0 {
            return Ok(None);
        }
        if size < SMALL_MAX {
            let mut bytes = Vec::with_capacity(size as usize);
            copy_rest(temp, base, plan, &mut |piece| {
                bytes.extend_from_slice(piece);
                Ok(())
            })?;
            let digest = Digest::of(&bytes);
            self.put_small(digest, &bytes)?;
            return Ok(Some(RecipeSource { digest, size }));
        }
        let mut object = self.writer.create_object()?;
        let mut hasher = Hasher::new();
        let copied = copy_rest(temp, base, plan, &mut |piece| {
            hasher.update(piece);
            object.write_all(piece)
        });
        let put = self.keep_or_drop(object, copied.map(|()| (hasher.finish(), size)))?;
        Ok(Some(RecipeSource { digest: put.digest, size }))
    }
}

/// Passes the bytes that are not taken from the store to `write`, in order.
fn copy_rest(temp: &NewFile, base: &Base, plan: &Plan, write: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    for Piece { at, len, base: in_base, .. } in plan.rest() {
        let mut done = 0;
        while done < *len {
            let n = usize::try_from(len - done).unwrap_or(usize::MAX).min(CHUNK);
            // The copy has holes where it equals the earlier content.
            match in_base {
                Some(from) => base.fill(&mut buffer[..n], from + done)?,
                None => temp.fill(&mut buffer[..n], at + done)?,
            }
            write(&buffer[..n])?;
            done += n as u64;
        }
    }
    Ok(())
}
