//! Turns of all, interleaved in rounds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use freehold::Histogram;
use tokio::runtime::Runtime;

use crate::Failure;
use crate::blobs::{BlobFloor, Blobs, Share};
use crate::contender::Kind;
use crate::driver::{Load, Subject, Turn, measured};
use crate::measure::{Source, Times};
use crate::options::Options;
use crate::workload::Random;

/// All turns of one contender under one load, in order of the rounds.
#[derive(Debug)]
pub(crate) struct Series {
    kind: Kind,
    load: Load,
    turns: Vec<Turn>,
    /// Of all transactions of all turns.
    times: Histogram,
}

/// All series.
#[derive(Debug, Default)]
pub(crate) struct Results(Vec<Series>);

impl Results {
    pub(crate) fn add(&mut self, kind: Kind, load: Load, mut turn: Turn) {
        let times: Times = std::mem::take(&mut turn.times);
        let found = self.0.iter_mut().position(|series| series.kind == kind && series.load == load);
        let at = found.unwrap_or(self.0.len());
        if found.is_none() {
            self.0.push(Series { kind, load, turns: Vec::new(), times: Histogram::default() });
        }
        if let Some(series) = self.0.get_mut(at) {
            times.nanos().for_each(|nanos| series.times.record(nanos));
            series.turns.push(turn);
        }
    }

    fn series(&self, kind: Kind, load: Load) -> Option<&Series> {
        self.0.iter().find(|series| series.kind == kind && series.load == load)
    }

    pub(crate) fn turns(&self, kind: Kind, load: Load) -> &[Turn] {
        self.series(kind, load).map_or(&[], |series| &series.turns)
    }

    /// Microseconds that so many thousandths of all transactions of all rounds did not exceed.
    pub(crate) fn tail(&self, kind: Kind, load: Load, thousandths: u64) -> f64 {
        let times = self.series(kind, load).map(|series| &series.times).filter(|times| times.count() > 0);
        times.map_or(f64::NAN, |times| times.quantile(thousandths) as f64 / 1e3)
    }
}

/// Turns of a round that are had in parts.
#[derive(Default)]
struct Parts(Vec<(Kind, Load, Turn)>);

impl Parts {
    fn add(&mut self, kind: Kind, load: Load, part: Turn) {
        match self.0.iter_mut().find(|(other, of, _)| (*other, *of) == (kind, load)) {
            Some((.., turn)) => turn.append(part),
            None => self.0.push((kind, load, part)),
        }
    }

    fn add_to(self, results: &mut Results) {
        self.0.into_iter().for_each(|(kind, load, turn)| results.add(kind, load, turn));
    }
}

/// Who does what, and how often.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) kinds: Vec<Kind>,
    pub(crate) loads: Vec<Load>,
    pub(crate) live: usize,
    pub(crate) rounds: usize,
    pub(crate) turn: Duration,
}

/// Transactions.
pub(crate) fn transactions(
    plan: &Plan,
    runtime: &Arc<Runtime>,
    dir: &Path,
    source: &Source,
) -> Result<Results, Failure> {
    let mut subjects: Vec<(Kind, PathBuf, Box<dyn Subject>)> = Vec::new();
    for &kind in &plan.kinds {
        eprintln!("filling {}", kind.name());
        let dir = dir.join(kind.name());
        let subject = kind.subject(runtime, &dir, plan.live)?;
        subjects.push((kind, dir, subject));
    }
    let (mut results, mut order) = (Results::default(), Random::new(1));
    for round in 0..plan.rounds {
        eprintln!("transactions: round {} of {}", round + 1, plan.rounds);
        for &load in &plan.loads {
            let mut turns = Parts::default();
            for _ in 0..load.parts() {
                for (kind, dir, subject) in &mut subjects {
                    if matches!(load, Load::Tasks(tasks) if tasks > kind.most_tasks()) {
                        continue;
                    }
                    let time = plan.turn / load.parts();
                    if let Some(part) = measured(subject.as_mut(), dir, source, load, time)? {
                        turns.add(*kind, load, part);
                    }
                }
                // Nobody is always the one who comes behind the same other one.
                order.shuffle(&mut subjects);
            }
            turns.add_to(&mut results);
        }
    }
    Ok(results)
}

/// A store of blobs, and the floor for it.
struct Pair {
    kind: Kind,
    floor_kind: Kind,
    dirs: [PathBuf; 2],
    store: Box<dyn Subject>,
    floor: BlobFloor,
}

/// Puts and gets of blobs. Each floor's turn follows that of the store, to do as much as that did.
pub(crate) fn blobs(
    options: &Options,
    runtime: &Arc<Runtime>,
    dir: &Path,
    source: &Source,
) -> Result<Results, Failure> {
    let tasks = options.put_tasks();
    let count = 2000 + tasks.iter().max().copied().unwrap_or(1);
    let mut pairs = Vec::new();
    for (kind, floor_kind) in [(Kind::Freehold, Kind::Append), (Kind::FreeholdDirect, Kind::Direct)] {
        if !options.kinds.contains(&kind) {
            continue;
        }
        let dirs = [kind, floor_kind].map(|kind| dir.join(format!("blobs-{}", kind.name())));
        let [store_dir, floor_dir] = &dirs;
        let store: Box<dyn Subject> = if kind == Kind::Freehold {
            Box::new(Blobs::<false>::new(runtime, store_dir, count)?)
        } else {
            Box::new(Blobs::<true>::new(runtime, store_dir, count)?)
        };
        let floor = BlobFloor::new(floor_dir, count, kind == Kind::FreeholdDirect)?;
        pairs.push(Pair { kind, floor_kind, dirs, store, floor });
    }
    let mut results = Results::default();
    for round in 0..options.rounds {
        eprintln!("blobs: round {} of {}", round + 1, options.rounds);
        for &tasks in &tasks {
            let (load, mut turns) = (Load::Tasks(tasks), Parts::default());
            let time = options.turn / load.parts();
            for part in 0..load.parts() {
                for pair in &mut pairs {
                    let [store_dir, floor_dir] = &pair.dirs;
                    let Some(turn) = measured(pair.store.as_mut(), store_dir, source, load, time)? else {
                        continue;
                    };
                    pair.floor.share = Share::of(&turn);
                    turns.add(pair.kind, load, turn);
                    let mut floors = [load, Load::Early(tasks)];
                    if (part % 2 == 0) == (round % 2 == 0) {
                        floors.reverse();
                    }
                    for load in floors {
                        if let Some(turn) = measured(&mut pair.floor, floor_dir, source, load, time)? {
                            turns.add(pair.floor_kind, load, turn);
                        }
                    }
                }
            }
            turns.add_to(&mut results);
        }
        // Past the page cache every read waits for the disk.
        for pair in pairs.iter_mut().filter(|pair| pair.kind == Kind::Freehold) {
            for load in tasks.iter().copied().map(Load::Reads) {
                let [store_dir, floor_dir] = &pair.dirs;
                let mut subjects: [(Kind, &mut dyn Subject, &Path); 2] = [
                    (pair.kind, pair.store.as_mut(), store_dir),
                    (pair.floor_kind, &mut pair.floor, floor_dir),
                ];
                subjects.rotate_left(round % 2);
                for (kind, subject, dir) in subjects {
                    if let Some(turn) = measured(subject, dir, source, load, options.turn)? {
                        results.add(kind, load, turn);
                    }
                }
            }
        }
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, clippy::float_cmp, reason = "a test")]
    use super::*;
    use crate::measure::Cost;

    #[test]
    fn turns_of_a_series_come_together() {
        let mut results = Results::default();
        for micros in [1, 3] {
            for kind in [Kind::Append, Kind::Direct] {
                let mut times = Times::default();
                times.record(Duration::from_micros(micros));
                results.add(kind, Load::Tasks(1), Turn::new(1, Duration::from_secs(1), times));
            }
        }
        let turns = results.turns(Kind::Direct, Load::Tasks(1));
        assert_eq!(turns.iter().map(Turn::p50).collect::<Vec<_>>(), [1.0, 3.0]);
        let most = results.tail(Kind::Direct, Load::Tasks(1), 1000);
        assert!((2.95..=3.05).contains(&most), "{most}");
        assert!(results.turns(Kind::Direct, Load::Tasks(2)).is_empty());
        assert!(results.tail(Kind::Direct, Load::Rush, 500).is_nan());
    }

    #[test]
    fn parts_are_one_turn() {
        let (mut parts, mut results) = (Parts::default(), Results::default());
        for (micros, seconds, flushes) in [(1, 1, 5.0), (9, 2, 1.0), (3, 1, 2.0)] {
            for load in [Load::Tasks(1), Load::Early(1)] {
                let mut times = Times::default();
                times.record(Duration::from_micros(micros));
                let mut turn = Turn::new(2, Duration::from_secs(seconds), times);
                let device_bytes = (load == Load::Early(1)).then_some(4.0);
                turn.cost = Some(Cost { cpu_seconds: 0.5, device_bytes, flushes: Some(flushes) });
                parts.add(Kind::Append, load, turn);
            }
        }
        parts.add_to(&mut results);
        let turn = |load| match results.turns(Kind::Append, load) {
            [turn] => turn,
            turns => panic!("{turns:?}"),
        };
        let one = turn(Load::Tasks(1));
        assert_eq!((one.operations, one.rate(), one.p50(), one.cpu()), (6, 1.5, 3.0, 0.25));
        assert_eq!(one.each(|cost| cost.flushes), 8.0 / 6.0);
        assert!(one.each(|cost| cost.device_bytes).is_nan() && one.grown(|_| 1).is_nan());
        assert_eq!(turn(Load::Early(1)).each(|cost| cost.device_bytes), 2.0);
        assert!(results.tail(Kind::Append, Load::Tasks(1), 999) > 8.0);
    }
}
