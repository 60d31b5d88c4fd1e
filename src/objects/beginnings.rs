//! The digests of the beginnings of large contents: of the first MiB, of the first two MiB, and so on. If a new file
//! has the same digest at one of these lengths, it begins with the same bytes, and these are not read again to compare
//! them.
//!
//! They are kept in the user's cache directory, one record for each content. A record says nothing about a store or a
//! path, so it never becomes old. It may be deleted at any time; without it, files are compared. A record that is
//! damaged, or belongs to another content, is not used: it has a SHA-256 of itself and of the content's digest.

use super::step_hasher::{Hashed, STEP, Steps};
use crate::cache::{Cache, put_cache_directory};
use crate::error::{Error, Result};
use crate::types::Digest;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Of smaller contents nothing is kept: comparing these costs little more than a record.
pub(super) const REMEMBERED_FROM: u64 = 16 << 20;
/// How many bytes the records may have: those of about 1 TiB of content. Those that were used least recently go first.
const LIMIT: u64 = 32 << 20;
const MAGIC: &[u8; 8] = b"cairnbg1";
const DIGEST: usize = 32;

/// The records of this user.
pub(super) struct Beginnings {
    dir: Option<PathBuf>,
    cache: OnceLock<Option<Cache>>,
}

impl Beginnings {
    /// Those in the user's cache directory, if caches of puts are on.
    pub(super) fn of_user() -> Beginnings {
        Beginnings { dir: put_cache_directory().map(|dir| dir.join("beginnings")), cache: OnceLock::new() }
    }

    #[cfg(test)]
    pub(super) fn in_directory(dir: &Path) -> Beginnings {
        Beginnings { dir: Some(dir.to_path_buf()), cache: OnceLock::new() }
    }

    /// The cache, unless other users may write to it: its records decide what is stored.
    fn cache(&self) -> Option<&Cache> {
        let open = |dir: &Path| Cache::open(dir, Some(LIMIT)).ok().filter(Cache::is_own);
        self.cache.get_or_init(|| self.dir.as_deref().and_then(open)).as_ref()
    }

    /// The digests of the beginnings of a content, shortest first. None if nothing, or nothing right, is known of it.
    pub(super) fn of(&self, digest: &Digest, size: u64) -> Vec<Digest> {
        if size < REMEMBERED_FROM {
            return Vec::new();
        }
        self.read(digest, Steps::of_size(size)).unwrap_or_default()
    }

    fn read(&self, digest: &Digest, steps: usize) -> Option<Vec<Digest>> {
        let mut file = self.cache()?.get(digest)?;
        let length = MAGIC.len() + (1 + steps + 1) * DIGEST;
        if file.metadata().ok()?.len() != length as u64 {
            return None;
        }
        let mut record = vec![0; length];
        file.read_exact(&mut record).ok()?;
        decode(&record, digest)
    }

    /// Remembers a content that was hashed. A failure is not an error, because it is only a cache.
    pub(super) fn remember(&self, hashed: &Hashed) {
        let Hashed { digest, size, steps } = hashed;
        let is_whole = steps.count() == Steps::of_size(*size);
        if *size < REMEMBERED_FROM || !is_whole || self.read(digest, steps.count()).is_some() {
            return;
        }
        if let Some(cache) = self.cache() {
            let record = encode(digest, &steps.digests());
            let write = |file: &mut std::fs::File| {
                file.write_all(&record).map_err(|e| Error::io("write to the cache in", cache.path(), e))
            };
            let _: Result<()> = cache.put(digest, &mut { write });
        }
    }
}

/// The record of a content.
fn encode(digest: &Digest, beginnings: &[Digest]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&digest.0);
    beginnings.iter().for_each(|beginning| out.extend_from_slice(&beginning.0));
    let sum = Digest::of(&out);
    out.extend_from_slice(&sum.0);
    out
}

/// The digests in a record, if it is right and of this content.
fn decode(record: &[u8], digest: &Digest) -> Option<Vec<Digest>> {
    let (bytes, sum) = record.split_last_chunk::<DIGEST>()?;
    let rest = bytes.strip_prefix(MAGIC)?.strip_prefix(&digest.0)?;
    let (beginnings, rest) = rest.as_chunks::<DIGEST>();
    let is_right = rest.is_empty() && Digest::of(bytes).0 == *sum;
    is_right.then(|| beginnings.iter().map(|beginning| Digest(*beginning)).collect())
}

const _: () = assert!(REMEMBERED_FROM >= STEP as u64);

#[cfg(test)]
mod tests {
    use super::super::step_hasher::StepHasher;
    use super::*;
    use crate::objects::tests::{files, overwrite, random_bytes};

    fn hashed(bytes: &[u8]) -> Hashed {
        let mut hasher = StepHasher::default();
        bytes.chunks(STEP).for_each(|step| hasher.add(step));
        hasher.finish()
    }

    /// The file of the only record.
    fn record(dir: &Path) -> PathBuf {
        let is_prefix = |path: &PathBuf| path.file_name().is_some_and(|name| name.len() == 2);
        let found: Vec<_> = files(dir).iter().filter(|path| is_prefix(path)).flat_map(|dir| files(dir)).collect();
        assert_eq!(found.len(), 1);
        found[0].clone()
    }

    #[test]
    fn what_is_remembered_is_found_by_the_content_alone() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("beginnings");
        let bytes = random_bytes(1, REMEMBERED_FROM as usize + STEP + 7);
        let content = hashed(&bytes);
        Beginnings::in_directory(&dir).remember(&content);
        let again = Beginnings::in_directory(&dir);
        let found = again.of(&content.digest, content.size);
        assert_eq!(found.len(), 17);
        assert_eq!((found[0], found[16]), (Digest::of(&bytes[..STEP]), Digest::of(&bytes[..17 * STEP])));
        // Another size, another content, a small one, and no directory.
        assert!(again.of(&content.digest, content.size + STEP as u64).is_empty());
        assert!(again.of(&Digest::of(b"another"), content.size).is_empty());
        let small = hashed(&bytes[..STEP]);
        again.remember(&small);
        assert!(again.of(&small.digest, small.size).is_empty());
        record(&dir);
        assert!(Beginnings { dir: None, cache: OnceLock::new() }.of(&content.digest, content.size).is_empty());
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(again.of(&content.digest, content.size).is_empty());
        again.remember(&content);
    }

    #[test]
    fn a_record_that_is_changed_anywhere_cut_or_of_another_content_is_not_used_and_is_written_again() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("beginnings");
        let content = hashed(&random_bytes(2, REMEMBERED_FROM as usize));
        let beginnings = Beginnings::in_directory(&dir);
        beginnings.remember(&content);
        let (path, known) = (record(&dir), beginnings.of(&content.digest, content.size));
        let right = std::fs::read(&path).unwrap();
        let mut wrong: Vec<Vec<u8>> = vec![Vec::new(), right[1..].to_vec(), right[..right.len() - DIGEST].to_vec()];
        for at in (0..right.len()).step_by(13).chain([right.len() - 1]) {
            let mut flipped = right.clone();
            flipped[at] ^= 1;
            wrong.push(flipped);
        }
        wrong.push(vec![0; right.len()]);
        wrong.push(encode(&Digest::of(b"another"), &known));
        for bytes in wrong {
            overwrite(&path, &bytes);
            assert!(beginnings.of(&content.digest, content.size).is_empty());
        }
        beginnings.remember(&content);
        assert_eq!(beginnings.of(&content.digest, content.size), known);
    }

    #[test]
    fn records_in_a_directory_that_every_user_may_write_to_are_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let tmp = tempfile::tempdir().unwrap();
        let content = hashed(&random_bytes(3, REMEMBERED_FROM as usize));
        Beginnings::in_directory(tmp.path()).remember(&content);
        let known = || Beginnings::in_directory(tmp.path()).of(&content.digest, content.size);
        assert_eq!(known().len(), 16);
        std::fs::set_permissions(tmp.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(known().is_empty());
    }
}
