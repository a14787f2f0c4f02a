//! Random campaigns: chains of workloads. The next round of a chain begins from one of the crash states of the last, so
//! histories grow over crashes, dropped tails and recoveries.

use std::sync::Arc;

use freehold::device::Device;

use crate::disk::{Choice, CutWalker, Keep};
use crate::harness::{
    Address, Damage, DiskShape, Explorer, History, Policy, Run, Source, Start, Subject, Tally, Verdict,
    run_on,
};
use crate::oracle::{Violation, without_panic};
use crate::rng::Rng;

/// Rounds of a chain before the next one begins from nothing.
pub const ROUNDS_PER_CHAIN: u64 = 12;
/// Operations of one workload.
pub const OPERATIONS: usize = 14;

/// What a campaign follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Seed of everything.
    pub seed: u64,
    /// Operations of each workload.
    pub operations: usize,
}

/// A chain of rounds. The same seed and number give the same rounds, whatever is explored in between.
pub struct Chain<S: Subject> {
    subject: S,
    rng: Rng,
    next_round: u64,
    start: Start<S::State>,
    history: History<S::State>,
    /// Rules that were broken in crash states that the next round might have begun from.
    broken: Vec<(Violation, Choice)>,
}

impl<S: Subject> Chain<S> {
    /// Chain `number` of the campaign with this seed. The subject is made by `make`, from a generator of its own.
    #[must_use]
    pub fn new(seed: u64, number: u64, make: impl Fn(&mut Rng) -> S) -> Self {
        let rng = Rng::new(seed).fork_numbered("chain", number);
        let subject = make(&mut rng.fork("shape"));
        let start = Start { base: subject.disk().blank(), state: None, serial: 64 };
        let history = History::unformatted(subject.blank());
        Self { subject, rng, next_round: 0, start, history, broken: Vec::new() }
    }

    /// The store under test.
    #[must_use]
    pub const fn subject(&self) -> &S {
        &self.subject
    }

    /// Runs the next workload of so many operations; none after the last round.
    pub fn next(&mut self, operations: usize) -> Option<Run<S>> {
        if self.next_round >= ROUNDS_PER_CHAIN {
            return None;
        }
        let rng = self.rng.fork_numbered("round", self.next_round);
        self.next_round += 1;
        let mut draw = rng.fork("work");
        let operations: Vec<S::Operation> =
            (0..operations).map(|_| self.subject.any_operation(&mut draw)).collect();
        let (round, _) = run_on(&self.subject, &self.start, self.history.clone(), &operations);
        self.go_on_from(&round, rng.fork("next"));
        Some(round)
    }

    /// The rules that were broken in looking for the crash state that the next round begins from, and which cut of the last
    /// round leads there.
    #[must_use]
    pub fn take_broken(&mut self) -> Vec<(Violation, Choice)> {
        std::mem::take(&mut self.broken)
    }

    /// Chooses the crash state that the next round begins from.
    fn go_on_from(&mut self, round: &Run<S>, mut rng: Rng) {
        let shape: DiskShape = self.subject.disk();
        let disk = shape.cow(&round.start.base);
        let geometry = shape.geometry();
        let mut walker = CutWalker::new(&round.trace, Arc::clone(&round.start.base), &geometry);
        for _ in 0..16 {
            let position = round.trace.len() - rng.index(1 + round.trace.len() / 4);
            let progress = round.progress(position);
            let cut = walker.cut_at(position);
            let torn = if rng.chance(0.3) { cut.torn_sector(&mut rng) } else { None };
            let choice: Choice = torn.unwrap_or_else(|| cut.choice(Keep::Seed(rng.next_u64())));
            if cut.apply(&choice, &disk).is_err() {
                continue;
            }
            let image = disk.freeze();
            let device = Arc::clone(&disk) as Arc<dyn Device>;
            let judge = round.judge(&self.subject);
            let judged = without_panic(|| Ok(judge.recover(device, progress, Damage::None)?.0));
            let verdict = match judged {
                Ok(verdict) => verdict,
                Err(violation) => {
                    self.broken.push((violation, choice));
                    continue;
                }
            };
            if let Verdict::Recovered { steps, torn_tail } = verdict
                && let Some(history) = round.left_by_crash(position, steps, torn_tail)
            {
                self.start = Start { base: image, state: history.last().cloned(), serial: round.serial };
                self.history = history;
                return;
            }
        }
        // Nothing suitable: the chain ends.
        self.next_round = ROUNDS_PER_CHAIN;
    }
}

/// Runs chains until the campaign is over. Chain numbers come from `next_chain`.
pub fn run_chains<S: Subject>(
    settings: &Settings,
    policy: &Policy,
    tally: &Tally,
    make: impl Fn(&mut Rng) -> S,
    next_chain: impl Fn() -> u64,
) {
    while !tally.is_over() {
        let number = next_chain();
        let mut chain = Chain::new(settings.seed, number, &make);
        let mut round_number = 0;
        while !tally.is_over() {
            let Some(round) = chain.next(settings.operations) else { break };
            let address = Address::of(Source::Chain { chain: number, round: round_number });
            let explored = Rng::new(settings.seed).fork_numbered("explore", number << 16 | round_number);
            tally.operations.add(round.operations.len() as u64);
            for (violation, choice) in chain.take_broken() {
                tally.fail(violation, Some(address.with(choice)));
            }
            Explorer::new(chain.subject(), &round, address, policy, explored.seed(), tally).explore();
            round_number += 1;
        }
    }
}

/// The whole round that an address leads into, with its subject; none for an address of no round of a chain. The
/// settings and `make` are those of the campaign.
pub fn retrace<S: Subject>(
    settings: &Settings,
    address: &Address,
    make: impl Fn(&mut Rng) -> S,
) -> Option<(S, Run<S>)> {
    let Source::Chain { chain, round } = address.source else { return None };
    let mut chain = Chain::new(settings.seed, chain, make);
    let mut runs = std::iter::from_fn(|| chain.next(settings.operations));
    let run = runs.nth(usize::try_from(round).ok()?)?;
    Some((chain.subject, run))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;
    use crate::allocator::{self, Operation, Plan, Shape};
    use crate::disk::{CowBase, ErrorCode, Event, Sampling};
    use crate::harness::run;

    const SAMPLING: Sampling = Sampling { exhaustive: 16, sampled: 4, torn: 6, garbage_blocks: 2 };
    const POLICY: Policy = Policy {
        sampling: SAMPLING,
        nested: SAMPLING,
        exhaustive_depth: 1,
        nest_deeper: 0.0,
        probe: 0.0,
        live_on: 0.0,
        injure: 0.0,
        ..Policy::CAMPAIGN
    };

    /// A flush fails, so only a cache has the last group. The opening after that writes it again and is cut off between
    /// the copies of the superblock: the newer one has the group, the older one does not.
    #[test]
    fn a_round_may_lose_what_no_opening_on_its_disk_has_settled() {
        let subject = allocator::Subject { shape: Shape::TINY };
        let start = Start { base: subject.disk().blank(), state: None, serial: 64 };
        let plan = Plan { free: vec![0], ..Plan::allocating(1) };
        let failing = Operation::Fail { plan, nth: 1, flushes: true, code: ErrorCode::Io, for_ever: false };
        let (before, _) = run(&subject, &start, &[Operation::Transact(vec![Plan::allocating(1)]), failing]);
        assert_eq!(before.broken, None);
        let (images, mut lost) = (left_open(&subject, &before), 0);
        for (base, history) in images {
            let start = Start { base, state: history.last().cloned(), serial: before.serial };
            let (round, _) = run_on(&subject, &start, history, &[]);
            let all = round.history.steps().len();
            assert_eq!(round.progress(round.trace.len()).acknowledged, all);
            // A recovery that came to its end settles it, also inside others.
            assert_eq!(round.after_crash_in_recovery(0, &(0..=all), all, false, true), all..=all);
            assert_eq!(round.after_crash_in_recovery(0, &(all..=all), all, true, false), all..=all);
            let tally = Tally::new(Duration::from_secs(60));
            let address = Address::of(Source::Sequence(Vec::new()));
            Explorer::new(&subject, &round, address, &POLICY, 1, &tally).explore();
            assert!(tally.failures().is_empty(), "{:?}", tally.failures());
            lost += recovered(&subject, &round).iter().filter(|found| found.steps < all).count();
        }
        assert!(lost > 0, "no crash in an opening lost what the opening had found");
    }

    struct Found {
        position: usize,
        image: Arc<CowBase>,
        steps: usize,
        torn_tail: bool,
    }

    /// Crash states, and what a recovery finds in each.
    fn recovered(subject: &allocator::Subject, run: &Run<allocator::Subject>) -> Vec<Found> {
        let shape = subject.disk();
        let disk = shape.cow(&run.start.base);
        let mut walker = CutWalker::new(&run.trace, Arc::clone(&run.start.base), &shape.geometry());
        let (mut found, mut rng) = (Vec::new(), Rng::new(1));
        for position in run.trace.io_points() {
            let cut = walker.cut_at(position);
            for choice in cut.choices(&SAMPLING, &mut rng) {
                cut.apply(&choice, &disk).unwrap();
                let image = disk.freeze();
                let device = Arc::clone(&disk) as Arc<dyn Device>;
                let judged = run.judge(subject).recover(device, run.progress(position), Damage::None);
                if let (Verdict::Recovered { steps, torn_tail }, _) = judged.unwrap() {
                    found.push(Found { position, image, steps, torn_tail });
                }
            }
        }
        found
    }

    /// Crash states of the opening after the failure that hold more than was acknowledged, and how they go on.
    fn left_open(
        subject: &allocator::Subject,
        run: &Run<allocator::Subject>,
    ) -> Vec<(Arc<CowBase>, History<allocator::model::State>)> {
        let events = run.trace.events();
        let failed = events.iter().position(|event| *event == Event::FailedFlush).unwrap();
        let (mut known, mut open) = (HashSet::new(), Vec::new());
        for Found { position, image, steps, torn_tail } in recovered(subject, run) {
            let is_open = position > failed && steps > run.progress(position).acknowledged;
            if is_open && known.insert(image.hash()) {
                open.push((image, run.left_by_crash(position, steps, torn_tail).unwrap()));
            }
        }
        open
    }
}
