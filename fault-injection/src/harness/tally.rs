//! What a campaign has done so far.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use freehold::device::Purpose;

use super::address::Address;
use crate::disk::{Choice, Event, TearKind, purpose_name};
use crate::oracle::{Oracle, Violation};

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
/// Shards of a set of seen states.
const SHARDS: usize = 64;
/// How deep inside others a recovery may be: 0 is outside.
pub(super) const DEPTHS: usize = 6;

/// Kinds of crash states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// A subset of the unflushed sectors reached the medium.
    Subset,
    /// One sector holds the front or the back of what was being written.
    Tear,
    /// One sector, or the physical block around it, holds garbage.
    Garbage,
    /// Power failed again, inside a recovery.
    Nested,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Subset, Self::Tear, Self::Garbage, Self::Nested];

    /// The class of a state outside a recovery.
    #[must_use]
    pub const fn of(choice: &Choice) -> Self {
        match choice.tear {
            None => Self::Subset,
            Some(tear) => match tear.kind {
                TearKind::Prefix(_) | TearKind::Suffix(_) => Self::Tear,
                TearKind::Garbage(_) | TearKind::Block(_) => Self::Garbage,
            },
        }
    }

    /// A short name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Subset => "subset",
            Self::Tear => "tear",
            Self::Garbage => "garbage",
            Self::Nested => "nested",
        }
    }

    /// What it stands for.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Subset => "a subset of the unflushed sectors reached the medium",
            Self::Tear => "besides, one sector is new at one end and old at the other",
            Self::Garbage => "besides, one sector or physical block is garbage; counted once for each cut",
            Self::Nested => "power failed again inside the recovery, up to five deep",
        }
    }
}

/// What an I/O point can be: a write for some purpose, or a flush.
pub const PHASES: usize = 9;

/// The phase of an event, below [`PHASES`]; none for what is no I/O.
#[must_use]
pub const fn phase_of(event: &Event) -> Option<usize> {
    match event {
        Event::Write { purpose, .. } | Event::FailedWrite { purpose, .. } => Some(match purpose {
            Purpose::Format => 0,
            Purpose::Superblock => 1,
            Purpose::Witness => 2,
            Purpose::Journal => 3,
            Purpose::Metadata => 4,
            Purpose::ChecksumTree => 5,
            Purpose::CallerCheckpoint => 6,
            _ => 7,
        }),
        Event::Flush | Event::FailedFlush | Event::LyingFlush => Some(8),
        _ => None,
    }
}

/// The name of a phase.
#[must_use]
pub const fn phase_name(phase: usize) -> &'static str {
    match phase {
        0 => purpose_name(Purpose::Format),
        1 => purpose_name(Purpose::Superblock),
        2 => purpose_name(Purpose::Witness),
        3 => purpose_name(Purpose::Journal),
        4 => purpose_name(Purpose::Metadata),
        5 => purpose_name(Purpose::ChecksumTree),
        6 => purpose_name(Purpose::CallerCheckpoint),
        7 => purpose_name(Purpose::CallerDirect),
        _ => "flush",
    }
}

/// Keys are hashes already.
#[derive(Debug, Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

type Shard<V> = Mutex<HashMap<u64, V, BuildHasherDefault<AsIs>>>;

/// A table with hashes for keys, shared between threads. Of each hash 64 bits are kept: among ten million states, one
/// pair in 400,000 such runs would be taken for equal.
#[derive(Debug)]
struct Table<V> {
    shards: Vec<Shard<V>>,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl<V: Copy> Table<V> {
    #[expect(clippy::cast_possible_truncation, reason = "half of the hash is enough")]
    fn with<T>(
        &self,
        hash: u128,
        work: impl FnOnce(&mut HashMap<u64, V, BuildHasherDefault<AsIs>>, u64) -> T,
    ) -> Option<T> {
        let shard = self.shards.get((hash >> 64) as usize % SHARDS)?;
        Some(work(&mut shard.lock().unwrap_or_else(PoisonError::into_inner), hash as u64))
    }

    /// Whether the key is new.
    fn insert(&self, hash: u128, value: V) -> bool {
        self.with(hash, |map, key| map.insert(key, value).is_none()).unwrap_or(false)
    }

    fn get(&self, hash: u128) -> Option<V> {
        self.with(hash, |map, key| map.get(&key).copied()).flatten()
    }
}

/// What was found on an image: the fingerprint, and in its lowest bits the least depth at which it was found. Beside it the
/// depth would take eight bytes.
#[derive(Clone, Copy, Debug)]
struct Found(u64);

impl Found {
    const DEPTH_BITS: u64 = 0b111;

    const fn new(fingerprint: u64, depth: usize) -> Self {
        Self(fingerprint & !Self::DEPTH_BITS | depth as u64 & Self::DEPTH_BITS)
    }

    const fn is(self, fingerprint: u64) -> bool {
        (self.0 ^ fingerprint) & !Self::DEPTH_BITS == 0
    }

    const fn depth(self) -> usize {
        (self.0 & Self::DEPTH_BITS) as usize
    }
}

/// A rule was broken; the address leads back to it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which rule.
    pub violation: Violation,
    /// Where; none for what depends on timing.
    pub address: Option<Address>,
    /// When, since the campaign began.
    pub after: Duration,
    /// How many distinct states had been seen.
    pub distinct_states: u64,
}

/// Counters of a campaign, and when it ends.
#[derive(Debug)]
pub struct Tally {
    /// Writes and flushes of all workloads, by phase.
    pub io_points: [Counter; PHASES],
    /// Those at which power was cut at least once.
    pub io_points_cut: [Counter; PHASES],
    /// States that were made, by the phase of the I/O that was cut.
    pub states_by_phase: [Counter; PHASES],
    /// States that were made, by class.
    pub crash_states: [Counter; 4],
    /// States that recovery can tell apart, by class.
    pub distinct_states: [Counter; 4],
    /// Cuts of which every combination of sectors was tried.
    pub cuts_exhausted: Counter,
    /// Cuts with too many combinations, which were sampled.
    pub cuts_sampled: Counter,
    /// Recoveries that were judged.
    pub recoveries: Counter,
    /// States that were judged by the recovery of an equal image.
    pub known: Counter,
    /// Of them, by how deep inside other recoveries; 0 is outside.
    pub recoveries_by_depth: [Counter; DEPTHS],
    /// Of them, those of images with damage beyond what a power cut does.
    pub damaged_recoveries: Counter,
    /// Damaged images that were refused by a typed error.
    pub refusals: Counter,
    /// Damaged images with a torn tail that hold the extents of a round before the one that was cut.
    pub earlier: Counter,
    /// Recovered stores that were worked on further.
    pub lives: Counter,
    /// Recovered stores that the closer oracles looked at.
    pub probes: Counter,
    /// Workloads.
    pub runs: Counter,
    /// Operations of all workloads.
    pub operations: Counter,
    /// Real processes killed.
    pub kills: Counter,
    /// Images that were recovered, and what was found.
    recovered: Table<Found>,
    /// What recoveries read.
    distinct: Table<()>,
    /// Recoveries that were cut, with what was allowed, by depth.
    nested: [Table<()>; DEPTHS],
    failures: Mutex<Vec<Failure>>,
    /// How many violations each oracle found.
    rejections: Mutex<HashMap<Oracle, u64>>,
    failure_limit: usize,
    wanted: Option<Oracle>,
    begun: Instant,
    deadline: Instant,
    stopped: AtomicBool,
}

impl Tally {
    /// A campaign of this length.
    #[must_use]
    pub fn new(length: Duration) -> Self {
        let begun = Instant::now();
        Self {
            io_points: Default::default(),
            io_points_cut: Default::default(),
            states_by_phase: Default::default(),
            crash_states: Default::default(),
            distinct_states: Default::default(),
            cuts_exhausted: Counter::default(),
            cuts_sampled: Counter::default(),
            recoveries: Counter::default(),
            known: Counter::default(),
            recoveries_by_depth: Default::default(),
            damaged_recoveries: Counter::default(),
            refusals: Counter::default(),
            earlier: Counter::default(),
            lives: Counter::default(),
            probes: Counter::default(),
            runs: Counter::default(),
            operations: Counter::default(),
            kills: Counter::default(),
            recovered: Table::default(),
            distinct: Table::default(),
            nested: Default::default(),
            failures: Mutex::default(),
            rejections: Mutex::default(),
            failure_limit: FAILURE_LIMIT,
            wanted: None,
            begun,
            deadline: begun + length,
            stopped: AtomicBool::new(false),
        }
    }

    /// Goes on after violations until the time is up, to see which oracles find some.
    #[must_use]
    pub fn going_on(self) -> Self {
        Self { failure_limit: usize::MAX, ..self }
    }

    /// Notes the violations of one oracle only, and stops at the first.
    #[must_use]
    pub fn wanting(self, oracle: Oracle) -> Self {
        Self { failure_limit: 1, wanted: Some(oracle), ..self }
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

    /// Time since it began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether an image with this content was recovered before, to one of these states, as deep inside other recoveries or
    /// less deep: deeper ones are cut less. Recovery is deterministic (which the oracle for recovering twice watches over), so
    /// equal images hold equal states.
    #[must_use]
    pub fn is_known(&self, content: u128, depth: usize, allowed: &[u64]) -> bool {
        let found = self.recovered.get(content).filter(|found| found.depth() <= depth);
        found.is_some_and(|found| allowed.iter().any(|&fingerprint| found.is(fingerprint)))
    }

    /// Notes which state was found on an image, so deep inside other recoveries.
    pub fn note_found(&self, content: u128, depth: usize, fingerprint: u64) {
        self.recovered.with(content, |map, key| {
            let known = map.get(&key).filter(|known| known.is(fingerprint));
            let depth = known.map_or(depth, |known| depth.min(known.depth()));
            map.insert(key, Found::new(fingerprint, depth));
        });
    }

    /// Whether a recovery was not cut before at this depth or at a lesser one. `allowed` stands for the states that the
    /// history allows.
    #[must_use]
    pub fn enter(&self, footprint: u128, allowed: u64, depth: usize) -> bool {
        let key = footprint ^ widen(allowed);
        let (less_deep, rest) = self.nested.split_at(depth.min(DEPTHS));
        less_deep.iter().all(|cut| cut.get(key).is_none())
            && rest.first().is_some_and(|cut| cut.insert(key, ()))
    }

    /// Counts a state as distinct unless one with its footprint was.
    pub fn count_distinct(&self, footprint: u128, class: Class) {
        if self.distinct.insert(footprint, ())
            && let Some(counter) = self.distinct_states.get(class as usize)
        {
            counter.add(1);
        }
    }

    /// Sum over all classes.
    #[must_use]
    pub fn all_distinct(&self) -> u64 {
        self.distinct_states.iter().map(Counter::get).sum()
    }

    /// Sum over all classes.
    #[must_use]
    pub fn all_crash_states(&self) -> u64 {
        self.crash_states.iter().map(Counter::get).sum()
    }

    /// Notes a broken rule. A campaign that has found some goes on for a while, then stops.
    pub fn fail(&self, violation: Violation, address: Option<Address>) {
        if self.wanted.is_some_and(|wanted| wanted != violation.oracle) {
            return;
        }
        *self
            .rejections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(violation.oracle)
            .or_default() += 1;
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < FAILURE_LIMIT {
            let (after, distinct_states) = (self.elapsed(), self.all_distinct());
            failures.push(Failure { violation, address, after, distinct_states });
        }
        if failures.len() >= self.failure_limit {
            self.stop();
        }
    }

    /// Broken rules so far; the first few.
    #[must_use]
    pub fn failures(&self) -> Vec<Failure> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many violations an oracle found.
    #[must_use]
    pub fn rejections(&self, oracle: Oracle) -> u64 {
        let rejections = self.rejections.lock().unwrap_or_else(PoisonError::into_inner);
        rejections.get(&oracle).copied().unwrap_or(0)
    }
}

fn widen(number: u64) -> u128 {
    u128::from(number) << 64 | u128::from(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        Tally::new(Duration::from_secs(60))
    }

    #[test]
    fn an_image_is_known_only_as_deep_as_it_was_recovered() {
        let tally = tally();
        let known = |depth| tally.is_known(7, depth, &[1 << 40, 5 << 40]);
        assert!(!known(5));
        tally.note_found(7, 2, 5 << 40);
        assert_eq!([0, 1, 2, 3].map(known), [false, false, true, true]);
        tally.note_found(7, 1, 5 << 40);
        tally.note_found(7, 4, 5 << 40);
        assert_eq!([0, 1, 2].map(known), [false, true, true]);
        assert!(!tally.is_known(7, 5, &[1 << 40]) && !tally.is_known(8, 5, &[5 << 40]));
    }

    #[test]
    fn a_recovery_is_cut_again_when_it_is_less_deep() {
        let tally = tally();
        assert!(tally.enter(7, 1, 2) && tally.enter(7, 2, 2));
        assert!(!tally.enter(7, 1, 2) && !tally.enter(7, 1, 3));
        assert!(tally.enter(7, 1, 0));
        assert!(!tally.enter(7, 1, 0) && !tally.enter(7, 1, 1));
        tally.count_distinct(7, Class::Nested);
        tally.count_distinct(7, Class::Subset);
        assert_eq!(tally.all_distinct(), 1);
    }
}
