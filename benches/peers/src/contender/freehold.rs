//! Freehold, through its public interface.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use freehold::{AllocRequest, Allocator, AllocatorStats, Extent, FormatOptions, OpenOptions, Transaction};
use futures_util::TryStreamExt;
use tokio::task::JoinHandle;

use super::{Clients, Contender};
use crate::Failure;
use crate::workload::{OWNER, PAGE_BYTES, Pool};

/// Most allocations in one transaction when a store is filled.
const FILL: usize = 1000;
/// Reservations between two looks at the clock.
const RESERVED: u64 = 1024;
/// Most commits that are not waited for.
const IN_FLIGHT: usize = 1024;

/// A store; through the page cache, or past it.
pub(crate) struct Freehold<const DIRECT: bool> {
    pub(crate) store: Allocator,
}

impl<const DIRECT: bool> Freehold<DIRECT> {
    /// A transaction that is not committed yet.
    async fn prepare(&self, freed: Option<Extent>, bytes: u64) -> Result<(Transaction, Extent), Failure> {
        let mut transaction = self.store.begin();
        let made = transaction.alloc(AllocRequest::bytes(bytes).owner(OWNER)).await?;
        if let Some(freed) = &freed {
            transaction.free(freed).await?;
        }
        Ok((transaction, made))
    }
}

type InFlight = VecDeque<(JoinHandle<freehold::Result<freehold::Committed>>, Extent)>;

/// Waits for the oldest.
async fn join(in_flight: &mut InFlight, pool: &mut Pool) -> Result<bool, Failure> {
    let Some((commit, made)) = in_flight.pop_front() else { return Ok(false) };
    commit.await??;
    pool.live.push(made);
    Ok(true)
}

impl<const DIRECT: bool> Contender for Freehold<DIRECT> {
    async fn open(dir: &Path, capacity: u64) -> Result<Self, Failure> {
        let path = dir.join("store");
        if !path.exists() {
            FormatOptions::new().page_bytes(PAGE_BYTES).direct_io(DIRECT).create(&path, capacity).await?;
        }
        Ok(Self { store: OpenOptions::new().direct_io(DIRECT).open(&path).await?.0 })
    }

    async fn transact(&self, freed: Option<Extent>, bytes: u64, _: Clients) -> Result<Extent, Failure> {
        let (transaction, made) = self.prepare(freed, bytes).await?;
        transaction.commit().await?;
        Ok(made)
    }

    async fn fill(&self, sizes: &[u64]) -> Result<Vec<Extent>, Failure> {
        let mut made = Vec::new();
        for sizes in sizes.chunks(FILL) {
            let mut transaction = self.store.begin();
            for &bytes in sizes {
                made.push(transaction.alloc(AllocRequest::bytes(bytes).owner(OWNER)).await?);
            }
            transaction.commit().await?;
        }
        Ok(made)
    }

    async fn rush(&self, pool: &mut Pool, time: Duration) -> Result<u64, Failure> {
        let (started, mut operations) = (Instant::now(), 0);
        let mut in_flight = InFlight::new();
        // There is always something left to free.
        let most = IN_FLIGHT.min(pool.live.len() / 2);
        while started.elapsed() < time {
            let (freed, bytes) = pool.choose();
            let (transaction, made) = self.prepare(freed, bytes).await?;
            in_flight.push_back((tokio::spawn(transaction.commit()), made));
            operations += 1;
            if in_flight.len() >= most {
                join(&mut in_flight, pool).await?;
            }
        }
        while join(&mut in_flight, pool).await? {}
        Ok(operations)
    }

    async fn reserve(&self, pool: &mut Pool, time: Duration) -> Result<Option<u64>, Failure> {
        // Neither random numbers nor the clock are what is measured.
        let sizes: Vec<u64> = (0..RESERVED).map(|_| pool.random.size()).collect();
        let (started, mut operations) = (Instant::now(), 0);
        while started.elapsed() < time {
            for &bytes in &sizes {
                let mut transaction = self.store.begin();
                transaction.alloc(bytes).await?;
            }
            operations += RESERVED;
        }
        Ok(Some(operations))
    }

    async fn live(&self) -> Result<Vec<Extent>, Failure> {
        Ok(self.store.extents().map_ok(|info| info.extent).try_collect().await?)
    }

    fn stats(&self) -> Option<AllocatorStats> {
        Some(self.store.stats())
    }
}
