//! The answer: which areas to take.

use super::Area;

/// Units to take from one source, in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Piece<H> {
    /// The source.
    pub source: H,
    /// The first unit there.
    pub start: u64,
    /// How many units.
    pub length: u64,
}

impl<H> Piece<H> {
    /// The units that it takes.
    #[must_use]
    pub const fn area(&self) -> Area {
        Area::new(self.start, self.start.saturating_add(self.length))
    }
}

/// How the plan came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// By the rounds, from strict to loose.
    Rounds,
    /// By the exact search, for the rounds found no way.
    Exact,
}

/// Whether the legs of a new volume are apart by their tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Partition {
    /// Nobody asked: no tag is listed, or earlier segments say where the legs are.
    NotAsked,
    /// No two legs share a listed tag.
    Apart,
    /// Legs share a listed tag: no areas that hold legs whole are on sources that do not.
    Shared,
    /// Legs share a listed tag: the search for areas that keep them apart ended at its bound,
    /// [`PARTITION_BOUND`](super::PARTITION_BOUND), and there may be some.
    Bounded,
}

/// Which areas to take. Pieces of a leg are in logical order, those that touch are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<H> {
    /// For each leg what it takes; the legs of parity come last. Leg `m * stripes + s` is stripe `s` of copy `m`.
    pub legs: Vec<Vec<Piece<H>>>,
    /// For each leg where its metadata is; empty when none was asked for.
    pub metadata: Vec<Piece<H>>,
    /// The logs.
    pub log: Vec<Piece<H>>,
    /// Logical units placed.
    pub placed_units: u64,
    /// Logical units left unplaced; none unless the request was approximate.
    pub unplaced_units: u64,
    /// How it was found.
    pub method: Method,
    /// Whether legs are apart by tags.
    pub partition: Partition,
}
