//! Bytes of chance under good checksums: any answer will do, as long as there is one.

use freehold::AllocRequest;

use super::forge::{Forge, Forged};
use super::{Bench, run};
use crate::rng::Rng;

/// Small, large, and next to a power of two.
fn any_number(rng: &mut Rng) -> u64 {
    let power = 1u64 << rng.below(64);
    match rng.below(4) {
        0 => rng.below(4),
        1 => power,
        2 => power.wrapping_sub(rng.below(3)),
        _ => u64::MAX - rng.below(3),
    }
}

fn any_group(rng: &mut Rng, last_lsn: u64) -> Forged {
    let mut payload = vec![0; rng.index(300)];
    rng.bytes(&mut payload);
    // Few distinct bytes: more of it can be read as updates.
    let mask = *rng.pick(&[0xff, 0x0f, 0x83, 0x03]).unwrap();
    payload.iter_mut().for_each(|byte| *byte &= mask);
    if rng.chance(0.3) {
        // Records of extents.
        payload.insert(0, 3);
    }
    let first_lsn = if rng.chance(0.8) { last_lsn + 1 } else { any_number(rng) };
    Forged {
        transactions: if rng.chance(0.8) { 1 } else { u32::MAX },
        first_lsn,
        durable_lsn: if rng.chance(0.8) { last_lsn } else { any_number(rng) },
        updates: u32::try_from(rng.below(9)).unwrap(),
        reserved: 0,
        padding: 0,
        payload,
    }
}

/// Length of the head of a region with items of 72 bytes without owners, in a page.
const HEAD: usize = 128;

/// Changes something. The head of the region at this page is changed only if there is one in place.
fn damage(forge: &mut Forge, rng: &mut Rng, last_lsn: u64, end: u64, region: Option<u64>) {
    let mut some = [0; 8];
    rng.bytes(&mut some);
    let some = some.get(..1 + rng.index(8)).unwrap();
    match rng.below(7) {
        0 | 1 => {
            let field = *rng.pick(&[64, 72, 80, 88, 92, 96, 100, 104, 112, 128, 136, 144, 152, 164]).unwrap();
            let number = any_number(rng).to_le_bytes();
            let wide = if rng.chance(0.5) { &number[..4] } else { &number };
            forge.change_superblock(field, wide);
        }
        2 => forge.change_root(rng.index(100), some),
        3 => forge.change_leaf(0, rng.index(8), some),
        4 => {
            let leaf = rng.index(usize::try_from(forge.layout.levels[1].count).unwrap());
            forge.change_leaf(leaf, rng.index(300), some);
        }
        5 if region.is_some() => forge.change_head(region.unwrap(), HEAD, rng.index(HEAD - 8), some),
        _ => {
            let group = any_group(rng, last_lsn);
            forge.write_group(end, &group);
        }
    }
}

#[test]
fn every_image_has_an_answer() {
    let mut answers = std::collections::BTreeSet::new();
    for (segment, closed) in [(32 << 10, false), (32 << 10, true), (64 << 10, true)] {
        let mut bench = Bench::new((512 << 10, 512, 512, 4096, segment));
        bench.open();
        for (bytes, owner) in [(70, 0), (70, 5), (4096, 6), (segment + 1, 7), (8192, 8)] {
            bench.allocate_all(&[(AllocRequest::bytes(bytes), owner)]);
        }
        if closed {
            run(bench.store().close());
        }
        let forge = Forge::of(&bench.disk);
        let picture = forge.examine().unwrap();
        let groups = picture.groups.iter();
        let mut ends = groups.map(|group| group.position + group.length.next_multiple_of(512));
        let end = ends.next_back().unwrap_or(picture.tail_position);
        let item = picture.extents.iter().find(|extent| extent.owner == 0).unwrap();
        let region = closed.then_some(item.offset / 4096);
        let mut rng = Rng::new(7);
        for _ in 0..1500 {
            let mut forge = forge.clone();
            damage(&mut forge, &mut rng, picture.last_lsn, end, region);
            answers.insert(forge.examine().map_or_else(|flaw| flaw.to_string(), |_| "a store".to_owned()));
        }
    }
    assert!(answers.len() > 100, "{answers:#?}");
    // The changed head has a good checksum, or all its answers would be one.
    for words in
        ["a free item has an owner or slack", "another number of items in use", "page headers are not"]
    {
        assert!(answers.iter().any(|answer| answer.contains(words)), "{answers:#?}");
    }
}
