//! What the benchmark programs share: datasets from a fixed seed, processes with their time and memory, a table of
//! ratios.

pub mod data;
pub mod process;
pub mod table;
