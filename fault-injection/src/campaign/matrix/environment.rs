//! F25 to F27: a device of another length, a second opener, versions and features that this build does not know.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use freehold::device::Device;
use freehold::format::{FORMAT_VERSION, KNOWN_INCOMPATIBLE, SUPERBLOCK_COPIES};
use freehold::{AllocRequest, Allocator, Error, FormatOptions, OpenOptions};

use super::forge::reseal_superblock;
use super::samples::{Ending, Sample};
use super::sheet::{Column, Sheet};
use super::trial::Outcome;
use super::{Settings, Task};
use crate::disk::{CowBase, CowDisk};
use crate::executor;
use crate::harness::Damage;
use crate::rng::Rng;

const VERSION_AT: usize = 12;
const COMPATIBLE_AT: usize = 32;
const INCOMPATIBLE_AT: usize = 40;
const READ_ONLY_COMPATIBLE_AT: usize = 48;

pub(super) fn tasks(settings: &Settings) -> Vec<Task> {
    let mut tasks = Vec::new();
    for ending in Ending::ALL {
        let setting = settings.clone();
        tasks.push(Task::new(&[25], format!("F25: lengths of a store {}", ending.name()), move |sheet| {
            enter(lengths(ending, &setting, sheet), 25, sheet);
        }));
        let setting = settings.clone();
        tasks.push(Task::new(&[27], format!("F27: features of a store {}", ending.name()), move |sheet| {
            enter(features(ending, &setting, sheet), 27, sheet);
        }));
    }
    tasks.push(Task::new(&[26], "F26: second openers".to_owned(), move |sheet| {
        enter(openers(sheet), 26, sheet);
    }));
    tasks
}

fn enter(done: Result<(), String>, fault: u8, sheet: &mut Sheet) {
    if let Err(why) = done {
        sheet.enter(fault, Column::Silent(why), || "making the stores".to_owned());
    }
}

/// The store on a device that begins with `bytes`.
fn device(sample: &Sample, bytes: &[u8]) -> Arc<CowDisk> {
    sample.subject.shape.disk.cow(&Arc::new(CowBase::new(Arc::from(bytes), 512)))
}

/// F25: shorter is refused as truncated; longer is no trouble.
fn lengths(ending: Ending, settings: &Settings, sheet: &mut Sheet) -> Result<(), String> {
    let sample = Sample::usual(ending)?;
    let whole = sample.base.bytes();
    let mut rng = Rng::new(settings.seed).fork("lengths");
    let mut lengths: Vec<usize> = (0..whole.len()).step_by(512).collect();
    lengths.extend([1, 167, 168, 511, 513, 4095, 4097, whole.len() - 1]);
    lengths.extend((0..200).map(|_| rng.index(whole.len())));
    for len in lengths.into_iter().step_by(settings.stride) {
        let disk = device(&sample, whole.get(..len).unwrap_or(&[]));
        let opened = executor::run(OpenOptions::new().open_device(Arc::clone(&disk) as Arc<dyn Device>));
        let column = match opened {
            Ok(Err(Error::Truncated { .. } | Error::NotFreehold { .. } | Error::Corrupt { .. })) => {
                unchanged(&disk, Column::Detected)
            }
            Ok(Err(error)) => Column::Silent(format!("the opener was told: {error}")),
            Ok(Ok(_)) => Column::Silent("it was opened".to_owned()),
            Err(stuck) => Column::Silent(stuck.to_string()),
        };
        sheet.enter(25, column, || format!("store {}, cut to {len} bytes", ending.name()));
    }
    for more in [1, 511, 512, 4096, 5000, 64 << 10, 1 << 20] {
        let mut bytes = whole.to_vec();
        let mut tail = vec![0; more];
        rng.bytes(&mut tail);
        bytes.extend(tail);
        let column = match sample.trial().judge(device(&sample, &bytes), Damage::None) {
            Ok(Outcome::Opened(_)) => Column::Survived,
            Ok(Outcome::NotFormatted | Outcome::Refused) => Column::Detected,
            Err(violation) => Column::broken(&violation),
        };
        sheet.enter(25, column, || format!("store {}, {more} bytes longer", ending.name()));
    }
    Ok(())
}

/// Refusing must leave every byte as it was.
fn unchanged(disk: &Arc<CowDisk>, column: Column) -> Column {
    if disk.changed_chunks() == 0 {
        column
    } else {
        Column::Silent("it was refused, and written to".to_owned())
    }
}

/// F27.
fn features(ending: Ending, settings: &Settings, sheet: &mut Sheet) -> Result<(), String> {
    let sample = Sample::usual(ending)?;
    let mut versions: Vec<u32> = (0..=300).filter(|version| *version != FORMAT_VERSION).collect();
    versions.extend((8..32).flat_map(|bit| [1_u32 << bit, (1 << bit) + 1]));
    versions.push(u32::MAX);
    let copies: [&[usize]; 3] = [&[0], &[1], &[0, 1]];
    let with = |copies: &[usize], at: usize, bytes: &[u8]| -> Result<Arc<CowDisk>, String> {
        let disk = sample.disk();
        for &copy in copies.iter().filter(|copy| **copy < SUPERBLOCK_COPIES) {
            reseal_superblock(&disk, copy, |block| {
                block.iter_mut().skip(at).zip(bytes).for_each(|(byte, new)| *byte = *new);
            })?;
        }
        Ok(sample.subject.shape.disk.cow(&disk.freeze()))
    };
    for version in versions.into_iter().step_by(settings.stride) {
        for copies in copies {
            let disk = with(copies, VERSION_AT, &version.to_le_bytes())?;
            let column = match (version, copies.len()) {
                // No build wrote that: the copy is damaged, and the other one is good.
                (0, 1) => right(&sample, &disk, Column::Recovered),
                (0, _) => refused(&disk, false, |error| error.is_corruption()),
                _ => refused(
                    &disk,
                    false,
                    |error| matches!(error, Error::UnsupportedVersion { found, .. } if *found == version),
                ),
            };
            sheet.enter(27, column, || {
                format!("store {}, version {version} in copies {copies:?}", ending.name())
            });
        }
    }
    for bit in (0..64).step_by(settings.stride) {
        let bits = 1_u64 << bit;
        let is_refused =
            |error: &Error| matches!(error, Error::UnsupportedFeatures { bits: found, .. } if *found == bits);
        for copies in copies {
            // Beside the features that the store has.
            let disk = with(copies, INCOMPATIBLE_AT, &(bits | KNOWN_INCOMPATIBLE).to_le_bytes())?;
            let column = if bits & KNOWN_INCOMPATIBLE == 0 {
                refused(&disk, false, is_refused).and(refused(&disk, true, is_refused))
            } else {
                right(&sample, &disk, Column::Survived)
            };
            sheet.enter(27, column, || {
                format!("store {}, incompatible bit {bit} in copies {copies:?}", ending.name())
            });
        }
        // Both copies always agree about these.
        let disk = with(&[0, 1], READ_ONLY_COMPATIBLE_AT, &bits.to_le_bytes())?;
        let column = refused(&disk, false, is_refused).and(read_only(&sample, &disk));
        sheet.enter(27, column, || format!("store {}, read-only compatible bit {bit}", ending.name()));
        let disk = with(&[0, 1], COMPATIBLE_AT, &bits.to_le_bytes())?;
        let column = right(&sample, &disk, Column::Survived);
        sheet.enter(27, column, || format!("store {}, compatible bit {bit}", ending.name()));
    }
    Ok(())
}

/// The store must be refused in this way, and stay as it is.
fn refused(disk: &Arc<CowDisk>, read_only: bool, is_right: impl Fn(&Error) -> bool) -> Column {
    let options = OpenOptions::new().read_only(read_only);
    match executor::run(options.open_device(Arc::clone(disk) as Arc<dyn Device>)) {
        Ok(Err(error)) if is_right(&error) => unchanged(disk, Column::Detected),
        Ok(Err(error)) => Column::Silent(format!("the opener was told: {error}")),
        Ok(Ok(_)) => Column::Silent("it was opened".to_owned()),
        Err(stuck) => Column::Silent(stuck.to_string()),
    }
}

fn right(sample: &Sample, disk: &Arc<CowDisk>, column: Column) -> Column {
    match sample.trial().judge(Arc::clone(disk) as Arc<dyn Device>, Damage::None) {
        Ok(Outcome::Opened(found)) if found.whole => column,
        Ok(_) => Column::Silent("it was refused, or not whole".to_owned()),
        Err(violation) => Column::broken(&violation),
    }
}

/// Opening for reading only works, shows the right state, and writes nothing.
fn read_only(sample: &Sample, disk: &Arc<CowDisk>) -> Column {
    disk.set_read_only(true);
    let column = right(sample, disk, Column::Detected);
    disk.set_read_only(false);
    unchanged(disk, column)
}

/// F26: on a file, and on a loop device where there is one.
fn openers(sheet: &mut Sheet) -> Result<(), String> {
    let fail = |error: std::io::Error| error.to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(fail)?;
    let directory = tempfile::tempdir().map_err(fail)?;
    let path = directory.path().join("store");
    runtime.block_on(FormatOptions::new().create(&path, 4 << 20)).map_err(|error| error.to_string())?;
    runtime.block_on(openers_of(&path, "a file", sheet));
    // The store on the file is the one on the loop device, if this machine lets one be made.
    let made = Command::new("losetup").args(["--find", "--show"]).arg(&path).output();
    let node = made.ok().filter(|output| output.status.success());
    match node.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()) {
        Some(node) => {
            runtime.block_on(openers_of(Path::new(&node), "a loop device", sheet));
            let _ = Command::new("losetup").args(["--detach", &node]).output();
            sheet.apart(26, "loop devices", 1);
        }
        None => sheet.apart(26, "loop devices that could not be made here", 1),
    }
    Ok(())
}

async fn openers_of(path: &Path, what: &str, sheet: &mut Sheet) {
    for first_reads in [false, true] {
        for second in ["writes", "reads", "formats"] {
            for moment in ["just opened", "in mid-transaction", "after a commit", "after a checkpoint"] {
                let column =
                    second_opener(path, first_reads, second, moment).await.unwrap_or_else(Column::Silent);
                sheet.enter(26, column, || {
                    let first = if first_reads { "reader" } else { "writer" };
                    format!("{what}, {first} first, {moment}, the second {second}")
                });
            }
        }
    }
}

async fn second_opener(path: &Path, first_reads: bool, second: &str, moment: &str) -> Result<Column, String> {
    let fail = |error: Error| error.to_string();
    let (store, _) = OpenOptions::new().read_only(first_reads).open(path).await.map_err(fail)?;
    let mut transaction = store.begin();
    if !first_reads && moment != "just opened" {
        transaction.alloc(AllocRequest::bytes(5000)).await.map_err(fail)?;
        if moment != "in mid-transaction" {
            std::mem::replace(&mut transaction, store.begin()).commit().await.map_err(fail)?;
        }
        if moment == "after a checkpoint" {
            store.checkpoint().await.map_err(fail)?;
        }
    }
    // The lock is what refuses: the bytes are compared with a copy, for the first one may be at work.
    let refused = match second {
        "formats" => FormatOptions::new().force(true).open(path).await.err(),
        _ => OpenOptions::new().read_only(second == "reads").open(path).await.err(),
    };
    let shares = first_reads && second == "reads";
    let column = match refused {
        None if shares => Column::Survived,
        Some(Error::Locked { .. }) if !shares => Column::Detected,
        None => Column::Silent("both are in".to_owned()),
        Some(error) => Column::Silent(format!("the second one was told: {error}")),
    };
    // The first one goes on, and when it is gone the other one gets in.
    drop(transaction);
    if !first_reads {
        let mut transaction = store.begin();
        let extent = transaction.alloc(AllocRequest::bytes(1)).await.map_err(fail)?;
        transaction.free(&extent).await.map_err(fail)?;
        transaction.commit().await.map_err(fail)?;
        store.close().await.map_err(fail)?;
    }
    drop(store);
    let again: Allocator =
        Allocator::open(path).await.map_err(|error| format!("when the first one is gone: {error}"))?;
    again.close().await.map_err(fail)?;
    Ok(column)
}
