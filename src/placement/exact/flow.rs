//! How many units each source gives to which rows: a maximum flow from sources to classes of rows.
//!
//! A class is all rows in which the same sources are to be avoided. A source gives to a class at most one unit for each
//! of its rows, for legs of a row are on different sources, and a class needs as many units in each row as there are
//! legs. That this is enough, and that no arrangement of pieces is asked for, is McNaughton's wrap-around rule
//! ("Scheduling with deadlines and loss functions", 1959); `spread.rs` applies it.

use std::collections::{BTreeMap, VecDeque};

use super::Work;
use crate::placement::avoid::Avoided;
use crate::placement::instance::Instance;
use crate::placement::tags::Tags;

/// Rows with the same sources to avoid.
#[derive(Debug)]
pub(super) struct Class {
    avoided: Avoided,
    /// Where they are: first row, and the one behind the last. Ascending.
    pub(super) spans: Vec<(u64, u64)>,
    pub(super) rows: u64,
}

#[derive(Debug, Default)]
pub(super) struct Classes {
    pub(super) all: Vec<Class>,
}

impl Classes {
    /// The rows from `first` to `rows`.
    pub(super) fn new(instance: &Instance<'_>, first: u64, rows: u64) -> Self {
        let mut classes: BTreeMap<&Avoided, Class> = BTreeMap::new();
        let mut from = first;
        let nothing = Avoided::default();
        let behind = std::iter::once((rows, &nothing));
        let ranges = instance.ranges.iter().map(|range| (range.end.min(rows), &range.avoided));
        for (end, avoided) in ranges.chain(behind) {
            if from < end {
                let new = || Class { avoided: avoided.clone(), spans: Vec::new(), rows: 0 };
                let class = classes.entry(avoided).or_insert_with(new);
                class.spans.push((from, end));
                class.rows += end - from;
                from = end;
            }
        }
        Self { all: classes.into_values().collect() }
    }

    /// Whether the source is to be avoided in any of these rows.
    pub(super) fn are_avoiding(&self, source: usize, tags: &Tags) -> bool {
        self.all.iter().any(|class| class.avoided.has(source, tags))
    }

    /// For each class, what each source gives to it. None if there is not enough, or no work is left.
    pub(super) fn flow(
        &self,
        capacities: &[u64],
        legs: u64,
        tags: &Tags,
        work: &mut Work,
    ) -> Option<Vec<Vec<u64>>> {
        // What the tables take.
        work.step((capacities.len() * (self.all.len() + 1)) as u64).then_some(())?;
        let mut flow = Flow {
            classes: &self.all,
            tags,
            left: capacities.to_vec(),
            missing: Vec::with_capacity(self.all.len()),
            amounts: vec![vec![0; capacities.len()]; self.all.len()],
        };
        for class in &self.all {
            flow.missing.push(class.rows.checked_mul(legs)?);
        }
        flow.fill(work)?;
        while flow.missing.iter().any(|&missing| missing > 0) {
            flow.augment(work)?;
        }
        Some(flow.amounts)
    }
}

struct Flow<'c> {
    classes: &'c [Class],
    tags: &'c Tags,
    left: Vec<u64>,
    missing: Vec<u64>,
    amounts: Vec<Vec<u64>>,
}

impl Flow<'_> {
    /// What can be given without taking anything back.
    fn fill(&mut self, work: &mut Work) -> Option<()> {
        for ((class, amounts), missing) in self.classes.iter().zip(&mut self.amounts).zip(&mut self.missing) {
            for (source, (amount, left)) in amounts.iter_mut().zip(&mut self.left).enumerate() {
                if *left > 0 && !class.avoided.has(source, self.tags) {
                    *amount = (*left).min(class.rows).min(*missing);
                    *left -= *amount;
                    *missing -= *amount;
                }
            }
            work.step(self.left.len() as u64).then_some(())?;
        }
        Some(())
    }

    /// Finds a shortest way from a source with something left to a class that misses something, and sends along it
    /// what it holds (Edmonds and Karp). None if there is none.
    fn augment(&mut self, work: &mut Work) -> Option<()> {
        let sources = self.left.len();
        let mut source_from: Vec<Option<usize>> = vec![None; sources];
        let mut class_from: Vec<Option<usize>> = vec![None; self.classes.len()];
        let mut is_start = vec![false; sources];
        let mut queue: VecDeque<usize> = VecDeque::new();
        for (source, (left, start)) in self.left.iter().zip(&mut is_start).enumerate() {
            if *left > 0 {
                *start = true;
                queue.push_back(source);
            }
        }
        while let Some(source) = queue.pop_front() {
            for (at, class) in self.classes.iter().enumerate() {
                work.step(1).then_some(())?;
                let is_new = class_from.get(at).is_some_and(Option::is_none);
                let has_room = self.amount(at, source) < class.rows;
                if !is_new || !has_room || class.avoided.has(source, self.tags) {
                    continue;
                }
                *class_from.get_mut(at)? = Some(source);
                if self.missing.get(at).is_some_and(|&missing| missing > 0) {
                    return self.send(at, &class_from, &source_from, &is_start);
                }
                // What others give to this class could be given by this source.
                for other in 0..sources {
                    let is_new = source_from.get(other).is_some_and(Option::is_none)
                        && !is_start.get(other).copied().unwrap_or_default();
                    if is_new && self.amount(at, other) > 0 {
                        *source_from.get_mut(other)? = Some(at);
                        queue.push_back(other);
                    }
                }
                work.step(sources as u64).then_some(())?;
            }
        }
        None
    }

    fn amount(&self, class: usize, source: usize) -> u64 {
        self.amounts.get(class).and_then(|amounts| amounts.get(source)).copied().unwrap_or(0)
    }

    /// Sends as much as can be along the way that was found, back from its last class.
    fn send(
        &mut self,
        last: usize,
        class_from: &[Option<usize>],
        source_from: &[Option<usize>],
        is_start: &[bool],
    ) -> Option<()> {
        // Pairs of a source and the class that it gives more to; from the second on it gives less to the class before.
        let mut way: Vec<(usize, usize)> = Vec::new();
        let mut most = *self.missing.get(last)?;
        let mut class = last;
        loop {
            let source = class_from.get(class).copied().flatten()?;
            way.push((source, class));
            most = most.min(self.classes.get(class)?.rows - self.amount(class, source));
            if *is_start.get(source)? {
                most = most.min(*self.left.get(source)?);
                break;
            }
            let before = source_from.get(source).copied().flatten()?;
            most = most.min(self.amount(before, source));
            class = before;
        }
        *self.missing.get_mut(last)? -= most;
        let start = way.last()?.0;
        *self.left.get_mut(start)? -= most;
        for (at, &(source, class)) in way.iter().enumerate() {
            *self.amounts.get_mut(class)?.get_mut(source)? += most;
            if let Some(&(_, before)) = way.get(at + 1) {
                *self.amounts.get_mut(before)?.get_mut(source)? -= most;
            }
        }
        Some(())
    }
}
