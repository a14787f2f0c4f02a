//! Floor 6: the handle that programs hold. It binds space to journal.
//!
//! Lock order: `core` comes after the journal's `writer`, and behind it the queue of those who have joined a group, before
//! the journal's `state`. `core` is never held across an `await`, a
//! checkpoint, or driving.

mod commit;
mod create;
mod data;
mod extent;
mod extents;
mod free;
mod handle;
mod load;
mod offload;
mod options;
mod publish;
mod request;
mod reserve;
mod resize;
mod space_stats;
mod stats;
mod transaction;
mod turns;
mod validate;

pub use commit::Committed;
pub use create::{Created, FormatOptions, clear_traces, find_traces};
pub use data::DataTicket;
pub use extent::{AllocRequest, Extent, ExtentInfo};
pub use free::FreeArea;
pub use handle::Allocator;
pub use options::OpenOptions;
pub(crate) use space_stats::RunCount;
pub use space_stats::{FreeRuns, RunBucket, SpaceStats};
pub use stats::{AllocatorStats, RoleStats, SegmentStats};
pub use transaction::Transaction;
