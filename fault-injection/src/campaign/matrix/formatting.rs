//! F7: power fails while a store is being made, on a blank device and over an earlier store.

use std::sync::Arc;

use freehold::device::Device;

use super::sheet::{Column, Sheet};
use super::trial::Outcome;
use super::workloads::progress_at;
use super::world::World;
use super::{Settings, Task};
use crate::allocator::{Operation, Plan, Shape, Subject};
use crate::disk::{CowBase, CutWalker, Sampling};
use crate::harness::{Damage, DiskShape, Subject as _};
use crate::rng::Rng;

const SAMPLING: Sampling = Sampling { exhaustive: 1 << 10, sampled: 200, torn: 40, garbage_blocks: 10 };

pub(super) fn tasks(settings: &Settings) -> Vec<Task> {
    [(512, 512), (512, 4096), (4096, 4096)]
        .into_iter()
        .map(|(sector_bytes, physical_block_bytes)| {
            let disk = DiskShape::new(256 << 10, sector_bytes, physical_block_bytes);
            let subject = Subject { shape: Shape { disk, ..Shape::TINY } };
            let settings = settings.clone();
            Task::new(&[7], format!("formatting, sectors of {sector_bytes}"), move |sheet| {
                for again in [false, true] {
                    if let Err(why) = cut_formatting(subject, again, &settings, sheet) {
                        sheet.enter(7, Column::Silent(why), || "making the stores".to_owned());
                    }
                }
            })
        })
        .collect()
}

/// An earlier store, with work in its journal and in place, and what it was made with.
fn earlier(subject: Subject) -> Result<World, String> {
    let mut world = World::blank(subject);
    let fail = |stop| format!("an earlier store cannot be made: {stop:?}");
    world.format_with(&subject.shape.format_options().store_id(*b"an earlier store")).map_err(fail)?;
    world.open().map_err(fail)?;
    let commit = || Operation::Transact(vec![Plan::allocating(2)]);
    for operation in [commit(), commit(), Operation::Checkpoint, commit(), commit()] {
        world.apply(&operation).map_err(fail)?;
    }
    world.session.store = None;
    Ok(world)
}

fn cut_formatting(
    subject: Subject,
    again: bool,
    settings: &Settings,
    sheet: &mut Sheet,
) -> Result<(), String> {
    let before = if again { Some(earlier(subject)?) } else { None };
    let base: Arc<CowBase> =
        before.as_ref().map_or_else(|| subject.disk().blank(), |world| world.disk().freeze());
    let mut world = World::on(subject, Arc::clone(&base));
    world.format().map_err(|stop| format!("formatting failed: {stop:?}"))?;
    let trace = world.disk().trace();
    let geometry = subject.disk().geometry();
    let disk = subject.disk().cow(&base);
    let mut rng = Rng::new(settings.seed).fork(&format!("format {again} {geometry:?}"));
    let mut walker = CutWalker::new(&trace, base, &geometry);
    for position in trace.io_points().chain([trace.len()]).step_by(settings.stride) {
        let cut = walker.cut_at(position);
        let mut trial = world.trial();
        trial.progress = progress_at(trace.events(), position);
        sheet.apart(7, "I/O points", 1);
        for choice in cut.choices(&SAMPLING, &mut rng) {
            let mut column = Column::Survived;
            // Of the store that is being made, and where there was one, of the one that it goes over.
            for other in std::iter::once(None).chain(before.as_ref().map(Some)) {
                if cut.apply(&choice, &disk).is_err() {
                    continue;
                }
                let of = other.map_or(trial, World::trial);
                column = match of.judge(Arc::clone(&disk) as Arc<dyn Device>, Damage::None) {
                    Ok(Outcome::Opened(_)) => Column::Recovered,
                    Ok(Outcome::NotFormatted | Outcome::Refused) => Column::Detected,
                    Err(violation) => Column::broken(&violation),
                };
                // Without a store, opening says so; only a store that is there can be the earlier one.
                if !matches!(column, Column::Silent(_)) {
                    break;
                }
            }
            let what = if again { "formatting over an earlier store" } else { "formatting a blank device" };
            sheet.enter(7, column, || format!("{what}, {geometry:?}, {choice}"));
        }
    }
    Ok(())
}
