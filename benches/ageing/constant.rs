//! Random replacement at constant fill: the highest fill that goes on, what rounding costs, pieces, and how free space
//! looks after each turnover.

use std::sync::Arc;
use std::time::Instant;

use freehold::format::Layout;

use crate::law::Law;
use crate::population::{Pieces, Population};
use crate::store::{Kind, Shape};

/// Fills are looked for in steps of this.
const STEP: f64 = 0.0025;
/// A store in which more blobs find no place in one turnover does not hold its fill.
const REFUSALS: u64 = 100;

/// The highest fill that goes on, as shares of the usable bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sustained {
    /// Bytes that the blobs need in whole pages, or as items.
    pub(crate) fill: f64,
    /// Bytes asked for.
    pub(crate) asked: f64,
    /// Bytes that the allocator takes for them.
    pub(crate) taken: f64,
}

impl Sustained {
    /// The highest fill at which blobs in one piece are replaced at random without a failure.
    fn find(kind: Kind, layout: &Arc<Layout>, law: Law, seed: u64, turnovers: f64) -> freehold::Result<Self> {
        let (mut low, mut high) = (0_u32, (1.0 / STEP) as u32 + 1);
        let mut best = Self::default();
        while high - low > 1 {
            let middle = u32::midpoint(low, high);
            let fill = f64::from(middle) * STEP;
            let mut population = Population::new(kind, layout, law, Pieces::One, false, seed)?;
            if population.fill_to(fill) && population.turn_over(fill, turnovers, 0) {
                let asked = population.share(population.asked);
                (low, best) = (middle, Self { fill, asked, taken: population.share(population.taken()) });
            } else {
                high = middle;
            }
        }
        Ok(best)
    }

    /// The same for several seeds, in ascending order.
    pub(crate) fn find_all(
        kind: Kind,
        layout: &Arc<Layout>,
        law: Law,
        seeds: u64,
        turnovers: f64,
    ) -> freehold::Result<Vec<Self>> {
        let found = (1..=seeds).map(|seed| Self::find(kind, layout, law, seed, turnovers));
        let mut found = found.collect::<freehold::Result<Vec<_>>>()?;
        found.sort_by(|a, b| a.fill.total_cmp(&b.fill));
        Ok(found)
    }
}

/// A store at one instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) shape: Shape,
    /// Extents per blob that lives.
    pub(crate) extents: f64,
}

impl Sample {
    pub(crate) fn of(population: &Population) -> Self {
        let extents = population.extents() as f64 / (population.count() as f64).max(1.0);
        Self { shape: population.store.shape(), extents }
    }
}

/// What came of replacing blobs at one fill.
pub(crate) struct Aged {
    pub(crate) kind: Kind,
    pub(crate) fill: f64,
    /// Before the first, and after each turnover.
    pub(crate) samples: Vec<Sample>,
    /// Blobs that found no place.
    pub(crate) refused: u64,
    /// Bytes asked for, and taken.
    pub(crate) asked: u64,
    pub(crate) taken: u64,
    /// Extents per blob that was put; infinite when the fill was not held.
    pub(crate) extents: f64,
    /// Nanoseconds of a replacement: draw, free, allocate. The product publishes and reclaims.
    pub(crate) nanoseconds: f64,
}

pub(crate) fn age(
    kind: Kind,
    layout: &Arc<Layout>,
    law: Law,
    pieces: Pieces,
    fill: f64,
    turnovers: u32,
) -> freehold::Result<Aged> {
    let mut population = Population::new(kind, layout, law, pieces, true, 1)?;
    let mut held = population.fill_to(fill);
    let mut samples = vec![Sample::of(&population)];
    let mut seconds = 0.0;
    let (blobs, extents) = (population.blobs_put, population.extents_put);
    for _ in 0..turnovers {
        let began = Instant::now();
        held = held && population.turn_over(fill, 1.0, REFUSALS);
        seconds += began.elapsed().as_secs_f64();
        samples.push(Sample::of(&population));
    }
    let replaced = ((population.blobs_put - blobs) as f64).max(1.0);
    Ok(Aged {
        kind,
        fill,
        samples,
        refused: population.refused,
        asked: population.asked,
        taken: population.taken(),
        extents: if held { (population.extents_put - extents) as f64 / replaced } else { f64::INFINITY },
        nanoseconds: seconds * 1e9 / replaced,
    })
}
