//! A version as a readable tree: its entries, its files, and writing it out.

mod checkout;
mod fill;
mod local;
mod names;
mod opened;
mod options;
mod plan;
mod prune;
mod read;
mod written;

pub use crate::remote::shown_uri;
pub use checkout::{CheckoutReport, checkout};
pub use local::LocalFiles;
pub use options::{CheckoutOptions, Link};
pub use read::FileReader;
pub use written::References;
