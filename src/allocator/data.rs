//! The caller's own bytes: read with the overlay, written directly.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::extent::{Extent, ExtentInfo};
use super::handle::{Allocator, Core, Inner};
use crate::device::{read_through, write_through};
use crate::error::{Error, Result};

/// Checkpoints after which a block that is locked must have left the journal. One does; more than a few are a defect, and
/// better an error than a loop without end.
const MAX_CHECKPOINTS: u32 = 16;
/// So many bytes of an extent are worth commands to the medium of their own.
const WINDOW_BYTES: u64 = 64 << 10;

/// Names a completed direct write, so that a commit can be made to wait until it is durable (rule 16).
///
/// Good for as long as the store is open. A ticket of an earlier opening, or of another store, stands for everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataTicket {
    pub(super) epoch: u64,
    pub(super) number: u64,
}

impl Inner {
    /// Reads a range of the device as the journal has it.
    pub(super) async fn read_range(self: &Arc<Self>, offset: u64, len: usize) -> Result<Vec<u8>> {
        if len == 0 {
            return Ok(Vec::new());
        }
        // Blocks in the overlay are looked at first: one that is not there any more is in place by then.
        let journaled = self.journaled_blocks(offset, len);
        let port = self.journal.port();
        let at_hand =
            if self.journal.may_read_in_place(len) { port.read_vec_at_once(offset, len) } else { None };
        let mut bytes = match at_hand {
            Some(bytes) => bytes,
            None => read_through(Arc::clone(port), offset, len, ()).await?,
        };
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
        // What is not in the journal is looked at first, then what is, then the device: what moves on meanwhile is seen.
        let question = |inner: &Inner, core: &mut Core| {
            inner.check_access(core, extent, offset, len as u64)?;
            Ok(inner.uncommitted_writes(core, extent))
        };
        let uncommitted = self.inner.ask(question).await?;
        let mut bytes = self.inner.read_range(extent.offset + offset, len).await?;
        for (start, content) in &uncommitted {
            overlay_bytes(&mut bytes, extent.offset + offset, *start, content);
        }
        Ok(bytes)
    }

    /// Writes `data` at `offset` within an extent, past the journal. Not durable by itself: a commit of the
    /// transaction that allocated the extent waits for it, and any other can be told to ([`Transaction::after`]).
    ///
    /// Items smaller than a page share their sectors with others, so that their bytes go through the journal: with the
    /// transaction that allocated the item, or in one of their own, which is durable when the call returns.
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
        inner.ask(|inner, core| inner.check_access(core, extent, offset, len)).await?;
        if inner.is_item(extent) {
            return self.write_item(extent, offset, data).await;
        }
        if len == 0 {
            return Ok(DataTicket { epoch: inner.journal.epoch(), number: 0 });
        }
        let start = extent.offset + offset;
        let guard = inner.wait_in_line(inner.locks.lock(vec![inner.block_range(start, len)])).await;
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
        inner.ask(|inner, core| inner.check_access(core, extent, offset, len)).await?;

        let number = Arc::new(AtomicU64::new(0));
        let on_written = {
            let (inner, extent, number) = (Arc::clone(inner), *extent, Arc::clone(&number));
            move || {
                let completed = inner.journal.data_written(len);
                number.store(completed, Ordering::Release);
                let is_new = inner.note_data(&extent, completed);
                let page_bytes = inner.layout().page_bytes();
                if let Some(due) = due_for_writeback(&extent, &(start..start + len), is_new, page_bytes) {
                    inner.journal.start_writeback(due);
                }
            }
        };
        let in_place = inner.journal.may_write_in_place(data.len());
        write_through(Arc::clone(inner.journal.port()), start, data, in_place, guard, on_written).await?;
        Ok(DataTicket { epoch: inner.journal.epoch(), number: number.load(Ordering::Acquire) })
    }

    /// Writes into an item: see [`write_at`](Self::write_at).
    async fn write_item(&self, extent: &Extent, offset: u64, data: &[u8]) -> Result<DataTicket> {
        let durable = DataTicket { epoch: self.inner.journal.epoch(), number: 0 };
        if self.inner.stage_in_item(extent, offset, data)? {
            return Ok(durable);
        }
        let mut transaction = self.begin();
        transaction.write(extent, offset, data).await?;
        transaction.commit().await?;
        Ok(durable)
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
        self.inner.ask(|inner, core| inner.find_at(core, offset)).await
    }
}

/// What the medium is to begin with when a range of an extent has been written, so that the next flush has less to wait for: of a
/// new extent windows that are written up to their ends, and with its last page the rest, for it is complete then; of others
/// what is long. Shorter pieces are left to the flush, which writes neighbours together, and only once what is written twice.
fn due_for_writeback(
    extent: &Extent,
    written: &Range<u64>,
    is_new: bool,
    page_bytes: u32,
) -> Option<Range<u64>> {
    if !is_new && written.end - written.start < WINDOW_BYTES {
        return None;
    }
    let window = |offset: u64| extent.offset + (offset - extent.offset) / WINDOW_BYTES * WINDOW_BYTES;
    let is_complete = is_new && written.end.next_multiple_of(page_bytes.into()) >= extent.end();
    let end = if is_complete { extent.end() } else { window(written.end) };
    let due = window(written.start)..end;
    (!due.is_empty()).then_some(due)
}

impl Inner {
    /// A direct write into an extent has ended. Whoever commits the extent, or its new length, waits until that is durable. Returns
    /// whether the extent is not committed.
    fn note_data(&self, extent: &Extent, number: u64) -> bool {
        let mut core = self.core();
        // It may have another length by now.
        let is_own = |other: &Extent| other.generation == extent.generation;
        if let Some(resized) = core.resized.get_mut(&extent.offset).filter(|own| is_own(&own.extent)) {
            resized.data_number = resized.data_number.max(number);
        }
        let reserved = core.reserved.get_mut(&extent.offset).filter(|own| is_own(&own.extent));
        let Some(reserved) = reserved else { return false };
        // Two writes may get here in the other order.
        reserved.data_number = reserved.data_number.max(number);
        true
    }

    /// Whether a handle is that of an item smaller than a page.
    pub(super) fn is_item(&self, extent: &Extent) -> bool {
        !extent.len.is_multiple_of(self.layout().page_bytes().into())
    }

    /// Keeps bytes for an item until its transaction commits. False if the item is committed already.
    pub(super) fn stage_in_item(&self, extent: &Extent, offset: u64, data: &[u8]) -> Result<bool> {
        let mut core = self.core();
        let reserved = core.reserved.get_mut(&extent.offset).filter(|reserved| reserved.extent == *extent);
        let Some(reserved) = reserved else { return Ok(false) };
        if reserved.sealed {
            let reason = "its transaction is being committed";
            return Err(Error::InvalidExtent { offset: extent.offset, len: extent.len, reason });
        }
        let writes = reserved.writes.get_or_insert_default();
        writes.0.push((extent.offset + offset, data.to_vec()));
        Ok(true)
    }

    /// What was written into an item that is not committed.
    pub(super) fn uncommitted_writes(&self, core: &Core, extent: &Extent) -> Vec<(u64, Vec<u8>)> {
        let reserved = if self.is_item(extent) { self.find_reserved(core, extent) } else { None };
        reserved.map(|reserved| reserved.writes().to_vec()).unwrap_or_default()
    }

    /// The whole blocks under a range, for locking.
    pub(super) fn block_range(&self, offset: u64, len: u64) -> std::ops::Range<u64> {
        let block = u64::from(self.layout().block_bytes());
        offset / block * block..(offset + len).next_multiple_of(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_complete_is_due_for_writeback_and_pieces_are_not() {
        const KIB: u64 = 1 << 10;
        let due = |len: u64, written: Range<u64>, is_new: bool| {
            let extent = Extent { offset: 12 * KIB, len: len * KIB, generation: 1 };
            let written = extent.offset + written.start..extent.offset + written.end;
            let due = due_for_writeback(&extent, &written, is_new, 4096)?;
            Some((due.start - extent.offset) / KIB..(due.end - extent.offset) / KIB)
        };
        // A blob that ends within its last page, in one piece and in two.
        assert_eq!(due(16, 0..12 * KIB + 1, true), Some(0..16));
        assert_eq!(due(16, 0..12 * KIB, true), None);
        assert_eq!(due(16, 8 * KIB..13 * KIB, true), Some(0..16));
        // One that is committed may be written again at once.
        assert_eq!(due(16, 0..16 * KIB, false), None);
        // A stream, piece by piece: the window when its last piece is there.
        for (is_new, window) in [(true, Some(0..64)), (false, None)] {
            assert_eq!(due(1024, 0..4 * KIB, is_new), None);
            assert_eq!(due(1024, 56 * KIB..60 * KIB, is_new), None);
            assert_eq!(due(1024, 60 * KIB..64 * KIB, is_new), window);
            assert_eq!(due(1024, 60 * KIB..68 * KIB, is_new), window);
            assert_eq!(due(1024, 100 * KIB..300 * KIB, is_new), Some(64..256));
        }
        assert_eq!(due(1024, 1020 * KIB..1021 * KIB, true), Some(960..1024));
        assert_eq!(due(1024, 1020 * KIB..1021 * KIB, false), None);
    }
}
