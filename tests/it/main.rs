//! The integration tests: real stores, real processes, real mounts, in one binary.

mod access;
mod cli;
mod craft;
mod damage;
mod drafts;
mod faults;
mod fresh;
mod locks;
mod lost_numbers;
mod mount;
mod orders;
mod patching;
mod races;
mod staging;
mod store_fuzz;
mod strange_stores;
mod support;
mod verify;
mod whole;
