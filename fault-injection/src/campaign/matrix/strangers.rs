//! F23 and F24: well-formed records that do not belong where they lie. Groups of earlier laps and epochs at every place
//! of the ring; blocks of another store, and of an earlier format of the same device, at their right places.

use std::sync::Arc;

use freehold::device::{Device, ManualClock, Port, Purpose};
use freehold::format::{GroupHeader, Superblock};
use freehold::journal::{JournalScan, SuperblockPair, scan_journal};

use super::samples::{Ending, Sample, laps};
use super::sheet::{Column, Sheet};
use super::trial::{Outcome, judge_hit, vanishable};
use super::world::World;
use super::{Settings, Task};
use crate::allocator::{Operation, Plan};
use crate::disk::{CowDisk, CutWalker, Event, Keep};
use crate::harness::{Damage, Subject as _};
use crate::rng::Rng;

pub(super) fn tasks(settings: &Settings) -> Vec<Task> {
    let mut tasks = Vec::new();
    for ending in Ending::ALL {
        let stride = settings.stride;
        tasks.push(Task::new(
            &[23],
            format!("F23: earlier laps in a store {}", ending.name()),
            move |sheet| {
                enter(earlier_laps(ending, stride, sheet), 23, sheet);
            },
        ));
        tasks.push(Task::new(
            &[24],
            format!("F24: another store's blocks in one {}", ending.name()),
            move |sheet| {
                enter(foreign_blocks(ending, stride, sheet), 24, sheet);
            },
        ));
    }
    let settings = settings.clone();
    tasks.push(Task::new(&[24], "F24: over an earlier format".to_owned(), move |sheet| {
        enter(over_earlier_format(&settings, sheet), 24, sheet);
    }));
    tasks
}

fn enter(done: Result<(), String>, fault: u8, sheet: &mut Sheet) {
    if let Err(why) = done {
        sheet.enter(fault, Column::Silent(why), || "making the stores".to_owned());
    }
}

fn scan(disk: &Arc<CowDisk>) -> Result<(Superblock, JournalScan), String> {
    let port = Port::new(Arc::clone(disk) as Arc<dyn Device>, Arc::new(ManualClock::default()), true);
    let pair = SuperblockPair::read(&port).map_err(|error| error.to_string())?;
    let scan = scan_journal(&port, pair.current()).map_err(|error| error.to_string())?;
    Ok((pair.current().clone(), scan))
}

/// The column of an image with something strange in it: the state is right, or it is refused.
fn judge(sample: &Sample, disk: &Arc<CowDisk>, allows: Damage) -> Column {
    let trial = sample.trial();
    match trial.judge(Arc::clone(disk) as Arc<dyn Device>, allows) {
        Ok(Outcome::Opened(found)) if found.whole && !found.torn_tail => Column::Recovered,
        Ok(Outcome::Opened(found)) if found.torn_tail => Column::Detected,
        Ok(Outcome::Opened(_)) => Column::Silent("the end of the journal is gone".to_owned()),
        Ok(Outcome::NotFormatted | Outcome::Refused) => Column::Detected,
        Err(violation) => Column::broken(&violation),
    }
}

/// F23. What lies in the free part of the ring is passed over: exactly the right state is found.
fn earlier_laps(ending: Ending, stride: usize, sheet: &mut Sheet) -> Result<(), String> {
    let sample = Sample::of(&laps(), ending, *b"freehold crashes")?;
    let disk = sample.disk();
    let (superblock, scan) = scan(&disk)?;
    let layout = &superblock.layout;
    let (ring, ring_bytes) = (layout.ring_offset(), layout.ring_bytes());
    let granule = u64::from(layout.ring_granule_bytes());
    let is_group = |event: &&Event| event.purpose() == Some(Purpose::Journal);
    let groups: Vec<Arc<[u8]>> = sample.trace.events().iter().filter(is_group).filter_map(data).collect();
    sheet.apart(23, "groups of earlier laps and epochs", groups.len() as u64);
    let live = scan.end_position - superblock.tail_position;
    for (number, group) in groups.iter().enumerate().step_by(stride.min(3)) {
        for place in (live..ring_bytes).step_by(usize::try_from(granule).unwrap_or(512)) {
            if place + group.len() as u64 > ring_bytes {
                break;
            }
            disk.reset();
            let start = (superblock.tail_position + place) % ring_bytes;
            // The group wraps as it would if it had been written there.
            let until_end = usize::try_from(ring_bytes - start).unwrap_or(usize::MAX);
            let (front, back) = group.split_at_checked(until_end).unwrap_or((group, &[]));
            let put = disk.poke(ring + start, front).and_then(|()| disk.poke(ring, back));
            put.map_err(|error| error.to_string())?;
            let column = judge(&sample, &disk, Damage::None);
            sheet.enter(23, column, || format!("store {}, group {number} at place {start}", ending.name()));
        }
    }
    resealed(&sample, &superblock, &scan, sheet)
}

fn data(event: &Event) -> Option<Arc<[u8]>> {
    match event {
        Event::Write { data, .. } => Some(Arc::clone(data)),
        _ => None,
    }
}

/// Groups that would be accepted but for one field: the epoch, the position, or an LSN that is not new.
fn resealed(
    sample: &Sample,
    superblock: &Superblock,
    scan: &JournalScan,
    sheet: &mut Sheet,
) -> Result<(), String> {
    let disk = sample.disk();
    let layout = &superblock.layout;
    let Some(last) = scan.groups.last() else { return Ok(()) };
    let next = GroupHeader {
        position: scan.end_position,
        first_lsn: scan.last_lsn + 1,
        durable_lsn: scan.last_lsn,
        ..last.header
    };
    let mut strange = Vec::new();
    for back in 1..=superblock.epoch.min(64) {
        strange.push(GroupHeader { epoch: superblock.epoch - back, ..next });
    }
    for lap in 1..=8 {
        let off = lap * layout.ring_bytes();
        strange.push(GroupHeader { position: next.position.wrapping_sub(off), ..next });
        strange.push(GroupHeader { position: next.position + off, ..next });
    }
    for back in 1..=scan.last_lsn.min(64) {
        let first_lsn = next.first_lsn - back;
        strange.push(GroupHeader { first_lsn, durable_lsn: first_lsn.saturating_sub(1), ..next });
    }
    for header in strange {
        disk.reset();
        let mut bytes = last.bytes.clone();
        header.seal(&superblock.store_id, &mut bytes);
        let port = Port::new(Arc::clone(&disk) as Arc<dyn Device>, Arc::new(ManualClock::default()), false);
        let ring = freehold::journal::Ring::new(&port, layout);
        ring.write(scan.end_position, &bytes).map_err(|error| error.to_string())?;
        let column = if header.position >= superblock.tail_position + layout.ring_bytes() {
            // Only superblocks that are gone can have made room for it.
            match judge(sample, &disk, Damage::Some) {
                Column::Recovered => Column::Silent("a group of a later lap was passed over".to_owned()),
                column => column,
            }
        } else {
            // A header with one wrong field looks like one that was damaged, and is reported as a torn tail; nothing is
            // lost.
            match judge(sample, &disk, Damage::None) {
                Column::Detected => Column::Recovered,
                column => column,
            }
        };
        sheet.enter(23, column, || format!("store {}, behind the end: {header:?}", sample.ending.name()));
    }
    Ok(())
}

/// F24: each block of a store with the same history and another identity, at its own place in ours; and its groups.
fn foreign_blocks(ending: Ending, stride: usize, sheet: &mut Sheet) -> Result<(), String> {
    let ours = Sample::usual(ending)?;
    let theirs = Sample::of(&laps(), ending, *b"another freehold")?;
    // The same history, so that every number in it is plausible.
    let twin = Sample::twin(ending)?;
    let end = super::regions::Regions::of(&ours.disk())?.places.len();
    let disk = ours.disk();
    for (name, other) in [("a twin", &twin), ("another store", &theirs)] {
        for size in [512, 4096, 16 << 10] {
            for start in (0..end).step_by(size * stride.min(2)) {
                let piece = other.base.bytes().get(start..start + size).unwrap_or(&[]);
                disk.reset();
                let hit = start as u64..(start + size) as u64;
                let vanishable = vanishable(&disk, std::slice::from_ref(&hit));
                disk.reset();
                disk.poke(start as u64, piece).map_err(|error| error.to_string())?;
                let device = Arc::clone(&disk) as Arc<dyn Device>;
                let (column, weaker) = judge_hit(&ours.trial(), false, device, vanishable);
                weaker.iter().for_each(|name| sheet.apart(24, name, 1));
                sheet.enter(24, column, || {
                    format!("store {}, {size} bytes at {start} are those of {name}", ending.name())
                });
            }
        }
    }
    Ok(())
}

/// F24: a device that held another store, formatted again; power fails at every I/O of the new one's life.
fn over_earlier_format(settings: &Settings, sheet: &mut Sheet) -> Result<(), String> {
    let before = Sample::of(&laps(), Ending::Crashed, *b"an earlier store")?;
    let mut world = World::on(before.subject, Arc::clone(&before.base));
    let fail = |stop| format!("{stop:?}");
    world.format().map_err(fail)?;
    world.open().map_err(fail)?;
    let commit = || Operation::Transact(vec![Plan::allocating(1)]);
    let again =
        [commit(), commit(), Operation::Checkpoint, commit(), Operation::Reopen, commit(), Operation::Fill];
    for operation in again {
        world.apply(&operation).map_err(fail)?;
    }
    let trace = world.disk().trace();
    let disk = before.subject.disk().cow(&before.base);
    let formatted =
        trace.events().iter().position(|event| matches!(event, Event::Mark(mark) if mark & 1 == 1));
    let mut walker = CutWalker::new(&trace, Arc::clone(&before.base), &before.subject.disk().geometry());
    let mut rng = Rng::new(settings.seed).fork("earlier format");
    for position in trace.io_points().filter(|at| Some(*at) > formatted).step_by(settings.stride) {
        let mut trial = world.trial();
        trial.progress = super::workloads::progress_at(trace.events(), position);
        let cut = walker.cut_at(position);
        let seeds = (0..6).map(|_| Keep::Seed(rng.next_u64()));
        for keep in [Keep::None, Keep::All].into_iter().chain(seeds) {
            let choice = cut.choice(keep);
            cut.apply(&choice, &disk).map_err(|error| error.to_string())?;
            let column = trial.recovered(Arc::clone(&disk) as Arc<dyn Device>);
            sheet.enter(24, column, || format!("over an earlier store, {choice}"));
        }
    }
    Ok(())
}
