//! Journals: torn, rotten, and forged.

use super::super::bytes::{content_checksum, index, read};
use super::super::{Flaw, Picture, PictureTear};
use super::forge::{Forge, Forged};
use super::{Bench, Shape};

const SHAPE: Shape = (1 << 20, 512, 512, 4096, 64 << 10);

/// A crashed store with four groups in its journal.
fn crashed() -> (Forge, Picture) {
    let mut bench = Bench::new(SHAPE);
    bench.open();
    for pages in [[1, 2], [4, 1], [1, 1], [2, 8]] {
        bench.allocate(&pages);
    }
    let forge = Forge::of(&bench.disk);
    let picture = forge.examine().unwrap();
    assert!(!picture.closed && picture.groups.len() == 4);
    assert_eq!(picture.durable_lsn, picture.groups[2].last_lsn);
    (forge, picture)
}

fn end(picture: &Picture) -> u64 {
    let last = picture.groups.last().unwrap();
    last.position + last.length.next_multiple_of(512)
}

/// A group without updates that fits behind the last one.
fn next(picture: &Picture) -> Forged {
    Forged {
        transactions: 1,
        first_lsn: picture.last_lsn + 1,
        durable_lsn: picture.last_lsn,
        updates: 0,
        reserved: 0,
        padding: 0,
        payload: Vec::new(),
    }
}

#[test]
fn a_damaged_last_group_is_torn_and_others_are_rotten() {
    let (forge, whole) = crashed();
    let last = whole.groups[3];
    for at in [0, 5, 9, 20, 30, 35, 41, 100, 400] {
        for group in &whole.groups {
            let mut forge = forge.clone();
            forge.flip(group.offset + at);
            if group.position == last.position {
                let picture = forge.examine().unwrap();
                let tear = picture.torn.unwrap();
                assert_eq!((tear.position, tear.offset), (last.position, last.offset));
                assert_eq!(picture.last_lsn, whole.groups[2].last_lsn);
                assert!(picture.extents.len() < whole.extents.len());
            } else {
                assert_eq!(forge.examine(), Err(Flaw::Damaged { what: "group", offset: group.offset }));
            }
        }
    }
    // Without a trace of it, it is not missed, unless the witness knows of it.
    let mut forge = forge;
    forge.put(index(last.offset), &[0; 512]);
    assert_eq!(forge.examine().unwrap().torn, None);
    forge.note(last.last_lsn, end(&whole), 0);
    assert_eq!(forge.examine(), Err(Flaw::Damaged { what: "group", offset: last.offset }));
}

#[test]
fn witnesses() {
    let (mut forge, whole) = crashed();
    assert!(whole.durable_lsn < whole.last_lsn);
    forge.note(whole.last_lsn, end(&whole), 0);
    assert_eq!(forge.examine().unwrap().durable_lsn, whole.last_lsn);
    let mut damaged = forge.clone();
    damaged.flip(4096 + 16);
    assert_eq!(damaged.examine().unwrap().durable_lsn, whole.durable_lsn);
    let mut other = forge.clone();
    other.superblock.epoch += 1;
    other.note(whole.last_lsn + 5, 0, 0);
    assert_eq!(other.examine().unwrap().durable_lsn, whole.durable_lsn);
    forge.note(whole.last_lsn, end(&whole) + 512, 0);
    forge.refused("it does not end where the witness says");
    forge.note(whole.last_lsn, end(&whole), 1);
    forge.refused("witness 4096: reserved bytes are not zero");
}

#[test]
fn groups_that_follow_or_do_not() {
    let (forge, whole) = crashed();
    let written = |change: fn(&mut Forged)| {
        let mut forge = forge.clone();
        let mut group = next(&whole);
        change(&mut group);
        forge.write_group(end(&whole), &group);
        forge
    };
    assert_eq!(written(|_| ()).examine().unwrap().last_lsn, whole.last_lsn + 1);
    assert_eq!(written(|group| group.transactions = 3).examine().unwrap().last_lsn, whole.last_lsn + 3);
    written(|group| group.transactions = 0).refused("it has no transactions");
    written(|group| group.durable_lsn = group.first_lsn).refused("it was durable before it was written");
    written(|group| group.durable_lsn -= 1).refused("two groups were in flight at a time");
    written(|group| group.reserved = 1).refused("reserved bytes or padding are not zero");
    written(|group| group.padding = 1).refused("reserved bytes or padding are not zero");
    written(|group| {
        group.first_lsn = u64::MAX;
        group.transactions = 2;
    })
    .refused("its LSNs are past all numbers");
    // One that knows of a group between it and the others.
    let gap = written(|group| {
        group.first_lsn += 2;
        group.durable_lsn += 1;
    });
    let offset = forge.ring_at(end(&whole)) as u64;
    assert_eq!(gap.examine(), Err(Flaw::Damaged { what: "group", offset }));
    // A leftover with old LSNs is not taken.
    let old = written(|group| {
        group.first_lsn -= 1;
        group.durable_lsn -= 1;
    });
    assert_eq!(old.examine().unwrap().last_lsn, whole.last_lsn);
    // One of another epoch, or of another lap.
    let mut epoch = forge.clone();
    epoch.superblock.epoch += 1;
    epoch.write_group(end(&whole), &next(&whole));
    assert_eq!(epoch.examine().unwrap().last_lsn, whole.last_lsn);
    // Only a superblock with a later tail, or sequence, makes room for those of later laps and epochs.
    let newer = |at: usize, field: u64| {
        let mut newer = written(|_| ());
        newer.change_group(end(&whole), at, &field.to_le_bytes());
        newer
    };
    let lost = Err(Flaw::Damaged { what: "group", offset });
    assert_eq!(newer(24, end(&whole) + whole.shape.ring_bytes).examine(), lost);
    assert_eq!(newer(16, whole.sequence + 2).examine(), lost);
    assert_eq!(newer(16, whole.sequence + 1).examine().unwrap().last_lsn, whole.last_lsn);
    // Of another place, with new LSNs and with old ones.
    let mut lap = newer(24, end(&whole) + 512);
    assert!(lap.examine().unwrap().torn.is_some());
    lap.change_group(end(&whole), 32, &whole.last_lsn.to_le_bytes());
    lap.change_group(end(&whole), 40, &[0; 8]);
    let picture = lap.examine().unwrap();
    assert_eq!((picture.last_lsn, picture.torn), (whole.last_lsn, None));
    // Too short, and too long.
    let mut short = written(|_| ());
    short.change_group(end(&whole), 8, &[63]);
    assert_eq!(short.examine().unwrap().torn.unwrap().offset, offset);
    let long = written(|group| group.payload = vec![0; 16 << 10]);
    assert_eq!(long.examine().unwrap().torn.unwrap().offset, offset);
}

#[test]
fn pieces_behind_a_hole() {
    let (forge, whole) = crashed();
    let position = end(&whole);
    let piece = |first_lsn: u64, durable_lsn: u64| {
        let mut forge = forge.clone();
        forge.write_group(position + 512, &Forged { first_lsn, durable_lsn, ..next(&whole) });
        forge.examine()
    };
    let offset = forge.ring_at(position) as u64;
    let next_lsn = whole.last_lsn + 1;
    assert_eq!(piece(next_lsn, whole.last_lsn).unwrap().torn, Some(PictureTear { position, offset }));
    assert_eq!(piece(next_lsn + 1, next_lsn), Err(Flaw::Damaged { what: "group", offset }));
    assert_eq!(piece(whole.last_lsn, whole.durable_lsn).unwrap().torn, None);
}

pub(super) fn number(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

/// An update that puts `data` at `at` of a block that is then `after`.
pub(super) fn update(kind: u8, address: u64, at: u64, data: &[u8], after: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(number(address));
    bytes.push(1);
    bytes.extend(number(at));
    bytes.extend(number((data.len() as u64) << 1));
    bytes.extend(data);
    bytes.extend(content_checksum(after).to_le_bytes());
    bytes
}

#[test]
fn updates_of_the_caller() {
    let (forge, whole) = crashed();
    let free = (whole.shape.data_offset..1 << 20)
        .step_by(4096)
        .find(|offset| !whole.caller.contains_key(offset))
        .unwrap();
    let (mut image, mut in_place) = (vec![0; 4096], vec![0; 4096]);
    image[10..13].copy_from_slice(b"abc");
    let disk = forge.disk();
    read(&disk, free, &mut in_place).unwrap();
    in_place[4000] = 9;
    in_place[10..13].copy_from_slice(b"abc");
    let with = |updates: &[Vec<u8>]| {
        let mut forge = forge.clone();
        forge.put(index(free) + 4000, &[9]);
        let mut group = next(&whole);
        group.updates = updates.len().try_into().unwrap();
        group.payload = updates.concat();
        forge.write_group(end(&whole), &group);
        forge
    };
    let block = free / 4096;
    let delta = with(&[update(1, block, 10, b"abc", &in_place)]);
    assert_eq!(delta.examine().unwrap().caller[&free], in_place);
    let wrong = with(&[update(1, block, 10, b"abc", &image)]);
    assert_eq!(wrong.examine(), Err(Flaw::Damaged { what: "block of the caller", offset: free }));
    let whole_block = with(&[update(2, block, 10, b"abc", &image)]);
    assert_eq!(whole_block.examine().unwrap().caller[&free], image);
    // A known block: a delta goes on from it, an image does not.
    let (&known, content) = whole.caller.first_key_value().unwrap();
    let mut after = content.clone();
    after[10..13].copy_from_slice(b"abc");
    let delta = with(&[update(1, known / 4096, 10, b"abc", &after)]);
    assert_eq!(delta.examine().unwrap().caller[&known], after);
    let anew = with(&[update(2, known / 4096, 10, b"abc", &image)]);
    assert_eq!(anew.examine().unwrap().caller[&known], image);
    for outside in [0, whole.shape.data_offset / 4096 - 1, 256, u64::MAX] {
        with(&[update(2, outside, 10, b"abc", &image)]).refused("it changes a block outside of the pages");
    }
    with(&[update(0, 34, 10, b"abc", &image)]).refused("it changes a leaf that there is not");
    with(&[update(0, u64::MAX, 10, b"abc", &image)]).refused("it changes a leaf that there is not");
    with(&[update(0, 0, 4000, b"abc", &image)]).refused("leaf 0: it is not what the journal makes of it");
}

#[test]
fn payloads_that_cannot_be() {
    let (forge, whole) = crashed();
    let block = whole.shape.data_offset / 4096;
    let good = update(2, block, 0, &[], &[0; 4096]);
    let verdict = |updates: u32, payload: Vec<u8>| {
        let mut forge = forge.clone();
        let mut group = next(&whole);
        (group.updates, group.payload) = (updates, payload);
        forge.write_group(end(&whole), &group);
        forge.examine().map(|_| ())
    };
    let refused = |updates: u32, payload: Vec<u8>| {
        let what = "its payload is not a sequence of updates";
        let flaw = Flaw::Inconsistent { structure: "group", number: end(&whole), what };
        assert_eq!(verdict(updates, payload.clone()), Err(flaw), "{updates} {payload:?}");
    };
    assert_eq!(verdict(1, good.clone()), Ok(()));
    refused(2, good.clone());
    refused(0, good.clone());
    refused(u32::MAX, Vec::new());
    for len in 1..good.len() {
        refused(1, good[..len].to_vec());
    }
    for kind in [3, 7, 8, 2 | 8] {
        refused(1, [&[kind], &good[1..]].concat());
    }
    // Order, in kind and address.
    let address = number(block).len();
    let again = |difference: u8| [&[2, difference], &good[1 + address..]].concat();
    assert_eq!(verdict(2, [good.clone(), again(1)].concat()), Ok(()));
    refused(2, [good.clone(), again(0)].concat());
    refused(2, [good.clone(), [&[1], &good[1..]].concat()].concat());
    // Numbers in a longer form, or too large.
    refused(1, [&[0x82, 0], &good[1..]].concat());
    refused(1, [&[2][..], &[0xff; 9], &[2], &good[1 + address..]].concat());
    refused(1, [&[2][..], &[0xff; 12], &good[1 + address..]].concat());
    // Patches past the end of the block.
    refused(1, update(2, block, 4096, &[1], &[0; 4096]));
    refused(1, update(2, block, u64::MAX, &[1], &[0; 4096]));
    let fill = [vec![2], number(block), vec![1, 0], number(4096 << 1 | 1), vec![7]].concat();
    let sealed =
        |bytes: Vec<u8>, after: [u8; 4096]| [bytes, content_checksum(&after).to_le_bytes().to_vec()].concat();
    assert_eq!(verdict(1, sealed(fill, [7; 4096])), Ok(()));
    let longer = [vec![2], number(block), vec![1, 0], number(4097 << 1 | 1), vec![7]].concat();
    refused(1, sealed(longer, [7; 4096]));
}
