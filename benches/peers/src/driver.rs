//! Gives a contender its turns.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold::AllocatorStats;
use tokio::runtime::Runtime;

use crate::Failure;
use crate::contender::{Clients, Contender};
use crate::measure::{Cost, Counters, Quantiles, Source, Times, settle};
use crate::workload::Pool;

/// What is asked for in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Durable transactions from so many tasks, each of which waits for its own.
    Tasks(usize),
    /// One client that does not wait; all is durable at the end of the turn.
    Rush,
    /// Space is reserved and given back. Nothing is committed.
    Reserve,
    /// Blobs that the page cache has are read by so many tasks.
    Reads(usize),
    /// The floor of puts from so many tasks, with the writeback of each blob begun at once.
    Early(usize),
}

impl Load {
    /// Parts of a turn between which the others have theirs. With few tasks most depends on where the system lets threads run, and
    /// on what else the machine does; both change within a second.
    pub(crate) fn parts(self) -> u32 {
        if matches!(self, Self::Tasks(tasks) if tasks <= FEW) { PARTS } else { 1 }
    }
}

const FEW: usize = 16;
const PARTS: u32 = 5;

/// One turn, in one or several parts.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) operations: u64,
    pub(crate) seconds: f64,
    pub(crate) quantiles: Quantiles,
    /// What the quantiles are of.
    pub(crate) times: Times,
    /// Before and after each part, if it is Freehold's.
    pub(crate) stats: Vec<[AllocatorStats; 2]>,
    pub(crate) cost: Option<Cost>,
}

impl Turn {
    pub(crate) fn new(operations: u64, time: Duration, mut times: Times) -> Self {
        let quantiles = times.quantiles();
        Self { operations, seconds: time.as_secs_f64(), quantiles, times, stats: Vec::new(), cost: None }
    }

    /// Goes on with another part.
    pub(crate) fn append(&mut self, mut part: Self) {
        self.operations += part.operations;
        self.seconds += part.seconds;
        self.times.append(&mut part.times);
        self.quantiles = self.times.quantiles();
        self.stats.append(&mut part.stats);
        self.cost = self.cost.zip(part.cost).map(|(before, more)| before.and(&more));
    }

    pub(crate) fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds
    }

    pub(crate) fn p50(&self) -> f64 {
        self.quantiles.p50
    }

    /// A cost by operation.
    pub(crate) fn each(&self, of: impl Fn(&Cost) -> Option<f64>) -> f64 {
        self.cost.as_ref().and_then(of).map_or(f64::NAN, |cost| cost / self.operations as f64)
    }

    /// Processor time by operation, in seconds.
    pub(crate) fn cpu(&self) -> f64 {
        self.each(|cost| Some(cost.cpu_seconds))
    }

    /// What a counter of Freehold grew by.
    pub(crate) fn grown(&self, counter: impl Fn(&AllocatorStats) -> u64) -> f64 {
        if self.stats.is_empty() {
            return f64::NAN;
        }
        let parts = self.stats.iter().map(|[before, after]| counter(after).saturating_sub(counter(before)));
        parts.sum::<u64>() as f64
    }
}

/// Whoever has turns.
pub(crate) trait Subject {
    /// None if it cannot do that.
    fn turn(&mut self, load: Load, time: Duration) -> Result<Option<Turn>, Failure>;
}

/// One that keeps what it was told.
pub(crate) trait Store: Subject {
    /// Allocates until so many are live.
    fn fill(&mut self, live: usize) -> Result<(), Failure>;
    /// The first durable transaction behind opening: one allocation.
    fn first(&mut self) -> Result<(), Failure>;
    /// Finds what is live, to go on with it.
    fn list(&mut self) -> Result<usize, Failure>;
}

/// Gives a turn and measures what it costs.
pub(crate) fn measured(
    subject: &mut dyn Subject,
    dir: &Path,
    source: &Source,
    load: Load,
    time: Duration,
) -> Result<Option<Turn>, Failure> {
    settle(dir)?;
    let start = Counters::read(source);
    let Some(mut turn) = subject.turn(load, time)? else { return Ok(None) };
    let end = Counters::read(source);
    settle(dir)?;
    turn.cost = Some(Cost::between(&start, &end, &Counters::read(source)));
    Ok(Some(turn))
}

/// A contender at work.
pub(crate) struct Driver<C: Contender> {
    runtime: Arc<Runtime>,
    pub(crate) contender: Arc<C>,
    pool: Pool,
}

/// Most allocations that are asked for at once.
const FILL: usize = 10_000;

/// A task: transactions, one after the other. Nobody else frees what it has.
async fn work<C: Contender>(
    contender: Arc<C>,
    mut pool: Pool,
    clients: Clients,
    until: Instant,
) -> Result<(Pool, Times), Failure> {
    let (mut times, mut began) = (Times::default(), Instant::now());
    while began < until {
        let (freed, bytes) = pool.choose();
        let made = contender.transact(freed, bytes, clients).await?;
        pool.live.push(made);
        let now = Instant::now();
        times.record(now - began);
        began = now;
    }
    Ok((pool, times))
}

impl<C: Contender> Driver<C> {
    pub(crate) fn new(runtime: &Arc<Runtime>, contender: C) -> Self {
        Self { runtime: Arc::clone(runtime), contender: Arc::new(contender), pool: Pool::new(1) }
    }

    pub(crate) fn open(runtime: &Arc<Runtime>, dir: &Path, capacity: u64) -> Result<Self, Failure> {
        let dir: PathBuf = dir.to_owned();
        let opening = async move { C::open(&dir, capacity).await };
        Ok(Self::new(runtime, runtime.block_on(opening)?))
    }

    async fn share(&mut self, tasks: usize, time: Duration) -> Result<Turn, Failure> {
        let clients = if tasks == 1 { Clients::One } else { Clients::Many };
        let pools = self.pool.deal(tasks);
        let started = Instant::now();
        let workers: Vec<_> = pools
            .into_iter()
            .map(|pool| tokio::spawn(work(Arc::clone(&self.contender), pool, clients, started + time)))
            .collect();
        let mut done = Vec::new();
        for worker in workers {
            done.push(worker.await??);
        }
        let (elapsed, mut times) = (started.elapsed(), Times::default());
        for (mut pool, mut own) in done {
            self.pool.live.append(&mut pool.live);
            times.append(&mut own);
        }
        Ok(Turn::new(u64::try_from(times.len())?, elapsed, times))
    }

    /// One client has everything for itself.
    async fn alone(&mut self, load: Load, time: Duration) -> Result<Option<Turn>, Failure> {
        let started = Instant::now();
        let operations = match load {
            Load::Reserve => self.contender.reserve(&mut self.pool, time).await?,
            _ => Some(self.contender.rush(&mut self.pool, time).await?),
        };
        let elapsed = started.elapsed();
        Ok(operations.map(|operations| Turn::new(operations, elapsed, Times::default())))
    }
}

impl<C: Contender> Subject for Driver<C> {
    fn turn(&mut self, load: Load, time: Duration) -> Result<Option<Turn>, Failure> {
        let before = self.contender.stats();
        let runtime = Arc::clone(&self.runtime);
        let turn = match load {
            Load::Tasks(tasks) => runtime.block_on(self.share(tasks, time)).map(Some),
            Load::Rush | Load::Reserve => runtime.block_on(self.alone(load, time)),
            Load::Reads(_) | Load::Early(_) => return Ok(None),
        };
        let stats = before.zip(self.contender.stats()).map(|(before, after)| [before, after]);
        Ok(turn?.map(|turn| Turn { stats: stats.into_iter().collect(), ..turn }))
    }
}

impl<C: Contender> Store for Driver<C> {
    fn fill(&mut self, live: usize) -> Result<(), Failure> {
        while self.pool.live.len() < live {
            let count = (live - self.pool.live.len()).min(FILL);
            let sizes: Vec<u64> = (0..count).map(|_| self.pool.random.size()).collect();
            let made = self.runtime.block_on(self.contender.fill(&sizes))?;
            self.pool.live.extend(made);
        }
        Ok(())
    }

    fn first(&mut self) -> Result<(), Failure> {
        let bytes = self.pool.random.size();
        self.runtime.block_on(self.contender.transact(None, bytes, Clients::One))?;
        Ok(())
    }

    fn list(&mut self) -> Result<usize, Failure> {
        let live = self.runtime.block_on(self.contender.live())?;
        let count = live.len();
        self.pool.live = live;
        Ok(count)
    }
}
