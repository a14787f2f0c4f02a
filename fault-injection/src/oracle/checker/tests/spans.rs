//! Spans and their tails, changed below their checksums.

use super::super::PictureExtent;
use super::super::bytes::{index, u32_at};
use super::Bench;
use super::forge::Forge;
use super::rejections::shape_of;
use super::roles::Closed;

#[test]
fn spans_that_cannot_be() {
    let closed = Closed::new();
    let (page, segment) = (closed.page(8), closed.segment(8));
    let record = |at: usize, bytes: &[u8]| closed.record(segment, at, bytes);
    for wrong in [0, 64, u32::MAX] {
        record(24, &wrong.to_le_bytes())
            .refused("its span has no whole segment, or reaches past the frontier");
    }
    record(24, &[1]).refused("the tail of a span should lie in it, but its role has none");
    record(24, &[3]).refused("it lies in a span, but has a role of its own");
    record(1, &[1]).refused("it has a class, but its role has none");
    record(8, &[15]).refused("its record has another count of used pages");
    record(12, &[2]).refused("its record has another count of extents");
    record(16, &[1]).refused("its record has another sum of slack");
    record(20, &[1]).refused("its record has another sum of items");
    record(28, &[1]).refused("its record has other open classes");
    closed
        .with(|forge| forge.flip_bit(page))
        .refused("it is the first of a span, but has bits in its bitmap");

    let header = |at: usize, bytes: &[u8]| closed.header(page, at, bytes);
    header(0, &[0; 16]).refused("it is the first of a span, but has no header of one");
    header(12, &shape_of(2, 5)).refused("its segment has room for the header of a span only");
    closed
        .header(page + 1, 8, &[1, 0, 0, 0, 4])
        .refused("its segment has room for the header of a span only");
    for pages in [0, 4, 6] {
        header(12, &shape_of(4, pages)).refused("its record has another sum of slack");
        // With the slack of before: 9 bytes are one unit.
        let with_slack = (1 << 23 | pages << 4 | 4u32).to_le_bytes();
        header(12, &with_slack).refused("it is the tail of no span that knows of it");
    }
    header(12, &shape_of(4, 16)).refused("the tail of its span is a whole segment");
    header(8, &[0]).refused("something starts here that has no generation");

    // The second segment, of which the span has all.
    closed.record(segment + 1, 0, &[2, 5, 0, 0, 1]).refused("it lies in a span, but has a role of its own");
    closed.record(segment + 1, 8, &[1]).refused("it has no role, but its record says more than a generation");
    closed.with(|forge| forge.flip_bit(page + 20)).refused("it has no role, but pages in use");
    closed.header(page + 20, 8, &[1]).refused("its generation is above that of its segment");
    let mut used = closed.record(segment + 1, 4, &[1]);
    used.change_header(page + 20, 8, &[1]);
    used.examine().unwrap();
    used.change_header(page + 20, 12, &shape_of(2, 1));
    used.refused("its segment has no role");
}

#[test]
fn tails_that_cannot_be() {
    let closed = Closed::new();
    let tail = closed.page(8) + 32;
    let segment = closed.segment(8);
    assert_eq!(closed.forge.place(tail), (segment + 2, 0));
    let header = |at: usize, bytes: &[u8]| closed.header(tail, at, bytes);
    let unknown = "it is the tail of no span that knows of it";
    header(0, &[u8::try_from(segment).unwrap() - 1]).refused(unknown);
    header(12, &shape_of(5, 4)).refused(unknown);
    header(12, &shape_of(5, 6)).refused(unknown);
    header(15, &[1]).refused("its header has slack, but is of a kind that has none");
    let mut moved = header(0, &[0; 16]);
    moved.change_header(tail + 1, 0, &(segment as u64).to_le_bytes());
    moved.change_header(tail + 1, 8, &[1, 0, 0, 0, 0x55]);
    moved.refused(unknown);
    let mut later = closed.record(segment + 2, 4, &[99]);
    later.change_header(tail, 8, &[99]);
    later.refused(unknown);
    header(12, &shape_of(2, 5)).refused("the tail of a span should lie in it, but does not");
    header(0, &[0; 16]).refused("the tail of a span should lie in it, but does not");
    closed.with(|forge| forge.flip_bit(tail)).refused("what starts here has pages that are not in use");
    closed.record(segment + 2, 8, &[4]).refused("its record has another count of used pages");
    // A tail is none of the extents of its segment.
    let extents = u32_at(&closed.forge.bytes, index(closed.forge.leaf_at(1)) + (segment + 2) * 32 + 12);
    closed
        .record(segment + 2, 12, &(extents + 1).to_le_bytes())
        .refused("its record has another count of extents");
    // Where no span ends, and a second time where one does.
    closed.header(closed.page(5), 12, &shape_of(5, 3)).refused(unknown);
    let again = closed.header(tail + 10, 8, &[1, 0, 0, 0, 0x15]);
    again.refused(unknown);
}

#[test]
fn spans_end_where_the_usable_pages_do() {
    // One page behind the last whole segment.
    let shape = ((256 << 10) + 4608, 512, 512, 4096, 64 << 10);
    let mut forge = Forge::of(&Bench::new(shape).disk);
    assert!(forge.layout.usable_of(3) == (0..16) && forge.layout.usable_of(4) == (0..1));
    let mut record = [0; 32];
    for (at, value) in [(0, 4), (4, 1), (8, 16), (12, 1), (24, 1)] {
        record[at] = value;
    }
    forge.change_leaf(0, 0, &[5]);
    forge.change_record(3, 0, &record);
    forge.change_header(48, 8, &[1, 0, 0, 0, 4]);
    let span = PictureExtent { offset: 192 << 10, len: 64 << 10, generation: 1, owner: 0 };
    let picture = forge.examine().unwrap();
    assert_eq!((picture.extents, picture.used_bytes), (vec![span], span.len));
    let mut short = forge.clone();
    short.change_record(3, 24, &[2]);
    short.refused("its span has pages that cannot be used");
    // A tail of a page, for which there is no segment.
    forge.change_leaf(0, 0, &[4]);
    forge.examine().unwrap();
    forge.change_header(48, 12, &shape_of(4, 1));
    forge.refused("its span has no whole segment, or reaches past the frontier");
}
