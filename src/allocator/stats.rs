//! Counters of an open store.

use crate::device::DeviceMetrics;
use crate::format::Role;
use crate::journal::JournalStats;

/// Segments by role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SegmentStats {
    /// Wholly or partly usable segments on the device.
    pub total: u32,
    /// At or beyond the frontier: never used.
    pub untouched: u32,
    /// Below the frontier, with nothing in use.
    pub unused: u32,
    /// Of role `buddy`.
    pub buddy: u32,
    /// Of role `extent`.
    pub extent: u32,
    /// Of role `slab`.
    pub slab: u32,
    /// Wholly part of a span.
    pub span: u32,
}

/// What the segments of one role hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RoleStats {
    /// The role.
    pub role: Role,
    /// Segments.
    pub segments: u64,
    /// Extents or items.
    pub extents: u64,
    /// Bytes in them.
    pub allocated_bytes: u64,
    /// Bytes of regions that can be no item: heads and remainders.
    pub overhead_bytes: u64,
    /// Bytes that were allocated and not asked for; each extent's rounded down to a 512th of a page, each item's to a
    /// sixteenth of the step between classes.
    pub rounding_bytes: u64,
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
    /// Superblocks, journal, metadata, heads of regions, and what is behind the last whole page.
    pub metadata_bytes: u64,
    /// In extents and items of committed transactions.
    pub allocated_bytes: u64,
    /// Can be allocated now.
    pub free_bytes: u64,
    /// Held by open transactions.
    pub reserved_bytes: u64,
    /// Freed by transactions that are not durable yet.
    pub pending_bytes: u64,
    /// Extents and items of committed transactions.
    pub extents: u64,
    /// Bytes that were allocated and not asked for.
    pub rounding_bytes: u64,
    /// Bitmaps, region heads, and indexes over them that are in memory.
    pub loaded_bytes: u64,
    /// Segments.
    pub segments: SegmentStats,
    /// The journal.
    pub journal: JournalStats,
    /// The device.
    pub device: DeviceMetrics,
}
