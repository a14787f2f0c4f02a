//! Segments with regions of items, and runs beside them: role `slab`.

use std::collections::BTreeMap;

use freehold::device::Device;

use super::super::PictureExtent;
use super::super::bytes::{
    content_checksum, hash_words, index, is_zero, part, read, rest, u16_at, u32_at, u64_at,
};
use super::super::flaw::Flaw;
use super::Count;
use super::items::Items;
use super::record::{Record, Sums};
use super::runs;
use super::segment::{Cover, Header, Kind, Segment};
use super::spans::Span;

/// Heads are hashed as if they lay behind all leaves.
const HEADS_FROM: u64 = 1 << 60;
/// Classes that share a bit of the open classes.
const CLASSES_OF_BIT: u8 = 3;
/// Bits of a mark that are slack; above them is the count.
const SLACK_BITS: u32 = 4;
/// Bits of an item's generation that are the count.
const COUNT_BITS: u32 = 12;

/// Where the heads of regions are read from.
pub(super) struct Heads<'a> {
    device: &'a dyn Device,
    caller: &'a BTreeMap<u64, Vec<u8>>,
    block: usize,
    buffer: Vec<u8>,
}

impl<'a> Heads<'a> {
    pub(super) const fn new(
        device: &'a dyn Device,
        caller: &'a BTreeMap<u64, Vec<u8>>,
        block: usize,
    ) -> Self {
        Self { device, caller, block, buffer: Vec::new() }
    }

    /// The first bytes of a region, as the journal leaves them.
    fn read(&mut self, offset: u64, len: usize) -> Result<&[u8], Flaw> {
        if len <= self.block
            && let Some(known) = self.caller.get(&offset)
        {
            return Ok(part(known, 0, len));
        }
        self.buffer.resize(len.next_multiple_of(self.block), 0);
        for (block, at) in self.buffer.chunks_exact_mut(self.block).zip((offset..).step_by(self.block)) {
            match self.caller.get(&at) {
                Some(known) => block.copy_from_slice(known),
                None => read(self.device, at, block)?,
            }
        }
        Ok(part(&self.buffer, 0, len))
    }
}

/// Checks a segment of regions.
pub(super) fn check(
    segment: &Segment<'_>,
    record: &Record,
    mut tail: Option<Span>,
    heads: &mut Heads<'_>,
    count: &mut Count,
) -> Result<(), Flaw> {
    let mut cover = Cover::of(segment);
    let mut sums = Sums::default();
    segment.each_header(record, |header| match header.kind {
        Kind::Region => {
            let region = Region::of(segment, &header)?;
            cover.add(&header)?;
            region.check(heads, &mut sums, count)
        }
        Kind::Buddy | Kind::Extent | Kind::Tail => {
            let bytes = header.pages as u64 * segment.layout.page_bytes;
            sums.items += bytes;
            sums.capacity += bytes;
            count.used_bytes += bytes;
            if header.kind == Kind::Tail {
                runs::take_tail(segment, &header, &mut tail)?;
            } else {
                runs::add(segment, &header, &mut sums, count)?;
            }
            cover.add(&header)
        }
        Kind::Span => {
            Err(segment.page_flaw(header.page, "its header is of a kind that its segment's role has not"))
        }
    })?;
    if tail.is_some() {
        return Err(segment.flaw("the tail of a span should lie in it, but does not"));
    }
    sums.used_pages = cover.finish()? as u64;
    record.agrees(segment.number, &sums)
}

/// What a region's header says, which is in line with the shape of the store.
struct Region<'a> {
    segment: &'a Segment<'a>,
    header: &'a Header,
    offset: u64,
    bytes: usize,
    class: u8,
    tagged: bool,
    used: usize,
    checksum: u32,
    items: Items,
}

impl<'a> Region<'a> {
    fn of(segment: &'a Segment<'a>, header: &'a Header) -> Result<Self, Flaw> {
        let flaw = |what| Err(segment.page_flaw(header.page, what));
        let layout = segment.layout;
        if header.pages != layout.pages_of_region || !header.page.is_multiple_of(header.pages) {
            return flaw("a region is of a length or at a place that cannot be");
        }
        // What the header of another kind has for an owner is made of several fields here.
        let fields = header.owner.to_le_bytes();
        let [class, tagged, ..] = fields;
        if tagged > 1 {
            return flaw("a region says neither that its items have owners nor that they have none");
        }
        let bytes = index(header.pages as u64 * layout.page_bytes);
        let Some(items) = Items::of(class, tagged == 1, bytes, index(layout.page_bytes)) else {
            return flaw("a region is of a class that the store has not");
        };
        Ok(Self {
            segment,
            header,
            offset: segment.offset(header.page),
            bytes,
            class,
            tagged: tagged == 1,
            used: u16_at(&fields, 2).into(),
            checksum: u32_at(&fields, 4),
            items,
        })
    }

    fn flaw(&self, what: &'static str) -> Flaw {
        self.segment.page_flaw(self.header.page, what)
    }

    /// Checks the head, and adds what it says.
    fn check(&self, heads: &mut Heads<'_>, sums: &mut Sums, count: &mut Count) -> Result<(), Flaw> {
        let Items { size, capacity, .. } = self.items;
        let head = heads.read(self.offset, self.items.items_at)?;
        if content_checksum(head) != self.checksum {
            return Err(Flaw::Damaged { what: "head of a region", offset: self.offset });
        }
        self.check_bits(head)?;
        sums.slack += self.items(head, &mut count.extents)?;
        let (all, in_use) = ((capacity * size) as u64, (self.used * size) as u64);
        sums.extents += self.used as u64;
        sums.items += in_use;
        sums.capacity += all;
        if self.used < capacity {
            sums.open_classes |= 1 << (self.class / CLASSES_OF_BIT);
        }
        count.used_bytes += in_use;
        count.overhead_bytes += self.bytes as u64 - all;
        count.logical = count.logical.wrapping_add(hash_words(HEADS_FROM + self.offset / 8, head));
        Ok(())
    }

    /// Checks the number of items in use, and that nothing lies behind the last item's bit.
    fn check_bits(&self, head: &[u8]) -> Result<(), Flaw> {
        let bits = rest(head, self.items.bits_at);
        let (whole, left) = (self.items.capacity / 8, self.items.capacity % 8);
        let last = bits.get(whole).map_or(0, |last| last >> left);
        // Where the last byte is a whole one, this looks at the byte behind it, which is zero as well.
        if last != 0 || !is_zero(rest(bits, whole + 1)) {
            return Err(self.flaw("the head of a region is not zero behind its last item"));
        }
        let used: usize = bits.iter().map(|byte| byte.count_ones() as usize).sum();
        if used != self.used {
            return Err(self.flaw("a region has another number of items in use"));
        }
        if used == 0 {
            return Err(self.flaw("a region has no item in use"));
        }
        Ok(())
    }

    /// Goes through the items. Gives the slack of all of them, in bytes.
    fn items(&self, head: &[u8], extents: &mut Vec<PictureExtent>) -> Result<u64, Flaw> {
        let Items { size, capacity, marks_at, bits_at, items_at, slack_unit } = self.items;
        let (owners, marks) = head.split_at(marks_at);
        let mut owners = owners.as_chunks::<8>().0.iter();
        let (marks, bits) = (part(marks, 0, 2 * capacity).as_chunks::<2>().0, rest(head, bits_at));
        let newest = self.header.generation << COUNT_BITS;
        let mut slack = 0;
        for (item, mark) in marks.iter().enumerate() {
            let mark = u16::from_le_bytes(*mark);
            let owner = if self.tagged { owners.next().map_or(0, |owner| u64_at(owner, 0)) } else { 0 };
            let (given, units) = (mark >> SLACK_BITS, mark & ((1 << SLACK_BITS) - 1));
            if bits.get(item / 8).is_none_or(|bits| bits >> (item % 8) & 1 == 0) {
                if owner != 0 || units != 0 {
                    return Err(self.flaw("a free item has an owner or slack"));
                }
                continue;
            }
            if given == 0 {
                return Err(self.flaw("an item is in use that was never given out"));
            }
            slack += u64::from(units) * slack_unit as u64;
            extents.push(PictureExtent {
                offset: self.offset + (items_at + item * size) as u64,
                len: size as u64,
                generation: newest | u32::from(given),
                owner,
            });
        }
        Ok(slack)
    }
}
