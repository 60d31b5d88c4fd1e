//! Paths of a version's files on this host's disk, for programs that take a path: without a mount, and without a copy
//! of large files.
//!
//! Objects have no names that such programs know. So a path is in the user's cache directory:
//! `files/STORE/DIGEST/NAME`, where NAME is the file's own. For a large file it is a symlink to the object, for a small
//! or composed one a copy, which is compared with the store's content each time it is given.

use crate::cache::cache_directory;
use crate::catalog::{Version, removal};
use crate::disk::{self, Access, Created, Disk};
use crate::error::{Error, Result};
use crate::lock::Purpose;
use crate::manifest::{Entry, Tree};
use crate::objects::{ComposedFile, Content};
use crate::pins::Pins;
use crate::types::{Digest, RelPath, Token};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The mode of the directory that has the copies: they are for the user alone, as the store may be.
const PRIVATE: u32 = 0o700;
const COPY_MODE: u32 = 0o444;
/// Bytes of composed content that are copied at once.
const COPIED_AT_ONCE: usize = 1 << 20;

/// Gives paths of a version's files, and holds a pin on the version until it is dropped: `gc` frees nothing of it, also
/// if it is removed. A user who may only read the store holds no pin.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
/// use cairn::view::LocalFiles;
///
/// let mut model = cairn::Artifact::new("model", None)?;
/// model.add_bytes("weights/model.bin", vec![7; 1 << 20])?;
/// let version = model.save(&store)?.version;
/// let files = LocalFiles::in_cache(&version, &dir.path().join("cache"))?;
/// let path = files.path("weights/model.bin")?;
/// assert!(path.ends_with("model.bin"));
/// assert_eq!(std::fs::read(path).unwrap(), vec![7; 1 << 20]);
/// # Ok::<(), cairn::Error>(())
/// ```
#[derive(Debug)]
pub struct LocalFiles {
    version: Version,
    tree: Tree,
    dir: PathBuf,
    disk: Disk,
    _pins: Option<Pins>,
}

impl LocalFiles {
    /// Pins a version. The paths will be in the user's cache directory: `$CAIRN_CACHE_DIR`, `$XDG_CACHE_HOME/cairn` or
    /// `~/.cache/cairn`.
    ///
    /// # Errors
    /// Not found: it is removed. Usage: there is no cache directory. Damaged; I/O.
    pub fn of(version: &Version) -> Result<LocalFiles> {
        LocalFiles::in_cache(version, &cache_directory().ok_or_else(no_cache)?)
    }

    /// Pins a version. The paths will be in the directory `cache`.
    ///
    /// # Errors
    /// Not found: it is removed. Damaged; I/O.
    pub fn in_cache(version: &Version, cache: &Path) -> Result<LocalFiles> {
        let (store, name, number) = (version.store(), version.artifact(), version.number());
        let purpose = Purpose {
            purpose: "reader",
            artifact: Some(name.as_str()),
            version: Some(number.to_string()),
            ..Purpose::default()
        };
        let pins = Pins::hold(store, &purpose).and_then(|pins| pins.pin(name, number).map(|()| pins)).ok();
        // Checked after pinning: so either this check sees the removal, or the remover sees the pin.
        if removal::is_removed(store, name, number)? {
            return Err(Error::not_found(format!("{version} was removed a moment ago")));
        }
        let disk = Disk::of(cache.ancestors().find(|d| d.is_dir()).unwrap_or(Path::new("/")), Access::Umask)?;
        disk.create_dirs(cache)?;
        let private = cache.join("files");
        if disk.create_dir(&private)? == Created::New {
            disk.set_mode(&private, PRIVATE)?;
        }
        // A copy of a store has the same id.
        let key = [store.config().store_id.as_bytes(), store.root().as_os_str().as_bytes()].join(&0);
        let dir = private.join(&Digest::of(&key).hex()[..32]);
        Ok(LocalFiles { tree: version.tree()?, version: version.clone(), dir, disk, _pins: pins })
    }

    /// The path of the file at `path` in the version, checked as a read is. The file is read-only, also for the caller.
    ///
    /// # Errors
    /// Not found; usage: no file. Damaged; I/O.
    pub fn path(&self, path: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = RelPath::parse(path.as_ref())?;
        let entry = match self.tree.lookup(&path)? {
            Some(found) => found.entry,
            None => self.version.entry(&path)?, // it has the right error
        };
        let content = self.version.content(&path, &entry)?;
        let Entry::File { digest, .. } = entry else { return Err(Error::usage(format!("{path} is not a file"))) };
        let dir = self.dir.join(digest.hex());
        self.disk.create_dirs(&dir)?;
        let local = dir.join(OsStr::from_bytes(path.name()));
        match content {
            Content::Large(object) => self.link(object.path(), &local)?,
            Content::Small(bytes) => self.copy(&bytes, &local)?,
            Content::Composed(composed) => self.copy_parts(&composed, &local)?,
        }
        Ok(local)
    }

    /// Makes `local` a link to an object, unless it is one.
    fn link(&self, object: &Path, local: &Path) -> Result<()> {
        if std::fs::read_link(local).is_ok_and(|target| target == object) {
            return Ok(());
        }
        let new = temporary(local);
        self.disk.symlink(object.as_os_str().as_bytes(), &new)?;
        self.disk.rename(&new, local)
    }

    /// Makes `local` a copy of composed content, unless it is one.
    fn copy_parts(&self, composed: &ComposedFile, local: &Path) -> Result<()> {
        let mut buffer = vec![0; COPIED_AT_ONCE];
        let mut each_part = |take: &mut dyn FnMut(&[u8], u64) -> Result<bool>| {
            let mut at = 0;
            while at < composed.size() {
                let n =
                    composed.read_at(&mut buffer, at).map_err(|e| Error::io("copy parts of content to", local, e))?;
                if !take(&buffer[..n], at)? {
                    return Ok(false);
                }
                at += n as u64;
            }
            Ok(true)
        };
        if let Some((file, meta)) = disk::open_file(local)?.filter(|(_, meta)| meta.len() == composed.size()) {
            let mut found = vec![0; COPIED_AT_ONCE.min(meta.len() as usize)];
            let is_equal = each_part(&mut |bytes, at| {
                let n = disk::read_full_at(&file, &mut found[..bytes.len()], at);
                Ok(n.map_err(|e| Error::io("read", local, e))? == bytes.len() && found[..bytes.len()] == *bytes)
            });
            if is_equal? {
                return Ok(());
            }
        }
        let mut copy = self.disk.create_file(temporary(local))?;
        each_part(&mut |bytes, _| copy.write_all(bytes).map(|()| true))?;
        copy.set_mode(COPY_MODE)?;
        self.disk.rename(copy.path(), local)
    }

    /// Makes `local` a copy of content, unless it is one.
    fn copy(&self, bytes: &[u8], local: &Path) -> Result<()> {
        let is_file = disk::lstat(local)?.is_some_and(|meta| meta.is_file() && meta.len() == bytes.len() as u64);
        if is_file && std::fs::read(local).is_ok_and(|found| found == bytes) {
            return Ok(());
        }
        let mut copy = self.disk.create_file(temporary(local))?;
        copy.write_all(bytes)?;
        copy.set_mode(COPY_MODE)?;
        self.disk.rename(copy.path(), local)
    }
}

/// A new name in the same directory.
fn temporary(local: &Path) -> PathBuf {
    local.with_file_name(format!(".{}", Token::fresh()))
}

fn no_cache() -> Error {
    Error::usage("paths of files need a cache directory, and there is none")
        .with_hint("set CAIRN_CACHE_DIR, XDG_CACHE_HOME or HOME")
}
