//! Tests of packs, index, reading and writing, against real files.
