//! `s3://`, `gs://` and `az://`: objects of object stores, through the crate object_store.

use super::aws;
use super::connector::Connector;
use super::runtime::wait;
use super::source::{Attempt, Fault, Head, Listed, Pin, Source, causes, fault_of_status, limits, no_length, retried};
use super::uri::ObjectAt;
use crate::locks::Mutex;
use crate::progress::Progress;
use crate::threads;
use futures_util::StreamExt;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::path::Path;
use object_store::{ClientOptions, GetOptions, GetRange, ObjectMeta, ObjectStore, RetryConfig};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many prefixes are listed at once.
const LISTINGS: usize = 8;

/// The buckets that this process has used. A forked child makes its own connections.
static BUCKETS: Mutex<Option<HashMap<(&'static str, String), Bucket>>> = Mutex::of_process(None, || None);

/// A bucket with the credentials for it.
#[derive(Clone)]
struct Bucket {
    objects: Arc<dyn ObjectStore>,
    lists: Arc<dyn PaginatedListStore>,
    /// When the credentials end.
    until: Option<Instant>,
}

/// An object.
#[derive(Debug)]
pub(super) struct BucketSource {
    at: ObjectAt,
}

impl BucketSource {
    /// The object at that place.
    pub(super) fn new(at: &ObjectAt) -> BucketSource {
        BucketSource { at: at.clone() }
    }
}

fn bucket(at: &ObjectAt) -> Attempt<Bucket> {
    let key = (at.scheme, at.bucket.clone());
    let valid = |bucket: &Bucket| bucket.until.is_none_or(|until| Instant::now() < until);
    if let Some(found) = BUCKETS.lock().get_or_insert_default().get(&key).filter(|bucket| valid(bucket)) {
        return Ok(found.clone());
    }
    let bucket = wait(Duration::from_secs(60), || async { open(at) })?;
    BUCKETS.lock().get_or_insert_default().insert(key, bucket.clone());
    Ok(bucket)
}

fn open(at: &ObjectAt) -> Attempt<Bucket> {
    let client = ClientOptions::new()
        .with_allow_http(true)
        .with_connect_timeout(limits().idle)
        .with_read_timeout(limits().idle)
        .with_timeout(limits().whole);
    // The caller repeats attempts.
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let refused = |e: object_store::Error| Fault::Refused(said(&e));
    // The builders have no trait in common.
    macro_rules! bucket {
        ($builder:expr, $until:expr) => {{
            let builder = $builder.with_client_options(client).with_retry(retry).with_http_connector(Connector);
            let store = Arc::new(builder.build().map_err(refused)?);
            Bucket { objects: store.clone(), lists: store, until: $until }
        }};
    }
    Ok(match at.scheme {
        "gs" => bucket!(GoogleCloudStorageBuilder::from_env().with_bucket_name(&at.bucket), None),
        "az" => bucket!(MicrosoftAzureBuilder::from_env().with_container_name(&at.bucket), None),
        _ => {
            let (builder, until) = aws::builder(&at.bucket)?;
            bucket!(builder, until)
        }
    })
}

fn path(key: &str) -> Attempt<Path> {
    Path::parse(key).map_err(|e| Fault::Refused(format!("its key cannot be asked for: {e}")))
}

impl Source for BucketSource {
    fn head(&self, within: Duration) -> Attempt<Head> {
        let (bucket, path) = (bucket(&self.at)?, path(&self.at.key)?);
        wait(within, || async {
            let options = GetOptions { head: true, version: self.at.version.clone(), ..GetOptions::default() };
            let answer = bucket.objects.get_opts(&path, options).await.map_err(fault)?;
            Ok(Head { size: Some(answer.meta.size), tag: answer.meta.e_tag, version: answer.meta.version })
        })
    }

    fn measure(&self, _: &mut (dyn FnMut(u64) -> bool + Send)) -> Attempt<Pin> {
        Err(no_length()) // object stores always say it
    }

    fn get(&self, range: Range<u64>, pin: &Pin, within: Duration, take: &mut (dyn FnMut(&[u8]) + Send)) -> Attempt<()> {
        let (bucket, path) = (bucket(&self.at)?, path(&self.at.key)?);
        wait(within, || async {
            let options = GetOptions {
                range: Some(GetRange::Bounded(range.clone())),
                if_match: pin.if_match().map(str::to_owned),
                version: self.at.version.clone(),
                ..GetOptions::default()
            };
            let answer = bucket.objects.get_opts(&path, options).await.map_err(fault)?;
            pin.compare(Some(answer.meta.size), answer.meta.e_tag.as_deref())?;
            if answer.range != range {
                return Err(Fault::Refused(format!("it was asked for bytes {range:?}, and sends {:?}", answer.range)));
            }
            let mut left = range.end - range.start;
            let mut pieces = answer.into_stream();
            while let Some(piece) = pieces.next().await {
                let piece = piece.map_err(fault)?;
                left = left
                    .checked_sub(piece.len() as u64)
                    .ok_or_else(|| Fault::Refused("its server sends more bytes than it was asked for".into()))?;
                take(&piece);
            }
            if left > 0 { Err(Fault::Passing(format!("the answer ended {left} bytes early"))) } else { Ok(()) }
        })
    }
}

/// What a listing is asked for.
pub(super) struct Wanted<'a> {
    /// More objects than this end it.
    pub(super) most: u64,
    /// Counters to move.
    pub(super) progress: &'a Progress,
}

/// All objects whose keys begin with `at.key`, which ends with a slash or is empty; `None` if there are more than are
/// wanted. The first level is listed page by page, and the prefixes in it at the same time.
pub(super) fn list(at: &ObjectAt, wanted: &Wanted<'_>) -> Attempt<Option<Vec<Listed>>> {
    let bucket = bucket(at)?;
    let seen = AtomicU64::new(0);
    let mut prefixes = vec![];
    let mut all = vec![];
    if !pages(&bucket, &at.key, true, &seen, wanted, &mut |page| {
        prefixes.extend(page.common_prefixes.iter().map(|prefix| format!("{prefix}/")));
        all.extend(page.objects);
    })? {
        return Ok(None);
    }
    let below = threads::map(LISTINGS, &prefixes, |prefix| {
        let mut found = Vec::new();
        let complete = pages(&bucket, prefix, false, &seen, wanted, &mut |page| found.extend(page.objects))?;
        Ok::<_, Fault>(complete.then_some(found))
    })?;
    for found in below {
        match found {
            Some(found) => all.extend(found),
            None => return Ok(None),
        }
    }
    Ok(Some(without_markers(all)))
}

/// Passes all pages of a prefix to `take`. `false` if there are more objects than are wanted.
fn pages(
    bucket: &Bucket,
    prefix: &str,
    one_level: bool,
    seen: &AtomicU64,
    wanted: &Wanted<'_>,
    take: &mut dyn FnMut(object_store::ListResult),
) -> Attempt<bool> {
    let mut token = None;
    loop {
        if wanted.progress.is_cancelled() {
            return Ok(true); // the caller looks
        }
        let PaginatedListResult { result, page_token } = retried(&mut |within| {
            let options = PaginatedListOptions {
                delimiter: one_level.then(|| "/".into()),
                page_token: token.clone(),
                ..PaginatedListOptions::default()
            };
            let prefix = Some(prefix).filter(|prefix| !prefix.is_empty());
            wait(within, || async { bucket.lists.list_paginated(prefix, options).await.map_err(fault) })
        })?;
        let found = result.objects.len() as u64;
        wanted.progress.add_total(found, 0);
        wanted.progress.add_done(found, 0);
        if seen.fetch_add(found, Ordering::Relaxed) + found > wanted.most {
            return Ok(false);
        }
        take(result);
        match page_token {
            Some(next) => token = Some(next),
            None => return Ok(true),
        }
    }
}

/// Without the empty objects that some tools make for directories: their keys, without the slash at the end, are those
/// of directories.
fn without_markers(all: Vec<ObjectMeta>) -> Vec<Listed> {
    let mut directories = HashSet::new();
    for object in &all {
        let key = object.location.as_ref();
        directories.extend(key.match_indices('/').map(|(at, _)| key[..at].to_owned()));
    }
    let is_marker = |object: &ObjectMeta| object.size == 0 && directories.contains(object.location.as_ref());
    let real = all.iter().filter(|object| !is_marker(object));
    let listed = |object: &ObjectMeta| Listed {
        key: object.location.as_ref().to_owned(),
        pin: Pin { size: object.size, tag: object.e_tag.clone(), version: None },
    };
    real.map(listed).collect()
}

fn fault(e: object_store::Error) -> Fault {
    let text = said(&e);
    match e {
        object_store::Error::NotFound { .. } => Fault::Missing,
        object_store::Error::Precondition { .. } => Fault::Changed("the server says so".into()),
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            Fault::Refused(format!("the server does not permit it ({text})"))
        }
        object_store::Error::Generic { .. } => match status_of(&e) {
            Some(status) => fault_of_status(status, text),
            None if is_redirect(&e) => Fault::Refused(text),
            None => Fault::Passing(text),
        },
        _ => Fault::Refused(text),
    }
}

/// The status of the answer that an error is about. The type that has it is private to object_store.
fn status_of(e: &object_store::Error) -> Option<u16> {
    causes(e).find_map(|cause| cause.to_string().split("status code: ").nth(1)?.get(..3)?.parse().ok())
}

/// Whether the server sent the client elsewhere, which object_store does not follow.
fn is_redirect(e: &object_store::Error) -> bool {
    causes(e).any(|cause| cause.to_string().contains("redirect without LOCATION"))
}

/// An error with its causes, without what would be signed.
fn said(e: &object_store::Error) -> String {
    let mut text = match e {
        object_store::Error::Generic { .. } => String::new(),
        other => other.to_string(),
    };
    for cause in causes(e) {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = if text.is_empty() { more } else { format!("{text}: {more}") };
        }
    }
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(300).collect()
}
