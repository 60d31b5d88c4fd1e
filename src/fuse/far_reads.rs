//! Reads of references in a read-only mount. They may take long, so they have threads of their own: a request never
//! waits in the thread that takes requests from the kernel, and a slow source holds up no reads of the store.

use super::cached_files::WholeChecks;
use super::errno::{FuseResult, RequestFailure};
use super::files::Backing;
use super::pool::Pool;
use crate::cache::Flights;
use crate::error::{Error, Result};
use crate::manifest::Reference;
use crate::recent_cache::RecentCache;
use crate::remote::{OpenReference, kept, longest_wait, shown_uri};
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

/// A source that did not answer a question for a size is not asked for others for this time: `ls -l` asks for each.
const SILENT: Duration = Duration::from_secs(30);
/// How many references without a recorded size are remembered. If there are more, they are asked again.
const IDENTIFIED: usize = 1 << 16;

/// The references of one mount.
pub(super) struct FarReads {
    /// References whose size is not recorded, as they were when they were first asked.
    identified: Mutex<HashMap<Digest, Box<Reference>>>,
    /// Servers that did not answer a question for a size, and when.
    silent: Mutex<HashMap<String, Instant>>,
    checks: WholeChecks,
    /// What failed slowly, when, and why.
    failed: Mutex<HashMap<Digest, (Instant, String)>>,
    pool: OnceLock<Option<Pool>>,
    open: RecentCache<OpenReference>,
    opening: Flights<Arc<OpenReference>>,
}

impl FarReads {
    pub(super) fn new() -> FarReads {
        FarReads {
            identified: Mutex::default(),
            silent: Mutex::default(),
            checks: WholeChecks::default(),
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
            let known = self.identify(reference)?;
            return self.read(&known, offset, length, out);
        };
        let wanted = size.saturating_sub(offset).min(u64::from(length)) as usize;
        out.resize(wanted, 0);
        self.with_source(&key(reference), reference, |open| {
            let mut done = 0;
            while done < wanted {
                match open.read_at(&mut out[done..], offset + done as u64)? {
                    0 => return Err(Error::io_message(format!("{} ends early", shown_uri(&reference.uri)))),
                    n => done += n,
                }
            }
            Ok(())
        })?;
        if offset + wanted as u64 == size
            && let Some((cache, item)) = kept(reference)
        {
            self.checks.start(&cache, item, None);
        }
        Ok(())
    }

    /// How the kernel can read a reference: from the cache, if all of it is there and was checked.
    pub(super) fn backing(&self, reference: &Reference) -> Backing {
        let file = kept(reference).and_then(|(cache, item)| self.checks.file(&cache, item, None));
        file.map_or(Backing::Daemon, Backing::Cached)
    }

    /// The state that the source of a reference without a recorded size was found in. It counts for the whole mount.
    pub(super) fn known(&self, reference: &Reference) -> Option<Box<Reference>> {
        self.identified.lock().get(&key(reference)).cloned()
    }

    /// Asks the source of a reference for the size, unless that is known.
    ///
    /// # Errors
    /// It is missing, cannot be read or cannot be reached.
    pub(super) fn identify(&self, reference: &Reference) -> FuseResult<Box<Reference>> {
        if let Some(known) = self.known(reference) {
            return Ok(known);
        }
        let (key, server) = (key(reference), server_of(&reference.uri));
        let silent = self.silent.lock().get(server).is_some_and(|at| at.elapsed() < SILENT);
        if silent {
            return Err(RequestFailure::Store(Error::io_message(format!("{server} did not answer a moment ago"))));
        }
        let began = Instant::now();
        let known = self.with_source(&key, reference, |open| Ok(Box::new(open.identified(reference))));
        if known.is_err() && began.elapsed() >= SLOW {
            let mut silent = self.silent.lock();
            silent.retain(|_, at| at.elapsed() < SILENT);
            silent.insert(server.to_owned(), Instant::now());
        }
        let mut identified = self.identified.lock();
        if identified.len() >= IDENTIFIED {
            identified.clear();
        }
        // Of two threads that asked at the same time, the first counts.
        Ok(identified.entry(key).or_insert(known?).clone())
    }

    /// Reads from the source of a reference. If it failed slowly a moment ago, that fails at once.
    fn with_source<T>(
        &self,
        key: &Digest,
        reference: &Reference,
        read: impl FnOnce(&OpenReference) -> Result<T>,
    ) -> FuseResult<T> {
        if let Some((at, why)) = self.failed.lock().get(key)
            && at.elapsed() < SLOW
        {
            return Err(RequestFailure::Store(Error::io_message(why.clone())));
        }
        let began = Instant::now();
        self.opened(key, reference).and_then(|open| read(&open)).map_err(|e| {
            self.open.remove(key); // the next read finds out whether the source is right again
            if began.elapsed() >= SLOW {
                let mut failed = self.failed.lock();
                failed.retain(|_, (at, _)| at.elapsed() < SLOW);
                failed.insert(*key, (Instant::now(), format!("{e:#}")));
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

/// The scheme and the server, bucket or container of a URI.
fn server_of(uri: &str) -> &str {
    let begin = uri.find("://").map_or(0, |at| at + 3);
    uri.get(begin..).and_then(|rest| rest.find('/')).map_or(uri, |at| &uri[..begin + at])
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
