//! F1 to F6: the process dies, or power fails, at every I/O point of the recorded runs.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use freehold::device::Device;

use super::sheet::{Column, FaultNumber, Sheet};
use super::trial::Trial;
use super::workloads::Recorded;
use super::{Settings, Task};
use crate::disk::{Choice, CowDisk, Cut, CutWalker, Event, Fill, Keep, Sampling, Tear, TearKind};
use crate::harness::{Counter, Explorer, Policy, Subject as _, Tally};
use crate::rng::Rng;

/// All subsets of the sectors of a cut are tried if there are no more than this.
const SUBSETS: u64 = 256;
/// Sectors of a write of which all subsets are tried, and those that are damaged of a longer one.
const SECTORS: usize = 8;

pub(super) fn tasks(settings: &Settings, recorded: &Arc<Vec<Recorded>>) -> Vec<Task> {
    let mut tasks = Vec::new();
    for at in 0..recorded.len() {
        let (runs, setting) = (Arc::clone(recorded), settings.clone());
        tasks.push(Task::new(&[1, 2, 3, 4, 5], format!("power cuts in run {at}"), move |sheet| {
            if let Some(recorded) = runs.get(at) {
                cut(recorded, &setting, sheet);
            }
        }));
        let (runs, setting) = (Arc::clone(recorded), settings.clone());
        tasks.push(Task::new(&[6], format!("crashes in recoveries of run {at}"), move |sheet| {
            if let Some(recorded) = runs.get(at) {
                cut_recoveries(recorded, &setting, sheet);
            }
        }));
    }
    tasks
}

/// One run under the knife.
struct Cutter<'a> {
    recorded: &'a Recorded,
    seed: u64,
    disk: Arc<CowDisk>,
    /// States of this cut that were judged for this fault.
    seen: HashSet<u128>,
    sheet: &'a mut Sheet,
}

/// Cuts a run at every I/O point, for F1 to F5.
pub fn cut(recorded: &Recorded, settings: &Settings, sheet: &mut Sheet) {
    let Recorded { subject, run, address } = recorded;
    if let Some(violation) = &run.broken {
        sheet.enter(1, Column::broken(violation), || address.to_string());
    }
    let geometry = subject.disk().geometry();
    let mut walker = CutWalker::new(&run.trace, Arc::clone(&run.start.base), &geometry);
    let mut rng = Rng::new(settings.seed).fork(&format!("power {address}"));
    let disk = subject.disk().cow(&run.start.base);
    let mut cutter = Cutter { recorded, seed: settings.seed, disk, seen: HashSet::new(), sheet };
    for position in run.trace.io_points().chain([run.trace.len()]).step_by(settings.stride) {
        let cut = walker.cut_at(position);
        let last = cut.pending_writes().len() as u64;
        cutter.sheet.apart(1, "I/O points", 1);
        cutter.seen.clear();
        for keep in [Keep::All, Keep::First(last.saturating_sub(1))] {
            cutter.judge(1, cut, cut.choice(keep));
        }
        cutter.seen.clear();
        for choice in cut.prefixes() {
            cutter.judge(2, cut, choice);
        }
        cutter.seen.clear();
        cutter.sheet.apart(
            3,
            "cuts of which every subset was tried",
            u64::from(cut.combinations() <= SUBSETS),
        );
        cutter.sheet.apart(3, "cuts that were sampled", u64::from(cut.combinations() > SUBSETS));
        for choice in cut.subsets(SUBSETS, 32, &mut rng) {
            cutter.judge(3, cut, choice);
        }
        if let Some(Event::Write { offset, data, .. }) = run.trace.events().get(position) {
            cutter.tear_between_sectors(cut, *offset, data, &mut rng);
            cutter.tear_inside_sectors(cut, *offset, data.len(), &mut rng);
        }
    }
}

impl Cutter<'_> {
    fn judge(&mut self, fault: FaultNumber, cut: &Cut, choice: Choice) {
        if cut.apply(&choice, &self.disk).is_ok() {
            let (address, seed) = (self.recorded.address.with(choice), self.seed);
            self.judge_disk(fault, cut, || format!("crashtest replay --seed {seed} '{address}'"));
        }
    }

    /// Judges what is on the disk, unless that was done.
    fn judge_disk(&mut self, fault: FaultNumber, cut: &Cut, describe: impl FnOnce() -> String) {
        if !self.seen.insert(self.disk.content_hash()) {
            return;
        }
        let Recorded { subject, run, .. } = self.recorded;
        let progress = run.progress(cut.position());
        let trial = Trial { subject, history: &run.history, progress };
        let column = match trial.recovered(Arc::clone(&self.disk) as Arc<dyn Device>) {
            // There may be no store yet: formatting is what power failed in.
            Column::Detected => Column::Recovered,
            column => column,
        };
        self.sheet.enter(fault, column, describe);
    }

    /// F4: any subset of the sectors of the write in flight, with all or nothing of what is pending besides.
    fn tear_between_sectors(&mut self, cut: &Cut, offset: u64, data: &[u8], rng: &mut Rng) {
        let sector = self.recorded.subject.shape.disk.sector_bytes as usize;
        let sectors = data.len().div_ceil(sector);
        if sectors < 2 {
            return;
        }
        self.seen.clear();
        self.sheet.apart(4, "writes of several sectors", 1);
        let before = cut.pending_writes().len().saturating_sub(1) as u64;
        let masks = if sectors <= SECTORS { (1 << sectors) - 2 } else { 64 };
        for keep in [Keep::First(before), Keep::None] {
            for mask in 1..=masks {
                if cut.apply(&cut.choice(keep), &self.disk).is_err() {
                    return;
                }
                let seed = rng.next_u64();
                let kept = |number: usize| {
                    if sectors <= SECTORS {
                        mask >> number & 1 == 1
                    } else {
                        crate::rng::mix(seed ^ number as u64) & 1 == 1
                    }
                };
                for (number, piece) in data.chunks(sector).enumerate().filter(|(number, _)| kept(*number)) {
                    let at = offset + (number * sector) as u64;
                    if self.disk.poke(at, piece).is_err() {
                        return;
                    }
                }
                let what = format!(
                    "{} cut={} keep={keep}, and of the sectors of the write in flight mask {mask:#x}, seed {seed:#x}",
                    self.recorded.address,
                    cut.position(),
                );
                self.judge_disk(4, cut, || what);
            }
        }
    }

    /// F5: one sector of the write in flight is new at one end, or garbage, or its whole physical block is.
    fn tear_inside_sectors(&mut self, cut: &Cut, offset: u64, len: usize, rng: &mut Rng) {
        let disk = self.recorded.subject.shape.disk;
        let (sector, first) = (disk.sector_bytes, offset / u64::from(disk.sector_bytes));
        let sectors = len.div_ceil(sector as usize);
        self.seen.clear();
        let before = cut.pending_writes().len().saturating_sub(1) as u64;
        for number in rng.sample(sectors, SECTORS) {
            let some = u32::try_from(rng.range(2..u64::from(sector) - 1)).unwrap_or(1);
            let random = Fill::Random(rng.next_u64());
            let mut kinds = Vec::new();
            for bytes in [1, some, sector / 2, sector - 1] {
                kinds.extend([TearKind::Prefix(bytes), TearKind::Suffix(bytes)]);
            }
            for fill in [Fill::Zeros, Fill::Ones, random] {
                kinds.push(TearKind::Garbage(fill));
                if disk.physical_block_bytes > sector {
                    kinds.push(TearKind::Block(fill));
                }
            }
            for kind in kinds {
                let tear = Some(Tear { sector: first + number as u64, kind });
                for keep in [Keep::First(before), Keep::All] {
                    self.judge(5, cut, Choice { tear, ..cut.choice(keep) });
                }
            }
        }
    }
}

/// F6: recoveries are cut at each of their own I/Os, and the recoveries after that again.
fn cut_recoveries(recorded: &Recorded, settings: &Settings, sheet: &mut Sheet) {
    let Recorded { subject, run, address } = recorded;
    let policy = Policy {
        sampling: Sampling { exhaustive: 2, sampled: 2, torn: 1, garbage_blocks: 0 },
        nested: Sampling { exhaustive: 16, sampled: 4, torn: 1, garbage_blocks: 1 },
        deeper: Sampling { exhaustive: 16, sampled: 4, torn: 1, garbage_blocks: 1 },
        exhaustive_depth: if settings.is_brief() { 1 } else { 2 },
        nest: 0.0,
        nest_deeper: 0.0,
        probe: 0.0,
        live_on: 0.0,
        injure: 0.0,
    };
    let tally = Tally::new(Duration::from_secs(3600)).going_on();
    let rng = Rng::new(settings.seed).fork(&format!("recoveries {address}"));
    let mut explorer = Explorer::new(subject, run, address.clone(), &policy, rng.seed(), &tally);
    for position in run.trace.io_points().chain([run.trace.len()]).step_by(settings.stride.min(40)) {
        explorer.explore_range(position..position + 1);
    }
    for failure in tally.failures() {
        let address = failure.address.map(|address| address.to_string()).unwrap_or_default();
        let seed = settings.seed;
        sheet.enter(6, Column::broken(&failure.violation), || {
            format!("crashtest replay --seed {seed} '{address}'")
        });
    }
    let nested: u64 = tally.recoveries_by_depth.iter().skip(1).map(Counter::get).sum();
    sheet.apart(6, "crash states before", tally.recoveries_by_depth.iter().take(1).map(Counter::get).sum());
    sheet.apart(6, "of them two deep", tally.recoveries_by_depth.iter().skip(2).map(Counter::get).sum());
    for _ in sheet.row(6).silent..nested {
        sheet.enter(6, Column::Recovered, String::new);
    }
}
