//! One segment in memory.

use std::collections::BTreeSet;

use super::buddy_map::BuddyMap;
use super::index::ItemKind;
use super::slab::SlabSegment;
use crate::format::{Role, SegmentRecord};

/// The order of a run of so many pages; none of no pages.
pub(super) fn order_of_run(pages: u32) -> Option<u8> {
    pages.checked_ilog2().and_then(|order| u8::try_from(order).ok())
}

/// What is known of a segment's inside.
#[derive(Clone, Debug, Default)]
pub enum Content {
    /// Nothing: not loaded, or never used.
    #[default]
    Absent,
    /// Role `extent`: its map is in the [`RunIndex`](super::runs::RunIndex).
    Runs,
    /// Role `buddy`.
    Buddy(Box<BuddyMap>),
    /// Role `slab`.
    Slab(Box<SlabSegment>),
    /// Wholly part of a span that begins with this segment.
    Span(u32),
}

/// A segment below the frontier of memory.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    /// The record as the journal has it.
    pub record: SegmentRecord,
    /// What may be handed out of it.
    pub content: Content,
    /// The generation given to the newest reservation. Never goes back, so that a handle from an aborted transaction
    /// does not match a later extent.
    pub last_generation: u32,
    /// Pages held by open transactions; of role `slab`, those of regions that are not on disk.
    pub reserved_pages: u32,
    /// Pages that are freed by transactions which are not durable yet.
    pub pending_pages: u32,
    /// Open transactions that are going to change something here.
    pub pins: u32,
    /// Groups, or parts of one, that changed the record, and have perhaps not changed the blocks yet.
    pub in_flight: u32,
    /// Grows with each change of what is committed, so that a map that was read before is not taken for the present one.
    pub version: u32,
    /// Grows whenever the content comes into memory. In between a region that is not loaded stays as it is.
    pub loads: u32,
    /// When it was last used, in an order of its own.
    pub last_used: u64,
    /// Pages of the longest run that can be had (`buddy`: of the largest aligned one), from when the map was dropped.
    pub known_longest: Option<u32>,
    /// Role `buddy`: pages of the longest run, aligned or not, from when the map was dropped.
    pub known_run: Option<u32>,
    /// Kinds of items of which some can be had, from when the regions were dropped.
    pub(super) known_open: Option<BTreeSet<ItemKind>>,
    /// By how many lives a place for an item was ahead of the journal when regions were dropped, at most: handles of
    /// aborted transactions match no later item.
    pub(super) item_lead: u16,
    /// It is in the list of empty segments.
    pub(super) listed_empty: bool,
    /// Where the [batch](super::publish::Batch) that is being published has it; of another one, this means nothing.
    pub(super) place_in_batch: u32,
}

impl Segment {
    /// Whether nothing at all is in it.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.record.used_pages == 0
            && self.reserved_pages == 0
            && self.pending_pages == 0
            && self.pins == 0
            && !matches!(self.content, Content::Span(_))
    }

    /// Whether the index surely has it where it belongs: most changes leave a segment as empty or as much in use as it
    /// was.
    #[inline]
    pub(super) fn is_in_place(&self) -> bool {
        self.listed_empty == self.is_empty() && !matches!(self.content, Content::Buddy(_))
    }

    /// Whether its inside has to be read before it can be used.
    #[must_use]
    pub fn is_cold(&self) -> bool {
        matches!(self.content, Content::Absent) && self.record.role != Role::Unused
    }

    /// Whether its inside can be dropped from memory.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.reserved_pages == 0 && self.pending_pages == 0 && self.pins == 0 && self.in_flight == 0
    }

    /// Whether an item of a kind may be had from a cold segment.
    pub(super) fn may_have(&self, kind: ItemKind) -> bool {
        match &self.known_open {
            Some(open) => open.contains(&kind),
            None => self.record.open_classes & kind.0.open_bit() != 0,
        }
    }

    /// A generation for what is reserved now. Zero means that nothing was ever allocated.
    pub(super) fn next_generation(&mut self) -> u32 {
        self.last_generation = self.last_generation.wrapping_add(1).max(1);
        self.last_generation
    }
}
