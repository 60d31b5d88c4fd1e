//! What the benchmark programs share: datasets from a fixed seed, processes with their time and memory, a table of
//! ratios; settings; the smallest programs that have the same limits.

pub mod data;
#[allow(dead_code)]
pub mod floor;
#[allow(dead_code)]
pub mod plot;
#[allow(dead_code)]
pub mod process;
#[allow(dead_code)]
pub mod protocol;
#[allow(dead_code)]
pub mod settings;
pub mod table;
