//! Groups: round trips, damage, images, and bytes that nobody wrote.

use super::*;
use quickcheck::quickcheck;

const STORE: StoreId = [3; 16];

fn sample() -> (GroupHeader, Vec<u8>) {
    let mut block = vec![0_u8; 4096];
    block[100..110].copy_from_slice(b"0123456789");
    block[200..300].fill(0xff);
    let mut encoder = PayloadEncoder::default();
    encoder.push(UpdateKind::Metadata, 5, &block, &[(100, 110), (200, 300)], 0xaaaa);
    encoder.push(UpdateKind::Metadata, 700, &block, &[(0, 1)], 0xbbbb);
    encoder.push(UpdateKind::CallerImage, 64, &block, &[], 0xcccc);
    let (mut bytes, length, updates) = encoder.finish(512);
    let header = GroupHeader {
        length,
        transactions: 2,
        epoch: 4,
        position: 1024,
        first_lsn: 10,
        durable_lsn: 9,
        updates,
    };
    header.seal(&STORE, &mut bytes);
    (header, bytes)
}

#[test]
fn round_trip() {
    let (header, bytes) = sample();
    assert_eq!(bytes.len() as u64, header.padded_bytes(512));
    let peeked = GroupHeader::peek(&bytes, 1024, 65536).unwrap();
    assert_eq!(peeked, header);
    assert!(peeked.verify(&STORE, &bytes));
    let payload = &bytes[GROUP_HEADER_BYTES..header.length as usize];
    let updates = decode_payload(payload, header.updates, 4096).unwrap().blocks;
    assert_eq!(updates.len(), 3);
    assert_eq!((updates[1].address, updates[1].checksum_after), (700, 0xbbbb));
    let mut image = vec![0; 4096];
    for patch in &updates[2].patches {
        assert!(patch.apply(&mut image));
    }
    assert_eq!(&image[100..110], b"0123456789");
    assert_eq!(&image[200..300], &[0xff; 100]);
    assert!(payload.len() < 80, "fills and deltas keep it small: {}", payload.len());
}

#[test]
fn another_place_epoch_or_store_does_not_match() {
    let (header, bytes) = sample();
    assert!(GroupHeader::peek(&bytes, 2048, 65536).is_none());
    assert!(!header.verify(&[4; 16], &bytes));
}

#[test]
fn a_header_that_was_read_otherwise_does_not_match() {
    let (header, bytes) = sample();
    let others = [
        GroupHeader { transactions: 3, ..header },
        GroupHeader { first_lsn: 11, ..header },
        GroupHeader { durable_lsn: 8, ..header },
        GroupHeader { updates: 2, ..header },
        GroupHeader { epoch: 5, ..header },
    ];
    for other in others {
        assert!(!other.verify(&STORE, &bytes), "{other:?}");
    }
}

#[test]
fn every_flip_is_noticed() {
    let (_, bytes) = sample();
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x40;
        let accepted = GroupHeader::peek(&bad, 1024, 65536).is_some_and(|header| {
            header.padded_bytes(512) == bad.len() as u64 && header.verify(&STORE, &bad)
        });
        assert!(!accepted, "byte {at}");
    }
}

quickcheck! {
    fn images_round_trip(words: Vec<(u16, u8)>) -> bool {
        let mut block = vec![0_u8; 4096];
        for (at, byte) in words {
            block[at as usize % 4096] = byte;
        }
        let mut encoder = PayloadEncoder::default();
        encoder.push(UpdateKind::CallerImage, 1, &block, &[], 0);
        let bound = GROUP_HEADER_BYTES + PayloadEncoder::update_bound(1, 4096);
        let fits = encoder.len() <= bound;
        let (bytes, length, updates) = encoder.finish(512);
        let decoded = decode_payload(&bytes[GROUP_HEADER_BYTES..length as usize], updates, 4096).unwrap();
        let mut image = vec![0; 4096];
        fits && decoded.blocks[0].patches.iter().all(|patch| patch.apply(&mut image)) && image == block
    }

    /// Long runs in changed bytes, anywhere: what is decoded is what was there, and it takes no more than the bytes do.
    fn deltas_round_trip(runs: Vec<(u8, u8)>, start: u8) -> bool {
        let changed: Vec<u8> = runs.iter().flat_map(|&(byte, len)| vec![byte % 3; usize::from(len % 24)]).collect();
        let changed = &changed[..changed.len().min(3000)];
        let (start, end) = (usize::from(start), usize::from(start) + changed.len());
        let mut block = vec![0x55; 4096];
        block[start..end].copy_from_slice(changed);
        let mut encoder = PayloadEncoder::default();
        let range = (u32::try_from(start).unwrap(), u32::try_from(end).unwrap());
        encoder.push(UpdateKind::Metadata, 1, &block, &[range], 0);
        let fits = encoder.len() <= GROUP_HEADER_BYTES + PayloadEncoder::update_bound(1, changed.len());
        let (bytes, length, updates) = encoder.finish(512);
        let decoded = decode_payload(&bytes[GROUP_HEADER_BYTES..length as usize], updates, 4096).unwrap();
        let mut target = vec![0x55; 4096];
        fits && decoded.blocks[0].patches.iter().all(|patch| patch.apply(&mut target)) && target == block
    }

    fn arbitrary_payloads_never_panic(payload: Vec<u8>, updates: u8) -> bool {
        let _ = decode_payload(&payload, updates.into(), 4096);
        true
    }
}

#[test]
fn patches_of_every_length_change_what_they_say_and_nothing_else() {
    let bytes: Vec<u8> = (1..=40).collect();
    for len in 0..=bytes.len() {
        for offset in 0..=24 {
            let patches =
                [Patch::Bytes { offset, bytes: &bytes[..len] }, Patch::Fill { offset, len, byte: 99 }];
            for patch in patches {
                let mut block = [200; 32];
                assert_eq!(patch.apply(&mut block), offset + len <= block.len(), "{patch:?}");
                for (at, &found) in block.iter().enumerate() {
                    let changed = offset + len <= block.len() && (offset..offset + len).contains(&at);
                    let expected = match patch {
                        Patch::Bytes { .. } if changed => bytes[at - offset],
                        Patch::Fill { .. } if changed => 99,
                        _ => 200,
                    };
                    assert_eq!(found, expected, "{patch:?} at {at}");
                }
            }
        }
    }
}

#[test]
fn a_long_run_of_bits_costs_little_wherever_it_begins() {
    let mut block = vec![0; 4096];
    block[10] = 0xfe;
    block[11..4000].fill(0xff);
    block[4000] = 0x07;
    let mut encoder = PayloadEncoder::default();
    encoder.push(UpdateKind::Metadata, 1, &block, &[(10, 4001)], 0);
    assert!(encoder.len() <= GROUP_HEADER_BYTES + 18, "{}", encoder.len());
    // A run that is too short is no reason for a patch.
    let mut short = PayloadEncoder::default();
    block[20..30].copy_from_slice(&[1, 2, 2, 2, 2, 2, 2, 3, 4, 5]);
    short.push(UpdateKind::Metadata, 1, &block, &[(20, 30)], 0);
    assert_eq!(short.len(), GROUP_HEADER_BYTES + 3 + 2 + 10 + 4);
}
