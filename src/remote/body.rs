//! The body of an answer of a web server, read in parts.

use super::source::{Attempt, Fault, causes};
use reqwest::Response;

/// The body of an answer.
#[derive(Debug)]
pub(super) struct Body {
    answer: Response,
    /// Where in the resource the next byte is.
    at: u64,
    /// What came and was not used yet.
    left: Vec<u8>,
}

impl Body {
    /// The body of an answer whose first byte is at `at` in the resource.
    pub(super) fn new(answer: Response, at: u64) -> Body {
        Body { answer, at, left: Vec::new() }
    }

    /// Where in the resource the next byte is.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Passes the next `length` bytes to `take`.
    pub(super) async fn take(&mut self, mut length: u64, take: &mut (dyn FnMut(&[u8]) + Send)) -> Attempt<()> {
        while length > 0 {
            let left = std::mem::take(&mut self.left);
            if !left.is_empty() {
                length -= self.use_up(&left, length, take);
                continue;
            }
            let piece = self.answer.chunk().await.map_err(|e| Fault::Passing(said(&e)))?;
            let piece = piece.ok_or_else(|| Fault::Passing(format!("the answer ended {length} bytes early")))?;
            length -= self.use_up(&piece, length, take);
        }
        Ok(())
    }

    /// Passes what is wanted of a piece to `take`, and keeps the rest of it.
    fn use_up(&mut self, piece: &[u8], wanted: u64, take: &mut (dyn FnMut(&[u8]) + Send)) -> u64 {
        let (used, rest) = piece.split_at(piece.len().min(usize::try_from(wanted).unwrap_or(usize::MAX)));
        if !used.is_empty() {
            take(used);
        }
        self.left = rest.to_vec();
        self.at += used.len() as u64;
        used.len() as u64
    }

    /// Reads the next piece and does not use it. `None`: it has ended.
    pub(super) async fn next(&mut self) -> Attempt<Option<()>> {
        let left = std::mem::take(&mut self.left);
        let length = match left.len() {
            0 => match self.answer.chunk().await.map_err(|e| Fault::Passing(said(&e)))? {
                Some(piece) => piece.len(),
                None => return Ok(None),
            },
            length => length,
        };
        self.at += length as u64;
        Ok(Some(()))
    }
}

/// An error of a request with its causes, without the URL.
pub(super) fn said(e: &reqwest::Error) -> String {
    let mut text = match () {
        () if e.is_timeout() => "the server does not answer".to_owned(),
        () if e.is_connect() => "cannot connect".to_owned(),
        () => "the connection failed".to_owned(),
    };
    for cause in causes(e) {
        text = format!("{text}: {cause}");
    }
    text
}
