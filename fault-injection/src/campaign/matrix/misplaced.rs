//! F20 to F22: writes that are lost or go elsewhere, and reads that are answered from elsewhere.
//!
//! The store cannot notice while it runs; what it finds when it is opened again must be right, or be refused. What nobody
//! can tell, and the format says so: groups at the very end of the journal that are gone without a trace. They are
//! counted apart, and only those may be missing that the fault has hit, with nothing valid behind them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use freehold::Error;
use freehold::device::{Device, Purpose};

use super::metered::Metered;
use super::samples::{Ending, Sample};
use super::sheet::{Column, FaultNumber, Sheet};
use super::trial::{Judged, judge_hit, vanishable};
use super::workloads::Workload;
use super::world::{Stop, World};
use super::{Settings, Task};
use crate::disk::{CowBase, Event, Fault, FaultPlan, IoKind, When};
use crate::executor;
use crate::harness::Subject as _;
use crate::rng::Rng;

const OLDER_BYTES: &str =
    "older bytes in a caller's page, after a write of one superblock copy fell on the other";
const BLOCK: u64 = 4096;
/// Places that each write is sent to.
const TARGETS: usize = 6;

pub(super) fn tasks(settings: &Settings, loads: &[Arc<Workload>]) -> Vec<Task> {
    let mut tasks = Vec::new();
    for load in loads {
        for fault in [20, 21] {
            let (load, settings) = (Arc::clone(load), settings.clone());
            tasks.push(Task::new(
                &[fault],
                format!("F{fault}: writes of workload {}", load.number),
                move |sheet| {
                    if let Err(why) = writes(&load, fault, &settings, sheet) {
                        sheet.enter(fault, Column::Silent(why), || format!("workload {}", load.number));
                    }
                },
            ));
        }
    }
    for ending in Ending::ALL {
        let stride = settings.stride;
        tasks.push(Task::new(&[22], format!("F22: reads of a store {}", ending.name()), move |sheet| {
            if let Err(why) = reads(ending, stride, sheet) {
                sheet.enter(22, Column::Silent(why), || ending.name().to_owned());
            }
        }));
    }
    tasks
}

/// A write of the workload, on a disk without faults.
struct Write {
    /// The stage that it belongs to.
    stage: usize,
    range: Range<u64>,
    purpose: Purpose,
}

/// What the workload does without faults: its writes, and the disk after each stage.
struct Clean {
    writes: Vec<Write>,
    images: Vec<Arc<CowBase>>,
    /// The disk at the end when the store is not opened again after a stage.
    later: BTreeMap<usize, Arc<CowBase>>,
    metadata_bytes: u64,
}

impl Clean {
    fn of(load: &Workload) -> Result<Self, String> {
        let (mut ends, mut images) = (Vec::new(), Vec::new());
        let world = load.run_clean(World::blank(load.subject), |world, _| {
            ends.push(world.disk().position());
            images.push(world.disk().freeze());
        })?;
        let store = world.store().map_err(|stop| format!("{stop:?}"))?;
        let trace = world.disk().trace();
        let writes = trace.events().iter().enumerate().filter_map(|(position, event)| match event {
            Event::Write { offset, data, purpose } => Some(Write {
                stage: ends.partition_point(|&end| end <= position),
                range: *offset..*offset + data.len() as u64,
                purpose: *purpose,
            }),
            _ => None,
        });
        let writes: Vec<Write> = writes.collect();
        let mut later = BTreeMap::new();
        for Write { stage, .. } in &writes {
            if !later.contains_key(stage) {
                let mut world = World::blank(load.subject);
                for stage in Look::KilledLater.stages(load, *stage) {
                    load.stage(&mut world, stage).map_err(|stop| format!("{stop:?}"))?;
                }
                later.insert(*stage, world.disk().freeze());
            }
        }
        Ok(Self { writes, images, later, metadata_bytes: store.layout().data_offset() })
    }
}

/// When the store is looked at again, and how it was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// The process dies after the operation.
    Killed,
    /// The store is closed after the operation.
    Closed,
    /// The process dies at the end of the workload.
    KilledLater,
    /// The store is closed at the end of the workload.
    ClosedLater,
}

impl Look {
    /// The stages that a workload goes through: all up to the one with the fault, and later perhaps those behind it
    /// that do not open the store again.
    fn stages(self, load: &Workload, fault_at: usize) -> Vec<usize> {
        let later = matches!(self, Self::KilledLater | Self::ClosedLater);
        let goes_on = |stage: &usize| *stage <= fault_at.max(1) || (later && !load.opens(*stage));
        (0..load.stages()).filter(goes_on).collect()
    }
}

const LOOKS: [Look; 4] = [Look::Killed, Look::Closed, Look::KilledLater, Look::ClosedLater];

fn writes(load: &Workload, fault: FaultNumber, settings: &Settings, sheet: &mut Sheet) -> Result<(), String> {
    let clean = Clean::of(load)?;
    let mut rng = Rng::new(settings.seed).fork_numbered("misdirect", load.number as u64);
    for (nth, write) in clean.writes.iter().enumerate().step_by(settings.stride.min(40)) {
        let when = || When::kind(IoKind::Write).nth(nth as u64);
        let len = write.range.end - write.range.start;
        let faults: Vec<(FaultPlan, Vec<Range<u64>>, String)> = if fault == 20 {
            vec![(FaultPlan::one(when(), Fault::LostWrite), vec![write.range.clone()], "lost".to_owned())]
        } else {
            let blocks = usize::try_from(clean.metadata_bytes / BLOCK).unwrap_or(0);
            let targets = rng.sample(blocks, TARGETS).into_iter().map(|block| block as u64 * BLOCK);
            // Into the metadata, all of it: what falls on the caller's pages is the caller's to check.
            let others = targets.filter(|to| *to != write.range.start && to + len <= clean.metadata_bytes);
            others
                .map(|to| {
                    let plan = FaultPlan::one(when(), Fault::MisdirectedWrite { to });
                    (plan, vec![write.range.clone(), to..to + len], format!("sent to {to}"))
                })
                .collect()
        };
        for (plan, hit, what) in faults {
            for look in LOOKS {
                let case = Case { load, clean: &clean, write, hit: &hit, look };
                let (column, weaker) = case.run(plan.clone());
                weaker.iter().for_each(|name| sheet.apart(fault, name, 1));
                sheet.enter(fault, column, || {
                    let Write { range, purpose, .. } = write;
                    format!("workload {}, write {nth} ({range:?}, {purpose:?}) {what}, {look:?}", load.number)
                });
            }
        }
    }
    Ok(())
}

struct Case<'a> {
    load: &'a Workload,
    clean: &'a Clean,
    write: &'a Write,
    hit: &'a [Range<u64>],
    look: Look,
}

impl Case<'_> {
    /// Returns what became of it, and in which way it is weaker than promised.
    fn run(&self, plan: FaultPlan) -> Judged {
        let mut world = World::blank(self.load.subject);
        world.disk().set_faults(plan);
        for stage in self.look.stages(self.load, self.write.stage) {
            match self.load.stage(&mut world, stage) {
                Ok(()) => {}
                Err(Stop::Error(error)) => return (refused(&error), None),
                Err(Stop::Broken(violation)) => return (Column::broken(&violation), None),
            }
        }
        if matches!(self.look, Look::Closed | Look::ClosedLater)
            && let Some(live) = &world.session.store
        {
            match executor::run(live.allocator.close()) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return (refused(&error), None),
                Err(stuck) => return (Column::Silent(stuck.to_string()), None),
            }
        }
        world.session.store = None;
        let subject = self.load.subject;
        // What may be gone is seen on the disk as it would be without the fault.
        let before = match self.look {
            Look::Killed | Look::Closed => self.clean.images.get(self.write.stage.max(1)),
            Look::KilledLater | Look::ClosedLater => self.clean.later.get(&self.write.stage),
        };
        let vanishable = before.map_or(0, |image| vanishable(&subject.disk().cow(image), self.hit));
        let image = world.disk().freeze();
        let device = || subject.disk().cow(&image) as Arc<dyn Device>;
        let trial = world.trial();
        // Bytes that were to go into the caller's pages are the caller's to check.
        let callers = matches!(self.write.purpose, Purpose::CallerDirect | Purpose::CallerCheckpoint);
        let judged = judge_hit(&trial, callers, device(), vanishable);
        if self.hits_both_superblocks() && matches!(judged.0, Column::Silent(_)) {
            // The superblock before the last is all that is left. It leads to the same extents, or the store is refused;
            // but bytes that were checkpointed and then written over directly may come out of the journal again.
            let (column, _) = judge_hit(&trial, true, device(), vanishable);
            return (column, Some(OLDER_BYTES));
        }
        judged
    }

    /// Whether a write that was to replace one copy of the superblock destroyed the other one.
    fn hits_both_superblocks(&self) -> bool {
        let copy = |range: &Range<u64>| [0, 2 * BLOCK].iter().any(|copy| range.contains(copy));
        self.write.purpose == Purpose::Superblock && self.hit.iter().filter(|range| copy(range)).count() > 1
    }
}

/// A call that was refused must say that something is damaged.
fn refused(error: &Error) -> Column {
    match error {
        Error::NotFreehold { .. } => Column::Detected,
        error if error.is_corruption() => Column::Detected,
        Error::Poisoned { cause } | Error::OutcomeUnknown { cause } => refused(cause),
        error => Column::Silent(format!("the caller was told: {error}")),
    }
}

/// F22: each read of opening and listing is answered from each other block of the metadata.
fn reads(ending: Ending, stride: usize, sheet: &mut Sheet) -> Result<(), String> {
    let sample = Sample::usual(ending)?;
    let disk = sample.disk();
    let recording = Arc::new(Metered::recording(Arc::clone(&disk)));
    let opened =
        sample.trial().judge(Arc::clone(&recording) as Arc<dyn Device>, crate::harness::Damage::None);
    opened.map_err(|violation| violation.to_string())?;
    let end = super::regions::Regions::of(&sample.disk())?.places.len() as u64;
    // Reads of the caller's pages are the judge's.
    let places = recording.places().into_iter().enumerate().filter(|(_, (offset, _))| *offset < end);
    for (nth, (offset, len)) in places {
        sheet.apart(22, "reads", 1);
        disk.reset();
        let vanishable = vanishable(&disk, std::slice::from_ref(&(offset..offset + len)));
        for from in
            (0..end / BLOCK).map(|block| block * BLOCK).filter(|from| *from != offset).step_by(stride.min(5))
        {
            disk.reset();
            let device = Arc::new(Metered::misdirecting(Arc::clone(&disk), nth as u64, from));
            let (column, weaker) = judge_hit(&sample.trial(), false, device, vanishable);
            weaker.iter().for_each(|name| sheet.apart(22, name, 1));
            sheet.enter(22, column, || {
                format!("store {}, read {nth} ({len} bytes at {offset}) answered from {from}", ending.name())
            });
        }
    }
    Ok(())
}
