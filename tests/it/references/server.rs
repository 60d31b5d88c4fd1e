//! A server of objects, in the test's own process: web server and S3 in one, with faults on demand.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server does wrong.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Conditions are ignored.
    pub ignores_if_match: bool,
    /// A range is answered with 200 instead of 206.
    pub says_200: bool,
    /// Ranges are ignored.
    pub ignores_ranges: bool,
    /// Not a fault: versions of objects are kept.
    pub versions: bool,
    /// No ETags, but times of change.
    pub no_etag: bool,
    /// No times of change.
    pub no_time: bool,
    /// HEAD is refused.
    pub no_head: bool,
    /// How many requests are answered with an error.
    pub errors: u64,
    /// The status of these answers, if not 500.
    pub status: u16,
    /// Answers do not say their length: they are chunked.
    pub no_length: bool,
    /// How many answers end after this many bytes.
    pub cuts: (u64, usize),
    /// Before each answer.
    pub delay: Duration,
    /// Requests are read and not answered.
    pub silent: bool,
}

/// A server that ends with the test.
pub struct Server {
    shared: Arc<Shared>,
    port: u16,
}

#[derive(Default)]
struct Shared {
    objects: Mutex<BTreeMap<String, (Arc<Vec<u8>>, u64)>>,
    faults: Mutex<Faults>,
    requests: AtomicU64,
    gets: AtomicU64,
    bytes: AtomicU64,
    at_once: AtomicU64,
    most_at_once: AtomicU64,
    down: AtomicBool,
}

impl Server {
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = serving.clone();
                std::thread::spawn(move || {
                    let _ = shared.serve(stream);
                });
            }
        });
        Server { shared, port }
    }

    /// Puts an object at a path such as `bucket/a/b`.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        let mut objects = self.shared.objects.lock().unwrap();
        let change = objects.get(path).map_or(0, |(_, change)| change + 1);
        let object = (Arc::new(bytes.to_vec()), change);
        if self.shared.faults.lock().unwrap().versions {
            objects.insert(format!("{path}?versionId=v{change}"), object.clone());
        }
        objects.insert(path.to_owned(), object);
    }

    pub fn remove(&self, path: &str) {
        self.shared.objects.lock().unwrap().remove(path);
    }

    pub fn faults(&self, faults: Faults) {
        *self.shared.faults.lock().unwrap() = faults;
    }

    /// Whether connections are closed as soon as they are made.
    pub fn down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.endpoint())
    }

    /// Requests, and bytes of bodies of GET answers, since the last call.
    pub fn counted(&self) -> (u64, u64) {
        (self.shared.requests.swap(0, Ordering::SeqCst), self.shared.bytes.swap(0, Ordering::SeqCst))
    }

    /// GET requests for objects since the last call.
    pub fn gets(&self) -> u64 {
        self.shared.gets.swap(0, Ordering::SeqCst)
    }

    /// The most requests that were answered at one moment.
    pub fn most_at_once(&self) -> u64 {
        self.shared.most_at_once.load(Ordering::SeqCst)
    }
}

struct Request {
    method: String,
    path: String,
    query: HashMap<String, String>,
    headers: HashMap<String, String>,
}

fn decoded(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        if bytes[at] == b'%' {
            out.push(u8::from_str_radix(&text[at + 1..at + 3], 16).unwrap());
            at += 3;
        } else {
            out.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
            at += 1;
        }
    }
    String::from_utf8(out).unwrap()
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = query.split('&').filter_map(|p| p.split_once('=')).map(|(k, v)| (k.to_owned(), decoded(v))).collect();
    Some(Request { method, path: decoded(path.trim_start_matches('/')), query, headers })
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut stream = stream;
        while !self.down.load(Ordering::SeqCst) {
            let Some(request) = read_request(&mut reader) else { return Ok(()) };
            if self.down.load(Ordering::SeqCst) {
                return Ok(());
            }
            self.requests.fetch_add(1, Ordering::SeqCst);
            let faults = {
                let mut faults = self.faults.lock().unwrap();
                let now = faults.clone();
                faults.errors = faults.errors.saturating_sub(1);
                if request.method == "GET" {
                    faults.cuts.0 = faults.cuts.0.saturating_sub(1);
                }
                now
            };
            if faults.silent {
                let _ = reader.read(&mut [0]); // until the client closes the connection
                return Ok(());
            }
            let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_at_once.fetch_max(now, Ordering::SeqCst);
            std::thread::sleep(faults.delay);
            let continues = self.answer(&request, &faults, &mut stream);
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            if !continues? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn answer(&self, request: &Request, faults: &Faults, stream: &mut TcpStream) -> std::io::Result<bool> {
        if faults.errors > 0 {
            let status = if faults.status == 0 { 500 } else { faults.status };
            let body: &[u8] = if request.method == "HEAD" { b"" } else { b"oops" };
            return plain(stream, &format!("{status} Fault"), &[], body);
        }
        if request.query.contains_key("list-type") {
            return plain(stream, "200 OK", &["Content-Type: application/xml".into()], self.list(request).as_bytes());
        }
        let path = match request.query.get("versionId").filter(|_| faults.versions) {
            Some(version) => format!("{}?versionId={version}", request.path),
            None => request.path.clone(),
        };
        let object = self.objects.lock().unwrap().get(&path).cloned();
        let Some((bytes, change)) = object else { return plain(stream, "404 Not Found", &[], b"") };
        let etag = format!("\"{:x}-{change}\"", bytes.len());
        let time = format!("Fri, 27 Nov 2026 10:00:{change:02} GMT");
        let wants = |name: &str, value: &str| request.headers.get(name).is_none_or(|wanted| wanted == value);
        let as_wanted = wants("if-match", &etag) && wants("if-unmodified-since", &time);
        if !(as_wanted || faults.ignores_if_match) {
            return plain(stream, "412 Precondition Failed", &[], b"");
        }
        let mut headers = vec!["Accept-Ranges: bytes".to_owned()];
        if faults.versions {
            headers.push(format!("x-amz-version-id: v{change}"));
        }
        if !faults.no_etag {
            headers.push(format!("ETag: {etag}"));
        }
        if !faults.no_time {
            headers.push(format!("Last-Modified: {time}"));
        }
        if request.method == "HEAD" {
            if faults.no_head {
                return plain(stream, "405 Method Not Allowed", &[], b"");
            }
            let length = if faults.no_length { String::new() } else { format!("Content-Length: {}\r\n", bytes.len()) };
            write!(stream, "HTTP/1.1 200 OK\r\n{length}{}\r\n\r\n", headers.join("\r\n"))?;
            return Ok(true);
        }
        self.gets.fetch_add(1, Ordering::SeqCst);
        let range = request.headers.get("range").filter(|_| !faults.ignores_ranges).and_then(|r| {
            let (from, to) = r.strip_prefix("bytes=")?.split_once('-')?;
            Some((from.parse::<usize>().ok()?, to.parse::<usize>().unwrap_or(usize::MAX)))
        });
        let (status, part) = match range {
            Some((from, _)) if from >= bytes.len() => {
                return plain(stream, "416 Range Not Satisfiable", &[], b"");
            }
            Some((from, to)) => {
                let to = to.min(bytes.len() - 1);
                headers.push(format!("Content-Range: bytes {from}-{to}/{}", bytes.len()));
                (if faults.says_200 { "200 OK" } else { "206 Partial Content" }, &bytes[from..=to])
            }
            None => ("200 OK", &bytes[..]),
        };
        let length = match faults.no_length {
            true => "Transfer-Encoding: chunked".to_owned(),
            false => format!("Content-Length: {}", part.len()),
        };
        write!(stream, "HTTP/1.1 {status}\r\n{length}\r\n{}\r\n\r\n", headers.join("\r\n"))?;
        if faults.no_length {
            return self.send_chunked(part, stream);
        }
        let sent = if faults.cuts.0 > 0 { &part[..part.len().min(faults.cuts.1)] } else { part };
        self.bytes.fetch_add(sent.len() as u64, Ordering::SeqCst);
        stream.write_all(sent)?;
        Ok(sent.len() == part.len())
    }

    fn send_chunked(&self, bytes: &[u8], stream: &mut TcpStream) -> std::io::Result<bool> {
        for piece in bytes.chunks(100_000) {
            write!(stream, "{:x}\r\n", piece.len())?;
            stream.write_all(piece)?;
            stream.write_all(b"\r\n")?;
            self.bytes.fetch_add(piece.len() as u64, Ordering::SeqCst);
        }
        stream.write_all(b"0\r\n\r\n")?;
        Ok(true)
    }

    /// `ListObjectsV2` with pages of 100 rows: objects, and prefixes up to the delimiter.
    fn list(&self, request: &Request) -> String {
        let bucket = format!("{}/", request.path.trim_end_matches('/'));
        let given = |name: &str| request.query.get(name).cloned().unwrap_or_default();
        let (prefix, after, delimiter) = (given("prefix"), given("continuation-token"), given("delimiter"));
        let mut rows = BTreeMap::new();
        for (path, (bytes, change)) in self.objects.lock().unwrap().iter() {
            let Some(key) = path.strip_prefix(&bucket) else { continue };
            let Some(rest) = key.strip_prefix(&prefix) else { continue };
            let directory = rest.split_once('/').filter(|_| !delimiter.is_empty()).map(|(directory, _)| directory);
            if let Some(directory) = directory {
                let common = format!("{prefix}{directory}/");
                let xml = format!("<CommonPrefixes><Prefix>{common}</Prefix></CommonPrefixes>");
                rows.insert(common, xml);
                continue;
            }
            let (size, etag) = (bytes.len(), format!("&quot;{:x}-{change}&quot;", bytes.len()));
            rows.insert(
                key.to_owned(),
                format!(
                    "<Contents><Key>{key}</Key><LastModified>2026-11-27T10:00:00.000Z</LastModified>\
                     <ETag>{etag}</ETag><Size>{size}</Size></Contents>"
                ),
            );
        }
        let left: Vec<_> = rows.into_iter().filter(|(key, _)| *key > after).collect();
        let page = &left[..left.len().min(100)];
        let more = left.len() > page.len();
        let token = page
            .last()
            .filter(|_| more)
            .map_or(String::new(), |(key, _)| format!("<NextContinuationToken>{key}</NextContinuationToken>"));
        let body: String = page.iter().map(|(_, xml)| xml.as_str()).collect();
        format!("<ListBucketResult><IsTruncated>{more}</IsTruncated>{token}{body}</ListBucketResult>")
    }
}

fn plain(stream: &mut TcpStream, status: &str, headers: &[String], body: &[u8]) -> std::io::Result<bool> {
    let headers: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len())?;
    stream.write_all(body)?;
    Ok(true)
}
