//! The seam to whoever stands behind the transactions: the journal knows when it is a group's turn, and they know what its
//! transactions change.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::append::Appender;
use crate::device::Port;
use crate::error::Result;
use crate::format::LeafAddress;

/// Keeps what each transaction that [joined](super::Journal::join) changes, in the order in which they joined, and has it
/// take effect when it is the turn of its group.
///
/// All of it is called under the lock of the one who writes groups, but [`abandon`](Self::abandon). It must not keep the journal or its port
/// alive: [`Maintenance`](super::Maintenance) waits for others to let go of them.
pub trait Publisher: Send + Sync {
    /// The next so many transactions take effect: their bytes go to the appender. They end with
    /// [its LSN](Appender::last_lsn).
    ///
    /// # Errors
    /// None of them was issued, and the store stops.
    fn publish(&self, transactions: u32, appender: &mut Appender<'_>) -> Result<()>;

    /// A group of so many transactions has taken effect, and goes to the device, which takes a while: others may have what this
    /// thread has in hand.
    fn writing(&self, _transactions: u32) {}

    /// Every transaction up to this LSN is durable. Called before those who wait for it are told.
    fn durable(&self, port: &Port, lsn: u64);

    /// The store has stopped: what has not taken effect never will.
    fn abandon(&self);

    /// Calls `drop_others` with the metadata blocks that transactions which have joined are going to change, and lets none
    /// join meanwhile.
    fn spare(&self, drop_others: &mut dyn FnMut(&FxHashSet<LeafAddress>));

    /// Calls `settle`, which drops blocks of the caller that are in place and returns them by number, and lets none join
    /// meanwhile. Transactions that have joined and are going to change one of them take it along.
    fn hand_over(&self, settle: &mut dyn FnMut() -> Vec<(u64, Arc<Vec<u8>>)>);
}
