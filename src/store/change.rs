//! Changes of `cairn.json`, in one order: each is made on top of the one before, also if several processes make one at
//! once. See FORMAT.md, "Changing the configuration".
//!
//! The new file is written as `.T`. The claim of the next number (`cairn.json.000001`, a symlink to `.T`) makes it the
//! pending change, and a rename to `cairn.json` completes it. Any process may complete a pending change. A number is
//! claimed only after the change before it was completed, so a change is always made to what is in place. A helper that
//! comes late finds no `.T` and changes nothing.

use super::config::Config;
use crate::disk::{self, Created, Disk};
use crate::error::{Error, Result, show_path};
use crate::layout::Layout;
use crate::record;
use crate::types::Token;
use serde_json::{Map, Value};
use std::path::Path;
use std::time::Duration;

/// How often the change is tried while other processes make theirs.
const MAX_TRIES: u32 = 64;
/// How often a number that reads empty is read again, and the wait before that; the n-th is n times as long.
const READS: u32 = 8;
const READ_INTERVAL: Duration = Duration::from_millis(20);

impl Config {
    /// Applies `edit` to the fields of `cairn.json`, and returns when what `edit` makes of them is durable. Fields that
    /// this release does not know stay.
    ///
    /// # Errors
    /// Those of `edit`; damaged; a conflict; I/O.
    pub(crate) fn change(
        layout: &Layout,
        disk: &Disk,
        edit: &dyn Fn(&mut Map<String, Value>) -> Result<()>,
    ) -> Result<()> {
        for _ in 0..MAX_TRIES {
            let last = last_change(layout)?;
            complete(layout, disk, last)?;
            let before = fields(layout)?;
            let mut after = before.clone();
            edit(&mut after)?;
            if after == before {
                return disk.sync_dir(layout.root()); // it may have been renamed a moment ago, and not be durable
            }
            let token = Token::fresh();
            let temp = disk.write_file(layout.root().join(token.record_name()), &record::encode(&after)?)?;
            disk.sync_file(&temp)?;
            match disk.claim(&token.record_name(), &layout.config_change(last + 1)) {
                Ok(Created::New) => complete(layout, disk, last + 1)?,
                // If a reply was lost and the number is this change's after all, it is a change to nothing now.
                Ok(Created::Exists) => disk.remove_file(temp.path())?,
                Err(e) => {
                    let _: Result<()> = disk.remove_file(temp.path());
                    return Err(e);
                }
            }
        }
        Err(Error::conflict(format!("other processes change {}", show_path(&layout.config())))
            .with_hint("run the command again"))
    }
}

/// The fields of `cairn.json` as it is now, without the checksum.
fn fields(layout: &Layout) -> Result<Map<String, Value>> {
    let path = layout.config();
    disk::open_parent(&path); // another host may have replaced it a moment ago
    let bytes = disk::read_small(&path, record::MAX_RECORD)?
        .ok_or_else(|| Error::damaged(format!("{} is gone", show_path(&path))))?;
    let mut fields: Map<String, Value> = record::decode(&bytes, &show_path(&path))?;
    fields.remove("sha256");
    Ok(fields)
}

/// The highest number of a change; 0 if there was none.
fn last_change(layout: &Layout) -> Result<u64> {
    let names = disk::list(layout.root())?;
    Ok(names.iter().filter_map(|name| Layout::parse_config_change(name.to_str()?)).max().unwrap_or(0))
}

/// Completes a change, unless that was done.
fn complete(layout: &Layout, disk: &Disk, number: u64) -> Result<()> {
    if number == 0 {
        return Ok(());
    }
    let temp = layout.root().join(holder(&layout.config_change(number))?.record_name());
    if disk::lstat_revalidated(&temp)?.is_none() {
        return Ok(());
    }
    match disk.rename(&temp, &layout.config()) {
        Err(e) if e.errno() == Some(libc::ENOENT) => Ok(()), // another process was faster
        renamed => renamed.and_then(|()| disk.sync_dir(layout.root())),
    }
}

/// The token of a change.
fn holder(number: &Path) -> Result<Token> {
    for read in 0..READS {
        disk::open_parent(number);
        match disk::read_link(number)? {
            Some(text) if !text.is_empty() => {
                return Token::from_record_name(&text)
                    .ok_or_else(|| Error::damaged(format!("{} is not a link to a record", show_path(number))));
            }
            // It was listed: on some file systems a new symlink is missing or empty for a moment.
            _ => std::thread::sleep(READ_INTERVAL * read),
        }
    }
    Err(Error::damaged(format!("{} cannot be read", show_path(number))))
}
