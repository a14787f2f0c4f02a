//! Bytes of chance under good checksums: any answer will do, as long as there is one.

use super::forge::{Forge, Forged};
use super::{Bench, SHAPES};
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

fn damage(forge: &mut Forge, rng: &mut Rng, last_lsn: u64, end: u64) {
    let mut some = [0; 8];
    rng.bytes(&mut some);
    let some = some.get(..1 + rng.index(8)).unwrap();
    match rng.below(6) {
        0 | 1 => {
            let field = *rng.pick(&[64, 72, 80, 88, 92, 96, 100, 104, 112, 128, 136, 144, 152, 164]).unwrap();
            let number = any_number(rng).to_le_bytes();
            let wide = if rng.chance(0.5) { &number[..4] } else { &number };
            forge.change_superblock(field, wide);
        }
        2 => forge.change_root(rng.index(100), some),
        3 => forge.change_leaf(0, rng.index(88), some),
        4 => {
            let leaf = rng.index(usize::try_from(forge.layout.levels[1].count).unwrap());
            forge.change_leaf(leaf, rng.index(300), some);
        }
        _ => {
            let group = any_group(rng, last_lsn);
            forge.write_group(end, &group);
        }
    }
}

#[test]
fn every_image_has_an_answer() {
    let mut answers = std::collections::BTreeSet::new();
    for shape in [SHAPES[0], SHAPES[1]] {
        let mut bench = Bench::new(shape);
        bench.open();
        bench.allocate(&[1]);
        bench.allocate(&[2]);
        let forge = Forge::of(&bench.disk);
        let picture = forge.examine().unwrap();
        let last = picture.groups.last().unwrap();
        let end = last.position + last.length.next_multiple_of(picture.shape.granule_bytes);
        let mut rng = Rng::new(7);
        for _ in 0..1500 {
            let mut forge = forge.clone();
            damage(&mut forge, &mut rng, picture.last_lsn, end);
            answers.insert(forge.examine().map_or_else(|flaw| flaw.to_string(), |_| "a store".to_owned()));
        }
    }
    assert!(answers.len() > 60, "{answers:#?}");
}
