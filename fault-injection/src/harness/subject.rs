//! What a store has to do to be tested.

use std::fmt;
use std::sync::Arc;

use freehold::device::{Device, DeviceGeometry};

use super::run::Run;
use super::session::Session;
use crate::disk::{CowBase, CowDisk, Cut};
use crate::oracle::Violation;
use crate::rng::Rng;

/// The disk that a store lives on. Sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskShape {
    /// Its length.
    pub len_bytes: u64,
    /// What a power cut tears a write at.
    pub sector_bytes: u32,
    /// What the medium rewrites as a whole.
    pub physical_block_bytes: u32,
    /// Whether space can be reserved only by writing zeros into holes, as on file systems without `fallocate`.
    pub rewrites: bool,
}

impl DiskShape {
    /// A disk of these sizes, and plain otherwise.
    #[must_use]
    pub const fn new(len_bytes: u64, sector_bytes: u32, physical_block_bytes: u32) -> Self {
        Self { len_bytes, sector_bytes, physical_block_bytes, rewrites: false }
    }

    /// As a device tells it.
    #[must_use]
    pub const fn geometry(&self) -> DeviceGeometry {
        DeviceGeometry {
            len_bytes: self.len_bytes,
            sector_bytes: self.sector_bytes,
            physical_block_bytes: self.physical_block_bytes,
        }
    }

    /// A blank disk.
    #[must_use]
    pub fn blank(&self) -> Arc<CowBase> {
        let zeros: Arc<[u8]> = vec![0; usize::try_from(self.len_bytes).unwrap_or(0)].into();
        Arc::new(CowBase::new(zeros, self.sector_bytes.min(512)))
    }

    /// A disk to put crash states on.
    #[must_use]
    pub fn cow(&self, base: &Arc<CowBase>) -> Arc<CowDisk> {
        let disk = CowDisk::new(Arc::clone(base), self.sector_bytes, self.physical_block_bytes);
        disk.set_rewriting(self.rewrites);
        Arc::new(disk)
    }
}

/// A store that was opened.
#[derive(Debug)]
pub struct Opened<T> {
    /// The store.
    pub store: T,
    /// Whether recovery dropped work that had begun to reach the log. A crash inside such a recovery may bring the work
    /// back; one inside any other must not change what is found. A store that cannot tell says `true`.
    pub torn_tail: bool,
    /// What recovery did, for a story.
    pub report: Box<dyn fmt::Debug>,
}

/// Why a store is not opened, or not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no store.
    NotFormatted,
    /// A typed error that names damage.
    Damaged(String),
    /// Anything else is a broken rule.
    Broken(Violation),
}

impl From<Violation> for Refusal {
    fn from(violation: Violation) -> Self {
        Self::Broken(violation)
    }
}

impl From<crate::executor::Stuck> for Refusal {
    fn from(stuck: crate::executor::Stuck) -> Self {
        Self::Broken(stuck.into())
    }
}

/// The states that the history allows.
#[derive(Debug)]
pub struct Allowed<'a, T> {
    /// Oldest first, without gaps.
    pub states: &'a [T],
    /// Index of the state that was acknowledged. Older ones are allowed only because acknowledged work was damaged;
    /// what was written directly after them is still there.
    pub acknowledged: usize,
}

/// What may have happened to an image besides a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Nothing: every acknowledged step must be there.
    None,
    /// Bytes changed: a typed refusal is allowed, and a shorter prefix when recovery reports a torn tail.
    Some,
    /// A block of the log is not what was written last. Besides, the last group may be gone without a trace, so many
    /// transactions at most.
    LastGroup(usize),
}

/// An image was damaged on purpose.
#[derive(Clone, Debug)]
pub struct Injured {
    /// How, in words.
    pub what: String,
    /// What may come of it.
    pub allows: Damage,
}

/// A recovered store, for a closer look.
pub struct Probe<'a, S: Subject> {
    /// What was run.
    pub run: &'a Run<S>,
    /// The crash state.
    pub image: &'a Arc<CowBase>,
    /// The disk after recovery. The store is still open on it.
    pub disk: &'a Arc<CowDisk>,
    /// The recovered store.
    pub store: &'a S::Store,
    /// Which state of the history it holds.
    pub steps: usize,
    /// Whether recovery dropped a torn tail.
    pub torn_tail: bool,
}

/// A store under test.
///
/// The required methods are the whole contract. A crash state is good when [`open`](Self::open) recovers it and
/// [`check`](Self::check) finds one of the states that the history allows.
///
/// Equal calls on equal disks do equal things: states lead back to what they were made from, and an image that was
/// recovered once is not recovered again. So a store under test takes no time from a clock, and starts no threads.
/// Nothing waits for hardware; futures are driven by [`executor`](crate::executor), or by a runtime of one thread that
/// belongs to [`Store`](Self::Store), with a limit of its own for those that never end.
pub trait Subject: Sized {
    /// One thing that a workload does. It must make sense in every state of the store, so that a history can be
    /// shortened by leaving operations out.
    type Operation: Clone + fmt::Debug + fmt::Display;
    /// The store while it is open.
    type Store;
    /// A state of the reference model.
    type State: Clone;

    /// The disk to test on.
    fn disk(&self) -> DiskShape;

    /// The model's state before anything was done.
    fn blank(&self) -> Self::State;

    /// Makes an empty store.
    ///
    /// # Errors
    /// Whatever goes wrong: there are no faults yet.
    fn format(&self, device: Arc<dyn Device>) -> Result<(), Violation>;

    /// Opens a store, recovering it.
    ///
    /// # Errors
    /// See [`Refusal`].
    fn open(&self, device: Arc<dyn Device>) -> Result<Opened<Self::Store>, Refusal>;

    /// Applies an operation, and tells the session when steps begin, take effect and are acknowledged: first
    /// [`begin`](Session::begin), then the work, then [`push`](Session::push) for each step that took effect, then
    /// [`acknowledge`](Session::acknowledge). An operation that changes nothing needs none of them.
    ///
    /// A history has one order. Where the store promises none among operations at the same time, each combination of
    /// them that may be found is a step, and the last one has them all.
    ///
    /// # Errors
    /// When the store does not do what it should. An answer such as "no space" is no violation.
    fn apply(&self, session: &mut Session<Self>, operation: &Self::Operation) -> Result<(), Violation>;

    /// Says which of the allowed states the store holds, as an index; the newest if there are several.
    ///
    /// # Errors
    /// When it is none of them, or the store cannot be read.
    fn check(&self, store: &Self::Store, allowed: &Allowed<'_, Self::State>) -> Result<usize, Refusal>;

    /// Draws an operation.
    fn any_operation(&self, rng: &mut Rng) -> Self::Operation;

    /// A number that equal states share. Crash states with equal bytes are judged once for each set of allowed states.
    fn fingerprint(&self, state: &Self::State) -> u64;

    /// A number for everything that the open store knows beyond its disk; stores on equal disks with equal numbers
    /// behave alike. None when that cannot be told.
    fn memory(&self, _store: &Self::Store) -> Option<u64> {
        None
    }

    /// Goes on with a recovered store: new work, an orderly end, and what the next opening finds.
    ///
    /// # Errors
    /// When it does not go on as it should.
    fn live_on(&self, _probe: &Probe<'_, Self>) -> Result<(), Violation> {
        Ok(())
    }

    /// Looks at a recovered store with further oracles.
    ///
    /// # Errors
    /// When one of them rejects it.
    fn probe(&self, _probe: &Probe<'_, Self>) -> Result<(), Violation> {
        Ok(())
    }

    /// Looks at the order of what reached the disk.
    ///
    /// # Errors
    /// When a write came too early.
    fn watch(&self, _run: &Run<Self>) -> Result<(), Violation> {
        Ok(())
    }

    /// Damages a crash state beyond what a power cut does; everything follows from the seed. None when there is
    /// nothing to damage.
    fn injure(&self, _run: &Run<Self>, _cut: &Cut, _disk: &Arc<CowDisk>, _seed: u64) -> Option<Injured> {
        None
    }

    /// What recovery is going to find on a disk, line by line, for a story.
    fn describe(&self, _disk: &Arc<CowDisk>) -> Vec<String> {
        Vec::new()
    }
}
