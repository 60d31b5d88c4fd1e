//! A remote object, open for reading: blocks on demand, more of them at once for a reader that reads on.
//!
//! - A block that is not here is fetched alone. A reader that continues where it ended before gets *extents* of four
//!   blocks, each in one request, and the next ones are fetched ahead of it: two, then more, up to eight.
//! - One thread of a process fetches a block or extent, the others wait for it; of the processes of a node too, as far
//!   as they do not wait long for each other.
//! - Every request has the recorded tag as a condition, and every answer is compared with it.

use super::blocks::{self, BLOCK, Block};
use super::caching::cache;
use super::source::{Attempt, Pin, Source, no_length, or_error, retried};
use super::uri::shown_uri;
use crate::cache::{Flights, Item};
use crate::error::Result;
use crate::locks::Mutex;
use crate::types::Digest;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Blocks of an extent.
const EXTENT: u64 = 4;
/// How many extents are fetched ahead of one reader at most.
const AHEAD: u64 = 8;
/// The same for a reader whose blocks are kept in memory only.
const AHEAD_IN_MEMORY: u64 = 3;
/// How many bytes are fetched ahead of all readers of this process at most.
const AHEAD_BYTES: u64 = 48 << 20;
/// How many readers of one object are distinguished.
const STREAMS: usize = 16;
/// A read this far from where a reader ended continues it: the kernel's readahead comes in pieces, out of order.
const NEAR: u64 = 1 << 20;
/// How long another process may take for a block before this one fetches it too.
const PATIENCE: Duration = Duration::from_secs(5);

static BLOCKS: LazyLock<Flights<Block>> = LazyLock::new(Flights::default);
static EXTENTS: LazyLock<Flights<Extent>> = LazyLock::new(Flights::default);
static FETCHING_AHEAD: AtomicU64 = AtomicU64::new(0);

/// Blocks by number.
type Extent = Arc<Vec<(u64, Block)>>;

/// An object in one state.
#[derive(Debug)]
pub(super) struct FarFile {
    object: Arc<Object>,
    streams: Mutex<Vec<Stream>>,
}

#[derive(Debug)]
struct Object {
    source: Box<dyn Source>,
    shown: String,
    item: Item,
    pin: Pin,
    /// Whether blocks are written to the cache.
    cached: bool,
}

/// A reader that reads on.
#[derive(Debug)]
struct Stream {
    /// Where it ended.
    end: u64,
    /// How many bytes it read one after the other.
    run: u64,
    /// Extents before this one were asked for.
    asked: u64,
}

impl FarFile {
    /// Opens an object: the one that `pin` says, else what is there now.
    pub(super) fn open(uri: &str, source: Box<dyn Source>, pin: Option<Pin>, cached: bool) -> Result<FarFile> {
        let shown = shown_uri(uri);
        let pin = match pin {
            Some(pin) => pin,
            None => {
                let found = retried(&mut |within| source.head(within));
                or_error(found.and_then(|head| head.pin().ok_or_else(no_length)), &shown)?
            }
        };
        let item = blocks::object(uri, pin.size, pin.tag.as_deref());
        // Without a tag, the next state of the object would have the same key.
        let cached = cached && pin.tag.is_some();
        Ok(FarFile { object: Arc::new(Object { source, shown, item, pin, cached }), streams: Mutex::default() })
    }

    /// Its size.
    pub(super) fn size(&self) -> u64 {
        self.object.pin.size
    }

    /// What identifies its state, if its server says that.
    #[cfg(feature = "fuse")]
    pub(super) fn tag(&self) -> Option<String> {
        self.object.pin.tag.clone()
    }

    /// Asks the source whether the object is still the same.
    pub(super) fn check(&self) -> Result<()> {
        let object = &self.object;
        let same = retried(&mut |within| {
            let now = object.source.head(within)?;
            object.pin.compare(now.size, now.tag.as_deref())
        });
        or_error(same, &object.shown)
    }

    /// Reads at `offset`, within one block.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let number = offset / BLOCK;
        let reads_on = self.note(offset, buffer.len() as u64);
        let from = (offset - number * BLOCK) as usize;
        let wanted = buffer.len().min(self.object.length(number) - from);
        if self.object.read_cached(number, from, &mut buffer[..wanted]) {
            return Ok(wanted);
        }
        let block = self.object.block(number, reads_on)?;
        let n = buffer.len().min(block.len() - from);
        buffer[..n].copy_from_slice(&block[from..from + n]);
        Ok(n)
    }

    /// Notes a read, and fetches ahead if it continues an earlier one. Returns whether it does.
    fn note(&self, offset: u64, length: u64) -> bool {
        let mut streams = self.streams.lock();
        let near = |stream: &Stream| offset <= stream.end + NEAR && offset + NEAR >= stream.end;
        let mut stream = match streams.iter().position(near) {
            Some(at) => streams.remove(at),
            None => Stream { end: offset, run: 0, asked: 0 },
        };
        stream.run += length;
        stream.end = stream.end.max(offset + length);
        // A reader of the whole begins at its start. Another one shows by a block that it reads on.
        let reads_on = stream.run > BLOCK || stream.run > length && stream.run >= stream.end;
        let ahead = if reads_on { (stream.run / (EXTENT * BLOCK) + 2).min(self.object.most_ahead()) } else { 0 };
        let from = (stream.end / BLOCK / EXTENT).max(stream.asked);
        let to = (stream.end / BLOCK / EXTENT + ahead).min(self.size().div_ceil(BLOCK * EXTENT));
        let mut wanted = from;
        while wanted < to && FETCHING_AHEAD.load(Ordering::Relaxed) < AHEAD_BYTES {
            self.object.fetch_ahead(wanted);
            wanted += 1;
        }
        stream.asked = stream.asked.max(wanted);
        if streams.len() == STREAMS {
            streams.remove(0);
        }
        streams.push(stream); // the last one was used last
        reads_on
    }
}

impl Object {
    /// Without the cache, what is fetched ahead must stay in memory until it is read.
    fn most_ahead(&self) -> u64 {
        if self.cached { AHEAD } else { AHEAD_IN_MEMORY }
    }

    fn length(&self, number: u64) -> usize {
        (self.pin.size - number * BLOCK).min(BLOCK) as usize
    }

    /// Reads a part of a block from the cache, unless the whole block is in memory.
    fn read_cached(&self, number: u64, from: usize, out: &mut [u8]) -> bool {
        self.cached
            && blocks::in_memory(&self.block_key(number)).is_none()
            && cache().is_some_and(|cache| cache.read(&self.item, number, from, out))
    }

    /// Whether a block is noted as being here.
    fn is_noted(&self, number: u64) -> bool {
        let noted = || cache().is_some_and(|cache| cache.has(&self.item, number));
        blocks::in_memory(&self.block_key(number)).is_some() || self.cached && noted()
    }

    fn here(&self, number: u64) -> Option<Block> {
        if self.cached { blocks::get(&self.item, number) } else { blocks::in_memory(&self.block_key(number)) }
    }

    fn block_key(&self, number: u64) -> Digest {
        blocks::key(&self.item.key, number)
    }

    fn extent_key(&self, extent: u64) -> Digest {
        blocks::key(&self.item.key, u64::MAX - extent)
    }

    /// The numbers of an extent's blocks.
    fn numbers(&self, extent: u64) -> Range<u64> {
        extent * EXTENT..((extent + 1) * EXTENT).min(self.pin.size.div_ceil(BLOCK))
    }

    /// A block: from here, from a request that is under way, or fetched.
    fn block(&self, number: u64, reads_on: bool) -> Result<Block> {
        if let Some(block) = self.here(number) {
            return Ok(block);
        }
        let extent = number / EXTENT;
        let of = |blocks: &Extent| blocks.iter().find(|(n, _)| *n == number).map(|(_, block)| block.clone());
        let coming = match EXTENTS.join(&self.extent_key(extent)) {
            None if reads_on => Some(self.extent(extent)),
            coming => coming,
        };
        match coming {
            Some(Ok(blocks)) => {
                if let Some(block) = of(&blocks).or_else(|| self.here(number)) {
                    return Ok(block);
                }
            }
            Some(Err(e)) => return Err(e),
            None => {}
        }
        let key = self.block_key(number);
        BLOCKS.run(&key, || {
            let fetched = self.fetch(number..number + 1)?;
            Ok(fetched.into_iter().next().map(|(_, block)| block).unwrap_or_default())
        })
    }

    /// The blocks of an extent that are not here yet.
    fn extent(&self, extent: u64) -> Result<Extent> {
        EXTENTS.run(&self.extent_key(extent), || self.fetch(self.numbers(extent)).map(Arc::new))
    }

    /// Fetches what is missing of some blocks in one request, and keeps it.
    fn fetch(&self, numbers: Range<u64>) -> Result<Vec<(u64, Block)>> {
        let cache = cache().filter(|_| self.cached);
        let missing = || {
            let mut missing = numbers.clone().filter(|number| self.here(*number).is_none());
            let first = missing.next()?;
            Some(first..missing.next_back().unwrap_or(first) + 1)
        };
        let mut wanted = missing();
        let mut lock = None;
        if let (Some(range), Some(cache)) = (&wanted, &cache) {
            lock = cache.lock(&self.block_key(range.start), PATIENCE);
            wanted = missing();
        }
        let mut all: Vec<(u64, Block)> = Vec::new();
        if let Some(range) = wanted.clone() {
            let fetched = or_error(retried(&mut |within| self.attempt(range.clone(), within)), &self.shown)?;
            all.extend(range.zip(fetched.into_iter().map(Arc::new)));
            for (number, block) in &all {
                blocks::keep(&self.block_key(*number), block);
            }
        }
        if let Some(cache) = cache {
            for (number, block) in &all {
                cache.fill(&self.item, *number, block);
            }
        }
        drop(lock);
        let rest = numbers.filter(|number| wanted.as_ref().is_none_or(|range| !range.contains(number)));
        all.extend(rest.filter_map(|number| Some((number, self.here(number)?))));
        Ok(all)
    }

    /// One request for some blocks.
    fn attempt(&self, numbers: Range<u64>, within: Duration) -> Attempt<Vec<Vec<u8>>> {
        let range = numbers.start * BLOCK..(numbers.end * BLOCK).min(self.pin.size);
        let mut fetched: Vec<Vec<u8>> = numbers.clone().map(|number| Vec::with_capacity(self.length(number))).collect();
        let mut at = 0;
        let mut take = |mut piece: &[u8]| {
            while !piece.is_empty() && at < fetched.len() {
                let length = self.length(numbers.start + at as u64);
                let n = piece.len().min(length - fetched[at].len());
                fetched[at].extend_from_slice(&piece[..n]);
                piece = &piece[n..];
                at += usize::from(fetched[at].len() == length);
            }
        };
        self.source.get(range, &self.pin, within, &mut take)?;
        Ok(fetched)
    }

    /// Begins to fetch an extent. An error is that of the reader that comes to it.
    fn fetch_ahead(self: &Arc<Self>, extent: u64) {
        let is_asked_for = EXTENTS.has(&self.extent_key(extent));
        if is_asked_for || self.source.is_sent_whole() || self.numbers(extent).all(|number| self.is_noted(number)) {
            return;
        }
        let counted = Counted::new(EXTENT * BLOCK);
        let object = self.clone();
        let work = move || {
            let _counted = counted;
            drop(object.extent(extent));
        };
        // Without a thread, the reader that comes to it fetches it.
        drop(std::thread::Builder::new().name("cairn-ahead".into()).spawn(work));
    }
}

/// Bytes that are being fetched ahead.
struct Counted(u64);

impl Counted {
    fn new(bytes: u64) -> Counted {
        FETCHING_AHEAD.fetch_add(bytes, Ordering::Relaxed);
        Counted(bytes)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        FETCHING_AHEAD.fetch_sub(self.0, Ordering::Relaxed);
    }
}
