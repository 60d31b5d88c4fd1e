//! A reference, open for reading.

#[cfg(feature = "remote")]
use super::far::FarFile;
use super::local::LocalFile;
#[cfg(feature = "remote")]
use super::network::{Source, or_error, recorded, source_of};
use super::uri::{Location, Uri, shown_uri};
#[cfg(all(feature = "remote", feature = "fuse"))]
use super::{blocks, caching::cache, network::quoted};
#[cfg(feature = "fuse")]
use crate::cache::{Cache, Item};
use crate::error::{Error, Result};
use crate::manifest::Reference;
#[cfg(feature = "fuse")]
use std::sync::Arc;

/// The content of a reference, open. Threads may read parts of it at once.
#[derive(Debug)]
pub(crate) struct OpenReference {
    from: From,
}

#[derive(Debug)]
enum From {
    Local(LocalFile),
    #[cfg(feature = "remote")]
    Far(FarFile),
}

impl OpenReference {
    /// Opens what a reference names, and checks what can be checked before its bytes are read. What it reads from a
    /// server is kept in the cache.
    ///
    /// # Errors
    /// Usage: a URI that cannot be read. I/O: it changed, is missing or cannot be reached.
    pub(crate) fn open(reference: &Reference) -> Result<OpenReference> {
        OpenReference::open_as(reference, true)
    }

    /// [`OpenReference::open`], for a reader that reads all of it once. What it reads is not written to the cache.
    ///
    /// # Errors
    /// As [`OpenReference::open`].
    pub(crate) fn open_for_one_reading(reference: &Reference) -> Result<OpenReference> {
        OpenReference::open_as(reference, false)
    }

    fn open_as(reference: &Reference, cached: bool) -> Result<OpenReference> {
        let uri = Uri::parse(&reference.uri).map_err(|_| unreadable(reference))?;
        let from = match &uri.at {
            Location::File(path) => From::Local(LocalFile::open(reference, path)?),
            #[cfg(feature = "remote")]
            Location::Http | Location::Object(_) => {
                let source: Box<dyn Source> = or_error(source_of(&uri), &shown_uri(&reference.uri))?;
                From::Far(FarFile::open(&reference.uri, source, recorded(reference), cached)?)
            }
            _ => return Err(unreadable(reference)),
        };
        #[cfg(not(feature = "remote"))]
        let _ = cached;
        Ok(OpenReference { from })
    }

    /// What it is a reference to, with the size and the ETag of the state that is open.
    #[cfg(feature = "fuse")]
    pub(crate) fn identified(&self, reference: &Reference) -> Reference {
        let etag = match &self.from {
            From::Local(_) => reference.etag.clone(),
            #[cfg(feature = "remote")]
            From::Far(file) => file.tag().map(quoted),
        };
        Reference { size: Some(self.size()), etag, ..reference.clone() }
    }

    /// Its size in bytes.
    pub(crate) fn size(&self) -> u64 {
        match &self.from {
            From::Local(file) => file.size(),
            #[cfg(feature = "remote")]
            From::Far(file) => file.size(),
        }
    }

    /// Reads at `offset`: at least a byte, unless the end is reached or `buffer` is empty.
    ///
    /// # Errors
    /// I/O: it changed, is missing or cannot be reached.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let left = self.size().saturating_sub(offset);
        let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        match &self.from {
            From::Local(file) => file.read_at(&mut buffer[..want], offset),
            #[cfg(feature = "remote")]
            From::Far(file) => file.read_at(&mut buffer[..want], offset),
        }
    }
}

/// The cache in which blocks of a reference are kept, and their key; `None` if they are not kept.
#[cfg(feature = "fuse")]
pub(crate) fn kept(reference: &Reference) -> Option<(Arc<Cache>, Item)> {
    #[cfg(feature = "remote")]
    if let Location::Http | Location::Object(_) = Uri::parse(&reference.uri).ok()?.at {
        let pin = recorded(reference)?;
        return Some((cache()?, blocks::object(&reference.uri, pin.size, pin.tag.as_deref())));
    }
    #[cfg(not(feature = "remote"))]
    let _ = reference;
    None
}

/// Compares what a reference names with what was recorded. A local file is hashed, a server is asked.
///
/// # Errors
/// Usage: a URI that cannot be read. I/O: it changed, is missing or cannot be reached.
pub(crate) fn check(reference: &Reference) -> Result<()> {
    match OpenReference::open(reference)?.from {
        From::Local(_) => Ok(()),
        #[cfg(feature = "remote")]
        From::Far(file) => file.check(),
    }
}

/// The longest time that a read of a reference takes before it fails. (A local file may take longer: it is hashed.)
#[cfg(feature = "fuse")]
pub(crate) fn longest_wait() -> std::time::Duration {
    #[cfg(feature = "remote")]
    let network = super::network::longest_wait();
    #[cfg(not(feature = "remote"))]
    let network = std::time::Duration::from_secs(65);
    network
}

/// Fails if this build cannot read what a reference names.
///
/// # Errors
/// Usage: it is recorded only.
pub(crate) fn is_readable(reference: &Reference) -> Result<()> {
    match Uri::parse(&reference.uri).map(|uri| uri.at) {
        Ok(Location::File(_)) => Ok(()),
        #[cfg(feature = "remote")]
        Ok(Location::Http | Location::Object(_)) => Ok(()),
        _ => Err(unreadable(reference)),
    }
}

/// The error for a URI that is recorded only.
fn unreadable(reference: &Reference) -> Error {
    let shown = shown_uri(&reference.uri);
    let why = match Uri::parse(&reference.uri).map(|uri| uri.at) {
        #[cfg(not(feature = "remote"))]
        Ok(Location::Http | Location::Object(_)) => "this build lacks the feature `remote`",
        Err(_) => "it has a password in it, or is not complete",
        Ok(_) => "its scheme is recorded, not read",
    };
    Error::usage(format!("{shown} cannot be read: {why}")).with_hint("--references skip leaves it out of a get")
}
