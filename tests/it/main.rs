//! The integration tests: real stores, real processes, real mounts, in one binary.

mod cli;
mod damage;
mod drafts;
mod faults;
mod mount;
mod orders;
mod patching;
mod races;
mod staging;
mod support;
