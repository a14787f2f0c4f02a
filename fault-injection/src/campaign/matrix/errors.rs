//! F9, F10, F11, F14: calls of the device that fail.
//!
//! A failed write or flush of the journal or a checkpoint stops the store: nothing is acknowledged, nothing is written
//! any more, and opening again recovers. Any other failure is an error of the call that it met.

use std::sync::Arc;

use freehold::Error;
use freehold::device::Device;
use freehold::error::IoOperation;

use super::sheet::{Column, FaultNumber, Sheet};
use super::trial::Trial;
use super::workloads::{Workload, progress_at};
use super::world::{Stop, World};
use super::{Settings, Task};
use crate::disk::{CutWalker, ErrorCode, Fault, FaultPlan, IoCounts, IoKind, Keep, When};
use crate::executor;
use crate::harness::Subject as _;
use crate::rng::mix;

/// A way of failing: which calls, what they answer, and what it is called.
type Way = (&'static str, fn(u64) -> FaultPlan);

const EIO: Fault = Fault::Fail(ErrorCode::Io);
const ENOSPC: Fault = Fault::Fail(ErrorCode::NoSpace);

fn write(nth: u64) -> When {
    When::kind(IoKind::Write).nth(nth)
}

fn partly(written_bytes: u64) -> Fault {
    Fault::FailAfter { code: ErrorCode::Io, written_bytes }
}

const WRITES: &[Way] = &[
    ("write {} fails once", |nth| FaultPlan::one(write(nth), EIO)),
    ("write {} and all after it fail", |nth| FaultPlan::one(write(nth).for_ever(), EIO)),
    ("write {} fails after 512 bytes", |nth| FaultPlan::one(write(nth), partly(512))),
    ("write {} fails after 4000 bytes", |nth| FaultPlan::one(write(nth), partly(4000))),
];
const READS: &[Way] = &[("read {} fails once", |nth| FaultPlan::one(When::kind(IoKind::Read).nth(nth), EIO))];
const FLUSHES: &[Way] =
    &[("flush {} fails once", |nth| FaultPlan::one(When::kind(IoKind::Flush).nth(nth), EIO))];
const FULL_WRITES: &[Way] = &[
    ("write {} finds no space, once", |nth| FaultPlan::one(write(nth), ENOSPC)),
    ("write {} and all after it find no space", |nth| FaultPlan::one(write(nth).for_ever(), ENOSPC)),
];
const PREALLOCATIONS: &[Way] = &[("preallocation {} finds no space", |nth| {
    FaultPlan::one(When::kind(IoKind::Preallocate).nth(nth), ENOSPC)
})];

/// Fault, ways, and how many calls of their kind there are.
type Group = (FaultNumber, &'static [Way], fn(&IoCounts) -> u64);

const GROUPS: &[Group] = &[
    (9, WRITES, |counts| counts.writes),
    (10, READS, |counts| counts.reads),
    (11, FLUSHES, |counts| counts.flushes),
    (14, FULL_WRITES, |counts| counts.writes),
    (14, PREALLOCATIONS, |counts| counts.preallocations),
];

pub(super) fn tasks(settings: &Settings, loads: &[Arc<Workload>]) -> Vec<Task> {
    let mut tasks = Vec::new();
    for load in loads {
        for &(fault, ways, calls) in GROUPS {
            let (load, stride) = (Arc::clone(load), settings.stride);
            let name = format!("F{fault}: failing calls in workload {}", load.number);
            tasks.push(Task::new(&[fault], name, move |sheet| {
                if let Err(why) = inject(&load, fault, ways, calls, stride, sheet) {
                    sheet.enter(fault, Column::Silent(why), || format!("workload {}", load.number));
                }
            }));
        }
    }
    tasks
}

fn world(load: &Workload, fault: FaultNumber) -> World {
    let world = World::blank(load.subject);
    // Reads are many only when little is kept.
    if fault == 10 { world.forgetful() } else { world }
}

fn inject(
    load: &Workload,
    fault: FaultNumber,
    ways: &[Way],
    calls: fn(&IoCounts) -> u64,
    stride: usize,
    sheet: &mut Sheet,
) -> Result<(), String> {
    let mut looks = Ok(());
    let clean = load.run_clean(world(load, fault), |world, stage| {
        if fault == 10 && stage > 0 && looks.is_ok() {
            looks = world.look();
        }
    })?;
    looks.map_err(|stop| format!("without any fault, listing failed: {stop:?}"))?;
    let all = calls(&clean.disk().counts());
    for (name, plan) in ways {
        for nth in (0..all).step_by(stride) {
            let mut case = Case { load, fault, world: world(load, fault), column: Column::Survived };
            case.world.disk().set_faults(plan(nth));
            let column = case.run();
            // A call that is no longer made has met nothing.
            if let Some(column) = column {
                sheet.enter(fault, column, || {
                    format!("workload {}, {}", load.number, name.replace("{}", &nth.to_string()))
                });
            }
        }
    }
    Ok(())
}

struct Case<'a> {
    load: &'a Workload,
    fault: FaultNumber,
    world: World,
    column: Column,
}

impl Case<'_> {
    /// Goes through the workload. None when nothing was injected.
    fn run(&mut self) -> Option<Column> {
        let mut fired = false;
        for stage in 0..self.load.stages() {
            let outcome = self.load.stage(&mut self.world, stage);
            let done = self.stopped(outcome, stage, &mut fired).and_then(|()| self.notice(stage, &mut fired));
            let done = done.and_then(|()| {
                if self.fault != 10 || stage == 0 {
                    return Ok(());
                }
                // Listing and reading are calls too, and work the second time.
                match self.world.look() {
                    Err(Stop::Error(error)) => {
                        fired = true;
                        self.is_expected(&error)?;
                        self.column = Column::Detected;
                        self.world.look().map_err(|stop| format!("listing again failed: {stop:?}"))
                    }
                    Err(Stop::Broken(violation)) => Err(violation.to_string()),
                    Ok(()) => Ok(()),
                }
            });
            if let Err(why) = done {
                return Some(Column::Silent(format!("{}: {why}", self.load.stage_name(stage))));
            }
        }
        if !fired {
            return None;
        }
        if let Err(why) = self.at_the_end() {
            return Some(Column::Silent(format!("at the end: {why}")));
        }
        Some(self.column.clone())
    }

    fn stopped(&mut self, outcome: Result<(), Stop>, stage: usize, fired: &mut bool) -> Result<(), String> {
        match outcome {
            Ok(()) => Ok(()),
            Err(Stop::Broken(violation)) => Err(violation.to_string()),
            Err(Stop::Error(error)) => {
                let plan = self.world.disk().set_faults(FaultPlan::none());
                *fired |= plan.fired() > 0;
                self.is_expected(&error)?;
                if self.fault == 10 { self.after_failed_read(stage) } else { self.after_error(stage) }
            }
        }
    }

    /// Whether this is what a caller should be told.
    fn is_expected(&self, error: &Error) -> Result<(), String> {
        let cause = match error {
            Error::Poisoned { cause } | Error::OutcomeUnknown { cause } if self.fault != 10 => cause,
            other => other,
        };
        let right = match cause {
            Error::Io { operation, .. } => match self.fault {
                9 => matches!(operation, IoOperation::Write | IoOperation::Flush),
                10 => *operation == IoOperation::Read,
                11 => *operation == IoOperation::Flush,
                _ => matches!(operation, IoOperation::Write | IoOperation::Preallocate),
            },
            Error::Poisoned { cause } => matches!(**cause, Error::Io { .. }),
            _ => false,
        };
        if right { Ok(()) } else { Err(format!("the caller was told: {error}")) }
    }

    /// A failed read is an error of its call only: the same call works the second time.
    fn after_failed_read(&mut self, stage: usize) -> Result<(), String> {
        self.column = self.column.clone().and(Column::Detected);
        self.load.stage(&mut self.world, stage).map_err(|stop| format!("the second time: {stop:?}"))
    }

    fn after_error(&mut self, stage: usize) -> Result<(), String> {
        let at = self.world.disk().position();
        if self.world.session.store.is_some() && self.goes_on()? {
            // An error of that call, which changed nothing.
            self.column = self.column.clone().and(Column::Detected);
            return self
                .world
                .settle()
                .map_err(|stop| format!("after an error that changed nothing: {stop:?}"));
        }
        self.recover(stage, at)
    }

    /// Opens again what was stopped, or could not be opened, when the trace had come to `at`.
    fn recover(&mut self, stage: usize, at: usize) -> Result<(), String> {
        self.world.session.store = None;
        self.as_it_is()?;
        if stage == 0 {
            self.column = self.column.clone().and(Column::Detected);
            return self.world.format().map_err(|stop| format!("formatting again: {stop:?}"));
        }
        self.column = Column::Recovered;
        self.world.open().map_err(|stop| format!("opening again: {stop:?}"))?;
        self.world.settle().map_err(|stop| format!("after opening again: {stop:?}"))?;
        // Power may fail while the store is opened again, too.
        self.cut_everywhere(at)
    }

    /// Whether the store works. When it does not, it must not touch the device any more.
    fn goes_on(&mut self) -> Result<bool, String> {
        let store = self.world.store().map_err(|stop| format!("{stop:?}"))?;
        let stuck = |stuck: executor::Stuck| stuck.to_string();
        let counts = self.world.disk().counts();
        let stopped = executor::run(store.sync_data()).map_err(stuck)?.is_err();
        if !stopped && executor::run(store.checkpoint()).map_err(stuck)?.is_ok() {
            return Ok(true);
        }
        let attempts = async {
            let mut transaction = store.begin();
            let committed = match transaction.alloc(1).await {
                Ok(_) => transaction.commit().await.is_ok(),
                Err(_) => false,
            };
            committed
                || store.checkpoint().await.is_ok()
                || store.maintain().await.is_ok()
                || store.close().await.is_ok()
        };
        if executor::run(attempts).map_err(stuck)? {
            return Err("a stopped store went on".to_owned());
        }
        drop(store);
        self.world.session.store = None;
        let now = self.world.disk().counts();
        if (now.writes, now.flushes) != (counts.writes, counts.flushes) {
            return Err("a stopped store went on writing".to_owned());
        }
        Ok(false)
    }

    /// The process dies now, or power fails and takes what was not flushed.
    fn as_it_is(&self) -> Result<(), String> {
        for base in [self.world.disk().freeze(), self.world.disk().freeze_durable()] {
            let disk = self.load.subject.disk().cow(&base);
            if let Column::Silent(why) = self.world.trial().recovered(disk as Arc<dyn Device>) {
                return Err(why);
            }
        }
        Ok(())
    }

    /// What a power cut leaves from here on: all that was not flushed, nothing of it, and some of it.
    fn cut_everywhere(&self, from: usize) -> Result<(), String> {
        let subject = self.load.subject;
        let (trace, base) = (self.world.disk().trace(), self.world.disk().base());
        let disk = subject.disk().cow(&base);
        let mut walker = CutWalker::new(&trace, base, &subject.disk().geometry());
        let positions = trace.io_points().filter(|&position| position >= from).chain([trace.len()]);
        for position in positions {
            let progress = progress_at(trace.events(), position);
            let trial = Trial { subject: &subject, history: self.world.history(), progress };
            let cut = walker.cut_at(position);
            for keep in
                [Keep::All, Keep::None, Keep::Seed(mix(position as u64)), Keep::Seed(mix(!(position as u64)))]
            {
                let choice = cut.choice(keep);
                cut.apply(&choice, &disk).map_err(|error| error.to_string())?;
                if let Column::Silent(why) = trial.recovered(Arc::clone(&disk) as Arc<dyn Device>) {
                    return Err(format!("power cut at event {position}, {choice}: {why}"));
                }
            }
        }
        Ok(())
    }

    /// A fault that no call has told of must have stopped the store: a checkpoint that was made by the way, say.
    fn notice(&mut self, stage: usize, fired: &mut bool) -> Result<(), String> {
        if self.fault == 10 || *fired || self.world.disk().faults_fired() == 0 {
            return Ok(());
        }
        *fired = true;
        self.world.disk().set_faults(FaultPlan::none());
        if self.goes_on()? {
            return Err("a failed call was told to nobody".to_owned());
        }
        self.recover(stage, self.world.disk().position())
    }

    fn at_the_end(&mut self) -> Result<(), String> {
        self.world.session.store = None;
        self.as_it_is()?;
        self.world.open().map_err(|stop| format!("opening: {stop:?}"))?;
        self.world.settle().map_err(|stop| format!("{stop:?}"))
    }
}
