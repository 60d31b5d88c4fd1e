//! Records: those that are missing or damaged behind a number, lost numbers, and `artifact.json`.
//!
//! A record's name is its token, which is used once. So a record with the same path in another store, and a right
//! checksum, is the lost one.

use super::lost_numbers;
use crate::catalog::artifact::{self, ArtifactRecord};
use crate::catalog::manifest_file::ManifestFile;
use crate::catalog::{numbers, version};
use crate::error::{Kind, Result};
use crate::store::Store;
use crate::txn::claim;
use crate::types::{ArtifactName, Token, VersionNumber};
use crate::{disk, record};
use std::path::{Path, PathBuf};

/// The longest file that is taken over.
const MAX_LEN: u64 = 16 << 20;

struct RecordRepair<'a> {
    store: &'a Store,
    others: &'a [Store],
    /// For temporary files.
    dir: &'a Path,
    done: u64,
}

/// Writes records again, as far as they are elsewhere. Returns how many.
///
/// # Errors
/// I/O.
pub(super) fn repair(store: &Store, others: &[Store], dir: &Path) -> Result<u64> {
    let mut repair = RecordRepair { store, others, dir, done: 0 };
    for entry in disk::list(&store.layout().artifacts())? {
        let Some(name) = entry.to_str().and_then(|n| ArtifactName::parse(n).ok()) else { continue };
        let at = store.layout().artifact(&name);
        if disk::lstat(&at)?.is_some_and(|meta| meta.is_dir()) {
            repair.artifact(&name)?;
        }
    }
    Ok(repair.done)
}

impl RecordRepair<'_> {
    fn artifact(&mut self, name: &ArtifactName) -> Result<()> {
        if self.others.is_empty() {
            self.done += lost_numbers::repair(self.store, name)?;
            return self.own_record(name); // everything else comes from other stores
        }
        let layout = self.store.layout();
        self.numbers(&layout.versions(name), true)?;
        self.numbers(&layout.removed(name), false)?;
        for parent in ["aliases", "notes"] {
            let dir = layout.artifact(name).join(parent);
            for entry in list(&dir)? {
                self.numbers(&dir.join(entry), false)?;
            }
        }
        let uses = layout.all_uses(name);
        for entry in list(&uses)? {
            self.uses(&uses.join(entry))?;
        }
        for entry in list(&layout.drafts(name))? {
            self.numbers(&layout.drafts(name).join(entry).join("log"), false)?;
        }
        // After those that a copy of this store has.
        self.done += lost_numbers::repair(self.store, name)?;
        self.own_record(name)
    }

    /// The records of the runs that used a version.
    fn uses(&mut self, dir: &Path) -> Result<()> {
        for run in list(dir)?.iter().filter(|run| !run.as_encoded_bytes().starts_with(b".")) {
            if let Ok(Some(token)) = claim::holder(&dir.join(run)) {
                self.record(&dir.join(token.record_name()), false)?;
            }
        }
        Ok(())
    }

    /// The numbers in a directory, and their records.
    fn numbers(&mut self, dir: &Path, versions: bool) -> Result<()> {
        let mut all: Vec<u64> = Vec::new();
        for entry in list(dir)? {
            let Some(text) = entry.to_str() else { continue };
            let number = VersionNumber::of_text(text).map(|v| v.0).or_else(|| numbers::parse_record(text));
            let Some(number) = number else { continue };
            all.push(number);
            if let Ok(Some(token)) = claim::holder(&dir.join(text)) {
                self.record(&dir.join(token.record_name()), versions)?;
            }
        }
        let name = |n: u64| if versions { VersionNumber(n).to_string() } else { numbers::record_name(n) };
        all.sort_unstable();
        let is_log = versions || all.first().is_some_and(|n| dir.join(numbers::record_name(*n)).is_symlink());
        let missing =
            (u64::from(!versions)..all.last().copied().unwrap_or(0)).filter(|n| all.binary_search(n).is_err());
        for number in missing.filter(|_| is_log) {
            self.number(dir, &name(number), versions)?;
        }
        Ok(())
    }

    /// A number that is lost here, from a copy of this store.
    fn number(&mut self, dir: &Path, name: &str, versions: bool) -> Result<()> {
        for other in self.others.iter().filter(|other| other.config().store_id == self.store.config().store_id) {
            let Some(there) = self.in_other(other, dir) else { continue };
            let Ok(Some(token)) = claim::holder(&there.join(name)) else { continue };
            self.record(&dir.join(token.record_name()), versions)?;
            if disk::lstat(&dir.join(token.record_name()))?.is_some() {
                claim::claim(self.store, &dir.join(name), &token)?;
                self.store.disk().sync_dir(dir)?;
                self.done += 1;
                return Ok(());
            }
        }
        Ok(())
    }

    /// The record behind a number: one file, or a version's two.
    fn record(&mut self, path: &Path, is_version: bool) -> Result<()> {
        if !is_version {
            return self.file(path, &is_right_record);
        }
        if disk::lstat(path)?.is_none()
            && self.others.iter().any(|o| self.in_other(o, path).is_some_and(|p| p.is_dir()))
        {
            self.store.disk().create_dir(path)?;
        }
        self.file(&path.join("version.json"), &is_right_record)?;
        let is_right = |store: &Store, path: &Path| ManifestFile::read(path, store.objects()).is_ok();
        self.file(&path.join("manifest"), &is_right)
    }

    /// A file that is missing or damaged, from a store that has it right.
    fn file(&mut self, path: &Path, is_right: &dyn Fn(&Store, &Path) -> bool) -> Result<()> {
        if is_right(self.store, path) {
            return Ok(());
        }
        for other in self.others {
            let Some(there) = self.in_other(other, path).filter(|there| is_right(other, there)) else { continue };
            if let Ok(Some(bytes)) = disk::read_small(&there, MAX_LEN) {
                self.replace(path, &bytes)?;
                return Ok(());
            }
        }
        Ok(())
    }

    fn in_other(&self, other: &Store, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(self.store.root()).ok().map(|rest| other.root().join(rest))
    }

    /// Replaces a damaged file: the right bytes are durable before they get its name.
    fn replace(&mut self, path: &Path, bytes: &[u8]) -> Result<()> {
        let disk = self.store.disk();
        let file = disk.write_file(self.dir.join(format!("record-{}", self.done)), bytes)?;
        disk.sync_file(&file)?;
        disk.rename(file.path(), path)?;
        disk.sync_dir(path.parent().unwrap_or(path))?;
        self.done += 1;
        Ok(())
    }

    /// `artifact.json`: from another store, or from the records of the artifact's versions, which have its name and
    /// type. The time of its creation is then that of its first readable version.
    fn own_record(&mut self, name: &ArtifactName) -> Result<()> {
        let link = self.store.layout().artifact_record(name);
        let token = claim::holder(&link);
        if let Ok(Some(token)) = &token {
            self.record(&self.store.layout().artifact(name).join(token.record_name()), false)?;
        }
        match artifact::find(self.store, name) {
            Err(e) if e.kind() == Kind::Damaged => {}
            Ok(None) if artifact::has_versions(self.store, name)? => {}
            _ => return Ok(()),
        }
        let first = version::each(self.store, name)?.into_iter().find_map(|(_, version)| version.ok());
        let Some(first) = first else { return Ok(()) };
        let (kind, created_at) = (first.record().kind.clone(), first.record().created_at.clone());
        let bytes = record::encode(&ArtifactRecord { artifact: name.clone(), kind, created_at })?;
        let dir = self.store.layout().artifact(name);
        match token {
            Ok(Some(token)) => self.replace(&dir.join(token.record_name()), &bytes),
            Ok(None) => {
                let token = Token::fresh();
                self.replace(&dir.join(token.record_name()), &bytes)?;
                claim::claim(self.store, &link, &token)?;
                self.store.disk().sync_dir(&dir)
            }
            Err(_) => Ok(()), // the symlink itself is damaged: not replaced
        }
    }
}

/// Whether a record is whole and belongs to the token in its path.
fn is_right_record(_: &Store, path: &Path) -> bool {
    let Ok(found) = claim::read_record::<serde_json::Value>(path) else { return false };
    let named =
        |name: Option<&std::ffi::OsStr>| name.and_then(|n| n.to_str()).map(|n| n.trim_start_matches('.').to_owned());
    match found.get("token").and_then(|t| t.as_str()) {
        Some(token) => {
            let own = named(path.file_name());
            let above = named(path.parent().and_then(Path::file_name));
            [own, above].iter().flatten().any(|name| name == token)
        }
        None => true,
    }
}

/// The names in a directory; none if it cannot be listed.
fn list(dir: &Path) -> Result<Vec<std::ffi::OsString>> {
    match disk::list(dir) {
        Err(e) if e.is_loss() => Ok(Vec::new()),
        names => names,
    }
}
