//! The manifest's properties, against a map of paths.

mod model;
mod read;

use super::*;
