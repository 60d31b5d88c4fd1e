//! How many threads a parallel operation uses, and how its work is spread over them.

use parking_lot::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The number of processors that this process may use, at most eight.
pub fn count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new(); // asking reads /proc and the cgroups
    *COUNT.get_or_init(|| std::thread::available_parallelism().map_or(2, |n| n.get().min(8)))
}

/// Calls `work` for each item, with up to `threads` threads. After an error it begins no further item. If there are
/// several errors, it returns one.
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
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let one_thread = || {
        let mut state = begin();
        let mut worked = Ok(());
        while worked.is_ok()
            && !failed.load(Ordering::Relaxed)
            && let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed))
        {
            worked = work(&mut state, item);
            failed.fetch_or(worked.is_err(), Ordering::Relaxed);
        }
        worked.and(end(state)).inspect_err(|_| failed.store(true, Ordering::Relaxed))
    };
    if threads < 2 || items.len() < 2 {
        return one_thread();
    }
    std::thread::scope(|s| {
        let all: Vec<_> = (0..threads.min(items.len())).map(|_| s.spawn(one_thread)).collect();
        let ended: Vec<_> = all.into_iter().map(|thread| thread.join().expect("the work does not panic")).collect();
        ended.into_iter().collect()
    })
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
}
