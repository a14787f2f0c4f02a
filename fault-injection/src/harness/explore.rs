//! Cutting a run at every I/O, and judging what is left.

use std::ops::{Range, RangeInclusive};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use freehold::device::Device;

use super::address::Address;
use super::judge::Verdict;
use super::run::Run;
use super::subject::{Damage, Probe, Subject};
use super::tally::{Class, Counter, DEPTHS, Tally, phase_of};
use crate::disk::{Choice, CowBase, CowDisk, Cut, CutWalker, Sampling, Trace};
use crate::oracle::{Oracle, Violation, without_panic};
use crate::rng::{Rng, mix};

/// How deep crashes inside recoveries go.
const MAX_DEPTH: usize = DEPTHS - 1;

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// States of each cut.
    pub sampling: Sampling,
    /// States of each cut inside a recovery.
    pub nested: Sampling,
    /// States of each cut deeper inside recoveries than `exhaustive_depth`.
    pub deeper: Sampling,
    /// Recoveries whose depth is below this are all cut.
    pub exhaustive_depth: usize,
    /// Share of the others that are cut, outside recoveries.
    pub nest: f64,
    /// Share of the others that are cut, inside recoveries.
    pub nest_deeper: f64,
    /// Share of the recovered stores that the closer oracles look at.
    pub probe: f64,
    /// Share of the recovered stores that are worked on further.
    pub live_on: f64,
    /// Share of the states that are damaged besides, and recovered again.
    pub injure: f64,
}

impl Policy {
    /// Random campaigns: many histories, each looked at closely enough.
    pub const CAMPAIGN: Self = Self {
        sampling: Sampling { exhaustive: 512, sampled: 24, torn: 6, garbage_blocks: 2 },
        nested: Sampling { exhaustive: 64, sampled: 8, torn: 2, garbage_blocks: 1 },
        deeper: Sampling { exhaustive: 64, sampled: 8, torn: 2, garbage_blocks: 1 },
        exhaustive_depth: 0,
        nest: 1.0 / 40.0,
        nest_deeper: 1.0 / 40.0,
        probe: 1.0 / 80.0,
        live_on: 1.0 / 40.0,
        injure: 1.0 / 10.0,
    };
}

impl Policy {
    /// Stands for all depths at which recoveries are cut alike; less where more is cut.
    fn rank(&self, depth: usize) -> usize {
        let alike_from = self.exhaustive_depth.max(usize::from(self.nest > self.nest_deeper));
        if depth < MAX_DEPTH { depth.min(alike_from) } else { depth }
    }
}

/// Cuts one run.
pub struct Explorer<'a, S: Subject> {
    subject: &'a S,
    run: &'a Run<S>,
    tally: &'a Tally,
    policy: &'a Policy,
    seed: u64,
    address: Address,
    disk: Arc<CowDisk>,
    /// For crashes inside recoveries, one a depth.
    nested: Vec<Arc<CowDisk>>,
    fingerprints: Vec<u64>,
}

/// A recovery, and what may come of it.
#[derive(Clone, Copy)]
struct Case<'a> {
    /// Where the run was cut.
    position: usize,
    damage: Damage,
    /// The steps that the recovery before may have found.
    expected: Option<&'a RangeInclusive<usize>>,
    depth: usize,
    class: Class,
    address: &'a Address,
}

/// A rule that was broken, and where.
type Broken = Box<(Violation, Address)>;

fn broken(violation: Violation, address: &Address) -> Broken {
    Box::new((violation, address.clone()))
}

impl<'a, S: Subject> Explorer<'a, S> {
    /// An explorer of a run, which `address` leads to. What is sampled follows from the seed.
    pub fn new(
        subject: &'a S,
        run: &'a Run<S>,
        address: Address,
        policy: &'a Policy,
        seed: u64,
        tally: &'a Tally,
    ) -> Self {
        let disk = subject.disk().cow(&run.start.base);
        let nested = (0..MAX_DEPTH).map(|_| subject.disk().cow(&run.start.base)).collect();
        let fingerprints = run.history.states().iter().map(|state| subject.fingerprint(state)).collect();
        Self { subject, run, tally, policy, seed, address, disk, nested, fingerprints }
    }

    /// Cuts everywhere, and at the end.
    pub fn explore(&mut self) {
        self.explore_range(0..self.run.trace.len() + 1);
    }

    /// Cuts at every I/O whose position lies in the range; the end of the trace is a position too.
    pub fn explore_range(&mut self, range: Range<usize>) {
        let run = self.run;
        let geometry = self.subject.disk().geometry();
        self.tally.runs.add(1);
        if let Some(violation) = &run.broken {
            self.tally.fail(violation.clone(), Some(self.address.clone()));
        }
        if let Err(violation) = self.subject.watch(run) {
            self.tally.fail(violation, Some(self.address.clone()));
        }
        let mut walker = CutWalker::new(&run.trace, Arc::clone(&run.start.base), &geometry);
        // What was begun is finished, so that every point is cut.
        let points = run.trace.io_points().chain([run.trace.len()]);
        for position in points.filter(|position| range.contains(position)) {
            let states = self.explore_cut(walker.cut_at(position));
            if let Some(phase) = run.trace.events().get(position).and_then(phase_of) {
                let add = |counters: &[Counter], more| {
                    counters.get(phase).into_iter().for_each(|counter| counter.add(more));
                };
                add(&self.tally.io_points, 1);
                add(&self.tally.io_points_cut, u64::from(states > 0));
                add(&self.tally.states_by_phase, states);
            }
        }
    }

    /// Draws that depend on the seed and on an image only. What other threads do, and which images were known, changes
    /// nothing about them.
    #[expect(clippy::cast_possible_truncation, reason = "half of the hash is enough")]
    fn draws(&self, label: &str, content: u128) -> Rng {
        Rng::new(self.seed ^ content as u64).fork(label)
    }

    /// The fingerprints of the states that the history allows.
    fn allowed(&self, steps: &RangeInclusive<usize>) -> &[u64] {
        let (start, end) = (*steps.start(), (*steps.end()).min(self.fingerprints.len().saturating_sub(1)));
        self.fingerprints.get(start..=end).unwrap_or(&[])
    }

    /// Stands for these states.
    fn allowed_key(&self, steps: &RangeInclusive<usize>) -> u64 {
        self.allowed(steps).iter().fold(0, |key, fingerprint| mix(key ^ fingerprint))
    }

    /// Whether an equal image was recovered before, where no less is cut than here, to a state that is allowed here.
    fn is_known(&self, content: u128, depth: usize, steps: &RangeInclusive<usize>) -> bool {
        let known = self.tally.is_known(content, self.policy.rank(depth), self.allowed(steps));
        self.tally.known.add(u64::from(known));
        known
    }

    /// Returns how many states were made.
    fn explore_cut(&mut self, cut: &Cut) -> u64 {
        let exhausted = cut.combinations() <= self.policy.sampling.exhaustive;
        if exhausted { &self.tally.cuts_exhausted } else { &self.tally.cuts_sampled }.add(1);
        let steps = self.run.progress(cut.position()).allowed();
        let allowed = self.allowed_key(&steps);
        let mut states = 0;
        let mut garbage_counted = false;
        let mut rng = Rng::new(self.seed).fork_numbered("cut", cut.position() as u64);
        for choice in cut.choices(&self.policy.sampling, &mut rng) {
            if cut.apply(&choice, &self.disk).is_err() {
                continue;
            }
            let class = Class::of(&choice);
            self.made(class);
            states += 1;
            if self.is_known(self.disk.content_hash(), 0, &steps) {
                continue;
            }
            let address = self.address.with(choice);
            let counts = class != Class::Garbage || !std::mem::replace(&mut garbage_counted, true);
            let case = Case {
                position: cut.position(),
                damage: Damage::None,
                expected: None,
                depth: 0,
                class,
                address: &address,
            };
            // Panics of the store are caught where it is known how deep they are; this is for those of the harness.
            let judged =
                catch_unwind(AssertUnwindSafe(|| self.judge_state(cut, &choice, &case, counts, allowed)));
            let judged = judged.unwrap_or_else(|panic| Err(broken(Violation::panic(&*panic), &address)));
            if let Err(broken) = judged {
                let (violation, address) = *broken;
                self.tally.fail(violation, Some(address));
                if self.tally.is_over() {
                    break;
                }
            }
        }
        states
    }

    fn made(&self, class: Class) {
        self.tally.crash_states.get(class as usize).into_iter().for_each(|counter| counter.add(1));
    }

    fn judge_state(
        &mut self,
        cut: &Cut,
        choice: &Choice,
        case: &Case<'_>,
        counts: bool,
        allowed: u64,
    ) -> Result<(), Broken> {
        let disk = Arc::clone(&self.disk);
        let mut rng = self.draws("injure", disk.content_hash());
        let injury = rng.next_u64();
        let injure = rng.chance(self.policy.injure);
        let recovered = self.judge_recovery(&disk, case, counts, allowed)?;
        if injure && recovered && cut.apply(choice, &disk).is_ok() {
            let address = Address { injury: Some(injury), ..case.address.clone() };
            let injured = without_panic(|| Ok(self.subject.injure(self.run, cut, &disk, injury)))
                .map_err(|violation| broken(violation, &address))?;
            let Some(injured) = injured else { return Ok(()) };
            let case = Case { damage: injured.allows, address: &address, ..*case };
            self.tally.damaged_recoveries.add(1);
            self.judge_recovery(&disk, &case, false, allowed)?;
        }
        Ok(())
    }

    /// Recovers what is on `disk`. Returns whether it holds a store then.
    fn judge_recovery(
        &mut self,
        disk: &Arc<CowDisk>,
        case: &Case<'_>,
        counts: bool,
        allowed: u64,
    ) -> Result<bool, Broken> {
        let undamaged = case.damage == Damage::None;
        let content = disk.content_hash();
        let mut rng = self.draws("look", content);
        let nest = undamaged && case.depth < MAX_DEPTH && {
            let share = if case.depth == 0 { self.policy.nest } else { self.policy.nest_deeper };
            rng.chance(share) || case.depth < self.policy.exhaustive_depth
        };
        let probe = undamaged && rng.chance(self.policy.probe);
        let live_on = undamaged && rng.chance(self.policy.live_on);
        let image = (nest || probe || live_on).then(|| disk.freeze());
        if nest {
            disk.start_recording();
        }
        self.tally.recoveries.add(1);
        self.tally.recoveries_by_depth.get(case.depth).into_iter().for_each(|counter| counter.add(1));
        disk.follow_reads();
        let fail = |violation| broken(violation, case.address);
        let (footprint, (verdict, store)) = without_panic(|| {
            let opened = self.subject.open(Arc::clone(disk) as Arc<dyn Device>);
            let footprint = disk.footprint();
            let judge = self.run.judge(self.subject);
            Ok((footprint, judge.judge(opened, self.run.progress(case.position), case.damage)?))
        })
        .map_err(fail)?;
        if counts {
            self.tally.count_distinct(footprint, case.class);
        }
        let (steps, torn_tail) = match verdict {
            Verdict::Recovered { steps, torn_tail } => {
                if let Some(&fingerprint) = self.fingerprints.get(steps).filter(|_| undamaged) {
                    self.tally.note_found(content, self.policy.rank(case.depth), fingerprint);
                }
                (steps, torn_tail)
            }
            Verdict::NotFormatted => return Ok(false),
            Verdict::Refused(_) => {
                self.tally.refusals.add(1);
                return Ok(false);
            }
            Verdict::Earlier => {
                self.tally.earlier.add(1);
                return Ok(false);
            }
        };
        if let Some(expected) = case.expected
            && !expected.contains(&steps)
        {
            let message =
                format!("recovered {steps} steps after a crash in a recovery that had found {expected:?}");
            return Err(fail(Violation::new(Oracle::Twice, message)));
        }
        let trace = disk.take_trace();
        without_panic(|| {
            if let (Some(image), Some(store)) = (&image, &store) {
                let closer = Probe { run: self.run, image, disk, store, steps, torn_tail };
                if probe {
                    self.tally.probes.add(1);
                    self.subject.probe(&closer)?;
                }
                if live_on {
                    self.tally.lives.add(1);
                    self.subject.live_on(&closer)?;
                }
            }
            drop(store);
            Ok(())
        })
        .map_err(fail)?;
        if nest
            && let Some(image) = image
            && self.tally.enter(footprint, allowed, self.policy.rank(case.depth))
        {
            self.explore_recovery(&trace, &image, steps, torn_tail, case)?;
        }
        Ok(true)
    }

    /// Cuts a recovery at each of its I/Os; each time the next recovery must come to the same state.
    fn explore_recovery(
        &mut self,
        trace: &Trace,
        image: &Arc<CowBase>,
        steps: usize,
        torn_tail: bool,
        outer: &Case<'_>,
    ) -> Result<(), Broken> {
        let Some(disk) = self.nested.get(outer.depth).cloned() else { return Ok(()) };
        let geometry = self.subject.disk().geometry();
        let exhaustive = outer.depth < self.policy.exhaustive_depth;
        let sampling = if exhaustive { &self.policy.nested } else { &self.policy.deeper };
        let before = self.run.progress(outer.position).allowed();
        let allowed_before = outer.expected.unwrap_or(&before);
        let mut rng = self.draws("nest", image.hash());
        let mut walker = CutWalker::new(trace, Arc::clone(image), &geometry);
        for position in trace.io_points().chain([trace.len()]) {
            let at_end = position == trace.len();
            let found =
                self.run.after_crash_in_recovery(outer.position, allowed_before, steps, torn_tail, at_end);
            let allowed = self.allowed_key(&found);
            let cut = walker.cut_at(position);
            let mut garbage_counted = false;
            for choice in cut.choices(sampling, &mut rng) {
                if cut.apply(&choice, &disk).is_err() {
                    continue;
                }
                self.made(Class::Nested);
                if self.is_known(disk.content_hash(), outer.depth + 1, &found) {
                    continue;
                }
                let address = outer.address.with(choice);
                let garbage = Class::of(&choice) == Class::Garbage;
                let counts = !garbage || !std::mem::replace(&mut garbage_counted, true);
                let case = Case {
                    expected: Some(&found),
                    depth: outer.depth + 1,
                    class: Class::Nested,
                    address: &address,
                    ..*outer
                };
                self.judge_recovery(&disk, &case, counts, allowed)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths_at_which_recoveries_are_cut_alike_have_one_rank() {
        let ranks = |policy: Policy| [0, 1, 2, 3, 4, 5].map(|depth| policy.rank(depth));
        assert_eq!(ranks(Policy::CAMPAIGN), [0, 0, 0, 0, 0, 5]);
        assert_eq!(ranks(Policy { nest: 1.0, ..Policy::CAMPAIGN }), [0, 1, 1, 1, 1, 5]);
        assert_eq!(ranks(Policy { exhaustive_depth: 2, ..Policy::CAMPAIGN }), [0, 1, 2, 2, 2, 5]);
    }
}
