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

impl<T: Clone> Start<T> {
    pub(super) fn history<S: Subject<State = T>>(&self, subject: &S) -> History<T> {
        match &self.state {
            Some(state) => History::from(state.clone()),
            None => History::unformatted(subject.blank()),
        }
    }
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
    instants: Vec<Instant>,
}

/// What holds at a position of a trace.
#[derive(Clone, Copy, Debug, Default)]
struct Instant {
    progress: Progress,
    /// What was found last may have been in a cache only, and no opening has come to its end since.
    unsettled: bool,
}

impl<S: Subject> Run<S> {
    fn instant(&self, position: usize) -> Instant {
        self.instants.get(position).or(self.instants.last()).copied().unwrap_or_default()
    }

    /// Runs operations from the same beginning.
    pub fn again(&self, subject: &S, operations: &[S::Operation]) -> (Self, Rest<S>) {
        run_on(subject, &self.start, self.history.beginning(), operations)
    }

    /// The steps that may be found after a crash in a recovery that had found `steps` of the ones that were allowed, after
    /// a power cut at `position`.
    ///
    /// A recovery that came to its end has settled it. Before that nobody has seen what it found: a torn group that it
    /// drops may be completed by what it writes over it. After a failed flush a group may have been in a cache only; what
    /// an opening writes in its place is gone when the superblock that refers to it is torn, and is there again when
    /// another write over that superblock, torn too, puts the old bytes right.
    #[must_use]
    pub fn after_crash_in_recovery(
        &self,
        position: usize,
        allowed: &RangeInclusive<usize>,
        steps: usize,
        torn_tail: bool,
        came_to_its_end: bool,
    ) -> RangeInclusive<usize> {
        let unsettled = self.instant(position).unsettled;
        let may_be_less = unsettled && !came_to_its_end;
        let may_be_more = (unsettled || torn_tail) && !came_to_its_end;
        let lowest = if may_be_less { *allowed.start() } else { steps };
        lowest..=if may_be_more { *allowed.end() } else { steps }
    }

    /// The history that goes on from a crash at `position` in which a recovery finds `steps`. That recovery runs on a copy
    /// of the disk: on the disk itself nothing is settled.
    #[must_use]
    pub fn left_by_crash(&self, position: usize, steps: usize, torn_tail: bool) -> Option<History<S::State>> {
        let allowed = self.progress(position).allowed();
        let others = self.after_crash_in_recovery(position, &allowed, steps, torn_tail, false);
        let others = others.filter(|&other| other != steps).filter_map(|other| self.history.state(other));
        let history = History::unsettled(others.cloned().collect(), self.history.state(steps)?.clone());
        let earlier = self.history.earlier().iter().chain(self.history.states().iter().take(steps));
        Some(history.after(earlier.cloned()))
    }

    /// How far the history had come when the event at `position` was in flight.
    #[must_use]
    pub fn progress(&self, position: usize) -> Progress {
        self.instant(position).progress
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
    run_on(subject, start, start.history(subject), operations)
}

/// As [`run`], and the history begins like this.
pub fn run_on<S: Subject>(
    subject: &S,
    start: &Start<S::State>,
    beginning: History<S::State>,
    operations: &[S::Operation],
) -> (Run<S>, Rest<S>) {
    let mut session = Session::with_history(subject, start, beginning);
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
        instants: instants(&trace, &history),
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

/// What holds at each position of a trace, and at its end.
fn instants<T: Clone>(trace: &Trace, history: &History<T>) -> Vec<Instant> {
    let left_open = history.opened_at();
    let progress = Progress { acknowledged: 0, started: left_open };
    let mut now = Instant { progress, unsettled: left_open > 0 };
    let mut instants = Vec::with_capacity(trace.len() + 1);
    for event in trace.events() {
        instants.push(now);
        match event {
            Event::Mark(mark) => now.progress.observe(*mark),
            Event::FailedFlush => now.unsettled = true,
            Event::Opened => {
                now.progress.acknowledged = now.progress.acknowledged.max(left_open);
                now.unsettled = false;
            }
            _ => {}
        }
    }
    instants.push(now);
    // An operation may begin more steps than come of it. Their numbers then go to steps of later operations, of which
    // nothing may be found before those begin.
    let mut come = usize::MAX;
    for (instant, event) in instants.iter_mut().zip(trace.events()).rev() {
        if let Event::Mark(mark) = event {
            come = Progress::acknowledged_by(*mark).unwrap_or(come);
        }
        instant.progress.started = instant.progress.started.min(come);
    }
    instants
}
