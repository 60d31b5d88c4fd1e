//! cairn: a versioned artifact store on plain disk.
#![warn(missing_docs)]

pub mod disk;
pub mod error;
pub mod layout;
pub mod manifest;
pub mod objects;
pub mod words;
