//! A version as a readable tree: its entries, its files, and writing it out.

mod checkout;
mod fill;
mod plan;
mod read;

pub use checkout::{CheckoutOptions, CheckoutReport, checkout};
pub use fill::Link;
pub use read::FileReader;
