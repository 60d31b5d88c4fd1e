//! Stored content: large blobs as files, small blobs and manifest nodes in packs, and the index over the packs
//! (FORMAT.md).
//!
//! Guarantees: what is read has the digest that was asked for, or there is an error; nothing is visible before it is
//! durable (F1, F2). Hints, index and caches decide how fast it is, never what is right. Does not know names, versions
//! or which content is still needed.

mod adopt;
mod agreement;
mod ahead;
mod backoff;
mod beginnings;
mod cached_pack;
mod check;
mod check_index;
mod checkpoint;
mod chunks;
mod codec;
mod compared_base;
mod compared_copy;
mod compose;
mod compose_plan;
mod compose_rest;
mod composed;
mod composed_file;
mod content_store;
mod copies;
mod copy_in;
mod damage;
mod deduplication;
mod distrusted;
mod framed_source;
mod frames;
mod hints;
mod index;
mod index_maintenance;
mod index_segment;
mod known_damage;
mod large_put;
mod leases;
mod locate;
mod miss;
mod node_counts;
mod node_tracker;
mod node_writer;
mod object_file;
mod object_sizes;
#[cfg(feature = "fuse")]
mod one_file;
mod open_packs;
mod pack;
mod pack_checks;
mod pack_file;
mod pack_set;
mod pack_table;
mod pack_writer;
mod put_back;
mod put_in_parts;
mod read;
mod recent_misses;
mod recent_pack;
mod recipe;
mod recipe_table;
mod recipes_in_packs;
mod refuse_damaged;
mod resemblance;
mod rewrite;
mod salvage;
mod search;
mod segment_merge;
mod segment_writer;
mod small_contents;
mod staged_files;
mod step_hasher;
mod stored_files;
mod temp_names;
#[cfg(test)]
mod tests;
mod thread_writer;
mod through_cache;
mod undo_adoption;
mod verified_objects;
mod writer;

pub(crate) use ahead::PackedFile;
#[cfg(feature = "fuse")]
pub(crate) use cached_pack::cached_object;
pub use check::PackContents;
pub use compose::{Earlier, EarlierContents};
pub use composed_file::ComposedFile;
pub use content_store::Objects;
pub use copies::Copies;
pub use damage::{Damage, DamagedItem, KnownDamage, StoredFile};
pub use index_maintenance::IndexUpdate;
pub use large_put::LargePut;
pub use leases::{Leases, OtherNames};
pub use node_counts::NodeCounts;
pub use node_tracker::NodePacks;
pub use node_writer::NodeThreadWriter;
pub use object_file::{LargeObject, OBJECT_MODE, OBJECT_MTIME};
#[cfg(feature = "fuse")]
pub(crate) use one_file::OneFile;
pub use pack::{BlobKind, MAX_BLOBS, SMALL_MAX};
pub use put_back::Trash;
pub use read::Content;
pub use recipe::{COMPOSED_MIN, RECIPE_MIN, RecipeSource};
pub use recipes_in_packs::{PackBlobs, RecipesInPacks, unreadable_recipe};
pub use rewrite::{BlobSet, Rewritten};
pub use salvage::Salvaged;
pub use search::SearchDepth;
pub use thread_writer::{SmallPut, ThreadWriter};
pub use writer::{ObjectWriter, SealSummary};
