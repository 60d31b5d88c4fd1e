//! A version as a readable tree: its entries, its files, and writing it out.

mod checkout;
mod fill;
mod names;
mod opened;
mod plan;
mod prune;
mod read;
mod references;

pub use checkout::{CheckoutOptions, CheckoutReport, checkout};
pub use fill::Link;
pub use read::FileReader;
pub use references::References;
