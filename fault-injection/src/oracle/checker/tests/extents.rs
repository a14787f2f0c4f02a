//! Groups with updates of extents, written by hand behind a closed store.

use super::super::bytes::index;
use super::super::layout::Layout;
use super::super::replay::Replay;
use super::super::{Flaw, Picture, PictureExtent};
use super::forge::{Forge, Forged};
use super::journals::{number, update};
use super::rejections::closed;
use super::{Bench, Shape};

const PAGE: u64 = 4096;
const MALFORMED: &str = "its payload is not a sequence of updates";

/// A record of an update, in numbers.
#[derive(Clone, Copy, Default)]
struct Record {
    page: u64,
    kind: u64,
    pages: u64,
    was: Option<u64>,
    slack: u64,
    generation: u32,
    owner: u64,
}

fn signed(value: u64) -> Vec<u8> {
    let value = value.cast_signed();
    number(((value << 1) ^ (value >> 63)).cast_unsigned())
}

/// The records, without what is in front of them and behind.
fn encode(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut page, mut generation, mut owner) = (0, 0u32, 0);
    for record in records {
        bytes.extend(signed(record.page.wrapping_sub(page)));
        page = record.page;
        let replaces = u64::from(record.was.is_some());
        bytes.extend(number(record.pages << 4 | replaces << 3 | record.kind));
        bytes.extend(record.was.map(number).unwrap_or_default());
        if record.kind == 0 {
            continue;
        }
        bytes.extend(number(record.slack));
        let difference = record.generation.wrapping_sub(generation).cast_signed();
        bytes.extend(signed(i64::from(difference).cast_unsigned()));
        bytes.extend(signed(record.owner.wrapping_sub(owner)));
        (generation, owner) = (record.generation, record.owner);
    }
    bytes
}

fn extents(records: &[Record], digest: u64) -> Vec<u8> {
    let count = number(records.len() as u64);
    [vec![3], count, encode(records), digest.to_le_bytes().to_vec()].concat()
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    let half = |product: u128| u64::try_from(product & u128::from(u64::MAX)).unwrap();
    half(product) ^ half(product >> 64)
}

/// The digest of one header.
fn digest(page: u64, generation: u32, shape: u32, owner: u64) -> u64 {
    if (generation, shape, owner) == (0, 0, 0) {
        return 0;
    }
    let inner = fold(owner ^ (page + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15), 0x6a09_e667_f3bc_c909);
    fold((u64::from(generation) | u64::from(shape) << 32) ^ inner, 0xbb67_ae85_84ca_a73b)
}

#[test]
fn digests_of_the_description() {
    // Of another implementation of the formula.
    assert_eq!(digest(0, 1, 0, 0), 0x5b17_f785_224e_0dbe);
    assert_eq!(digest(1000, 7, 3 << 23 | 5 << 4 | 2, 0xdead_beef_1234_5678), 0xef51_73b5_0520_502a);
}

/// A closed store, and a group behind it that changes what lies in two of its segments.
struct Bed {
    forge: Forge,
    before: Picture,
    records: Vec<Record>,
    digest: u64,
    /// The other updates: the segment table, and a bitmap.
    rest: [Vec<u8>; 2],
}

/// Segment of most of the changes, in which there are extents at pages 2 (8 long), 10 (1) and 11 (4).
const SEGMENT: usize = 5;
const FIRST: u64 = 16 * SEGMENT as u64;

impl Bed {
    fn new() -> Self {
        let mut forge = closed();
        forge.change_superblock(40, &[1]);
        let before = forge.examine().unwrap();
        let places: Vec<_> =
            before.extents.iter().map(|extent| (extent.offset / PAGE, extent.len / PAGE)).collect();
        assert_eq!(places[..4], [(FIRST + 2, 8), (FIRST + 10, 1), (FIRST + 11, 4), (FIRST + 16, 16)]);
        let records = vec![
            Record { page: FIRST + 11, pages: 4, ..Record::default() },
            Record { page: FIRST + 10, kind: 2, pages: 2, was: Some(1), slack: 3, generation: 2, owner: 99 },
            Record { page: FIRST + 13, kind: 2, pages: 3, generation: 3, owner: 5, ..Record::default() },
            Record {
                page: FIRST + 16,
                kind: 2,
                pages: 16,
                was: Some(16),
                generation: 1,
                owner: u64::MAX,
                slack: 0,
            },
        ];
        let plain = |pages: u32| pages << 4 | 2;
        let digest = [
            digest(FIRST + 2, 1, plain(8), 7),
            digest(FIRST + 10, 2, 3 << 23 | plain(2), 99),
            digest(FIRST + 11, 3, 0, 0),
            digest(FIRST + 13, 3, plain(3), 5),
            digest(FIRST + 16, 1, plain(16), u64::MAX),
        ];
        let digest = digest.into_iter().fold(0, |sum, digest| sum ^ digest);
        // Of the records, the sum of slack is another; in the bitmap, pages 12 and 15 are.
        let mut table = forge.leaf(1);
        table[32 * SEGMENT + 16] = 24;
        let mut bitmap = forge.leaf(12);
        assert_eq!(bitmap[..2], [0xfc, 0x7f]);
        bitmap[1] = 0xef;
        let rest = [update(0, 1, 32 * SEGMENT as u64 + 16, &[24], &table), sealed(12, &bitmap)];
        // The second address is a difference to the first.
        let rest = [rest[0].clone(), [&[0, 11], &rest[1][2..]].concat()];
        Self { forge, before, records, digest, rest }
    }

    /// The store with a group of this payload.
    fn with(&self, updates: u32, payload: Vec<u8>) -> Forge {
        let mut forge = self.forge.clone();
        let group = Forged {
            transactions: 1,
            first_lsn: self.before.last_lsn + 1,
            durable_lsn: self.before.last_lsn,
            updates,
            reserved: 0,
            padding: 0,
            payload,
        };
        forge.write_group(self.before.tail_position, &group);
        forge
    }

    fn whole(&self) -> Vec<u8> {
        [extents(&self.records, self.digest), self.rest.concat()].concat()
    }

    /// With a record that is another, and the digest as it was.
    fn record(&self, number: usize, change: impl FnOnce(&mut Record)) -> Forge {
        let mut records = self.records.clone();
        change(&mut records[number]);
        self.with(3, [extents(&records, self.digest), self.rest.concat()].concat())
    }

    /// With these records only, behind which there is no change of a leaf.
    fn only(&self, records: &[Record], digest: u64) -> Forge {
        self.with(1, extents(records, digest))
    }
}

/// An update of a leaf that has no patches.
fn sealed(leaf: u64, after: &[u8]) -> Vec<u8> {
    let bytes = update(0, leaf, 0, &[], after);
    let patches = 1 + number(leaf).len();
    [&bytes[..patches], &[0], &bytes[patches + 3..]].concat()
}

#[test]
fn headers_and_bits_are_those_of_the_records() {
    let bed = Bed::new();
    let picture = bed.with(3, bed.whole()).examine().unwrap();
    let mut expected = bed.before.extents.clone();
    let extent = |page: u64, pages: u64, generation: u32, owner: u64| PictureExtent {
        offset: (FIRST + page) * PAGE,
        len: pages * PAGE,
        generation,
        owner,
    };
    expected[1] = extent(10, 2, 2, 99);
    expected[2] = extent(13, 3, 3, 5);
    expected[3].owner = u64::MAX;
    assert_eq!(picture.extents, expected);
    assert_eq!((picture.used_bytes, picture.groups.len()), (bed.before.used_bytes, 1));
    // A group later, the generation of what ended is still there.
    assert_ne!(picture.logical, bed.before.logical);
}

#[test]
fn digests_are_compared() {
    let bed = Bed::new();
    let wrong = "page headers are not what the journal makes of them";
    for bit in 0..64 {
        let payload = [extents(&bed.records, bed.digest ^ 1 << bit), bed.rest.concat()].concat();
        bed.with(3, payload).refused(wrong);
    }
    // Each field of a header counts, whatever else agrees.
    bed.record(1, |record| record.owner += 1).refused(wrong);
    bed.record(1, |record| record.generation -= 1).refused(wrong);
    bed.record(1, |record| record.kind = 1).refused(wrong);
    bed.record(2, |record| record.slack = 1).refused(wrong);
    // Each block of headers counts, and one that is changed twice counts once.
    bed.record(3, |record| record.owner -= 1).refused(wrong);
    let mut records = bed.records.clone();
    records.push(bed.records[3]);
    let twice = [extents(&records, bed.digest), bed.rest.concat()].concat();
    assert_eq!(bed.with(3, twice).examine().unwrap().extents.len(), 6);
}

#[test]
fn a_later_patch_of_a_header_does_not_count_in_the_digest() {
    let bed = Bed::new();
    let changed = 99 ^ 1;
    let mut headers = bed.forge.leaf(13);
    for (page, record) in [(10, 1), (13, 2)] {
        let Record { slack, pages, generation, owner, .. } = bed.records[record];
        let shape = u32::try_from(slack << 23 | pages << 4 | 2).unwrap();
        let header = [&owner.to_le_bytes()[..], &generation.to_le_bytes(), &shape.to_le_bytes()].concat();
        headers[page * 16..page * 16 + 16].copy_from_slice(&header);
    }
    headers[11 * 16..11 * 16 + 8].fill(0);
    headers[11 * 16 + 12..12 * 16].fill(0);
    headers[160] = changed;
    let patch = [vec![0, 1], update(0, 13, 160, &[changed], &headers)[2..].to_vec()].concat();
    let with = |digest: u64| {
        let payload = [extents(&bed.records, digest), bed.rest.concat(), patch.clone()].concat();
        bed.with(4, payload)
    };
    let picture = with(bed.digest).examine().unwrap();
    assert_eq!(picture.extents[1].owner, u64::from(changed));
    let shape = 3 << 23 | 2 << 4 | 2;
    let after = bed.digest ^ digest(FIRST + 10, 2, shape, 99) ^ digest(FIRST + 10, 2, shape, changed.into());
    with(after).refused("page headers are not what the journal makes of them");
}

#[test]
fn bits_of_which_no_leaf_says_what_it_is() {
    let bed = Bed::new();
    let words = "it changes bits, but does not say what their leaf is then";
    bed.with(2, [extents(&bed.records, bed.digest), bed.rest[0].clone()].concat()).refused(words);
    // What says so of the leaf as it was.
    let old = [vec![0, 11], sealed(12, &bed.forge.leaf(12))[2..].to_vec()].concat();
    let payload = [extents(&bed.records, bed.digest), bed.rest[0].clone(), old].concat();
    bed.with(3, payload).refused("leaf 12: it is not what the journal makes of it");
    // Where no bit is another, none is needed.
    let one = [bed.records[3]];
    bed.only(&one, digest(FIRST + 16, 1, 16 << 4 | 2, u64::MAX)).examine().unwrap();
}

#[test]
fn no_more_bits_than_twice_as_many_as_pages() {
    let bed = Bed::new();
    let plain = |pages: u32| pages << 4 | 2;
    let headers = [
        digest(FIRST + 2, 1, plain(8), 7),
        digest(FIRST + 10, 2, plain(1), 7),
        digest(FIRST + 11, 3, plain(4), 7),
        digest(FIRST + 15, 1, 0, 0),
    ];
    let headers = headers.into_iter().fold(0, |sum, digest| sum ^ digest);
    let begins = Record { page: FIRST + 15, kind: 2, pages: 1, generation: 1, ..Record::default() };
    let ends = Record { kind: 0, ..begins };
    let often = |times: usize| {
        let records = [begins, ends].repeat(times);
        bed.with(2, [extents(&records, headers), sealed(12, &bed.forge.leaf(12))].concat())
    };
    // The store has 256 pages.
    assert_eq!(often(256).examine().unwrap().extents, bed.before.extents);
    often(257).refused("it changes more bits than twice as many as there are pages");
}

#[test]
fn only_stores_with_the_feature_have_them() {
    let bed = Bed::new();
    let mut forge = bed.with(3, bed.whole());
    forge.change_superblock(40, &[0]);
    forge.refused(MALFORMED);
    for bit in 1..64 {
        let mut forge = bed.forge.clone();
        forge.change_superblock(40, &(1u64 << bit | 1).to_le_bytes());
        assert_eq!(forge.examine(), Err(Flaw::Unsupported { what: "feature" }));
    }
}

#[test]
fn places_that_cannot_be() {
    let bed = Bed::new();
    let at = |page: u64, kind: u64, pages: u64, was: Option<u64>| {
        bed.only(&[Record { page, kind, pages, was, generation: 1, ..Record::default() }], 0)
    };
    let outside = "it changes the header of a page that there is not";
    for page in [256, 257, 1 << 40, 1 << 63, u64::MAX] {
        at(page, 2, 1, None).refused(outside);
        at(page, 0, 0, None).refused(outside);
    }
    let behind = "it changes bits behind a segment's end";
    at(FIRST + 12, 2, 5, None).refused(behind);
    at(FIRST + 12, 0, 5, None).refused(behind);
    at(FIRST, 2, 17, None).refused(behind);
    at(FIRST + 10, 2, 1, Some(7)).refused(behind);
    at(FIRST + 10, 2, 1, Some(u64::MAX)).refused(behind);
    at(255, 2, (1 << 19) - 1, None).refused(behind);
    // One page less is not behind the end.
    at(FIRST + 12, 2, 4, None).refused("page headers are not");
    let other = "it replaces another header than the one that stands there";
    at(FIRST + 10, 2, 1, Some(2)).refused(other);
    at(FIRST + 10, 2, 1, Some(6)).refused(other);
    at(FIRST + 10, 2, 1, Some(0)).refused(other);
    at(FIRST + 12, 2, 1, Some(0)).refused(other);
    at(FIRST + 12, 2, 1, Some(1)).refused(other);
}

#[test]
fn headers_that_cannot_be() {
    let bed = Bed::new();
    let with = |record: Record| bed.only(&[Record { page: FIRST + 10, ..record }], 0);
    let good = Record { kind: 2, pages: 1, was: Some(1), generation: 1, ..Record::default() };
    with(good).refused("page headers are not what the journal makes of them");
    with(Record { generation: 0, ..good }).refused("something starts here that has no generation");
    with(Record { pages: 0, ..good }).refused("its header has a length that cannot be");
    for kind in [3, 5] {
        with(Record { kind, slack: 1, ..good })
            .refused("its header has slack, but is of a kind that has none");
    }
    for kind in [6, 7] {
        with(Record { kind, ..good }).refused(MALFORMED);
    }
    with(Record { kind: 0, was: None, ..good }).refused("page headers are not");
    // Nothing replaces nothing, with what it replaces and without.
    with(Record { kind: 0, was: Some(1), ..good }).refused(MALFORMED);
    let page = number((FIRST + 10) << 1);
    bed.with(1, [&[3, 1], &page[..], &[1 << 4 | 8], &[0; 8]].concat()).refused(MALFORMED);
    with(Record { slack: 511, ..good }).refused("page headers are not");
    with(Record { slack: 512, ..good }).refused(MALFORMED);
    with(Record { pages: 1 << 19, ..good }).refused(MALFORMED);
}

#[test]
fn spans_have_no_bits() {
    let bed = Bed::new();
    // Of segment 7, which nothing is in: were there bits, they would have to be sealed.
    let span = Record { page: 7 * 16, kind: 4, pages: 5, generation: 9, owner: 1, ..Record::default() };
    bed.only(&[span], digest(7 * 16, 9, 5 << 4 | 4, 1))
        .refused("its generation is above that of its segment");
    let run = Record { kind: 2, ..span };
    bed.only(&[run], digest(7 * 16, 9, 5 << 4 | 2, 1)).refused("it changes bits");
    // A span may be without a tail.
    let whole = Record { pages: 0, ..span };
    bed.only(&[whole], digest(7 * 16, 9, 4, 1)).refused("its generation is above that of its segment");
    let again = Record { was: Some(5), owner: 2, ..whole };
    bed.only(&[span, again], digest(7 * 16, 9, 4, 2)).refused("its generation is above that of its segment");
}

#[test]
fn orders_and_counts_that_cannot_be() {
    let bed = Bed::new();
    let records = extents(&bed.records, bed.digest);
    let [table, bitmap] = &bed.rest;
    bed.with(3, bed.whole()).examine().unwrap();
    bed.with(2, bed.whole()).refused(MALFORMED);
    bed.with(4, bed.whole()).refused(MALFORMED);
    // Behind another one, and twice.
    bed.with(3, [table.clone(), records.clone(), bitmap.clone()].concat()).refused(MALFORMED);
    bed.with(2, [table.clone(), records.clone()].concat()).refused(MALFORMED);
    bed.with(4, [records.clone(), records.clone(), bed.rest.concat()].concat()).refused(MALFORMED);
    // Of another device, and without records.
    bed.with(3, [&[3 | 8], &bed.whole()[1..]].concat()).refused(MALFORMED);
    bed.with(1, [3, 0].into_iter().chain(bed.digest.to_le_bytes()).collect()).refused(MALFORMED);
    bed.with(1, [3, 0].into_iter().chain([0; 8]).collect()).refused(MALFORMED);
    // More records than there are, fewer, and so many that no memory would do.
    for count in [3, 5, 1 << 32, u64::MAX] {
        let payload = [vec![3], number(count), bed.whole()[2..].to_vec()].concat();
        bed.with(3, payload).examine().unwrap_err();
    }
    for len in 0..records.len() {
        bed.with(1, records[..len].to_vec()).refused(MALFORMED);
    }
}

#[test]
fn numbers_that_cannot_be() {
    let bed = Bed::new();
    // A record, number by number.
    let written = |numbers: [&[u8]; 6]| {
        let payload = [&[3, 1], &numbers.concat()[..], &[0; 8]].concat();
        bed.with(1, payload)
    };
    let page = number((FIRST + 10) << 1);
    let good: [&[u8]; 6] = [&page, &[1 << 4 | 8 | 2], &[1], &[0], &[2], &[0]];
    // All is well but the digest.
    written(good).refused("page headers are not what the journal makes of them");
    for place in 0..6 {
        let mut longer = good[place].to_vec();
        *longer.last_mut().unwrap() |= 0x80;
        longer.push(0);
        let mut numbers = good;
        numbers[place] = &longer;
        written(numbers).refused(MALFORMED);
        let mut numbers = good;
        numbers[place] = &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        written(numbers).refused(MALFORMED);
    }
    // Differences of generations: the last ones up and down, and those behind them.
    let generation = |value: u64| {
        let value = number(value);
        let mut numbers = good;
        numbers[4] = &value;
        written(numbers)
    };
    for value in [(1 << 32) - 1, (1 << 32) - 2] {
        generation(value).refused("page headers are not what the journal makes of them");
    }
    for value in [1 << 32, (1 << 32) + 1, 1 << 33, u64::MAX, u64::MAX - 1] {
        generation(value).refused(MALFORMED);
    }
}

#[test]
fn differences_wrap() {
    let bed = Bed::new();
    let page = FIRST + 16;
    let record = |generation: u32, owner: u64| Record {
        page,
        kind: 2,
        pages: 16,
        was: Some(16),
        generation,
        owner,
        ..Record::default()
    };
    let last = |generation, owner| digest(page, generation, 16 << 4 | 2, owner);
    for (generation, owner) in [(u32::MAX, u64::MAX), (1 << 31, 1 << 63), ((1 << 31) - 1, (1 << 63) - 1)] {
        let records = [record(1, 0), record(generation, owner), record(1, 5)];
        let picture = bed.only(&records, last(1, 5)).examine().unwrap();
        assert_eq!(picture.extents[3].owner, 5);
    }
}

/// More than a thousand pages in a segment: four blocks of headers.
const LONG: Shape = (4 << 20, 512, 512, 4096, 4 << 20);

#[test]
fn several_blocks_of_one_segment() {
    let mut bench = Bench::new(LONG);
    bench.open();
    for _ in 0..2 {
        bench.allocate(&[200, 100]);
    }
    super::run(bench.store().close());
    let mut forge = Forge::of(&bench.disk);
    forge.change_superblock(40, &[1]);
    let before = forge.examine().unwrap();
    let pages: Vec<u64> = before.extents.iter().map(|extent| extent.offset / PAGE).collect();
    let (near, far) = (pages[0], pages[pages.len() - 1]);
    let (first, second) = (near / 256, far / 256);
    assert!(first < second && second < 4, "{pages:?}");
    let owned = |page: u64, owner: u64| {
        let extent = before.extents.iter().find(|extent| extent.offset / PAGE == page).unwrap();
        let pages = extent.len / PAGE;
        Record { page, kind: 2, pages, was: Some(pages), slack: 0, generation: extent.generation, owner }
    };
    let of_block = |block: u64, owner: u64| {
        let among = pages.iter().filter(|page| *page / 256 == block);
        among.fold(0, |sum, &page| {
            let changed = if page == far || page == near { owner } else { 0 };
            let Record { pages, generation, .. } = owned(page, 0);
            let extent = before.extents.iter().find(|extent| extent.offset / PAGE == page).unwrap();
            let owner = if changed == 0 { extent.owner } else { changed };
            sum ^ digest(page, generation, u32::try_from(pages << 4 | 2).unwrap(), owner)
        })
    };
    let with = |records: &[Record], digest: u64| {
        let bed = Bed {
            forge: forge.clone(),
            before: before.clone(),
            records: Vec::new(),
            digest: 0,
            rest: [Vec::new(), Vec::new()],
        };
        bed.only(records, digest)
    };
    let both = [owned(far, 77), owned(near, 77)];
    with(&both, of_block(first, 77) ^ of_block(second, 77)).examine().unwrap();
    let wrong = "page headers are not what the journal makes of them";
    with(&both, of_block(first, 77)).refused(wrong);
    with(&both, of_block(second, 77)).refused(wrong);
    with(&both[..1], of_block(second, 77)).examine().unwrap();
    with(&both[..1], of_block(first, 0) ^ of_block(second, 77)).refused(wrong);
}

#[test]
fn runs_over_several_blocks_of_bits() {
    // A store with eight blocks of bits in each segment, of which there are leaves only.
    let forge = closed();
    let mut superblock = forge.superblock.clone();
    (superblock.device_bytes, superblock.segment_bytes) = (2 << 30, 1 << 30);
    let layout = Layout::of(&superblock).unwrap();
    let of_segment = 1 << 18;
    assert_eq!((layout.pages_of_segment, layout.bitmap(1).len()), (of_segment, 8 * 4096));
    let disk = forge.disk();
    let leaves = vec![0; index(layout.levels[layout.levels.len() - 1].count) * 4096];
    let mut replay = Replay {
        device: &disk,
        layout: &layout,
        has_extents: true,
        data_end: 2 << 30,
        leaves,
        caller: Default::default(),
    };
    let page = of_segment as u64 + 32_760;
    let first = layout.bitmap(1).start / 4096;
    let apply = |replay: &mut Replay<'_>, record: Record, digest: u64, blocks: &[Vec<u8>]| {
        let mut payload = extents(&[record], digest);
        let mut last = 0;
        for (number, block) in blocks.iter().enumerate() {
            let leaf = (first + number) as u64;
            payload.extend(sealed(leaf - last, block));
            last = leaf;
        }
        replay.apply(&payload, 1 + u32::try_from(blocks.len()).unwrap(), 0)
    };
    // 8 bits, a block, and one bit.
    let pages = 8 + 32_768 + 1;
    let begins = Record { page, kind: 2, pages, generation: 4, owner: 6, ..Record::default() };
    let shape = u32::try_from(pages << 4 | 2).unwrap();
    let mut blocks = vec![vec![0; 4096], vec![0xff; 4096], vec![0; 4096]];
    blocks[0][4095] = 0xff;
    blocks[2][0] = 1;
    apply(&mut replay, begins, digest(page, 4, shape, 6), &blocks[..2]).unwrap_err();
    replay.leaves.fill(0);
    apply(&mut replay, begins, digest(page, 4, shape, 6), &blocks).unwrap();
    assert_eq!(replay.leaves[first * 4096..][..3 * 4096], blocks.concat());
    // Shorter, where two of the blocks lose bits.
    let shorter = Record { was: Some(pages), pages: 9, ..begins };
    let shape = u32::try_from(9 << 4 | 2).unwrap();
    blocks[1].fill(0);
    (blocks[1][0], blocks[2][0]) = (1, 0);
    apply(&mut replay, shorter, digest(page, 4, shape, 6), &blocks).unwrap();
    assert_eq!(replay.leaves[first * 4096..][..3 * 4096], blocks.concat());
    // Only bits by which it is longer change, and none with the length that it had, whatever there is.
    replay.leaves[first * 4096..][..3 * 4096].fill(0);
    let same = Record { was: Some(9), owner: 7, ..shorter };
    apply(&mut replay, same, digest(page, 4, shape, 7), &[]).unwrap();
    let longer = Record { was: Some(9), pages: 11, ..same };
    let shape = u32::try_from(11 << 4 | 2).unwrap();
    let mut grown = [vec![0; 4096], vec![0; 4096]];
    grown[1][0] = 0b110;
    apply(&mut replay, longer, digest(page, 4, shape, 7), &grown).unwrap();
    let ends = Record { kind: 0, was: None, pages: 11, ..begins };
    let blocks = [vec![0; 4096], vec![0; 4096], vec![0; 4096]];
    apply(&mut replay, ends, digest(page, 4, 0, 0), &blocks).unwrap();
    let longest = Record { page: of_segment as u64, pages: of_segment as u64, ..begins };
    let all: Vec<_> = (0..8).map(|_| vec![0xff; 4096]).collect();
    let shape = u32::try_from(of_segment << 4 | 2).unwrap();
    apply(&mut replay, longest, digest(of_segment as u64, 4, shape, 6), &all).unwrap();
}
