//! Requests of commands to the daemon of a staging mount, and its answers: JSON in an ioctl on a file or directory in
//! the mount.
//!
//! Annotations can be longer than one request. They are sent in parts before the request, and the daemon keeps them for
//! that open directory.

use crate::commit::{ArtifactAnnotations, Upserted};
use crate::error::{Error, ErrorReport, Result, floor_char_boundary, shorten, show_path};
use crate::setters::setters;
use crate::types::Token;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

/// The size of a request and of its answer: JSON, followed by zeros. An ioctl can transfer less than 16 KiB.
pub(super) const ROOM: usize = 16_000;
/// The request's number: `_IOWR('c', 2, char[ROOM])`.
pub(super) const REQUEST: u32 = 3 << 30 | (ROOM as u32) << 16 | (b'c' as u32) << 8 | 2;
/// The size of a part of the annotations. As a JSON string it can become twice as long.
const PART: usize = 4_000;
/// The most bytes of annotations that a daemon keeps for an open directory.
pub(super) const ANNOTATIONS_MAX: usize = 1 << 20;

/// What a command requests.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StageRequest {
    /// Keep a part of the annotations for the seal.
    Keep(String),
    /// Seal the run; with `stage`, only if this is its stage.
    Seal { stage: Option<String>, replace: bool },
    /// Return which run it is.
    Which,
}

/// What the daemon answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StageReply {
    Kept,
    /// The file or directory does not belong to a run.
    NoRun,
    Sealed(SealedBy),
    Run(MountedRun),
    Failed(ErrorReport),
}

/// Whether a mount takes changes of a run's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RunState {
    /// It takes changes.
    Open,
    /// It is being sealed, or another process is to seal it.
    Closed,
    /// It is sealed.
    Sealed,
    /// Its draft is finished: it takes no more changes.
    Finished,
    /// Another mount has taken the run over: it takes no more changes.
    Lost,
}

/// The run that a mount serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MountedRun {
    /// The artifact.
    pub artifact: String,
    /// The draft's id.
    pub distributed_id: String,
    /// The run.
    pub run: String,
    /// Whether its files can be changed.
    pub state: RunState,
}

/// A contribution that a daemon sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SealedBy {
    /// The artifact.
    pub artifact: String,
    /// The draft's id.
    pub distributed_id: String,
    /// The run.
    pub run: String,
    /// The number of its files.
    pub files: u64,
    /// The total size of its files.
    pub bytes: u64,
    /// The bytes that were not in the store before.
    pub new_bytes: u64,
    /// Changes that were refused because of the disk or the mount, so that data may be missing.
    #[serde(default)]
    pub refused: Option<String>,
}

/// How to seal.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SealRequest<'a> {
    /// Seal only this stage.
    pub stage: Option<&'a Token>,
    /// Annotations for the version.
    pub annotations: Option<ArtifactAnnotations>,
    /// Replace the run's earlier contributions.
    pub replace: bool,
}

setters! {
    SealRequest<'a> {
        stage: &'a Token => Some(stage),
        annotations: ArtifactAnnotations => Some(annotations),
        replace: bool,
    }
}

impl StageRequest {
    /// Decodes the bytes of a request.
    pub(super) fn decode(bytes: &[u8]) -> Option<StageRequest> {
        decode(bytes).ok()
    }
}

impl StageReply {
    pub(super) fn of_seal(sealed: Result<Upserted>, refused: Option<String>) -> StageReply {
        match sealed {
            Ok(done) => StageReply::Sealed(SealedBy {
                artifact: done.draft.artifact().to_string(),
                distributed_id: done.draft.id().to_string(),
                run: done.run.to_string(),
                files: done.files,
                bytes: done.bytes,
                new_bytes: done.new_bytes,
                refused: refused.map(|mut text| {
                    shorten(&mut text, PART);
                    text
                }),
            }),
            Err(e) => StageReply::of_error(&e),
        }
    }

    pub(super) fn of_error(e: &Error) -> StageReply {
        StageReply::Failed(ErrorReport::from(e))
    }

    /// The bytes of an answer. Texts that do not fit are shortened, so that their beginnings always arrive.
    pub(super) fn encode(mut self) -> Vec<u8> {
        let mut longest = PART;
        loop {
            if let Some(bytes) = encode(&self) {
                return bytes;
            }
            if let StageReply::Failed(report) = &mut self {
                report.shorten(longest);
            }
            longest /= 2;
            if longest == 0 {
                return vec![0; ROOM]; // cannot happen: the other fields are short
            }
        }
    }
}

fn encode(value: &impl Serialize) -> Option<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value).ok().filter(|bytes| bytes.len() < ROOM)?;
    bytes.resize(ROOM, 0);
    Some(bytes)
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> serde_json::Result<T> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    serde_json::from_slice(&bytes[..end])
}

/// Sends a request to the daemon that serves `file`; `None` if it is not in a staging mount.
fn ask(file: &File, path: &Path, request: &StageRequest) -> Result<Option<StageReply>> {
    let mut bytes = encode(request).ok_or_else(|| Error::usage("a request to a mount's daemon is too long"))?;
    // SAFETY: an open descriptor, and a buffer of the size that the request's number states.
    if unsafe { libc::ioctl(file.as_raw_fd(), REQUEST as _, bytes.as_mut_ptr()) } != 0 {
        let e = std::io::Error::last_os_error();
        return match e.raw_os_error() {
            Some(libc::ENOTTY | libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => Ok(None),
            _ => Err(Error::io("ask the daemon of the mount at", path, e)),
        };
    }
    let failed =
        |e| Error::io_message(format!("the daemon's answer for {} cannot be read", show_path(path))).with_source(e);
    match decode(&bytes).map_err(failed)? {
        StageReply::NoRun => Ok(None),
        StageReply::Failed(report) => Err(report.into_error()),
        answer => Ok(Some(answer)),
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|e| Error::io("open", path, e))
}

fn unexpected(path: &Path) -> Error {
    Error::io_message(format!("the daemon of {} sent an unexpected answer", show_path(path)))
}

/// The run whose staging directory contains `path`; `None` if there is none.
///
/// # Errors
/// I/O; ENOTCONN if the daemon is dead.
pub fn run_at(path: &Path) -> Result<Option<MountedRun>> {
    match ask(&open(path)?, path, &StageRequest::Which)? {
        None => Ok(None),
        Some(StageReply::Run(run)) => Ok(Some(run)),
        Some(_) => Err(unexpected(path)),
    }
}

/// Asks the daemon that serves `path` to seal the run that contains it; `None` if there is none.
///
/// # Errors
/// Those of sealing. I/O; ENOTCONN if the daemon is dead.
pub fn seal_at(path: &Path, how: &SealRequest<'_>) -> Result<Option<SealedBy>> {
    let file = open(path)?;
    if let Some(annotations) = &how.annotations {
        let text = serde_json::to_string(annotations)
            .map_err(|e| Error::usage("the annotations cannot be written as JSON").with_source(e))?;
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (part, more) = rest.split_at(floor_char_boundary(rest, PART));
            match ask(&file, path, &StageRequest::Keep(part.to_owned()))? {
                None => return Ok(None),
                Some(StageReply::Kept) => rest = more,
                Some(_) => return Err(unexpected(path)),
            }
        }
    }
    match ask(&file, path, &StageRequest::Seal { stage: how.stage.map(Token::to_string), replace: how.replace })? {
        None => Ok(None),
        Some(StageReply::Sealed(done)) => Ok(Some(done)),
        Some(_) => Err(unexpected(path)),
    }
}

/// As [`seal_at`], without annotations, for a path that must be in a run's staging directory.
///
/// # Errors
/// As [`seal_at`]. Usage: `path` is not in a staging directory.
pub fn ask_to_seal(path: &Path) -> Result<SealedBy> {
    seal_at(path, &SealRequest::default())?.ok_or_else(|| {
        let hint = "`cairn mount MNT NAME --stage --distributed-id ID` makes one; in a mount of the whole store it is \
                    MNT/.staging/NAME/ID/RUN";
        Error::usage(format!("{} is not in the staging directory of a run", show_path(path))).with_hint(hint)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn crossed(e: &Error) -> Error {
        let StageReply::Failed(report) = decode(&StageReply::of_error(e).encode()).unwrap() else { panic!("no error") };
        report.into_error()
    }

    #[test]
    fn an_error_of_any_length_arrives_with_its_kind_and_its_beginning() {
        for text in ["文件".repeat(700), "\u{1}\"\\".repeat(9000), "a".repeat(100_000)] {
            let many = (0..100).fold(Error::conflict(text.clone()), |e, _| e.with_cause(&text)).with_hint(text.clone());
            let back = crossed(&many);
            assert_eq!(back.kind(), Kind::Conflict);
            let beginning: String = text.chars().take(20).collect();
            assert!(back.message().starts_with(&beginning) && back.causes()[0].starts_with(&beginning));
        }
        let short = Error::usage("m").with_cause("c").with_hint("h");
        assert_eq!(ErrorReport::from(&crossed(&short)), ErrorReport::from(&short));
    }

    #[test]
    fn a_part_of_annotations_fits_into_a_request_whatever_is_in_it() {
        for text in ["\\".repeat(PART), "\"".repeat(PART), "é".repeat(PART / 2)] {
            let request = StageRequest::Keep(text);
            assert_eq!(StageRequest::decode(&encode(&request).unwrap()), Some(request));
        }
    }
}
