//! How many threads a parallel operation uses, and how its work is spread over them: items of a list ([`for_each`],
//! [`map`]), items that are found on the way ([`for_each_next`], [`feed`]), or a queue of the caller ([`on_each`]).

use crate::locks::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

/// The number of processors that this process may use, at most eight.
pub fn count() -> usize {
    // 0: not asked yet. Asking reads /proc and the cgroups. (A forked child could wait for a `OnceLock` without end.)
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    match COUNT.load(Ordering::Relaxed) {
        0 => {
            let count = std::thread::available_parallelism().map_or(2, |n| n.get().min(8));
            COUNT.store(count, Ordering::Relaxed);
            count
        }
        count => count,
    }
}

/// Calls `work` for each item, with up to `threads` threads, the calling thread among them. After an error it begins no
/// further item. If there are several errors, it returns one.
///
/// # Errors
/// Those of `work`.
pub fn for_each<T: Sync, E: Send>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    for_each_with(threads, items, || (), |(), item| work(item), |()| Ok(()))
}

/// Calls `work` for each item, as [`for_each`] does, and returns the results in the order of the items.
///
/// # Errors
/// Those of `work`.
pub fn map<T: Sync, R: Send, E: Send>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let results = Mutex::new(Vec::with_capacity(items.len()));
    let numbered: Vec<(usize, &T)> = items.iter().enumerate().collect();
    for_each(threads, &numbered, |(i, item)| {
        let result = work(item)?;
        results.lock().push((*i, result));
        Ok(())
    })?;
    let mut results = results.into_inner();
    results.sort_unstable_by_key(|(i, _)| *i);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// [`for_each`] with a state for each thread. `end` gets it when the thread has no more items, also after an error.
///
/// # Errors
/// Those of `work` and `end`.
pub fn for_each_with<T: Sync, S, E: Send>(
    threads: usize,
    items: &[T],
    begin: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &T) -> Result<(), E> + Sync,
    end: impl Fn(S) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let item = || Ok(items.get(next.fetch_add(1, Ordering::Relaxed)));
    for_each_next(threads.min(items.len()), item, begin, work, end)
}

/// [`for_each_with`] of the items that `next` returns until there are no more.
///
/// # Errors
/// Those of `next`, `work` and `end`.
pub fn for_each_next<T, S, E: Send>(
    threads: usize,
    next: impl Fn() -> Result<Option<T>, E> + Sync,
    begin: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, T) -> Result<(), E> + Sync,
    end: impl Fn(S) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let failed = AtomicBool::new(false);
    let one_thread = || {
        let mut state = begin();
        let mut worked = Ok(());
        while worked.is_ok() && !failed.load(Ordering::Relaxed) {
            worked = match next() {
                Ok(None) => break,
                Ok(Some(item)) => work(&mut state, item),
                Err(e) => Err(e),
            };
            failed.fetch_or(worked.is_err(), Ordering::Relaxed);
        }
        worked.and(end(state)).inspect_err(|_| failed.store(true, Ordering::Relaxed))
    };
    if threads < 2 {
        return one_thread();
    }
    std::thread::scope(|s| {
        let others: Vec<_> = (1..threads).map(|_| s.spawn(one_thread)).collect();
        let own = one_thread();
        others.into_iter().fold(own, |ended, thread| ended.and(thread.join().expect("the work does not panic")))
    })
}

/// Calls `work` on `threads` threads at once, the calling thread among them. Returns when all calls have returned.
pub fn on_each(threads: usize, work: impl Fn() + Sync) {
    std::thread::scope(|s| {
        for _ in 1..threads {
            s.spawn(&work);
        }
        work();
    });
}

/// Where the items of [`feed`] go.
pub struct Feeder<'a, T> {
    items: mpsc::SyncSender<T>,
    failed: &'a AtomicBool,
}

impl<T> Feeder<'_, T> {
    /// Hands out an item, and waits while there are many. After an error it does nothing.
    pub fn send(&self, item: T) {
        if !self.has_failed() {
            let _ = self.items.send(item);
        }
    }

    /// Whether there was an error: then no more items are wanted.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Calls `work` for each item that `feed` sends. `feed` runs on the calling thread, `work` on `threads` others. Each of
/// these has a state; `end` gets it when there are no more items. After an error, the first is returned.
///
/// # Errors
/// Those of `feed` and `work`.
pub fn feed<T: Send, S, E: Send>(
    threads: usize,
    feed: impl FnOnce(Feeder<'_, T>) -> Result<(), E>,
    begin: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, T) -> Result<(), E> + Sync,
    end: impl Fn(S) + Sync,
) -> Result<(), E> {
    let (items, receive) = mpsc::sync_channel(threads * 4);
    let (receive, failed, error) = (Mutex::new(receive), AtomicBool::new(false), Mutex::new(None));
    let note = |result: Result<(), E>| {
        if let Err(e) = result {
            failed.store(true, Ordering::Relaxed);
            error.lock().get_or_insert(e);
        }
    };
    let one_thread = || {
        let mut state = begin();
        while let Ok(item) = { receive.lock().recv() } {
            // After an error the items are drained, so that the feeder does not wait.
            if !failed.load(Ordering::Relaxed) {
                note(work(&mut state, item));
            }
        }
        end(state);
    };
    std::thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(one_thread);
        }
        note(feed(Feeder { items, failed: &failed }));
    });
    error.into_inner().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once_and_an_error_ends_the_rest() {
        let items: Vec<usize> = (0..1000).collect();
        for threads in [1, 4] {
            let sum = AtomicUsize::new(0);
            let add = |n: &usize| {
                sum.fetch_add(*n, Ordering::Relaxed);
                Ok::<(), ()>(())
            };
            for_each(threads, &items, add).unwrap();
            assert_eq!(sum.into_inner(), 499_500);
            let begun = AtomicUsize::new(0);
            let fail = |n: &usize| {
                begun.fetch_add(1, Ordering::Relaxed);
                if *n == 3 { Err(*n) } else { Ok(()) }
            };
            assert_eq!(for_each(threads, &items, fail), Err(3));
        }
    }

    #[test]
    fn results_come_in_the_order_of_the_items_and_each_thread_ends_its_state() {
        let items: Vec<usize> = (0..1000).collect();
        for threads in [1, 4] {
            let doubled = map(threads, &items, |n| Ok::<_, ()>(n * 2)).unwrap();
            assert!(doubled.iter().enumerate().all(|(i, n)| *n == i * 2));
            let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let count = |counter: &AtomicUsize| {
                counter.fetch_add(1, Ordering::Relaxed);
            };
            let fail = |(): &mut (), n: &usize| if *n == 3 { Err(*n) } else { Ok(()) };
            let end = |()| {
                count(&ended);
                Ok(())
            };
            assert_eq!(for_each_with(threads, &items, || count(&begun), fail, end), Err(3));
            assert_eq!(begun.into_inner(), ended.into_inner());
        }
    }

    #[test]
    fn fed_items_are_worked_on_once_and_an_error_of_either_side_ends_the_feeding() {
        let feed_many = |feeder: Feeder<'_, usize>| {
            let sent = (0..1000).take_while(|_| !feeder.has_failed()).map(|n| feeder.send(n)).count();
            if sent == 1000 { Ok(()) } else { Err(sent) }
        };
        let sum = AtomicUsize::new(0);
        let add = |own: &mut usize, n: usize| {
            *own += n;
            Ok(())
        };
        let end = |own: usize| {
            sum.fetch_add(own, Ordering::Relaxed);
        };
        assert_eq!(feed(4, feed_many, || 0, add, end), Ok(()));
        assert_eq!(sum.load(Ordering::Relaxed), 499_500);
        let fail = |_: &mut usize, n: usize| if n == 3 { Err(5000) } else { Ok(()) };
        assert_eq!(feed(4, feed_many, || 0, fail, |_| {}), Err(5000));
        assert_eq!(feed(4, |_: Feeder<'_, usize>| Err(7), || 0, add, |_| {}), Err(7));
    }

    #[test]
    fn work_runs_on_each_thread_once() {
        let calls = AtomicUsize::new(0);
        let met = std::sync::Barrier::new(3);
        on_each(3, || {
            met.wait(); // returns only when three threads are here at once
            calls.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(calls.into_inner(), 3);
    }
}
