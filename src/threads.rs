//! How many threads work that is spread over threads gets.

use std::sync::OnceLock;

/// The machine's processors as far as this process may use them, at most eight.
pub fn count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new(); // asking costs a look into /proc and the cgroups
    *COUNT.get_or_init(|| std::thread::available_parallelism().map_or(2, |n| n.get().min(8)))
}
