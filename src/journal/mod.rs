//! Floor 4: from a transaction's bytes to durable bytes, and back after a power loss.
//!
//! ```text
//!   join ──► group ──► its turn: publish (overlay), one write, one flush ──► outcome told
//!                         │                                                      │
//!                         └────────────── checkpoint ◄── ring filling up ────────┘
//!                             unused slots, caller blocks in place, flush,
//!                             superblock copy, flush, other copy, flush ──► ring space is free again
//! ```
//!
//! Invariants:
//! - Nothing is written in place, or into a referenced slot, before the group that covers it is durable (rule 1). The one
//!   who writes a group has it take effect, and does not let go of the writer's lock before it is durable; a checkpoint
//!   takes its snapshot under that lock.
//! - One group is in flight at a time, so every group but the last is known to have been durable before the last one
//!   was issued (rules 6, 7).
//! - Ring space is paid for with permits before a transaction joins a group and given back only when both superblock
//!   copies point past it (rules 10, 14).
//! - The first failed write or flush is the last one (rule 5): the port lets nothing more pass.
//!
//! Lock order: `checkpointing`, `writer`, the allocator's `core` and its queue (the [`Publisher`] takes them under
//! `writer`), `state`, `tree`; overlay shards are leaves.
//!
//! Those who commit wait for `state` only, and little is done under it: what a transaction changes is worked out by the one
//! who writes its group.

mod absence;
mod append;
mod batch;
mod carried;
mod checkpoint;
mod commit;
mod data;
mod decoded;
mod drive;
mod engine;
mod extents;
mod group;
mod in_place;
mod kept;
mod maintenance;
mod marks;
mod outcome;
mod overlay;
mod publisher;
mod range_lock;
mod recovery;
mod replay;
mod replayed;
mod ring;
mod scan;
mod stages;
mod superblocks;
mod threads;
mod tree;
mod waiting;

pub use append::{Appender, Bases};
pub use engine::{Journal, JournalOptions, JournalStats};
pub use extents::ExtentUpdate;
pub use kept::Keeping;
pub use maintenance::Maintenance;
pub use outcome::Ticket;
pub use overlay::{BlockId, Overlay};
pub use publisher::Publisher;
pub use range_lock::{RangeGuard, RangeLocks};
pub use recovery::{Replay, ReplayReport};
pub use ring::{Ring, RingPermit};
pub use scan::{JournalScan, ScannedGroup, TornTail, read_witness, scan_journal};
pub use stages::CommitStages;
pub use superblocks::{SuperblockCopy, SuperblockPair, inspect_superblocks};
pub use tree::{ChecksumTree, structure_of};
