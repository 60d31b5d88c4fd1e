//! The whole content of a reference, from its beginning to its end.

use super::local::changed;
use super::opened::OpenReference;
use super::uri::shown_uri;
use crate::error::Result;
use crate::manifest::Reference;
use crate::types::Hasher;

/// How much is read at once.
const PIECE: usize = 1 << 20;

/// Reads all of a reference and passes it to `take`, piece by piece. If its digest was recorded, the whole is compared
/// with it: what was taken counts only if this returns `Ok`.
///
/// # Errors
/// As [`OpenReference::open`] and [`OpenReference::read_at`]; those of `take`.
pub(crate) fn read_whole(reference: &Reference, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let open = OpenReference::open_for_one_reading(reference)?;
    let mut hasher = reference.digest.map(|expected| (expected, Hasher::new()));
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    loop {
        let n = open.read_at(&mut buffer, at)?;
        if n == 0 {
            break;
        }
        if let Some((_, hasher)) = &mut hasher {
            hasher.update(&buffer[..n]);
        }
        take(&buffer[..n])?;
        at += n as u64;
    }
    if let Some((expected, hasher)) = hasher {
        let found = hasher.finish();
        if found != expected {
            return Err(changed(&shown_uri(&reference.uri), &format!("expected SHA-256 {expected}, found {found}")));
        }
    }
    Ok(())
}

/// Reads all of a reference, so that it is in the cache, or in the page cache.
///
/// # Errors
/// As [`OpenReference::open`] and [`OpenReference::read_at`].
pub(crate) fn read_whole_into_cache(reference: &Reference) -> Result<()> {
    let open = OpenReference::open(reference)?;
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    loop {
        match open.read_at(&mut buffer, at)? {
            0 => return Ok(()),
            n => at += n as u64,
        }
    }
}
