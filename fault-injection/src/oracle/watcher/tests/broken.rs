//! Traces that were edited: each is rejected by the rule that it breaks, at the place where it does.

use super::edit::*;
use super::*;

#[test]
fn acknowledged_too_early() {
    breaks("acknowledgement", |events| {
        let mark = nth(events, 2, is_acknowledgement);
        events.remove(before(events, mark, is_flush));
        mark - 1
    });
    breaks("acknowledgement", |events| {
        let mark = nth(events, 2, is_acknowledgement);
        let flush = before(events, mark, is_flush);
        events[flush] = Event::LyingFlush;
        mark
    });
}

#[test]
fn in_place_before_the_group() {
    breaks("in-place", |events| {
        let write = nth(events, 2, is(Purpose::CallerCheckpoint));
        let group = before(events, write, is(Purpose::Journal));
        shift(events, write, group + 1);
        group + 1
    });
    breaks("in-place", |events| {
        let write = nth(events, 2, is(Purpose::CallerCheckpoint));
        change_write(&mut events[write], |_, bytes| bytes[210] ^= 1);
        write
    });
    breaks("in-place", |events| {
        let write = nth(events, 2, is(Purpose::CallerCheckpoint));
        change_write(&mut events[write], |_, bytes| bytes.truncate(512));
        write
    });
}

#[test]
fn in_place_before_the_note() {
    breaks("noted", |events| {
        let write = nth(events, 2, is(Purpose::CallerCheckpoint));
        let flush = before(events, write, is_flush);
        let note = before(events, flush, is(Purpose::Witness));
        events.remove(flush);
        events.remove(note);
        // An earlier note says the same: it goes too.
        let early = before(events, note, is(Purpose::Witness));
        events.remove(early);
        write - 3
    });
}

#[test]
fn over_a_referenced_slot() {
    for purpose in [Purpose::Metadata, Purpose::ChecksumTree] {
        breaks("slot", |events| {
            let tree = nth(events, 1, is(purpose));
            let publication = nth(events, 4, is(Purpose::Superblock));
            let referenced = before(events, publication, is(purpose));
            let Event::Write { offset: old, .. } = events[referenced] else { panic!() };
            let next = behind(events, tree.max(publication), is(purpose));
            change_write(&mut events[next], |offset, _| *offset = old + 512);
            next
        });
    }
}

#[test]
fn a_superblock_before_the_checkpoint() {
    for purpose in [Purpose::CallerCheckpoint, Purpose::Metadata] {
        breaks("unflushed-checkpoint", |events| {
            let write = nth(events, 2, is(purpose));
            let superblock = behind(events, write, is(Purpose::Superblock));
            let flush = before(events, superblock, is_flush);
            let write = before(events, flush, is(purpose));
            events.remove(flush);
            shift(events, write, superblock - 2);
            superblock - 1
        });
    }
}

#[test]
fn both_copies_at_once() {
    breaks("one-copy", |events| {
        let second = nth(events, 5, is(Purpose::Superblock));
        events.remove(before(events, second, is_flush));
        second - 1
    });
}

#[test]
fn copies_in_the_wrong_order() {
    breaks("sequence", |events| {
        let first = nth(events, 4, is(Purpose::Superblock));
        let second = nth(events, 5, is(Purpose::Superblock));
        events.swap(first, second);
        second
    });
}

#[test]
fn a_tail_beyond_the_groups() {
    breaks("tail", |events| {
        let write = nth(events, 4, is(Purpose::Superblock));
        change_superblock(&mut events[write], |superblock| superblock.tail_position += 512);
        write
    });
    breaks("tail", |events| {
        let write = nth(events, 4, is(Purpose::Superblock));
        change_superblock(&mut events[write], |superblock| {
            superblock.next_lsn += 1;
            superblock.tail_lsn += 1;
        });
        write
    });
    // The group that was taken along is not flushed.
    breaks("tail", |events| {
        let opened = nth(events, 1, |event| *event == Event::Opened);
        let group = before(events, opened, is(Purpose::Journal));
        let superblock = behind(events, group, is(Purpose::Superblock));
        events.remove(behind(events, group, is_flush));
        superblock - 1
    });
}

#[test]
fn a_checkpoint_that_loses_something() {
    for (purpose, number) in
        [(Purpose::Metadata, 3), (Purpose::ChecksumTree, 1), (Purpose::CallerCheckpoint, 2)]
    {
        breaks("content", |events| {
            let write = nth(events, number, is(purpose));
            events.remove(write);
            behind(events, write, is(Purpose::Superblock))
        });
    }
}

#[test]
fn a_checkpoint_without_one_of_its_leaves() {
    let (_, events) = worked();
    let leaves = events.iter().filter(|event| is(Purpose::Metadata)(event)).count();
    assert!(leaves > 10);
    for number in 0..leaves {
        breaks("content", |events| {
            let write = nth(events, number, is(Purpose::Metadata));
            events.remove(write);
            behind(events, write - 1, is(Purpose::Superblock))
        });
    }
}

#[test]
fn a_group_that_says_what_its_headers_are_not() {
    for number in 0..2 {
        breaks("content", |events| {
            let group = nth(events, number, is(Purpose::Journal));
            change_digest(&mut events[group]);
            // Where the tail moves up to a group, or past it.
            behind(events, group, is(Purpose::Superblock))
        });
    }
}

#[test]
fn over_a_live_group() {
    // The new copy no longer needs the group, the old one does.
    breaks("ring", |events| {
        let first = nth(events, 4, is(Purpose::Superblock));
        let group = events[nth(events, 0, is(Purpose::Journal))].clone();
        let flush = behind(events, first, is_flush);
        events.insert(flush + 1, group);
        flush + 1
    });
    breaks("ring", |events| {
        let group = nth(events, 1, is(Purpose::Journal));
        change_write(&mut events[group], |offset, _| *offset -= 512);
        group
    });
}

#[test]
fn two_groups_in_flight() {
    breaks("one-group", |events| {
        events.retain(|event| !is_acknowledgement(event));
        let second = nth(events, 3, is(Purpose::Journal));
        let first = before(events, second, is(Purpose::Journal));
        events.remove(behind(events, first, is_flush));
        second - 1
    });
}

#[test]
fn a_group_that_is_none() {
    breaks("group", |events| {
        let group = nth(events, 1, is(Purpose::Journal));
        change_write(&mut events[group], |_, bytes| bytes[100] ^= 1);
        group
    });
    breaks("group", |events| {
        let group = nth(events, 1, is(Purpose::Journal));
        change_write(&mut events[group], |offset, _| *offset += 512);
        group
    });
    breaks("group", |events| {
        let group = nth(events, 1, is(Purpose::Journal));
        change_group(&mut events[group], |header| header.epoch += 2);
        group
    });
}

#[test]
fn a_number_used_twice() {
    breaks("lsn", |events| {
        let group = nth(events, 2, is(Purpose::Journal));
        change_group(&mut events[group], |header| {
            header.first_lsn -= 1;
            header.durable_lsn = 0;
        });
        group
    });
    // A dropped tail may have used it.
    breaks("lsn", |events| {
        let group = behind(events, nth(events, 1, |event| *event == Event::Opened), is(Purpose::Journal));
        change_group(&mut events[group], |header| header.first_lsn -= 1);
        group
    });
    breaks("lsn", |events| {
        let opened = nth(events, 1, |event| *event == Event::Opened);
        let group = before(events, opened, is(Purpose::Journal));
        change_group(&mut events[group], |header| header.first_lsn += 1);
        group
    });
}

#[test]
fn a_mark_that_says_too_much() {
    // LSNs jump where the store was opened, so that there is room for a lie.
    breaks("durable-mark", |events| {
        let group = behind(events, nth(events, 1, |event| *event == Event::Opened), is(Purpose::Journal));
        change_group(&mut events[group], |header| header.durable_lsn = header.first_lsn - 1);
        group
    });
}

#[test]
fn a_dropped_group_that_may_be_completed() {
    let mut bench = Bench::new();
    bench.format().unwrap();
    bench.open().unwrap();
    bench.put(None, 10).unwrap();
    bench.put(None, 20).unwrap();
    let events = bench.disk.trace().events().to_vec();
    let last = events.iter().rev().find(|event| is(Purpose::Journal)(event));
    let Some(Event::Write { offset, data, .. }) = last else { panic!("{last:?}") };
    assert!(data.len() > 512);
    let mut image = bench.disk.image().to_vec();
    image[usize::try_from(*offset).unwrap() + 512] ^= 1;
    bench.disk = Arc::new(SimDisk::new(Arc::new(CowBase::new(image.into(), 512)), 512, 512));
    bench.open().unwrap();
    let mut events = bench.disk.trace().events().to_vec();
    assert_eq!(bench.watch(&trace_of(&events)).unwrap().restated, 1);

    let voiding = nth(&events, 0, is(Purpose::Journal));
    events.remove(voiding);
    let broken = bench.watch(&trace_of(&events)).unwrap_err();
    let group = nth(&events, 0, is(Purpose::Journal));
    assert_eq!((broken.rule, broken.event), ("torn-tail", group), "{broken}");
}

#[test]
fn space_handed_out_too_early() {
    breaks("claim", |events| {
        let claim = nth(events, 4, |event| matches!(event, Event::Claim { .. }));
        let flush = before(events, claim, is_flush);
        shift(events, claim, flush);
        flush
    });
    breaks("claim", |events| {
        events.push(Event::Claim { offset: 0, len: 1 });
        events.len() - 1
    });
    breaks("claim", |events| {
        let claim = nth(events, 0, |event| matches!(event, Event::Claim { .. }));
        let Event::Claim { offset, len } = events[claim] else { panic!() };
        let group = nth(events, 0, is(Purpose::Journal));
        events.insert(group + 2, Event::Discard { offset, len, salt: 0 });
        group + 2
    });
}

#[test]
fn a_direct_write_under_the_journal() {
    for late in [1, 2] {
        // While the group is in flight, then when it is durable.
        breaks("direct", |events| {
            let write = nth(events, 5, is(Purpose::CallerDirect));
            let tail = before(events, write, is(Purpose::Superblock));
            let group = before(events, tail, is(Purpose::Journal));
            shift(events, write, group + late);
            group + late
        });
    }
    // Not even while only the older copy needs the group.
    breaks("direct", |events| {
        let write = nth(events, 5, is(Purpose::CallerDirect));
        let tail = before(events, write, is(Purpose::Superblock));
        shift(events, write, tail);
        tail
    });
}

#[test]
fn a_group_before_its_data() {
    breaks("data", |events| {
        let group = nth(events, 1, is(Purpose::Journal));
        events.remove(before(events, group, is_flush));
        group - 1
    });
    // Behind a free, in the space that it freed.
    breaks("data", |events| {
        let write = nth(events, 4, is(Purpose::CallerDirect));
        events.remove(behind(events, write, is_flush));
        behind(events, write, is(Purpose::Journal))
    });
}

#[test]
fn no_silence_after_a_failure() {
    breaks("poison", |events| {
        let flush = nth(events, 20, is_flush);
        events[flush] = Event::FailedFlush;
        events.retain(|event| !is_acknowledgement(event));
        let flush = nth(events, 0, |event| *event == Event::FailedFlush);
        behind(events, flush, |event| !event.is_annotation())
    });
    breaks("poison", |events| {
        let write = nth(events, 2, is(Purpose::Metadata));
        let failed = Event::FailedWrite { offset: 0, len: 1, purpose: Purpose::Metadata };
        events.insert(write, failed);
        write + 1
    });
    // What comes before the opening is said to begin is not recovery's.
    breaks("poison", |events| {
        let label = nth(events, 1, |event| matches!(event, Event::Opening));
        events[label] = Event::FailedFlush;
        behind(events, label, |event| !event.is_annotation())
    });
}

#[test]
fn a_failed_direct_write_stops_nothing() {
    let (bench, mut events) = worked();
    let write = nth(&events, 2, is(Purpose::CallerDirect));
    let failed = Event::FailedWrite { offset: 0, len: 1, purpose: Purpose::CallerDirect };
    events.insert(write, failed);
    assert!(bench.watch(&trace_of(&events)).is_ok());
}

#[test]
fn a_witness_ahead_of_the_journal() {
    breaks("witness", |events| {
        // The one of maintenance stands alone behind its group.
        let group = nth(events, 3, is(Purpose::Journal));
        let note = behind(events, group, is(Purpose::Witness));
        shift(events, note, group);
        group
    });
}

#[test]
fn an_opening_without_an_epoch() {
    breaks("epoch", |events| {
        events.push(Event::Opened);
        events.len() - 1
    });
    breaks("epoch", |events| {
        let opened = nth(events, 1, |event| *event == Event::Opened);
        let copy = before(events, opened, is(Purpose::Superblock));
        events.remove(copy);
        opened - 1
    });
}

#[test]
fn a_write_out_of_place() {
    for purpose in [
        Purpose::Journal,
        Purpose::Superblock,
        Purpose::Witness,
        Purpose::Metadata,
        Purpose::CallerCheckpoint,
        Purpose::CallerDirect,
    ] {
        breaks("place", |events| {
            let write = nth(events, 3, is(purpose));
            let elsewhere = if purpose == Purpose::Journal { 0 } else { 40 << 10 };
            change_write(&mut events[write], |offset, _| *offset = elsewhere + 64);
            write
        });
    }
}
