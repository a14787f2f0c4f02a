//! What only Freehold is asked: what its metadata costs in the long run, and how long it takes to open.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold::{Allocator, AllocatorStats, FormatOptions, OpenOptions};
use rustix::fs::{Advice, fadvise};
use tokio::runtime::Runtime;

use crate::Failure;
use crate::contender::Freehold;
use crate::driver::{Driver, Load, Store as _, Subject as _};
use crate::options::Options;
use crate::workload::{PAGE_BYTES, capacity};

const TASKS: usize = 256;
/// Bytes of groups in the journal that is replayed.
const FULL_BYTES: u64 = 64 << 20;
/// A store makes room when its ring is half full, and this one is never to.
const RING_BYTES: u64 = 3 * FULL_BYTES;
const HOUR: Duration = Duration::from_secs(3600);
/// How long it works until it looks how full the journal is.
const LOOK: Duration = Duration::from_millis(20);

/// Work without a pause, and then a checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Steady {
    pub(crate) live: usize,
    pub(crate) seconds: f64,
    pub(crate) transactions: u64,
    /// Bytes of a block of metadata.
    pub(crate) block_bytes: u64,
    pub(crate) before: AllocatorStats,
    /// Before the last checkpoint.
    pub(crate) worked: AllocatorStats,
    pub(crate) after: AllocatorStats,
}

impl Steady {
    pub(crate) fn grown(&self, counter: impl Fn(&AllocatorStats) -> u64) -> f64 {
        counter(&self.after).saturating_sub(counter(&self.before)) as f64
    }
}

/// Openings with a full journal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replays {
    /// In place, with everything in the page cache.
    pub(crate) warm_seconds: Vec<f64>,
    /// For reading only, and nothing in the page cache.
    pub(crate) cold_seconds: Vec<f64>,
    /// In the last one.
    pub(crate) transactions: u64,
    pub(crate) ring_bytes: u64,
}

/// All of it.
#[derive(Clone, Debug)]
pub(crate) struct Probes {
    pub(crate) steady: Vec<Steady>,
    /// How long it takes to open the last of these, closed in order.
    pub(crate) clean_seconds: Vec<f64>,
    pub(crate) replays: Replays,
}

type Own = Driver<Freehold<false>>;

fn steady(driver: &mut Own, runtime: &Runtime, live: usize, time: Duration) -> Result<Steady, Failure> {
    eprintln!("{live} live: steady work");
    driver.fill(live)?;
    let store = driver.contender.store.clone();
    runtime.block_on(store.checkpoint())?;
    let before = store.stats();
    let turn = driver.turn(Load::Tasks(TASKS), time)?.ok_or("no turn")?;
    let worked = store.stats();
    runtime.block_on(store.checkpoint())?;
    let (seconds, transactions) = (turn.seconds, turn.operations);
    let block_bytes = store.layout().block_bytes().into();
    Ok(Steady { live, seconds, transactions, block_bytes, before, worked, after: store.stats() })
}

async fn timed_opening(options: &OpenOptions, path: &Path) -> Result<(Allocator, u64, f64), Failure> {
    let began = Instant::now();
    let (store, report) = options.open(path).await?;
    Ok((store, report.transactions, began.elapsed().as_secs_f64()))
}

/// Drops what the system caches of a file.
fn forget(path: &Path) -> Result<(), Failure> {
    let file = std::fs::File::open(path)?;
    file.sync_all()?;
    Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
}

fn replays(options: &Options, runtime: &Arc<Runtime>, dir: &Path) -> Result<Replays, Failure> {
    let path = dir.join("full");
    let format = FormatOptions::new().page_bytes(PAGE_BYTES).journal_bytes(RING_BYTES);
    runtime.block_on(format.create(&path, capacity(0)))?;
    let (writing, reading) = (OpenOptions::new().checkpoint_age(HOUR), OpenOptions::new().read_only(true));
    let mut replays = Replays::default();
    for round in 0..=options.replays {
        eprintln!("a full journal: {round} of {}", options.replays);
        let (store, transactions, seconds) = runtime.block_on(timed_opening(&writing, &path))?;
        if round > 0 {
            replays.warm_seconds.push(seconds);
            replays.transactions = transactions;
        }
        let mut driver = Own::new(runtime, Freehold { store: store.clone() });
        // The second time on, what lived before goes on living.
        driver.list()?;
        driver.fill(options.live())?;
        // A checkpoint would empty it. Opening may have counted one.
        let checkpoints = store.stats().journal.checkpoints;
        let is_filling = |stats: AllocatorStats| {
            stats.journal.ring_used_bytes < FULL_BYTES && stats.journal.checkpoints == checkpoints
        };
        while is_filling(store.stats()) {
            driver.turn(Load::Tasks(TASKS), LOOK)?;
        }
        replays.ring_bytes = store.stats().journal.ring_used_bytes;
        drop((driver, store));
        forget(&path)?;
        let (store, _, seconds) = runtime.block_on(timed_opening(&reading, &path))?;
        drop(store);
        replays.cold_seconds.push(seconds);
    }
    std::fs::remove_file(&path)?;
    Ok(replays)
}

/// Freehold by itself.
pub(crate) fn probe(options: &Options, runtime: &Arc<Runtime>, dir: &Path) -> Result<Probes, Failure> {
    let mut results = Vec::new();
    let mut clean_seconds = Vec::new();
    for live in [options.live(), options.spread] {
        let dir = dir.join(format!("steady-{live}"));
        std::fs::create_dir_all(&dir)?;
        let mut driver = Own::open(runtime, &dir, capacity(live))?;
        results.push(steady(&mut driver, runtime, live, options.steady)?);
        runtime.block_on(driver.contender.store.close())?;
        drop(driver);
        clean_seconds.clear();
        for _ in 0..options.rounds {
            let (store, _, seconds) =
                runtime.block_on(timed_opening(&OpenOptions::new(), &dir.join("store")))?;
            clean_seconds.push(seconds);
            runtime.block_on(store.close())?;
        }
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(Probes { steady: results, clean_seconds, replays: replays(options, runtime, dir)? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    #[test]
    fn steady_work_counts_what_a_checkpoint_behind_it_writes() {
        let (dir, runtime) = (tempfile::tempdir().unwrap(), Arc::new(Runtime::new().unwrap()));
        let mut driver = Own::open(&runtime, dir.path(), capacity(0)).unwrap();
        let steady = steady(&mut driver, &runtime, 500, Duration::from_millis(50)).unwrap();
        assert_eq!(steady.transactions as f64, steady.grown(|stats| stats.journal.transactions));
        assert!(steady.grown(|stats| stats.journal.checkpoints) >= 1.0);
        let (written, journal) = (
            steady.grown(|stats| stats.device.write_bytes),
            steady.grown(|stats| stats.journal.written_bytes),
        );
        assert!(written > journal && journal > 0.0, "{written} {journal}");
        assert!(steady.worked.journal.overlay_blocks > 0 && steady.block_bytes >= 512);
        assert_eq!(steady.after.extents, 500);
    }
}
