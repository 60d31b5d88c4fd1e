//! How many threads a parallel operation uses, and how its work is spread over them.

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
    if threads < 2 || items.len() < 2 {
        return items.iter().try_for_each(work);
    }
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let one_thread = || {
        while !failed.load(Ordering::Relaxed)
            && let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed))
        {
            work(item).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
        }
        Ok(())
    };
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
}
