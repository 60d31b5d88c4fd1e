//! One change of a difference between versions, and its bytes in a temporary file.

use crate::error::Result;
use crate::ingest::{Fields, changed, put_text};
use crate::manifest::Reference;
use crate::types::{Digest, RelPath};

/// One path that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::commit) struct ParsedChange {
    /// Where.
    pub(in crate::commit) path: RelPath,
    /// What was there before.
    pub(in crate::commit) old: Option<Side>,
    /// What is there now.
    pub(in crate::commit) new: Option<Side>,
}

/// An entry at a path, without the location of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::commit) enum Side {
    Directory,
    File { digest: Digest, size: u64, exec: bool },
    Symlink(Vec<u8>),
    Reference(Box<Reference>),
}

const NOTHING: u8 = 0;
const DIRECTORY: u8 = 1;
const FILE: u8 = 2;
const EXECUTABLE: u8 = 3;
const SYMLINK: u8 = 4;
const REFERENCE: u8 = 5;
/// What a reference has: flags.
const HAS_SIZE: u8 = 1;
const HAS_ETAG: u8 = 2;
const HAS_DIGEST: u8 = 4;

/// The bytes of a change, with their length before them.
pub(super) fn encode(change: &ParsedChange) -> Vec<u8> {
    let mut out = vec![0; 4];
    put_text(change.path.as_bytes(), &mut out);
    for side in [&change.old, &change.new] {
        match side {
            None => out.push(NOTHING),
            Some(side) => encode_side(side, &mut out),
        }
    }
    let len = out.len() as u32 - 4;
    out[..4].copy_from_slice(&len.to_le_bytes());
    out
}

fn encode_side(side: &Side, out: &mut Vec<u8>) {
    match side {
        Side::Directory => out.push(DIRECTORY),
        Side::File { digest, size, exec } => {
            out.push(if *exec { EXECUTABLE } else { FILE });
            out.extend_from_slice(&digest.0);
            out.extend_from_slice(&size.to_le_bytes());
        }
        Side::Symlink(target) => {
            out.push(SYMLINK);
            put_text(target, out);
        }
        Side::Reference(reference) => {
            let Reference { uri, size, etag, digest } = &**reference;
            let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
            let flags = [(size.is_some(), HAS_SIZE), (etag.is_some(), HAS_ETAG), (digest.is_some(), HAS_DIGEST)];
            out.push(REFERENCE);
            out.push(flags.into_iter().map(|(is_there, of)| flag(is_there, of)).sum());
            put_text(uri.as_bytes(), out);
            out.extend(size.iter().flat_map(|size| size.to_le_bytes()));
            etag.iter().for_each(|etag| put_text(etag.as_bytes(), out));
            out.extend(digest.iter().flat_map(|digest| digest.0));
        }
    }
}

/// The change of these bytes, without the length.
///
/// # Errors
/// I/O: they were changed.
pub(super) fn decode(bytes: &[u8]) -> Result<ParsedChange> {
    let mut fields = Fields(bytes);
    let path = RelPath::parse(fields.text()?)?;
    let (old, new) = (decode_side(&mut fields)?, decode_side(&mut fields)?);
    Ok(ParsedChange { path, old, new })
}

fn decode_side(fields: &mut Fields<'_>) -> Result<Option<Side>> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| changed());
    Ok(Some(match fields.u8()? {
        NOTHING => return Ok(None),
        DIRECTORY => Side::Directory,
        kind @ (FILE | EXECUTABLE) => {
            Side::File { digest: fields.digest()?, size: fields.u64()?, exec: kind == EXECUTABLE }
        }
        SYMLINK => Side::Symlink(fields.text()?.to_vec()),
        REFERENCE => {
            let flags = fields.u8()?;
            Side::Reference(Box::new(Reference {
                uri: text(fields.text()?)?,
                size: if flags & HAS_SIZE != 0 { Some(fields.u64()?) } else { None },
                etag: if flags & HAS_ETAG != 0 { Some(text(fields.text()?)?) } else { None },
                digest: if flags & HAS_DIGEST != 0 { Some(fields.digest()?) } else { None },
            }))
        }
        _ => return Err(changed()),
    }))
}
