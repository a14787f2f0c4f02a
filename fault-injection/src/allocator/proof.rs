//! An oracle that has never rejected anything is not yet an oracle: each gets a bait in every run, and must refuse it.

use std::future::pending;
use std::sync::{Arc, PoisonError};

use freehold::device::Device;

use super::operation::Operation;
use super::plan::{Plan, Request};
use super::probe::{agrees, changes_only_what_it_may};
use super::{Shape, Subject, compare, open};
use crate::disk::{CutWalker, ErrorCode, Event, Fault, FaultPlan, IoKind, Keep, Trace, When};
use crate::executor;
use crate::harness::{Damage, Judge, Probe, Refusal, Run, Session, Start, Subject as _, run};
use crate::oracle::{Oracle, Violation};

/// What an oracle said to its bait.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The oracle.
    pub oracle: Oracle,
    /// What it was given, in words.
    pub bait: &'static str,
    /// Whether it refused the bait, by itself and by nobody else's word.
    pub rejected: bool,
}

/// Gives every oracle something to reject.
#[must_use]
pub fn prove_oracles() -> Vec<Proof> {
    let subject = Subject { shape: Shape::TINY };
    let blank = Start { base: subject.disk().blank(), state: None, serial: 64 };
    let cells = Plan { cells: vec![[0, 0, 1]], alloc: vec![(Request::Pages(2), vec![1])], ..Plan::default() };
    let frees = Plan { free: vec![0], alloc: vec![(Request::Pages(1), Vec::new())], ..Plan::default() };
    let operations = [Plan::allocating(1), Plan::allocating(3), cells.clone(), frees, cells];
    let operations: Vec<Operation> =
        operations.map(|plan| Operation::Transact(vec![plan])).into_iter().collect();
    let (good, _) = run(&subject, &blank, &operations);
    let prover = Prover { subject, good };
    Oracle::ALL
        .iter()
        .map(|&oracle| {
            let (bait, outcome) = prover.bait(oracle);
            let rejected = matches!(outcome, Err(Refusal::Broken(violation)) if violation.oracle == oracle);
            Proof { oracle, bait, rejected }
        })
        .collect()
}

struct Prover {
    subject: Subject,
    good: Run<Subject>,
}

type Outcome = Result<(), Refusal>;

impl Prover {
    fn bait(&self, oracle: Oracle) -> (&'static str, Outcome) {
        match oracle {
            Oracle::Model => ("a history with an extent too few", self.forgotten_extent()),
            Oracle::Payload => ("a page with one bit flipped", self.flipped_page()),
            Oracle::Recount => ("a list with an extent left out", self.short_list()),
            Oracle::Checker => ("a model with an extent that raw bytes do not have", self.foreign_extent()),
            Oracle::WriteAhead => ("a trace without its flushes", self.without_flushes()),
            Oracle::Twin => ("the twin of a shorter history", self.shorter_twin()),
            Oracle::Twice => ("a recovery that changed a free page", self.touched_page()),
            Oracle::FreshLoad => ("a memory from before the last transactions", self.old_memory()),
            Oracle::SecondLife => ("a disk that takes no more writes", self.read_only_life()),
            Oracle::Awaits => {
                ("a future that is never ready", Ok(executor::run(pending::<()>())).and_then(stuck))
            }
            Oracle::Conduct => {
                ("a transaction that fails without a fault being told", self.unexpected_failure())
            }
            Oracle::Refusal => {
                ("superblocks that are garbage after a mere power cut", self.garbage_superblocks())
            }
        }
    }

    /// The state at the end of the run, on a disk.
    fn end(&self) -> Arc<crate::disk::CowDisk> {
        let geometry = self.subject.disk().geometry();
        let disk = self.subject.disk().cow(&self.good.start.base);
        let mut walker = CutWalker::new(&self.good.trace, Arc::clone(&self.good.start.base), &geometry);
        let cut = walker.cut_at(self.good.trace.len());
        // It cannot fail: the choice is the cut's own. If it did, the baits would not be refused.
        let _ = cut.apply(&cut.choice(Keep::All), &disk);
        disk
    }

    fn judge(
        &self,
        history: &crate::harness::History<super::model::State>,
        disk: &Arc<crate::disk::CowDisk>,
    ) -> Outcome {
        let judge = Judge { subject: &self.subject, history };
        let device = Arc::clone(disk) as Arc<dyn Device>;
        judge.recover(device, self.good.progress(self.good.trace.len()), Damage::None)?;
        Ok(())
    }

    fn forgotten_extent(&self) -> Outcome {
        let mut history = self.good.history.clone();
        for state in history.states_mut() {
            state.extents.pop_first();
        }
        self.judge(&history, &self.end())
    }

    fn flipped_page(&self) -> Outcome {
        let disk = self.end();
        let first = self.good.history.last().and_then(|state| state.infos().next());
        if let Some(info) = first {
            let mut byte = [0];
            let _ = disk.read_at(info.extent.offset + 1000, &mut byte);
            let _ = disk.poke(info.extent.offset + 1000, &byte.map(|byte| byte ^ 1));
        }
        self.judge(&self.good.history, &disk)
    }

    fn short_list(&self) -> Outcome {
        let opened = open(self.end())?;
        let extents: Vec<_> =
            self.good.history.last().map(|state| state.infos().skip(1).collect()).unwrap_or_default();
        compare::check_counters(&opened.store.allocator, &extents)
    }

    fn foreign_extent(&self) -> Outcome {
        let picture = self.subject.picture("at the end", &self.end().freeze())?;
        let before = self.good.history.states().iter().rev().nth(1);
        let extents: Vec<_> = before.map(|state| state.infos().collect()).unwrap_or_default();
        Ok(agrees("at the end", &picture, &extents)?)
    }

    fn without_flushes(&self) -> Outcome {
        let mut trace = Trace::default();
        let kept = self.good.begins.first().copied().unwrap_or(0);
        for (at, event) in self.good.trace.events().iter().enumerate() {
            if at < kept || *event != Event::Flush {
                trace.push(event.clone());
            }
        }
        Ok(self.subject.order_of_writes(&self.good.start.base, &trace)?)
    }

    fn shorter_twin(&self) -> Outcome {
        let picture = self.subject.picture("at the end", &self.end().freeze())?;
        let steps = self.good.steps_at.get(2).copied().unwrap_or(0);
        let outcome = self.subject.is_like_its_twin(&self.good, steps, &picture);
        self.good.memo.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(outcome?)
    }

    fn touched_page(&self) -> Outcome {
        let disk = self.end();
        let before = disk.freeze();
        let picture = self.subject.picture("before", &before)?;
        let _ = disk.poke(self.subject.disk().len_bytes - 1, &[1]);
        let after = disk.freeze();
        Ok(changes_only_what_it_may(&picture, &before, &self.subject.picture("after", &after)?, &after)?)
    }

    fn old_memory(&self) -> Outcome {
        let disk = self.end();
        let formatted = self.good.begins.first().copied().unwrap_or(0);
        let geometry = self.subject.disk().geometry();
        let old = self.subject.disk().cow(&self.good.start.base);
        let mut walker = CutWalker::new(&self.good.trace, Arc::clone(&self.good.start.base), &geometry);
        let cut = walker.cut_at(formatted);
        let _ = cut.apply(&cut.choice(Keep::All), &old);
        let memory = open(old)?;
        Ok(self.subject.is_like_a_fresh_load(&memory.store.allocator, &disk)?)
    }

    fn read_only_life(&self) -> Outcome {
        let disk = self.end();
        let image = disk.freeze();
        let opened = open(Arc::clone(&disk) as Arc<dyn Device>)?;
        disk.set_read_only(true);
        let steps = self.good.history.steps().len();
        let (run, store) = (&self.good, &opened.store);
        let probe = Probe { run, image: &image, disk: &disk, store, steps, torn_tail: false };
        Ok(self.subject.live_on(&probe)?)
    }

    fn unexpected_failure(&self) -> Outcome {
        let state = self.good.history.last().cloned();
        let start = Start { base: self.end().freeze(), state, serial: self.good.serial };
        let mut session = Session::new(&self.subject, &start);
        session.reopen(&self.subject)?;
        session.disk().set_faults(FaultPlan::one(When::kind(IoKind::Flush), Fault::Fail(ErrorCode::Io)));
        let operation = Operation::Transact(vec![Plan::allocating(1)]);
        Ok(self.subject.apply(&mut session, &operation)?)
    }

    fn garbage_superblocks(&self) -> Outcome {
        let disk = self.end();
        let mut bytes = vec![0; 16 << 10];
        let _ = disk.read_at(0, &mut bytes);
        // The magic stays: there is a store, and it is broken.
        bytes.iter_mut().skip(8).step_by(7).for_each(|byte| *byte ^= 0xff);
        let _ = disk.poke(0, &bytes);
        self.judge(&self.good.history, &disk)
    }
}

fn stuck(result: Result<(), executor::Stuck>) -> Outcome {
    Ok(result.map_err(Violation::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_oracle_rejects_its_bait() {
        for proof in prove_oracles() {
            assert!(proof.rejected, "{proof:?}");
        }
    }

    #[test]
    fn what_the_baits_are_made_of_is_good() {
        let subject = Subject { shape: Shape::TINY };
        let blank = Start { base: subject.disk().blank(), state: None, serial: 64 };
        let operations = vec![Operation::Transact(vec![Plan::allocating(1)]); 3];
        let (good, _) = run(&subject, &blank, &operations);
        assert_eq!(good.broken, None);
        let prover = Prover { subject, good };
        assert_eq!(prover.judge(&prover.good.history, &prover.end()), Ok(()));
        let trace = prover.good.trace.clone();
        assert_eq!(subject.order_of_writes(&prover.good.start.base, &trace), Ok(()));
    }
}
