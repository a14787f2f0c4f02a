//! A placement in the making.

use super::free::Free;
use super::instance::Instance;
use super::story::{Reason, Round, Story, TOLD};
use super::{Area, Step};

/// Units taken from one source, in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) source: usize,
    pub(super) start: u64,
    pub(super) length: u64,
}

/// For one leg of a round, the area that it takes its piece from, named by its first unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pick {
    pub(super) source: usize,
    pub(super) start: u64,
}

/// What was taken so far, and what is left.
#[derive(Clone, Debug)]
pub(super) struct Draft<'i, 'a> {
    pub(super) instance: &'i Instance<'a>,
    pub(super) free: Vec<Free<'a>>,
    pub(super) legs: Vec<Vec<Taken>>,
    pub(super) metadata: Vec<Taken>,
    pub(super) log: Vec<Taken>,
    /// Units of each leg that are placed.
    pub(super) rows: u64,
    /// The range of the avoid list that the next row is in.
    range: usize,
    /// Sources that nothing may be placed on any more, for they hold logs.
    closed: Vec<bool>,
    /// Sources that were taken from, in this order; those who keep sources in order follow it.
    pub(super) touched: Vec<usize>,
    pub(super) story: Option<Story>,
}

impl<'i, 'a> Draft<'i, 'a> {
    pub(super) fn new(instance: &'i Instance<'a>) -> Self {
        Self {
            instance,
            free: instance.free.clone(),
            legs: vec![Vec::new(); instance.legs],
            metadata: Vec::new(),
            log: Vec::new(),
            rows: 0,
            range: 0,
            closed: Vec::new(),
            touched: Vec::new(),
            story: None,
        }
    }

    /// Units of each leg that are not placed.
    pub(super) fn rest(&self) -> u64 {
        self.instance.rows.saturating_sub(self.rows)
    }

    /// Units in front of the next piece of each leg.
    pub(super) fn head(&self) -> u64 {
        if self.rows == 0 { self.instance.metadata } else { 0 }
    }

    /// The longest piece that a round may take: no piece goes beyond a range of the avoid list.
    pub(super) fn want(&self) -> u64 {
        let range = self.instance.ranges.get(self.range);
        range.map_or(self.rest(), |range| self.rest().min(range.end.saturating_sub(self.rows)))
    }

    /// Which range of the avoid list the next row is in.
    pub(super) fn range(&self) -> usize {
        self.range
    }

    /// Whether nothing of the next row may be on this source.
    pub(super) fn is_avoided(&self, source: usize) -> bool {
        let range = self.instance.ranges.get(self.range);
        range.is_some_and(|range| range.avoided.has(source, &self.instance.tags)) || self.is_closed(source)
    }

    /// Whether the source is kept for logs.
    pub(super) fn is_closed(&self, source: usize) -> bool {
        self.closed.get(source).copied().unwrap_or_default()
    }

    /// Keeps the data away from these sources.
    pub(super) fn close(&mut self, sources: impl Iterator<Item = usize>) {
        self.closed.resize(self.free.len(), false);
        for source in sources {
            if let Some(closed) = self.closed.get_mut(source) {
                *closed = true;
            }
        }
    }

    /// Data that the longest area of a source could take, behind what comes in front of it.
    pub(super) fn room(&self, source: usize) -> u64 {
        let largest = self.free.get(source).and_then(Free::largest);
        largest.map_or(0, |area| area.units().saturating_sub(self.head()))
    }

    /// What a source offers for a piece of `want` units: how much of it, 0 for nothing.
    pub(super) fn weight(&self, source: usize, want: u64) -> u64 {
        if self.is_avoided(source) { 0 } else { self.room(source).min(want) }
    }

    /// The area that a source offers: the smallest that holds all, or else its largest.
    pub(super) fn offer(&mut self, source: usize, want: u64) -> Option<Area> {
        let whole = want.checked_add(self.head());
        let free = self.free.get_mut(source)?;
        whole.and_then(|whole| free.smallest_holding(whole)).or_else(|| free.largest())
    }

    /// What an area gives to a piece of `want` units.
    pub(super) fn usable(&self, area: Area, want: u64) -> u64 {
        area.units().saturating_sub(self.head()).min(want)
    }

    /// Gives each leg, in their order, a piece of `length` units from the low end of its area.
    pub(super) fn take_row(&mut self, picks: &[Pick], length: u64) {
        let head = self.head();
        for (leg, &Pick { source, start }) in picks.iter().enumerate() {
            if let Some(free) = self.free.get_mut(source) {
                free.take(start, head + length);
            }
            if head > 0 {
                self.metadata.push(Taken { source, start, length: head });
            }
            self.append(leg, Taken { source, start: start + head, length });
            self.touched.push(source);
        }
        self.advance(length);
    }

    /// The pieces for so many more units of each leg are taken.
    pub(super) fn advance(&mut self, length: u64) {
        self.rows += length;
        while self.instance.ranges.get(self.range).is_some_and(|range| range.end <= self.rows) {
            self.range += 1;
        }
    }

    /// Adds a piece to a leg; one that touches the last one continues it.
    pub(super) fn append(&mut self, leg: usize, piece: Taken) {
        let Some(pieces) = self.legs.get_mut(leg) else { return };
        match pieces.last_mut() {
            Some(last) if last.source == piece.source && last.start + last.length == piece.start => {
                last.length += piece.length;
            }
            _ => pieces.push(piece),
        }
    }

    /// Tells what a round found, if anybody listens; to be called before anything of it is taken. `outside` says why
    /// the step does not look at a source.
    pub(super) fn tell(
        &mut self,
        step: Step,
        want: u64,
        picks: &[Pick],
        length: u64,
        outside: impl Fn(&Self, usize) -> Option<Reason>,
    ) {
        if self.story.is_none() {
            return;
        }
        let chosen = |source: usize| picks.iter().any(|pick| pick.source == source);
        let room = |source: usize| {
            if step == Step::Anywhere { self.room(source) } else { self.weight(source, want) }
        };
        let least = picks.iter().map(|pick| room(pick.source).min(want)).min();
        let reason = |source: usize| {
            let gives = room(source).min(want);
            if !self.instance.allocatable.get(source).copied().unwrap_or_default() {
                Reason::NotAllocatable
            } else if self.is_closed(source) {
                Reason::KeptForLog
            } else if step != Step::Anywhere && self.is_avoided(source) {
                Reason::Avoided
            } else if self.room(source) == 0 {
                Reason::Full
            } else if let Some(reason) = outside(self, source) {
                reason
            } else {
                match least {
                    Some(least) if gives < least => Reason::Lighter { gives, least },
                    Some(_) => Reason::Later,
                    None => Reason::Alone,
                }
            }
        };
        let others = self.instance.sources().filter(|&source| !chosen(source));
        let skipped: Vec<(usize, Reason)> =
            others.take(TOLD).map(|source| (source, reason(source))).collect();
        let mut taken_from: Vec<usize> = picks.iter().map(|pick| pick.source).collect();
        taken_from.sort_unstable();
        taken_from.dedup();
        let others = self.free.len() - taken_from.len() - skipped.len();
        let head = self.head();
        let taken = picks.iter().map(|pick| Taken { source: pick.source, start: pick.start + head, length });
        let round = Round {
            step: Some(step),
            row: self.rows,
            length,
            taken: taken.collect(),
            skipped,
            others,
            kept: true,
        };
        if let Some(story) = &mut self.story {
            story.push(round);
        }
    }
}
