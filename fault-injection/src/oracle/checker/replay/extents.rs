//! The update of extents: page headers, and the bits of the pages that they are for.

use std::collections::BTreeSet;
use std::ops::Range;

use super::super::bytes::{index, part, u32_at, u64_at};
use super::super::flaw::Flaw;
use super::super::recount::{HEADER, Header, Kind};
use super::reader::Reader;
use super::{Replay, bits};

const LAST_KIND: u64 = 5;
const REPLACES: u64 = 1 << 3;
/// Lengths are below this, in pages.
const PAGES_END: u64 = 1 << 19;
/// Slack is below this, in units.
const SLACK_END: u64 = 1 << 9;

/// What becomes of a header.
struct Record {
    /// Counted from the start of the device.
    page: u64,
    pages: u64,
    /// The length of what stood there, if the record says that.
    was: Option<u64>,
    /// The header from now on; of one that ends, none.
    header: Option<[u8; HEADER]>,
}

/// An update of extents.
pub(super) struct Extents {
    records: Vec<Record>,
    /// That of the headers after the records.
    pub digest: u64,
}

/// What the numbers of the next record are differences to.
#[derive(Default)]
struct Before {
    page: u64,
    generation: u32,
    owner: u64,
}

impl Extents {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let mut before = Before::default();
        let count = reader.number()?;
        let mut records = Vec::new();
        for _ in 0..count {
            records.push(before.next(reader)?);
        }
        let digest = u64_at(reader.take(8)?, 0);
        (count > 0).then_some(Self { records, digest })
    }
}

/// A signed number, in two's complement.
fn signed(reader: &mut Reader<'_>) -> Option<u64> {
    let number = reader.number()?;
    Some(number >> 1 ^ (number & 1).wrapping_neg())
}

impl Before {
    fn next(&mut self, reader: &mut Reader<'_>) -> Option<Record> {
        self.page = self.page.wrapping_add(signed(reader)?);
        let what = reader.number()?;
        let (kind, pages, replaces) = (what & (REPLACES - 1), what >> 4, what & REPLACES != 0);
        if kind > LAST_KIND || pages >= PAGES_END || kind == 0 && replaces {
            return None;
        }
        if kind == 0 {
            return Some(Record { page: self.page, pages, was: None, header: None });
        }
        let was = if replaces { Some(reader.number()?) } else { None };
        let slack = reader.number().filter(|slack| *slack < SLACK_END)?;
        // A difference of 32 bits has one form: that of 64 bits which is nearest to zero.
        let generation = signed(reader)?;
        let shortest = generation.wrapping_add(1 << 31) < 1 << 32;
        self.generation = self.generation.wrapping_add(u32_at(&generation.to_le_bytes(), 0));
        self.owner = self.owner.wrapping_add(signed(reader)?);
        let shape = slack << 23 | pages << 4 | kind;
        let header = u128::from(self.owner) | u128::from(self.generation) << 64 | u128::from(shape) << 96;
        shortest.then_some(Record { page: self.page, pages, was, header: Some(header.to_le_bytes()) })
    }
}

impl Replay<'_> {
    /// Applies the records. Gives the leaves in which bits change.
    pub(super) fn extents(&mut self, extents: &Extents, position: u64) -> Result<BTreeSet<u64>, Flaw> {
        let of_leaf = 8 * self.layout.block;
        let mut leaves = BTreeSet::new();
        let mut changed = 0;
        for record in &extents.records {
            let (segment, page) = self.place(record, position)?;
            let (bits, value) = self.put_header(record, segment, page, position)?;
            changed += bits.len() as u64;
            if changed > 2 * self.layout.usable.end {
                return Err(Flaw::group(
                    position,
                    "it changes more bits than twice as many as there are pages",
                ));
            }
            let bitmap = self.layout.bitmap(segment);
            if !bits.is_empty() {
                let touched = bits.start / of_leaf..bits.end.div_ceil(of_leaf);
                leaves.extend(touched.map(|leaf| (bitmap.start / self.layout.block + leaf) as u64));
            }
            bits::put(self.leaves.get_mut(bitmap).unwrap_or_default(), &bits, value);
        }
        Ok(leaves)
    }

    /// Segment and page within it, with the whole of the record in that segment.
    fn place(&self, record: &Record, position: u64) -> Result<(usize, usize), Flaw> {
        let of_segment = self.layout.pages_of_segment as u64;
        let (segment, page) = (record.page / of_segment, record.page % of_segment);
        if segment >= self.layout.segments as u64 {
            return Err(Flaw::group(position, "it changes the header of a page that there is not"));
        }
        if record.pages.max(record.was.unwrap_or(0)) > of_segment - page {
            return Err(Flaw::group(position, "it changes bits behind a segment's end"));
        }
        Ok((index(segment), index(page)))
    }

    /// Gives the bits of the segment that change, and what to.
    fn put_header(
        &mut self,
        record: &Record,
        segment: usize,
        page: usize,
        position: u64,
    ) -> Result<(Range<usize>, bool), Flaw> {
        let headers = self.leaves.get_mut(self.layout.headers(segment)).unwrap_or_default();
        let Some(stands) = headers.as_chunks_mut::<HEADER>().0.get_mut(page) else {
            return Err(Flaw::group(position, "it changes the header of a page that there is not"));
        };
        let flaw = |what| Flaw::group(position, what);
        if let Some(was) = record.was {
            let old = Header::read(page, stands).map_err(flaw)?;
            if old.is_none_or(|old| old.pages as u64 != was) {
                return Err(flaw("it replaces another header than the one that stands there"));
            }
        }
        let (pages, was) = (page + index(record.pages), page + index(record.was.unwrap_or(0)));
        let new = match record.header {
            Some(header) => {
                *stands = header;
                Header::read(page, &header).map_err(flaw)?
            }
            None => None,
        };
        let Some(new) = new else {
            // The generation stays.
            *stands = (u128::from_le_bytes(*stands) & u128::from(u32::MAX) << 64).to_le_bytes();
            return Ok((page..pages, false));
        };
        if new.pages == 0 && new.kind != Kind::Span {
            return Err(flaw("its header has a length that cannot be"));
        }
        Ok(match new.kind {
            Kind::Span => (page..page, true),
            _ if was < pages => (was..pages, true),
            _ => (pages..was, false),
        })
    }

    /// The digest of all blocks of headers that the records change, as they are now.
    pub(super) fn digest(&self, extents: &Extents) -> u64 {
        let of_block = (self.layout.block / HEADER) as u64;
        let of_segment = self.layout.pages_of_segment as u64;
        // A block is told by its first page: no segment ends within one.
        let firsts: BTreeSet<u64> =
            extents.records.iter().map(|record| record.page - record.page % of_segment % of_block).collect();
        let mut digest = 0;
        for first in firsts {
            let headers = self.layout.headers(index(first / of_segment));
            let at = headers.start + index(first % of_segment) * HEADER;
            let block = part(&self.leaves, at, self.layout.block).as_chunks::<HEADER>().0;
            for (header, page) in block.iter().zip(first..) {
                digest ^= digest_of(page, header);
            }
        }
        digest
    }
}

/// The digest of one header.
fn digest_of(page: u64, header: &[u8; HEADER]) -> u64 {
    if u128::from_le_bytes(*header) == 0 {
        return 0;
    }
    let (owner, rest) = (u64_at(header, 0), u64_at(header, 8));
    let place = page.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    folded(rest ^ folded(owner ^ place, 0x6a09_e667_f3bc_c909), 0xbb67_ae85_84ca_a73b)
}

/// The halves of the product, put onto each other.
fn folded(a: u64, b: u64) -> u64 {
    let product = (u128::from(a) * u128::from(b)).to_le_bytes();
    u64_at(&product, 0) ^ u64_at(&product, 8)
}
