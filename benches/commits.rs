//! Durable commits per second, by number of tasks, beside the raw floor.
//!
//! One transaction frees a random live extent and allocates one of 4 KiB to 1 MiB; 2,000 are live. The floor appends 64
//! bytes to a file that was written in full before, and calls `fdatasync`. Everything runs in short turns that are
//! interleaved in rounds, so that a slow minute of the machine is in every figure; ratios are taken within a round.
//! Printed are medians, and the interval that holds the true median with 95 % confidence.
//!
//! `cargo bench --bench commits` takes about half a minute, `-- --quick` a few seconds; `-- --dir DIR` says where the
//! files are made.
#![expect(clippy::cast_possible_truncation, reason = "ranks, random indices and sizes of a few bytes")]

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use freehold::{AllocRequest, Allocator, AllocatorStats, Extent, FormatOptions};

const TASKS: [usize; 4] = [1, 16, 64, 256];
const LIVE_EXTENTS: usize = 2000;
const STORE_BYTES: u64 = 4 << 30;
const FLOOR_FILE_BYTES: u64 = 64 << 20;
const FLOOR_RECORD_BYTES: u64 = 64;

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Options {
    dir: PathBuf,
    rounds: usize,
    turn: Duration,
}

impl Options {
    fn from_arguments() -> Result<Self, Failure> {
        let mut options =
            Self { dir: env!("CARGO_TARGET_TMPDIR").into(), rounds: 20, turn: Duration::from_millis(250) };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => (options.rounds, options.turn) = (5, Duration::from_millis(100)),
                "--dir" => options.dir = arguments.next().ok_or("--dir needs a directory")?.into(),
                // Given by cargo.
                "--bench" => {}
                other => return Err(format!("unknown argument {other}").into()),
            }
        }
        Ok(options)
    }
}

/// One turn.
#[derive(Clone, Debug, Default)]
struct Turn {
    operations: u64,
    seconds: f64,
    /// How long each operation took, in seconds.
    latencies: Vec<f64>,
    before: AllocatorStats,
    after: AllocatorStats,
}

impl Turn {
    fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds
    }

    fn latency(&self) -> f64 {
        Median::of(self.latencies.clone()).middle
    }

    /// What a counter grew by.
    fn grown(&self, counter: impl Fn(&AllocatorStats) -> u64) -> f64 {
        (counter(&self.after) - counter(&self.before)) as f64
    }
}

/// A median with its confidence interval.
#[derive(Clone, Copy, Debug)]
struct Median {
    low: f64,
    middle: f64,
    high: f64,
}

impl Median {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let count = values.len() as f64;
        let at = |rank: f64| values.get(rank.clamp(0.0, count - 1.0) as usize).copied().unwrap_or(f64::NAN);
        // Ranks from the binomial distribution, approximated by the normal one.
        let spread = 1.96 * count.sqrt() / 2.0;
        Self {
            low: at((count / 2.0 - spread).floor()),
            middle: at(count / 2.0),
            high: at(count / 2.0 + spread),
        }
    }
}

impl std::fmt::Display for Median {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = if self.middle < 100.0 { 2 } else { 0 };
        write!(f, "{:.digits$} [{:.digits$}, {:.digits$}]", self.middle, self.low, self.high)
    }
}

/// The store, and what lives in it.
#[derive(Clone)]
struct Subject {
    store: Allocator,
    live: Arc<Mutex<(Vec<Extent>, u64)>>,
}

impl Subject {
    fn live(&self) -> MutexGuard<'_, (Vec<Extent>, u64)> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A random number (splitmix64).
    fn random(seed: &mut u64) -> u64 {
        *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let bits = (*seed ^ (*seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// An extent that nobody else frees, and the size of the next one.
    fn choose(&self, free: bool) -> (Option<Extent>, u64) {
        let (live, seed) = &mut *self.live();
        let bytes = 4096 << (Self::random(seed) % 9);
        if !free || live.is_empty() {
            return (None, bytes);
        }
        let chosen = Self::random(seed) as usize % live.len();
        (Some(live.swap_remove(chosen)), bytes)
    }

    async fn transaction(&self, free: bool) -> freehold::Result<()> {
        let (old, bytes) = self.choose(free);
        let mut txn = self.store.begin();
        let new = txn.alloc(AllocRequest::bytes(bytes)).await?;
        if let Some(old) = &old {
            txn.free(old).await?;
        }
        txn.commit().await?;
        self.live().0.push(new);
        Ok(())
    }

    async fn turn(&self, tasks: usize, time: Duration) -> Result<Turn, Failure> {
        let before = self.store.stats();
        let started = Instant::now();
        let workers: Vec<_> = (0..tasks)
            .map(|_| {
                let subject = self.clone();
                tokio::spawn(async move {
                    let mut latencies = Vec::new();
                    while started.elapsed() < time {
                        let began = Instant::now();
                        subject.transaction(true).await?;
                        latencies.push(began.elapsed().as_secs_f64());
                    }
                    Ok::<_, freehold::Error>(latencies)
                })
            })
            .collect();
        let mut latencies = Vec::new();
        for worker in workers {
            latencies.extend(worker.await??);
        }
        let seconds = started.elapsed().as_secs_f64();
        let after = self.store.stats();
        Ok(Turn { operations: latencies.len() as u64, seconds, latencies, before, after })
    }
}

/// The floor: a file that exists in full, and the next free byte of it.
struct Floor {
    file: File,
    position: u64,
}

impl Floor {
    fn new(path: &Path) -> std::io::Result<Self> {
        let mut file = File::create_new(path)?;
        for _ in 0..FLOOR_FILE_BYTES >> 20 {
            file.write_all(&[0; 1 << 20])?;
        }
        file.sync_all()?;
        forget(&file)?;
        Ok(Self { file, position: 0 })
    }

    fn turn(&mut self, time: Duration) -> std::io::Result<Turn> {
        let started = Instant::now();
        let mut latencies = Vec::new();
        while started.elapsed() < time {
            let began = Instant::now();
            self.file.write_all_at(&[0xAB; FLOOR_RECORD_BYTES as usize], self.position)?;
            self.file.sync_data()?;
            latencies.push(began.elapsed().as_secs_f64());
            self.position = (self.position + FLOOR_RECORD_BYTES) % FLOOR_FILE_BYTES;
        }
        let (operations, seconds) = (latencies.len() as u64, started.elapsed().as_secs_f64());
        Ok(Turn { operations, seconds, latencies, ..Turn::default() })
    }
}

/// Drops what is cached of a file. Some file systems cache what was written in large units, and then write the whole
/// unit for each small change in it.
fn forget(file: &File) -> std::io::Result<()> {
    Ok(rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::from_arguments()?;
    let dir = tempfile::tempdir_in(&options.dir)?;
    let path = dir.path().join("store");
    FormatOptions::new().page_bytes(4096).create(&path, STORE_BYTES).await?;
    let subject =
        Subject { store: Allocator::open(&path).await?, live: Arc::new(Mutex::new((Vec::new(), 1))) };
    for _ in 0..LIVE_EXTENTS {
        subject.transaction(false).await?;
    }
    let mut floor = Floor::new(&dir.path().join("floor"))?;

    let mut floors: Vec<Turn> = Vec::new();
    let mut turns: Vec<Vec<Turn>> = vec![Vec::new(); TASKS.len()];
    for _ in 0..options.rounds {
        floors.push(floor.turn(options.turn)?);
        for (tasks, turns) in TASKS.into_iter().zip(&mut turns) {
            turns.push(subject.turn(tasks, options.turn).await?);
        }
    }
    report(&floors, &turns);
    subject.store.close().await?;
    Ok(())
}

fn report(floors: &[Turn], turns: &[Vec<Turn>]) {
    let median = |turns: &[Turn], of: &dyn Fn(&Turn) -> f64| Median::of(turns.iter().map(of).collect());
    let micro = |turn: &Turn| turn.latency() * 1e6;
    println!("{} rounds; medians over rounds [95 % confidence interval]\n", floors.len());
    println!(
        "floor, append + fdatasync: {}/s, {} us each\n",
        median(floors, &Turn::rate),
        median(floors, &micro)
    );
    let names = ["commits/s", "median latency, us", "commits to floor", "latency to floor"];
    let more = [
        "groups",
        "txn/group",
        "writes/group",
        "flushes/group",
        "encoded B/txn",
        "written B/txn",
        "checkpoints",
    ];
    for (tasks, turns) in TASKS.into_iter().zip(turns) {
        let paired = |of: &dyn Fn(&Turn) -> f64| {
            Median::of(turns.iter().zip(floors).map(|(turn, floor)| of(turn) / of(floor)).collect())
        };
        let values =
            [median(turns, &Turn::rate), median(turns, &micro), paired(&Turn::rate), paired(&Turn::latency)];
        println!("{tasks} task{}", if tasks == 1 { "" } else { "s" });
        for (name, value) in names.iter().zip(values) {
            println!("  {name:<20}{value}");
        }
        let total = |counter: &dyn Fn(&AllocatorStats) -> u64| -> f64 {
            turns.iter().map(|turn| turn.grown(counter)).sum()
        };
        let groups = total(&|stats| stats.journal.groups);
        let transactions = total(&|stats| stats.journal.transactions);
        let sums = [
            groups,
            transactions / groups,
            total(&|stats| stats.device.writes) / groups,
            total(&|stats| stats.device.flushes) / groups,
            total(&|stats| stats.journal.encoded_bytes) / transactions,
            total(&|stats| stats.journal.written_bytes) / transactions,
            total(&|stats| stats.journal.checkpoints),
        ];
        for (name, value) in more.iter().zip(sums) {
            println!("  {name:<20}{value:.2}");
        }
        let flushes = total(&|stats| stats.device.flushes);
        let each = |nanoseconds: f64, count: f64| nanoseconds / count / 1e3;
        println!(
            "  device time         {:.1} us a write, {:.1} us a flush",
            each(total(&|stats| stats.device.write_nanoseconds), total(&|stats| stats.device.writes)),
            each(total(&|stats| stats.device.flush_nanoseconds), flushes)
        );
    }
    let of = |wanted: usize| TASKS.iter().position(|tasks| *tasks == wanted).and_then(|at| turns.get(at));
    if let (Some(one), Some(many)) = (of(1), of(64)) {
        let ratio = Median::of(one.iter().zip(many).map(|(one, many)| many.rate() / one.rate()).collect());
        let verdict = if ratio.middle >= 10.0 { "reached" } else { "MISSED" };
        println!("\n64 tasks / 1 task: {ratio}, at least 10 wanted: {verdict}");
    }
}
