//! The manifest's properties, against a map of paths.

mod change;
mod damage;
mod model;
mod read;
mod rebase;
mod shape;

use super::*;
