//! Counts everything again: bitmaps against page headers, records and free lists against both.

use super::PictureExtent;
use super::bytes::{hash_words, index, is_zero, part, rest, u32_at, u64_at};
use super::flaw::Flaw;
use super::layout::Layout;
use super::lists::check_lists;

const RECORD: usize = 64;
const HEADER: usize = 16;
const BUDDY: u8 = 1;

/// What the leaves say.
pub(super) struct Count {
    pub extents: Vec<PictureExtent>,
    pub used_pages: u64,
    pub logical: u128,
}

/// A segment's entry in the segment table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub role: u8,
    pub class: u8,
    pub previous: u32,
    pub next: u32,
    state: [u8; 2],
    generation: u32,
    used_pages: u32,
    extents: u32,
}

impl Record {
    fn read(bytes: &[u8]) -> Self {
        let [role, class, state @ ..] = bytes.first_chunk::<4>().copied().unwrap_or_default();
        Self {
            role,
            class,
            state,
            generation: u32_at(bytes, 4),
            used_pages: u32_at(bytes, 8),
            extents: u32_at(bytes, 12),
            previous: u32_at(bytes, 16),
            next: u32_at(bytes, 20),
        }
    }
}

/// Counts a store again.
pub(super) fn recount(layout: &Layout, page_bytes: u64, leaves: &[u8]) -> Result<Count, Flaw> {
    let table = leaves.get(layout.table()).unwrap_or_default();
    let (records, behind) = table.split_at(table.len().min(layout.segments * RECORD));
    if !is_zero(behind) {
        return Err(Flaw::segment(layout.segments, "there is a record behind the last segment"));
    }
    let state = part(leaves, 0, layout.block);
    let (first, frontier) = check_frontier(layout, state)?;
    let mut count = Count { extents: Vec::with_capacity(64), used_pages: 0, logical: hash_words(leaves) };
    let mut known = Vec::with_capacity(layout.segments);
    for (number, bytes) in records.chunks_exact(RECORD).enumerate() {
        let segment = Segment {
            number,
            page_bytes,
            first_page: (number * layout.pages_of_segment) as u64,
            usable: layout.usable_of(number),
            bitmap: leaves.get(layout.bitmap(number)).unwrap_or_default(),
            headers: leaves.get(layout.headers(number)).unwrap_or_default(),
        };
        let record = Record::read(bytes);
        known.push(record);
        if !(first..frontier).contains(&number) {
            if !is_zero(bytes) || !is_zero(segment.bitmap) || !is_zero(segment.headers) {
                return Err(Flaw::segment(number, "it was never used, but something is written about it"));
            }
            continue;
        }
        // A segment that was passed over on the way to a later one has no role yet, but is on a list.
        if record.role > BUDDY || (record.role == BUDDY) != (record.generation > 0) {
            return Err(Flaw::segment(number, "its role is not that of what was allocated in it"));
        }
        if record.state != [0; 2] || !is_zero(rest(bytes, 24)) {
            return Err(Flaw::segment(number, "reserved bytes of its record are not zero"));
        }
        segment.check(record, &mut count)?;
    }
    check_lists(state, &known)?;
    Ok(count)
}

/// The first segment that is ever used, and the first one that never was.
fn check_frontier(layout: &Layout, state: &[u8]) -> Result<(usize, usize), Flaw> {
    let flaw = |what| Err(Flaw::Inconsistent { structure: "leaf", number: 0, what });
    let first = (0..layout.segments).find(|&number| !layout.usable_of(number).is_empty());
    let first = first.unwrap_or(layout.segments);
    let last = (0..layout.segments).rfind(|&number| !layout.usable_of(number).is_empty());
    // A store that never used a segment says zero.
    let frontier = match index(u32_at(state, 0).into()) {
        0 => first,
        frontier => frontier,
    };
    if frontier < first || frontier > last.map_or(first, |last| last + 1) {
        return flaw("the frontier is outside of the segments with pages");
    }
    if u32_at(state, 4) != 0 || !is_zero(rest(state, 84)) {
        return flaw("reserved bytes are not zero");
    }
    Ok((first, frontier))
}

/// A segment in use.
struct Segment<'a> {
    number: usize,
    page_bytes: u64,
    /// Its first page, counted from the start of the device.
    first_page: u64,
    /// Its usable pages, counted from its own start.
    usable: std::ops::Range<usize>,
    bitmap: &'a [u8],
    headers: &'a [u8],
}

impl Segment<'_> {
    fn check(&self, record: Record, count: &mut Count) -> Result<(), Flaw> {
        let flaw = |what| Err(Flaw::segment(self.number, what));
        let before = count.extents.len();
        let (covered, newest) = self.extents(&mut count.extents)?;
        let (used, largest) = self.runs()?;
        let class = largest.map_or(0, |order| order + 1);
        if covered != used {
            return flaw("pages are in use that belong to no extent");
        }
        if record.used_pages as usize != used {
            return flaw("its record has another count of used pages");
        }
        if record.extents as usize != count.extents.len() - before {
            return flaw("its record has another count of extents");
        }
        if u32::from(record.class) != class {
            return flaw("its class is not that of its largest free run");
        }
        if record.generation != newest {
            return flaw("its generation is not that of its newest extent");
        }
        count.used_pages += used as u64;
        Ok(())
    }

    /// The word of the bitmap with this number. Bits behind the last page of a segment are checked to be zero.
    fn word(&self, number: usize) -> u64 {
        u64_at(self.bitmap, number * 8)
    }

    /// Goes through the page headers. Gives the pages of all extents and the highest generation.
    fn extents(&self, extents: &mut Vec<PictureExtent>) -> Result<(usize, u32), Flaw> {
        let (headers, behind) = self.headers.as_chunks::<HEADER>();
        let (mut covered, mut newest, mut end) = (0, 0, 0);
        if !behind.is_empty() {
            return Err(Flaw::segment(self.number, "its headers do not fill their blocks"));
        }
        for (page, header) in headers.iter().enumerate().filter(|(_, header)| !is_zero(*header)) {
            let flaw = |what| Err(Flaw::page(self.first_page + page as u64, what));
            if !self.usable.contains(&page) {
                return flaw("it cannot be used, but has a header");
            }
            let (owner, generation) = (u64_at(header, 0), u32_at(header, 8));
            let (kind, pages) = (u32_at(header, 12) & 0xff, (u32_at(header, 12) >> 8) as usize);
            newest = newest.max(generation);
            if kind == 0 {
                if owner != 0 || pages != 0 {
                    return flaw("no extent starts here, but the header has an owner or a length");
                }
                continue;
            }
            if kind != u32::from(BUDDY) {
                return flaw("its header is of no known kind");
            }
            if generation == 0 {
                return flaw("an extent has no generation");
            }
            if !pages.is_power_of_two() || !page.is_multiple_of(pages) || page + pages > self.usable.end {
                return flaw("an extent is of a shape that cannot be");
            }
            if page < end {
                return flaw("an extent lies in another one");
            }
            if !self.is_used(page, pages) {
                return flaw("an extent has pages that are not in use");
            }
            end = page + pages;
            covered += pages;
            extents.push(PictureExtent {
                offset: (self.first_page + page as u64) * self.page_bytes,
                len: pages as u64 * self.page_bytes,
                generation,
                owner,
            });
        }
        Ok((covered, newest))
    }

    /// Whether so many pages, a power of two and aligned to their number, are all in use.
    fn is_used(&self, page: usize, pages: usize) -> bool {
        if pages >= 64 {
            return (page / 64..(page + pages) / 64).all(|number| self.word(number) == u64::MAX);
        }
        let mask = ((1 << pages) - 1) << (page % 64);
        self.word(page / 64) & mask == mask
    }

    /// Counts the used pages and finds the order of the largest free run.
    fn runs(&self) -> Result<(usize, Option<u32>), Flaw> {
        let words = self.usable.end.div_ceil(64);
        let (mut used, mut largest) = (0, None);
        // Words in a row that are wholly free.
        let mut whole = 0usize;
        for number in 0..words {
            let (word, usable) = (self.word(number), self.usable_mask(number));
            if word & !usable != 0 {
                return Err(Flaw::segment(self.number, "pages that cannot be used are in use"));
            }
            used += word.count_ones() as usize;
            largest = largest.max(largest_run(!word & usable));
            whole = if !word & usable == u64::MAX { whole + 1 } else { 0 };
            // An aligned run of words ends behind this one for each power of two that divides the words so far.
            let order = whole.checked_ilog2().map(|most| most.min((number + 1).trailing_zeros()));
            largest = largest.max(order.map(|order| order + 6));
        }
        if is_zero(rest(self.bitmap, words * 8)) {
            Ok((used, largest))
        } else {
            Err(Flaw::segment(self.number, "pages that cannot be used are in use"))
        }
    }

    fn usable_mask(&self, word: usize) -> u64 {
        let below = |page: usize| match page.saturating_sub(word * 64) {
            bits @ 0..64 => (1 << bits) - 1,
            _ => u64::MAX,
        };
        below(self.usable.end) & !below(self.usable.start)
    }
}

/// The order of the largest aligned run of ones in a word.
fn largest_run(mut ones: u64) -> Option<u32> {
    let mut largest = None;
    for order in 0..=6 {
        if ones == 0 {
            break;
        }
        largest = Some(order);
        // Of each pair of runs, the place of the first keeps its bit if both are there.
        let step = 1u32 << order;
        let firsts = match order {
            0 => 0x5555_5555_5555_5555,
            1 => 0x1111_1111_1111_1111,
            2 => 0x0101_0101_0101_0101,
            3 => 0x0001_0001_0001_0001,
            4 => 0x0000_0001_0000_0001,
            _ => 1,
        };
        ones &= ones.checked_shr(step).unwrap_or(0) & firsts;
    }
    largest
}
