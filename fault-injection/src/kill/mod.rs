//! Real processes on a real file, killed with SIGKILL in mid-commit, and the store recovered by its own code.
//!
//! The child says on its standard output what it is about to commit, and what was acknowledged. What the parent has
//! read by the time of the kill must be there.

mod child;
mod lines;
mod parent;

pub use child::run_child;
pub use parent::{KillOptions, run_kills};

/// Page size of the stores.
pub const PAGE_BYTES: u64 = 4096;
