//! The fault matrix: every fault of the model, at every I/O point that it applies to, and what became of each case.
//!
//! | file | faults |
//! |---|---|
//! | `power` | F1 to F6: the process dies, power fails |
//! | `formatting` | F7 |
//! | `errors` | F9, F10, F11, F14: calls that fail |
//! | `lies` | F12: flushes that lie |
//! | `transfers` | F13: calls that do less than they are asked for |
//! | `full` | F15: no room |
//! | `rot` | F16 to F19: every bit and byte of the metadata |
//! | `misplaced` | F20 to F22: lost and misdirected I/O |
//! | `strangers` | F23, F24: records that do not belong |
//! | `environment` | F25 to F27: lengths, openers, versions |
//! | `hostile` | F28: images made to harm |
//! | `interleavings` | F29: many tasks in any order |

mod environment;
mod errors;
mod forge;
mod formatting;
mod full;
mod hostile;
mod interleavings;
mod lies;
mod metered;
mod misplaced;
mod page;
mod power;
mod regions;
mod rot;
mod samples;
mod sheet;
mod strangers;
mod transfers;
mod trial;
mod workloads;
mod world;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::harness::Tally;
use crate::kill::{KillOptions, run_kills};
use crate::oracle::Violation;

pub use page::{page, title};
pub use power::cut;
pub use sheet::{Column, FAULTS, FaultNumber, Row, Sheet};
pub use workloads::Recorded;

/// How much is injected.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Everything but kills of real processes follows from it.
    pub seed: u64,
    /// Threads.
    pub jobs: usize,
    /// The faults to inject; all when there is none.
    pub only: Vec<FaultNumber>,
    /// Of the points of each fault, every so manieth is taken.
    pub stride: usize,
    /// Chains whose first two rounds are cut, for each kind of disk.
    pub chains: usize,
    /// Workloads on failing disks, for each kind of disk.
    pub workloads: usize,
    /// Real processes to kill, and the program whose `kill-child` they run.
    pub kills: Option<(u64, PathBuf)>,
}

impl Settings {
    /// The whole matrix.
    #[must_use]
    pub fn whole(seed: u64, jobs: usize) -> Self {
        Self { seed, jobs, only: Vec::new(), stride: 1, chains: 2, workloads: 2, kills: None }
    }

    /// A few points of each fault, for tests.
    #[must_use]
    pub fn brief(seed: u64, stride: usize) -> Self {
        Self { stride, chains: 1, workloads: 1, ..Self::whole(seed, 2) }
    }

    fn is_brief(&self) -> bool {
        self.stride > 1
    }

    /// Whether a fault is to be injected.
    #[must_use]
    pub fn wants(&self, fault: FaultNumber) -> bool {
        self.only.is_empty() || self.only.contains(&fault)
    }
}

/// A part of the matrix that a thread works on.
struct Task {
    faults: Vec<FaultNumber>,
    name: String,
    work: Box<dyn Fn(&mut Sheet) + Send + Sync>,
}

impl Task {
    fn new(faults: &[FaultNumber], name: String, work: impl Fn(&mut Sheet) + Send + Sync + 'static) -> Self {
        Self { faults: faults.to_vec(), name, work: Box::new(work) }
    }
}

/// Injects everything. `report` is told of each part that is done: its name, what it found, how many are done, of how many.
pub fn run(settings: &Settings, report: &(dyn Fn(&str, &Sheet, usize, usize) + Sync)) -> Sheet {
    let recorded = Arc::new(if (1..=12).any(|fault| settings.wants(fault)) {
        workloads::recorded(settings)
    } else {
        Vec::new()
    });
    let loads = workloads::workloads(settings);
    let mut tasks = kill_task(settings);
    tasks.extend(rot::tasks(settings));
    tasks.extend(hostile::tasks(settings));
    tasks.extend(power::tasks(settings, &recorded));
    tasks.extend(formatting::tasks(settings));
    tasks.extend(errors::tasks(settings, &loads));
    tasks.extend(lies::tasks(settings, &recorded));
    tasks.extend(transfers::tasks(settings, &loads));
    tasks.extend(full::tasks(settings, &loads));
    tasks.extend(misplaced::tasks(settings, &loads));
    tasks.extend(strangers::tasks(settings));
    tasks.extend(environment::tasks(settings));
    tasks.extend(interleavings::tasks(settings));
    tasks.retain(|task| task.faults.iter().any(|&fault| settings.wants(fault)));
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let whole = Mutex::new(Sheet::default());
    let work = || {
        while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut sheet = Sheet::default();
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (task.work)(&mut sheet)));
            if let Err(panic) = caught
                && let Some(&fault) = task.faults.first()
            {
                sheet.enter(fault, Column::broken(&Violation::panic(&*panic)), || task.name.clone());
            }
            report(&task.name, &sheet, done.fetch_add(1, Ordering::Relaxed) + 1, tasks.len());
            whole.lock().unwrap_or_else(PoisonError::into_inner).add(sheet);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..settings.jobs.max(1) {
            scope.spawn(work);
        }
    });
    whole.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// F1 on real processes.
fn kill_task(settings: &Settings) -> Vec<Task> {
    let Some((kills, program)) = settings.kills.clone() else { return Vec::new() };
    let seed = settings.seed;
    vec![Task::new(&[1], "real processes killed".to_owned(), move |sheet| {
        let tally = Tally::new(std::time::Duration::from_secs(600));
        run_kills(&KillOptions { program: program.clone(), seed, kills }, &tally);
        for failure in tally.failures() {
            sheet.enter(1, Column::broken(&failure.violation), || format!("crashtest kill --seed {seed}"));
        }
        sheet.apart(1, "real processes killed", tally.kills.get());
        for _ in tally.failures().len() as u64..tally.kills.get() {
            sheet.enter(1, Column::Recovered, String::new);
        }
    })]
}
