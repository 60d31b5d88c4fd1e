//! Makes a store. `cairn.json` appears last: a directory without it is not a store, so a crash leaves no half-made
//! store. If several processes make a store in the same directory at once, one succeeds: each writes its record, and
//! the claim of `.making` decides which record becomes `cairn.json`.

use super::Store;
use super::config::{Compression, Config, DEFAULT_CACHE_BOUND};
use crate::disk::{self, Access, Created, Disk};
use crate::error::{Error, Result, show_path};
use crate::layout::{DIRECTORIES, Layout, RESERVE};
use crate::objects::{OBJECT_MODE, OBJECT_MTIME};
use crate::record;
use crate::setters::setters;
use crate::types::Token;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The prefix of the files that test the file system.
const PROBE: &str = ".probe-";

/// Options for a new store.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct InitOptions {
    /// All members of this group may write, whatever their umasks.
    pub group: Option<String>,
    /// How many seconds clients of a shared disk may cache directories; 120 by default.
    pub cache_bound_seconds: Option<u64>,
    /// What writers compress.
    pub compression: Compression,
}

setters! {
    InitOptions {
        group: impl Into<String> => Some(group.into()),
        cache_bound_seconds: u64 => Some(cache_bound_seconds),
        compression: Compression => compression,
    }
}

impl Store {
    /// Makes a store at `root`. The directory may be missing or empty. If an earlier `init` was cut off there, this one
    /// completes it with the options of the earlier one.
    ///
    /// # Errors
    /// A conflict, if a store or anything else is there, or if the file system lacks something that the store needs,
    /// which the error names; I/O.
    ///
    /// # Example
    /// ```
    /// let dir = tempfile::tempdir().unwrap();
    /// let store = cairn::Store::init(dir.path().join("s"), &Default::default()).unwrap();
    /// assert!(store.root().join("cairn.json").exists());
    /// ```
    pub fn init(root: impl AsRef<Path>, options: &InitOptions) -> Result<Store> {
        Store::init_at(root.as_ref(), options)
    }

    fn init_at(root: &Path, options: &InitOptions) -> Result<Store> {
        let root = &std::path::absolute(root).map_err(|e| Error::io("find", root, e))?;
        let layout = Layout::new(root);
        if disk::lstat_revalidated(&layout.config())?.is_some() {
            return Err(exists(root));
        }
        let strangers = disk::list_following(root)?.into_iter().find(|n| !n.to_str().is_some_and(is_ours));
        if let Some(name) = strangers {
            if name == "cairn.json" {
                return Err(exists(root)); // another process has just made it
            }
            return Err(Error::conflict(format!(
                "{} is not empty: it has {}",
                show_path(root),
                show_path(Path::new(&name))
            ))
            .with_hint("name a new or an empty directory"));
        }
        options.group.as_deref().map(group_id).transpose()?;
        let parent = root.ancestors().skip(1).find(|p| p.is_dir()).unwrap_or(Path::new("/"));
        let disk = Disk::of(parent, Access::Umask)?;
        disk.create_dirs(root)?;
        let disk = Disk::of(root, Access::of_store(&look_at(root)?, false))?;
        probe(&disk, root)?;
        let bound = options.cache_bound_seconds.unwrap_or(DEFAULT_CACHE_BOUND);
        let config = Config::new(bound, options.group.clone(), options.compression);
        let token = Token::fresh();
        let temp = disk.write_file(root.join(token.record_name()), &record::encode(&config)?)?;
        disk.sync_file(&temp)?;
        let first = claim(&disk, root, &token)?;
        if first == token && disk::lstat_revalidated(&layout.config())?.is_none() {
            if let Err(e) = complete(root, &token) {
                let _ = disk.remove_file(&root.join(MAKING)); // so that the next init can begin anew
                let _ = disk.remove_file(temp.path());
                return Err(e);
            }
            return Store::open(root);
        }
        // Another process came first, a moment ago or long ago. Give it some time. If it doesn't finish, complete its
        // work.
        disk.remove_file(temp.path())?;
        if first == token {
            disk.remove_file(&root.join(MAKING))?;
        } else if !appears(&layout)? {
            complete(root, &first)?;
            let store = Store::open(root)?;
            let options = |config: &Config| (config.cache_bound_seconds, config.group.clone(), config.compression());
            if options(store.config()) == options(&config) {
                return Ok(store);
            }
        }
        Err(exists(root))
    }
}

/// The claim to make the store: a symlink to the record that becomes `cairn.json`. It is removed when the store is
/// complete.
const MAKING: &str = ".making";
/// How long another process has to make the store that it claimed, and how often this one checks for it.
const TIMEOUT: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How often this process tries a claim that exists, as the file system reports, but cannot be read.
const CLAIMS: u32 = 8;

/// Whether an unfinished `init` may have left this name in a directory.
fn is_ours(name: &str) -> bool {
    DIRECTORIES.contains(&name)
        || name == RESERVE
        || name == MAKING
        || name.starts_with(PROBE)
        || Token::from_record_name(name.as_bytes()).is_some()
}

fn exists(root: &Path) -> Error {
    Error::conflict(format!("{} is a store already", show_path(root)))
        .with_hint("nothing was changed; use it with --store")
}

/// Claims to make the store for `token`. Returns the token that holds the claim.
fn claim(disk: &Disk, root: &Path, token: &Token) -> Result<Token> {
    let path = root.join(MAKING);
    for _ in 0..CLAIMS {
        if disk.claim(&token.record_name(), &path)? == Created::New {
            return Ok(token.clone());
        }
        disk::open_parent(&path);
        match disk::read_link(&path)? {
            Some(text) if !text.is_empty() => {
                return Token::from_record_name(&text).ok_or_else(|| {
                    Error::conflict(format!("{} is not what cairn init makes", show_path(&path)))
                        .with_hint("name a new or an empty directory")
                });
            }
            _ => std::thread::sleep(POLL_INTERVAL), // the claim is gone again, or not visible yet
        }
    }
    Err(Error::io_message(format!("{} exists, as the file system reports, but cannot be read", show_path(&path))))
}

/// Waits for the store that another process is making. Returns whether it appeared.
fn appears(layout: &Layout) -> Result<bool> {
    let begun = Instant::now();
    while disk::lstat_revalidated(&layout.config())?.is_none() {
        if begun.elapsed() > TIMEOUT {
            return Ok(false);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(true)
}

/// Makes the store that `token` claimed, as its record says. Several processes may do so at once: the same record
/// becomes `cairn.json`.
fn complete(root: &Path, token: &Token) -> Result<()> {
    let layout = Layout::new(root);
    let temp = root.join(token.record_name());
    let Some(bytes) = disk::read_small(&temp, record::MAX_RECORD)? else {
        if disk::lstat_revalidated(&layout.config())?.is_some() {
            return Ok(()); // another process has completed it
        }
        Disk::of(root, Access::Umask)?.remove_file(&root.join(MAKING))?;
        return Err(Error::conflict(format!(
            "an earlier cairn init in {} was cut off, and its record is gone",
            show_path(root)
        ))
        .with_hint("run the command again"));
    };
    let config: Config = record::decode(&bytes, &show_path(&temp))?;
    let gid = config.group.as_deref().map(group_id).transpose()?;
    let mut meta = look_at(root)?;
    if let Some(gid) = gid {
        let disk = Disk::of(root, Access::Umask)?;
        // New entries inherit the group by the set-group-id bit.
        disk.set_group_and_mode(root, gid, 0o2770 | meta.mode() & 0o005)?;
        meta = look_at(root)?;
        disk.set_group_and_mode(&temp, gid, 0o660 | meta.mode() & 0o004)?;
    }
    let disk = Disk::of(root, Access::of_store(&meta, gid.is_some()))?.with_reserve_in(layout.reserve());
    for name in DIRECTORIES {
        disk.create_dir(&root.join(name))?;
    }
    disk.make_reserve()?;
    let placed = disk.rename(&temp, &layout.config());
    if disk::lstat_revalidated(&layout.config())?.is_none() {
        placed?;
    }
    disk.sync_dir(root)?;
    if let Some(parent) = root.parent() {
        disk.sync_dir(parent)?;
    }
    disk.remove_file(&root.join(MAKING))
}

fn look_at(root: &Path) -> Result<std::fs::Metadata> {
    std::fs::metadata(root).map_err(|e| Error::io("look at", root, e))
}

/// Tests what the store relies on. The error names what is missing.
fn probe(disk: &Disk, root: &Path) -> Result<()> {
    let at = |what: &str| root.join(format!("{PROBE}{what}-{}", Token::fresh()));
    let lacks = |what: &str, e: Error| {
        Error::conflict(format!("the file system of {} cannot hold a store: it lacks {what}", show_path(root)))
            .with_source(e)
            .with_hint("choose a directory on a local disk, NFS, or another POSIX file system")
    };
    let (link, from, to) = (at("link"), at("from"), at("to"));
    let made = disk.claim(".first", &link).map_err(|e| lacks("symlinks", e))?;
    let again = disk.claim(".second", &link).map_err(|e| lacks("symlinks that refuse to replace", e))?;
    let text = std::fs::read_link(&link).map_err(|e| Error::io("read symlink", &link, e))?;
    if (made, again) != (Created::New, Created::Exists) || text != Path::new(".first") {
        return Err(lacks(
            "symlinks that refuse to replace",
            Error::io_message("a second symlink took the name of the first"),
        ));
    }
    let file = disk.write_file(from, b"probe")?;
    disk.sync_file(&file).map_err(|e| lacks("fsync of files", e))?;
    // Large content is kept read-only and with a fixed mtime, so that a change to it shows.
    file.set_mode(OBJECT_MODE).map_err(|e| lacks("permission bits (chmod)", e))?;
    file.set_mtime(OBJECT_MTIME).map_err(|e| lacks("setting of times (utimensat)", e))?;
    disk.rename(file.path(), &to).map_err(|e| lacks("rename", e))?;
    let capitals = to.file_name().map(|n| root.join(n.to_ascii_uppercase()));
    if capitals.map(|c| disk::lstat_revalidated(&c)).transpose()?.flatten().is_some() {
        disk.remove_file(&to)?;
        disk.remove_file(&link)?;
        return Err(lacks(
            "names that differ by case alone",
            Error::io_message("a file was found under its name in capital letters"),
        ));
    }
    let meta = std::fs::symlink_metadata(&to).map_err(|e| Error::io("look at", &to, e))?;
    if meta.mode() & 0o7777 != OBJECT_MODE {
        return Err(lacks(
            "permission bits (chmod)",
            Error::io_message(format!("mode {:o} was set, and it is {:o}", OBJECT_MODE, meta.mode() & 0o7777)),
        ));
    }
    if (meta.mtime(), meta.mtime_nsec()) != (OBJECT_MTIME, 0) {
        let found = format!(
            "the time was set to {OBJECT_MTIME} seconds after 1970, and it is {}.{:09}",
            meta.mtime(),
            meta.mtime_nsec()
        );
        return Err(lacks("setting of times (utimensat)", Error::io_message(found)));
    }
    disk.sync_dir(root).map_err(|e| lacks("fsync of directories", e))?;
    disk.remove_file(&to)?;
    disk.remove_file(&link)
}

/// A group's number from its name or number.
pub(crate) fn group_id(name: &str) -> Result<u32> {
    disk::group_id(name).ok_or_else(|| {
        Error::usage(format!("there is no group `{name}` on this machine"))
            .with_hint("`getent group` lists them; a number works too")
    })
}
