//! Reading content through a cache: blocks that are in it, and blocks that a source has.

use super::content::{BLOCK, Content, Opened};
use super::directory::{Cache, TEMPORARY};
use crate::error::Result;
use crate::types::{Digest, Hasher};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// A content that is larger than this part of the cache is cached in parts, so that it does not displace all others.
const LARGE_PART: u64 = 4;
/// The blocks of such a part.
const PART_BLOCKS: u64 = 64;

/// What is cached: its key and its size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    pub(crate) key: Digest,
    pub(crate) size: u64,
}

/// Fetches a range of an item from its source.
pub(crate) type Fetch<'a> = &'a dyn Fn(Range<u64>) -> Result<Vec<u8>>;

impl Item {
    fn blocks_of(&self, offset: u64, length: usize) -> Range<u64> {
        offset / BLOCK..(offset + length as u64).div_ceil(BLOCK)
    }

    fn range_of(&self, number: u64) -> Range<u64> {
        number * BLOCK..((number + 1) * BLOCK).min(self.size)
    }

    /// A key of its own for each block.
    fn block_key(&self, number: u64) -> Digest {
        numbered("cairn-block-2\n", &self.key, number)
    }
}

fn numbered(what: &str, key: &Digest, number: u64) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(what.as_bytes());
    hasher.update(&key.0);
    hasher.update(&number.to_le_bytes());
    hasher.finish()
}

impl Cache {
    /// Reads at `offset` into all of `out`, which ends within the item. Blocks that are not in the cache are fetched,
    /// once for all threads that miss them, and added to it. A failure of the cache is not an error.
    ///
    /// # Errors
    /// Those of `fetch`.
    pub(crate) fn read_through(&self, item: &Item, offset: u64, out: &mut [u8], fetch: Fetch<'_>) -> Result<()> {
        let mut rest = out;
        for number in item.blocks_of(offset, rest.len()) {
            let block = item.range_of(number);
            let from = offset.max(block.start) - block.start;
            let length = rest.len().min((block.end - block.start - from) as usize);
            let (part, after) = rest.split_at_mut(length);
            if !self.read(item, number, from as usize, part) {
                let bytes = self.fetch_block(item, number, fetch)?;
                part.copy_from_slice(&bytes[from as usize..from as usize + length]);
            }
            rest = after;
        }
        Ok(())
    }

    fn fetch_block(&self, item: &Item, number: u64, fetch: Fetch<'_>) -> Result<Arc<Vec<u8>>> {
        self.reading.run(&item.block_key(number), || {
            let bytes = fetch(item.range_of(number))?;
            self.fill(item, number, &bytes);
            Ok(Arc::new(bytes))
        })
    }

    /// Reads a part of a block. `false`: it is not here.
    pub(crate) fn read(&self, item: &Item, number: u64, from: usize, out: &mut [u8]) -> bool {
        let (part, number) = self.part_of(item, number);
        self.content(&part).is_some_and(|content| content.read(number, from, out))
    }

    /// Whether a block is noted as being here. It may be damaged: a reader finds that out.
    pub(crate) fn has(&self, item: &Item, number: u64) -> bool {
        let (part, number) = self.part_of(item, number);
        self.content(&part).is_some_and(|content| content.has(number))
    }

    /// A whole block.
    pub(crate) fn block(&self, item: &Item, number: u64) -> Option<Vec<u8>> {
        let range = item.range_of(number);
        let (part, within) = self.part_of(item, number);
        let content = self.content(&part)?;
        let mut bytes = vec![0; (range.end - range.start) as usize];
        content.read(within, 0, &mut bytes).then_some(bytes)
    }

    /// Adds a block. If that fails, it is fetched again when it is needed.
    pub(crate) fn fill(&self, item: &Item, number: u64, bytes: &[u8]) {
        let (part, number) = self.part_of(item, number);
        let filled = self.content(&part).map_or_else(|| self.new_content(&part), Ok);
        match filled.and_then(|content| content.fill(number, bytes)) {
            Ok(()) => self.added(bytes.len() as u64),
            Err(e) => self.note_failure(e.raw_os_error().unwrap_or(0)),
        }
    }

    /// The size of the item with that key, if something of it is here.
    pub(crate) fn size_of(&self, key: &Digest) -> Option<u64> {
        self.opened(key).map(|content| content.size())
    }

    /// The file with all bytes of an item, if it is complete and was checked as a whole. Its bytes were not changed by
    /// any program since.
    pub(crate) fn whole(&self, item: &Item) -> Option<File> {
        let content = self.undivided(item).filter(|content| content.was_checked())?;
        content.data().try_clone().ok()
    }

    /// Whether all blocks of an item are here in one file that was not checked as a whole.
    pub(crate) fn may_be_whole(&self, item: &Item) -> bool {
        self.undivided(item).is_some_and(|content| !content.was_checked() && content.is_complete())
    }

    /// Checks all blocks of an item, and the digest of the whole if it is known, and notes that. An item with another
    /// digest is removed. `false`: it is not whole.
    pub(crate) fn check_whole(&self, item: &Item, digest: Option<&Digest>) -> bool {
        let Some(content) = self.undivided(item).filter(|content| content.is_complete()) else { return false };
        if content.was_checked() {
            return true;
        }
        let mut hasher = digest.map(|digest| (Hasher::new(), digest));
        if !content.check_all(&mut |block| hasher.iter_mut().for_each(|(hasher, _)| hasher.update(block))) {
            return false;
        }
        let right = hasher.is_none_or(|(hasher, digest)| hasher.finish() == *digest);
        if right {
            content.note_checked()
        } else {
            self.remove_if(&item.key, &|moved| content.is_in(moved))
        }
        right
    }

    /// Closes what was not read since the last but one call.
    pub(crate) fn close_idle(&self) {
        self.open.turn();
    }

    /// What holds a block: the item itself or a part of it, and the number of the block in that.
    fn part_of(&self, item: &Item, number: u64) -> (Item, u64) {
        if item.size <= self.recent_limit() / LARGE_PART {
            return (*item, number);
        }
        let (part, bytes) = (number / PART_BLOCKS, PART_BLOCKS * BLOCK);
        let size = item.size.saturating_sub(part * bytes).min(bytes);
        (Item { key: numbered("cairn-part-1\n", &item.key, part), size }, number % PART_BLOCKS)
    }

    fn undivided(&self, item: &Item) -> Option<Arc<Content>> {
        if item.size > self.recent_limit() / LARGE_PART { None } else { self.content(item) }
    }

    fn content(&self, item: &Item) -> Option<Arc<Content>> {
        let content = self.opened(&item.key)?;
        if content.size() == item.size {
            return Some(content);
        }
        self.remove_if(&item.key, &|moved| content.is_in(moved));
        None
    }

    fn opened(&self, key: &Digest) -> Option<Arc<Content>> {
        let content = match self.open.get(key).filter(|content| !content.is_gone()) {
            Some(content) => content,
            None => match Content::open(&self.place(key), key).ok()? {
                Opened::Content(found) => {
                    let content = Arc::new(found);
                    self.open.put(*key, content.clone(), 1);
                    content
                }
                Opened::Missing => return None,
                Opened::Broken(dir) => {
                    self.remove_if(key, &|moved| dir.as_ref().is_none_or(|dir| dir.is_at(moved)));
                    return None;
                }
            },
        };
        content.note_use(&self.dir);
        Some(content)
    }

    fn new_content(&self, item: &Item) -> io::Result<Arc<Content>> {
        let header = Content::header(item.size);
        let made = self.dir.create_filled_dir(TEMPORARY, &Content::files(item.size, &header))?;
        self.dir.make_dir(&item.key.hex()[..2])?;
        self.dir.publish_dir(&made, &self.place(&item.key))?;
        self.content(item).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
