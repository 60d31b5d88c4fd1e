//! From a URI to a source on the network, and from there to what is recorded.

use super::buckets::{self, BucketSource, Wanted};
use super::http::HttpSource;
use super::named::{FindOptions, Named, bare, too_many};
#[cfg(feature = "fuse")]
pub(super) use super::source::longest_wait;
use super::source::{Attempt, Fault, LAST_MODIFIED, Pin, no_length, retried};
pub(super) use super::source::{Source, or_error};
use super::uri::{Location, ObjectAt, Uri, shown_uri};
use crate::error::{Error, Result};
use crate::manifest::Reference;
use crate::progress::Activity;
use crate::types::RelPath;

/// What answers for a URI.
pub(super) fn source_of(uri: &Uri) -> Attempt<Box<dyn Source>> {
    match &uri.at {
        Location::Http => Ok(Box::new(HttpSource::new(&uri.text)?)),
        Location::Object(at) => Ok(Box::new(BucketSource::new(at))),
        _ => Err(Fault::Refused("it is not on the network".into())),
    }
}

/// What was recorded of a reference, if that is enough to read it.
pub(super) fn recorded(reference: &Reference) -> Option<Pin> {
    let tag = reference.etag.clone()?;
    Some(Pin { size: reference.size?, tag: Some(tag), version: None })
}

fn reference(uri: String, pin: Pin) -> Reference {
    Reference { uri, size: Some(pin.size), etag: pin.tag.map(quoted), digest: None }
}

/// An ETag as a header has it. Some servers leave the quotes out in listings.
pub(super) fn quoted(tag: String) -> String {
    let is_bare = !tag.starts_with(['"', 'W']) && !tag.starts_with(LAST_MODIFIED);
    if is_bare { format!("\"{tag}\"") } else { tag }
}

/// The one object that a URI names, as it is now. If its server does not say how long it is, it is read once.
pub(super) fn one(uri: &Uri, options: &FindOptions<'_>) -> Result<Reference> {
    let failed = |fault: Fault| fault.into_error_of_adding(&shown_uri(&uri.text));
    let source = source_of(uri).map_err(failed)?;
    let head = retried(&mut |within| source.head(within)).map_err(failed)?;
    let shows_changes = head.tag.is_some();
    if let Some(pin) = head.pin() {
        return pinned(uri, pin);
    }
    if !shows_changes {
        return Err(shows_no_change(uri));
    }
    options.progress.set_activity(Activity::Scanning);
    let mut seen = 0;
    let mut see = |bytes: u64| {
        options.progress.add_done(0, bytes.saturating_sub(seen));
        seen = seen.max(bytes);
        !options.progress.is_cancelled()
    };
    let pin = retried(&mut |_| source.measure(&mut see));
    options.progress.check_cancelled()?;
    pinned(uri, pin.map_err(failed)?)
}

/// What is recorded of an object with that pin.
fn pinned(uri: &Uri, pin: Pin) -> Result<Reference> {
    if pin.tag.is_none() {
        return Err(shows_no_change(uri));
    }
    Ok(reference(with_version(uri, &pin), pin))
}

/// The error for a source that does not show whether it changed.
fn shows_no_change(uri: &Uri) -> Error {
    let why = "its server sends neither an ETag nor a time of change, so a change there would not be noticed";
    Error::io_message(format!("cannot add {}: {why}", shown_uri(&uri.text)))
        .with_hint("--no-checksum records the URI alone; a downloaded copy can be put as a file")
}

/// The URI, with the version of the object that its server has now: it keeps that one when the object is replaced.
fn with_version(uri: &Uri, pin: &Pin) -> String {
    match (&uri.at, &pin.version) {
        (Location::Object(at), Some(version)) if at.scheme == "s3" && at.version.is_none() && version != "null" => {
            format!("{}?versionId={version}", uri.text)
        }
        _ => uri.text.clone(),
    }
}

/// An object, or all objects below a prefix.
pub(super) fn objects(uri: &Uri, at: &ObjectAt, options: &FindOptions<'_>) -> Result<Named> {
    let shown = shown_uri(&uri.text);
    if !at.key.is_empty() && !at.key.ends_with('/') {
        let source = BucketSource::new(at);
        match retried(&mut |within| source.head(within)) {
            Ok(head) => {
                let pin = head.pin().ok_or_else(|| no_length().into_error_of_adding(&shown))?;
                return pinned(uri, pin).map(Named::One);
            }
            Err(Fault::Missing) if at.version.is_none() => {}
            Err(fault) => return Err(fault.into_error_of_adding(&shown)),
        }
    }
    options.progress.set_activity(Activity::Scanning);
    let prefix = if at.key.is_empty() { String::new() } else { format!("{}/", at.key.trim_end_matches('/')) };
    let below = ObjectAt { key: prefix.clone(), ..at.clone() };
    let wanted = Wanted { most: options.max_objects, progress: options.progress };
    let listed = buckets::list(&below, &wanted).map_err(|fault| fault.into_error_of_adding(&shown))?;
    options.progress.check_cancelled()?;
    let listed = listed.ok_or_else(|| too_many(&uri.text, options.max_objects))?;
    let mut many = Vec::with_capacity(listed.len());
    for object in listed {
        let text = format!("{}://{}/{}", at.scheme, at.bucket, object.key);
        let Some(path) = object.key.strip_prefix(&prefix).filter(|path| !path.is_empty()) else { continue };
        let path = RelPath::parse(path.as_bytes()).map_err(|e| e.context(format!("cannot add {text}")))?;
        let recorded = if options.checksum { reference(text, object.pin) } else { bare(&text) };
        many.push((path, recorded));
    }
    if many.is_empty() {
        return Err(Fault::Missing.into_error_of_adding(&shown));
    }
    many.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Named::Many(many))
}
