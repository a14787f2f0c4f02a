//! Counters over all segments, kept up to date with every change.

use super::table::Space;
use crate::format::{Layout, Role, SegmentRecord};

/// What the segments of one role hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoleTotals {
    /// Segments of the role.
    pub segments: u64,
    /// Bytes in extents or items.
    pub allocated_bytes: u64,
    /// Bytes that belong to regions and can be no item: heads and remainders.
    pub overhead_bytes: u64,
    /// Extents, or items.
    pub extents: u64,
    /// Bytes that were allocated and not asked for.
    pub slack_bytes: u64,
}

impl RoleTotals {
    /// What one segment's record adds.
    #[must_use]
    pub fn of(layout: &Layout, record: &SegmentRecord) -> Self {
        let page_bytes = u64::from(layout.page_bytes());
        let used = u64::from(record.used_pages) * page_bytes;
        let (allocated_bytes, overhead_bytes) = match record.role {
            Role::Slab => (u64::from(record.item_bytes), used.saturating_sub(record.capacity_bytes.into())),
            Role::Span => (u64::from(record.capacity_bytes) * layout.segment_bytes(), 0),
            _ => (used, 0),
        };
        Self {
            segments: record.span_segments().map_or(1, u64::from),
            allocated_bytes,
            overhead_bytes,
            extents: record.extents.into(),
            slack_bytes: record.slack_bytes.into(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.segments += other.segments;
        self.allocated_bytes += other.allocated_bytes;
        self.overhead_bytes += other.overhead_bytes;
        self.extents += other.extents;
        self.slack_bytes += other.slack_bytes;
    }

    fn subtract(&mut self, other: &Self) {
        self.segments = self.segments.saturating_sub(other.segments);
        self.allocated_bytes = self.allocated_bytes.saturating_sub(other.allocated_bytes);
        self.overhead_bytes = self.overhead_bytes.saturating_sub(other.overhead_bytes);
        self.extents = self.extents.saturating_sub(other.extents);
        self.slack_bytes = self.slack_bytes.saturating_sub(other.slack_bytes);
    }
}

/// Bytes that are neither free nor in an extent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) reserved: u64,
    pub(super) pending: u64,
}

/// Counters over all segments. `allocated + overhead + reserved + pending + free` is what can be allocated at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceCounters {
    /// By role, in the order of [`Role::ALL`]. Segments without a role are those below the frontier.
    pub roles: [RoleTotals; Role::ALL.len()],
    /// Bytes held by open transactions.
    pub reserved_bytes: u64,
    /// Bytes freed by transactions that are not durable yet.
    pub pending_bytes: u64,
}

impl SpaceCounters {
    fn sum(&self, part: impl Fn(&RoleTotals) -> u64) -> u64 {
        self.roles.iter().map(part).sum()
    }

    /// Bytes in extents and items of committed transactions.
    #[must_use]
    pub fn allocated_bytes(&self) -> u64 {
        self.sum(|totals| totals.allocated_bytes)
    }

    /// Bytes of regions that can be no item.
    #[must_use]
    pub fn overhead_bytes(&self) -> u64 {
        self.sum(|totals| totals.overhead_bytes)
    }

    /// Extents and items of committed transactions.
    #[must_use]
    pub fn extents(&self) -> u64 {
        self.sum(|totals| totals.extents)
    }

    /// Bytes that were allocated and not asked for.
    #[must_use]
    pub fn slack_bytes(&self) -> u64 {
        self.sum(|totals| totals.slack_bytes)
    }

    /// The totals of a role.
    #[must_use]
    pub fn role(&self, role: Role) -> RoleTotals {
        self.roles.get(role as usize).copied().unwrap_or_default()
    }

    fn role_mut(&mut self, role: Role) -> Option<&mut RoleTotals> {
        self.roles.get_mut(role as usize)
    }

    pub(super) fn count_record(&mut self, layout: &Layout, old: Option<&SegmentRecord>, new: &SegmentRecord) {
        if let Some(old) = old
            && let Some(totals) = self.role_mut(old.role)
        {
            totals.subtract(&RoleTotals::of(layout, old));
        }
        if let Some(totals) = self.role_mut(new.role) {
            totals.add(&RoleTotals::of(layout, new));
        }
    }

    pub(super) fn count_held(&mut self, before: Held, after: Held) {
        self.reserved_bytes = (self.reserved_bytes + after.reserved).saturating_sub(before.reserved);
        self.pending_bytes = (self.pending_bytes + after.pending).saturating_sub(before.pending);
    }
}

impl Space {
    /// Bytes that may be handed out.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        let counters = self.counters();
        let usable = self.layout().usable_pages() * u64::from(self.layout().page_bytes());
        let taken = counters.allocated_bytes()
            + counters.overhead_bytes()
            + counters.reserved_bytes
            + counters.pending_bytes;
        usable.saturating_sub(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_have_their_places_in_the_order_in_which_all_are_named() {
        for (at, role) in Role::ALL.into_iter().enumerate() {
            let mut counters = SpaceCounters::default();
            if let Some(totals) = counters.role_mut(role) {
                totals.extents = 7;
            }
            assert_eq!((counters.roles[at].extents, counters.role(role).extents), (7, 7));
        }
    }
}
