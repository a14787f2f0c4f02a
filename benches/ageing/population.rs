//! What lives in a store, and how it changes.

use freehold::format::Layout;
use freehold::space::Place;
use std::sync::Arc;

use crate::law::{Law, Random};
use crate::store::{Kind, Store, demand, pages_of, usable_bytes};

/// How a blob may be put.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pieces {
    /// In one piece.
    One,
    /// In one piece if possible, else the longest runs first, in so many at most.
    UpTo(usize),
    /// Cut into pieces of so many bytes, whatever is free.
    Of(u64),
}

/// A blob.
struct Blob {
    /// Places, and the bytes in them.
    places: Vec<(Place, u64)>,
    asked: u64,
    demand: u64,
}

/// The blobs of a store.
pub(crate) struct Population {
    pub(crate) store: Box<dyn Store>,
    pub(crate) layout: Arc<Layout>,
    law: Law,
    pieces: Pieces,
    random: Random,
    blobs: Vec<Blob>,
    /// Bytes asked for, and needed at least, of the blobs that live.
    pub(crate) asked: u64,
    pub(crate) demand: u64,
    /// Bytes that were put so far.
    pub(crate) put: u64,
    /// Blobs, and their extents, that were put so far.
    pub(crate) blobs_put: u64,
    pub(crate) extents_put: u64,
    /// Blobs that found no place.
    pub(crate) refused: u64,
}

impl Population {
    pub(crate) fn new(
        kind: Kind,
        layout: &Arc<Layout>,
        law: Law,
        pieces: Pieces,
        publish: bool,
        seed: u64,
    ) -> freehold::Result<Self> {
        Ok(Self {
            store: kind.open(layout, publish)?,
            layout: Arc::clone(layout),
            law,
            pieces,
            random: Random::new(seed),
            blobs: Vec::new(),
            asked: 0,
            demand: 0,
            put: 0,
            blobs_put: 0,
            extents_put: 0,
            refused: 0,
        })
    }

    /// Blobs that live.
    pub(crate) fn count(&self) -> usize {
        self.blobs.len()
    }

    /// Extents of the blobs that live.
    pub(crate) fn extents(&self) -> usize {
        self.blobs.iter().map(|blob| blob.places.len()).sum()
    }

    /// Bytes that the allocator took for the blobs that live, heads of regions included.
    pub(crate) fn taken(&self) -> u64 {
        let places = self.blobs.iter().flat_map(|blob| &blob.places);
        let taken: u64 = places.map(|(place, _)| place.range(&self.layout).1).sum();
        taken + self.store.overhead_bytes()
    }

    /// A share of the usable bytes.
    pub(crate) fn share(&self, bytes: u64) -> f64 {
        bytes as f64 / usable_bytes(&self.layout) as f64
    }

    fn bytes_at(&self, fill: f64) -> u64 {
        (usable_bytes(&self.layout) as f64 * fill) as u64
    }

    /// Puts blobs until one more would need more than this share of the store. False if one found no place.
    pub(crate) fn fill_to(&mut self, fill: f64) -> bool {
        let most = self.bytes_at(fill);
        loop {
            let asked = self.law.draw(&mut self.random);
            if self.demand + demand(&self.layout, asked) > most {
                return true;
            }
            if !self.put(asked) {
                return false;
            }
        }
    }

    /// Removes random blobs until what is left needs at most this share of the store.
    pub(crate) fn drain_to(&mut self, fill: f64) {
        let most = self.bytes_at(fill);
        while self.demand > most && self.remove() {}
    }

    /// Puts a blob, after random ones were removed until it fits under this share of the store. False if there was no
    /// place for it.
    pub(crate) fn replace(&mut self, fill: f64) -> bool {
        let most = self.bytes_at(fill);
        let asked = self.law.draw(&mut self.random);
        while self.demand + demand(&self.layout, asked) > most && self.remove() {}
        self.put(asked)
    }

    /// Replaces blobs until the bytes that live were put so many times, or more than so many found no place. False in
    /// that case.
    pub(crate) fn turn_over(&mut self, fill: f64, times: f64, refusals: u64) -> bool {
        let goal = self.put + (self.demand as f64 * times) as u64;
        let most = self.refused + refusals;
        while self.put < goal {
            if !self.replace(fill) && self.refused > most {
                return false;
            }
        }
        true
    }

    fn put(&mut self, asked: u64) -> bool {
        let places = match self.pieces {
            Pieces::One => self.store.alloc(asked).map(|place| vec![(place, asked)]),
            Pieces::UpTo(most) => self.put_longest_first(asked, most),
            Pieces::Of(bytes) => self.put_cut(asked, bytes),
        };
        let Some(places) = places else {
            self.refused += 1;
            return false;
        };
        let demand = demand(&self.layout, asked);
        self.asked += asked;
        self.demand += demand;
        self.put += demand;
        self.blobs_put += 1;
        self.extents_put += places.len() as u64;
        self.blobs.push(Blob { places, asked, demand });
        true
    }

    /// As `Transaction::alloc_extents` does it.
    fn put_longest_first(&mut self, asked: u64, most: usize) -> Option<Vec<(Place, u64)>> {
        if let Some(place) = self.store.alloc(asked) {
            return Some(vec![(place, asked)]);
        }
        let mut places = Vec::new();
        let mut left = asked;
        while left > 0 {
            let pages = self.store.longest().min(pages_of(&self.layout, left));
            let bytes = left.min(u64::from(pages) * u64::from(self.layout.page_bytes()));
            let enough = pages > 0 && places.len() < most;
            let place = if enough { self.store.alloc_pages(pages, bytes) } else { None };
            let Some(place) = place else { return self.give_up(&places) };
            places.push((place, bytes));
            left -= bytes;
        }
        Some(places)
    }

    fn put_cut(&mut self, asked: u64, piece: u64) -> Option<Vec<(Place, u64)>> {
        let mut places = Vec::new();
        for start in (0..asked).step_by(usize::try_from(piece).unwrap_or(usize::MAX)) {
            let bytes = piece.min(asked - start);
            match self.store.alloc(bytes) {
                Some(place) => places.push((place, bytes)),
                None => return self.give_up(&places),
            }
        }
        Some(places)
    }

    fn give_up(&mut self, places: &[(Place, u64)]) -> Option<Vec<(Place, u64)>> {
        places.iter().for_each(|(place, bytes)| self.store.free(place, *bytes));
        None
    }

    /// Removes a random blob. False if there is none.
    fn remove(&mut self) -> bool {
        if self.blobs.is_empty() {
            return false;
        }
        let blob = self.blobs.swap_remove(self.random.below(self.blobs.len()));
        self.asked -= blob.asked;
        self.demand -= blob.demand;
        blob.places.iter().for_each(|(place, bytes)| self.store.free(place, *bytes));
        true
    }
}
