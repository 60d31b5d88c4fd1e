//! `http://` and `https://`: one resource of a web server.

use super::runtime::wait;
use super::source::{Attempt, Fault, LAST_MODIFIED, Pin, Source, limits};
use crate::locks::Mutex;
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, IF_MATCH, IF_UNMODIFIED_SINCE, RANGE};
use reqwest::{Client, Response, StatusCode, Url};
use std::ops::Range;
use std::time::Duration;

static CLIENT: Mutex<Option<Client>> = Mutex::of_process(None, || None);

/// A resource.
#[derive(Debug)]
pub(super) struct HttpSource {
    url: Url,
    client: Client,
}

impl HttpSource {
    /// The resource of that URL.
    pub(super) fn new(url: &str) -> Attempt<HttpSource> {
        let url = Url::parse(url).map_err(|e| Fault::Refused(format!("it is not a URL: {e}")))?;
        let mut held = CLIENT.lock();
        if let Some(client) = &*held {
            return Ok(HttpSource { url, client: client.clone() });
        }
        // The client is built on the runtime, whose cryptography it uses.
        let client = wait(Duration::from_secs(10), || async {
            Client::builder()
                .user_agent(concat!("cairn/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(limits().idle)
                .read_timeout(limits().idle)
                .build()
                .map_err(|e| Fault::Refused(format!("no client for requests: {}", said(&e))))
        })?;
        Ok(HttpSource { url, client: held.insert(client).clone() })
    }

    async fn send(&self, range: Option<Range<u64>>, pin: Option<&Pin>) -> Attempt<Response> {
        let mut request = match &range {
            Some(_) => self.client.get(self.url.clone()),
            None => self.client.head(self.url.clone()),
        };
        if let Some(range) = &range {
            request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end - 1));
        }
        if let Some(pin) = pin {
            if let Some(tag) = pin.if_match() {
                request = request.header(IF_MATCH, tag);
            } else if let Some(time) = pin.tag.as_deref().and_then(|tag| tag.strip_prefix(LAST_MODIFIED)) {
                request = request.header(IF_UNMODIFIED_SINCE, time);
            }
        }
        let answer = request.send().await.map_err(|e| Fault::Passing(said(&e)))?;
        match answer.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(answer),
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(Fault::Missing),
            StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE if pin.is_some() => {
                let wanted = pin.and_then(|pin| pin.tag.clone()).unwrap_or_default();
                Err(Fault::Changed(format!("expected {wanted}, and the server answers {}", answer.status())))
            }
            status @ (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) => {
                Err(Fault::Passing(format!("the server answers {status}")))
            }
            status if status.is_server_error() => Err(Fault::Passing(format!("the server answers {status}"))),
            status => Err(Fault::Refused(format!("the server answers {status}"))),
        }
    }

    async fn read(&self, range: Range<u64>, pin: &Pin, take: &mut (dyn FnMut(&[u8]) + Send)) -> Attempt<()> {
        let mut answer = self.send(Some(range.clone()), Some(pin)).await?;
        let (from, size) = match answer.status() {
            StatusCode::PARTIAL_CONTENT => part(answer.headers())?,
            // A server without ranges sends all of it: what is before the range is not used.
            _ => (0, answer.content_length()),
        };
        let tag = match &pin.tag {
            Some(tag) if tag.starts_with(LAST_MODIFIED) => last_modified(answer.headers()),
            _ => etag(answer.headers()),
        };
        pin.compare(size, tag.as_deref())?;
        if from > range.start {
            return Err(Fault::Refused(format!(
                "it was asked for bytes from {}, and sends them from {from}",
                range.start
            )));
        }
        let (mut skip, mut left) = ((range.start - from) as usize, (range.end - range.start) as usize);
        while left > 0 {
            let Some(piece) = answer.chunk().await.map_err(|e| Fault::Passing(said(&e)))? else {
                return Err(Fault::Passing(format!("the answer ended {left} bytes early")));
            };
            let unused = skip.min(piece.len());
            skip -= unused;
            let used = &piece[unused..];
            let used = &used[..used.len().min(left)];
            left -= used.len();
            if !used.is_empty() {
                take(used);
            }
        }
        Ok(())
    }
}

impl Source for HttpSource {
    fn head(&self, within: Duration) -> Attempt<Pin> {
        wait(within, || async {
            let answer = match self.send(None, None).await {
                // It answers to GET only.
                Err(Fault::Refused(_)) => self.send(Some(0..1), None).await?,
                answer => answer?,
            };
            let size = match answer.status() {
                StatusCode::PARTIAL_CONTENT => part(answer.headers())?.1,
                _ => answer.headers().get("content-length").and_then(|n| n.to_str().ok()?.parse().ok()),
            };
            let size = size.ok_or_else(|| Fault::Refused("its server does not say how long it is".into()))?;
            let tag = etag(answer.headers()).or_else(|| last_modified(answer.headers()));
            Ok(Pin { size, tag, version: None })
        })
    }

    fn get(&self, range: Range<u64>, pin: &Pin, within: Duration, take: &mut (dyn FnMut(&[u8]) + Send)) -> Attempt<()> {
        wait(within, || self.read(range, pin, take))
    }
}

fn etag(headers: &HeaderMap) -> Option<String> {
    headers.get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned)
}

fn last_modified(headers: &HeaderMap) -> Option<String> {
    let time = headers.get("last-modified").and_then(|time| time.to_str().ok())?;
    Some(format!("{LAST_MODIFIED}{time}"))
}

/// Where a partial answer begins, and the size of the whole: `bytes 0-99/1234`.
fn part(headers: &HeaderMap) -> Attempt<(u64, Option<u64>)> {
    let text = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
    let parsed = || {
        let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
        Some((range.split_once('-')?.0.trim().parse().ok()?, size.parse().ok()))
    };
    parsed().ok_or_else(|| Fault::Refused(format!("its server sends a part without saying which: `{text}`")))
}

/// An error of a request with its causes, without the URL.
fn said(e: &reqwest::Error) -> String {
    let mut text = match () {
        () if e.is_timeout() => "the server does not answer".to_owned(),
        () if e.is_connect() => "cannot connect".to_owned(),
        () => "the connection failed".to_owned(),
    };
    let mut cause = std::error::Error::source(e);
    while let Some(e) = cause {
        text = format!("{text}: {e}");
        cause = e.source();
    }
    text
}
