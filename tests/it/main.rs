//! The integration tests: real stores, real processes, real mounts, in one binary.

mod cli;
mod faults;
// mod mount; (until its stores are made by put)
mod support;
