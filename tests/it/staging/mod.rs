//! Staging directories: real mounts, real processes. What SEMANTICS.md says of them is tested here, and that nothing
//! written later reaches an object.

mod attacks;
mod directory;
mod faults;
mod holders;
mod life;
mod mounting;
mod names;
mod requests;
mod seal;
mod shared;
mod support;
mod unmount;
mod whole;
mod withdrawn;
