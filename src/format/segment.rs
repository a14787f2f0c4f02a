//! One fixed-size record per segment.

use off64::int::{Off64ReadInt, Off64WriteMutInt};

use super::{MAX_ORDER, is_zero};

/// Encoded size.
pub const SEGMENT_RECORD_BYTES: usize = 32;

const OFFSETOF_ROLE: u64 = 0;
const OFFSETOF_CLASS: u64 = OFFSETOF_ROLE + 1;
/// Reserved, for segment states of later roles (open stripe, victim, rebuilding).
const OFFSETOF_STATE: u64 = OFFSETOF_CLASS + 1;
const OFFSETOF_GENERATION: u64 = OFFSETOF_STATE + 2;
const OFFSETOF_USED_PAGES: u64 = OFFSETOF_GENERATION + 4;
const OFFSETOF_EXTENTS: u64 = OFFSETOF_USED_PAGES + 4;
const OFFSETOF_SLACK: u64 = OFFSETOF_EXTENTS + 4;
const OFFSETOF_ITEM_BYTES: u64 = OFFSETOF_SLACK + 4;
const OFFSETOF_CAPACITY_BYTES: u64 = OFFSETOF_ITEM_BYTES + 4;
const OFFSETOF_OPEN_CLASSES: u64 = OFFSETOF_CAPACITY_BYTES + 4;
const END: u64 = OFFSETOF_OPEN_CLASSES + 4;
const _: () = assert!(super::index(END) == SEGMENT_RECORD_BYTES);
pub(super) const FIELDS: &[super::Field] = super::fields::fields!("role" OFFSETOF_ROLE, "class" OFFSETOF_CLASS, "state" OFFSETOF_STATE, "generation" OFFSETOF_GENERATION, "used_pages" OFFSETOF_USED_PAGES, "extents" OFFSETOF_EXTENTS, "slack" OFFSETOF_SLACK, "item_bytes" OFFSETOF_ITEM_BYTES, "capacity_bytes" OFFSETOF_CAPACITY_BYTES, "open_classes" OFFSETOF_OPEN_CLASSES; END);

/// How a segment is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Role {
    /// Nothing is allocated in it.
    #[default]
    Unused,
    /// Power-of-two, naturally aligned runs of pages.
    Buddy,
    /// Runs of pages, as long as they need to be.
    Extent,
    /// Regions of items smaller than a page.
    Slab,
    /// The first of a run of whole segments.
    Span,
}

impl Role {
    /// Every role, in the order of the format's codes.
    pub const ALL: [Self; 5] = [Self::Unused, Self::Buddy, Self::Extent, Self::Slab, Self::Span];

    const fn code(self) -> u8 {
        match self {
            Self::Unused => 0,
            Self::Buddy => 1,
            Self::Extent => 2,
            Self::Slab => 3,
            Self::Span => 4,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.code() == code)
    }

    /// The name used in reports and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Buddy => "buddy",
            Self::Extent => "extent",
            Self::Slab => "slab",
            Self::Span => "span",
        }
    }
}

/// What is known of a segment without reading its bitmap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentRecord {
    /// How the segment is laid out; unused when no page is in use.
    pub role: Role,
    /// No free run has more than 2^(class + 1) - 1 pages (`buddy`: no free, naturally aligned run is of a higher
    /// order); `None` when no page is free. A bound, so that a segment that cannot help is not loaded. `None` for
    /// other roles.
    pub class: Option<u8>,
    /// Generation of the newest extent or region published here. Guards against a stale free after reuse.
    pub generation: u32,
    /// Pages in use, as counted in the bitmap; all of them in a span.
    pub used_pages: u32,
    /// Extents that start here, and items.
    pub extents: u32,
    /// Bytes that were allocated and not asked for, as the headers and items have it, each rounded down to its unit.
    pub slack_bytes: u32,
    /// Role `slab`: bytes of the items in use, by class, and of the extents.
    pub item_bytes: u32,
    /// Role `slab`: bytes that the items of all regions have room for, and of the extents. Role `span`: segments that the span fills
    /// wholly, this one included.
    pub capacity_bytes: u32,
    /// Role `slab`: which classes have a region with a free item: bit `class / 3`.
    pub open_classes: u32,
}

impl SegmentRecord {
    /// Whole segments of the span that starts here.
    #[must_use]
    pub fn span_segments(&self) -> Option<u32> {
        (self.role == Role::Span).then_some(self.capacity_bytes)
    }

    /// Decodes a record, or says what is wrong with it.
    pub fn decode(bytes: &[u8; SEGMENT_RECORD_BYTES]) -> Result<Self, &'static str> {
        let [role, class, state @ ..] = bytes;
        let Some(state) = state.get(..2) else { return Err("short record") };
        if !is_zero(state) {
            return Err("reserved bytes are not zero");
        }
        let class = class.checked_sub(1);
        if class.is_some_and(|order| order > MAX_ORDER) {
            return Err("class out of range");
        }
        let bytes = &bytes[..];
        let record = Self {
            role: Role::from_code(*role).ok_or("unknown role")?,
            class,
            generation: bytes.read_u32_le_at(OFFSETOF_GENERATION),
            used_pages: bytes.read_u32_le_at(OFFSETOF_USED_PAGES),
            extents: bytes.read_u32_le_at(OFFSETOF_EXTENTS),
            slack_bytes: bytes.read_u32_le_at(OFFSETOF_SLACK),
            item_bytes: bytes.read_u32_le_at(OFFSETOF_ITEM_BYTES),
            capacity_bytes: bytes.read_u32_le_at(OFFSETOF_CAPACITY_BYTES),
            open_classes: bytes.read_u32_le_at(OFFSETOF_OPEN_CLASSES),
        };
        record.contradiction().map_or(Ok(record), Err)
    }

    /// What cannot be, whatever the rest of the store is like.
    fn contradiction(&self) -> Option<&'static str> {
        let plain = Self { generation: self.generation, role: self.role, ..Self::default() };
        match self.role {
            Role::Unused if *self != plain => Some("a segment without a role has counts"),
            Role::Unused => None,
            _ if self.used_pages == 0 => Some("a segment with a role has no page in use"),
            _ if self.generation == 0 => Some("generation zero"),
            Role::Buddy | Role::Extent if self.item_bytes | self.capacity_bytes | self.open_classes != 0 => {
                Some("counts of another role")
            }
            Role::Buddy | Role::Extent => None,
            Role::Slab | Role::Span if self.class.is_some() => Some("class of another role"),
            Role::Slab if self.item_bytes > self.capacity_bytes => Some("items beyond their regions"),
            Role::Slab => None,
            Role::Span if self.item_bytes | self.open_classes != 0 => Some("counts of another role"),
            Role::Span if self.extents != 1 || self.capacity_bytes == 0 => Some("not one span"),
            Role::Span => None,
        }
    }

    /// Encodes the record.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_RECORD_BYTES] {
        let mut bytes = [0; SEGMENT_RECORD_BYTES];
        let [role, class, ..] = &mut bytes;
        *role = self.role.code();
        *class = self.class.map_or(0, |order| order + 1);
        let out = &mut bytes[..];
        out.write_u32_le_at(OFFSETOF_GENERATION, self.generation);
        out.write_u32_le_at(OFFSETOF_USED_PAGES, self.used_pages);
        out.write_u32_le_at(OFFSETOF_EXTENTS, self.extents);
        out.write_u32_le_at(OFFSETOF_SLACK, self.slack_bytes);
        out.write_u32_le_at(OFFSETOF_ITEM_BYTES, self.item_bytes);
        out.write_u32_le_at(OFFSETOF_CAPACITY_BYTES, self.capacity_bytes);
        out.write_u32_le_at(OFFSETOF_OPEN_CLASSES, self.open_classes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let page = SegmentRecord {
            role: Role::Extent,
            class: Some(18),
            generation: 9,
            used_pages: 262_144,
            extents: 3,
            slack_bytes: 77,
            ..SegmentRecord::default()
        };
        let slab = SegmentRecord {
            role: Role::Slab,
            class: None,
            item_bytes: 64,
            capacity_bytes: 4096,
            open_classes: 5,
            ..page
        };
        let span = SegmentRecord { role: Role::Span, class: None, extents: 1, capacity_bytes: 7, ..page };
        for record in [page, slab, span, SegmentRecord::default()] {
            assert_eq!(SegmentRecord::decode(&record.encode()), Ok(record));
        }
        assert_eq!(span.span_segments(), Some(7));
        assert_eq!(slab.span_segments(), None);
    }

    #[test]
    fn bad_bytes_are_refused() {
        for (at, value) in
            [(0, 7), (1, 20), (1, 1), (2, 1), (3, 1), (8, 1), (12, 1), (16, 1), (20, 1), (31, 1)]
        {
            let mut bytes = SegmentRecord::default().encode();
            bytes[at] = value;
            assert!(SegmentRecord::decode(&bytes).is_err(), "byte {at}");
        }
        for role in 1..5 {
            let mut bytes = SegmentRecord::default().encode();
            bytes[0] = role;
            assert!(SegmentRecord::decode(&bytes).is_err(), "role {role} and nothing in use");
        }
    }
}
