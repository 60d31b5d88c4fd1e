//! Staging directories: a run writes files there, without knowing of cairn, and they become its contribution to a
//! draft.
//!
//! A stage is `staging/T/`, next to a record that says to which run it belongs. An open stage takes changes, also after
//! its holder died: then the same run continues with it. Sealing turns it into a contribution, and removes the stage.
//! Guaranteed:
//! * If two mounts both believe that they hold a run's stage, only one takes changes: the other one sees the next
//!   `T.holder-N` before its next change.
//! * Once sealing began, no mount writes to the stage again: the marker `T.sealing` is made before any of its files is
//!   taken.
//! * Nothing that is written later reaches an object (`objects::Leases`).
//! * If sealing is interrupted at any step, the next process repeats it and makes the same contribution.

mod discard;
mod holders;
mod removal;
mod seal;
mod stage;

pub use discard::{Leftover, discard_draft, drop_run, leftovers};
pub use holders::{PURPOSE, is_held_here, mounted_at};
pub use seal::SealOptions;
pub use stage::{Resume, Stage};
