//! `http://` and `https://`: one resource of a web server.

use super::body::{Body, said};
use super::runtime::wait;
use super::source::{Attempt, Fault, Head, LAST_MODIFIED, Pin, Source, fault_of_status, limits, no_length};
use crate::locks::Mutex;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, IF_MATCH, IF_UNMODIFIED_SINCE, RANGE};
use reqwest::{Client, Response, StatusCode, Url};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

static CLIENT: Mutex<Option<Client>> = Mutex::of_process(None, || None);

/// A resource.
#[derive(Debug)]
pub(super) struct HttpSource {
    url: Url,
    client: Client,
    /// Whether it was found to ignore ranges.
    is_sent_whole: AtomicBool,
    /// The rest of an answer with the whole resource, for a reader that reads on. A forked child asks anew.
    rest: Mutex<Option<Body>>,
    /// Held by a reader of such an answer: each would read from the beginning again.
    turn: Mutex<()>,
}

/// A part of a resource that a request asks for.
enum Asked {
    /// Only its headers.
    Head,
    All,
    Part(Range<u64>),
}

impl HttpSource {
    /// The resource of that URL.
    pub(super) fn new(url: &str) -> Attempt<HttpSource> {
        let url = Url::parse(url).map_err(|e| Fault::Refused(format!("it is not a URL: {e}")))?;
        let mut held = CLIENT.lock();
        let source = |client| HttpSource {
            url,
            client,
            is_sent_whole: AtomicBool::new(false),
            rest: Mutex::of_process(None, || None),
            turn: Mutex::of_process((), || ()),
        };
        if let Some(client) = &*held {
            return Ok(source(client.clone()));
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
        Ok(source(held.insert(client).clone()))
    }

    async fn send(&self, asked: Asked, pin: Option<&Pin>) -> Attempt<Response> {
        let mut request = match &asked {
            Asked::Head => self.client.head(self.url.clone()),
            Asked::All | Asked::Part(_) => self.client.get(self.url.clone()),
        };
        if let Asked::Part(range) = &asked {
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
            StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE if pin.is_some() => {
                let wanted = pin.and_then(|pin| pin.tag.clone()).unwrap_or_default();
                Err(Fault::Changed(format!("expected {wanted}, and the server answers {}", answer.status())))
            }
            status => Err(fault_of_status(status.as_u16(), format!("the server answers {status}"))),
        }
    }

    /// Asks for a range. The answer begins at it or before it.
    async fn begin(&self, range: Range<u64>, pin: &Pin) -> Attempt<Body> {
        let answer = self.send(Asked::Part(range.clone()), Some(pin)).await?;
        let is_part = answer.status() == StatusCode::PARTIAL_CONTENT;
        let (from, size) = match is_part {
            true => part(answer.headers())?,
            // A server without ranges sends all of it: what is before the range is not used.
            false => (0, length(&answer)),
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
        self.is_sent_whole.store(!is_part, Ordering::Relaxed);
        Ok(Body::new(answer, from))
    }

    async fn read(&self, range: Range<u64>, pin: &Pin, take: &mut (dyn FnMut(&[u8]) + Send)) -> Attempt<()> {
        let rest = self.rest.lock().take().filter(|rest| rest.at() <= range.start);
        let mut body = match rest {
            Some(rest) => rest,
            None => self.begin(range.clone(), pin).await?,
        };
        body.take(range.start - body.at(), &mut |_| ()).await?;
        body.take(range.end - range.start, take).await?;
        if self.is_sent_whole() && range.end < pin.size {
            *self.rest.lock() = Some(body);
        } else if self.is_sent_whole() && body.next().await?.is_some() {
            return Err(Fault::Changed(format!("expected {} bytes, found more", pin.size)));
        }
        Ok(())
    }

    /// Asks for all of it, and reads that to its end.
    async fn count(&self, see: &mut (dyn FnMut(u64) -> bool + Send)) -> Attempt<Pin> {
        let answer = self.send(Asked::All, None).await?;
        let tag = tag(answer.headers());
        let mut body = Body::new(answer, 0);
        while body.next().await?.is_some() {
            if !see(body.at()) {
                return Err(Fault::Refused("it was asked to stop".into()));
            }
        }
        Ok(Pin { size: body.at(), tag, version: None })
    }
}

impl Source for HttpSource {
    fn head(&self, within: Duration) -> Attempt<Head> {
        wait(within, || async {
            let answer = match self.send(Asked::Head, None).await {
                // It answers to GET only.
                Err(Fault::Refused(_)) => self.send(Asked::Part(0..1), None).await?,
                answer => answer?,
            };
            let size = match answer.status() {
                StatusCode::PARTIAL_CONTENT => part(answer.headers())?.1,
                _ => length(&answer),
            };
            Ok(Head { size, tag: tag(answer.headers()), version: None })
        })
    }

    fn measure(&self, see: &mut (dyn FnMut(u64) -> bool + Send)) -> Attempt<Pin> {
        let pin = wait(Duration::MAX, || self.count(see))?;
        if pin.tag.is_some() { Ok(pin) } else { Err(no_length()) }
    }

    fn get(&self, range: Range<u64>, pin: &Pin, within: Duration, take: &mut (dyn FnMut(&[u8]) + Send)) -> Attempt<()> {
        let _turn = self.is_sent_whole().then(|| self.turn.lock());
        wait(within, || self.read(range, pin, take))
    }

    fn is_sent_whole(&self) -> bool {
        self.is_sent_whole.load(Ordering::Relaxed)
    }
}

/// The length that an answer says. (That of its body is 0 after HEAD.)
fn length(answer: &Response) -> Option<u64> {
    answer.headers().get(CONTENT_LENGTH).and_then(|n| n.to_str().ok()?.parse().ok())
}

fn tag(headers: &HeaderMap) -> Option<String> {
    etag(headers).or_else(|| last_modified(headers))
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
