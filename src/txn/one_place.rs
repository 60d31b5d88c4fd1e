//! Records that may have one place alone, whatever its name: there is no next number.

use super::protocol::{Numbers, Pass};
use crate::error::Result;
use crate::types::Token;
use std::path::PathBuf;

/// The only place that a record may have. If another record is there, it gets none. `RELIES_ON_WINNER` is
/// [`Numbers::RELIES_ON_WINNER`].
#[derive(Debug)]
pub struct OnePlace<const RELIES_ON_WINNER: bool> {
    path: PathBuf,
    done: &'static str,
}

impl<const RELIES_ON_WINNER: bool> OnePlace<RELIES_ON_WINNER> {
    /// This path.
    pub fn at(path: PathBuf) -> Self {
        OnePlace { path, done: "it is recorded" }
    }

    /// Sets what is true once the record is there: "it is removed".
    pub fn done(self, done: &'static str) -> Self {
        OnePlace { done, ..self }
    }
}

impl<const RELIES_ON_WINNER: bool> Numbers for OnePlace<RELIES_ON_WINNER> {
    type Refusal = ();

    const RELIES_ON_WINNER: bool = RELIES_ON_WINNER;

    fn done(&self) -> &'static str {
        self.done
    }

    fn dir(&self) -> PathBuf {
        self.path.parent().unwrap_or(&self.path).to_path_buf()
    }

    fn first(&self) -> u64 {
        0
    }

    fn is_exact(&self) -> bool {
        true
    }

    fn path(&self, _: u64) -> PathBuf {
        self.path.clone()
    }

    fn passed(&self, _: u64, _: &Token) -> Result<Pass<()>> {
        Ok(Pass::Refused(()))
    }
}
