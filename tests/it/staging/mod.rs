//! Staging directories: real mounts, real processes. What SEMANTICS.md says of them is tested here, and that nothing
//! written later reaches an object.

mod attacks;
mod directory;
mod faults;
mod holders;
mod mounting;
mod names;
mod requests;
mod seal;
mod shared;
mod stage_lifecycle;
mod store_mounts;
pub mod support;
mod unmount;
mod withdrawn;
