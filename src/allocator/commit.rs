//! Committing a transaction: it waits for its data, takes room in the journal, takes effect in memory and joins a group.
//!
//! Until `publish` changes memory, a transaction can be given up at any time and leaves no trace; from there on it belongs
//! to the journal. So whatever waits comes before, and whatever can fail except for appending the record itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use tokio::sync::oneshot;
use write_journal::TransactionWrite;

use super::handle::{Core, Inner, Pending, Reserved};
use super::load::{Fault, together};
use super::transaction::Transaction;
use crate::error::{Error, Result};
use crate::format::LeafAddress;
use crate::journal::{BlockId, Record, RingPermit};
use crate::space::{Allocation, Place, Space};

/// A transaction that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its log sequence number; the last one of the store for a transaction without effects.
    pub lsn: u64,
}

/// Blocks of the caller as they were read from the device, by number.
type Bases = FxHashMap<u64, Vec<u8>>;

/// What a commit changes: metadata blocks, and blocks of the device by number.
struct Touched {
    leaves: Vec<LeafAddress>,
    blocks: Vec<u64>,
}

impl Transaction {
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
        let (places, data_number) = {
            let mut core = inner.core();
            self.seal_items(&mut core);
            (self.places(&core), self.last_data_number(&core))
        };
        let heads = self.region_heads(&places);
        let needed = self.bound(&places, self.caller_ranges(&heads).collect());
        if needed > journal.max_transaction_bytes() {
            return Err(Error::TransactionTooLarge { needed, max: journal.max_transaction_bytes() });
        }
        journal.wait_data_durable(data_number).await?;
        if self.has_no_effect() {
            return Ok(Committed { lsn: journal.stats().durable_lsn });
        }

        if journal.is_overlay_full() {
            inner.offload(|inner| inner.journal.checkpoint()).await?;
        }
        let ranges: Vec<_> =
            self.caller_ranges(&heads).map(|(offset, len)| inner.block_range(offset, len)).collect();
        // Held until the bytes are in the overlay: no direct write comes between a block's image and its record.
        let guard = if ranges.is_empty() { None } else { Some(inner.locks.lock(ranges).await) };
        // Those who queue up for the same blocks hold no space of the ring meanwhile.
        let permit = journal.claim_space(needed).await?;
        let mut bases = FxHashMap::default();
        let touched = Touched { leaves: self.touched_leaves(&places), blocks: self.caller_blocks(&heads) };
        self.warm_for_commit(&touched, &mut bases).await?;
        let (receiver, must_drive) = self.publish(&touched, bases, permit)?;
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

    /// Journal bytes that the commit may need; at most
    /// [`max_transaction_bytes`](crate::Allocator::max_transaction_bytes) can be had.
    #[must_use]
    pub fn journal_bytes(&self) -> u64 {
        let core = self.inner.core();
        let places = self.places(&core);
        let mut caller: Vec<(u64, u64)> = self.caller_ranges(&self.region_heads(&places)).collect();
        let own = self.allocated.iter().filter_map(|extent| core.reserved.get(&extent.offset));
        let items = own.flat_map(|reserved| &reserved.writes);
        caller.extend(items.map(|(offset, data)| (*offset, data.len() as u64)));
        drop(core);
        self.bound(&places, caller)
    }

    /// Journal bytes that changes of these places, and of these ranges of the caller's space, may need.
    fn bound(&self, places: &[Place], caller: Vec<(u64, u64)>) -> u64 {
        let layout = self.inner.layout();
        let (mut changes, mut bytes) = (0, 0);
        for place in places {
            let (more_changes, more_bytes) = Space::change_bound(layout, place);
            changes += more_changes;
            bytes += more_bytes;
        }
        // A block of which several writes touch a part is one update, with a patch for each.
        let block_bytes = u64::from(layout.block_bytes());
        let under = |(offset, len): (u64, u64)| offset / block_bytes..(offset + len).div_ceil(block_bytes);
        let patches = caller.iter().copied().flat_map(under).count();
        let blocks: BTreeSet<u64> = caller.into_iter().flat_map(under).collect();
        changes += patches - blocks.len();
        let blocks: Vec<(u64, u64)> = blocks.into_iter().map(|block| (block * block_bytes, 1)).collect();
        self.inner.journal.record_bound(changes, bytes, &blocks)
    }

    /// Where this transaction changes something; what grows or shrinks as a whole.
    fn places(&self, core: &Core) -> Vec<Place> {
        let own = self.allocated.iter().filter_map(|extent| core.reserved.get(&extent.offset));
        let resized = self.resized.iter().map(|(_, resize)| Place::Run {
            segment: resize.segment,
            page: resize.page,
            pages: resize.old_pages.max(resize.new_pages),
            kind: resize.header.kind,
        });
        own.map(|reserved| reserved.reservation.place)
            .chain(self.freed.iter().map(|(_, release)| release.place))
            .chain(resized)
            .collect()
    }

    /// The heads of the regions in which items are allocated or freed, each once: offset and length.
    fn region_heads(&self, places: &[Place]) -> BTreeSet<(u64, u64)> {
        let layout = self.inner.layout();
        let head = |place: &Place| match *place {
            Place::Item { segment, region, class, tagged, .. } => Some((
                layout.page_offset(segment, region * layout.region_pages()),
                layout.region_layout(class, tagged)?.head_bytes(),
            )),
            _ => None,
        };
        places.iter().filter_map(head).collect()
    }

    /// The direct write that has to be durable before this transaction can be.
    fn last_data_number(&self, core: &Core) -> u64 {
        let own = self.allocated.iter().filter_map(|extent| self.inner.find_reserved(core, extent));
        let own = own.map(|reserved| reserved.data_number);
        let resized = self.resized.iter().filter_map(|(extent, _)| core.resized.get(&extent.offset));
        let resized = resized.map(|resized| resized.data_number);
        own.chain(resized).max().unwrap_or(0).max(self.data_number)
    }

    /// Ranges of the caller's space that change: staged writes, and heads of regions. Offset and length.
    fn caller_ranges(&self, heads: &BTreeSet<(u64, u64)>) -> impl Iterator<Item = (u64, u64)> {
        let staged = self.staged.iter().map(|write| (write.offset, write.data.len() as u64));
        staged.chain(heads.iter().copied())
    }

    fn has_no_effect(&self) -> bool {
        self.allocated.is_empty()
            && self.freed.is_empty()
            && self.resized.is_empty()
            && self.staged.is_empty()
    }

    /// Takes over what was written into the items that this transaction allocated.
    fn seal_items(&mut self, core: &mut Core) {
        for extent in &self.allocated {
            if let Some(reserved) = core.reserved.get_mut(&extent.offset) {
                reserved.sealed = true;
                let writes = std::mem::take(&mut reserved.writes).into_iter();
                self.staged.extend(writes.map(|(offset, data)| TransactionWrite {
                    offset,
                    data,
                    is_overlay: true,
                }));
            }
        }
    }

    /// Has everything in memory that publishing changes, metadata blocks and the caller's; and sees to it that the
    /// metadata blocks are physically there.
    async fn warm_for_commit(&self, touched: &Touched, bases: &mut Bases) -> Result<()> {
        let overlay = self.inner.journal.overlay();
        let missing: Vec<_> = {
            let prepared = self.inner.prepared();
            let is_missing = |leaf: &LeafAddress| {
                !overlay.contains(BlockId::Metadata(leaf.0)) || !prepared.contains(&together(*leaf))
            };
            touched.leaves.iter().copied().filter(is_missing).collect()
        };
        if !missing.is_empty() {
            let load = move |inner: &Inner| {
                inner.prepare(&missing)?;
                missing.iter().try_for_each(|leaf| inner.journal.read_leaf(*leaf).map(drop))
            };
            self.inner.offload(load).await?;
        }
        let block_bytes = u64::from(self.inner.layout().block_bytes());
        let mut unread = touched.blocks.clone();
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

    /// Numbers of the blocks of the device under staged writes and under heads of regions, each once.
    fn caller_blocks(&self, heads: &BTreeSet<(u64, u64)>) -> Vec<u64> {
        let block_bytes = u64::from(self.inner.layout().block_bytes());
        let under = |(offset, len): (u64, u64)| offset / block_bytes..(offset + len).div_ceil(block_bytes);
        let mut blocks: Vec<u64> = self.caller_ranges(heads).flat_map(under).collect();
        blocks.sort_unstable();
        blocks.dedup();
        blocks
    }

    fn touched_leaves(&self, places: &[Place]) -> Vec<LeafAddress> {
        let layout = self.inner.layout();
        let mut leaves = Vec::with_capacity(5 * places.len());
        places.iter().for_each(|place| Space::push_touched_leaves(layout, place, &mut leaves));
        leaves.sort_unstable();
        leaves.dedup();
        leaves
    }

    /// Takes effect in memory and joins the open group. From here on the transaction is no longer this value's.
    ///
    /// Returns where the outcome arrives, and whether somebody has to start writing.
    fn publish(
        &mut self,
        touched: &Touched,
        mut bases: Bases,
        permit: RingPermit,
    ) -> Result<(oneshot::Receiver<Result<u64>>, bool)> {
        let inner = &self.inner;
        let mut core = inner.core();
        for extent in &self.written {
            loop {
                match inner.find_committed(&core, extent) {
                    Ok(_) => break,
                    Err(Fault::Error(error)) => return Err(error),
                    // It was dropped from memory since it was looked at. That hardly ever happens.
                    Err(Fault::Missing(missing)) => {
                        drop(core);
                        inner.load(missing)?;
                        core = inner.core();
                    }
                }
            }
        }
        let appender = inner.journal.appender()?;
        // Blocks that were evicted, or settled in place, since they were looked at. There are hardly ever any, and
        // while the appender is held there will be no more.
        for leaf in &touched.leaves {
            if !appender.is_resident(BlockId::Metadata(leaf.0)) {
                inner.journal.read_leaf(*leaf)?;
            }
        }
        let block_bytes = u64::from(inner.layout().block_bytes());
        for block in &touched.blocks {
            if !appender.is_resident(BlockId::Caller(*block)) && !bases.contains_key(block) {
                let len = usize::try_from(block_bytes).unwrap_or(0);
                bases.insert(*block, inner.journal.port().read_vec(block * block_bytes, len)?);
            }
        }

        let mut allocations = Vec::with_capacity(self.allocated.len());
        for extent in std::mem::take(&mut self.allocated) {
            if let Some(Reserved { reservation, owner, asked, .. }) = core.reserved.remove(&extent.offset) {
                allocations.push(Allocation { reservation, owner, asked });
            }
        }
        let mut releases = Vec::with_capacity(self.freed.len());
        for (extent, release) in std::mem::take(&mut self.freed) {
            core.claimed.remove(&extent.offset);
            releases.push(release);
        }
        let mut resizes = Vec::with_capacity(self.resized.len());
        for (extent, resize) in std::mem::take(&mut self.resized) {
            core.claimed.remove(&extent.offset);
            core.resized.remove(&extent.offset);
            resizes.push(resize);
        }
        let published = core.space.publish(&allocations, &releases, &resizes);
        core.unpin(&releases, &resizes);
        // What lay in a region before it was one means nothing: zeros take no room in the journal.
        for range in published.fresh {
            for block in range.start / block_bytes..range.end / block_bytes {
                bases.entry(block).and_modify(|base| base.fill(0));
            }
        }
        // The heads first: what the caller wrote never overlaps them.
        let mut caller = published.caller;
        let staged = std::mem::take(&mut self.staged).into_iter();
        caller.extend(staged.map(|write| (write.offset, write.data)));
        let (sender, receiver) = oneshot::channel();
        // Somebody who dropped the commit does not want to know.
        let completion = Box::new(move |result| drop(sender.send(result)));
        let record = Record { metadata: published.metadata, caller, bases, permit, completion };
        let (lsn, must_drive) = appender.append(record).inspect_err(|error| {
            // Memory is ahead of the journal for good.
            inner.journal.port().poison(error.clone());
        })?;
        if !(releases.is_empty() && resizes.is_empty()) {
            core.pending.push_back(Pending { lsn, releases, resizes });
        }
        Ok((receiver, must_drive))
    }
}
