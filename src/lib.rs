//! cairn: a versioned artifact store on plain disk.
#![warn(missing_docs)]

pub mod error;
pub mod manifest;
pub mod words;
