//! Clients of a store: tasks that commit, each waiting for its own transactions.

use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold::{AllocRequest, Allocator, AllocatorStats, CommitStages, Extent, FormatOptions, Histogram};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

use super::workload::{Random, live, store_bytes};
use crate::exit::{Exit, Failure};

const SEED: u64 = 1;
const OWNER: u64 = 42;
/// Most allocations in one transaction when the store is filled.
const FILL: usize = 1000;

/// One client. Nobody else frees what it has.
#[derive(Debug)]
struct Client {
    live: Vec<Extent>,
    random: Random,
}

impl Client {
    async fn transact(&mut self, store: &Allocator) -> freehold::Result<()> {
        let mut transaction = store.begin();
        let made = transaction.alloc(AllocRequest::bytes(self.random.size()).owner(OWNER)).await?;
        if let Some(freed) = self.random.take(&mut self.live) {
            transaction.free(&freed).await?;
        }
        self.live.push(made);
        transaction.commit().await.map(|_| ())
    }

    /// Transactions until then, and at least one.
    async fn work(
        mut self,
        store: Allocator,
        latencies: Arc<Histogram>,
        until: Instant,
    ) -> freehold::Result<Self> {
        let mut began = Instant::now();
        loop {
            self.transact(&store).await?;
            let now = Instant::now();
            latencies.record_time(now - began);
            if now >= until {
                return Ok(self);
            }
            began = now;
        }
    }
}

/// All clients, and their store.
#[derive(Debug)]
pub(super) struct Clients {
    path: PathBuf,
    store: Allocator,
    clients: Vec<Client>,
    pub(super) latencies: Arc<Histogram>,
    /// Of all turns.
    pub(super) time: Duration,
    /// Processor time of all turns, that of the store's own threads included.
    pub(super) cpu: Duration,
    // The last to go: what the store still does, it does there.
    runtime: Runtime,
}

impl Clients {
    /// Makes a store and fills it.
    pub(super) fn new(dir: &Path, clients: u32) -> Result<Self, Failure> {
        // With a thread for each processor, as the runtime of a program that has a store.
        let runtime = Runtime::new()
            .map_err(|error| Failure::new(Exit::Failed, "io", format!("cannot start: {error}")))?;
        let path = dir.join("store");
        let mut seeds = Random::new(SEED);
        let mut clients: Vec<Client> =
            (0..clients).map(|_| Client { live: Vec::new(), random: Random::new(seeds.next()) }).collect();
        let store = runtime
            .block_on(filled_store(&path, &mut clients))
            .map_err(|error| Failure::store(&path, &error))?;
        let (latencies, time) = (Arc::new(Histogram::default()), Duration::ZERO);
        Ok(Self { path, store, clients, latencies, time, cpu: time, runtime })
    }

    /// Transactions of all clients for so long, and at least one of each. None is under way when it returns how long
    /// it took.
    pub(super) fn turn(&mut self, time: Duration) -> Result<Duration, Failure> {
        let (started, used) = (Instant::now(), cpu_time());
        let workers: Vec<_> = mem::take(&mut self.clients)
            .into_iter()
            .map(|client| {
                let (store, latencies) = (self.store.clone(), Arc::clone(&self.latencies));
                self.runtime.spawn(client.work(store, latencies, started + time))
            })
            .collect();
        for worker in workers {
            let worked = self.runtime.block_on(worker).map_err(|error| {
                Failure::new(Exit::Failed, "internal", format!("{}: {error}", self.path.display()))
            })?;
            self.clients.push(worked.map_err(|error| Failure::store(&self.path, &error))?);
        }
        let took = started.elapsed();
        self.time += took;
        self.cpu += cpu_time().saturating_sub(used);
        Ok(took)
    }

    pub(super) fn count(&self) -> usize {
        self.clients.len()
    }

    pub(super) fn live(&self) -> usize {
        self.clients.iter().map(|client| client.live.len()).sum()
    }

    pub(super) fn page_bytes(&self) -> u32 {
        self.store.layout().page_bytes()
    }

    pub(super) fn stats(&self) -> AllocatorStats {
        self.store.stats()
    }

    pub(super) fn stages(&self) -> CommitStages {
        self.store.stages()
    }
}

/// A new store with extents that are dealt out to the clients.
async fn filled_store(path: &Path, clients: &mut [Client]) -> freehold::Result<Allocator> {
    let live = live(clients.len());
    FormatOptions::new().create(path, store_bytes(live)).await?;
    let store = Allocator::open(path).await?;
    for first in (0..live).step_by(FILL) {
        let mut transaction = store.begin();
        for number in first..live.min(first + FILL) {
            let turn = number % clients.len();
            let Some(client) = clients.get_mut(turn) else { continue };
            let request = AllocRequest::bytes(client.random.size()).owner(OWNER);
            client.live.push(transaction.alloc(request).await?);
        }
        transaction.commit().await?;
    }
    // Filling is not to be measured.
    store.checkpoint().await?;
    Ok(store)
}

/// Processor time of this process so far.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    Duration::from_secs(seconds.unwrap_or(0)) + Duration::from_nanos(nanos.unwrap_or(0))
}
