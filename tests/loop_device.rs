//! Goal: the same store runs on a file through the page cache, on a file with direct I/O, and on a block device with
//! sectors of 4096 bytes and direct I/O.
//!
//! Method: a few hundred transactions with data on each, then a reopening without a close, and a comparison of extents and
//! bytes. The block device is a loop device; where there is none to be had, that test says so and is skipped.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use freehold::device::{Device, FileDeviceOptions};
use freehold::{AllocRequest, Allocator, Error, Extent, ExtentInfo, FormatOptions, OpenOptions};
use futures_util::TryStreamExt;

const STORE_BYTES: u64 = 64 << 20;
const TRANSACTIONS: u64 = 400;
const TASKS: u64 = 8;

/// A loop device over a file, detached when dropped.
struct LoopDevice(PathBuf);

impl LoopDevice {
    /// `Err` says why there is none.
    fn attach(file: &Path) -> Result<Self, String> {
        let output = Command::new("losetup")
            .args(["--sector-size", "4096", "--direct-io=on", "-f", "--show"])
            .arg(file)
            .output()
            .map_err(|error| format!("losetup cannot be run: {error}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            Ok(Self(text(&output.stdout).into()))
        } else {
            Err(format!("losetup failed: {}", text(&output.stderr)))
        }
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // Nothing can be done about a failure here but to tell.
        match Command::new("losetup").arg("-d").arg(&self.0).status() {
            Ok(status) if status.success() => {}
            other => eprintln!("{} could not be detached: {other:?}", self.0.display()),
        }
    }
}

fn data_of(number: u64) -> Vec<u8> {
    let len = 1 + number * 7919 % 50_000;
    (0..len).map(|at| (at ^ (at >> 8) ^ (number * 31)) as u8).collect()
}

/// Puts, replaces and frees extents with data from several tasks; returns what must be there.
async fn work(store: &Allocator) -> Vec<(Extent, u64)> {
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut live: Vec<(Extent, u64)> = Vec::new();
                for number in (task..TRANSACTIONS).step_by(TASKS as usize) {
                    let data = data_of(number);
                    let mut txn = store.begin();
                    let request = AllocRequest::bytes(data.len() as u64 + 16).owner(number);
                    let extent = txn.alloc(request).await.unwrap();
                    // The body directly, a note behind it through the journal: their sector is shared.
                    store.write_at(&extent, 0, &data).await.unwrap();
                    txn.write(&extent, data.len() as u64, &number.to_le_bytes()).await.unwrap();
                    if number % 3 == 0 && !live.is_empty() {
                        let (old, _) = live.swap_remove(number as usize % live.len());
                        txn.free(&old).await.unwrap();
                    }
                    txn.commit().await.unwrap();
                    live.push((extent, number));
                }
                live
            })
        })
        .collect();
    let mut live = Vec::new();
    for task in tasks {
        live.extend(task.await.unwrap());
    }
    live.sort_unstable();
    live
}

async fn compare(store: &Allocator, live: &[(Extent, u64)]) {
    let found: Vec<ExtentInfo> = store.extents().try_collect().await.unwrap();
    let expected: Vec<_> = live.iter().map(|&(extent, owner)| ExtentInfo { extent, owner }).collect();
    assert_eq!(found, expected);
    for (extent, number) in live {
        let data = data_of(*number);
        let read = store.read_at(extent, 0, data.len() + 8).await.unwrap();
        assert!(read[..data.len()] == data, "data of transaction {number}");
        assert_eq!(read[data.len()..], number.to_le_bytes(), "note of transaction {number}");
    }
}

/// Formats, works, reopens without closing, compares; closes, reopens, compares.
async fn run(path: &Path, direct: bool, sector_bytes: Option<u32>) {
    let options = OpenOptions::new().direct_io(direct);
    FormatOptions::new().direct_io(direct).open(path).await.unwrap();
    let (store, _) = options.open(path).await.unwrap();
    if let Some(sector_bytes) = sector_bytes {
        assert_eq!(store.layout().sector_bytes(), sector_bytes);
        let device = FileDeviceOptions::new().read_only(true).open(path);
        assert!(matches!(device, Err(Error::Locked { .. })), "{device:?}");
    }
    assert!(matches!(options.open(path).await, Err(Error::Locked { .. })));
    assert!(matches!(Allocator::open(path).await, Err(Error::Locked { .. })));
    assert!(matches!(Allocator::open_read_only(path).await, Err(Error::Locked { .. })));
    let live = work(&store).await;
    compare(&store, &live).await;
    drop(store);

    let (store, report) = options.open(path).await.unwrap();
    assert!(!report.torn_tail, "{report:?}");
    compare(&store, &live).await;
    store.close().await.unwrap();
    drop(store);
    if let Some(sector_bytes) = sector_bytes {
        let device = FileDeviceOptions::new().read_only(true).direct_io(direct).open(path).unwrap();
        assert!(device.is_block_device());
        assert_eq!(device.geometry().sector_bytes, sector_bytes);
    }
    let (store, report) = options.open(path).await.unwrap();
    assert_eq!(report.transactions, 0);
    compare(&store, &live).await;
}

fn image() -> (tempfile::TempDir, PathBuf) {
    // Not the system's directory for temporary files, which may be a file system in memory without direct I/O.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("image");
    std::fs::File::create(&path).unwrap().set_len(STORE_BYTES).unwrap();
    (dir, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_loop_device_with_large_sectors_and_direct_io() {
    let (_dir, path) = image();
    let device = match LoopDevice::attach(&path) {
        Ok(device) => device,
        Err(reason) => {
            eprintln!(
                "SKIPPED on_a_loop_device_with_large_sectors_and_direct_io: no loop device here ({reason})"
            );
            return;
        }
    };
    run(&device.0, true, Some(4096)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_file_through_the_page_cache() {
    let (_dir, path) = image();
    run(&path, false, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_file_with_direct_io() {
    let (_dir, path) = image();
    let opened = FileDeviceOptions::new().direct_io(true).open(&path).map(drop);
    if let Err(error) = opened {
        eprintln!("SKIPPED on_a_file_with_direct_io: this file system has none ({error})");
        return;
    }
    run(&path, true, None).await;
}

/// A program that is being started holds copies of all open files for a moment, also of a store that is closed in that
/// moment.
#[tokio::test(flavor = "multi_thread")]
async fn starting_programs_does_not_keep_a_closed_store_locked() {
    let (_dir, image) = image();
    let device = LoopDevice::attach(&image);
    let path = device.as_ref().map_or(image.as_path(), |device| &device.0);
    FormatOptions::new().open(path).await.unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                Command::new("true").status().unwrap();
            }
        });
        for round in 0..200 {
            let opened = FileDeviceOptions::new().open(path);
            if opened.is_err() {
                done.store(true, Ordering::Relaxed);
            }
            opened.unwrap_or_else(|error| panic!("round {round}: {error}"));
        }
        done.store(true, Ordering::Relaxed);
    });
}
