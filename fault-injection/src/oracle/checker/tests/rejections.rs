//! Superblocks, trees and leaves that say what cannot be.

use super::super::Flaw;
use super::super::bytes::{hash_words, index, u32_at};
use super::forge::Forge;
use super::{Bench, Shape};

/// Sixteen segments of sixteen pages, of which the metadata takes some.
const SHAPE: Shape = (1 << 20, 512, 512, 4096, 64 << 10);

/// A closed store with full, empty and other segments.
pub(super) fn closed() -> Forge {
    let mut bench = Bench::new(SHAPE);
    bench.open();
    for pages in [16, 16, 16, 8, 1, 4, 16, 16] {
        bench.allocate(&[pages]);
    }
    bench.free(1);
    bench.free(1);
    super::run(bench.store().close());
    let forge = Forge::of(&bench.disk);
    let picture = forge.examine().unwrap();
    assert!(picture.closed && picture.groups.is_empty() && picture.extents.len() == 6);
    forge
}

#[test]
fn a_device_without_a_store() {
    let mut forge = closed();
    forge.bytes.fill(0);
    assert_eq!(forge.examine(), Err(Flaw::NotFormatted));
    forge.bytes.truncate(100 << 10);
    assert_eq!(forge.examine(), Err(Flaw::NotFormatted));
}

#[test]
fn one_copy_of_the_superblock_is_enough() {
    for shape in [SHAPE, (1 << 20, 512, 8192, 8192, 64 << 10)] {
        let mut bench = Bench::new(shape);
        bench.open();
        bench.allocate(&[1]);
        super::run(bench.store().close());
        let forge = Forge::of(&bench.disk);
        let whole = forge.examine().unwrap();
        for copy in [0, 2 * forge.layout.block as u64] {
            let mut forge = forge.clone();
            forge.flip(copy + 300);
            let picture = forge.examine().unwrap();
            assert_eq!(picture.logical, whole.logical);
            assert_eq!(picture.sequence < whole.sequence, copy == forge.superblock.at);
        }
        let mut forge = forge.clone();
        forge.flip(0);
        forge.flip(2 * forge.layout.block as u64 + 8);
        assert_eq!(forge.examine(), Err(Flaw::Damaged { what: "superblock", offset: 0 }));
    }
}

#[test]
fn superblocks_that_cannot_be() {
    let forge = closed();
    let changed = |field: usize, bytes: &[u8]| {
        let mut forge = forge.clone();
        forge.change_superblock(field, bytes);
        forge
    };
    changed(12, &[1]).refused("unknown version");
    changed(12, &[3]).refused("unknown version");
    changed(47, &[1]).refused("unknown feature");
    changed(32, &[1]).examine().unwrap();
    changed(74, &[1]).refused("reserved bytes are not zero");
    changed(4000, &[1]).refused("reserved bytes are not zero");
    let numbers: [(usize, u64, &str); 14] = [
        (64, forge.superblock.sequence + 1, "the epoch is none of a sequence so far"),
        (80, 128 << 10, "the device is too short"),
        (80, (1 << 20) + 1, "the device is too short"),
        (104, 16 << 10, "the segment size cannot be"),
        (104, 2 << 30, "the segment size cannot be"),
        (112, 16 << 10, "the ring's size cannot be"),
        (112, (32 << 10) + 512, "the ring is not made of blocks"),
        (112, 1 << 20, "there is no room for pages"),
        (112, 1 << 30, "too many to check"),
        (128, 100, "the tail is not at a granule"),
        (128, 1 << 63, "the tail is past all positions"),
        (136, forge.superblock.next_lsn, "the tail's LSN was never used"),
        (152, forge.superblock.root.checkpoint() - 1, "the root is of a later checkpoint"),
        (72, 3 + 256, "the state is unknown"),
    ];
    for (field, value, words) in numbers {
        changed(field, &value.to_le_bytes()).refused(words);
    }
    let small: [(usize, u32, &str); 6] = [
        (73, 5, "the medium is unknown"),
        (88, 256, "the sector size cannot be"),
        (100, 256, "the granule cannot be"),
        (100, 8192, "the block is not the largest"),
        (96, 2048, "the page size cannot be"),
        (96, 12288, "the page size cannot be"),
    ];
    for (field, value, words) in small {
        let bytes = value.to_le_bytes();
        changed(field, if field == 73 { &bytes[..1] } else { &bytes }).refused(words);
    }
    let other = 2 * 4096 - forge.superblock.at;
    let mut twice = forge.clone();
    twice.change_copy(other, 56, &forge.superblock.sequence.to_le_bytes());
    twice.refused("both copies have one sequence");
}

#[test]
fn trees_that_cannot_be() {
    let forge = closed();
    for at in [forge.root_at() + 9, forge.leaf_at(0) + 4000, forge.leaf_at(1)] {
        let mut forge = forge.clone();
        forge.flip(at);
        let offset = at / 4096 * 4096;
        assert_eq!(forge.examine(), Err(Flaw::Damaged { what: "metadata block", offset }));
    }
    let changed = |at: usize, value: u32| {
        let mut forge = forge.clone();
        forge.change_root(at, &value.to_le_bytes());
        forge
    };
    changed(4, 5).refused("it names a child that was never written");
    changed(12, 1 << 31 | 1 << 29).refused("the child is newer than its parent");
    changed(4088, 1).refused("it has no child");
}

#[test]
fn state_and_records_that_cannot_be() {
    let forge = closed();
    let state = |at: usize, value: u32| {
        let mut forge = forge.clone();
        forge.change_leaf(0, at, &value.to_le_bytes());
        forge
    };
    let first = first_segment(&forge);
    let number = |segment: usize| u32::try_from(segment).unwrap();
    for outside in [1, number(first), 17] {
        state(0, outside).refused("the frontier is outside of the segments with pages");
    }
    state(4, 1).refused("leaf 0: reserved bytes are not zero");
    state(84, 1).refused("leaf 0: reserved bytes are not zero");
    state(0, number(first) + 1).refused("it was never used, but something is written about it");
    let record = |segment: usize, at: usize, bytes: &[u8]| {
        let mut forge = forge.clone();
        forge.change_record(segment, at, bytes);
        forge
    };
    record(16, 0, &[1]).refused("there is a record behind the last segment");
    record(0, 1, &[1]).refused("it was never used, but something is written about it");
    record(15, 4, &[1]).refused("it was never used, but something is written about it");
    record(first, 0, &[5]).refused("its role is unknown");
    record(first, 0, &[0]).refused("it has no role, but its record says more than a generation");
    record(first, 0, &[3]).refused("it has a class, but its role has none");
    record(first, 2, &[1]).refused("the state of its record is not zero");
    record(first, 3, &[1]).refused("the state of its record is not zero");
    record(first, 4, &[0]).refused("it has a role, but no generation");
    record(first, 4, &[1]).refused("its generation is above that of its segment");
    record(first, 4, &[99]).examine().unwrap();
    record(first, 8, &[7]).refused("its record has another count of used pages");
    record(first, 12, &[7]).refused("its record has another count of extents");
    record(first, 16, &[7]).refused("its record has another sum of slack");
    record(first, 20, &[7]).refused("its record has another sum of items");
    record(first, 24, &[7]).refused("its record has another capacity");
    record(first, 28, &[7]).refused("its record has other open classes");
    // Segments that were passed over.
    let frontier = u32_at(&forge.bytes, index(forge.leaf_at(0)));
    let passed = state(0, frontier + 1);
    assert_eq!(passed.examine().unwrap().extents, forge.examine().unwrap().extents);
    let changed = |at: usize, bytes: &[u8]| {
        let mut forge = passed.clone();
        forge.change_record(frontier as usize, at, bytes);
        forge
    };
    changed(4, &[9]).examine().unwrap();
    changed(8, &[9]).refused("it has no role, but its record says more than a generation");
    changed(0, &[2, 5, 0, 0, 1]).refused("it has a role, but nothing in it is in use");
    changed(0, &[2]).refused("it has a role, but no generation");
    let mut fresh = Forge::of(&Bench::new(SHAPE).disk);
    fresh.change_leaf(0, 0, &16u32.to_le_bytes());
    fresh.refused("the frontier has passed segments of which none was ever used");
    fresh.change_record(first, 4, &[1]);
    fresh.examine().unwrap();
}

fn first_segment(forge: &Forge) -> usize {
    forge.place(forge.layout.usable.start).0
}

/// Whether the segment that starts at this page was used once, but is not any more.
fn is_empty(forge: &Forge, page: u64) -> bool {
    let at = index(forge.leaf_at(1)) + forge.place(page).0 * 32;
    forge.bytes[at] == 0 && u32_at(&forge.bytes, at + 4) > 0
}

/// A header's shape, without slack.
pub(super) fn shape_of(kind: u32, pages: u32) -> [u8; 4] {
    (kind | pages << 4).to_le_bytes()
}

fn with_generation([a, b, c, d]: [u8; 4]) -> [u8; 8] {
    [1, 0, 0, 0, a, b, c, d]
}

#[test]
fn headers_and_bitmaps_that_cannot_be() {
    let forge = closed();
    let extents = forge.examine().unwrap().extents;
    let pages = |pages: u64| {
        let extent = extents.iter().find(|extent| extent.len == pages * 4096).unwrap();
        extent.offset / 4096
    };
    let header = |page: u64, at: usize, bytes: &[u8]| {
        let mut forge = forge.clone();
        forge.change_header(page, at, bytes);
        forge
    };
    let (four, eight) = (pages(4), pages(8));
    // A segment that was full once.
    let free = (0..256).step_by(16).find(|&page| is_empty(&forge, page)).unwrap();
    header(four, 8, &[0; 4]).refused("something starts here that has no generation");
    header(four, 12, &[0x46]).refused("its header is of no known kind");
    header(four, 12, &[0x43]).refused("its header is of a kind that its segment's role has not");
    header(four, 12, &[0x44]).refused("its header is of a kind that its segment's role has not");
    header(four, 12, &[0x45]).refused("it is the tail of no span that knows of it");
    header(four, 12, &[0x40]).refused("nothing starts here, but the header has an owner or a shape");
    header(four, 12, &[0; 4]).refused("nothing starts here, but the header has an owner or a shape");
    header(four + 1, 12, &[0x10]).refused("nothing starts here, but the header has an owner or a shape");
    header(four, 15, &[0x80]).refused("its record has another sum of slack");
    let sixteen = pages(16);
    header(sixteen, 12, &shape_of(2, 0)).refused("its header has a length that cannot be");
    header(sixteen, 12, &shape_of(2, 17)).refused("its header has a length that cannot be");
    for length in [0, 3, 32] {
        let words =
            if length == 32 { "its header has a length" } else { "a buddy is of a length or at a place" };
        header(sixteen, 12, &shape_of(1, length)).refused(words);
    }
    header(sixteen + 1, 8, &with_generation(shape_of(1, 2))).refused("a buddy is of a length or at a place");
    header(eight + 4, 8, &with_generation(shape_of(2, 4))).refused("it lies in what starts before it");
    header(four, 12, &shape_of(2, 2)).refused("pages are in use that belong to nothing");
    header(four, 8, &[9]).refused("its generation is above that of its segment");
    header(free, 8, &[9]).refused("its generation is above that of its segment");
    header(free, 8, &[1]).examine().unwrap();
    header(free, 8, &with_generation(shape_of(2, 1))).refused("its segment has no role");
    let before = forge.layout.usable.start - 1;
    assert_eq!(
        forge.place(before).0,
        first_segment(&forge),
        "the first segment has pages that cannot be used"
    );
    header(before, 8, &[1]).refused("it cannot be used, but has a header");
    header(0, 8, &[1]).refused("it was never used, but something is written about it");

    let bit = |page: u64| {
        let mut forge = forge.clone();
        forge.flip_bit(page);
        forge
    };
    bit(four).refused("what starts here has pages that are not in use");
    bit(eight + 7).refused("what starts here has pages that are not in use");
    bit(free + 3).refused("it has no role, but pages in use");
    bit(before).refused("pages that cannot be used are in use");
    bit(forge.layout.usable.end - 1).refused("it was never used, but something is written about it");
    // A page behind the last one of a segment.
    let mut behind = forge.clone();
    behind.change_leaf(forge.layout.headers(forge.place(four).0).start / 4096, 16 * 16 + 8, &[1]);
    behind.refused("there is a header behind its last page");
    behind = forge.clone();
    let leaf = forge.layout.bitmap(forge.place(four).0).start / 4096;
    behind.change_leaf(leaf, 2, &[1]);
    behind.refused("pages that cannot be used are in use");
    behind = forge.clone();
    behind.change_leaf(leaf, 4095, &[1]);
    behind.refused("pages that cannot be used are in use");
}

#[test]
fn equal_stores_have_equal_hashes() {
    let mut bench = Bench::new(SHAPE);
    bench.open();
    bench.allocate(&[1, 2]);
    let before = bench.picture();
    super::run(bench.store().close());
    bench.open();
    let after = bench.picture();
    assert!(before.epoch != after.epoch && before.sequence != after.sequence);
    assert_eq!(before.logical, after.logical);
    bench.allocate(&[1]);
    assert_ne!(bench.picture().logical, after.logical);
    // Both halves depend on the place of a word.
    let (here, there) = (hash_words(0, &[7; 64]), hash_words(0, &[[0; 64], [7; 64]].concat()));
    assert!(here >> 64 != there >> 64 && here << 64 != there << 64);
    assert_eq!(hash_words(8, &[7; 64]), there);
    // What is no whole chunk counts too.
    assert_eq!(hash_words(0, &[7; 80]), here.wrapping_add(hash_words(8, &[7; 16])));
    assert_ne!(hash_words(0, &[7; 80]), hash_words(0, &[7; 72]));
    let mut forge = closed();
    let logical = forge.examine().unwrap().logical;
    let owned = forge.examine().unwrap().extents[0].offset / 4096;
    forge.change_header(owned, 0, &99u64.to_le_bytes());
    assert_ne!(forge.examine().unwrap().logical, logical);
}
