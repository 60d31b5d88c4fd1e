//! Single flight: of the threads of a process that need one value at the same moment, one makes it.

use crate::error::{Error, Kind, Result};
use crate::locks::Mutex;
use crate::types::Digest;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError};

/// The values that are being made.
#[derive(Debug)]
pub(crate) struct Flights<T> {
    at_work: Mutex<HashMap<Digest, Arc<Flight<T>>>>,
}

/// One value being made: its maker holds the lock.
#[derive(Debug)]
struct Flight<T> {
    maker: std::sync::Mutex<()>,
    outcome: OnceLock<std::result::Result<T, Failure>>,
}

/// What those who waited see of an error.
#[derive(Debug)]
struct Failure {
    kind: Kind,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl<T: Clone> Default for Flights<T> {
    fn default() -> Self {
        Flights { at_work: Mutex::of_process(HashMap::new(), HashMap::new) }
    }
}

impl<T: Clone> Flights<T> {
    /// The value of `key`: made by this call, or by another one that is making it now. An error of the maker is
    /// the error of all: they do not try one after the other.
    ///
    /// # Errors
    /// Those of `make`.
    pub(crate) fn run(&self, key: &Digest, make: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut at_work = self.at_work.lock();
        if let Some(flight) = at_work.get(key).cloned() {
            drop(at_work);
            return flight.wait();
        }
        let flight = Arc::new(Flight { maker: std::sync::Mutex::new(()), outcome: OnceLock::new() });
        let held = flight.maker.lock().unwrap_or_else(PoisonError::into_inner);
        at_work.insert(*key, flight.clone());
        drop(at_work);
        let ended = Ended { flights: self, key: *key };
        let made = make();
        let copy = match &made {
            Ok(value) => Ok(value.clone()),
            Err(e) => Err(Failure::of(e)),
        };
        drop(flight.outcome.set(copy));
        drop(ended);
        drop(held);
        made
    }

    /// The value of `key`, if it is being made now.
    pub(crate) fn join(&self, key: &Digest) -> Option<Result<T>> {
        let flight = self.at_work.lock().get(key).cloned()?;
        Some(flight.wait())
    }

    /// Whether a value is being made now.
    pub(crate) fn has(&self, key: &Digest) -> bool {
        self.at_work.lock().contains_key(key)
    }
}

impl<T: Clone> Flight<T> {
    fn wait(&self) -> Result<T> {
        drop(self.maker.lock().unwrap_or_else(PoisonError::into_inner));
        match self.outcome.get() {
            Some(Ok(value)) => Ok(value.clone()),
            Some(Err(failure)) => Err(failure.error()),
            None => Err(Error::io_message("the thread that made it panicked")),
        }
    }
}

/// Removes a flight when it ends, also by a panic.
struct Ended<'a, T> {
    flights: &'a Flights<T>,
    key: Digest,
}

impl<T> Drop for Ended<'_, T> {
    fn drop(&mut self) {
        let flight = self.flights.at_work.lock().remove(&self.key);
        drop(flight);
    }
}

impl Failure {
    fn of(e: &Error) -> Failure {
        let (message, causes, hint) = (e.message().to_owned(), e.causes(), e.hint().map(str::to_owned));
        Failure { kind: e.kind(), message, causes, hint }
    }

    fn error(&self) -> Error {
        let error = Error::new(self.kind, self.message.clone());
        let error = self.causes.iter().fold(error, |e, cause| e.with_cause(cause));
        match &self.hint {
            Some(hint) => error.with_hint(hint.clone()),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[test]
    fn of_many_threads_one_makes_the_value_and_an_error_is_shared() {
        let flights = Flights::<u32>::default();
        let (made, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let make = |count: &AtomicUsize| {
            count.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(200));
        };
        let gate = std::sync::Barrier::new(16);
        std::thread::scope(|s| {
            for _ in 0..16 {
                s.spawn(|| {
                    gate.wait();
                    let good = flights.run(&Digest::of(b"a"), || {
                        make(&made);
                        Ok(7)
                    });
                    assert_eq!(good.unwrap(), 7);
                    gate.wait();
                    let bad = flights.run(&Digest::of(b"b"), || {
                        make(&failed);
                        Err(Error::io_message("no").with_hint("later"))
                    });
                    let bad = bad.unwrap_err();
                    assert_eq!((bad.kind(), bad.message(), bad.hint()), (Kind::Io, "no", Some("later")));
                });
            }
        });
        assert_eq!((made.into_inner(), failed.into_inner()), (1, 1));
        assert!(!flights.has(&Digest::of(b"a")));
    }
}
