//! Making a store. `cairn.json` is written last: without it a directory is no store, so a crash leaves none.

use super::Store;
use super::config::{Config, DEFAULT_CACHE_BOUND};
use crate::disk::{self, Access, Created, Disk};
use crate::error::{Error, Result, show_path};
use crate::layout::{DIRECTORIES, Layout};
use crate::record;
use crate::words::Token;
use std::path::Path;

/// How a store is made.
#[derive(Clone, Debug, Default)]
pub struct InitOptions {
    /// All of this group may write, whatever their umasks.
    pub group: Option<String>,
    /// How long clients of a shared disk may cache, in seconds; 120 unless set.
    pub cache_bound_seconds: Option<u64>,
}

impl Store {
    /// Makes a store at `root`, a directory that is missing, empty, or a store whose making was cut off.
    ///
    /// # Errors
    /// Refused when a store or anything else is there, or when the file system lacks what the store needs, naming it; I/O.
    ///
    /// # Example
    /// ```
    /// let dir = tempfile::tempdir().unwrap();
    /// let store = cairn::Store::init(&dir.path().join("s"), &Default::default()).unwrap();
    /// assert!(store.root().join("cairn.json").exists());
    /// ```
    pub fn init(root: &Path, options: &InitOptions) -> Result<Store> {
        let root = &std::path::absolute(root).map_err(|e| Error::io("find", root, e))?;
        let layout = Layout::new(root);
        if disk::look(&layout.config())?.is_some() {
            return Err(Error::refused(format!("{} is a store already", show_path(root))).hint("nothing was changed; use it with --store"));
        }
        let strangers = disk::list(root)?.into_iter().find(|n| !n.to_str().is_some_and(|n| DIRECTORIES.contains(&n) || n.starts_with(".probe-")));
        if let Some(name) = strangers {
            return Err(Error::refused(format!("{} is not empty: it has {}", show_path(root), show_path(Path::new(&name)))).hint("name a new or an empty directory"));
        }
        let gid = options.group.as_deref().map(group_id).transpose()?;
        let parent = root.ancestors().skip(1).find(|p| p.is_dir()).unwrap_or(Path::new("/"));
        let access = if gid.is_some() { Access::Group } else { Access::Umask };
        let disk = Disk::of(parent, access)?;
        disk.create_dirs(root)?;
        if let Some(gid) = gid {
            std::os::unix::fs::chown(root, None, Some(gid)).map_err(|e| Error::io("give to the group", root, e))?;
            disk.set_mode(root, 0o2775)?; // chown cleared the set-group-id bit that makes the group go down
        }
        probe(&disk, root)?;
        for name in DIRECTORIES {
            disk.create_dir(&root.join(name))?;
        }
        let config = Config::new(options.cache_bound_seconds.unwrap_or(DEFAULT_CACHE_BOUND), options.group.clone());
        let temp = disk.write_file(root.join(format!(".probe-{}", Token::fresh())), &record::encode(&config)?)?;
        disk.sync_file(&temp)?;
        disk.rename(temp.path(), &layout.config())?;
        disk.sync_dir(root)?;
        if let Some(parent) = root.parent() {
            disk.sync_dir(parent)?;
        }
        Store::open(root)
    }
}

/// Tries what the store will rely on, and names what is missing.
fn probe(disk: &Disk, root: &Path) -> Result<()> {
    let at = |what: &str| root.join(format!(".probe-{what}-{}", Token::fresh()));
    let lacks = |what: &str, e: Error| {
        Error::refused(format!("the file system of {} cannot hold a store: it lacks {what}", show_path(root)))
            .because(e)
            .hint("choose a directory on a local disk, NFS, or another POSIX file system")
    };
    let (link, from, to) = (at("link"), at("from"), at("to"));
    let made = disk.claim(".first", &link).map_err(|e| lacks("symlinks", e))?;
    let again = disk.claim(".second", &link).map_err(|e| lacks("symlinks that refuse to replace", e))?;
    let text = std::fs::read_link(&link).map_err(|e| Error::io("read symlink", &link, e))?;
    if (made, again) != (Created::New, Created::Exists) || text != Path::new(".first") {
        return Err(lacks("symlinks that refuse to replace", Error::io_message("a second symlink took the name of the first")));
    }
    let file = disk.write_file(from, b"probe")?;
    disk.sync_file(&file).map_err(|e| lacks("fsync of files", e))?;
    disk.rename(file.path(), &to).map_err(|e| lacks("rename", e))?;
    disk.sync_dir(root).map_err(|e| lacks("fsync of directories", e))?;
    disk.remove_file(&to)?;
    disk.remove_file(&link)
}

/// A group's number by its name or number.
fn group_id(name: &str) -> Result<u32> {
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    let text = std::fs::read_to_string("/etc/group").map_err(|e| Error::io("read", Path::new("/etc/group"), e))?;
    let gid = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    });
    gid.ok_or_else(|| Error::usage(format!("there is no group `{name}` on this machine")).hint("`getent group` lists them; a number works too"))
}
