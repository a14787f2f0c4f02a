//! Checkpoint: the overlay goes in place and the tail moves (rules 1, 4, 10, 11). Commits go on meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::drive::FailOnPanic;
use super::engine::{Journal, Writer, count};
use super::in_place::InPlace;
use super::overlay::BlockId;
use super::superblocks::SuperblockPair;
use crate::device::Purpose;
use crate::error::{Error, Result};
use crate::format::{Layout, LeafAddress, StoreState, Witness};

/// What part of the ring must be in use for a checkpoint to be worth its while when space is wanted. Behind each one the journal
/// gets whole blocks of the caller again.
const WORTH_A_CHECKPOINT: u64 = 8;

/// Claims that fill the ring are for so many times the blocks that make a checkpoint due, at most.
pub(super) const CLAIMED_ROUNDS: usize = 12;
/// Commits are held up when so many times the blocks that make a checkpoint due are dirty.
pub(super) const FULL_ROUNDS: usize = 2;

/// The dirty blocks at an instant at which everything in them is in durable groups.
pub(super) struct Snapshot {
    pub(super) lsn: u64,
    pub(super) position: u64,
    /// No LSN from here on was issued when the snapshot was taken.
    pub(super) next_lsn: u64,
    blocks: Vec<(BlockId, Arc<Vec<u8>>)>,
}

impl Journal {
    /// Writes everything that was committed before the call in place, and frees the ring space behind it.
    ///
    /// # Errors
    /// A failed write or flush stops the store.
    pub fn checkpoint(&self) -> Result<()> {
        let mut superblocks = self.lock(&self.checkpointing);
        self.check_open(&self.lock(&self.state))?;
        self.checkpoint_locked(&mut superblocks)
    }

    /// Like [`checkpoint`](Self::checkpoint), if the overlay is full. Of many who find it full one does it for all.
    pub fn checkpoint_if_full(&self) -> Result<()> {
        let mut superblocks = self.lock_checkpointing_soon();
        if !self.is_overlay_full() {
            return Ok(());
        }
        self.check_open(&self.lock(&self.state))?;
        self.checkpoint_locked(&mut superblocks)
    }

    /// Like [`checkpoint`](Self::checkpoint), unless the journal holds nothing of this range any more.
    pub fn checkpoint_range(&self, offset: u64, len: u64) -> Result<()> {
        let mut superblocks = self.lock_checkpointing_soon();
        // Whoever held the lock before may have done it.
        if !self.has_journaled_blocks(offset, len) {
            return Ok(());
        }
        self.check_open(&self.lock(&self.state))?;
        self.checkpoint_locked(&mut superblocks)
    }

    /// Dirty blocks from which on a checkpoint is wanted: as much as the ring holds, or 16 MiB if that is more. Blocks of
    /// zeros, and changes spread wide, take far less room in the ring than in memory.
    pub(super) fn max_dirty_blocks(layout: &Layout) -> usize {
        let bytes = layout.ring_bytes().max(16 << 20);
        usize::try_from(bytes / u64::from(layout.block_bytes())).unwrap_or(usize::MAX / 4)
    }

    /// What a transaction claims of the ring at least for each metadata block that it changes, in bytes. A change takes a few bytes
    /// in the ring, and the block a whole one in memory, here and at replay.
    pub(super) fn share_of_block(layout: &Layout) -> u64 {
        let most = (CLAIMED_ROUNDS * Self::max_dirty_blocks(layout)) as u64;
        layout.ring_bytes().div_ceil(most.max(1))
    }

    /// Whether commits have to wait until a checkpoint has made room in memory.
    #[must_use]
    pub fn is_overlay_full(&self) -> bool {
        self.dirty_blocks.load(Ordering::Relaxed) > FULL_ROUNDS * Self::max_dirty_blocks(&self.layout)
    }

    /// Whether the ring is half full, the overlay is full, or somebody waits for space in the ring and a checkpoint would make
    /// some.
    ///
    /// What those who wait see taken is mostly claims, which come back when their groups are written: a transaction may claim a
    /// hundred times what it writes. No transaction claims more than half of the ring.
    pub(super) fn wants_checkpoint(&self) -> bool {
        let (used, ring) = (self.ring_used_bytes(), self.layout.ring_bytes());
        used > ring / 2
            || used > ring / WORTH_A_CHECKPOINT && self.is_waited_for()
            || self.dirty_blocks.load(Ordering::Relaxed) > Self::max_dirty_blocks(&self.layout)
    }

    /// Whether somebody waits for space in the ring. Who was given some and is not polled counts as wanting it, but whoever is
    /// still to be given some has taken all that was left.
    fn is_waited_for(&self) -> bool {
        self.space_wanted.is_any() && self.space.available_permits() == 0
    }

    /// Whether somebody waits for space in the ring, and no group is left that would bring some: another one, who has it and is
    /// not polled again, may leave just too little. Often that is so for a moment only, until those join who were given some.
    fn is_stuck(&self) -> bool {
        self.ring_used_bytes() > 0 && self.is_waited_for() && {
            let state = self.lock(&self.state);
            !state.driving && !state.has_joined()
        }
    }

    /// Has a checkpoint made: here when calls cannot block, or soon by the maintenance thread.
    pub fn request_checkpoint(&self) {
        if self.port.may_block() {
            self.wake.request_checkpoint();
        } else if let Err(error) = self.checkpoint() {
            // Whoever waits for it learns of it through the poison.
            tracing::debug!(%error, "checkpoint failed");
        }
    }

    fn checkpoint_locked(&self, superblocks: &mut SuperblockPair) -> Result<()> {
        let start = self.now();
        let snapshot = self.take_snapshot(&mut self.lock_writer())?;
        self.write_snapshot(superblocks, &snapshot)?;
        let took = self.now().saturating_sub(start);
        self.stages.checkpoint.record_time(took);
        tracing::debug!(?took, blocks = snapshot.blocks.len(), "checkpoint");
        Ok(())
    }

    /// Takes a snapshot. A group is durable before the one who writes groups lets go, so all of it is.
    fn take_snapshot(&self, writer: &mut Writer) -> Result<Snapshot> {
        self.port.check_poison()?;
        // Those who have joined a group have LSNs from here on, and none of them was issued.
        let next_lsn = writer.durable_lsn + 1;
        self.snapshot_dirty(writer, next_lsn).inspect_err(|error| {
            self.port.poison(error.clone());
        })
    }

    pub(super) fn snapshot_dirty(&self, writer: &mut Writer, next_lsn: u64) -> Result<Snapshot> {
        let mut dirty: Vec<BlockId> = writer.changes.dirty.drain().collect();
        dirty.sort_unstable();
        self.dirty_blocks.store(0, Ordering::Relaxed);
        let mut blocks = Vec::with_capacity(dirty.len());
        for id in dirty {
            let content = self.overlay.get(id).ok_or(Error::Internal("a dirty block left the overlay"))?;
            blocks.push((id, content));
        }
        self.settling.store(blocks.len(), Ordering::Relaxed);
        writer.changes.round += 1;
        Ok(Snapshot { lsn: writer.durable_lsn, position: writer.head_position, next_lsn, blocks })
    }

    /// Writes a snapshot, all of whose groups are durable, and moves the tail. Poisons on failure.
    pub(super) fn write_snapshot(&self, superblocks: &mut SuperblockPair, snapshot: &Snapshot) -> Result<()> {
        if snapshot.blocks.is_empty() && snapshot.position == superblocks.current().tail_position {
            return Ok(());
        }
        self.write_snapshot_inner(superblocks, snapshot).inspect_err(|error| {
            self.port.poison(error.clone());
            self.fail_waiting();
        })
    }

    fn write_snapshot_inner(&self, superblocks: &mut SuperblockPair, snapshot: &Snapshot) -> Result<()> {
        let mut leaves = Vec::new();
        let mut caller = Vec::new();
        for (id, content) in &snapshot.blocks {
            match *id {
                BlockId::Metadata(leaf) => leaves.push((LeafAddress(leaf), Arc::clone(content))),
                BlockId::Caller(block) => caller.push((block, content)),
            }
        }
        let staged = self.lock(&self.tree).stage(&self.port, &leaves)?;
        let mut in_place = InPlace::new(self);
        for ((_, content), offset) in leaves.iter().zip(&staged.leaf_offsets) {
            in_place.write(*offset, content, Purpose::Metadata)?;
        }
        for &(offset, node) in &staged.interior_offsets {
            in_place.write(offset, staged.block(node), Purpose::ChecksumTree)?;
        }
        if !caller.is_empty() {
            // From here on the effects of these groups are in the caller's pages. Damage to one of them must never be
            // taken for a torn tail, so the witness says first that they were durable (rule 7).
            self.note_durable(snapshot.lsn, snapshot.position)?;
            self.port.flush()?;
        }
        for (block, content) in caller {
            let offset = block * u64::from(self.layout.block_bytes());
            in_place.write(offset, content, Purpose::CallerCheckpoint)?;
        }
        let mark = self.data.mark();
        self.port.flush()?;
        self.data.flushed(mark);
        self.wake_data_waiters();

        let old_tail = superblocks.current().tail_position;
        superblocks.publish(&self.port, |superblock| {
            superblock.root = staged.root;
            superblock.generation = staged.generation;
            superblock.tail_position = snapshot.position;
            superblock.tail_lsn = snapshot.lsn;
            superblock.next_lsn = superblock.next_lsn.max(snapshot.next_lsn);
        })?;

        count(&self.counters.checkpoints, 1);
        count(&self.counters.checkpointed_blocks, snapshot.blocks.len() as u64);
        self.lock(&self.tree).install(staged);
        {
            let writer = self.lock_writer();
            let mut settle = || {
                let settled = |(id, _): &(BlockId, _)| match (*id, self.overlay.settle(*id, snapshot.lsn)) {
                    (BlockId::Caller(number), Some(content)) => Some((number, content)),
                    _ => None,
                };
                snapshot.blocks.iter().filter_map(settled).collect()
            };
            match self.publisher.get() {
                Some(publisher) => publisher.hand_over(&mut settle),
                None => drop::<Vec<_>>(settle()),
            }
            self.settling.store(0, Ordering::Relaxed);
            self.evict_clean(&writer);
            self.note_dirty_since();
        }
        self.ring_tail.store(snapshot.position, Ordering::Relaxed);
        let granule = u64::from(self.layout.ring_granule_bytes());
        let freed = (snapshot.position - old_tail) / granule;
        self.space.add_permits(usize::try_from(freed).unwrap_or(0));
        Ok(())
    }

    /// Writes the note of the last durable LSN, if there is a newer one than last time (rule 7). Not flushed.
    pub fn write_witness(&self) -> Result<()> {
        let mut writer = self.lock_writer();
        self.check_open(&self.lock(&self.state))?;
        if writer.durable_lsn <= writer.witnessed_lsn {
            return Ok(());
        }
        let (lsn, position) = (writer.durable_lsn, writer.head_position);
        if let Err(error) = self.write_witness_block(&mut writer, lsn, position) {
            self.port.poison(error.clone());
            drop(writer);
            self.fail_waiting();
            return Err(error);
        }
        Ok(())
    }

    fn note_durable(&self, lsn: u64, position: u64) -> Result<()> {
        self.write_witness_block(&mut self.lock_writer(), lsn, position)
    }

    fn write_witness_block(&self, writer: &mut Writer, durable_lsn: u64, position: u64) -> Result<()> {
        let offset = self.layout.witness_offset(writer.witness_copy);
        let witness = Witness { epoch: writer.epoch, durable_lsn, position };
        let block = witness.encode(&self.store, offset, self.layout.block_bytes() as usize);
        self.port.write(offset, &block, Purpose::Witness)?;
        writer.witness_copy = 1 - writer.witness_copy;
        writer.witnessed_lsn = writer.witnessed_lsn.max(durable_lsn);
        Ok(())
    }

    /// What is dirty from now on has not been for longer.
    pub(super) fn note_dirty_since(&self) {
        let nanos = u64::try_from(self.now().as_nanos()).unwrap_or(u64::MAX);
        self.dirty_since.store(nanos, Ordering::Relaxed);
    }

    /// What the maintenance thread does when it wakes: a checkpoint when the oldest changes are old enough, or there is another
    /// reason; else the witness. In a simulation this is called by hand.
    pub fn maintain(&self) -> Result<()> {
        if self.checkpoint_if_due()? { Ok(()) } else { self.write_witness() }
    }

    /// Makes a checkpoint if there is a reason for one. Whoever asked for it may have asked during the one before, which has made
    /// it needless.
    pub(super) fn checkpoint_if_due(&self) -> Result<bool> {
        self.check_open(&self.lock(&self.state))?;
        let since = Duration::from_nanos(self.dirty_since.load(Ordering::Relaxed));
        let age = self.now().saturating_sub(since);
        let old = self.dirty_blocks.load(Ordering::Relaxed) > 0 && age >= self.options.checkpoint_age;
        let due = old || self.wants_checkpoint() || self.is_stuck();
        if due {
            self.checkpoint()?;
        }
        Ok(due)
    }

    /// Closes in order: no more appends, a last checkpoint, and a superblock that says so.
    pub fn close(&self) -> Result<()> {
        let mut superblocks = self.lock_checkpointing_soon();
        {
            let state = self.lock(&self.state);
            self.check_open(&state)?;
            self.shut.store(true, Ordering::Release);
        }
        self.wake.stop();
        let panicked = FailOnPanic(self);
        // Whoever has joined a group by now is told that it is durable.
        let closed =
            self.write_all_waiting().and_then(|()| self.checkpoint_locked(&mut superblocks)).and_then(|()| {
                superblocks
                    .publish(&self.port, |superblock| superblock.state = StoreState::Clean)
                    .inspect_err(|error| {
                        self.port.poison(error.clone());
                    })
            });
        std::mem::forget(panicked);
        self.fail_waiting();
        closed
    }
}
