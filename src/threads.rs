//! How many threads work that is spread over threads gets.

/// The machine's processors as far as this process may use them, at most eight.
pub fn count() -> usize {
    std::thread::available_parallelism().map_or(2, |n| n.get().min(8))
}
