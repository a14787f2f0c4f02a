//! Stores that live long: their fill swings between two marks.

use crate::constant::Sample;
use crate::law::Law;
use crate::population::{Pieces, Population};
use crate::store::{Kind, layout};

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Of its picture.
    pub(crate) file: &'static str,
    law: Law,
    pieces: Pieces,
    pub(crate) page_bytes: u64,
    high: f64,
    low: f64,
}

const fn scenario(
    name: &'static str,
    file: &'static str,
    law: Law,
    page_bytes: u64,
    (high, low): (f64, f64),
) -> Scenario {
    Scenario { name, file, law, pieces: Pieces::One, page_bytes, high, low }
}

const DEEP: (f64, f64) = (0.8, 0.6);
const FULL: (f64, f64) = (0.9, 0.7);
const MIX: Law = Law::Mix { small: 64 << 10, large: 8 << 20 };
const OBJECTS: Law = Law::Even { most: 150_000_000 };

pub(crate) const SCENARIOS: [Scenario; 7] = [
    scenario("first law, pages of 4 KiB, fill 0.8 to 0.6", "first-80-60", Law::FIRST, 4 << 10, DEEP),
    scenario("first law, pages of 4 KiB, fill 0.9 to 0.7", "first-90-70", Law::FIRST, 4 << 10, FULL),
    scenario("second law, pages of 64 KiB, fill 0.8 to 0.6", "second-80-60", Law::SECOND, 64 << 10, DEEP),
    scenario("second law, pages of 64 KiB, fill 0.9 to 0.7", "second-90-70", Law::SECOND, 64 << 10, FULL),
    scenario("8 MiB and 64 KiB, half the bytes each, fill 0.8 to 0.6", "mix-80-60", MIX, 4 << 10, DEEP),
    scenario("8 MiB and 64 KiB, half the bytes each, fill 0.9 to 0.7", "mix-90-70", MIX, 4 << 10, FULL),
    Scenario {
        pieces: Pieces::Of(8 << 20),
        ..scenario(
            "objects of up to 150 MB in pieces of 8 MiB, fill 0.9 to 0.7",
            "objects-90-70",
            OBJECTS,
            64 << 10,
            FULL,
        )
    },
];

/// What came of a scenario.
pub(crate) struct Swung {
    pub(crate) kind: Kind,
    /// After each rise and each fall, by swings.
    pub(crate) samples: Vec<(f64, Sample)>,
    /// Rises that ended before the upper mark because a blob found no place.
    pub(crate) cut_short: usize,
    /// The lowest fill at which a rise ended.
    pub(crate) reached: f64,
}

impl Scenario {
    pub(crate) fn run(&self, kind: Kind, store_bytes: u64, swings: u32) -> freehold::Result<Swung> {
        let layout = layout(store_bytes, self.page_bytes, None)?;
        let mut population = Population::new(kind, &layout, self.law, self.pieces, false, 1)?;
        let mut swung = Swung { kind, samples: Vec::new(), cut_short: 0, reached: 1.0 };
        for swing in 0..swings {
            let risen = population.fill_to(self.high);
            swung.cut_short += usize::from(!risen);
            swung.reached = swung.reached.min(population.share(population.demand));
            swung.samples.push((f64::from(swing) + 0.5, Sample::of(&population)));
            population.drain_to(self.low);
            swung.samples.push((f64::from(swing) + 1.0, Sample::of(&population)));
        }
        Ok(swung)
    }
}
