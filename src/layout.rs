//! Every path of FORMAT.md, in one place.

use crate::types::{AliasName, ArtifactName, Digest, DistributedId, RunId, Token, VersionNumber};
use std::path::{Path, PathBuf};

/// The prefix of the name of a file that a `get` has not finished, or of the last part of a directory's name.
const UNFINISHED: &str = ".cairn-";

/// The name of a file or symlink of a checkout until it is complete.
pub fn unfinished_name(token: &Token) -> String {
    format!("{UNFINISHED}{token}")
}

/// The name of the directory in which a checkout to the new directory `name` is built; `id` is hexadecimal.
pub fn unfinished_directory(name: &[u8], id: &str) -> Vec<u8> {
    [b".", &name[..name.len().min(200)], UNFINISHED.as_bytes(), id.as_bytes()].concat()
}

/// Whether a `get` that was killed leaves this name in a directory: `.cairn-` and 32 hexadecimal digits for a file or
/// symlink, `.NAME.cairn-` and 16 or 32 digits for a directory. A put does not publish it.
pub fn is_unfinished(name: &[u8], is_dir: bool) -> bool {
    let marker = UNFINISHED.as_bytes();
    let Some(at) = name.windows(marker.len()).rposition(|w| w == marker) else { return false };
    let digits = &name[at + marker.len()..];
    let hexadecimal = digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    hexadecimal
        && if is_dir {
            at > 0 && name[0] == b'.' && matches!(digits.len(), 16 | 32)
        } else {
            at == 0 && digits.len() == 32
        }
}

/// The paths of one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

/// The directory of the reserve. It may be missing.
pub const RESERVE: &str = "reserve";

/// The directories that every new store has.
pub const DIRECTORIES: [&str; 10] =
    ["objects", "packs", "index", "artifacts", "work", "pins", "locks", "staging", "trash", "damaged"];

impl Layout {
    /// The layout of the store at `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Layout { root: root.into() }
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The format version and features.
    pub fn config(&self) -> PathBuf {
        self.root.join("cairn.json")
    }

    /// The number of a change of `cairn.json`.
    pub fn config_change(&self, number: u64) -> PathBuf {
        self.root.join(format!("cairn.json.{number:06}"))
    }

    /// The number that [`Layout::config_change`] gave a name.
    pub fn parse_config_change(name: &str) -> Option<u64> {
        let digits = name.strip_prefix("cairn.json.")?;
        let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
        (number > 0 && format!("{number:06}") == digits).then_some(number)
    }

    /// Large blobs.
    pub fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    /// The directory that holds the object `digest`.
    pub fn object_dir(&self, digest: &Digest) -> PathBuf {
        self.objects().join(&digest.hex()[..2])
    }

    /// One large blob.
    pub fn object(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.objects().join(&hex[..2]).join(&hex[2..])
    }

    /// Packs of small blobs and nodes.
    pub fn packs(&self) -> PathBuf {
        self.root.join("packs")
    }

    /// One pack by its name's digest.
    pub fn pack(&self, name: &Digest) -> PathBuf {
        self.packs().join(name.hex())
    }

    /// The cache over the packs' footers.
    pub fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    /// The list of known damage: an empty file for each damaged object, pack or packed blob.
    pub fn damaged(&self) -> PathBuf {
        self.root.join("damaged")
    }

    /// What `gc` moved and has not freed. Each entry is a batch with `object-HEX` and `pack-HEX` in it.
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// An object in a batch of the trash.
    pub fn trashed_object(&self, batch: &std::ffi::OsStr, digest: &Digest) -> PathBuf {
        self.trash().join(batch).join(format!("object-{digest}"))
    }

    /// A pack in a batch of the trash.
    pub fn trashed_pack(&self, batch: &std::ffi::OsStr, name: &Digest) -> PathBuf {
        self.trash().join(batch).join(format!("pack-{name}"))
    }

    /// The files that hold space for removals and collections on a full disk.
    pub fn reserve(&self) -> PathBuf {
        self.root.join(RESERVE)
    }

    /// The highest numbers that the last garbage collection saw.
    pub fn gc_history(&self) -> PathBuf {
        self.root.join("gc.json")
    }

    /// Tokens at work.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// One token's directory.
    pub fn token(&self, token: &Token) -> PathBuf {
        self.work().join(token.as_str())
    }

    /// A token's outcome: `commit` or `fenced`, whichever was written first.
    pub fn outcome(&self, token: &Token) -> PathBuf {
        self.token(token).join("outcome")
    }

    /// A symlink whose text is the path of the token's record, from the store's root.
    pub fn token_record(&self, token: &Token) -> PathBuf {
        self.token(token).join("record")
    }

    /// A version that a token relies on, the `n`-th: `NAME vN`.
    pub fn token_base(&self, token: &Token, n: usize) -> PathBuf {
        self.token(token).join(format!("base-{n}"))
    }

    /// Lock files.
    pub fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    /// The lock file of a token.
    pub fn lock(&self, token: &Token) -> PathBuf {
        self.locks().join(token.as_str())
    }

    /// Files being written through staging mounts.
    pub fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    /// One stage's files.
    pub fn stage(&self, token: &Token) -> PathBuf {
        self.staging().join(token.as_str())
    }

    /// The record that names a stage's run.
    pub fn stage_record(&self, token: &Token) -> PathBuf {
        self.staging().join(format!("{token}.json"))
    }

    /// The marker that a stage is being sealed.
    pub fn stage_sealing(&self, token: &Token) -> PathBuf {
        self.staging().join(format!("{token}.sealing"))
    }

    /// The prefix of copies that are made while a stage is sealed.
    pub fn stage_copies(&self, token: &Token) -> PathBuf {
        self.staging().join(format!("{token}.own-"))
    }

    /// The marker of the `number`th process that held a stage.
    pub fn stage_holder(&self, token: &Token, number: u64) -> PathBuf {
        self.staging().join(format!("{token}.holder-{number}"))
    }

    /// Where removed files of a stage stay while they are open, on a shared disk.
    pub fn stage_gone(&self, token: &Token) -> PathBuf {
        self.staging().join(format!("{token}.gone"))
    }

    /// The record of where a stage is mounted, on the host of its holder.
    pub fn stage_mount(&self, token: &Token) -> PathBuf {
        self.staging().join(format!("{token}.mount"))
    }

    /// Pins of versions in use.
    pub fn pins(&self) -> PathBuf {
        self.root.join("pins")
    }

    /// One holder of pins.
    pub fn pin_holder(&self, token: &Token) -> PathBuf {
        self.pins().join(token.as_str())
    }

    /// All artifacts.
    pub fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    /// One artifact.
    pub fn artifact(&self, name: &ArtifactName) -> PathBuf {
        self.artifacts().join(name.as_str())
    }

    /// An artifact's own record.
    pub fn artifact_record(&self, name: &ArtifactName) -> PathBuf {
        self.artifact(name).join("artifact.json")
    }

    /// An artifact's version numbers and manifest directories.
    pub fn versions(&self, name: &ArtifactName) -> PathBuf {
        self.artifact(name).join("versions")
    }

    /// A version's number.
    pub fn version(&self, name: &ArtifactName, number: VersionNumber) -> PathBuf {
        self.versions(name).join(number.to_string())
    }

    /// Markers of removed versions.
    pub fn removed(&self, name: &ArtifactName) -> PathBuf {
        self.artifact(name).join("removed")
    }

    /// The marks of versions that aliases and collections name.
    pub fn given(&self, name: &ArtifactName) -> PathBuf {
        self.artifact(name).join("given")
    }

    /// All aliases of an artifact.
    pub fn aliases(&self, name: &ArtifactName) -> PathBuf {
        self.artifact(name).join("aliases")
    }

    /// The moves of one alias.
    pub fn alias(&self, name: &ArtifactName, alias: &AliasName) -> PathBuf {
        self.aliases(name).join(alias.file_name())
    }

    /// Changes to one version's description, metadata and tags.
    pub fn notes(&self, name: &ArtifactName, number: VersionNumber) -> PathBuf {
        self.all_notes(name).join(number.to_string())
    }

    /// The notes of all versions of an artifact.
    pub fn all_notes(&self, name: &ArtifactName) -> PathBuf {
        self.artifact(name).join("notes")
    }

    /// The marks of runs that the notes of a version name.
    pub fn noted_runs(&self, name: &ArtifactName, number: VersionNumber) -> PathBuf {
        self.all_noted_runs(name).join(number.to_string())
    }

    /// These marks of all versions of an artifact.
    pub fn all_noted_runs(&self, name: &ArtifactName) -> PathBuf {
        self.artifact(name).join("made")
    }

    /// The records of runs that used a version.
    pub fn uses(&self, name: &ArtifactName, number: VersionNumber) -> PathBuf {
        self.all_uses(name).join(number.to_string())
    }

    /// The uses of all versions of an artifact.
    pub fn all_uses(&self, name: &ArtifactName) -> PathBuf {
        self.artifact(name).join("uses")
    }

    /// The record that `run` used a version.
    pub fn used_by(&self, name: &ArtifactName, number: VersionNumber, run: &RunId) -> PathBuf {
        self.uses(name, number).join(run.file_name())
    }

    /// The drafts of an artifact, also finished ones.
    pub fn drafts(&self, name: &ArtifactName) -> PathBuf {
        self.artifact(name).join("drafts")
    }

    /// One draft.
    pub fn draft(&self, name: &ArtifactName, id: &DistributedId) -> PathBuf {
        self.drafts(name).join(id.file_name())
    }

    /// The contributions to a draft, in order.
    pub fn draft_log(&self, name: &ArtifactName, id: &DistributedId) -> PathBuf {
        self.draft(name, id).join("log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_checkout_leaves_unfinished_is_known_by_its_whole_name() {
        let token = Token::fresh();
        assert!(is_unfinished(unfinished_name(&token).as_bytes(), false));
        assert!(!is_unfinished(unfinished_name(&token).as_bytes(), true));
        for id in [token.as_str(), &token.as_str()[..16]] {
            assert!(is_unfinished(&unfinished_directory(b"out", id), true));
            assert!(!is_unfinished(&unfinished_directory(b"out", id), false));
        }
        for name in [
            ".cairn",
            ".cairn-",
            ".cairn-notes",
            ".cairn-0123",
            "out.cairn-0123456789abcdef",
            ".cairnignore",
            "",
            ".out.cairn-0123456789abcdeX",
        ] {
            assert!(!is_unfinished(name.as_bytes(), false) && !is_unfinished(name.as_bytes(), true), "{name}");
        }
    }
}
