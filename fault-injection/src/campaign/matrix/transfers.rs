//! F13: calls that do less than they are asked for. Nothing may come of it: same calls, same answers, same bytes.

use std::sync::Arc;

use freehold::device::Device;

use super::sheet::{Column, Sheet};
use super::workloads::Workload;
use super::world::World;
use super::{Settings, Task};
use crate::disk::{Hiccup, ShortTransfers};

const HICCUPS: [Hiccup; 4] = [Hiccup::Short(1), Hiccup::Short(700), Hiccup::Interrupted, Hiccup::WouldBlock];

pub(super) fn tasks(settings: &Settings, loads: &[Arc<Workload>]) -> Vec<Task> {
    loads
        .iter()
        .map(|load| {
            let (load, stride) = (Arc::clone(load), settings.stride);
            Task::new(&[13], format!("F13: short transfers in workload {}", load.number), move |sheet| {
                if let Err(why) = inject(&load, stride, sheet) {
                    sheet.enter(13, Column::Silent(why), || format!("workload {}", load.number));
                }
            })
        })
        .collect()
}

/// Runs the workload on a disk with hiccups; returns the world at its end, and how many calls there were.
fn run(load: &Workload, hiccup: Hiccup, nth: Option<u64>) -> Result<(World, u64), String> {
    let mut short = None;
    let world = World::blank(load.subject).through(|disk| {
        let device = Arc::new(ShortTransfers::new(Arc::clone(disk), hiccup, nth));
        short = Some(Arc::clone(&device));
        device as Arc<dyn Device>
    });
    let world = load.run_clean(world, |world, _| drop(world.look()))?;
    Ok((world, short.map_or(0, |short| short.calls())))
}

fn inject(load: &Workload, stride: usize, sheet: &mut Sheet) -> Result<(), String> {
    let (clean, calls) = run(load, Hiccup::Interrupted, Some(u64::MAX))?;
    let image = clean.disk().freeze().hash();
    for hiccup in HICCUPS {
        let each = (0..calls).step_by(stride).map(Some);
        for nth in each.chain([None]) {
            let column = match run(load, hiccup, nth) {
                Err(why) => Column::Silent(why),
                Ok((world, _)) => {
                    let same = world.history().states() == clean.history().states();
                    let bytes = world.disk().freeze().hash() == image;
                    match (same, bytes) {
                        (true, true) => Column::Survived,
                        (true, false) => Column::Silent("the disk ends with other bytes".to_owned()),
                        (false, _) => Column::Silent("the history is another one".to_owned()),
                    }
                }
            };
            sheet.enter(13, column, || format!("workload {}, {hiccup:?} at call {nth:?}", load.number));
        }
    }
    Ok(())
}
