//! Updates of extents: what becomes of page headers, and of the bits of the pages that they are for.
//!
//! Nearly all that a group changes is this. As patches each header took 14 bytes, with the address and the checksum of a
//! block that is seldom changed twice in a group; as a record it takes a few, and one digest stands for all of them.

use std::ops::Range;

use super::super::header::MAX_PAGES;
use super::super::{HeaderKind, PAGE_HEADER_BYTES, PageHeader, SLACK_UNITS, read_varint, write_varint};

/// Kind of the update, for device 0.
pub(super) const KIND: u8 = 3;

const WHAT_KIND_BITS: u32 = 3;
const WHAT_REPLACES: u64 = 1 << WHAT_KIND_BITS;
const WHAT_PAGES_SHIFT: u32 = WHAT_KIND_BITS + 1;

/// What becomes of a page header, and of the bits of its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentChange {
    /// An extent, or whatever headers are for, begins where there was none.
    Begin {
        /// Its header.
        header: PageHeader,
    },
    /// It gets another header, perhaps of another length.
    Replace {
        /// Pages of the header that was there.
        was_pages: u32,
        /// The header from now on.
        header: PageHeader,
    },
    /// It is gone. The generation stays.
    End {
        /// The pages whose bits it had; none for a span.
        pages: u32,
    },
}

impl ExtentChange {
    /// Changes the header.
    #[inline]
    pub fn apply_to_header(&self, header: &mut [u8; PAGE_HEADER_BYTES]) {
        match self {
            Self::Begin { header: new } | Self::Replace { header: new, .. } => *header = new.encode(),
            Self::End { .. } => PageHeader::end(header),
        }
    }

    /// The bits that change: of which pages, counted from the header's, and whether they are set.
    #[inline]
    #[must_use]
    pub fn bits(&self) -> Option<(Range<u32>, bool)> {
        let (pages, set) = match *self {
            Self::Begin { header } => (0..header.bits(), true),
            Self::Replace { header, .. } if header.bits() == 0 => (0..0, true),
            Self::Replace { was_pages, header } if was_pages < header.pages => {
                (was_pages..header.pages, true)
            }
            Self::Replace { was_pages, header } => (header.pages..was_pages, false),
            Self::End { pages } => (0..pages, false),
        };
        (!pages.is_empty()).then_some((pages, set))
    }

    /// The pages behind the header's, with it, that the change is about.
    #[must_use]
    pub fn reach(&self) -> u32 {
        match *self {
            Self::Begin { header } => header.pages,
            Self::Replace { was_pages, header } => header.pages.max(was_pages),
            Self::End { pages } => pages,
        }
    }
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtentRecord {
    /// The page that the header is of: its offset on the device, in pages.
    pub page: u64,
    /// What becomes of it.
    pub change: ExtentChange,
}

/// All of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentsUpdate {
    /// One after the other.
    pub records: Vec<ExtentRecord>,
    /// The digests of all blocks whose headers change, as they are after the group.
    pub digest: u64,
}

/// Records of a group that is being made.
#[derive(Clone, Debug, Default)]
pub struct ExtentsEncoder {
    bytes: Vec<u8>,
    count: u64,
    previous: Previous,
}

/// What differences are to.
#[derive(Clone, Copy, Debug, Default)]
struct Previous {
    page: u64,
    generation: u32,
    owner: u64,
}

impl ExtentsEncoder {
    /// Forgets all records.
    pub fn clear(&mut self) {
        self.bytes.clear();
        (self.count, self.previous) = (0, Previous::default());
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a record.
    #[inline]
    pub fn push(&mut self, page: u64, change: &ExtentChange) {
        let Self { bytes, count, previous } = self;
        *count += 1;
        write_signed(bytes, page.wrapping_sub(previous.page));
        previous.page = page;
        let what =
            |pages: u32, kind: HeaderKind| u64::from(pages) << WHAT_PAGES_SHIFT | u64::from(kind.code());
        let header = match change {
            ExtentChange::End { pages } => return write_varint(bytes, what(*pages, HeaderKind::None)),
            ExtentChange::Begin { header } => {
                write_varint(bytes, what(header.pages, header.kind));
                header
            }
            ExtentChange::Replace { was_pages, header } => {
                write_varint(bytes, what(header.pages, header.kind) | WHAT_REPLACES);
                write_varint(bytes, u64::from(*was_pages));
                header
            }
        };
        write_varint(bytes, header.slack.into());
        let generation = header.generation.wrapping_sub(previous.generation);
        write_signed(bytes, i64::from(generation.cast_signed()).cast_unsigned());
        write_signed(bytes, header.owner.wrapping_sub(previous.owner));
        (previous.generation, previous.owner) = (header.generation, header.owner);
    }

    /// Writes the update.
    pub(super) fn write(&self, out: &mut Vec<u8>, digest: u64) {
        out.push(KIND);
        write_varint(out, self.count);
        out.extend_from_slice(&self.bytes);
        out.extend_from_slice(&digest.to_le_bytes());
    }
}

impl Previous {
    /// Takes a record from the front of `input`; else what is wrong with it.
    #[inline(always)]
    fn read(&mut self, input: &mut &[u8]) -> Result<ExtentRecord, &'static str> {
        const BAD: &str = "bad number";
        let page = self.page.wrapping_add(read_signed(input).ok_or(BAD)?);
        self.page = page;
        let what = read_varint(input).ok_or(BAD)?;
        let pages = pages(what >> WHAT_PAGES_SHIFT)?;
        let kind = HeaderKind::from_code((what & ((1 << WHAT_KIND_BITS) - 1)) as u32)
            .ok_or("unknown kind of header")?;
        let replaces = what & WHAT_REPLACES != 0;
        if kind == HeaderKind::None {
            let change = ExtentChange::End { pages };
            return if replaces {
                Err("nothing replaces a header")
            } else {
                Ok(ExtentRecord { page, change })
            };
        }
        let was_pages = if replaces { Some(pages_of(input)?) } else { None };
        let slack = read_varint(input).filter(|slack| *slack < SLACK_UNITS).ok_or("slack out of range")?;
        let slack = u16::try_from(slack).unwrap_or(0);
        let generation = read_signed(input).ok_or(BAD)?.cast_signed();
        let generation = i32::try_from(generation).map_err(|_| "generation out of range")?;
        self.generation = self.generation.wrapping_add(generation.cast_unsigned());
        self.owner = self.owner.wrapping_add(read_signed(input).ok_or(BAD)?);
        let header = PageHeader { owner: self.owner, generation: self.generation, kind, pages, slack };
        header.contradiction().map_or(Ok(()), Err)?;
        let change = match was_pages {
            Some(was_pages) => ExtentChange::Replace { was_pages, header },
            None => ExtentChange::Begin { header },
        };
        Ok(ExtentRecord { page, change })
    }
}

#[inline]
fn pages_of(input: &mut &[u8]) -> Result<u32, &'static str> {
    pages(read_varint(input).ok_or("bad number")?)
}

#[inline]
fn pages(number: u64) -> Result<u32, &'static str> {
    u32::try_from(number).ok().filter(|pages| *pages <= MAX_PAGES).ok_or("too many pages")
}

/// Reads what follows the kind, record by record; then the digest.
pub(super) fn read<E>(
    input: &mut &[u8],
    mut each: impl FnMut(ExtentRecord) -> Result<(), E>,
    bad: impl Fn(&[u8], &'static str) -> E,
) -> Result<u64, E> {
    let count = read_varint(input).filter(|count| *count > 0).ok_or_else(|| bad(input, "no records"))?;
    let mut previous = Previous::default();
    for _ in 0..count {
        let record = previous.read(input).map_err(|reason| bad(input, reason))?;
        each(record)?;
    }
    let (digest, rest) = input.split_first_chunk().ok_or_else(|| bad(input, "digest beyond the group"))?;
    *input = rest;
    Ok(u64::from_le_bytes(*digest))
}

/// Zigzag: small differences in either direction are small numbers.
fn write_signed(out: &mut Vec<u8>, value: u64) {
    write_varint(out, value << 1 ^ (value.cast_signed() >> 63).cast_unsigned());
}

#[inline(always)]
fn read_signed(input: &mut &[u8]) -> Option<u64> {
    let value = read_varint(input)?;
    Some(value >> 1 ^ (value & 1).wrapping_neg())
}

/// The digest of a header, of the page with this number; zero of one that is all zero. It is no linear function, so that two
/// wrong ones do not make up for each other.
///
/// Products are folded as in Wang Yi's wyhash; the constants are the golden ratio, and the roots of two and three.
#[must_use]
#[inline]
pub fn header_digest(page: u64, header: &[u8; PAGE_HEADER_BYTES]) -> u64 {
    let (owner, rest) = header.split_at(8);
    let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let (owner, rest) = (word(owner), word(rest));
    if owner | rest == 0 {
        return 0;
    }
    let place = page.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    fold(rest ^ fold(owner ^ place, 0x6a09_e667_f3bc_c909), 0xbb67_ae85_84ca_a73b)
}

/// The digest of a block of headers, the first of them of this page.
#[must_use]
pub fn headers_digest(first_page: u64, block: &[u8]) -> u64 {
    let headers = block.as_chunks::<PAGE_HEADER_BYTES>().0;
    (first_page..).zip(headers).fold(0, |digest, (page, header)| digest ^ header_digest(page, header))
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::super::super::RegionSummary;
    use super::super::{GROUP_HEADER_BYTES, PayloadEncoder, UpdateKind, decode_payload};
    use super::*;
    use quickcheck::quickcheck;

    /// Any change there can be, from a few numbers.
    fn change(
        kind: u8,
        (pages, was): (u32, u32),
        (slack, generation, owner): (u16, u32, u64),
    ) -> ExtentChange {
        let (pages, was_pages) = (1 + pages % MAX_PAGES, was % MAX_PAGES);
        let slack = slack % 512;
        let generation = generation.max(1);
        let of = |kind, pages, slack, owner| PageHeader { owner, generation, kind, pages, slack };
        let header = match kind % 6 {
            0 => return ExtentChange::End { pages },
            1 => of(HeaderKind::Buddy, 1 << (pages % 18), slack, owner),
            2 => of(HeaderKind::Extent, pages, slack, owner),
            3 => {
                let summary = RegionSummary::decode(0x0000_0001_0001_0003 | owner << 32);
                of(HeaderKind::Region, pages, 0, summary.unwrap().encode())
            }
            4 => of(HeaderKind::Span, pages - 1, slack, owner),
            _ => of(HeaderKind::SpanTail, pages, 0, owner),
        };
        if kind & 0x80 == 0 {
            ExtentChange::Begin { header }
        } else {
            ExtentChange::Replace { was_pages, header }
        }
    }

    fn payload(records: &[ExtentRecord], digest: u64) -> (Vec<u8>, u32) {
        let mut extents = ExtentsEncoder::default();
        records.iter().for_each(|record| extents.push(record.page, &record.change));
        let mut encoder = PayloadEncoder::default();
        encoder.push_extents(&extents, digest);
        encoder.push(UpdateKind::Metadata, 3, &[0; 8], &[], 1);
        let (bytes, length, updates) = encoder.finish(512);
        (bytes[GROUP_HEADER_BYTES..length as usize].to_vec(), updates)
    }

    type Numbers = (u64, u8, (u32, u32), (u16, u32, u64));

    quickcheck! {
        fn records_round_trip(numbers: Vec<Numbers>, digest: u64) -> bool {
            let record = |(page, kind, pages, header)| ExtentRecord { page, change: change(kind, pages, header) };
            let records: Vec<ExtentRecord> = numbers.into_iter().map(record).collect();
            let (payload, updates) = payload(&records, digest);
            let most = PayloadEncoder::EXTENTS_BOUND + PayloadEncoder::EXTENT_BOUND * records.len()
                + PayloadEncoder::update_bound(0, 0);
            let decoded = decode_payload(&payload, updates, 4096).unwrap();
            let expected = (!records.is_empty()).then_some(ExtentsUpdate { records, digest });
            payload.len() <= most && decoded.extents == expected && decoded.blocks.len() == 1
        }

        /// A byte that is another one gives another payload, or none; never a panic.
        fn bytes_that_nobody_wrote_are_refused_or_mean_something_else(numbers: Vec<Numbers>, at: u16, to: u8) -> bool {
            let record = |(page, kind, pages, header)| ExtentRecord { page, change: change(kind, pages, header) };
            let records: Vec<ExtentRecord> = numbers.into_iter().map(record).collect();
            let (good, updates) = payload(&records, 7);
            let mut bad = good.clone();
            let at = usize::from(at) % bad.len();
            bad[at] = to;
            let (was, is) = (decode_payload(&good, updates, 4096), decode_payload(&bad, updates, 4096));
            bad == good || is.is_err() || is != was
        }

        fn a_digest_is_of_all_headers_and_of_their_places(words: Vec<(u8, u64, u64)>, page: u32) -> bool {
            let mut block = vec![0; 4096];
            for (at, owner, rest) in words {
                let at = usize::from(at) * PAGE_HEADER_BYTES;
                block[at..at + 8].copy_from_slice(&owner.to_le_bytes());
                block[at + 8..at + 16].copy_from_slice(&rest.to_le_bytes());
            }
            let first = u64::from(page);
            let digest = headers_digest(first, &block);
            let is_zero = block.iter().all(|byte| *byte == 0);
            // Two headers that change places, or all of them that move on.
            let mut swapped = block.clone();
            swapped.rotate_left(PAGE_HEADER_BYTES);
            (headers_digest(first, &swapped) == digest) == (swapped == block && digest == headers_digest(first, &block))
                && (headers_digest(first + 1, &block) == digest) == is_zero
        }
    }

    #[test]
    fn what_records_change() {
        let header = |kind, pages| PageHeader { owner: 9, generation: 4, kind, pages, slack: 0 };
        let bits = |change: ExtentChange| change.bits();
        let extent = header(HeaderKind::Extent, 5);
        assert_eq!(bits(ExtentChange::Begin { header: extent }), Some((0..5, true)));
        assert_eq!(bits(ExtentChange::Replace { was_pages: 8, header: extent }), Some((5..8, false)));
        assert_eq!(bits(ExtentChange::Replace { was_pages: 5, header: extent }), None);
        assert_eq!(bits(ExtentChange::Replace { was_pages: 2, header: extent }), Some((2..5, true)));
        assert_eq!(bits(ExtentChange::End { pages: 5 }), Some((0..5, false)));
        let span = header(HeaderKind::Span, 3);
        assert_eq!(bits(ExtentChange::Begin { header: span }), None, "a span is in no bitmap");
        assert_eq!(bits(ExtentChange::Replace { was_pages: 2, header: span }), None);
        let mut bytes = [0; PAGE_HEADER_BYTES];
        ExtentChange::Begin { header: extent }.apply_to_header(&mut bytes);
        assert_eq!(PageHeader::decode(&bytes), Ok(extent));
        ExtentChange::End { pages: 5 }.apply_to_header(&mut bytes);
        assert_eq!(PageHeader::decode(&bytes), Ok(PageHeader { generation: 4, ..PageHeader::default() }));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |record: &[u8]| {
            let payload = [&[3, 1][..], record, &[0; 8]].concat();
            decode_payload(&payload, 1, 4096).map_err(|error| error.reason).err()
        };
        // Page, what, slack, generation, owner.
        assert_eq!(refused(&[2, 0x12, 0, 2, 0]), None);
        assert_eq!(refused(&[2, 0x10]), None);
        assert_eq!(refused(&[2, 0x18]), Some("nothing replaces a header"));
        assert_eq!(refused(&[2, 0x16, 0, 2, 0]), Some("unknown kind of header"));
        assert_eq!(refused(&[2, 0x02, 0, 2, 0]), Some("an extent without pages"));
        assert_eq!(refused(&[2, 0x12, 0, 0, 0]), Some("generation zero"));
        assert_eq!(refused(&[2, 0x12, 0x80, 4, 2, 0]), Some("slack out of range"));
        assert_eq!(refused(&[2, 0x12, 0, 0xff, 0xff, 0xff, 0xff, 0x1f, 0]), Some("generation out of range"));
        assert_eq!(refused(&[2, 0x82, 0x80, 0x80, 0x04, 0, 2, 0]), Some("too many pages"));
        assert_eq!(refused(&[0x82, 0x00, 0x12, 0, 2, 0]), Some("bad number"));
        // None at all; a second update, and one behind a block's.
        let update = [3, 1, 2, 0x10, 0, 0, 0, 0, 0, 0, 0, 0];
        let block = [0, 3, 0, 0, 0, 0, 0];
        let reason =
            |payload: &[u8], updates| decode_payload(payload, updates, 4096).err().map(|error| error.reason);
        assert_eq!(reason(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1), Some("no records"));
        assert_eq!(reason(&[&update[..], &block].concat(), 2), None);
        assert_eq!(reason(&[&update[..], &update].concat(), 2), Some("updates out of order"));
        assert_eq!(reason(&[&block[..], &update].concat(), 2), Some("updates out of order"));
        assert_eq!(reason(&update[..11], 1), Some("digest beyond the group"));
    }
}
