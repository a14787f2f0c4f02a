//! Committing a transaction: it waits for its data, takes room in the journal, takes effect in memory and joins a group.
//!
//! Until `publish` changes memory, a transaction can be given up at any time and leaves no trace; from there on it belongs
//! to the journal. So whatever waits comes before, and whatever can fail except for appending the record itself.

use std::sync::{Arc, MutexGuard};

use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use write_journal::TransactionWrite;

use super::handle::{Core, Inner, Pending, Reserved};
use super::load::Fault;
use super::transaction::Transaction;
use crate::error::{Error, Result};
use crate::format::LeafAddress;
use crate::journal::{Appender, BlockId, Record, RingPermit, Ticket};
use crate::space::{Allocation, Place, Space};

/// A transaction that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its log sequence number; the last one of the store for a transaction without effects.
    pub lsn: u64,
}

/// Blocks of the caller as they were read from the device, by number.
type Bases = FxHashMap<u64, Vec<u8>>;

/// What a commit changes, and what it needs for that.
struct Plan {
    /// Metadata blocks.
    leaves: Leaves,
    /// Blocks of the device, by number: those under staged writes and under heads of regions, each once.
    blocks: Vec<u64>,
    /// The same as ranges: offset and length.
    ranges: Vec<(u64, u64)>,
    /// Journal bytes, at most.
    needed: u64,
    /// The direct write that has to be durable before.
    data_number: u64,
}

type Leaves = SmallVec<[LeafAddress; 12]>;
type Places = SmallVec<[Place; 4]>;

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
        let (plan, published) = {
            let mut core = inner.core();
            self.seal_items(&mut core);
            let plan = self.plan(&core)?;
            let published = self.publish_at_once(&inner, core, &plan)?;
            (plan, published)
        };
        let (ticket, must_drive) = match published {
            Some(published) => published,
            None => {
                journal.wait_data_durable(plan.data_number).await?;
                if self.has_no_effect() {
                    return Ok(Committed { lsn: journal.stats().durable_lsn });
                }
                self.publish_when_ready(&inner, &plan).await?
            }
        };
        if must_drive {
            journal.start_driving().await;
        }
        Ok(Committed { lsn: ticket.await? })
    }

    /// Publishes, if there is nothing to wait for: nearly always, for a transaction that changes metadata only.
    fn publish_at_once(
        &mut self,
        inner: &Inner,
        core: MutexGuard<'_, Core>,
        plan: &Plan,
    ) -> Result<Option<(Ticket, bool)>> {
        let journal = &inner.journal;
        let waits = self.has_no_effect()
            || !plan.blocks.is_empty()
            || !self.written.is_empty()
            || !journal.is_data_durable(plan.data_number)
            || journal.is_overlay_full();
        if waits {
            return Ok(None);
        }
        let Some(permit) = journal.try_claim_space(plan.needed) else { return Ok(None) };
        let appender = journal.appender()?;
        if !plan.leaves.iter().all(|leaf| appender.is_ready(*leaf)) {
            return Ok(None);
        }
        self.take_effect(inner, core, appender, Bases::default(), permit).map(Some)
    }

    /// Publishes, with all the waiting that may take.
    async fn publish_when_ready(&mut self, inner: &Arc<Inner>, plan: &Plan) -> Result<(Ticket, bool)> {
        let journal = &inner.journal;
        if journal.is_overlay_full() {
            inner.offload(|inner| inner.journal.checkpoint()).await?;
        }
        let ranges: Vec<_> =
            plan.ranges.iter().map(|&(offset, len)| inner.block_range(offset, len)).collect();
        // Held until the bytes are in the overlay: no direct write comes between a block's image and its record.
        let guard = if ranges.is_empty() { None } else { Some(inner.locks.lock(ranges).await) };
        // Those who queue up for the same blocks hold no space of the ring meanwhile.
        let permit = journal.claim_space(plan.needed).await?;
        let mut bases = Bases::default();
        self.warm(plan, &mut bases).await?;
        let published = self.publish(inner, plan, bases, permit);
        drop(guard);
        published
    }

    /// Journal bytes that the commit may need; at most
    /// [`max_transaction_bytes`](crate::Allocator::max_transaction_bytes) can be had.
    #[must_use]
    pub fn journal_bytes(&self) -> u64 {
        let core = self.inner.core();
        let places = self.places(&core);
        let mut caller = self.caller_ranges(&places);
        let own = self.allocated.iter().filter_map(|extent| core.reserved.get(&extent.offset));
        let items = own.flat_map(|reserved| &reserved.writes);
        caller.extend(items.map(|(offset, data)| (*offset, data.len() as u64)));
        drop(core);
        self.bound(&places, &caller)
    }

    fn plan(&self, core: &Core) -> Result<Plan> {
        let places = self.places(core);
        let ranges = self.caller_ranges(&places);
        let (needed, max) = (self.bound(&places, &ranges), self.inner.journal.max_transaction_bytes());
        if needed > max {
            return Err(Error::TransactionTooLarge { needed, max });
        }
        Ok(Plan {
            leaves: self.touched_leaves(&places),
            blocks: self.blocks_under(&ranges),
            ranges,
            needed,
            data_number: self.last_data_number(core),
        })
    }

    /// Journal bytes that changes of these places, and of these ranges of the caller's space, may need.
    fn bound(&self, places: &[Place], caller: &[(u64, u64)]) -> u64 {
        let layout = self.inner.layout();
        let (mut changes, mut bytes) = (0, 0);
        for place in places {
            let (more_changes, more_bytes) = Space::change_bound(layout, place);
            changes += more_changes;
            bytes += more_bytes;
        }
        // A block of which several writes touch a part is one update, with a patch for each.
        let blocks = self.blocks_under(caller);
        let block_bytes = u64::from(layout.block_bytes());
        let patches: u64 = caller
            .iter()
            .map(|&(offset, len)| (offset + len).div_ceil(block_bytes) - offset / block_bytes)
            .sum();
        changes += usize::try_from(patches).unwrap_or(usize::MAX) - blocks.len();
        let blocks: Vec<(u64, u64)> = blocks.into_iter().map(|block| (block * block_bytes, 1)).collect();
        self.inner.journal.record_bound(changes, bytes, &blocks)
    }

    /// Where this transaction changes something; what grows or shrinks as a whole.
    fn places(&self, core: &Core) -> Places {
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

    /// Ranges of the caller's space that change: staged writes; and the heads of the regions in which items are allocated
    /// or freed, each once. Offset and length.
    fn caller_ranges(&self, places: &[Place]) -> Vec<(u64, u64)> {
        let layout = self.inner.layout();
        let head = |place: &Place| match *place {
            Place::Item { segment, region, class, tagged, .. } => Some((
                layout.page_offset(segment, region * layout.region_pages()),
                layout.region_layout(class, tagged)?.head_bytes(),
            )),
            _ => None,
        };
        let mut ranges: Vec<_> = places.iter().filter_map(head).collect();
        ranges.sort_unstable();
        ranges.dedup();
        ranges.extend(self.staged.iter().map(|write| (write.offset, write.data.len() as u64)));
        ranges
    }

    /// The direct write that has to be durable before this transaction can be.
    fn last_data_number(&self, core: &Core) -> u64 {
        let own = self.allocated.iter().filter_map(|extent| self.inner.find_reserved(core, extent));
        let own = own.map(|reserved| reserved.data_number);
        let resized = self.resized.iter().filter_map(|(extent, _)| core.resized.get(&extent.offset));
        let resized = resized.map(|resized| resized.data_number);
        own.chain(resized).max().unwrap_or(0).max(self.data_number)
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
    async fn warm(&self, plan: &Plan, bases: &mut Bases) -> Result<()> {
        let overlay = self.inner.journal.overlay();
        let is_missing = |leaf: &LeafAddress| !overlay.is_ready(*leaf);
        let missing: Vec<_> = plan.leaves.iter().copied().filter(is_missing).collect();
        if !missing.is_empty() {
            let load = move |inner: &Inner| {
                inner.prepare(&missing)?;
                for leaf in missing {
                    inner.journal.read_leaf(leaf)?;
                    inner.journal.overlay().note_prepared(leaf);
                }
                Ok(())
            };
            self.inner.offload(load).await?;
        }
        let block_bytes = u64::from(self.inner.layout().block_bytes());
        let mut unread = plan.blocks.clone();
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

    /// Numbers of the blocks of the device under these ranges, each once.
    fn blocks_under(&self, ranges: &[(u64, u64)]) -> Vec<u64> {
        let block_bytes = u64::from(self.inner.layout().block_bytes());
        let under = |&(offset, len): &(u64, u64)| offset / block_bytes..(offset + len).div_ceil(block_bytes);
        let mut blocks: Vec<u64> = ranges.iter().flat_map(under).collect();
        blocks.sort_unstable();
        blocks.dedup();
        blocks
    }

    /// The metadata blocks that change, each once.
    fn touched_leaves(&self, places: &[Place]) -> Leaves {
        let mut leaves = Leaves::new();
        places.iter().for_each(|place| Space::push_touched_leaves(self.inner.layout(), place, &mut leaves));
        leaves.sort_unstable();
        leaves.dedup();
        leaves
    }

    /// Publishes what has been waited for. What was dropped from memory since is read once more.
    fn publish(
        &mut self,
        inner: &Inner,
        plan: &Plan,
        mut bases: Bases,
        permit: RingPermit<'_>,
    ) -> Result<(Ticket, bool)> {
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
        for leaf in &plan.leaves {
            if !appender.is_resident(BlockId::Metadata(leaf.0)) {
                inner.journal.read_leaf(*leaf)?;
            }
        }
        let block_bytes = u64::from(inner.layout().block_bytes());
        for block in &plan.blocks {
            if !appender.is_resident(BlockId::Caller(*block)) && !bases.contains_key(block) {
                let len = usize::try_from(block_bytes).unwrap_or(0);
                bases.insert(*block, inner.journal.port().read_vec(block * block_bytes, len)?);
            }
        }
        self.take_effect(inner, core, appender, bases, permit)
    }

    /// Takes effect in memory and joins the open group. From here on the transaction is no longer this value's.
    ///
    /// Returns where the outcome arrives, and whether somebody has to start writing.
    fn take_effect(
        &mut self,
        inner: &Inner,
        mut core: MutexGuard<'_, Core>,
        appender: Appender<'_>,
        mut bases: Bases,
        permit: RingPermit<'_>,
    ) -> Result<(Ticket, bool)> {
        let mut allocations: SmallVec<[Allocation; 2]> = SmallVec::new();
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
        let block_bytes = u64::from(inner.layout().block_bytes());
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
        let record = Record { metadata: published.metadata, caller, bases, permit };
        let (ticket, must_drive) = appender.append(record).inspect_err(|error| {
            // Memory is ahead of the journal for good.
            inner.journal.port().poison(error.clone());
        })?;
        if !(releases.is_empty() && resizes.is_empty()) {
            core.pending.push_back(Pending { lsn: ticket.lsn(), releases, resizes });
        }
        Ok((ticket, must_drive))
    }
}
