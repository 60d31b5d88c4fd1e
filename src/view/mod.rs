//! A version as a readable tree: its entries, its files, and writing it out.

mod batches;
mod checkout;
mod fill;
mod local;
mod names;
mod opened;
mod options;
mod plan;
mod prune;
mod read;
mod warm;
mod written;

pub use crate::cache::CacheOptions;
pub use crate::remote::shown_uri;
pub use checkout::{CheckoutReport, checkout};
pub use local::LocalFiles;
pub use options::{CheckoutOptions, Link};
pub use read::FileReader;
#[cfg(feature = "fuse")]
pub(crate) use warm::warm;
pub use warm::{WarmOptions, Warmed};
pub use written::References;
