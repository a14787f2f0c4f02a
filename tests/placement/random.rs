//! Random small input, with everything that a request may have.

use freehold::placement::{Area, Policy};
use quickcheck::{Arbitrary, Gen};

use crate::input::{Input, OwnedSource};

pub(crate) const POLICIES: [Policy; 5] =
    [Policy::Contiguous, Policy::Cling, Policy::ClingByTags, Policy::Normal, Policy::Anywhere];

/// Input in which most things that can be in each other's way are.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) Input);

/// Small numbers from the generator.
struct Dice<'g>(&'g mut Gen);

impl Dice<'_> {
    /// From 0 to `most`.
    fn roll(&mut self, most: u64) -> u64 {
        u64::arbitrary(self.0) % (most + 1)
    }

    /// True once in so many times.
    fn once_in(&mut self, times: u64) -> bool {
        self.roll(times - 1) == 0
    }

    fn sources(&mut self, names: &[char], most: u64) -> Vec<char> {
        let count = self.roll(most);
        let mut picked: Vec<char> =
            (0..count).map(|_| names[self.roll(names.len() as u64 - 1) as usize]).collect();
        picked.sort_unstable();
        picked.dedup();
        picked
    }
}

impl Arbitrary for Random {
    fn arbitrary(g: &mut Gen) -> Self {
        let mut dice = Dice(g);
        let names: Vec<char> = "ABCD".chars().take(1 + dice.roll(3) as usize).collect();
        let with_tags = dice.once_in(3);
        let mut sources: Vec<OwnedSource> = Vec::new();
        for &name in &names {
            // The first units of each are in use: there is where earlier segments are.
            let mut at = 12 + dice.roll(1) * 2;
            let mut areas = Vec::new();
            for _ in 0..dice.roll(3) {
                let end = at + 1 + dice.roll(6);
                areas.push(Area::new(at, end));
                at = end + dice.roll(2);
            }
            if dice.once_in(4) {
                areas.reverse();
            }
            let count = if with_tags { dice.roll(2) } else { 0 };
            let tags = (0..count).map(|_| ["x", "y", "z"][dice.roll(2) as usize].to_owned()).collect();
            sources.push(OwnedSource { name, tags, areas, allocatable: !dice.once_in(12) });
        }
        let stripes = 1 + dice.roll(1) as u32;
        let mirrors = if stripes == 1 && dice.once_in(3) { 2 } else { 1 };
        let parity = u32::from(dice.once_in(4));
        let legs = (stripes * mirrors + parity) as usize;
        let rows = 1 + dice.roll(7);
        let mut previous = Vec::new();
        if dice.once_in(2) {
            for at in 0..1 + dice.roll(1) {
                let legs = if dice.once_in(10) { legs + 1 } else { legs };
                // The last segment ends where areas may begin.
                let length = 6 - at * 2;
                let place =
                    |dice: &mut Dice<'_>| (names[dice.roll(names.len() as u64 - 1) as usize], 12 - length);
                let places = (0..legs).map(|_| place(&mut dice)).collect();
                previous.push((length * u64::from(stripes), places));
            }
        }
        let mut avoid = Vec::new();
        if dice.once_in(4) {
            for _ in 0..1 + dice.roll(2) {
                avoid.push((dice.roll(8), dice.sources(&names, 2)));
            }
        }
        let tags = match dice.roll(3) {
            0 if with_tags => vec!["@*".to_owned()],
            1 if with_tags => vec!["@x".to_owned(), "@y".to_owned()],
            _ => Vec::new(),
        };
        let logs = if dice.once_in(4) { 1 + dice.roll(1) } else { 0 };
        Self(Input {
            sources,
            previous,
            avoid,
            tags,
            units: rows * u64::from(stripes),
            policy: POLICIES[dice.roll(4) as usize],
            stripes,
            mirrors,
            parity,
            approximate: dice.once_in(5),
            maximise_cling: !dice.once_in(4),
            metadata_units: if dice.once_in(4) { 1 + dice.roll(2) } else { 0 },
            log_areas: logs as u32,
            log_units: if logs > 0 { 1 + dice.roll(3) } else { 0 },
            log_separate: dice.once_in(2),
        })
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let mut smaller: Vec<Input> = Vec::new();
        let input = &self.0;
        for at in 0..input.sources.len() {
            for area in 0..input.sources[at].areas.len() {
                smaller.push(input.clone().set(|input| {
                    input.sources[at].areas.remove(area);
                }));
            }
            smaller.push(input.clone().set(|input| input.sources[at].tags.clear()));
        }
        smaller.push(input.clone().set(|input| input.log_areas = 0));
        smaller.push(input.clone().set(|input| input.metadata_units = 0));
        smaller.push(input.clone().set(|input| input.tags.clear()));
        smaller.push(input.clone().set(|input| input.previous.clear()));
        smaller.push(input.clone().set(|input| {
            input.avoid.pop();
        }));
        if input.rows() > 1 {
            smaller.push(input.clone().set(|input| input.units -= u64::from(input.stripes)));
        }
        let before = format!("{input:?}");
        smaller.retain(|input| format!("{input:?}") != before);
        Box::new(smaller.into_iter().map(Self))
    }
}
