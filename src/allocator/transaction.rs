//! A transaction: allocations, frees and journaled writes that take effect together or not at all.

use std::sync::Arc;

use rustc_hash::FxHashSet;
use write_journal::TransactionWrite;

use super::data::{DataTicket, overlay_bytes};
use super::extent::{AllocRequest, Extent};
use super::handle::{Core, Inner};
use super::load::{Fault, Missing};
use super::publish::Intent;
use super::reserve::Asked;
use crate::error::{Error, Result};
use crate::space::Release;

/// Allocations that are searched one by one.
const FEW: usize = 16;

/// An open transaction. Dropping it gives everything back and leaves no trace.
#[derive(Debug)]
#[must_use = "a transaction does nothing until it is committed"]
pub struct Transaction {
    pub(super) inner: Arc<Inner>,
    pub(super) intent: Intent,
    /// Extents of others that are written to; they must still be there at commit.
    pub(super) written: FxHashSet<Extent>,
    /// Number of the direct write that the commit waits for, with all before it.
    pub(super) data_number: u64,
}

impl Transaction {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, intent: Intent::default(), written: FxHashSet::default(), data_number: 0 }
    }

    /// Reserves space. Nothing is written; no other transaction can take it.
    ///
    /// The size picks the role, and the request can say more: see [`AllocRequest`]. A run of pages is as short as the
    /// page size allows; an item of a slab is at most an eighth larger than what was asked for.
    ///
    /// # Errors
    /// [`Error::InvalidSize`] for no bytes, [`Error::InvalidRequest`] for options that contradict each other,
    /// [`Error::NoSpace`] when there is no place for it.
    pub async fn alloc(&mut self, request: impl Into<AllocRequest>) -> Result<Extent> {
        let request = request.into();
        if request.max_extents > 1 {
            return Err(Error::InvalidRequest("an allocation of several extents is made by alloc_extents"));
        }
        self.check_writable()?;
        let wanted = request.resolve(self.inner.layout())?;
        let asked = Asked { owner: request.owner, bytes: request.bytes };
        if let Some(extent) = self.reserve_at_once(&wanted, asked) {
            return Ok(extent);
        }
        let extent = self.reserve_and_load(&wanted, asked).await?;
        extent.ok_or_else(|| request.no_run())
    }

    /// Reserves space as [`alloc`](Self::alloc) does, in several extents if no run is long enough and the request
    /// [allows it](AllocRequest::max_extents): the longest runs first, in the order in which the bytes go. Each extent
    /// is one of its own and is freed by itself. After an error nothing is reserved.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    pub async fn alloc_extents(&mut self, request: impl Into<AllocRequest>) -> Result<Vec<Extent>> {
        let request = request.into();
        self.check_writable()?;
        let wanted = request.resolve(self.inner.layout())?;
        let asked = Asked { owner: request.owner, bytes: request.bytes };
        if let Some(extent) = self.reserve(&wanted, asked).await? {
            return Ok(vec![extent]);
        }
        if request.max_extents == 1 {
            return Err(request.no_run());
        }
        self.reserve_pieces(&request).await
    }

    pub(super) fn check_writable(&self) -> Result<()> {
        self.inner.journal.check_alive()?;
        if self.inner.journal.port().is_read_only() { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// Whether this transaction allocated the extent.
    pub(super) fn has_allocated(&self, extent: &Extent) -> bool {
        // Of many, nearly all searches would be for one of others.
        let may_be = self.intent.allocated.len() <= FEW
            || self.inner.find_reserved(&self.inner.core(), extent).is_some();
        may_be && self.is_among_allocated(extent)
    }

    fn is_among_allocated(&self, extent: &Extent) -> bool {
        // Most often it is the last one.
        self.intent.allocated.iter().rev().any(|own| own.extent == *extent)
    }

    /// Frees an extent when the transaction commits. Its space is handed out again when that is durable. An extent
    /// that this transaction allocated is given back at once.
    ///
    /// # Errors
    /// [`Error::NotAllocated`] for a second free or a stale handle, [`Error::InvalidExtent`] for one that never was.
    pub async fn free(&mut self, extent: &Extent) -> Result<()> {
        self.check_writable()?;
        let mut staged_for = true;
        if self.has_allocated(extent) {
            self.unreserve(extent);
        } else if let Some(at) = self.intent.resized.iter().position(|(own, _)| own == extent) {
            // Nothing is let go of in between: somebody else could have it then, with what was staged for it.
            let (_, resize) = self.intent.resized.swap_remove(at);
            self.intent.freed.push(self.inner.free_resized(&resize));
        } else {
            let release = self.inner.ask(|inner, core| inner.claim(core, extent)).await?;
            self.intent.freed.push((*extent, release));
            staged_for = self.written.remove(extent);
        }
        // What was staged for it has nowhere to go.
        if staged_for {
            self.intent.staged.retain(|write| !(extent.offset..extent.end()).contains(&write.offset));
        }
        Ok(())
    }

    /// Stages bytes that go through the journal, at `offset` within an extent that is live or allocated here. They take
    /// effect with the transaction. Meant for the caller's own metadata, and for items that share a sector (rule 17).
    ///
    /// # Errors
    /// [`Error::InvalidExtent`], [`Error::NotAllocated`]; also when this transaction frees the extent.
    pub async fn write(&mut self, extent: &Extent, offset: u64, data: &[u8]) -> Result<()> {
        self.check_writable()?;
        let len = data.len() as u64;
        self.check_own_access(extent, offset, len).await?;
        self.stage(extent, extent.offset + offset, data.to_vec())
    }

    /// Takes over a transaction of write-journal: its writes, at offsets of the device, commit with this one. Each
    /// must lie inside one extent that is live or allocated here.
    ///
    /// Make it with [`staging`](Self::staging), or with a private overlay of its own: bytes that write-journal
    /// publishes in a shared overlay are visible before they are committed.
    pub async fn adopt(&mut self, transaction: write_journal::Transaction) -> Result<()> {
        self.check_writable()?;
        let mut accepted = Vec::new();
        for write in transaction.into_writes() {
            if write.data.is_empty() {
                continue;
            }
            let (offset, len) = (write.offset, write.data.len() as u64);
            let end = offset.saturating_add(len);
            let holds = |extent: &&Extent| extent.offset <= offset && end <= extent.end();
            let own = self.intent.resized.iter().map(|(extent, _)| extent).find(holds).copied();
            let extent = match own {
                Some(extent) => extent,
                None => self.inner.ask(|inner, core| inner.find_containing(core, offset, len)).await?,
            };
            self.check_own_view(&self.inner.core(), &extent)?;
            accepted.push((extent, write));
        }
        for (extent, write) in accepted {
            self.stage(&extent, write.offset, write.data)?;
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
        self.check_own_access(extent, offset, len as u64).await?;
        let start = extent.offset + offset;
        let mut bytes = self.inner.read_range(start, len).await?;
        for write in &self.intent.staged {
            overlay_bytes(&mut bytes, start, write.offset, &write.data);
        }
        for (start, content) in &self.inner.uncommitted_writes(&self.inner.core(), extent) {
            overlay_bytes(&mut bytes, extent.offset + offset, *start, content);
        }
        Ok(bytes)
    }

    /// Makes the commit wait until a direct write is durable (rule 16). Direct writes into extents that this
    /// transaction allocated are waited for without asking.
    pub fn after(&mut self, ticket: DataTicket) {
        let journal = &self.inner.journal;
        // A number that was just given out is not covered by any flush yet: the next one covers all that came before.
        let own = ticket.epoch == journal.epoch() && ticket.number <= journal.last_data_written();
        let number = if own { ticket.number } else { journal.data_written(0) };
        self.data_number = self.data_number.max(number);
    }

    /// Makes the commit wait until every direct write that has completed so far is durable.
    pub fn after_all_writes(&mut self) {
        self.data_number = self.data_number.max(self.inner.journal.last_data_written());
    }

    /// Gives everything back, as dropping does.
    pub fn abort(self) {
        drop(self);
    }

    fn stage(&mut self, extent: &Extent, offset: u64, data: Vec<u8>) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        // In one row with what is written into the item directly.
        if self.inner.is_item(extent)
            && self.inner.stage_in_item(extent, offset.saturating_sub(extent.offset), &data)?
        {
            return Ok(());
        }
        let own = self.has_allocated(extent) || self.intent.resized.iter().any(|(own, _)| own == extent);
        if !own {
            self.written.insert(*extent);
        }
        self.intent.staged.push(TransactionWrite { offset, data, is_overlay: true });
        Ok(())
    }

    /// Another transaction's reservation, and what this one frees, are not there for it.
    fn check_own_view(&self, core: &Core, extent: &Extent) -> Result<()> {
        let not_allocated = |reason| Err(Error::NotAllocated { offset: extent.offset, reason });
        if core.claimed.contains(&extent.offset) && self.intent.freed.iter().any(|(freed, _)| freed == extent)
        {
            return not_allocated("this transaction frees it");
        }
        if self.intent.resized.iter().any(|(own, _)| own.offset == extent.offset && own != extent) {
            return not_allocated("this transaction gave it another length");
        }
        if self.inner.find_reserved(core, extent).is_some() && !self.is_among_allocated(extent) {
            return not_allocated("another transaction has not committed it yet");
        }
        Ok(())
    }

    async fn check_own_access(&self, extent: &Extent, offset: u64, len: u64) -> Result<()> {
        self.inner
            .ask(|inner, core| {
                self.check_own_view(core, extent)?;
                inner.check_access(core, extent, offset, len)
            })
            .await
    }
}

impl Inner {
    /// Takes an extent for one transaction, which is going to free it: nobody else can, and its segments stay loaded.
    fn claim(&self, core: &mut Core, extent: &Extent) -> Result<Release, Fault> {
        let found = self.find_committed(core, extent)?;
        if core.claimed.contains(&extent.offset) {
            let reason = "this or another open transaction frees it or changes its length";
            return Err(Error::NotAllocated { offset: extent.offset, reason }.into());
        }
        let place = found.release.place;
        if !core.space.pin(place.segment()) {
            return Err(Fault::Missing(Missing::Segment(place.segment())));
        }
        if place.last_segment() != place.segment() && !core.space.pin(place.last_segment()) {
            core.space.unpin(place.segment());
            return Err(Fault::Missing(Missing::Segment(place.last_segment())));
        }
        core.claimed.insert(extent.offset);
        Ok(found.release)
    }
}

impl Core {
    /// The segments of an extent that was claimed may go.
    pub(super) fn unpin(&mut self, release: &Release) {
        let (first, last) = (release.place.segment(), release.place.last_segment());
        self.space.unpin(first);
        if last != first {
            self.space.unpin(last);
        }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        for (_, resize) in std::mem::take(&mut self.intent.resized) {
            self.inner.undo_resize(&resize);
        }
        if self.intent.allocated.is_empty() && self.intent.freed.is_empty() {
            return;
        }
        let mut core = self.inner.core();
        for own in &self.intent.allocated {
            if core.reserved.remove(&own.extent.offset).is_some() {
                core.space.unreserve(&own.allocation.reservation);
            }
        }
        for (extent, release) in &self.intent.freed {
            core.claimed.remove(&extent.offset);
            core.unpin(release);
        }
    }
}
