//! One small record per allocated extent, out of band: the caller's page stays whole and aligned.
//!
//! There is a place for one header per page of a segment; an extent uses the place of its first page. After a free the
//! generation stays behind, so that a second free can be told from a wrong offset.

use super::RegionSummary;

/// Encoded size.
pub const PAGE_HEADER_BYTES: usize = 16;

const OFFSETOF_OWNER: u64 = 0;
const OFFSETOF_GENERATION: u64 = OFFSETOF_OWNER + 8;
const OFFSETOF_SHAPE: u64 = OFFSETOF_GENERATION + 4;
const END: u64 = OFFSETOF_SHAPE + 4;
/// Where fields are in a header that is one number.
const GENERATION_SHIFT: u64 = 8 * OFFSETOF_GENERATION;
const SHAPE_SHIFT: u64 = 8 * OFFSETOF_SHAPE;
const _: () = assert!(OFFSETOF_OWNER == 0);
const _: () = assert!(super::index(END) == PAGE_HEADER_BYTES);
pub(super) const FIELDS: &[super::Field] = super::fields::fields!("owner" OFFSETOF_OWNER, "generation" OFFSETOF_GENERATION, "shape" OFFSETOF_SHAPE; END);

/// Bits of `shape`: 0 to 3 are the kind, then the length in pages, then the slack.
const KIND_BITS: u32 = 4;
const PAGES_BITS: u32 = 19;
const SLACK_BITS: u32 = 9;
const _: () = assert!(KIND_BITS + PAGES_BITS + SLACK_BITS == 32);

/// The most pages that a length has room for.
pub(super) const MAX_PAGES: u32 = (1 << PAGES_BITS) - 1;

/// Slack is stored in this fraction of a page, or, in an extent of kind `buddy`, of the extent.
pub const SLACK_UNITS: u64 = 1 << SLACK_BITS;

/// What a header describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeaderKind {
    /// No extent starts here.
    #[default]
    None,
    /// A power-of-two extent starts here.
    Buddy,
    /// A run of pages.
    Extent,
    /// A region of items. The place of the owner holds a [`RegionSummary`].
    Region,
    /// A span starts here, with the first page of its first segment. The length is that of its tail.
    Span,
    /// The tail of a span: its last pages, in a segment that has room for others behind them. The place of the owner
    /// holds the number of the span's first segment.
    SpanTail,
}

impl HeaderKind {
    const ALL: [Self; 6] = [Self::None, Self::Buddy, Self::Extent, Self::Region, Self::Span, Self::SpanTail];

    pub(super) const fn code(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Buddy => 1,
            Self::Extent => 2,
            Self::Region => 3,
            Self::Span => 4,
            Self::SpanTail => 5,
        }
    }

    #[inline]
    pub(super) fn from_code(code: u32) -> Option<Self> {
        let kind = *Self::ALL.get(code as usize)?;
        (kind.code() == code).then_some(kind)
    }
}

/// A page header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageHeader {
    /// The caller's 64-bit tag; zero when no extent starts here. Of a region, its [`RegionSummary`]; of the tail of a
    /// span, the span's first segment.
    pub owner: u64,
    /// Generation of the extent, or of the last one that started here.
    pub generation: u32,
    /// Whether an extent starts here, and of which kind.
    pub kind: HeaderKind,
    /// Length of the extent in pages, at most 2^18; zero when no extent starts here. Of a span, that of its tail.
    pub pages: u32,
    /// How much more was allocated than was asked for, rounded down: in [`SLACK_UNITS`] of a page, or, for a
    /// power-of-two extent, of the extent.
    pub slack: u16,
}

impl PageHeader {
    /// Decodes a header, or says what is wrong with it.
    #[inline]
    pub fn decode(bytes: &[u8; PAGE_HEADER_BYTES]) -> Result<Self, &'static str> {
        let number = u128::from_le_bytes(*bytes);
        let shape = low_half(number >> SHAPE_SHIFT);
        let header = Self {
            owner: low_word(number),
            generation: low_half(number >> GENERATION_SHIFT),
            kind: HeaderKind::from_code(shape & ((1 << KIND_BITS) - 1)).ok_or("unknown kind")?,
            pages: shape >> KIND_BITS & ((1 << PAGES_BITS) - 1),
            slack: u16::try_from(shape >> (KIND_BITS + PAGES_BITS)).unwrap_or(u16::MAX),
        };
        header.contradiction().map_or(Ok(header), Err)
    }

    /// What cannot be, whatever the rest of the store is like.
    #[inline]
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        match self.kind {
            HeaderKind::None if self.pages != 0 || self.owner != 0 || self.slack != 0 => {
                Some("a free place has a length or an owner")
            }
            HeaderKind::None => None,
            _ if self.generation == 0 => Some("generation zero"),
            HeaderKind::Buddy if !self.pages.is_power_of_two() => Some("length is no power of two"),
            HeaderKind::Extent | HeaderKind::Region | HeaderKind::SpanTail if self.pages == 0 => {
                Some("an extent without pages")
            }
            HeaderKind::Region | HeaderKind::SpanTail if self.slack != 0 => Some("slack where none can be"),
            HeaderKind::Region if RegionSummary::decode(self.owner).is_none() => Some("malformed region"),
            _ => None,
        }
    }

    /// Pages from this one on whose bits are set for it: those of a span are in no bitmap.
    #[must_use]
    pub fn bits(&self) -> u32 {
        if self.kind == HeaderKind::Span { 0 } else { self.pages }
    }

    /// Makes an encoded header one where nothing starts any more. The generation stays.
    #[inline]
    pub(crate) fn end(bytes: &mut [u8; PAGE_HEADER_BYTES]) {
        let generation = u128::from(u32::MAX) << GENERATION_SHIFT;
        *bytes = (u128::from_le_bytes(*bytes) & generation).to_le_bytes();
    }

    /// Encodes the header.
    #[inline]
    #[must_use]
    pub fn encode(&self) -> [u8; PAGE_HEADER_BYTES] {
        let slack = u32::from(self.slack) << (KIND_BITS + PAGES_BITS);
        let shape = self.kind.code() | self.pages << KIND_BITS | slack;
        let number = u128::from(self.owner)
            | u128::from(self.generation) << GENERATION_SHIFT
            | u128::from(shape) << SHAPE_SHIFT;
        number.to_le_bytes()
    }

    /// Slack for an extent of this kind and length of which `asked` bytes were asked for, in units.
    #[must_use]
    pub fn slack_for(kind: HeaderKind, len_bytes: u64, page_bytes: u64, asked: u64) -> u16 {
        let unit = Self::slack_unit(kind, len_bytes, page_bytes);
        let units = len_bytes.saturating_sub(asked) / unit.max(1);
        u16::try_from(units.min(SLACK_UNITS - 1)).unwrap_or(0)
    }

    /// The slack of an extent of `len_bytes`, in bytes.
    #[must_use]
    pub fn slack_bytes(&self, len_bytes: u64, page_bytes: u64) -> u64 {
        u64::from(self.slack) * Self::slack_unit(self.kind, len_bytes, page_bytes)
    }

    const fn slack_unit(kind: HeaderKind, len_bytes: u64, page_bytes: u64) -> u64 {
        match kind {
            HeaderKind::Buddy => len_bytes / SLACK_UNITS,
            _ => page_bytes / SLACK_UNITS,
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
const fn low_word(number: u128) -> u64 {
    number as u64
}

#[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
const fn low_half(number: u128) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusals() {
        let header = PageHeader {
            owner: u64::MAX,
            generation: 5,
            kind: HeaderKind::Buddy,
            pages: 1 << 18,
            slack: 511,
        };
        assert_eq!(PageHeader::decode(&header.encode()), Ok(header));
        assert_eq!(PageHeader::decode(&[0; 16]), Ok(PageHeader::default()));
        let freed = PageHeader { generation: 5, ..PageHeader::default() };
        assert_eq!(PageHeader::decode(&freed.encode()), Ok(freed));
        let extent = PageHeader { kind: HeaderKind::Extent, pages: 3, ..header };
        assert_eq!(PageHeader::decode(&extent.encode()), Ok(extent));
        let span = PageHeader { kind: HeaderKind::Span, pages: 0, ..header };
        assert_eq!(PageHeader::decode(&span.encode()), Ok(span));
        for bad in [
            PageHeader { pages: 3, ..header },
            PageHeader { generation: 0, ..header },
            PageHeader { owner: 1, ..freed },
            PageHeader { slack: 1, ..freed },
            PageHeader { pages: 0, ..extent },
            PageHeader { kind: HeaderKind::SpanTail, ..extent },
            PageHeader { kind: HeaderKind::Region, slack: 0, ..extent },
        ] {
            assert!(PageHeader::decode(&bad.encode()).is_err(), "{bad:?}");
        }
        let mut unknown = header.encode();
        unknown[12] = 9;
        assert!(PageHeader::decode(&unknown).is_err());
    }

    #[test]
    fn slack_is_rounded_down_to_its_unit() {
        let of = |kind, len, asked| {
            let slack = PageHeader::slack_for(kind, len, 4096, asked);
            PageHeader { kind, slack, ..PageHeader::default() }.slack_bytes(len, 4096)
        };
        assert_eq!(of(HeaderKind::Extent, 8192, 5000), 3192);
        assert_eq!(of(HeaderKind::Extent, 8192, 8185), 0);
        assert_eq!(of(HeaderKind::Extent, 4096, 1), 4088);
        assert_eq!(of(HeaderKind::Buddy, 16384, 8193), 8160);
        assert_eq!(of(HeaderKind::Buddy, 4096, 1), 4088);
        assert_eq!(of(HeaderKind::Buddy, 16384, 16384), 0);
    }
}
