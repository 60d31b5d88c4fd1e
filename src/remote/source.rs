//! The interface of what has an object's bytes, and how an attempt to get them fails.

use crate::error::{Error, Result};
use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// What begins a recorded tag that is not an ETag: the time of the last change, of a server that has no ETags.
pub(super) const LAST_MODIFIED: &str = "last-modified:";

/// What identifies the bytes of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pin {
    /// Its length.
    pub(super) size: u64,
    /// Its ETag, or [`LAST_MODIFIED`] and a time; `None` if the server has neither.
    pub(super) tag: Option<String>,
    /// The version that its server keeps of it, if that has versions of objects.
    pub(super) version: Option<String>,
}

/// An object of a listing.
#[derive(Debug)]
pub(super) struct Listed {
    /// Its key.
    pub(super) key: String,
    /// What identifies its bytes.
    pub(super) pin: Pin,
}

/// What a server says of an object now. Not every web server says how long it is.
#[derive(Debug)]
pub(super) struct Head {
    /// Its length.
    pub(super) size: Option<u64>,
    /// As [`Pin::tag`].
    pub(super) tag: Option<String>,
    /// As [`Pin::version`].
    pub(super) version: Option<String>,
}

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// Another attempt may succeed.
    Passing(String),
    /// The object is not the one that was asked for.
    Changed(String),
    /// There is no such object.
    Missing,
    /// The server refuses, or cannot do what is needed.
    Refused(String),
}

/// The outcome of an attempt.
pub(super) type Attempt<T> = std::result::Result<T, Fault>;

/// One object of a server. Each method is one attempt; `within` bounds it.
pub(super) trait Source: fmt::Debug + Send + Sync {
    /// What identifies its bytes now.
    fn head(&self, within: Duration) -> Attempt<Head>;

    /// Reads all of it once to find out how long it is. `see` gets the bytes so far, and returns `false` to end it.
    fn measure(&self, see: &mut (dyn FnMut(u64) -> bool + Send)) -> Attempt<Pin>;

    /// Passes the bytes of `range` to `take`. They are those of `pin`: the request has it as a condition, and the
    /// answer is compared with it, since there are servers that ignore conditions.
    fn get(&self, range: Range<u64>, pin: &Pin, within: Duration, take: &mut (dyn FnMut(&[u8]) + Send)) -> Attempt<()>;

    /// Whether its server was found to ignore ranges: then it is read fastest in order, by one reader.
    fn is_sent_whole(&self) -> bool {
        false
    }
}

impl Head {
    /// What is pinned, if the length is known.
    pub(super) fn pin(self) -> Option<Pin> {
        Some(Pin { size: self.size?, tag: self.tag, version: self.version })
    }
}

impl Pin {
    /// Compares what an answer says with what was asked for.
    pub(super) fn compare(&self, size: Option<u64>, tag: Option<&str>) -> Attempt<()> {
        if let Some(size) = size.filter(|size| *size != self.size) {
            return Err(Fault::Changed(format!("expected {} bytes, found {size}", self.size)));
        }
        match (&self.tag, tag) {
            (None, _) => Ok(()),
            (Some(wanted), Some(found)) if bare(wanted) == bare(found) => Ok(()),
            (Some(wanted), Some(found)) => Err(Fault::Changed(format!("expected {wanted}, found {found}"))),
            (Some(wanted), None) => Err(Fault::Changed(format!("expected {wanted}, found no ETag"))),
        }
    }

    /// The ETag for a condition. A weak one never fulfils it.
    pub(super) fn if_match(&self) -> Option<&str> {
        self.tag.as_deref().filter(|tag| !tag.starts_with("W/") && !tag.starts_with(LAST_MODIFIED))
    }
}

/// The fault of an answer with that status. It passes if the status says that the server, or one before it, is too busy
/// or failed: 408, 425, 429, 500, 502 to 504, and what proxies use from 520 on. The others, 501 too, are answers that a
/// further attempt gets again.
pub(super) fn fault_of_status(status: u16, why: String) -> Fault {
    match status {
        404 | 410 => Fault::Missing,
        408 | 425 | 429 | 500 | 502..=504 | 520..=599 => Fault::Passing(why),
        _ => Fault::Refused(why),
    }
}

/// What caused an error, the nearest cause first.
pub(super) fn causes<'a>(
    e: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(e.source(), |e| e.source())
}

/// The fault of an object whose length is not known.
pub(super) fn no_length() -> Fault {
    Fault::Refused(
        "its server does not say how long it is (if it is added without --no-checksum, it is measured)".into(),
    )
}

/// An ETag without quotes: some servers leave them out in listings.
fn bare(tag: &str) -> &str {
    tag.trim_start_matches("W/").trim_matches('"')
}

impl Fault {
    /// As an error of a reader.
    pub(super) fn into_error(self, shown: &str) -> Error {
        match self {
            Fault::Passing(why) => Error::io_message(format!("cannot read {shown}: {why}"))
                .with_hint("run the command again when the server answers; CAIRN_REMOTE_TIMEOUT=SECONDS waits longer"),
            Fault::Changed(how) => super::local::changed(shown, &how),
            Fault::Missing => Error::io_message(format!("cannot read {shown}: it does not exist any more")),
            Fault::Refused(why) => Error::io_message(format!("cannot read {shown}: {why}")),
        }
    }

    /// As an error of a command that adds it.
    pub(super) fn into_error_of_adding(self, shown: &str) -> Error {
        let hint = "nothing was added; --no-checksum records the URI alone, without asking its source";
        match self {
            Fault::Missing => Error::not_found(format!("cannot add {shown}: it does not exist")).with_hint(hint),
            Fault::Passing(why) | Fault::Changed(why) | Fault::Refused(why) => {
                Error::io_message(format!("cannot add {shown}: {why}")).with_hint(hint)
            }
        }
    }
}

/// How long a request may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Without a byte.
    pub(super) idle: Duration,
    /// From the first attempt to the beginning of the last.
    pub(super) retries: Duration,
    /// In all.
    pub(super) whole: Duration,
}

/// The limits: `CAIRN_REMOTE_TIMEOUT` seconds (default 30) for all attempts.
pub(super) fn limits() -> Limits {
    let given = std::env::var("CAIRN_REMOTE_TIMEOUT").ok().and_then(|s| s.parse::<f64>().ok());
    let seconds = given.filter(|s| s.is_finite() && *s > 0.0).unwrap_or(30.0).clamp(0.1, 3600.0);
    let retries = Duration::from_secs_f64(seconds);
    Limits { idle: retries / 3, retries, whole: retries * 2 }
}

/// The longest time that a read of a reference takes before it fails.
#[cfg(feature = "fuse")]
pub(super) fn longest_wait() -> Duration {
    limits().whole + Duration::from_secs(5)
}

/// Repeats `attempt` after passing faults, with growing pauses, until the limits are reached.
pub(super) fn retried<T>(attempt: &mut dyn FnMut(Duration) -> Attempt<T>) -> Attempt<T> {
    let limits = limits();
    let began = std::time::Instant::now();
    let mut pause = Duration::from_millis(100);
    let mut attempts = 1;
    loop {
        let left = limits.whole.saturating_sub(began.elapsed()).max(Duration::from_millis(10));
        match attempt(left) {
            Err(Fault::Passing(why)) => {
                if began.elapsed() + pause >= limits.retries {
                    let seconds = began.elapsed().as_secs_f64();
                    return Err(Fault::Passing(format!("{why} ({attempts} attempts in {seconds:.1} s)")));
                }
                // Readers that failed together do not come again together.
                let jitter = std::process::id().wrapping_mul(2_654_435_761).wrapping_add(attempts * 40_503) % 50;
                std::thread::sleep(pause + pause * jitter / 100);
                pause = (pause * 2).min(Duration::from_secs(3));
                attempts += 1;
            }
            other => return other,
        }
    }
}

/// `Result` of a reader.
pub(super) fn or_error<T>(attempt: Attempt<T>, shown: &str) -> Result<T> {
    attempt.map_err(|fault| fault.into_error(shown))
}
