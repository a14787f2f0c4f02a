//! One small record per allocated extent, out of band: the caller's page stays whole and aligned.
//!
//! There is a place for one header per page of a segment; an extent uses the place of its first page. After a free the
//! generation stays behind, so that a second free can be told from a wrong offset.

use off64::int::{Off64ReadInt, Off64WriteMutInt};

/// Encoded size.
pub const PAGE_HEADER_BYTES: usize = 16;

const OFFSETOF_OWNER: u64 = 0;
const OFFSETOF_GENERATION: u64 = OFFSETOF_OWNER + 8;
const OFFSETOF_KIND_AND_PAGES: u64 = OFFSETOF_GENERATION + 4;
const END: u64 = OFFSETOF_KIND_AND_PAGES + 4;
const _: () = assert!(super::index(END) == PAGE_HEADER_BYTES);
pub(super) const FIELDS: &[super::Field] = super::fields::fields!("owner" OFFSETOF_OWNER, "generation" OFFSETOF_GENERATION, "kind_and_pages" OFFSETOF_KIND_AND_PAGES; END);

const KIND_BITS: u32 = 8;

/// What a header describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderKind {
    /// No extent starts here.
    #[default]
    None,
    /// A power-of-two extent starts here.
    Buddy,
}

/// A page header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageHeader {
    /// The caller's 64-bit tag; zero when no extent starts here.
    pub owner: u64,
    /// Generation of the extent, or of the last one that started here.
    pub generation: u32,
    /// Whether an extent starts here, and of which kind.
    pub kind: HeaderKind,
    /// Length of the extent in pages (below 2^24); zero when no extent starts here.
    pub pages: u32,
}

impl PageHeader {
    /// Decodes a header, or says what is wrong with it.
    pub fn decode(bytes: &[u8; PAGE_HEADER_BYTES]) -> Result<Self, &'static str> {
        let bytes = &bytes[..];
        let kind_and_pages = bytes.read_u32_le_at(OFFSETOF_KIND_AND_PAGES);
        let pages = kind_and_pages >> KIND_BITS;
        let header = Self {
            owner: bytes.read_u64_le_at(OFFSETOF_OWNER),
            generation: bytes.read_u32_le_at(OFFSETOF_GENERATION),
            kind: match kind_and_pages & ((1 << KIND_BITS) - 1) {
                0 => HeaderKind::None,
                1 => HeaderKind::Buddy,
                _ => return Err("unknown kind"),
            },
            pages,
        };
        match header.kind {
            HeaderKind::None if pages != 0 || header.owner != 0 => {
                Err("a free place has a length or an owner")
            }
            HeaderKind::Buddy if !pages.is_power_of_two() => Err("length is no power of two"),
            HeaderKind::Buddy if header.generation == 0 => Err("generation zero"),
            _ => Ok(header),
        }
    }

    /// Encodes the header.
    #[must_use]
    pub fn encode(&self) -> [u8; PAGE_HEADER_BYTES] {
        let mut bytes = [0; PAGE_HEADER_BYTES];
        let out = &mut bytes[..];
        out.write_u64_le_at(OFFSETOF_OWNER, self.owner);
        out.write_u32_le_at(OFFSETOF_GENERATION, self.generation);
        let kind = match self.kind {
            HeaderKind::None => 0,
            HeaderKind::Buddy => 1,
        };
        out.write_u32_le_at(OFFSETOF_KIND_AND_PAGES, kind | self.pages << KIND_BITS);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusals() {
        let header = PageHeader { owner: u64::MAX, generation: 5, kind: HeaderKind::Buddy, pages: 1 << 18 };
        assert_eq!(PageHeader::decode(&header.encode()), Ok(header));
        assert_eq!(PageHeader::decode(&[0; 16]), Ok(PageHeader::default()));
        let freed = PageHeader { generation: 5, ..PageHeader::default() };
        assert_eq!(PageHeader::decode(&freed.encode()), Ok(freed));
        assert!(PageHeader::decode(&PageHeader { pages: 3, ..header }.encode()).is_err());
        assert!(PageHeader::decode(&PageHeader { generation: 0, ..header }.encode()).is_err());
        assert!(PageHeader::decode(&PageHeader { owner: 1, ..freed }.encode()).is_err());
        let mut unknown = header.encode();
        unknown[12] = 9;
        assert!(PageHeader::decode(&unknown).is_err());
    }
}
