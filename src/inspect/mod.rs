//! Floor 8: what is on a device, as structured reports.
//!
//! Invariants:
//! - nothing here writes: the device is only ever reached through a [`Port`](crate::device::Port) for reading;
//! - nothing here relies on the book-keeping of the space and allocator floors: everything is recounted from the bytes
//!   on the device, with the journal applied in memory;
//! - damage is a [`Finding`] with its place, and does not end an inspection. What ends one is an error of the device,
//!   or that there is no store at all.

mod check;
mod finding;
mod info;
mod journal;
mod map;
mod source;
mod stat;
mod tree;

pub use check::{CheckProgress, CheckReport, check};
pub use finding::{Finding, FindingKind};
pub use info::{InfoReport, RoleUsage, info};
pub use journal::{GroupEntry, GroupState, JournalReport, journal};
pub use map::{MapCell, MapReport, map};
pub use source::StoreStatus;
pub use stat::{StatReport, stat};
