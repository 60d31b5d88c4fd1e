//! cairn: a versioned artifact store on plain disk.
#![warn(missing_docs)]

pub mod catalog;
pub mod clock;
pub mod disk;
pub mod error;
pub mod layout;
pub mod lock;
pub mod progress;
pub mod record;
pub mod store;
pub mod words;
pub mod work;
