//! Running operations on a simulated disk.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use super::history::{History, Progress, Step};
use super::judge::Judge;
use super::session::Session;
use super::subject::Subject;
use crate::disk::{CowBase, Event, SimDisk, Trace};
use crate::oracle::Violation;

/// What a run begins with.
#[derive(Clone, Debug)]
pub struct Start<T> {
    /// The disk's content.
    pub base: Arc<CowBase>,
    /// The state of the store on it; none when there is no store yet.
    pub state: Option<T>,
    /// The first number that was never given out.
    pub serial: u64,
}

/// Operations that were run, ready to be cut.
pub struct Run<S: Subject> {
    /// What it began with.
    pub start: Start<S::State>,
    /// The operations.
    pub operations: Vec<S::Operation>,
    /// Position in the trace at which each operation begins. What comes before the first is formatting and opening.
    pub begins: Vec<usize>,
    /// What the disk saw.
    pub trace: Trace,
    /// What was done.
    pub history: History<S::State>,
    /// The first number that was not given out.
    pub serial: u64,
    /// A rule that was broken without any crash; the operations end there.
    pub broken: Option<Violation>,
    /// For each operation, how many steps there were when it began; and how many there were in the end.
    pub steps_at: Vec<usize>,
    /// For the subject's own use: what is costly to find out, by number of operations.
    pub memo: Mutex<BTreeMap<usize, u128>>,
    progress: Vec<Progress>,
    flush_failed: bool,
}

impl<S: Subject> Run<S> {
    /// The steps that may be found after a crash in a recovery that had found `steps`. A recovery that came to its end
    /// has settled it. Before that nobody has seen what it found: a torn group that it drops may be completed by what it
    /// writes over it, and after a failed flush a group may have been in a cache only.
    #[must_use]
    pub fn after_crash_in_recovery(
        &self,
        steps: usize,
        torn_tail: bool,
        came_to_its_end: bool,
        progress: Progress,
    ) -> RangeInclusive<usize> {
        if came_to_its_end {
            return steps..=steps;
        }
        let lowest = if self.flush_failed { progress.acknowledged.min(steps) } else { steps };
        lowest..=if torn_tail { progress.started } else { steps }
    }

    /// How far the history had come when the event at `position` was in flight.
    #[must_use]
    pub fn progress(&self, position: usize) -> Progress {
        self.progress.get(position).or(self.progress.last()).copied().unwrap_or_default()
    }

    /// The judge of this run's states.
    #[must_use]
    pub const fn judge<'a>(&'a self, subject: &'a S) -> Judge<'a, S> {
        Judge { subject, history: &self.history }
    }

    /// Which operation the event at a position belongs to; none for formatting and opening.
    #[must_use]
    pub fn operation_at(&self, position: usize) -> Option<(usize, &S::Operation)> {
        let after = self.begins.partition_point(|&begin| begin <= position);
        let at = after.checked_sub(1)?;
        self.operations.get(at).map(|operation| (at, operation))
    }
}

/// What is left of a run besides its record.
pub struct Rest<S: Subject> {
    /// The store, if it is open.
    pub store: Option<S::Store>,
    /// The disk.
    pub disk: Arc<SimDisk>,
}

/// Formats if there is no store yet, opens, and applies the operations.
pub fn run<S: Subject>(
    subject: &S,
    start: &Start<S::State>,
    operations: &[S::Operation],
) -> (Run<S>, Rest<S>) {
    let mut session = Session::new(subject, start);
    let mut begins = Vec::with_capacity(operations.len());
    let mut steps_at = Vec::with_capacity(operations.len() + 1);
    let driven = catch_unwind(AssertUnwindSafe(|| {
        drive(subject, &mut session, operations, &mut begins, &mut steps_at)
    }));
    let outcome = driven.unwrap_or_else(|panic| Err(Violation::panic(&*panic)));
    let done = begins.len();
    let disk = Arc::clone(session.disk());
    let trace = disk.trace();
    let (history, serial, store) = session.into_parts();
    let run = Run {
        start: start.clone(),
        operations: operations.iter().take(done).cloned().collect(),
        begins,
        steps_at,
        memo: Mutex::default(),
        progress: progress_by_position(&trace),
        flush_failed: trace.events().contains(&Event::FailedFlush),
        trace,
        history,
        serial,
        broken: outcome.err(),
    };
    (run, Rest { store, disk })
}

fn drive<S: Subject>(
    subject: &S,
    session: &mut Session<S>,
    operations: &[S::Operation],
    begins: &mut Vec<usize>,
    steps_at: &mut Vec<usize>,
) -> Result<(), Violation> {
    if !session.history().begins_formatted() {
        session.begin(1);
        subject.format(session.device())?;
        let state = session.state()?.clone();
        session.push(Step { text: "format".to_owned(), journaled: false }, state);
        session.acknowledge();
    }
    session.reopen(subject)?;
    for operation in operations {
        begins.push(session.disk().position());
        steps_at.push(session.history().steps().len());
        session.disk().annotate(Event::Label(operation.to_string().into()));
        if session.store.is_none() {
            session.reopen(subject)?;
        }
        subject.apply(session, operation)?;
    }
    steps_at.push(session.history().steps().len());
    Ok(())
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
