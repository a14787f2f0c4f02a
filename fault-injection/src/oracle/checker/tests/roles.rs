//! One of each kind; and regions of items that were changed below their checksums.

use freehold::AllocRequest;

use super::super::bytes::{hash_words, index};
use super::super::tree::read_leaves;
use super::super::{Flaw, PictureExtent};
use super::forge::Forge;
use super::rejections::shape_of;
use super::{Bench, Shape, agree, run};

/// Sixty-four segments of sixteen pages.
const SHAPE: Shape = (4 << 20, 512, 512, 4096, 64 << 10);
/// Makes regions as long as half a segment: 8 pages.
const RING: u64 = 1 << 20;

/// One of each kind: what is asked for, for whom, and how long it is.
fn requests(shape: &Shape) -> [(AllocRequest, u64, u64); 7] {
    let &(_, _, _, page, segment) = shape;
    let bytes = AllocRequest::bytes;
    [
        (bytes(3 * page - 100), 5, 3 * page),
        (bytes(100), 0, 104),
        (bytes(100), 6, 104),
        (bytes(3 * page).power_of_two(), 7, 4 * page),
        (bytes(2 * segment + 5 * page - 9), 8, 2 * segment + 5 * page),
        (bytes(2 * segment), 9, 2 * segment),
        (bytes(1), 10, 16),
    ]
}

#[test]
fn one_of_each_kind_from_first_to_last() {
    let shapes = [
        (SHAPE, RING),
        (SHAPE, 32 << 10),
        ((1 << 20, 512, 4096, 4096, 32 << 10), 64 << 10),
        ((2 << 20, 4096, 4096, 8192, 128 << 10), 512 << 10),
    ];
    for (shape, ring) in shapes {
        let mut bench = Bench::with_ring(shape, ring);
        bench.open();
        let fresh = agree(&bench);
        assert_eq!((fresh.used_bytes, fresh.overhead_bytes), (0, 0));
        for (request, owner, len) in requests(&shape) {
            bench.allocate_all(&[(request, owner)]);
            let picture = agree(&bench);
            let extent = bench.live.last().unwrap().extent;
            let seen = picture.extents.iter().find(|seen| seen.offset == extent.offset).unwrap();
            assert_eq!((seen.len, seen.owner, seen.generation), (len, owner, extent.generation));
        }
        let full = agree(&bench);
        assert_eq!(full.used_bytes, requests(&shape).iter().map(|(_, _, len)| len).sum::<u64>());
        assert_eq!(full.used_bytes + full.free_bytes + full.overhead_bytes, fresh.free_bytes);
        assert!(full.overhead_bytes > 0);
        run(bench.store().close());
        assert_eq!(bench.picture().extents, full.extents);
        bench.open();
        while !bench.live.is_empty() {
            // Neither from the first to the last nor the other way round.
            bench.free(bench.live.len() / 2);
            agree(&bench);
        }
        run(bench.store().close());
        let empty = bench.picture();
        assert_eq!((empty.extents.len(), empty.used_bytes, empty.overhead_bytes), (0, 0, 0));
        assert_eq!(empty.free_bytes, fresh.free_bytes);
        bench.open();
        for (request, owner, _) in requests(&shape) {
            bench.allocate_all(&[(request, owner)]);
            agree(&bench);
        }
    }
}

#[test]
fn a_head_lies_partly_in_the_journal() {
    let mut bench = Bench::with_ring((4 << 20, 512, 512, 4096, 1 << 20), RING);
    bench.open();
    let items: Vec<_> = (0..2100).map(|_| (AllocRequest::bytes(16), 0)).collect();
    for items in items.chunks(100) {
        bench.allocate_all(items);
    }
    run(bench.store().checkpoint());
    bench.allocate_all(&items[..1]);
    let picture = agree(&bench);
    let region = picture.extents[0].offset / 65_536 * 65_536;
    assert_eq!(picture.extents.len(), 2101);
    assert_eq!((picture.extents[2100].offset / 65_536 * 65_536), region);
    // The marks of the first items are not in the journal, those of the last and the bits are.
    let known = |block: u64| picture.caller.contains_key(&(region + block * 4096));
    assert_eq!((known(0), known(1)), (false, true));
}

#[test]
fn heads_count_in_the_hash() {
    let mut bench = Bench::with_ring(SHAPE, RING);
    bench.open();
    bench.allocate_all(&[(AllocRequest::bytes(100), 0)]);
    run(bench.store().close());
    let forge = Forge::of(&bench.disk);
    let picture = forge.examine().unwrap();
    let leaves = read_leaves(&*bench.disk, &forge.superblock, &forge.layout).unwrap();
    let region = picture.extents[0].offset / 4096 * 4096;
    let head = &forge.bytes[index(region)..index(region) + UNTAGGED[3]];
    let (of_leaves, of_head) = (hash_words(0, &leaves), hash_words((1 << 60) + region / 8, head));
    assert!(of_head != 0 && picture.logical == of_leaves.wrapping_add(of_head));
}

/// A closed store with one of each kind, and where they are.
pub(super) struct Closed {
    pub forge: Forge,
    extents: Vec<PictureExtent>,
}

impl Closed {
    pub(super) fn new() -> Self {
        let mut bench = Bench::with_ring(SHAPE, RING);
        bench.open();
        for (request, owner, _) in requests(&SHAPE) {
            bench.allocate_all(&[(request, owner)]);
        }
        run(bench.store().close());
        let forge = Forge::of(&bench.disk);
        let extents = forge.examine().unwrap().extents;
        Self { forge, extents }
    }

    /// The page at which the extent of this owner begins.
    pub(super) fn page(&self, owner: u64) -> u64 {
        self.extents.iter().find(|extent| extent.owner == owner).unwrap().offset / 4096
    }

    /// The first page of the region that the item of this owner lies in.
    fn region(&self, owner: u64) -> u64 {
        self.page(owner) / 8 * 8
    }

    pub(super) fn segment(&self, owner: u64) -> usize {
        self.forge.place(self.page(owner)).0
    }

    pub(super) fn with(&self, change: impl FnOnce(&mut Forge)) -> Forge {
        let mut forge = self.forge.clone();
        change(&mut forge);
        forge
    }

    pub(super) fn header(&self, page: u64, at: usize, bytes: &[u8]) -> Forge {
        self.with(|forge| forge.change_header(page, at, bytes))
    }

    pub(super) fn record(&self, segment: usize, at: usize, bytes: &[u8]) -> Forge {
        self.with(|forge| forge.change_record(segment, at, bytes))
    }
}

/// Capacity, place of marks, place of bits, length of the head: items of 104 bytes in 32 KiB.
const UNTAGGED: [usize; 4] = [308, 0, 616, 656];
const TAGGED: [usize; 4] = [287, 2296, 2870, 2912];
const OWNERLESS: u64 = 0;
const OWNED: u64 = 6;

#[test]
fn headers_of_regions_that_cannot_be() {
    let closed = Closed::new();
    let page = closed.region(OWNERLESS);
    let header = |at: usize, bytes: &[u8]| closed.header(page, at, bytes);
    for class in [57, 88, 89, 255] {
        header(0, &[class]).refused("a region is of a class that the store has not");
    }
    let damaged = Flaw::Damaged { what: "head of a region", offset: page * 4096 };
    for (at, byte) in [(0, 20), (1, 1), (4, 0), (7, 0)] {
        let mut forge = closed.forge.clone();
        let place = forge.place(page);
        let leaf = forge.layout.headers(place.0).start / 4096;
        let old = forge.bytes[index(forge.leaf_at(leaf)) + place.1 * 16 + at];
        forge.change_header(page, at, &[if at >= 4 { !old } else { byte }]);
        assert_eq!(forge.examine(), Err(damaged), "{at}");
    }
    header(1, &[2]).refused("a region says neither that its items have owners nor that they have none");
    for used in [0, 2, 300] {
        header(2, &u16::to_le_bytes(used)).refused("a region has another number of items in use");
    }
    for pages in [0, 4, 16] {
        header(12, &shape_of(3, pages)).refused("a region is of a length or at a place that cannot be");
    }
    header(15, &[0x80]).refused("its header has slack, but is of a kind that has none");
    header(12, &shape_of(4, 8)).refused("its header is of a kind that its segment's role has not");
    header(12, &shape_of(5, 8)).refused("it is the tail of no span that knows of it");
    // An extent may be there, but it has other sums.
    header(12, &shape_of(2, 8)).refused("its record has another sum of slack");
    let elsewhere = closed.with(|forge| forge.change_header(page + 1, 8, &[1, 0, 0, 0, 0x83]));
    elsewhere.refused("a region is of a length or at a place that cannot be");
    closed.with(|forge| forge.flip_bit(page)).refused("what starts here has pages that are not in use");
    let segment = closed.segment(OWNERLESS);
    closed.record(segment, 1, &[1]).refused("it has a class, but its role has none");
    closed.record(segment, 8, &[7]).refused("its record has another count of used pages");
    closed.record(segment, 12, &[9]).refused("its record has another count of extents");
    closed.record(segment, 20, &[7]).refused("its record has another sum of items");
    closed.record(segment, 24, &[7]).refused("its record has another capacity");
    closed.record(segment, 28, &[0; 4]).refused("its record has other open classes");
    closed.record(segment, 0, &[4]).refused("it is the first of a span, but has bits in its bitmap");
}

#[test]
fn heads_of_regions_that_cannot_be() {
    let closed = Closed::new();
    for (owner, [capacity, marks, bits, len]) in [(OWNERLESS, UNTAGGED), (OWNED, TAGGED)] {
        let page = closed.region(owner);
        let offset = closed.extents.iter().find(|extent| extent.owner == owner).unwrap().offset;
        let first = index(offset - page * 4096);
        let item = (first - len) / 104;
        let other = item + 1;
        let head = |at: usize, bytes: &[u8]| closed.with(|forge| forge.change_head(page, len, at, bytes));
        head(0, &[]).examine().unwrap();
        // Bits: in use are this item, one behind it, the last that there is, and those that there are not.
        let bit = |item: usize| {
            let at = index(page * 4096) + bits + item / 8;
            head(bits + item / 8, &[closed.forge.bytes[at] | 1 << (item % 8)])
        };
        for beyond in capacity..capacity.next_multiple_of(8) {
            bit(beyond).refused("the head of a region is not zero behind its last item");
        }
        for padding in bits + capacity.div_ceil(8)..len {
            head(padding, &[1]).refused("the head of a region is not zero behind its last item");
        }
        bit(other).refused("a region has another number of items in use");
        let mut two = bit(capacity - 1);
        two.change_header(page, 2, &[2]);
        two.refused("an item is in use that was never given out");
        // An item more, in all that counts it.
        let last = capacity - 1;
        two.change_head(page, len, marks + 2 * last, &[0x10]);
        two.refused("its record has another count of extents");
        let mut none = head(bits + item / 8, &[0]);
        none.refused("a region has another number of items in use");
        none.change_header(page, 2, &[0]);
        none.refused("a region has no item in use");
        // Marks.
        head(marks + 2 * item, &[0, 0]).refused("an item is in use that was never given out");
        head(marks + 2 * item, &[0x1f, 0]).refused("its record has another sum of slack");
        head(marks + 2 * other, &[1, 0]).refused("a free item has an owner or slack");
        head(marks + 2 * other, &[0x10, 7]).examine().unwrap();
        let mut again = head(marks + 2 * item, &[0x54, 0x12]);
        let seen = again.examine().unwrap().extents;
        let seen = seen.iter().find(|seen| seen.offset == offset).unwrap();
        assert_eq!(seen.generation % 4096, 0x125);
        // Of the generation of a region, 20 bits are in the handle.
        again.change_header(page, 8, &[0xff; 4]);
        again.change_record(closed.segment(owner), 4, &[0xff; 4]);
        let seen = again.examine().unwrap().extents;
        assert!(seen.iter().any(|seen| seen.generation == 0xffff_f125));
    }
    // Owners.
    let (page, [.., len]) = (closed.region(OWNED), TAGGED);
    closed
        .with(|forge| forge.change_head(page, len, 8 * 100, &[1]))
        .refused("a free item has an owner or slack");
}
