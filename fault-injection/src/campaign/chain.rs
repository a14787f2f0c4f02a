//! Chains: a store is formatted and worked on; the next round begins from one of the crash states of the last. So
//! histories grow over crashes, dropped tails and recoveries.

use std::sync::Arc;

use freehold::device::{Device, DeviceGeometry};

use crate::disk::{Choice, CowBase, CowDisk, CutWalker, Event, SimDisk, Trace};
use crate::rng::Rng;
use crate::subject::judge::{Damage, Judge, Verdict, Violation};
use crate::subject::model::{Entry, History, Progress};
use crate::subject::workload::{Shape, Workload};

/// Rounds of a chain before the next one begins from nothing.
pub const ROUNDS_PER_CHAIN: u64 = 12;

/// A workload that was run, ready to be cut.
pub struct Round {
    /// Which chain of the campaign.
    pub chain: u64,
    /// Which round of the chain.
    pub number: u64,
    /// The store's shape.
    pub shape: Shape,
    /// The image before.
    pub base: Arc<CowBase>,
    /// What the disk saw.
    pub trace: Trace,
    /// What was done.
    pub history: History,
    /// How far the history had come, by position in the trace.
    progress: Vec<Progress>,
}

impl Round {
    /// How far the history had come when the event at `position` was in flight.
    #[must_use]
    pub fn progress(&self, position: usize) -> Progress {
        self.progress.get(position).or(self.progress.last()).copied().unwrap_or_default()
    }

    /// The disk's geometry.
    #[must_use]
    pub fn geometry(&self) -> DeviceGeometry {
        DeviceGeometry {
            len_bytes: self.shape.device_bytes,
            sector_bytes: self.shape.sector_bytes,
            physical_block_bytes: self.shape.physical_block_bytes,
        }
    }

    /// The judge of this round's states.
    #[must_use]
    pub fn judge(&self) -> Judge<'_> {
        Judge { history: &self.history, page_bytes: self.shape.page_bytes }
    }

    /// A disk to put states on.
    #[must_use]
    pub fn disk(&self) -> Arc<CowDisk> {
        Arc::new(CowDisk::new(
            Arc::clone(&self.base),
            self.shape.sector_bytes,
            self.shape.physical_block_bytes,
        ))
    }
}

/// A chain of rounds. The same seed and number give the same rounds, whatever is explored in between.
pub struct Chain {
    rng: Rng,
    number: u64,
    next_round: u64,
    shape: Shape,
    base: Arc<CowBase>,
    history: History,
    next_tag: u64,
}

impl Chain {
    /// Chain `number` of the campaign with this seed.
    #[must_use]
    pub fn new(seed: u64, number: u64) -> Self {
        let rng = Rng::new(seed).fork_numbered("chain", number);
        let shape = Shape::any(&mut rng.fork("shape"));
        let zeros: Arc<[u8]> = vec![0; usize::try_from(shape.device_bytes).unwrap_or(0)].into();
        Self {
            rng,
            number,
            next_round: 0,
            shape,
            base: Arc::new(CowBase::new(zeros, 512)),
            history: History::from(crate::subject::model::State::default()),
            next_tag: 0,
        }
    }

    /// Runs the next workload of `operations` operations; none after the last round.
    pub fn next(&mut self, operations: usize) -> Result<Option<Round>, Violation> {
        if self.next_round >= ROUNDS_PER_CHAIN {
            return Ok(None);
        }
        let number = self.next_round;
        self.next_round += 1;
        let rng = self.rng.fork_numbered("round", number);
        let disk = Arc::new(SimDisk::new(
            Arc::clone(&self.base),
            self.shape.sector_bytes,
            self.shape.physical_block_bytes,
        ));
        let history = std::mem::take(&mut self.history);
        let mut workload =
            Workload::begin(Arc::clone(&disk), self.shape, rng.fork("work"), history, self.next_tag);
        if number == 0 {
            workload.format()?;
        }
        workload.run(operations, rng.fork("fail").chance(0.2))?;
        self.next_tag = workload.next_tag() + 64;
        let history = std::mem::take(&mut workload.history);
        drop(workload);
        let trace = disk.trace();
        let round = Round {
            chain: self.number,
            number,
            shape: self.shape,
            base: Arc::clone(&self.base),
            progress: progress_by_position(&trace),
            trace,
            history,
        };
        self.go_on_from(&round, rng.fork("next"))?;
        Ok(Some(round))
    }

    /// Chooses the crash state that the next round begins from.
    fn go_on_from(&mut self, round: &Round, mut rng: Rng) -> Result<(), Violation> {
        let disk = round.disk();
        let geometry = round.geometry();
        let mut walker = CutWalker::new(&round.trace, Arc::clone(&round.base), &geometry);
        for _ in 0..16 {
            let position = round.trace.len() - rng.index(1 + round.trace.len() / 4);
            let progress = round.progress(position);
            let cut = walker.cut_at(position);
            let torn = if rng.chance(0.3) { cut.torn_sector(&mut rng) } else { None };
            let choice: Choice = torn.unwrap_or_else(|| cut.choice(crate::disk::Keep::Seed(rng.next_u64())));
            let under_way = round.history.entries.get(progress.acknowledged..progress.started);
            if under_way.is_none_or(|steps| steps.iter().any(|step| matches!(step, Entry::Overwrite { .. })))
            {
                continue;
            }
            if cut.apply(&choice, &disk).is_err() {
                continue;
            }
            let image = disk.freeze();
            let judged = round.judge().recover(Arc::clone(&disk) as Arc<dyn Device>, progress, Damage::None);
            if let Ok((Verdict::Recovered { steps, .. }, _)) = judged
                && let Some(state) = round.history.states.get(steps)
            {
                self.base = image;
                self.history = History::from(state.clone());
                return Ok(());
            }
        }
        // Nothing suitable (or a violation, which exploring will find): the chain ends.
        self.next_round = ROUNDS_PER_CHAIN;
        Ok(())
    }
}

fn progress_by_position(trace: &Trace) -> Vec<Progress> {
    let mut progress = Progress::default();
    let mut by_position = Vec::with_capacity(trace.len() + 1);
    for event in trace.events() {
        by_position.push(progress);
        if let Event::Mark(mark) = event {
            progress.observe(*mark);
        }
    }
    by_position.push(progress);
    by_position
}
