//! Real mounts, made by the real `cairnfs`. SEMANTICS.md's statements are tested here.

mod access;
mod build;
mod content;
mod daemon_lifecycle;
mod damage;
mod directories;
mod mount_environments;
mod mount_point_checks;
mod read_only;
mod store_mounts;
mod support;
pub mod users;
