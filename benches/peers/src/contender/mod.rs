//! Who does the work.

#[cfg(feature = "fjall")]
mod fjall;
mod floor;
mod freehold;
mod kind;
#[cfg(feature = "lmdb")]
mod lmdb;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(test)]
mod tests;
#[cfg(feature = "write-journal")]
mod write_journal;

use std::path::Path;
use std::time::Duration;

use ::freehold::{AllocatorStats, Extent};

pub(crate) use self::floor::{DirectBuffer, Floor, open_direct, write_in_full};
pub(crate) use self::freehold::Freehold;
pub(crate) use self::kind::Kind;
use crate::Failure;
use crate::workload::Pool;

/// How many share the contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clients {
    One,
    Many,
}

/// A product that allocates space and never forgets what was acknowledged.
pub(crate) trait Contender: Sized + Send + Sync + 'static {
    /// Opens what lies in the directory, or makes it, for so many bytes of space.
    fn open(dir: &Path, capacity: u64) -> impl Future<Output = Result<Self, Failure>> + Send;

    /// Allocates and frees, together. Durable when it returns.
    fn transact(
        &self,
        freed: Option<Extent>,
        bytes: u64,
        clients: Clients,
    ) -> impl Future<Output = Result<Extent, Failure>> + Send;

    /// Allocates many at once, in as few transactions as it likes. Durable when it returns.
    fn fill(&self, sizes: &[u64]) -> impl Future<Output = Result<Vec<Extent>, Failure>> + Send;

    /// Transactions of one client that does not wait for each to be durable. All are when it returns.
    ///
    /// Returns how many there were.
    fn rush(&self, pool: &mut Pool, time: Duration) -> impl Future<Output = Result<u64, Failure>> + Send;

    /// Reserves space and gives it back, if it can do that without a transaction. Returns how often.
    fn reserve(
        &self,
        _pool: &mut Pool,
        _time: Duration,
    ) -> impl Future<Output = Result<Option<u64>, Failure>> + Send {
        std::future::ready(Ok(None))
    }

    /// Everything that is allocated, from what is kept on the device.
    fn live(&self) -> impl Future<Output = Result<Vec<Extent>, Failure>> + Send;

    /// What Freehold counts.
    fn stats(&self) -> Option<AllocatorStats> {
        None
    }
}
