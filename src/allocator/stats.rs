//! Counters of an open store.

use crate::device::DeviceMetrics;
use crate::journal::JournalStats;

/// Segments by role and state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SegmentStats {
    /// Wholly or partly usable segments on the device.
    pub total: u32,
    /// At or beyond the frontier: never used.
    pub untouched: u32,
    /// Below the frontier without a role.
    pub unused: u32,
    /// Of role `buddy`, with no page in use.
    pub buddy_empty: u32,
    /// Of role `buddy`, partly in use.
    pub buddy_partial: u32,
    /// Of role `buddy`, without a free page.
    pub buddy_full: u32,
}

/// A reading of everything that a store counts.
///
/// `allocated_bytes + free_bytes + reserved_bytes + pending_bytes + metadata_bytes = device_bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct AllocatorStats {
    /// Length of the device when the store was made.
    pub device_bytes: u64,
    /// Superblocks, journal, metadata, and what is behind the last whole page.
    pub metadata_bytes: u64,
    /// In extents of committed transactions.
    pub allocated_bytes: u64,
    /// Can be allocated now.
    pub free_bytes: u64,
    /// Held by open transactions.
    pub reserved_bytes: u64,
    /// Freed by transactions that are not durable yet.
    pub pending_bytes: u64,
    /// Extents of committed transactions.
    pub extents: u64,
    /// Segments.
    pub segments: SegmentStats,
    /// The journal.
    pub journal: JournalStats,
    /// The device.
    pub device: DeviceMetrics,
}
