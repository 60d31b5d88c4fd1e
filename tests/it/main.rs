//! The integration tests: real stores, real processes, real mounts, in one binary.

#![allow(clippy::too_many_lines)] // a test is read from its first step to its last

mod access;
mod adding;
mod assets;
mod cache;
mod catalog_storm;
mod cli;
mod composed;
mod crafted_stores;
mod damage;
mod drafts;
mod faults;
mod forks;
mod full_disk;
mod gc;
mod gc_in_use;
mod gc_load;
mod gc_rewrite;
mod gc_together;
mod growth;
mod local_files;
mod locks;
mod lost_numbers;
mod missing_content;
mod mount;
mod order_independence;
mod pages;
mod patching;
mod quota_faults;
mod races;
mod reading;
mod readme;
mod references;
mod repair;
mod restore;
mod revalidated_lookups;
mod sharing;
mod staging;
mod store_fuzz;
mod strange_stores;
mod support;
mod verify;
mod verify_disagreements;
mod verify_findings;
mod verify_resume;
