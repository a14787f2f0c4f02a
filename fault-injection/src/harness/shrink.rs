//! The shortest history that still fails.
//!
//! Operations are left out, in halves first and then one by one, as long as what is left still breaks the same rule
//! (delta debugging: A. Zeller, R. Hildebrandt, "Simplifying and isolating failure-inducing input", 2002). Each attempt is
//! cut at every I/O again, because the failing instant moves with the history.

use std::time::{Duration, Instant};

use super::address::Address;
use super::explore::{Explorer, Policy};
use super::run::{Run, Start, run};
use super::subject::Subject;
use super::tally::Tally;
use crate::disk::Sampling;
use crate::oracle::{Oracle, Violation};

/// A shorter history that fails alike.
pub struct Shrunk<S: Subject> {
    /// The history.
    pub run: Run<S>,
    /// The failing state.
    pub address: Address,
    /// The rule that is broken.
    pub violation: Violation,
}

/// Shortens the history of a failure that `address` leads to, for at most `limit`. None when the failure is not found
/// again by cutting the run anew.
pub fn shrink<S: Subject>(
    subject: &S,
    failing: &Run<S>,
    address: &Address,
    violation: &Violation,
    limit: Duration,
) -> Option<Shrunk<S>> {
    let all: Vec<usize> = (0..failing.operations.len()).collect();
    let shrinker =
        Shrinker { subject, failing, address, oracle: violation.oracle, deadline: Instant::now() + limit };
    // A blank disk makes the shortest stories.
    let (fresh, mut best) = match shrinker.attempt(&all, true) {
        Some(found) => (true, found),
        None => (address.fresh, shrinker.attempt(&all, address.fresh)?),
    };
    let mut kept = all;
    // The failing instant may lie before the last operations.
    let mut size = kept.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < kept.len() {
            let mut fewer = kept.clone();
            fewer.drain(at..(at + size).min(kept.len()));
            match shrinker.attempt(&fewer, fresh) {
                Some(found) => {
                    best = found;
                    kept = fewer;
                }
                None => at += size,
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    Some(best)
}

struct Shrinker<'a, S: Subject> {
    subject: &'a S,
    failing: &'a Run<S>,
    address: &'a Address,
    oracle: Oracle,
    deadline: Instant,
}

impl<S: Subject> Shrinker<'_, S> {
    /// Thorough where the failure was.
    fn policy(&self) -> Policy {
        let share = |wanted: bool| if wanted { 1.0 } else { 0.0 };
        let nested = self.address.choices.len().saturating_sub(1);
        let closer =
            matches!(self.oracle, Oracle::Checker | Oracle::Twin | Oracle::Twice | Oracle::FreshLoad);
        Policy {
            sampling: Sampling { exhaustive: 256, sampled: 32, torn: 12, garbage_blocks: 2 },
            nested: Sampling { exhaustive: 64, sampled: 8, torn: 2, garbage_blocks: 1 },
            deeper: Sampling { exhaustive: 64, sampled: 8, torn: 2, garbage_blocks: 1 },
            exhaustive_depth: nested,
            nest: 0.0,
            nest_deeper: 0.0,
            probe: share(closer),
            live_on: share(self.oracle == Oracle::SecondLife),
            injure: share(self.address.injury.is_some()),
        }
    }

    fn attempt(&self, kept: &[usize], fresh: bool) -> Option<Shrunk<S>> {
        let left = self.deadline.checked_duration_since(Instant::now())?;
        let numbers: Vec<usize> = match &self.address.kept {
            Some(before) => kept.iter().filter_map(|&at| before.get(at).copied()).collect(),
            None => kept.to_vec(),
        };
        let operations: Vec<S::Operation> =
            kept.iter().filter_map(|&at| self.failing.operations.get(at).cloned()).collect();
        let (run, _) = if fresh {
            let start = Start { base: self.subject.disk().blank(), state: None, serial: 0 };
            run(self.subject, &start, &operations)
        } else {
            self.failing.again(self.subject, &operations)
        };
        let address = Address { kept: Some(numbers), fresh, ..Address::of(self.address.source.clone()) };
        let tally = Tally::new(left).wanting(self.oracle);
        // Several seeds: what is sampled may miss a rare state.
        for seed in 0..4 {
            Explorer::new(self.subject, &run, address.clone(), &self.policy(), seed, &tally).explore();
            let failures = tally.failures();
            let simplest = failures.into_iter().min_by_key(|failure| {
                failure.address.as_ref().map_or(usize::MAX, |address| address.to_string().len())
            });
            if let Some(failure) = simplest {
                let address = failure.address?;
                return Some(Shrunk { run, address, violation: failure.violation });
            }
        }
        None
    }
}
