//! F16 to F19: every bit of every byte in front of the data area flips, each byte becomes 0x00 and 0xff, and each byte of
//! a header, a length or another field takes every value.

use std::ops::Range;
use std::sync::Arc;

use freehold::device::Device;

use super::regions::{Place, Regions};
use super::samples::{Ending, Sample};
use super::sheet::{Column, Sheet};
use super::trial::Outcome;
use super::{Settings, Task};
use crate::harness::Damage;

const CHUNK: usize = 8 << 10;

pub(super) fn tasks(settings: &Settings) -> Vec<Task> {
    let mut tasks = Vec::new();
    if !(16..=19).any(|fault| settings.wants(fault)) {
        return tasks;
    }
    for ending in Ending::ALL {
        let made = Sample::usual(ending)
            .and_then(|sample| Regions::of(&sample.disk()).map(|regions| (sample, regions)));
        let (sample, regions) = match made {
            Ok((sample, regions)) => (Arc::new(sample), Arc::new(regions)),
            Err(why) => {
                tasks.push(Task::new(&[16, 17, 18, 19], "rot".to_owned(), move |sheet| {
                    sheet.enter(16, Column::Silent(why.clone()), || ending.name().to_owned());
                }));
                continue;
            }
        };
        for start in (0..regions.places.len()).step_by(CHUNK) {
            let (sample, regions, stride) = (Arc::clone(&sample), Arc::clone(&regions), settings.stride);
            let name = format!("rot from byte {start} of a store {}", ending.name());
            tasks.push(Task::new(&[16, 17, 18, 19], name, move |sheet| {
                let end = regions.places.len().min(start + CHUNK);
                damage(&sample, &regions, start..end, stride, sheet);
            }));
        }
    }
    tasks
}

/// What a byte becomes.
fn values(original: u8, place: Place) -> Vec<u8> {
    let is_other = |value: &u8| *value != original;
    if place.is_field {
        return (0..=u8::MAX).filter(is_other).collect();
    }
    let mut values: Vec<u8> = (0..8).map(|bit| original ^ 1 << bit).collect();
    values.extend([0x00, 0xff].into_iter().filter(is_other));
    values.sort_unstable();
    values.dedup();
    values
}

fn damage(sample: &Sample, regions: &Regions, range: Range<usize>, stride: usize, sheet: &mut Sheet) {
    let trial = sample.trial();
    let acknowledged = trial.progress.acknowledged;
    // With the last group torn, so many steps are left.
    let shorter = trial.history.lowest(acknowledged, Damage::LastGroup(regions.last_group), false);
    let disk = sample.disk();
    for at in range.step_by(stride) {
        let (Some(&place), Some(&original)) = (regions.places.get(at), sample.base.bytes().get(at)) else {
            return;
        };
        let values = values(original, place);
        sheet.apart(place.fault, "bytes", 1);
        for value in values {
            disk.reset();
            if disk.poke(at as u64, &[value]).is_err() {
                continue;
            }
            let column = match trial.judge(Arc::clone(&disk) as Arc<dyn Device>, Damage::Some) {
                Ok(Outcome::Opened(found)) if found.torn_tail => {
                    if found.steps == shorter && sample.ending == Ending::Crashed {
                        sheet.apart(place.fault, "last group dropped, and reported as torn", 1);
                        Column::Detected
                    } else {
                        Column::Silent(format!("{} of {acknowledged} steps are left", found.steps))
                    }
                }
                Ok(Outcome::Opened(_)) if place.fault == 17 => Column::Recovered,
                Ok(Outcome::Opened(_)) => Column::Survived,
                Ok(Outcome::NotFormatted | Outcome::Refused) => Column::Detected,
                Err(violation) => Column::broken(&violation),
            };
            sheet.enter(place.fault, column, || {
                format!("store {}, byte {at}: {original:#04x} became {value:#04x}", sample.ending.name())
            });
        }
    }
}
