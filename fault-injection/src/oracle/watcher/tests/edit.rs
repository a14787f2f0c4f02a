//! Edits of traces.

use freehold::format::{GROUP_HEADER_BYTES, GroupHeader, Superblock, decode_payload};

use super::*;

pub(super) fn is(purpose: Purpose) -> impl Fn(&Event) -> bool {
    move |event| event.purpose() == Some(purpose)
}

pub(super) fn is_acknowledgement(event: &Event) -> bool {
    matches!(event, Event::Mark(mark) if mark & 1 == 1)
}

/// The place of the `nth` event (from 0) that is like this.
pub(super) fn nth(events: &[Event], nth: usize, like: impl Fn(&Event) -> bool) -> usize {
    events.iter().enumerate().filter(|(_, event)| like(event)).nth(nth).unwrap().0
}

/// The last such event before a place.
pub(super) fn before(events: &[Event], place: usize, like: impl Fn(&Event) -> bool) -> usize {
    events[..place].iter().rposition(like).unwrap()
}

/// The first such event behind a place.
pub(super) fn behind(events: &[Event], place: usize, like: impl Fn(&Event) -> bool) -> usize {
    place + 1 + events[place + 1..].iter().position(like).unwrap()
}

pub(super) fn is_flush(event: &Event) -> bool {
    *event == Event::Flush
}

pub(super) fn shift(events: &mut Vec<Event>, from: usize, to: usize) {
    let event = events.remove(from);
    events.insert(to, event);
}

pub(super) fn change_write(event: &mut Event, change: impl FnOnce(&mut u64, &mut Vec<u8>)) {
    let Event::Write { offset, data, .. } = event else { panic!("{event}") };
    let mut bytes = data.to_vec();
    change(offset, &mut bytes);
    *data = bytes.into();
}

pub(super) fn change_group(event: &mut Event, change: impl FnOnce(&mut GroupHeader)) {
    change_write(event, |_, bytes| {
        let position = u64::from_le_bytes(*bytes[24..].first_chunk().unwrap());
        let mut header = GroupHeader::peek(&bytes[..GROUP_HEADER_BYTES], position, 32 << 10).unwrap();
        change(&mut header);
        header.seal(&STORE_ID, bytes);
    });
}

/// Another digest of page headers.
pub(super) fn change_digest(event: &mut Event) {
    change_write(event, |_, bytes| {
        let position = u64::from_le_bytes(*bytes[24..].first_chunk().unwrap());
        let header = GroupHeader::peek(&bytes[..GROUP_HEADER_BYTES], position, 32 << 10).unwrap();
        let payload = &bytes[GROUP_HEADER_BYTES..usize::try_from(header.length).unwrap()];
        let digest = decode_payload(payload, header.updates, 4096).unwrap().extents.unwrap().digest;
        let at = payload.windows(8).position(|bytes| bytes == digest.to_le_bytes()).unwrap();
        bytes[GROUP_HEADER_BYTES + at] ^= 1;
        header.seal(&STORE_ID, bytes);
    });
}

pub(super) fn change_superblock(event: &mut Event, change: impl FnOnce(&mut Superblock)) {
    change_write(event, |offset, bytes| {
        let mut superblock = Superblock::decode(bytes, *offset).unwrap();
        change(&mut superblock);
        *bytes = superblock.encode(*offset);
    });
}

/// Edits the trace, and expects one rule to reject it at the event that the edit gives.
#[track_caller]
pub(super) fn breaks(rule: &str, edit: impl FnOnce(&mut Vec<Event>) -> usize) {
    assert!(RULES.contains(&rule));
    let (bench, mut events) = worked();
    let place = edit(&mut events);
    let trace = trace_of(&events);
    let broken = bench.watch(&trace).expect_err("nothing was noticed");
    assert_eq!((broken.rule, broken.event), (rule, place), "{broken}\n{trace}");
    assert!(broken.to_string().starts_with(rule), "{broken}");
}
