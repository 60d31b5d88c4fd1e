//! Node-local caches: stores that are read through them, damage, full disks, killed daemons; and `cairn warm`.

mod mounts;
mod support;
mod warm;
