//! Committing a transaction: it waits for its data, takes room in the journal, and joins a group.
//!
//! Until it has joined, a transaction can be given up at any time and leaves no trace; from there on it belongs to the
//! journal, and takes effect when it is its group's turn. So whatever waits comes before, and whatever can fail.

use std::sync::Arc;

use rustc_hash::FxHashSet;
use smallvec::SmallVec;
use write_journal::TransactionWrite;

use super::extent::Extent;
use super::handle::{Core, Inner};
use super::load::Fault;
use super::publish::{Ground, Intent};
use super::reserve::Reserved;
use super::transaction::Transaction;
use crate::error::{Error, Result};
use crate::format::{HeaderKind, Layout, LeafAddress};
use crate::journal::{Bases, BlockId, RingPermit, Ticket};
use crate::space::{Place, Space};

/// Metadata blocks that a transaction needs are read again when they are dropped from memory before it joins its group. So
/// often they are not, in a row, and better an error than a loop without end.
const MAX_ATTEMPTS: u32 = 1000;

/// So many places have few blocks, and counting one of them twice costs nobody anything.
const FEW_PLACES: usize = 4;

/// A transaction that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its log sequence number; the last one of the store for a transaction without effects.
    pub lsn: u64,
}

/// What a commit changes, and what it needs for that.
struct Plan {
    /// Blocks of the device, by number: those under staged writes and under heads of regions, each once.
    blocks: Vec<u64>,
    /// The same as ranges: offset and length.
    ranges: Vec<(u64, u64)>,
    /// Journal bytes, at most.
    needed: u64,
    /// The direct write that has to be durable before.
    data_number: u64,
}

/// Where the outcome arrives, and whether somebody has to start writing.
type Joined = (Ticket, bool);

impl Transaction {
    /// Makes the transaction durable and visible, all of it.
    ///
    /// Many transactions share one device write and one flush. Dropping the future before it has ended leaves a
    /// transaction that is either wholly committed or wholly gone.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] when the journal could not be written; with every other error it is not committed,
    /// and everything was given back.
    #[expect(
        clippy::manual_async_fn,
        reason = "the future of an asynchronous function that takes itself has room for it twice"
    )]
    pub fn commit(mut self) -> impl Future<Output = Result<Committed>> + Send + use<> {
        async move {
            self.inner.journal.check_alive()?;
            let (mut ticket, must_drive) = match self.join_at_once()? {
                Some(joined) => joined,
                // What is rarely needed takes no room beside what is.
                None => match Box::pin(self.join_when_ready()).await? {
                    Some(joined) => joined,
                    None => return Ok(Committed { lsn: self.inner.journal.stats().durable_lsn }),
                },
            };
            if must_drive {
                self.inner.journal.start_driving(Some(&mut ticket)).await;
            }
            Ok(Committed { lsn: ticket.await? })
        }
    }

    /// Joins a group, if there is nothing to wait for: nearly always, for a transaction that changes metadata only.
    fn join_at_once(&mut self) -> Result<Option<Joined>> {
        let journal = &self.inner.journal;
        let waits = self.intent.is_empty() || self.changes_caller_space() || !journal.is_all_data_durable();
        if waits {
            return Ok(None);
        }
        let Some(permit) = journal.try_claim_space(self.checked_bound(&[])?) else { return Ok(None) };
        // Looked at with the claim in hand: the limit of replay counts on that.
        if journal.is_overlay_full() {
            return Ok(None);
        }
        self.inner.join(&mut self.intent, &self.written, permit)
    }

    /// Joins a group, with all the waiting that may take. Not if it has no effect.
    async fn join_when_ready(&mut self) -> Result<Option<Joined>> {
        let inner = Arc::clone(&self.inner);
        let journal = &inner.journal;
        let plan = {
            let mut core = inner.core();
            self.seal_items(&mut core);
            self.plan(&core)?
        };
        journal.wait_data_durable(plan.data_number).await?;
        if self.intent.is_empty() {
            return Ok(None);
        }
        if journal.is_overlay_full() {
            inner.offload(|inner| inner.journal.checkpoint_if_full()).await?;
        }
        let ranges: Vec<_> =
            plan.ranges.iter().map(|&(offset, len)| inner.block_range(offset, len)).collect();
        let mut gatherer = None;
        if !ranges.is_empty() {
            let guard = inner.wait_in_line(inner.locks.share(ranges)).await;
            let gathers = gatherer.insert(inner.shared.gather(plan.blocks.clone()));
            let bases = self.read_bases(&plan.blocks).await?;
            let ground = Ground { blocks: plan.blocks, bases, gathering: gathers.number, guard };
            self.intent.ground = Some(Box::new(ground));
        }
        let (mut keeping, mut pins) = (None, Pins { inner: &inner, segments: FxHashSet::default() });
        for attempt in 0..MAX_ATTEMPTS {
            // It may need more than stays in memory of itself.
            if attempt == 1 {
                keeping = Some(journal.keep(self.touched_leaves()));
            }
            self.warm((attempt > 0).then_some(&mut pins)).await?;
            // Those who wait for anything else hold no space of the ring meanwhile.
            let permit = inner.wait_in_line(journal.claim_space(plan.needed)).await?;
            // Many may have waited for space together, each of which has found the overlay with room for it before.
            if journal.is_overlay_full() {
                drop(permit);
                inner.offload(|inner| inner.journal.checkpoint_if_full()).await?;
                continue;
            }
            if let Some(joined) = inner.join(&mut self.intent, &self.written, permit)? {
                drop((keeping, pins, gatherer));
                return Ok(Some(joined));
            }
        }
        Err(Error::Internal("metadata blocks are dropped from memory as soon as they are read"))
    }

    /// Whether it does more than allocate and free pages.
    fn changes_caller_space(&self) -> bool {
        let is_item = |place: Place| matches!(place, Place::Item { .. });
        !self.intent.staged.is_empty() || self.intent.places().any(is_item)
    }

    /// Journal bytes that the commit may need; at most
    /// [`max_transaction_bytes`](crate::Allocator::max_transaction_bytes) can be had.
    #[must_use]
    pub fn journal_bytes(&self) -> u64 {
        let mut caller = self.caller_ranges();
        let core = self.inner.core();
        let own = self.intent.allocated.iter().filter_map(|own| core.reserved.get(&own.extent.offset));
        let items = own.flat_map(Reserved::writes);
        caller.extend(items.map(|(offset, data)| (*offset, data.len() as u64)));
        drop(core);
        self.bound(&caller)
    }

    fn plan(&self, core: &Core) -> Result<Plan> {
        let ranges = self.caller_ranges();
        Ok(Plan {
            needed: self.checked_bound(&ranges)?,
            blocks: self.blocks_under(&ranges),
            ranges,
            data_number: self.last_data_number(core),
        })
    }

    /// [`bound`](Self::bound), if that is possible at all.
    fn checked_bound(&self, caller: &[(u64, u64)]) -> Result<u64> {
        let (needed, max) = (self.bound(caller), self.inner.journal.max_transaction_bytes());
        if needed > max { Err(Error::TransactionTooLarge { needed, max }) } else { Ok(needed) }
    }

    /// Journal bytes that the changes of metadata, and changes of these ranges of the caller's space, may need.
    fn bound(&self, caller: &[(u64, u64)]) -> u64 {
        let layout = self.inner.layout();
        let (mut places, mut changes, mut bytes, mut leaves) = (0, 0, 0, 0);
        for place in self.intent.places() {
            let (more_changes, more_bytes) = Space::change_bound(layout, &place);
            places += 1;
            changes += more_changes;
            bytes += more_bytes;
            // Only a span has two headers and two records.
            leaves += more_changes - if matches!(place, Place::Span { .. }) { 0 } else { 2 };
        }
        if places > FEW_PLACES {
            leaves = leaves_of(layout, self.intent.places()).len();
        }
        // Each block has to have its share, however little changes in it.
        let share = usize::try_from(self.inner.journal.block_claim_bytes()).unwrap_or(usize::MAX);
        let bytes = bytes.max(leaves.saturating_mul(share));
        if caller.is_empty() {
            return self.inner.journal.record_bound(changes, bytes, &[]);
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

    /// Ranges of the caller's space that change: staged writes; and the heads of the regions in which items are allocated
    /// or freed, each once. Offset and length.
    fn caller_ranges(&self) -> Vec<(u64, u64)> {
        let layout = self.inner.layout();
        let head = |place: Place| match place {
            Place::Item { segment, region, class, tagged, .. } => Some((
                layout.page_offset(segment, region * layout.region_pages()),
                layout.region_layout(class, tagged)?.head_bytes(),
            )),
            _ => None,
        };
        let mut ranges: Vec<_> = self.intent.places().filter_map(head).collect();
        ranges.sort_unstable();
        ranges.dedup();
        ranges.extend(self.intent.staged.iter().map(|write| (write.offset, write.data.len() as u64)));
        ranges
    }

    /// The direct write that has to be durable before this transaction can be.
    fn last_data_number(&self, core: &Core) -> u64 {
        let own = self.intent.allocated.iter().filter_map(|own| self.inner.find_reserved(core, &own.extent));
        let own = own.map(|reserved| reserved.data_number);
        let resized = self.intent.resized.iter().filter_map(|(extent, _)| core.resized.get(&extent.offset));
        let resized = resized.map(|resized| resized.data_number);
        own.chain(resized).max().unwrap_or(0).max(self.data_number)
    }

    /// Takes over what was written into the items that this transaction allocated.
    fn seal_items(&mut self, core: &mut Core) {
        for own in &self.intent.allocated {
            if let Some(reserved) = core.reserved.get_mut(&own.extent.offset) {
                reserved.sealed = true;
                // Whoever reads the item sees them until they are in the journal.
                let writes = reserved.writes().iter().cloned();
                self.intent.staged.extend(writes.map(|(offset, data)| TransactionWrite {
                    offset,
                    data,
                    is_overlay: true,
                }));
            }
        }
    }

    /// The metadata blocks that this transaction changes, and those that say what it writes to.
    fn touched_leaves(&self) -> FxHashSet<LeafAddress> {
        let layout = self.inner.layout();
        let written = self.written.iter().filter_map(|extent| {
            let (segment, page) =
                layout.page_at(extent.offset - extent.offset % u64::from(layout.page_bytes()))?;
            // Of an item, where its region begins, too.
            let region = page - page % layout.region_pages();
            let run = |page| Place::Run { segment, page, pages: 1, kind: HeaderKind::Extent };
            Some([run(page), run(region)])
        });
        leaves_of(layout, self.intent.places().chain(written.flatten()))
    }

    /// Has everything in memory that this transaction looks at or changes; and sees to it that the metadata blocks that
    /// change are physically there. With pins, segments stay that were loaded to look into.
    async fn warm(&self, mut pins: Option<&mut Pins<'_>>) -> Result<()> {
        let overlay = self.inner.journal.overlay();
        let mut missing: SmallVec<[LeafAddress; 12]> = SmallVec::new();
        for place in self.intent.places() {
            Space::for_touched_leaves(self.inner.layout(), &place, |leaf| {
                if !overlay.is_ready(leaf) {
                    missing.push(leaf);
                }
            });
        }
        missing.sort_unstable();
        missing.dedup();
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
        for extent in &self.written {
            let look = |inner: &Inner, core: &mut Core| {
                let found = inner.find_committed(core, extent)?;
                if let Some(pins) = &mut pins {
                    pins.pin(core, found.release.place.segment());
                }
                Ok(())
            };
            self.inner.ask(look).await?;
        }
        Ok(())
    }

    /// Reads the blocks of the caller that are not in the overlay: nobody but a checkpoint changes those on the device while their
    /// ranges are locked, and what it has written there goes to who [gathers](Shared::gather) them.
    async fn read_bases(&self, blocks: &[u64]) -> Result<Bases> {
        let inner = &self.inner;
        let overlay = inner.journal.overlay();
        let mut unread = blocks.to_vec();
        unread.retain(|block| !overlay.contains(BlockId::Caller(*block)));
        if unread.is_empty() {
            return Ok(Bases::default());
        }
        let block_bytes = u64::from(inner.layout().block_bytes());
        let read = move |inner: &Inner| {
            let port = inner.journal.port();
            let len = usize::try_from(block_bytes).unwrap_or(0);
            let mut read = Vec::with_capacity(unread.len());
            for block in unread {
                // The checkpoint that writes the block in place must not find the file system full (rule 14).
                port.preallocate(block * block_bytes, block_bytes)?;
                read.push((block, Arc::new(port.read_vec(block * block_bytes, len)?)));
            }
            Ok(read)
        };
        Ok(inner.offload(read).await?.into_iter().collect())
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
}

/// Segments that stay loaded until it is dropped.
struct Pins<'a> {
    inner: &'a Inner,
    segments: FxHashSet<u32>,
}

impl Pins<'_> {
    /// Pins a segment, unless it is not loaded: then nobody has to look into it.
    fn pin(&mut self, core: &mut Core, segment: u32) {
        if !self.segments.contains(&segment) && core.space.pin(segment) {
            self.segments.insert(segment);
        }
    }
}

impl Drop for Pins<'_> {
    fn drop(&mut self) {
        if self.segments.is_empty() {
            return;
        }
        let mut core = self.inner.core();
        self.segments.iter().for_each(|segment| core.space.unpin(*segment));
    }
}

fn leaves_of(layout: &Layout, places: impl Iterator<Item = Place>) -> FxHashSet<LeafAddress> {
    let mut leaves = FxHashSet::default();
    for place in places {
        Space::for_touched_leaves(layout, &place, |leaf| {
            leaves.insert(leaf);
        });
    }
    leaves
}

impl Inner {
    /// Takes a place in a group for a transaction, if all metadata blocks that it changes are in memory. From there on the
    /// transaction is the journal's. `written` are extents of others that it writes to.
    fn join(
        &self,
        intent: &mut Intent,
        written: &FxHashSet<Extent>,
        permit: RingPermit<'_>,
    ) -> Result<Option<Joined>> {
        // Held until it has joined: nobody else can free meanwhile what is written to.
        let core = if written.is_empty() { None } else { Some(self.core()) };
        let mut queue = self.shared.queue();
        for (extent, core) in written.iter().zip(core.iter().cycle()) {
            match self.find_committed(core, extent) {
                Ok(_) => {}
                Err(Fault::Error(error)) => return Err(error),
                // It was dropped from memory since it was looked at. That hardly ever happens.
                Err(Fault::Missing(_)) => return Ok(None),
            }
            // An open transaction that has it may come later. One that has joined comes first.
            let offset = extent.offset;
            if core.claimed.contains(&offset)
                && (core.in_flight.changes(offset)
                    || queue.joined.iter().any(|earlier| earlier.changes(offset)))
            {
                return Err(Error::NotAllocated { offset, reason: "it was freed, or has another length" });
            }
        }
        let (layout, overlay) = (self.layout(), self.journal.overlay());
        let mut ready = true;
        if let Some(ground) = &mut intent.ground {
            // What leaves the overlay from here on is handed over as to all who have joined.
            ground.bases.extend(queue.take_settled(ground.gathering));
            let known =
                |block: &u64| overlay.contains(BlockId::Caller(*block)) || ground.bases.contains_key(block);
            if !ground.blocks.iter().all(known) {
                return Err(Error::Internal("a block of the caller is not in memory"));
            }
        }
        for place in intent.places() {
            Space::for_touched_leaves(layout, &place, |leaf| ready &= overlay.is_ready(leaf));
        }
        if !ready {
            return Ok(None);
        }
        let joined = self.journal.join(permit, intent.ground.is_some())?;
        queue.joined.push_back(std::mem::take(intent));
        Ok(Some(joined))
    }
}
