//! The caller's own bytes: read with the overlay, written directly.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::extent::{Extent, ExtentInfo};
use super::handle::{Allocator, Inner};
use crate::device::{read_through, write_through};
use crate::error::{Error, Result};
use crate::journal::BlockId;

/// Checkpoints after which a block that is locked must have left the journal. One does; more than a few are a defect, and
/// better an error than a loop without end.
const MAX_CHECKPOINTS: u32 = 16;

/// Names a completed direct write, so that a commit can be made to wait until it is durable (rule 16).
///
/// Good for as long as the store is open. A ticket of an earlier opening, or of another store, stands for everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataTicket {
    pub(super) epoch: u64,
    pub(super) number: u64,
}

impl Inner {
    /// Has the header block of an extent in memory, so that it can be looked at under the core lock.
    pub(super) async fn warm_header(self: &Arc<Self>, offset: u64) -> Result<()> {
        let leaf = self.header_leaf(&self.core(), offset);
        let Some(leaf) = leaf else { return Ok(()) };
        if self.journal.overlay().contains(BlockId::Metadata(leaf.0)) {
            return Ok(());
        }
        self.offload(move |inner| inner.journal.read_leaf(leaf).map(drop)).await
    }

    /// Reads a range of the device as the journal has it.
    pub(super) async fn read_range(self: &Arc<Self>, offset: u64, len: usize) -> Result<Vec<u8>> {
        if len == 0 {
            return Ok(Vec::new());
        }
        // Blocks in the overlay are looked at first: one that is not there any more is in place by then.
        let block_bytes = u64::from(self.layout().block_bytes());
        let mut journaled = Vec::new();
        if self.journal.overlay().caller_blocks() > 0 {
            for block in offset / block_bytes..(offset + len as u64).div_ceil(block_bytes) {
                if let Some(content) = self.journal.overlay().get(BlockId::Caller(block)) {
                    journaled.push((block * block_bytes, content));
                }
            }
        }
        let mut bytes = read_through(Arc::clone(self.journal.port()), offset, len, ()).await?;
        for (start, content) in journaled {
            overlay_bytes(&mut bytes, offset, start, &content);
        }
        Ok(bytes)
    }
}

/// Copies the part of `content`, which lies at `start`, that falls into `bytes`, which lie at `offset`.
pub(super) fn overlay_bytes(bytes: &mut [u8], offset: u64, start: u64, content: &[u8]) {
    let from = start.max(offset);
    let to = (start + content.len() as u64).min(offset + bytes.len() as u64);
    if from >= to {
        return;
    }
    let index = |position: u64, base: u64| usize::try_from(position - base).unwrap_or(usize::MAX);
    let target = bytes.get_mut(index(from, offset)..index(to, offset));
    let source = content.get(index(from, start)..index(to, start));
    if let (Some(target), Some(source)) = (target, source) {
        target.copy_from_slice(source);
    }
}

impl Allocator {
    /// Reads `len` bytes from `offset` within an extent, journaled bytes included. Bytes never written are undefined.
    ///
    /// # Errors
    /// [`Error::InvalidExtent`] and [`Error::NotAllocated`] for a handle or range that is no longer, or never was,
    /// valid; I/O errors, which concern this call only.
    pub async fn read_at(&self, extent: &Extent, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.inner.journal.check_alive()?;
        self.inner.warm_header(extent.offset).await?;
        self.inner.check_access(&self.inner.core(), extent, offset, len as u64)?;
        self.inner.read_range(extent.offset + offset, len).await
    }

    /// Writes `data` at `offset` within an extent, past the journal. Not durable by itself: a commit of the
    /// transaction that allocated the extent waits for it, and any other can be told to ([`Transaction::after`]).
    ///
    /// Overlapping writes take effect one after the other. When the journal still holds changes of the same
    /// blocks, a checkpoint runs first (rule 4).
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at). A failed write concerns this call only; the range is undefined then.
    ///
    /// [`Transaction::after`]: crate::Transaction::after
    pub async fn write_at(&self, extent: &Extent, offset: u64, data: &[u8]) -> Result<DataTicket> {
        let inner = &self.inner;
        let len = data.len() as u64;
        inner.journal.check_alive()?;
        if inner.journal.port().is_read_only() {
            return Err(Error::ReadOnly);
        }
        inner.warm_header(extent.offset).await?;
        inner.check_access(&inner.core(), extent, offset, len)?;
        if len == 0 {
            return Ok(DataTicket { epoch: inner.journal.epoch(), number: 0 });
        }
        let start = extent.offset + offset;
        let guard = inner.locks.lock(vec![inner.block_range(start, len)]).await;
        for _ in 0..MAX_CHECKPOINTS {
            if !inner.journal.has_journaled_blocks(start, len) {
                break;
            }
            inner.offload(move |inner| inner.journal.checkpoint_range(start, len)).await?;
        }
        if inner.journal.has_journaled_blocks(start, len) {
            return Err(Error::Internal("checkpoints leave a block of the caller in the journal"));
        }
        // The wait may have been long.
        inner.warm_header(extent.offset).await?;
        inner.check_access(&inner.core(), extent, offset, len)?;

        let number = Arc::new(AtomicU64::new(0));
        let on_written = {
            let (inner, extent, number) = (Arc::clone(inner), *extent, Arc::clone(&number));
            move || {
                let completed = inner.journal.data_written();
                number.store(completed, Ordering::Release);
                let mut core = inner.core();
                if let Some(reserved) = core.reserved.get_mut(&extent.offset)
                    && reserved.extent == extent
                {
                    // Two writes may get here in the other order.
                    reserved.data_number = reserved.data_number.max(completed);
                }
            }
        };
        write_through(Arc::clone(inner.journal.port()), start, data, guard, on_written).await?;
        Ok(DataTicket { epoch: inner.journal.epoch(), number: number.load(Ordering::Acquire) })
    }

    /// Makes every direct write that has completed durable.
    pub async fn sync_data(&self) -> Result<()> {
        self.inner.journal.check_alive()?;
        self.inner.journal.wait_data_durable(self.inner.journal.last_data_written()).await
    }

    /// The extent that starts at `offset`, committed or reserved by an open transaction.
    ///
    /// # Errors
    /// [`Error::NotAllocated`] when one started there and was freed, [`Error::InvalidExtent`] when none ever did.
    pub async fn extent_at(&self, offset: u64) -> Result<ExtentInfo> {
        self.inner.journal.check_alive()?;
        if let Some((segment, _)) = self.inner.layout().page_at(offset) {
            self.inner.ensure_loaded(segment).await?;
        }
        self.inner.warm_header(offset).await?;
        self.inner.find_at(&self.inner.core(), offset)
    }
}

impl Inner {
    /// The whole blocks under a range, for locking.
    pub(super) fn block_range(&self, offset: u64, len: u64) -> std::ops::Range<u64> {
        let block = u64::from(self.layout().block_bytes());
        offset / block * block..(offset + len).next_multiple_of(block)
    }

    /// Loads the bitmap of a segment below the frontier.
    pub(super) async fn ensure_loaded(self: &Arc<Self>, segment: u32) -> Result<()> {
        let missing = self.core().space.segment(segment).is_some_and(|segment| segment.maps.is_none());
        if missing { self.offload(move |inner| inner.load_segment(segment)).await } else { Ok(()) }
    }
}
