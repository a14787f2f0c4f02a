//! A transaction: allocations, frees and journaled writes that take effect together or not at all.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;
use write_journal::TransactionWrite;

use super::data::{DataTicket, overlay_bytes};
use super::extent::{AllocRequest, Extent};
use super::handle::{Core, Inner, Reserved};
use crate::error::{Error, Result};
use crate::format::Layout;
use crate::journal::{BlockId, Record, RingPermit};
use crate::space::{Allocation, Release, Reserve, Space};

/// A transaction that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its log sequence number; the last one of the store for a transaction without effects.
    pub lsn: u64,
}

/// An open transaction. Dropping it gives everything back and leaves no trace.
#[derive(Debug)]
#[must_use = "a transaction does nothing until it is committed"]
pub struct Transaction {
    inner: Arc<Inner>,
    allocated: Vec<Extent>,
    freed: Vec<(Extent, Release)>,
    staged: Vec<TransactionWrite>,
    /// Extents of others that are written to; they must still be there at commit.
    written: Vec<Extent>,
    data_number: u64,
}

impl Transaction {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            allocated: Vec::new(),
            freed: Vec::new(),
            staged: Vec::new(),
            written: Vec::new(),
            data_number: 0,
        }
    }

    /// Reserves space. Nothing is written; no other transaction can take it.
    ///
    /// The extent is a power of two of pages, naturally aligned on the device.
    ///
    /// # Errors
    /// [`Error::InvalidSize`] for no bytes, [`Error::NoSpace`] when no run is long enough.
    pub async fn alloc(&mut self, request: impl Into<AllocRequest>) -> Result<Extent> {
        let AllocRequest { bytes, owner } = request.into();
        let inner = &self.inner;
        inner.journal.check_alive()?;
        if inner.journal.port().is_read_only() {
            return Err(Error::ReadOnly);
        }
        if bytes == 0 {
            return Err(Error::InvalidSize("an extent has at least one byte".to_owned()));
        }
        let layout = inner.layout();
        let no_space = |reason| Error::NoSpace { requested: bytes, reason };
        if bytes > layout.device_bytes() {
            return Err(no_space("the device is smaller"));
        }
        if bytes > layout.segment_bytes() {
            return Err(no_space("a segment is smaller"));
        }
        let pages = bytes.div_ceil(u64::from(layout.page_bytes())).next_power_of_two();
        let order = u8::try_from(pages.ilog2()).unwrap_or(u8::MAX);
        loop {
            let outcome = {
                let mut core = inner.core();
                let outcome = core.space.reserve(order);
                if let Reserve::Reserved(reservation) = outcome {
                    let extent = Extent {
                        offset: layout.page_offset(reservation.segment, reservation.page),
                        len: pages * u64::from(layout.page_bytes()),
                        generation: reservation.generation,
                    };
                    core.reserved
                        .insert(extent.offset, Reserved { reservation, owner, extent, data_number: 0 });
                    self.allocated.push(extent);
                    return Ok(extent);
                }
                outcome
            };
            match outcome {
                Reserve::Load(segment) => inner.offload(move |inner| inner.load_segment(segment)).await?,
                Reserve::Open(segment) => inner.offload(move |inner| inner.open_segment(segment)).await?,
                Reserve::Full | Reserve::Reserved(_) => return Err(no_space("no free run is long enough")),
            }
        }
    }

    /// Frees an extent when the transaction commits. Its space is handed out again when that is durable. An extent
    /// that this transaction allocated is given back at once.
    ///
    /// # Errors
    /// [`Error::NotAllocated`] for a second free or a stale handle, [`Error::InvalidExtent`] for one that never was.
    pub async fn free(&mut self, extent: &Extent) -> Result<()> {
        self.inner.journal.check_alive()?;
        if let Some(at) = self.allocated.iter().position(|own| own == extent) {
            self.allocated.swap_remove(at);
            let mut core = self.inner.core();
            if let Some(reserved) = core.reserved.remove(&extent.offset) {
                core.space.unreserve(&reserved.reservation);
            }
        } else {
            self.warm(extent).await?;
            let mut core = self.inner.core();
            let core = &mut *core;
            let (release, _) = self.inner.find_committed(core, extent)?;
            if !core.claimed.insert(extent.offset) {
                let reason = "this or another open transaction frees it";
                return Err(Error::NotAllocated { offset: extent.offset, reason });
            }
            self.freed.push((*extent, release));
        }
        // What was staged for it has nowhere to go.
        self.staged.retain(|write| !(extent.offset..extent.end()).contains(&write.offset));
        self.written.retain(|written| written != extent);
        Ok(())
    }

    /// Stages bytes that go through the journal, at `offset` within an extent that is live or allocated here. They take
    /// effect with the transaction. Meant for the caller's own metadata, and for items that share a sector (rule 17).
    ///
    /// # Errors
    /// [`Error::InvalidExtent`], [`Error::NotAllocated`]; also when this transaction frees the extent.
    pub async fn write(&mut self, extent: &Extent, offset: u64, data: &[u8]) -> Result<()> {
        self.inner.journal.check_alive()?;
        if self.inner.journal.port().is_read_only() {
            return Err(Error::ReadOnly);
        }
        self.warm(extent).await?;
        {
            let core = self.inner.core();
            self.check_own_view(&core, extent)?;
            self.inner.check_access(&core, extent, offset, data.len() as u64)?;
        }
        self.stage(extent, extent.offset + offset, data.to_vec());
        Ok(())
    }

    /// Takes over a transaction of write-journal: its writes, at offsets of the device, commit with this one. Each
    /// must lie inside one extent that is live or allocated here.
    ///
    /// Make it with [`staging`](Self::staging), or with a private overlay of its own: bytes that write-journal
    /// publishes in a shared overlay are visible before they are committed.
    pub async fn adopt(&mut self, transaction: write_journal::Transaction) -> Result<()> {
        self.inner.journal.check_alive()?;
        if self.inner.journal.port().is_read_only() {
            return Err(Error::ReadOnly);
        }
        let mut accepted = Vec::new();
        for write in transaction.into_writes() {
            if write.data.is_empty() {
                continue;
            }
            let (offset, len) = (write.offset, write.data.len() as u64);
            if let Some((segment, _)) = self.inner.layout().page_at(self.page_start(offset)) {
                self.inner.ensure_loaded(segment).await?;
            }
            let extent =
                self.inner.offload(move |inner| inner.find_containing(&inner.core(), offset, len)).await?;
            self.check_own_view(&self.inner.core(), &extent)?;
            accepted.push((extent, write));
        }
        for (extent, write) in accepted {
            self.stage(&extent, write.offset, write.data);
        }
        Ok(())
    }

    /// A transaction of write-journal with a private overlay, to be filled by code that knows that type, and handed to
    /// [`adopt`](Self::adopt).
    pub fn staging(serial_no: u64) -> write_journal::Transaction {
        write_journal::Transaction::new(serial_no, Arc::default())
    }

    /// Reads an extent as it will be when the transaction has committed: journaled writes staged here are seen.
    pub async fn read_at(&self, extent: &Extent, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.inner.journal.check_alive()?;
        self.warm(extent).await?;
        {
            let core = self.inner.core();
            self.check_own_view(&core, extent)?;
            self.inner.check_access(&core, extent, offset, len as u64)?;
        }
        let start = extent.offset + offset;
        let mut bytes = self.inner.read_range(start, len).await?;
        for write in &self.staged {
            overlay_bytes(&mut bytes, start, write.offset, &write.data);
        }
        Ok(bytes)
    }

    /// Makes the commit wait until a direct write is durable (rule 16). Direct writes into extents that this
    /// transaction allocated are waited for without asking.
    pub fn after(&mut self, ticket: DataTicket) {
        let journal = &self.inner.journal;
        // A number that was just given out is not covered by any flush yet: the next one covers all that came before.
        let number = if ticket.epoch == journal.epoch() { ticket.number } else { journal.data_written() };
        self.data_number = self.data_number.max(number);
    }

    /// Makes the commit wait until every direct write that has completed so far is durable.
    pub fn after_all_writes(&mut self) {
        self.data_number = self.data_number.max(self.inner.journal.last_data_written());
    }

    /// Journal bytes that the commit may need; at most
    /// [`max_transaction_bytes`](crate::Allocator::max_transaction_bytes) can be had.
    #[must_use]
    pub fn journal_bytes(&self) -> u64 {
        let layout = self.inner.layout();
        let pages = |len: u64| u32::try_from(len / u64::from(layout.page_bytes())).unwrap_or(u32::MAX);
        let lens =
            self.allocated.iter().chain(self.freed.iter().map(|(extent, _)| extent)).map(|extent| extent.len);
        let (mut changes, mut bytes) = (0, 0);
        for len in lens {
            let (more_changes, more_bytes) = Space::change_bound(layout, pages(len));
            changes += more_changes;
            bytes += more_bytes;
        }
        let (more_changes, more_bytes) = self.frontier_bound(layout);
        let caller: Vec<(u64, u64)> =
            self.staged.iter().map(|write| (write.offset, write.data.len() as u64)).collect();
        self.inner.journal.record_bound(changes + more_changes, bytes + more_bytes, &caller)
    }

    /// What bringing the frontier up to this transaction's segments may cost.
    fn frontier_bound(&self, layout: &Layout) -> (usize, usize) {
        let last =
            self.allocated.iter().filter_map(|extent| layout.page_at(extent.offset)).map(|(s, _)| s).max();
        let frontier = self.inner.core().space.committed_frontier();
        let skipped = last.map_or(0, |last| (last + 1).saturating_sub(frontier)) as usize;
        (2 * skipped, 2 * skipped * crate::format::SEGMENT_RECORD_BYTES)
    }

    /// Makes the transaction durable and visible, all of it.
    ///
    /// Many transactions share one device write and one flush. Dropping the future before it has ended leaves a
    /// transaction that is either wholly committed or wholly gone.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] when the journal could not be written; with every other error it is not committed,
    /// and everything was given back.
    pub async fn commit(mut self) -> Result<Committed> {
        let inner = Arc::clone(&self.inner);
        let journal = &inner.journal;
        journal.check_alive()?;
        let needed = self.journal_bytes();
        if needed > journal.max_transaction_bytes() {
            return Err(Error::TransactionTooLarge { needed, max: journal.max_transaction_bytes() });
        }
        let data_number = {
            let core = inner.core();
            let own = self.allocated.iter().filter_map(|extent| inner.find_reserved(&core, extent));
            own.map(|reserved| reserved.data_number).max().unwrap_or(0).max(self.data_number)
        };
        journal.wait_data_durable(data_number).await?;
        if self.allocated.is_empty() && self.freed.is_empty() && self.staged.is_empty() {
            return Ok(Committed { lsn: journal.stats().durable_lsn });
        }

        if journal.is_overlay_full() {
            inner.offload(|inner| inner.journal.checkpoint()).await?;
        }
        let permit = journal.claim_space(needed).await?;
        let ranges: Vec<_> = self
            .staged
            .iter()
            .map(|write| inner.block_range(write.offset, write.data.len() as u64))
            .collect();
        // Held until the bytes are in the overlay: no direct write comes between a block's image and its record.
        let guard = if ranges.is_empty() { None } else { Some(inner.locks.lock(ranges).await) };
        let mut bases = HashMap::new();
        self.warm_for_commit(&mut bases).await?;
        let (receiver, must_drive) = self.publish(bases, permit)?;
        drop(guard);
        if must_drive {
            journal.start_driving().await;
        }
        let lsn = receiver.await.unwrap_or_else(|_| {
            // Only a panic loses the answer, and the group may have been written by then.
            let cause = Arc::new(Error::Internal("a panic stopped the journal"));
            Err(Error::OutcomeUnknown { cause })
        })?;
        Ok(Committed { lsn })
    }

    /// Gives everything back, as dropping does.
    pub fn abort(self) {
        drop(self);
    }

    fn page_start(&self, offset: u64) -> u64 {
        let page = u64::from(self.inner.layout().page_bytes());
        offset / page * page
    }

    fn stage(&mut self, extent: &Extent, offset: u64, data: Vec<u8>) {
        if data.is_empty() {
            return;
        }
        if !self.allocated.contains(extent) && !self.written.contains(extent) {
            self.written.push(*extent);
        }
        self.staged.push(TransactionWrite { offset, data, is_overlay: true });
    }

    /// Another transaction's reservation, and what this one frees, are not there for it.
    fn check_own_view(&self, core: &Core, extent: &Extent) -> Result<()> {
        let not_allocated = |reason| Err(Error::NotAllocated { offset: extent.offset, reason });
        if self.freed.iter().any(|(freed, _)| freed == extent) {
            return not_allocated("this transaction frees it");
        }
        if self.inner.find_reserved(core, extent).is_some() && !self.allocated.contains(extent) {
            return not_allocated("another transaction has not committed it yet");
        }
        Ok(())
    }

    /// Has an extent's header and its segment's bitmap in memory.
    async fn warm(&self, extent: &Extent) -> Result<()> {
        if let Some((segment, _)) = self.inner.layout().page_at(extent.offset) {
            self.inner.ensure_loaded(segment).await?;
        }
        self.inner.warm_header(extent.offset).await
    }

    /// Has everything in memory that publishing changes: bitmap and header blocks, and the blocks under staged writes.
    async fn warm_for_commit(&self, bases: &mut HashMap<u64, Vec<u8>>) -> Result<()> {
        let leaves = self.touched_leaves();
        let overlay = self.inner.journal.overlay();
        let missing: Vec<_> =
            leaves.into_iter().filter(|leaf| !overlay.contains(BlockId::Metadata(leaf.0))).collect();
        if !missing.is_empty() {
            let load = move |inner: &Inner| {
                missing.iter().try_for_each(|leaf| inner.journal.read_leaf(*leaf).map(drop))
            };
            self.inner.offload(load).await?;
        }
        for extent in &self.written {
            self.warm(extent).await?;
        }
        let block_bytes = u64::from(self.inner.layout().block_bytes());
        let mut unread = self.staged_blocks();
        unread.retain(|block| !overlay.contains(BlockId::Caller(*block)));
        if unread.is_empty() {
            return Ok(());
        }
        let read = move |inner: &Inner| {
            let port = inner.journal.port();
            let len = usize::try_from(block_bytes).unwrap_or(0);
            let mut blocks = Vec::with_capacity(unread.len());
            for block in unread {
                // The checkpoint that writes the block in place must not find the file system full (rule 14).
                port.preallocate(block * block_bytes, block_bytes)?;
                blocks.push((block, port.read_vec(block * block_bytes, len)?));
            }
            Ok(blocks)
        };
        bases.extend(self.inner.offload(read).await?);
        Ok(())
    }

    /// Numbers of the blocks of the device under staged writes, each once.
    fn staged_blocks(&self) -> Vec<u64> {
        let block_bytes = u64::from(self.inner.layout().block_bytes());
        let under = |write: &TransactionWrite| {
            write.offset / block_bytes..(write.offset + write.data.len() as u64).div_ceil(block_bytes)
        };
        let mut blocks: Vec<u64> = self.staged.iter().flat_map(under).collect();
        blocks.sort_unstable();
        blocks.dedup();
        blocks
    }

    fn touched_leaves(&self) -> Vec<crate::format::LeafAddress> {
        let layout = self.inner.layout();
        let mut leaves = Vec::new();
        for extent in self.allocated.iter().chain(self.freed.iter().map(|(extent, _)| extent)) {
            let Some((segment, page)) = layout.page_at(extent.offset) else { continue };
            let pages = u32::try_from(extent.len / u64::from(layout.page_bytes())).unwrap_or(1);
            let per_block = layout.pages_per_bitmap_block();
            let blocks = page / per_block..=(page + pages - 1) / per_block;
            leaves.extend(blocks.map(|block| layout.bitmap_leaf(segment, block.into())));
            leaves.push(layout.header_place(segment, page).0);
        }
        leaves
    }

    /// Takes effect in memory and joins the open group. From here on the transaction is no longer this value's.
    ///
    /// Returns where the outcome arrives, and whether somebody has to start writing.
    fn publish(
        &mut self,
        mut bases: HashMap<u64, Vec<u8>>,
        permit: RingPermit,
    ) -> Result<(oneshot::Receiver<Result<u64>>, bool)> {
        let inner = &self.inner;
        let mut core = inner.core();
        for extent in &self.written {
            inner.find_committed(&core, extent)?;
        }
        let appender = inner.journal.appender()?;
        // Blocks that were evicted, or settled in place, since they were looked at. There are hardly ever any, and
        // while the appender is held there will be no more.
        for leaf in self.touched_leaves() {
            if !appender.is_resident(BlockId::Metadata(leaf.0)) {
                inner.journal.read_leaf(leaf)?;
            }
        }
        let block_bytes = u64::from(inner.layout().block_bytes());
        for block in self.staged_blocks() {
            if !appender.is_resident(BlockId::Caller(block)) && !bases.contains_key(&block) {
                let len = usize::try_from(block_bytes).unwrap_or(0);
                bases.insert(block, inner.journal.port().read_vec(block * block_bytes, len)?);
            }
        }

        let mut allocations = Vec::with_capacity(self.allocated.len());
        for extent in std::mem::take(&mut self.allocated) {
            if let Some(Reserved { reservation, owner, .. }) = core.reserved.remove(&extent.offset) {
                allocations.push(Allocation { reservation, owner });
            }
        }
        let mut releases = Vec::with_capacity(self.freed.len());
        for (extent, release) in std::mem::take(&mut self.freed) {
            core.claimed.remove(&extent.offset);
            releases.push(release);
        }
        let metadata = core.space.publish(&allocations, &releases);
        let caller =
            std::mem::take(&mut self.staged).into_iter().map(|write| (write.offset, write.data)).collect();
        let (sender, receiver) = oneshot::channel();
        let completion = {
            let inner = Arc::clone(inner);
            Box::new(move |result: Result<u64>| {
                if result.is_ok() && !releases.is_empty() {
                    inner.core().space.reclaim(&releases);
                }
                // Whoever is told may drop the last handle, and expects the store to be closed then.
                drop(inner);
                // Somebody who dropped the commit does not want to know.
                let _ = sender.send(result);
            })
        };
        let record = Record { metadata, caller, bases, permit, completion };
        let (_, must_drive) = appender.append(record).inspect_err(|error| {
            // Memory is ahead of the journal for good.
            inner.journal.port().poison(error.clone());
        })?;
        Ok((receiver, must_drive))
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.allocated.is_empty() && self.freed.is_empty() {
            return;
        }
        let mut core = self.inner.core();
        for extent in &self.allocated {
            if let Some(reserved) = core.reserved.remove(&extent.offset) {
                core.space.unreserve(&reserved.reservation);
            }
        }
        for (extent, _) in &self.freed {
            core.claimed.remove(&extent.offset);
        }
    }
}
