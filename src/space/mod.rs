//! Floor 5: which pages and items are whose. Pure: no I/O, nothing asynchronous; it takes tables, bitmaps and region
//! heads and answers which bytes change.
//!
//! What is on disk is the *committed* state: segment records, bitmaps, page headers, region heads. Memory keeps the
//! records and, of the segments that are loaded, what is *available*: what may be handed out. Reserved space is missing
//! from it from reservation on (rule 2), freed space comes back to it when its free is durable (rule 3).
//!
//! Invariants:
//! - what is available is free in the committed state;
//! - committed free space = available + reserved + pending;
//! - a segment with reserved or pending space, or with an extent that an open transaction is going to free, stays loaded.

pub mod buddy_map;
mod cold;
mod counters;
mod index;
mod place;
mod publish;
mod publish_items;
mod reclaim;
mod reserve;
pub mod runs;
mod segment;
mod slab;
mod table;
mod touched;

pub use counters::{RoleTotals, SpaceCounters};
pub use place::{Allocation, Place, Release, Reservation, Resize};
pub use publish::{Batch, MetadataBlocks, RegionHeads};
pub use reserve::{Exactly, Request, Reserve, Wanted};
pub use segment::{Content, Segment};
pub use slab::{Region, SlabSegment};
pub use table::Space;
