//! Opening a large store: 16 TiB with 1 % in use, spread over all of its segments, on a sparse file.
//!
//! `cargo bench --bench scale` makes the store (a minute or so, and a few GiB of metadata), then prints, for a store that
//! was closed in order and for one whose journal is full, how long opening and `info` take, what they read, and how much
//! memory an open store has. Times are medians; the file's metadata is in the page cache.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold::device::FileDeviceOptions;
use freehold::{AllocRequest, Allocator, FormatOptions, OpenOptions};

const DEVICE_BYTES: u64 = 16 << 40;
/// 1 % of a segment, in pages.
const PAGES_PER_SEGMENT: u64 = 2621;
const EXTENTS_PER_TRANSACTION: u64 = 64;
const ROUNDS: usize = 15;
/// Names the store to a process that opens it once and says what that took in memory.
const CHILD: &str = "FREEHOLD_BENCH_OPEN";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(run());
}

async fn run() {
    if let Some(path) = std::env::var_os(CHILD) {
        return open_once(Path::new(&path)).await;
    }
    let dir =
        tempfile::tempdir_in(std::env::var_os("FREEHOLD_BENCH_DIR").unwrap_or_else(|| ".".into())).unwrap();
    let path = dir.path().join("store");
    let started = Instant::now();
    let mut bytes = DEVICE_BYTES;
    if FormatOptions::new().create(&path, bytes).await.is_err() {
        // The longest file that ext4 has.
        bytes -= 4096;
        FormatOptions::new().create(&path, bytes).await.unwrap();
    }
    println!(
        "format         {:>9.1} ms, {bytes} bytes long, {} MiB of the file written",
        ms(started.elapsed()),
        written(&path)
    );
    let started = Instant::now();
    let store = Allocator::open(&path).await.unwrap();
    spread(&store).await;
    println!(
        "filled in      {:>9.1} s,  {} extents, {} MiB of the file written",
        started.elapsed().as_secs_f64(),
        store.stats().extents,
        written(&path)
    );
    store.close().await.unwrap();
    drop(store);
    report("clean", &path, false).await;

    // Transactions until the ring is as full as it gets before a checkpoint: half of it.
    let options = OpenOptions::new().checkpoint_age(Duration::from_secs(3600));
    let (store, _) = options.open(&path).await.unwrap();
    let half = store.layout().ring_bytes() / 2;
    let mut number = 0_u64;
    while store.stats().journal.ring_used_bytes < half * 9 / 10 {
        let tasks = (0..256).map(|_| {
            number += 1;
            let (store, owner) = (store.clone(), number);
            tokio::spawn(async move {
                let mut transaction = store.begin();
                transaction.alloc(AllocRequest::bytes(16_384).owner(owner)).await.unwrap();
                transaction.commit().await.unwrap();
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    }
    println!(
        "journal        {} MiB in use, {} transactions",
        store.stats().journal.ring_used_bytes >> 20,
        number
    );
    drop(store);
    report("needs replay", &path, true).await;
}

/// One extent in each segment.
async fn spread(store: &Allocator) {
    let layout = store.layout().clone();
    let (first, count) = (u64::from(layout.first_segment()), u64::from(layout.segment_count()));
    let bytes = PAGES_PER_SEGMENT * u64::from(layout.page_bytes());
    let mut number = first;
    while number < count {
        let mut transaction = store.begin();
        for segment in number..(number + EXTENTS_PER_TRANSACTION).min(count) {
            let offset = (segment * layout.segment_bytes()).max(layout.data_offset());
            transaction.alloc(AllocRequest::bytes(bytes).owner(segment).at(offset)).await.unwrap();
        }
        transaction.commit().await.unwrap();
        number += EXTENTS_PER_TRANSACTION;
    }
}

async fn report(state: &str, path: &Path, replays: bool) {
    let (mut reading, mut writing, mut infos) = (Vec::new(), Vec::new(), Vec::new());
    let mut read = 0;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let store = Allocator::open_read_only(path).await.unwrap();
        reading.push(started.elapsed());
        read = store.stats().device.read_bytes;
        drop(store);
        if !replays {
            let started = Instant::now();
            let store = Allocator::open(path).await.unwrap();
            writing.push(started.elapsed());
            store.close().await.unwrap();
        }
        let started = Instant::now();
        let device = FileDeviceOptions::new().read_only(true).open(path).unwrap();
        freehold::inspect::info(Arc::new(device)).unwrap();
        infos.push(started.elapsed());
    }
    let child =
        std::process::Command::new(std::env::current_exe().unwrap()).env(CHILD, path).output().unwrap();
    println!(
        "{state:<14} open for reading {:.2} ms, {} KiB read; for writing {:.2} ms; info {:.2} ms; {}",
        ms(median(reading)),
        read >> 10,
        ms(median(writing)),
        ms(median(infos)),
        String::from_utf8_lossy(&child.stdout).trim(),
    );
}

/// In a process of its own: what memory an open store takes.
async fn open_once(path: &Path) {
    let before = resident_bytes();
    let store = Allocator::open_read_only(path).await.unwrap();
    println!("{} KiB of memory", resident_bytes().saturating_sub(before) >> 10);
    drop(store);
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// MiB of the file that have blocks.
fn written(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    (std::fs::metadata(path).unwrap().blocks() * 512) >> 20
}

/// What the system counts as this process's memory.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or(0);
    pages * 4096
}
