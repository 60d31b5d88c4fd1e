//! Records that may have one place alone, whatever its name: there is no next number.

use super::protocol::{Numbers, Pass};
use crate::error::Result;
use crate::types::Token;
use std::path::PathBuf;

/// The only place that a record may have. If another record is there, it gets none. `RELIES_ON_WINNER` is
/// [`Numbers::RELIES_ON_WINNER`].
#[derive(Debug)]
pub struct OnePlace<const RELIES_ON_WINNER: bool>(PathBuf);

impl<const RELIES_ON_WINNER: bool> OnePlace<RELIES_ON_WINNER> {
    /// This path.
    pub fn at(path: PathBuf) -> Self {
        OnePlace(path)
    }
}

impl<const RELIES_ON_WINNER: bool> Numbers for OnePlace<RELIES_ON_WINNER> {
    type Refusal = ();

    const RELIES_ON_WINNER: bool = RELIES_ON_WINNER;

    fn dir(&self) -> PathBuf {
        self.0.parent().unwrap_or(&self.0).to_path_buf()
    }

    fn first(&self) -> u64 {
        0
    }

    fn is_exact(&self) -> bool {
        true
    }

    fn path(&self, _: u64) -> PathBuf {
        self.0.clone()
    }

    fn passed(&self, _: u64, _: &Token) -> Result<Pass<()>> {
        Ok(Pass::Refused(()))
    }
}
