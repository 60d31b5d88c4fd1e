//! Removing stages: their files, and the notes next to them.

use crate::catalog::stage::DROPPED;
use crate::disk;
use crate::error::Result;
use crate::store::Store;
use crate::types::Token;
use std::ffi::OsStr;

/// Discards a stage. The marker is changed first, so that if this is interrupted, the remaining files are never sealed
/// as a complete contribution.
pub(super) fn discard_files(store: &Store, token: &Token) -> Result<()> {
    let marker = store.layout().stage_sealing(token);
    store.disk().remove_file(&marker)?; // of a sealer that has ended
    let file = store.disk().write_file(marker, DROPPED)?;
    store.disk().sync_file(&file)?;
    remove(store, token)
}

/// Removes a stage: its files, then its notes.
pub(super) fn remove(store: &Store, token: &Token) -> Result<()> {
    store.disk().remove_tree(&store.layout().stage(token))?;
    clear_notes(store, token)
}

/// Removes the notes of a stage whose files are removed. The record is first, so that after an interruption the rest
/// does not belong to a run.
pub(super) fn clear_notes(store: &Store, token: &Token) -> Result<()> {
    let layout = store.layout();
    store.disk().remove_file(&layout.stage_record(token))?;
    for number in 1.. {
        let path = layout.stage_holder(token, number);
        if disk::lstat(&path)?.is_none() {
            break;
        }
        store.disk().remove_file(&path)?;
    }
    if !store.disk().kind().is_local() {
        // This fails while a file in it is open. The next sweep removes it then.
        let _ = store.disk().remove_tree(&layout.stage_gone(token));
    }
    [layout.stage_mount(token), layout.stage_sealing(token)].iter().try_for_each(|path| store.disk().remove_file(path))
}

/// Removes notes of stages that do not exist any more. A stage's record is made before all its notes.
pub(super) fn sweep(store: &Store) -> Result<()> {
    for name in disk::list(&store.layout().staging())? {
        let Some((token, note)) = name.to_str().and_then(|n| n.split_once('.')) else { continue };
        let Some(token) = Token::of_text(token) else { continue };
        if note == "json" || disk::lstat_revalidated(&store.layout().stage_record(&token))?.is_some() {
            continue;
        }
        let path = store.layout().staging().join(&name);
        if note == "gone" {
            let _ = store.disk().remove_tree(&path); // fails while a file in it is open
        } else {
            store.disk().remove_file(&path)?;
        }
    }
    Ok(())
}

/// Whether an entry of `staging/` is a stage's directory without a record, or does not belong to a stage.
pub(super) fn is_orphan(store: &Store, name: &OsStr) -> Result<bool> {
    let text = name.to_str().unwrap_or_default();
    let Some(token) = Token::of_text(text.split_once('.').map_or(text, |(token, _)| token)) else { return Ok(true) };
    Ok(text == token.as_str() && disk::lstat_revalidated(&store.layout().stage_record(&token))?.is_none())
}
