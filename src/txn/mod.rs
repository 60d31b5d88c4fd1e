//! Transactions: how a record gets its number, by tokens ([`Txn`]) and claims, step by step.

pub mod claim;
mod one_place;
mod protocol;
mod token;

pub use one_place::OnePlace;
pub use protocol::{
    AttemptOutcome, Commit, Committed, Durable, Numbers, Pass, Place, Placed, Prepared, Unfenced, help, is_claimed,
    once, retry,
};
pub use token::{Outcome, Txn, is_fenced, read_outcome, tokens};
pub(crate) use token::{bases, fence, record_path, remove_ended};
