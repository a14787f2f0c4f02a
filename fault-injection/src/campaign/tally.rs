//! What a campaign has done so far.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A number that several threads add to.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Reads.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A campaign that has broken so many rules stops.
pub const FAILURE_LIMIT: usize = 10;
/// Shards of the set of seen states.
const SHARDS: usize = 16;

/// States seen so far, shared between threads.
#[derive(Debug)]
pub struct Seen {
    shards: Vec<Mutex<HashSet<u128>>>,
}

impl Default for Seen {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Seen {
    /// Whether a state is new.
    pub fn insert(&self, hash: u128) -> bool {
        let shard = self.shards.get(usize::from(hash.to_le_bytes()[8]) % SHARDS);
        shard.is_some_and(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).insert(hash))
    }
}

/// A rule was broken; the line leads back to it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which rule, in words.
    pub message: String,
    /// Arguments for `crashtest --replay`.
    pub address: String,
}

/// Counters of a campaign, and when it ends.
#[derive(Debug)]
pub struct Tally {
    /// Writes and flushes of all workloads.
    pub io_points: Counter,
    /// Those at which power was cut at least once.
    pub io_points_cut: Counter,
    /// States that were made.
    pub crash_states: Counter,
    /// States with different bytes. Damage and garbage inside sectors do not count.
    pub distinct_states: Counter,
    /// Recoveries that were judged.
    pub recoveries: Counter,
    /// Of them, those that were cut themselves and recovered again.
    pub nested_recoveries: Counter,
    /// Of them, those of images with damage beyond what a power cut does.
    pub damaged_recoveries: Counter,
    /// Damaged images that were refused by a typed error.
    pub refusals: Counter,
    /// Recovered stores that were worked on further.
    pub exercised: Counter,
    /// Workloads.
    pub rounds: Counter,
    /// Real processes killed.
    pub kills: Counter,
    /// Distinct states.
    pub seen: Seen,
    /// Distinct states together with what had been acknowledged.
    pub judged: Seen,
    failures: Mutex<Vec<Failure>>,
    deadline: Instant,
    stopped: AtomicBool,
}

impl Tally {
    /// A campaign of this length.
    #[must_use]
    pub fn new(length: Duration) -> Self {
        Self {
            io_points: Counter::default(),
            io_points_cut: Counter::default(),
            crash_states: Counter::default(),
            distinct_states: Counter::default(),
            recoveries: Counter::default(),
            nested_recoveries: Counter::default(),
            damaged_recoveries: Counter::default(),
            refusals: Counter::default(),
            exercised: Counter::default(),
            rounds: Counter::default(),
            kills: Counter::default(),
            seen: Seen::default(),
            judged: Seen::default(),
            failures: Mutex::default(),
            deadline: Instant::now() + length,
            stopped: AtomicBool::new(false),
        }
    }

    /// Whether it is time to stop.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || Instant::now() >= self.deadline
    }

    /// Stops the campaign.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Notes a broken rule. A campaign that has found some goes on for a while, then stops.
    pub fn fail(&self, failure: Failure) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.push(failure);
        if failures.len() >= FAILURE_LIMIT {
            self.stop();
        }
    }

    /// Broken rules so far.
    #[must_use]
    pub fn failures(&self) -> Vec<Failure> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
