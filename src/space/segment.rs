//! One segment in memory.

use super::buddy_map::BuddyMap;
use crate::format::SegmentRecord;

/// Free pages of a loaded segment, in both views.
#[derive(Clone, Debug)]
pub struct SegmentMaps {
    /// As the journal has it.
    pub committed: BuddyMap,
    /// What may be handed out.
    pub available: BuddyMap,
}

/// A segment below the frontier.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    /// The record as the journal has it.
    pub record: SegmentRecord,
    /// Present while the segment's bitmap is loaded.
    pub maps: Option<SegmentMaps>,
    /// The generation given to the newest reservation. Never goes back, so that a handle from an aborted transaction
    /// does not match a later extent.
    pub last_generation: u32,
    /// Pages reserved by open transactions.
    pub reserved_pages: u32,
    /// Pages freed by transactions that are not durable yet.
    pub pending_pages: u32,
}

impl Segment {
    /// The order of the largest run that may be handed out.
    #[must_use]
    pub fn available_class(&self) -> Option<u8> {
        match &self.maps {
            Some(maps) => maps.available.largest_order(),
            // Nothing can be reserved or pending in a segment that is not loaded.
            None => self.record.class,
        }
    }
}
