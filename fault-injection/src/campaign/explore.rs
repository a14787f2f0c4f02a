//! Cutting a round at every I/O, and judging what is left.

use std::ops::RangeInclusive;
use std::sync::Arc;

use freehold::device::{Device, Purpose};

use super::chain::{Chain, Round};
use super::damage::{Injury, places};
use super::tally::{FAILURE_LIMIT, Failure, Tally};
use crate::disk::{Choice, CowDisk, Cut, CutWalker, Fill, Sampling, TearKind};
use crate::rng::{Rng, mix};
use crate::subject::judge::{Damage, Verdict, Violation};
use crate::subject::model::Progress;

/// Operations of one workload.
pub const OPERATIONS: usize = 14;
/// How deep crashes inside recoveries go.
const MAX_DEPTH: u32 = 3;

/// How states are sampled.
pub const SAMPLING: Sampling = Sampling { exhaustive: 256, sampled: 24, torn: 6, garbage_blocks: 2 };
/// The same, inside a recovery.
const NESTED_SAMPLING: Sampling = Sampling { exhaustive: 16, sampled: 4, torn: 2, garbage_blocks: 1 };

/// Leads back to a state: `chain=0 round=2 cut=17 keep=all injury=flip:77:4 nested=cut=3 keep=none`.
#[derive(Clone, Debug)]
pub struct Address {
    /// Which chain.
    pub chain: u64,
    /// Which round of it.
    pub round: u64,
    /// The cut, then those inside the recoveries.
    pub choices: Vec<Choice>,
    /// What happened to the image besides.
    pub injury: Option<Injury>,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "chain={} round={}", self.chain, self.round)?;
        for (depth, choice) in self.choices.iter().enumerate() {
            write!(f, "{}{choice}", if depth == 0 { " " } else { " / " })?;
        }
        match &self.injury {
            Some(injury) => write!(f, " injury={injury}"),
            None => Ok(()),
        }
    }
}

/// What a campaign follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Seed of everything.
    pub seed: u64,
    /// Operations of each workload.
    pub operations: usize,
}

/// Runs chains until the campaign is over. Chain numbers come from `next_chain`.
pub fn run_chains(settings: &Settings, tally: &Tally, next_chain: impl Fn() -> u64) {
    while !tally.is_over() {
        let number = next_chain();
        let mut chain = Chain::new(settings.seed, number);
        let mut round_number = 0;
        while !tally.is_over() {
            let address = format!("chain={number} round={round_number}");
            match chain.next(settings.operations) {
                Ok(Some(round)) => explore(&round, settings.seed, tally),
                Ok(None) => break,
                Err(violation) => {
                    tally.fail(Failure { message: violation.message, address });
                    break;
                }
            }
            round_number += 1;
        }
    }
}

struct Explorer<'a> {
    round: &'a Round,
    tally: &'a Tally,
    rng: Rng,
    disk: Arc<CowDisk>,
    /// For crashes inside recoveries, one a depth.
    nested: Vec<Arc<CowDisk>>,
}

/// Cuts a round at every I/O, and at its end.
pub fn explore(round: &Round, seed: u64, tally: &Tally) {
    let rng = Rng::new(seed).fork_numbered("explore", round.chain << 16 | round.number);
    let mut explorer = Explorer {
        round,
        tally,
        rng,
        disk: round.disk(),
        nested: (0..MAX_DEPTH).map(|_| round.disk()).collect(),
    };
    tally.rounds.add(1);
    let geometry = round.geometry();
    let mut walker = CutWalker::new(&round.trace, Arc::clone(&round.base), &geometry);
    let points: Vec<usize> = round.trace.io_points().collect();
    tally.io_points.add(points.len() as u64);
    // A round that was begun is finished, so that every point of the run is cut.
    for position in points.iter().copied().chain([round.trace.len()]) {
        let cut = walker.cut_at(position);
        let states = explorer.explore_cut(cut, round.progress(position));
        if states > 0 && position < round.trace.len() {
            tally.io_points_cut.add(1);
        }
    }
}

fn is_garbage(choice: &Choice) -> bool {
    choice.tear.is_some_and(|tear| {
        matches!(
            tear.kind,
            TearKind::Garbage(Fill::Random(_) | Fill::Zeros | Fill::Ones) | TearKind::Block(_)
        )
    })
}

impl Explorer<'_> {
    /// Returns how many states were made.
    fn explore_cut(&mut self, cut: &Cut, progress: Progress) -> u64 {
        let mut states = 0;
        for choice in cut.choices(&SAMPLING, &mut self.rng) {
            if cut.apply(&choice, &self.disk).is_err() {
                continue;
            }
            self.tally.crash_states.add(1);
            states += 1;
            let hash = self.disk.content_hash();
            if !is_garbage(&choice) && self.tally.seen.insert(hash) {
                self.tally.distinct_states.add(1);
            }
            let progress_key = mix(progress.acknowledged as u64 ^ mix(progress.started as u64));
            if !self.tally.judged.insert(hash ^ u128::from(progress_key)) {
                continue;
            }
            let address = Address {
                chain: self.round.chain,
                round: self.round.number,
                choices: vec![choice],
                injury: None,
            };
            if let Err((violation, address)) = self.judge_state(cut, &choice, progress, address) {
                self.tally.fail(Failure { message: violation.message, address: address.to_string() });
                if self.tally.failures().len() >= FAILURE_LIMIT {
                    break;
                }
            }
        }
        states
    }

    fn judge_state(
        &mut self,
        cut: &Cut,
        choice: &Choice,
        progress: Progress,
        address: Address,
    ) -> Result<(), (Violation, Address)> {
        let nest = self.rng.chance(1.0 / 200.0);
        let exercise = self.rng.chance(1.0 / 6.0);
        let injure = self.rng.chance(1.0 / 6.0);
        let steps = {
            let disk = Arc::clone(&self.disk);
            self.judge_recovery(&disk, progress, Damage::None, None, nest, exercise, 0, &address)?
        };
        if injure && steps.is_some() {
            let _ = cut.apply(choice, &self.disk);
            let Some((metadata_bytes, ring)) = places(&self.disk) else { return Ok(()) };
            let injury = Injury::any(metadata_bytes, &mut self.rng);
            // A copy of the superblock that is being replaced is not there; losing the other one is one fault too many.
            let replacing =
                cut.pending_writes().iter().any(|write| write.purpose() == Some(Purpose::Superblock));
            if !(replacing && injury.touches_superblock()) && injury.apply(self.round, &self.disk).is_some() {
                let address = Address { injury: Some(injury), ..address };
                self.tally.damaged_recoveries.add(1);
                let disk = Arc::clone(&self.disk);
                self.judge_recovery(&disk, progress, injury.allows(&ring), None, false, false, 0, &address)?;
            }
        }
        Ok(())
    }

    /// Recovers what is on `disk`; returns how many steps of the history the store holds then.
    #[expect(clippy::too_many_arguments, reason = "one recovery, with all that may be done besides")]
    fn judge_recovery(
        &mut self,
        disk: &Arc<CowDisk>,
        progress: Progress,
        damage: Damage,
        expected_steps: Option<RangeInclusive<usize>>,
        nest: bool,
        exercise: bool,
        depth: u32,
        address: &Address,
    ) -> Result<Option<usize>, (Violation, Address)> {
        let fail = |violation| (violation, address.clone());
        let image = if nest {
            let image = disk.freeze();
            disk.start_recording();
            Some(image)
        } else {
            None
        };
        self.tally.recoveries.add(1);
        if depth > 0 {
            self.tally.nested_recoveries.add(1);
        }
        let device = Arc::clone(disk) as Arc<dyn Device>;
        let (verdict, store) =
            self.round.judge().recover(Arc::clone(&device), progress, damage).map_err(fail)?;
        let (steps, torn) = match verdict {
            Verdict::Recovered { steps, report } => (steps, report.torn_tail),
            Verdict::NotFormatted => return Ok(None),
            Verdict::Refused(_) => {
                self.tally.refusals.add(1);
                return Ok(None);
            }
        };
        if let Some(expected) = expected_steps
            && !expected.contains(&steps)
        {
            let message =
                format!("recovered {steps} steps after a crash in a recovery that had found {expected:?}");
            return Err(fail(Violation { message }));
        }
        if let Some(image) = image {
            let trace = disk.take_trace();
            // A torn group that this recovery drops may be completed by what it writes over it, before it has ended.
            let allowed = steps..=if torn { progress.started } else { steps };
            self.explore_recovery(&trace, &image, progress, &allowed, depth + 1, address)?;
        }
        if exercise && let Some(store) = store {
            self.tally.exercised.add(1);
            self.round.judge().exercise(&store, device, steps).map_err(fail)?;
        }
        Ok(Some(steps))
    }

    /// Cuts a recovery at each of its I/Os; each time the next recovery must come to the same state.
    fn explore_recovery(
        &mut self,
        trace: &crate::disk::Trace,
        image: &Arc<crate::disk::CowBase>,
        progress: Progress,
        steps: &RangeInclusive<usize>,
        depth: u32,
        address: &Address,
    ) -> Result<(), (Violation, Address)> {
        let Some(disk) = self.nested.get(depth as usize - 1).cloned() else { return Ok(()) };
        let geometry = self.round.geometry();
        let mut walker = CutWalker::new(trace, Arc::clone(image), &geometry);
        let points: Vec<usize> = trace.io_points().chain([trace.len()]).collect();
        for position in points {
            let cut = walker.cut_at(position);
            for choice in cut.choices(&NESTED_SAMPLING, &mut self.rng) {
                if cut.apply(&choice, &disk).is_err() {
                    continue;
                }
                self.tally.crash_states.add(1);
                let hash = disk.content_hash();
                if !is_garbage(&choice) {
                    if !self.tally.seen.insert(hash) {
                        continue;
                    }
                    self.tally.distinct_states.add(1);
                }
                let mut address = address.clone();
                address.choices.push(choice);
                let nest = depth < MAX_DEPTH && self.rng.chance(1.0 / 40.0);
                self.judge_recovery(
                    &disk,
                    progress,
                    Damage::None,
                    Some(steps.clone()),
                    nest,
                    false,
                    depth,
                    &address,
                )?;
            }
        }
        Ok(())
    }
}
