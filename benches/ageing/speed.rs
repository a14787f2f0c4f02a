//! How long an operation takes, in memory: nothing is published, so that reserving is allocating and giving a
//! reservation back is freeing.

use std::hint::black_box;
use std::time::Instant;

use freehold::space::{Place, Request};

use crate::law::{Law, Random};
use crate::product::Product;
use crate::store::{demand, layout, usable_bytes};

/// Pairs of which the mean is taken.
const BATCH: usize = 1000;

/// A store full of blobs of the first law.
pub(crate) struct Subject {
    product: Product,
    places: Vec<Place>,
    random: Random,
}

/// Nanoseconds of a pair, each the median over batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) blobs: usize,
    /// Allocated, and freed at once.
    pub(crate) same: f64,
    /// A random blob is freed, another one allocated.
    pub(crate) replacement: f64,
}

/// Nanoseconds of single operations, in ascending order.
pub(crate) struct Tail(Vec<u32>);

impl Tail {
    /// The operation slower than this share of all; 1 for the slowest.
    pub(crate) fn at(&self, share: f64) -> u32 {
        let rank = (self.0.len() as f64 * share) as usize;
        self.0.get(rank.min(self.0.len().saturating_sub(1))).copied().unwrap_or(0)
    }
}

impl Subject {
    /// Fills a store, and replaces a share of its blobs at random.
    pub(crate) fn new(store_bytes: u64, fill: f64, turnover: f64, items: bool) -> freehold::Result<Self> {
        let layout = layout(store_bytes, 4096, None)?;
        let most = (usable_bytes(&layout) as f64 * fill) as u64;
        let mut subject = Self {
            product: Product::new(&layout, items, false)?,
            places: Vec::new(),
            random: Random::new(store_bytes),
        };
        let mut used = 0;
        while used < most {
            let asked = Law::FIRST.draw(&mut subject.random);
            let Some(place) = subject.product.reserve(&subject.product.request(asked)) else { break };
            subject.places.push(place);
            used += demand(&layout, asked);
        }
        let goal = (subject.places.len() as f64 * turnover) as usize;
        for _ in 0..goal.div_ceil(BATCH) {
            subject.replace(&mut |_| ());
        }
        Ok(subject)
    }

    /// The median of the mean time of a pair.
    pub(crate) fn pair(&mut self, batches: usize) -> Pair {
        let mut same = Vec::new();
        let mut replacement = Vec::new();
        for _ in 0..batches {
            same.push(self.same());
            let began = &mut Instant::now();
            let mut seconds = 0.0;
            self.replace(&mut |start| {
                if start {
                    *began = Instant::now();
                } else {
                    seconds = began.elapsed().as_secs_f64();
                }
            });
            replacement.push(seconds * 1e9 / BATCH as f64);
        }
        Pair { blobs: self.places.len(), same: median(same), replacement: median(replacement) }
    }

    fn requests(&mut self) -> Vec<Request> {
        (0..BATCH).map(|_| self.product.request(Law::FIRST.draw(&mut self.random))).collect()
    }

    /// Blobs drawn at random, which are no longer among those that live.
    fn victims(&mut self) -> Vec<Place> {
        let mut victim = || {
            let at = self.random.below(self.places.len());
            self.places.swap_remove(at)
        };
        (0..BATCH).map(|_| victim()).collect()
    }

    fn same(&mut self) -> f64 {
        let requests = self.requests();
        let began = Instant::now();
        for request in &requests {
            self.product.pair(black_box(request));
        }
        began.elapsed().as_secs_f64() * 1e9 / BATCH as f64
    }

    /// Replaces as many blobs as a batch has. `clock` is told where the operations start and end.
    fn replace(&mut self, clock: &mut dyn FnMut(bool)) {
        let (requests, victims) = (self.requests(), self.victims());
        let mut places = Vec::with_capacity(BATCH);
        clock(true);
        for (request, victim) in requests.iter().zip(&victims) {
            self.product.unreserve(black_box(victim));
            places.push(self.product.reserve(black_box(request)));
        }
        clock(false);
        self.places.extend(places.into_iter().flatten());
    }

    /// Each of so many replacements by itself: frees and allocations.
    pub(crate) fn tails(&mut self, replacements: usize) -> (Tail, Tail) {
        let (mut frees, mut allocations) = (Vec::new(), Vec::new());
        let nanoseconds = |since: Instant| u32::try_from(since.elapsed().as_nanos()).unwrap_or(u32::MAX);
        for _ in 0..replacements.div_ceil(BATCH) {
            let (requests, victims) = (self.requests(), self.victims());
            for (request, victim) in requests.iter().zip(&victims) {
                let began = Instant::now();
                self.product.unreserve(victim);
                frees.push(nanoseconds(began));
                let began = Instant::now();
                let place = self.product.reserve(request);
                allocations.push(nanoseconds(began));
                self.places.extend(place);
            }
        }
        frees.sort_unstable();
        allocations.sort_unstable();
        (Tail(frees), Tail(allocations))
    }
}

/// What reading the clock adds to a single operation, in nanoseconds.
pub(crate) fn clock_cost() -> u32 {
    let mut costs: Vec<_> = (0..10_000).map(|_| Instant::now().elapsed().as_nanos()).collect();
    costs.sort_unstable();
    costs.get(costs.len() / 2).and_then(|cost| u32::try_from(*cost).ok()).unwrap_or(0)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
