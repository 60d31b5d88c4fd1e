//! The integration tests: real stores, real processes, real mounts, in one binary.

mod cli;
mod craft;
mod damage;
mod drafts;
mod faults;
mod locks;
mod mount;
mod orders;
mod patching;
mod races;
mod staging;
mod store_fuzz;
mod support;
mod verify;
