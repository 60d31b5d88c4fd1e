//! References: content that stays elsewhere, from being added to being read, mounted, fetched and verified.

mod far;
mod fetched;
mod local;
mod mount;
mod server;

pub use far::cairn;
pub use server::Server;
