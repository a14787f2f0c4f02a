//! A seeded workload on a simulated disk: what is done is written down as a history, with marks in the disk's trace.

use std::sync::Arc;

use freehold::device::Device;
use freehold::{AllocRequest, Allocator, Error, Extent, ExtentInfo, FormatOptions, OpenOptions};
use futures_util::future::join_all;

use super::judge::Violation;
use super::model::{Effects, Entry, History, Progress};
use super::payload;
use crate::disk::{ErrorCode, Fault, FaultPlan, IoKind, SimDisk, When};
use crate::executor;
use crate::rng::Rng;

/// The shape of a store.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Length of the disk.
    pub device_bytes: u64,
    /// Its sectors.
    pub sector_bytes: u32,
    /// Its physical blocks.
    pub physical_block_bytes: u32,
    /// Page size of the store.
    pub page_bytes: u64,
    /// Size of the journal ring.
    pub journal_bytes: u64,
}

impl Shape {
    /// One of the shapes that the harness explores: small stores on all sorts of disks.
    #[must_use]
    pub fn any(rng: &mut Rng) -> Self {
        let (sector_bytes, physical_block_bytes) =
            *rng.pick(&[(512, 512), (512, 4096), (4096, 4096), (512, 512)]).unwrap_or(&(512, 512));
        let (device_bytes, page_bytes) = *rng
            .pick(&[(256 << 10, 4096), (320 << 10, 4096), (512 << 10, 8192)])
            .unwrap_or(&(256 << 10, 4096));
        Self { device_bytes, sector_bytes, physical_block_bytes, page_bytes, journal_bytes: 32 << 10 }
    }

    /// Every store has the same identity, so that states of different runs can be equal.
    fn format_options(&self) -> FormatOptions {
        FormatOptions::new()
            .page_bytes(self.page_bytes)
            .journal_bytes(self.journal_bytes)
            .store_id(*b"freehold crashes")
            .clock(Arc::new(freehold::device::ManualClock::default()))
    }
}

/// A workload under way.
pub struct Workload {
    disk: Arc<SimDisk>,
    shape: Shape,
    rng: Rng,
    /// What was done so far.
    pub history: History,
    live: Vec<ExtentInfo>,
    next_tag: u64,
    store: Option<Allocator>,
}

/// Why a workload ended early.
type Step = Result<(), Violation>;

fn broken(what: &str, error: &Error) -> Violation {
    Violation { message: format!("without any fault, {what} failed: {error}") }
}

impl Workload {
    /// Goes on with a store on `disk` that is in the last state of `history`; formats one if that is empty and
    /// `format` is set.
    pub fn begin(disk: Arc<SimDisk>, shape: Shape, rng: Rng, history: History, next_tag: u64) -> Self {
        let live = history.last().extents.values().map(|held| held.info).collect();
        Self { disk, shape, rng, history, live, next_tag, store: None }
    }

    /// A tag that was never used in this chain of runs.
    #[must_use]
    pub fn next_tag(&self) -> u64 {
        self.next_tag
    }

    fn tag(&mut self) -> u64 {
        // A tag also names the pages behind the first.
        self.next_tag += 64;
        self.next_tag
    }

    fn started(&self, more: usize) {
        self.disk.mark(Progress::started_mark(self.history.entries.len() + more));
    }

    fn acknowledged(&self) {
        self.disk.mark(Progress::acknowledged_mark(self.history.entries.len()));
    }

    fn push(&mut self, entry: Entry) {
        self.history.push(entry, self.shape.page_bytes);
        self.live = self.history.last().extents.values().map(|held| held.info).collect();
    }

    /// Formats the disk.
    pub fn format(&mut self) -> Step {
        self.started(1);
        let device = Arc::clone(&self.disk) as Arc<dyn Device>;
        executor::run(self.shape.format_options().format_device(device))?
            .map_err(|error| broken("formatting", &error))?;
        self.push(Entry::Format);
        self.acknowledged();
        Ok(())
    }

    /// Opens the store, replaying what there is.
    pub fn open(&mut self) -> Step {
        self.store = None;
        let device = Arc::clone(&self.disk) as Arc<dyn Device>;
        let (store, _) = executor::run(OpenOptions::new().open_device(device))?
            .map_err(|error| broken("opening", &error))?;
        self.store = Some(store);
        Ok(())
    }

    fn store(&self) -> Result<Allocator, Violation> {
        self.store.clone().ok_or_else(|| Violation { message: "the workload has no open store".to_owned() })
    }

    /// Runs `operations` random operations, the last of them under an I/O error if `fail_last` is set.
    pub fn run(&mut self, operations: usize, fail_last: bool) -> Step {
        if self.store.is_none() {
            self.open()?;
        }
        for operation in 0..operations {
            if fail_last && operation + 1 == operations {
                return self.run_failing();
            }
            match self.rng.below(20) {
                0..=8 => self.transactions(1)?,
                9..=12 => {
                    let count = 2 + self.rng.index(3);
                    self.transactions(count)?;
                }
                13 => self.aborted()?,
                14 => self.abandoned()?,
                15 | 16 => self.overwrite()?,
                17 => {
                    let store = self.store()?;
                    executor::run(store.checkpoint())?.map_err(|error| broken("a checkpoint", &error))?;
                }
                18 => {
                    let store = self.store()?;
                    executor::run(store.maintain())?.map_err(|error| broken("maintenance", &error))?;
                }
                _ => {
                    if self.rng.chance(0.5) {
                        let store = self.store()?;
                        executor::run(store.close())?.map_err(|error| broken("closing", &error))?;
                    }
                    self.open()?;
                }
            }
        }
        Ok(())
    }

    /// Plans for so many transactions that have nothing to do with each other.
    fn plans(&mut self, count: usize) -> Vec<Plan> {
        let mut live = self.live.clone();
        self.rng.shuffle(&mut live);
        (0..count)
            .map(|_| {
                let mut plan = Plan::default();
                // A small store fills up: the fuller it is, the more is freed.
                let crowded = self.live.len() as u64 > 4 + self.rng.below(6);
                for _ in 0..self.rng.below(3) + u64::from(crowded) {
                    plan.free.extend(live.pop());
                }
                for _ in 0..self.rng.below(3) {
                    if let Some(info) = live.last().copied() {
                        plan.puts.push(self.any_put(&info.extent));
                    }
                }
                live.pop();
                // One that only frees is published at once; others may then ask for the space before it is durable.
                let least = u64::from(plan.free.is_empty() && plan.puts.is_empty());
                for _ in 0..least + self.rng.below(3 - least) {
                    let pages = *self.rng.pick(&[1, 1, 1, 2, 3]).unwrap_or(&1);
                    let tag = self.tag();
                    let puts = (0..self.rng.below(2)).map(|_| (self.rng.index(8), self.tag())).collect();
                    plan.alloc.push(PlannedAlloc { pages, owner: tag, tag, puts });
                }
                plan
            })
            .collect()
    }

    fn any_put(&mut self, extent: &Extent) -> (Extent, usize, usize, u64) {
        let pages = usize::try_from(extent.len / self.shape.page_bytes).unwrap_or(1);
        let units = usize::try_from(self.shape.page_bytes).unwrap_or(512) / payload::UNIT_BYTES;
        (*extent, self.rng.index(pages), self.rng.index(units), self.tag())
    }

    /// So many transactions at once; they share groups.
    fn transactions(&mut self, count: usize) -> Step {
        let plans = self.plans(count);
        let store = self.store()?;
        self.started(count);
        let page_bytes = self.shape.page_bytes;
        let tasks = plans.iter().map(|plan| plan.commit(&store, page_bytes));
        let outcomes = executor::run(join_all(tasks))?;
        let mut committed = Vec::new();
        for outcome in outcomes {
            match outcome {
                Ok(effects) => committed.push(effects),
                // A full store is an answer; the transaction left no trace.
                Err(Error::NoSpace { .. } | Error::TransactionTooLarge { .. }) => {}
                Err(error) => return Err(broken("a transaction", &error)),
            }
        }
        committed.sort_by_key(|effects| effects.lsn);
        for effects in committed {
            self.push(Entry::Transaction(effects));
        }
        self.acknowledged();
        Ok(())
    }

    fn aborted(&mut self) -> Step {
        let Some(plan) = self.plans(1).pop() else { return Ok(()) };
        let store = self.store()?;
        let before = store.stats();
        let prepared = executor::run(plan.prepare(&store, self.shape.page_bytes))?;
        drop(prepared);
        let after = store.stats();
        if (before.free_bytes, before.reserved_bytes, before.allocated_bytes, before.pending_bytes)
            != (after.free_bytes, after.reserved_bytes, after.allocated_bytes, after.pending_bytes)
        {
            return Err(Violation { message: format!("an abort left a trace: {before:?}, then {after:?}") });
        }
        Ok(())
    }

    /// A commit whose future is dropped after some polls: wholly there, or wholly gone.
    fn abandoned(&mut self) -> Step {
        let Some(plan) = self.plans(1).pop() else { return Ok(()) };
        let store = self.store()?;
        let before = store.stats().journal.durable_lsn;
        self.started(1);
        let polls = 1 + u32::try_from(self.rng.below(2)).unwrap_or(0);
        let mut effects = None;
        let prepared = executor::run(plan.prepare(&store, self.shape.page_bytes))?;
        if let Ok((transaction, planned)) = prepared {
            effects = Some(planned);
            let _ = executor::run_at_most(transaction.commit(), polls);
        }
        let after = store.stats();
        if let Some(mut effects) = effects
            && after.journal.durable_lsn != before
        {
            effects.lsn = after.journal.durable_lsn;
            self.push(Entry::Transaction(effects));
        }
        if after.reserved_bytes != 0 || after.pending_bytes != 0 {
            return Err(Violation { message: format!("an abandoned commit holds space: {after:?}") });
        }
        self.acknowledged();
        Ok(())
    }

    /// A direct write over a page of a live extent, journaled cells and all, then made durable.
    fn overwrite(&mut self) -> Step {
        let live = self.live.clone();
        let Some(info) = self.rng.pick(&live).copied() else { return Ok(()) };
        let (extent, page, _, tag) = self.any_put(&info.extent);
        let store = self.store()?;
        self.started(1);
        let len = usize::try_from(self.shape.page_bytes).unwrap_or(0);
        let offset = page as u64 * self.shape.page_bytes;
        executor::run(store.write_at(&extent, offset, &payload::page(tag, len)))?
            .map_err(|error| broken("a direct write", &error))?;
        executor::run(store.sync_data())?.map_err(|error| broken("a flush of data", &error))?;
        self.push(Entry::Overwrite { extent, page, tag });
        self.acknowledged();
        Ok(())
    }

    /// A transaction during which the disk fails once. It is not acknowledged unless it was durable; after a failure of
    /// the journal nothing is written any more.
    fn run_failing(&mut self) -> Step {
        let Some(plan) = self.plans(1).pop() else { return Ok(()) };
        let store = self.store()?;
        self.started(1);
        let code = if self.rng.chance(0.7) { ErrorCode::Io } else { ErrorCode::NoSpace };
        let when = if self.rng.chance(0.5) {
            When::kind(IoKind::Flush).nth(self.rng.below(3))
        } else {
            When::any().nth(self.rng.below(8))
        };
        self.disk.set_faults(FaultPlan::one(when, Fault::Fail(code)));
        let prepared = executor::run(plan.prepare(&store, self.shape.page_bytes))?;
        let Ok((transaction, mut effects)) = prepared else { return Ok(()) };
        let outcome = executor::run(transaction.commit())?;
        match outcome {
            Ok(committed) => {
                effects.lsn = committed.lsn;
                self.push(Entry::Transaction(effects));
                self.acknowledged();
                // The fault may still hit the checkpoint.
                let _ = executor::run(store.checkpoint())?;
            }
            Err(error) if error.is_outcome_unknown() => {
                effects.lsn = u64::MAX;
                self.push(Entry::Transaction(effects));
            }
            // Not committed.
            Err(_) => {}
        }
        if executor::run(store.sync_data())?.is_err() || executor::run(store.checkpoint())?.is_err() {
            let counts = self.disk.counts();
            let again = executor::run(async {
                let mut transaction = store.begin();
                transaction.alloc(1).await?;
                transaction.commit().await
            })?;
            if again.is_ok() || store.stats().reserved_bytes > self.shape.device_bytes {
                return Err(Violation { message: "a stopped store went on".to_owned() });
            }
            let _ = executor::run(store.maintain())?;
            let now = self.disk.counts();
            if (now.writes, now.flushes) != (counts.writes, counts.flushes) {
                return Err(Violation { message: "a stopped store went on writing".to_owned() });
            }
        }
        Ok(())
    }
}

/// A transaction to be made.
#[derive(Clone, Debug, Default)]
struct Plan {
    free: Vec<ExtentInfo>,
    puts: Vec<(Extent, usize, usize, u64)>,
    alloc: Vec<PlannedAlloc>,
}

#[derive(Clone, Debug)]
struct PlannedAlloc {
    pages: u64,
    owner: u64,
    tag: u64,
    puts: Vec<(usize, u64)>,
}

impl Plan {
    async fn prepare(
        &self,
        store: &Allocator,
        page_bytes: u64,
    ) -> freehold::Result<(freehold::Transaction, Effects)> {
        let mut transaction = store.begin();
        let mut effects = Effects::default();
        for info in &self.free {
            transaction.free(&info.extent).await?;
            effects.freed.push(info.extent);
        }
        for &(extent, page, unit, tag) in &self.puts {
            let offset = page as u64 * page_bytes + payload::cell_offset(unit) as u64;
            transaction.write(&extent, offset, &payload::cell(tag)).await?;
            effects.puts.push((extent, page, unit, tag));
        }
        for planned in &self.alloc {
            let request = AllocRequest::bytes(planned.pages * page_bytes).owner(planned.owner);
            let extent = transaction.alloc(request).await?;
            let len = usize::try_from(page_bytes).unwrap_or(0);
            for page in 0..extent.len / page_bytes {
                store.write_at(&extent, page * page_bytes, &payload::page(planned.tag + page, len)).await?;
            }
            for &(unit, tag) in &planned.puts {
                transaction.write(&extent, payload::cell_offset(unit) as u64, &payload::cell(tag)).await?;
                effects.puts.push((extent, 0, unit, tag));
            }
            effects.allocated.push((ExtentInfo { extent, owner: planned.owner }, planned.tag));
        }
        Ok((transaction, effects))
    }

    async fn commit(&self, store: &Allocator, page_bytes: u64) -> freehold::Result<Effects> {
        let (transaction, mut effects) = self.prepare(store, page_bytes).await?;
        effects.lsn = transaction.commit().await?.lsn;
        Ok(effects)
    }
}
