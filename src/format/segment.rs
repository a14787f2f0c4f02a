//! One fixed-size record per segment.

use off64::int::{Off64ReadInt, Off64WriteMutInt};

use super::{MAX_ORDER, is_zero};

/// Encoded size.
pub const SEGMENT_RECORD_BYTES: usize = 64;

const OFFSETOF_ROLE: u64 = 0;
const OFFSETOF_CLASS: u64 = OFFSETOF_ROLE + 1;
/// Bytes 2 and 3 are reserved, for segment states of later roles (open stripe, victim, rebuilding).
const OFFSETOF_STATE: u64 = OFFSETOF_CLASS + 1;
const OFFSETOF_GENERATION: u64 = OFFSETOF_STATE + 2;
const OFFSETOF_USED_PAGES: u64 = OFFSETOF_GENERATION + 4;
const OFFSETOF_EXTENTS: u64 = OFFSETOF_USED_PAGES + 4;
const OFFSETOF_PREVIOUS: u64 = OFFSETOF_EXTENTS + 4;
const OFFSETOF_NEXT: u64 = OFFSETOF_PREVIOUS + 4;
/// Reserved, for the valid counts of log segments and the tables of slab segments.
const OFFSETOF_RESERVED: u64 = OFFSETOF_NEXT + 4;
const END: u64 = OFFSETOF_RESERVED + 40;
const _: () = assert!(super::index(END) == SEGMENT_RECORD_BYTES);
pub(super) const FIELDS: &[super::Field] = super::fields::fields!("role" OFFSETOF_ROLE, "class" OFFSETOF_CLASS, "state" OFFSETOF_STATE, "generation" OFFSETOF_GENERATION, "used_pages" OFFSETOF_USED_PAGES, "extents" OFFSETOF_EXTENTS, "previous" OFFSETOF_PREVIOUS, "next" OFFSETOF_NEXT, "reserved" OFFSETOF_RESERVED; END);

/// How a segment is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Role {
    /// Below the frontier, but nothing was ever allocated in it.
    #[default]
    Unused,
    /// Power-of-two, naturally aligned runs of pages.
    Buddy,
}

impl Role {
    const fn code(self) -> u8 {
        match self {
            Self::Unused => 0,
            Self::Buddy => 1,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Unused),
            1 => Some(Self::Buddy),
            _ => None,
        }
    }
}

/// What is known of a segment without reading its bitmap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentRecord {
    /// How the segment is laid out.
    pub role: Role,
    /// Order of the largest free run; `None` when the segment is full. Names the free list that the segment is on.
    pub class: Option<u8>,
    /// Generation of the newest extent published here. Guards against a stale free after reuse.
    pub generation: u32,
    /// Pages in use, as counted in the bitmap.
    pub used_pages: u32,
    /// Extents allocated, as counted in the page headers.
    pub extents: u32,
    /// Neighbour towards the head on the free list of `class`.
    pub previous: Option<u32>,
    /// Neighbour away from the head.
    pub next: Option<u32>,
}

/// A link is stored as the segment's number plus one, so that zero means none.
pub(super) fn decode_link(raw: u32) -> Option<u32> {
    raw.checked_sub(1)
}

pub(super) fn encode_link(link: Option<u32>) -> u32 {
    link.map_or(0, |segment| segment.saturating_add(1))
}

impl SegmentRecord {
    /// Decodes a record, or says what is wrong with it.
    pub fn decode(bytes: &[u8; SEGMENT_RECORD_BYTES]) -> Result<Self, &'static str> {
        let [role, class, state @ ..] = bytes;
        let (Some(state), Some(reserved)) = (state.get(..2), bytes.get(super::index(OFFSETOF_RESERVED)..))
        else {
            return Err("short record");
        };
        if !is_zero(state) || !is_zero(reserved) {
            return Err("reserved bytes are not zero");
        }
        let class = class.checked_sub(1);
        if class.is_some_and(|order| order > MAX_ORDER) {
            return Err("free-list class out of range");
        }
        let bytes = &bytes[..];
        Ok(Self {
            role: Role::from_code(*role).ok_or("unknown role")?,
            class,
            generation: bytes.read_u32_le_at(OFFSETOF_GENERATION),
            used_pages: bytes.read_u32_le_at(OFFSETOF_USED_PAGES),
            extents: bytes.read_u32_le_at(OFFSETOF_EXTENTS),
            previous: decode_link(bytes.read_u32_le_at(OFFSETOF_PREVIOUS)),
            next: decode_link(bytes.read_u32_le_at(OFFSETOF_NEXT)),
        })
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
        out.write_u32_le_at(OFFSETOF_PREVIOUS, encode_link(self.previous));
        out.write_u32_le_at(OFFSETOF_NEXT, encode_link(self.next));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let record = SegmentRecord {
            role: Role::Buddy,
            class: Some(18),
            generation: 9,
            used_pages: 262_144,
            extents: 3,
            previous: Some(0),
            next: None,
        };
        assert_eq!(SegmentRecord::decode(&record.encode()), Ok(record));
        assert_eq!(SegmentRecord::decode(&[0; 64]), Ok(SegmentRecord::default()));
    }

    #[test]
    fn bad_bytes_are_refused() {
        for (at, value) in [(0, 7), (1, 20), (2, 1), (3, 1), (28, 1), (63, 1)] {
            let mut bytes = SegmentRecord::default().encode();
            bytes[at] = value;
            assert!(SegmentRecord::decode(&bytes).is_err(), "byte {at}");
        }
    }
}
