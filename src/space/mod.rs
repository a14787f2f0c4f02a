//! Floor 5: which pages are whose. Pure: no I/O, nothing asynchronous; it takes tables and bitmaps and answers which
//! pages and which bytes change.
//!
//! There are two views of each segment. The *committed* one is what the journal says: it makes the bytes on disk. The
//! *available* one is what may be handed out: reserved pages are missing from it from reservation on (rule 2), freed
//! pages come back to it when their free is durable (rule 3).
//!
//! Invariants:
//! - available free pages are a subset of committed free pages;
//! - committed free pages = available free pages + reserved + pending;
//! - a loaded segment's record agrees with its bitmap in used pages and class.

pub mod buddy_map;
mod free_lists;
mod reserve;
mod segment;
mod table;

pub use reserve::{Reservation, Reserve};
pub use segment::{Segment, SegmentMaps};
pub use table::{Allocation, Release, Space, SpaceCounters};
