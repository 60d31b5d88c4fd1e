//! The integration tests: real stores, real processes, real mounts, in one binary.

mod faults;
mod support;
