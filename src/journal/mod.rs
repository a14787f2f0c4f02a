//! Floor 4: from a transaction's bytes to durable bytes, and back after a power loss.
//!
//! ```text
//!   append ──► overlay + open group ──► drive: one write, one flush ──► outcome told
//!                     │                                                      │
//!                     └────────────── checkpoint ◄── ring filling up ────────┘
//!                         unused slots, caller blocks in place, flush,
//!                         superblock copy, flush, other copy, flush ──► ring space is free again
//! ```
//!
//! Invariants:
//! - Nothing is written in place, or into a referenced slot, before the group that covers it is durable (rule 1). A
//!   checkpoint writes a snapshot that was taken when everything in it was about to become durable, and waits for that.
//! - One group is in flight at a time, so every group but the last is known to have been durable before the last one
//!   was issued (rules 6, 7).
//! - Ring space is paid for with permits before a record is appended and given back only when both superblock copies
//!   point past it (rules 10, 14).
//! - The first failed write or flush is the last one (rule 5): the port lets nothing more pass.
//!
//! Lock order: `checkpointing`, `writer`, the allocator's `core` (the hook for durable groups takes it under `writer`),
//! `state`, `tree`; overlay shards are leaves.
//!
//! Appenders wait for `core` and `state`, so little is done under them: a group is closed by taking references to its
//! blocks, and encoded under `writer` alone. Appenders that come meanwhile change copies.

mod append;
mod checkpoint;
mod commit;
mod data;
mod drive;
mod engine;
mod group;
mod maintenance;
mod marks;
mod outcome;
mod overlay;
mod range_lock;
mod recovery;
mod ring;
mod scan;
mod stages;
mod superblocks;
mod tree;

pub use append::{Appender, MetadataChange, MetadataWrite, Record};
pub use engine::{Journal, JournalOptions, JournalStats};
pub use maintenance::Maintenance;
pub use outcome::Ticket;
pub use overlay::{BlockId, Overlay};
pub use range_lock::{RangeGuard, RangeLocks};
pub use recovery::{Replay, ReplayReport};
pub use ring::{Ring, RingPermit};
pub use scan::{JournalScan, ScannedGroup, TornTail, read_witness, scan_journal};
pub use stages::CommitStages;
pub use superblocks::{SuperblockCopy, SuperblockPair, inspect_superblocks};
pub use tree::{ChecksumTree, structure_of};
