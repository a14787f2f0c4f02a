//! A segment's entry in the segment table.

use super::super::bytes::{is_zero, part, rest, u16_at, u32_at};
use super::super::flaw::Flaw;

pub(super) const RECORD: usize = 32;

/// What a segment is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing is in use, or all of it by a span that begins before it.
    None,
    Buddy,
    Extent,
    Slab,
    Span,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub role: Role,
    pub class: u8,
    pub generation: u32,
    pub sums: Sums,
}

/// What a record says about the headers and items of its segment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub used_pages: u64,
    pub extents: u64,
    /// In bytes.
    pub slack: u64,
    /// Of a slab, bytes of items in use and of runs.
    pub items: u64,
    /// Bytes of all items of a slab and of its runs, or the length of a span in segments.
    pub capacity: u64,
    /// A bit for each group of three classes.
    pub open_classes: u64,
}

impl Record {
    /// Takes a record that is right in itself.
    pub(super) fn read(number: usize, bytes: &[u8; RECORD]) -> Result<Self, Flaw> {
        let flaw = |what| Err(Flaw::segment(number, what));
        let [role, class, ..] = *bytes;
        let role = match role {
            0 => Role::None,
            1 => Role::Buddy,
            2 => Role::Extent,
            3 => Role::Slab,
            4 => Role::Span,
            _ => return flaw("its role is unknown"),
        };
        let field = |at: usize| u64::from(u32_at(bytes, at));
        let sums = Sums {
            used_pages: field(8),
            extents: field(12),
            slack: field(16),
            items: field(20),
            capacity: field(24),
            open_classes: field(28),
        };
        let generation = u32_at(bytes, 4);
        if u16_at(bytes, 2) != 0 {
            return flaw("the state of its record is not zero");
        }
        if role == Role::None && !(is_zero(part(bytes, 0, 4)) && is_zero(rest(bytes, 8))) {
            return flaw("it has no role, but its record says more than a generation");
        }
        if role != Role::None && generation == 0 {
            return flaw("it has a role, but no generation");
        }
        if class != 0 && !matches!(role, Role::Buddy | Role::Extent) {
            return flaw("it has a class, but its role has none");
        }
        Ok(Self { role, class, generation, sums })
    }

    /// Compares the record with what was counted.
    pub(super) fn agrees(&self, number: usize, counted: &Sums) -> Result<(), Flaw> {
        let Sums { used_pages, extents, slack, items, capacity, open_classes } = self.sums;
        let pairs = [
            (used_pages, counted.used_pages, "its record has another count of used pages"),
            (extents, counted.extents, "its record has another count of extents"),
            (slack, counted.slack, "its record has another sum of slack"),
            (items, counted.items, "its record has another sum of items"),
            (capacity, counted.capacity, "its record has another capacity"),
            (open_classes, counted.open_classes, "its record has other open classes"),
        ];
        if let Some((_, _, what)) = pairs.into_iter().find(|(said, counted, _)| said != counted) {
            return Err(Flaw::segment(number, what));
        }
        if counted.used_pages == 0 {
            return Err(Flaw::segment(number, "it has a role, but nothing in it is in use"));
        }
        Ok(())
    }
}
