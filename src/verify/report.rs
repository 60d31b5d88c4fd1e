//! What verify reports: findings with stable codes, and what was checked.

use crate::types::Digest;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Declares the codes with the invariant of FORMAT.md that each one speaks of.
macro_rules! codes {
    ($($name:ident = $text:literal: $doc:literal),* $(,)?) => {
        /// The stable codes of findings. Each begins with the invariant of FORMAT.md that does not hold.
        pub mod code {
            $(#[doc = $doc] pub const $name: &str = $text;)*
            /// Every code, with what it means.
            pub const ALL: &[(&str, &str)] = &[$(($text, $doc)),*];
        }
    };
}

codes! {
    PACK = "F1-pack": "a pack's footer or shape is damaged: its content is not known",
    BLOB = "F1-blob": "packed content or a packed manifest node is damaged",
    OBJECT = "F1-object": "an object's bytes do not match its name",
    TOUCHED = "F1-touched": "an object's time or mode, or a pack's mode, was changed; what was read of it is right",
    UNREADABLE = "F1-unreadable": "a file or directory of the store cannot be read",
    STRANGER = "F1-stranger": "a file where only packs or objects belong",
    NUMBER = "F3-number": "a number's symlink is damaged, or leads to a record of another number",
    GAP = "F4-gap": "a number is missing that was given",
    UNNUMBERED = "F4-unnumbered": "a note: a version's record has no number: a writer left it, or the number is lost",
    VERSION = "F5-version": "a version's own files are missing, damaged or disagree",
    MISSING = "F6-missing": "content that a version names is not in the store",
    NODE = "F6-node": "a manifest node that a version needs is missing, damaged or wrong",
    NO_PACK = "F6-pack": "a pack that a version lists is not in the store, and something that it names is missing",
    UNLISTED = "F16-pack": "a version does not list a pack that has nodes of its manifest: reads use the index",
    CUT = "M10-cut": "a directory's nodes are not divided as FORMAT.md requires: equal content has another digest",
    TOKEN = "F7-token": "a token is at two numbers, or is published although it is fenced",
    RECORD = "F8-record": "a record is damaged, or does not belong where it is",
    ARTIFACT = "F9-artifact": "an artifact's own record is missing or damaged, or has another type than a version",
    ALIAS = "F10-alias": "an alias names a version that does not exist or is removed",
    HINTS = "F11-hints": "location hints are damaged or lead elsewhere: reads use the index",
    STAGE = "F17-stage": "the record or marker of a staging directory is damaged, or belongs to another",
    ACCESS = "F18-access": "a note: files of the store are closed to its users, or open to others",
    DRAFT = "F14-draft": "a draft's log continues after its finish, or its version is not there",
    REFERENCE = "F19-reference": "the source of a reference changed, is missing or does not answer",
    INDEX = "F12-index": "a note: an index segment is damaged; a later put makes a new one",
}

/// What to do about findings with a code.
pub fn next_step(of: &str) -> &'static str {
    match of {
        code::PACK | code::BLOB | code::OBJECT | code::MISSING | code::NODE | code::NO_PACK => {
            "put the same files again, or `cairn verify --repair-from STORE` with a copy of the store; `cairn verify \
             --repair` repairs what is right elsewhere in this store, and removes damage that affects nothing"
        }
        code::TOUCHED => {
            "right content is read more slowly until the object has mode 0444 and its time again: a reader sets them, \
             or `cairn verify --repair`, which also makes packs read-only"
        }
        code::UNREADABLE => "check the disk and the permissions; then `cairn verify --repair-from STORE`",
        code::STRANGER => "move the file out of the store",
        code::UNNUMBERED => "if it was a version, link its record by hand as the note says; else `cairn gc` removes it",
        code::GAP => {
            "`cairn verify --repair` gives a version its number again if it is certain which record had it; \
             `--repair-from STORE` with a copy of this store (`cp -a`, contrib/backup.sh) knows it; `cairn rm NAME:vN` \
             discards that version"
        }
        code::NUMBER | code::TOKEN => {
            "`cairn verify --repair-from STORE` with a copy of this store writes lost numbers again; others are left \
             as they are: `cairn rm` removes such a version"
        }
        code::VERSION => "`cairn verify --repair-from STORE` with a copy of this store, or `cairn rm` of the version",
        code::RECORD => "`cairn verify --repair-from STORE` with a copy of this store",
        code::ARTIFACT => "`cairn verify --repair` writes it again from the records of the versions",
        code::ALIAS => "set the alias again with `cairn alias`",
        code::HINTS | code::UNLISTED => "nothing is lost; reads use the index",
        code::CUT => {
            "nothing is lost: `cairn get` the version and put the files again, which makes a version that is cut by \
             the rule; then `cairn rm` the other one"
        }
        code::DRAFT => "`cairn verify --repair-from STORE` with a copy of this store, or begin a new draft",
        code::REFERENCE => {
            "the store itself is not damaged. Bring the source back, or put it again to record what is there now"
        }
        code::STAGE => {
            "copy the files that you need out of the staging directory and put or upsert them; then remove it and what \
             is named like it from staging/"
        }
        code::ACCESS => {
            "`cairn access --check` lists them; `cairn access --fix`, run by their owner or root, corrects them"
        }
        code::INDEX => "`cairn verify --repair`, or the next writer, writes it again",
        _ => "`cairn verify --help` lists the codes",
    }
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// Which kind: one of [`code`].
    pub code: &'static str,
    /// What: a path below the store's root, a digest, a version.
    pub what: String,
    /// What was expected and found.
    pub why: String,
    /// What it affects: versions and paths in them.
    pub affects: Vec<String>,
}

/// What a verification took from the interrupted one that it continued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Resumed {
    /// When that verification began.
    pub begun_at: String,
    /// Packs and objects that it had read and found right.
    pub files: u64,
    /// Their bytes. They were not read again.
    pub bytes: u64,
}

/// What verify checked and found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VerifyReport {
    /// What is wrong; empty when nothing is.
    pub findings: Vec<Finding>,
    /// What nothing depends on: damaged caches, which a later writer mends by itself, damaged copies of content that is
    /// stored right elsewhere, and what is left of removed versions. Not damage.
    pub notes: Vec<Finding>,
    /// Artifacts that were checked.
    pub artifacts: u64,
    /// Versions that were checked.
    pub versions: u64,
    /// Packs that were checked.
    pub packs: u64,
    /// Object files that were checked.
    pub objects: u64,
    /// References whose sources were asked; equal ones count once.
    pub references: u64,
    /// Bytes read and hashed.
    pub bytes: u64,
    /// Directories whose cut (M10) was not compared, because patches made very many that share most of their nodes.
    pub uncut: u64,
    /// What was taken from an interrupted verification.
    pub resumed: Option<Resumed>,
    /// Tokens in `work/`: writers at work, or what dead ones left (F13).
    pub tokens: u64,
    #[serde(skip)]
    pub(super) lost: Lost,
}

impl VerifyReport {
    /// Content and nodes that are needed and cannot be read.
    pub(crate) fn lost(&self) -> &Lost {
        &self.lost
    }
}

/// Content and nodes that versions or drafts need, and of which the store has no right copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Content, with its size.
    pub content: BTreeMap<Digest, u64>,
    /// Manifest nodes.
    pub nodes: BTreeSet<Digest>,
}

impl Lost {
    pub fn is_empty(&self) -> bool {
        self.content.is_empty() && self.nodes.is_empty()
    }
}
