//! Reads of references in a read-only mount. They may take long, so they have threads of their own: a request never
//! waits in the thread that takes requests from the kernel, and a slow source holds up no reads of the store.

use super::errno::{FuseResult, RequestFailure};
use super::pool::Pool;
use crate::cache::Flights;
use crate::error::{Error, Result};
use crate::manifest::Reference;
use crate::recent_cache::RecentCache;
use crate::remote::{OpenReference, longest_wait, shown_uri};
use crate::types::{Digest, Hasher};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How many references are kept open.
const OPEN: usize = 128;
/// How many reads wait for sources at once.
const THREADS: usize = 64;

/// A read that failed after this time makes others fail at once for as long: the kernel sends the reads of one page one
/// after the other, and each would wait for the source anew.
const SLOW: Duration = Duration::from_secs(1);

/// The references of one mount.
pub(super) struct FarReads {
    /// What failed slowly, when, and why.
    failed: Mutex<HashMap<Digest, (Instant, String)>>,
    pool: OnceLock<Option<Pool>>,
    open: RecentCache<OpenReference>,
    opening: Flights<Arc<OpenReference>>,
}

impl FarReads {
    pub(super) fn new() -> FarReads {
        FarReads {
            failed: Mutex::default(),
            pool: OnceLock::new(),
            open: RecentCache::new(OPEN),
            opening: Flights::default(),
        }
    }

    /// The threads, which start with the first read.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn pool(&self) -> FuseResult<&Pool> {
        let pool = self.pool.get_or_init(|| Pool::start_with(longest_wait(), THREADS).ok());
        let none = || RequestFailure::Store(Error::io("start threads for", "references".as_ref(), busy()));
        pool.as_ref().ok_or_else(none)
    }

    /// Reads `length` bytes at `offset` into `out`, fewer only at the end.
    pub(super) fn read(&self, reference: &Reference, offset: u64, length: u32, out: &mut Vec<u8>) -> FuseResult<()> {
        let Some(size) = reference.size else {
            let shown = shown_uri(&reference.uri);
            let why = format!("it is a reference to {shown}, whose size is not recorded: `cairn cat` reads it");
            return Err(RequestFailure::Store(Error::io_message(why)));
        };
        let wanted = size.saturating_sub(offset).min(u64::from(length)) as usize;
        out.resize(wanted, 0);
        let key = key(reference);
        if let Some((at, why)) = self.failed.lock().get(&key)
            && at.elapsed() < SLOW
        {
            return Err(RequestFailure::Store(Error::io_message(why.clone())));
        }
        let began = Instant::now();
        let mut read = || -> Result<()> {
            let open = self.opened(&key, reference)?;
            let mut done = 0;
            while done < wanted {
                match open.read_at(&mut out[done..], offset + done as u64)? {
                    0 => return Err(Error::io_message(format!("{} ends early", shown_uri(&reference.uri)))),
                    n => done += n,
                }
            }
            Ok(())
        };
        read().map_err(|e| {
            self.open.remove(&key); // the next read finds out whether the source is right again
            if began.elapsed() >= SLOW {
                let mut failed = self.failed.lock();
                failed.retain(|_, (at, _)| at.elapsed() < SLOW);
                failed.insert(key, (Instant::now(), format!("{e:#}")));
            }
            RequestFailure::Store(e)
        })
    }

    fn opened(&self, key: &Digest, reference: &Reference) -> Result<Arc<OpenReference>> {
        if let Some(open) = self.open.get(key) {
            return Ok(open);
        }
        self.opening.run(key, || {
            let open = Arc::new(OpenReference::open(reference)?);
            self.open.put(*key, open.clone(), 1);
            Ok(open)
        })
    }
}

fn busy() -> io::Error {
    io::Error::from_raw_os_error(libc::EAGAIN)
}

fn key(reference: &Reference) -> Digest {
    let mut hasher = Hasher::new();
    let digest = reference.digest.map(|digest| digest.hex());
    for part in [Some(&reference.uri), reference.etag.as_ref(), digest.as_ref()] {
        let part = part.map_or("", String::as_str);
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.update(&reference.size.unwrap_or(u64::MAX).to_le_bytes());
    hasher.finish()
}
