//! Random campaigns: chains of workloads. The next round of a chain begins from one of the crash states of the last, so
//! histories grow over crashes, dropped tails and recoveries.

use std::sync::Arc;

use freehold::device::Device;

use crate::disk::{Choice, CutWalker, Keep};
use crate::harness::{
    Address, Damage, DiskShape, Explorer, Policy, Run, Source, Start, Subject, Tally, Verdict, run,
};
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
}

impl<S: Subject> Chain<S> {
    /// Chain `number` of the campaign with this seed. The subject is made by `make`, from a generator of its own.
    #[must_use]
    pub fn new(seed: u64, number: u64, make: impl Fn(&mut Rng) -> S) -> Self {
        let rng = Rng::new(seed).fork_numbered("chain", number);
        let subject = make(&mut rng.fork("shape"));
        let start = Start { base: subject.disk().blank(), state: None, serial: 64 };
        Self { subject, rng, next_round: 0, start }
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
        let (round, _) = run(&self.subject, &self.start, &operations);
        self.go_on_from(&round, rng.fork("next"));
        Some(round)
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
            let judged = round.judge(&self.subject).recover(device, progress, Damage::None);
            if let Ok((Verdict::Recovered { steps, .. }, _)) = judged
                && let Some(state) = round.history.state(steps)
            {
                self.start = Start { base: image, state: Some(state.clone()), serial: round.serial };
                return;
            }
        }
        // Nothing suitable (or a violation, which exploring will find): the chain ends.
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
