//! F28: images made to harm. Counts, lengths, links, LSNs and whole blocks are set to what no build writes, and all
//! checksums are made right again. Nothing may panic, hang, or read without bounds; a typed error is an answer, and so is a
//! store that works.

mod extents;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold::device::Device;
use freehold::format::{
    GROUP_HEADER_BYTES, PAGE_HEADER_BYTES, PayloadEncoder, SEGMENT_RECORD_BYTES, StructureLayout, UpdateKind,
    Witness, content_checksum, structures,
};
use freehold::{AllocRequest, Error, ExtentInfo, OpenOptions};
use futures_util::TryStreamExt;

use self::extents::OddExtents;
use super::forge::{Forge, reseal_superblock};
use super::metered::Metered;
use super::samples::{Ending, Sample};
use super::sheet::{Column, Sheet};
use super::{Settings, Task};
use crate::disk::CowDisk;
use crate::executor;
use crate::oracle::Violation;
use crate::rng::Rng;

/// Images of each sample, in tasks of this many.
const IMAGES: u64 = 24_000;
const IMAGES_OF_TASK: u64 = 4_000;
/// A store may be read over this often: opening, listing, checking and working, each within its own bound.
const MOST_LAPS: u64 = 64;
const LONGEST: Duration = Duration::from_secs(2);

pub(super) fn tasks(settings: &Settings) -> Vec<Task> {
    let mut tasks = Vec::new();
    for ending in Ending::ALL {
        for first in (0..IMAGES).step_by(usize::try_from(IMAGES_OF_TASK).unwrap_or(1)) {
            let settings = settings.clone();
            let name = format!("F28: hostile images {first} of a store {}", ending.name());
            tasks.push(Task::new(&[28], name, move |sheet| {
                let sample = match Sample::usual(ending) {
                    Ok(sample) => sample,
                    Err(why) => return sheet.enter(28, Column::Silent(why), || ending.name().to_owned()),
                };
                for number in (first..first + IMAGES_OF_TASK).step_by(settings.stride) {
                    one(&sample, number, &settings, sheet);
                }
            }));
        }
    }
    tasks
}

fn one(sample: &Sample, number: u64, settings: &Settings, sheet: &mut Sheet) {
    let mut rng = Rng::new(settings.seed).fork_numbered(sample.ending.name(), number);
    let disk = sample.disk();
    let mut done = Vec::new();
    for _ in 0..1 + rng.below(3) {
        // What was forged before may have made the store unreadable for the forger as well.
        let Ok(mut forge) = Forge::of(&disk) else { break };
        match mutate(&disk, &mut forge, &mut rng) {
            Ok(what) => done.push(what),
            Err(_) => break,
        }
    }
    let begun = Instant::now();
    let ordeal = catch_unwind(AssertUnwindSafe(|| ordeal(&disk, &mut rng)));
    let column = match ordeal {
        Err(panic) => Column::broken(&Violation::panic(&*panic)),
        Ok(_) if begun.elapsed() > LONGEST => Column::Silent(format!("it took {:?}", begun.elapsed())),
        Ok(column) => column,
    };
    sheet
        .enter(28, column, || format!("store {}, image {number}: {}", sample.ending.name(), done.join(", ")));
}

/// A number that code may not expect.
fn odd(original: u64, width: u64, rng: &mut Rng) -> u64 {
    let max = if width >= 8 { u64::MAX } else { (1 << (8 * width)) - 1 };
    let value = match rng.below(8) {
        0 => 0,
        1 => max - rng.below(3),
        2 => 1 << rng.below(8 * width),
        3 => (1_u64 << rng.below(8 * width)).wrapping_sub(1),
        4 => original.wrapping_add(1 + rng.below(4)),
        5 => original.wrapping_sub(1 + rng.below(4)),
        6 => rng.below(40),
        _ => rng.next_u64(),
    };
    value & max
}

/// Sets a random field of a structure that begins at `at`.
fn set_field(block: &mut [u8], heading: &str, at: usize, rng: &mut Rng) -> String {
    let all = structures();
    let fields: Vec<_> = all
        .iter()
        .filter(|structure: &&StructureLayout| structure.heading == heading)
        .flat_map(|structure| structure.fields)
        .filter(|field| field.name != "checksum" && field.name != "magic")
        .collect();
    let Some(field) = rng.pick(&fields) else { return String::new() };
    // Long fields are rows of numbers of four bytes.
    let (within, width) =
        if field.bytes > 8 { (4 * rng.below(field.bytes / 4), 4) } else { (0, field.bytes) };
    let start = at + usize::try_from(field.offset + within).unwrap_or(0);
    let Some(place) = block.get_mut(start..start + usize::try_from(width).unwrap_or(0)) else {
        return String::new();
    };
    let mut original = [0; 8];
    original.iter_mut().zip(place.iter()).for_each(|(to, from)| *to = *from);
    let value = odd(u64::from_le_bytes(original), width, rng);
    place.iter_mut().zip(value.to_le_bytes()).for_each(|(to, from)| *to = from);
    format!("{heading} {} = {value:#x}", field.name)
}

/// A metadata block with something odd in it.
fn odd_leaf(forge: &Forge, leaf: u64, rng: &mut Rng) -> (Vec<u8>, String) {
    let layout = &forge.superblock.layout;
    let mut block = forge.leaf(leaf);
    let segments = usize::try_from(layout.segment_count()).unwrap_or(1);
    let first_of_segments = 1 + layout.table_blocks();
    let what = match leaf {
        0 => set_field(&mut block, "Allocator state", 0, rng),
        leaf if leaf < first_of_segments => {
            set_field(&mut block, "Segment record", rng.index(segments) * SEGMENT_RECORD_BYTES, rng)
        }
        leaf if (leaf - first_of_segments).is_multiple_of(2) => {
            let at = rng.index(layout.pages_per_segment() as usize / 8 + 2);
            let bits = 1 + u8::try_from(rng.below(255)).unwrap_or(0);
            block.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bits);
            format!("bits {bits:#x} of byte {at} of a bitmap")
        }
        _ => {
            let page = rng.index(layout.pages_per_segment() as usize + 1);
            set_field(&mut block, "Page header", page * PAGE_HEADER_BYTES, rng)
        }
    };
    (block, format!("leaf {leaf}: {what}"))
}

/// Does one thing to the store on the disk, and says what.
fn mutate(disk: &Arc<CowDisk>, forge: &mut Forge, rng: &mut Rng) -> Result<String, String> {
    let leaves = forge.superblock.layout.leaf_count();
    let groups = forge.scan.groups.len();
    match rng.below(12) {
        0 | 1 => {
            let seed = rng.next_u64();
            let mut what = String::new();
            let copies = if rng.chance(0.8) { 0..2 } else { 1..2 };
            for copy in copies {
                reseal_superblock(disk, copy, |block| {
                    what = set_field(block, "Superblock", 0, &mut Rng::new(seed));
                })?;
            }
            Ok(what)
        }
        2..=4 => {
            let leaf = rng.below(leaves);
            let (block, what) = odd_leaf(forge, leaf, rng);
            forge.replace_leaf(leaf, &block).map(|()| what)
        }
        5 => {
            let (from, to) = (rng.below(leaves), rng.below(leaves));
            let block = forge.leaf(from);
            forge.replace_leaf(to, &block).map(|()| format!("leaf {to} holds leaf {from}"))
        }
        6 => {
            let mut what = String::new();
            let at = 8 * rng.index(usize::try_from(leaves).unwrap_or(0) + 2);
            forge.change_root(|block| what = set_field(block, "Checksum tree", at, rng))?;
            Ok(format!("reference {}: {what}", at / 8))
        }
        7 if groups > 0 => {
            let mut what = String::new();
            let number = rng.index(groups);
            forge.change_group(number, |block| what = set_field(block, "Journal", 0, rng))?;
            Ok(format!("group {number}: {what}"))
        }
        8 if groups > 0 => {
            let number = rng.index(groups);
            let mut what = String::new();
            forge.change_group(number, |block| {
                let at = GROUP_HEADER_BYTES + rng.index(block.len().saturating_sub(GROUP_HEADER_BYTES));
                let value = u8::try_from(odd(0, 1, rng)).unwrap_or(0);
                block.iter_mut().skip(at).take(1).for_each(|byte| *byte = value);
                what = format!("group {number}: byte {at} = {value:#x}");
            })?;
            Ok(what)
        }
        9 => {
            let witness = Witness {
                epoch: forge.superblock.epoch.wrapping_add(rng.below(2)),
                durable_lsn: odd(forge.scan.last_lsn, 8, rng),
                position: odd(forge.scan.end_position, 8, rng),
            };
            forge.witness(rng.index(2), &witness).map(|()| format!("{witness:?}"))
        }
        _ => append(forge, rng),
    }
}

/// One more group, whose updates have good checksums over odd blocks.
fn append(forge: &mut Forge, rng: &mut Rng) -> Result<String, String> {
    let layout = &forge.superblock.layout;
    let mut encoder = PayloadEncoder::default();
    let mut what = Vec::new();
    let mut bitmap = None;
    if rng.chance(0.6) {
        let extents = OddExtents::any(forge, rng);
        encoder.push_extents(&extents.encoder, extents.digest);
        bitmap = extents.bitmap(layout, rng).filter(|_| rng.chance(0.5));
        what.push(extents.text());
    }
    if rng.chance(0.7) {
        let leaf = bitmap.unwrap_or_else(|| rng.below(layout.leaf_count() + 1));
        let (block, odd) = odd_leaf(forge, leaf.min(layout.leaf_count() - 1), rng);
        encoder.push(
            UpdateKind::Metadata,
            leaf,
            &block,
            &[(0, layout.block_bytes())],
            content_checksum(&block),
        );
        what.push(format!("an update of {odd}"));
    }
    let address = if rng.chance(0.5) { odd(0, 8, rng) } else { rng.below(70) };
    let block = vec![0x5a; layout.block_bytes() as usize];
    match rng.below(3) {
        0 => {
            encoder.push(UpdateKind::CallerImage, address, &block, &[], content_checksum(&block));
            what.push(format!("an image of block {address:#x}"));
        }
        1 => {
            encoder.push(UpdateKind::CallerDelta, address, &block, &[(0, 8)], content_checksum(&block));
            what.push(format!("a delta of block {address:#x}"));
        }
        _ => {}
    }
    let payload = encoder.finish(layout.ring_granule_bytes());
    let odd_header = rng.chance(0.5);
    let mut header_is = String::new();
    forge.append_group(payload, |header| {
        if odd_header {
            match rng.below(5) {
                0 => header.transactions = u32::try_from(odd(1, 4, rng)).unwrap_or(1),
                1 => header.first_lsn = odd(header.first_lsn, 8, rng),
                2 => header.durable_lsn = odd(header.durable_lsn, 8, rng),
                3 => header.updates = u32::try_from(odd(1, 4, rng)).unwrap_or(1),
                _ => header.length = u32::try_from(odd(64, 4, rng)).unwrap_or(64),
            }
        }
        header_is = format!("{header:?}");
    })?;
    Ok(format!("one more group of {}: {header_is}", what.join(" and ")))
}

/// Opens, lists, checks, and works on whatever is there.
fn ordeal(disk: &Arc<CowDisk>, rng: &mut Rng) -> Column {
    let limit = MOST_LAPS * disk.geometry().len_bytes;
    let check = rng.chance(0.25).then(|| Arc::new(Metered::limited(Arc::clone(disk), limit)));
    if let Some(device) = &check {
        match freehold::inspect::check(Arc::clone(device) as Arc<dyn Device>, &mut |_| {}) {
            Err(Error::Internal(why)) => return Column::Silent(format!("checking: {why}")),
            _ if device.is_over() => return Column::Silent("checking read without bounds".to_owned()),
            _ => {}
        }
    }
    let device = Arc::new(Metered::limited(Arc::clone(disk), limit));
    let column = match executor::run(work(&device)) {
        Ok(Ok(())) => Column::Survived,
        Ok(Err(error)) if told(&error) => Column::Detected,
        Ok(Err(error)) => Column::Silent(format!("the caller was told: {error}")),
        Err(stuck) => Column::Silent(stuck.to_string()),
    };
    if device.is_over() { Column::Silent("it read without bounds".to_owned()) } else { column }
}

/// Whether an error says something about the store.
fn told(error: &Error) -> bool {
    match error {
        Error::Internal(_) => false,
        Error::Poisoned { cause } | Error::OutcomeUnknown { cause } => told(cause),
        _ => true,
    }
}

async fn work(device: &Arc<Metered>) -> freehold::Result<()> {
    for _ in 0..2 {
        let (store, _) = OpenOptions::new().open_device(Arc::clone(device) as Arc<dyn Device>).await?;
        let extents: Vec<ExtentInfo> = store.extents().try_collect().await?;
        let mut transaction = store.begin();
        for info in extents.iter().take(2) {
            transaction.free(&info.extent).await?;
        }
        for bytes in [1, 10_000] {
            match transaction.alloc(AllocRequest::bytes(bytes).owner(bytes)).await {
                Ok(extent) => transaction.write(&extent, 0, &[7; 16]).await?,
                Err(Error::NoSpace { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        transaction.commit().await?;
        store.checkpoint().await?;
        store.maintain().await?;
        if extents.len().is_multiple_of(2) {
            store.close().await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise an error would say nothing about what was forged.
    #[test]
    fn what_is_not_forged_survives() {
        for ending in Ending::ALL {
            let sample = Sample::usual(ending).unwrap();
            for seed in 0..8 {
                let column = ordeal(&sample.disk(), &mut Rng::new(seed));
                assert!(matches!(column, Column::Survived), "{}: {column:?}", ending.name());
            }
        }
    }
}
