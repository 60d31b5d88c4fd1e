//! Real mounts, made by the real `cairnfs`. SEMANTICS.md's statements are tested here.

mod access;
mod build;
mod content;
mod damage;
mod directories;
mod life;
mod places;
mod points;
mod read_only;
mod support;
pub mod users;
mod whole;
