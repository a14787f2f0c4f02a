//! Opening: from what a power loss left to a running journal (rules 6, 7, 8, 11, 19).
//!
//! What was read may be in a cache and not on the medium, so nothing relies on it before it was made durable again:
//!
//! 1. The superblock, unless both copies agree (then the older one was flushed before the newer was issued).
//! 2. The groups but the last one were durable before the last one was issued. They are checkpointed.
//! 3. The last one is written again, on fresh blocks behind the original and under the new epoch; the superblock that
//!    opens the new epoch takes it over from the original. Until then nothing of it goes in place. (Of a checkpoint that
//!    was cut off some of it may be: the witness says then that it was durable.)
//!
//! A crash at any of these writes leaves either the old superblock with the old journal, or the next one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crossbeam_utils::CachePadded;
use tokio::sync::Semaphore;

use super::append::Changes;
use super::checkpoint::Snapshot;
use super::data::DataSequence;
use super::engine::{Journal, JournalOptions, State, Writer};
use super::group::Group;
use super::kept::KeptLeaves;
use super::overlay::{BlockId, Overlay};
use super::replay::{Replayed, Replayer, decode_group, replay_journal};
use super::replayed::ReplayedBlock;
use super::ring::Ring;
use super::scan::{JournalEnd, ScannedGroup};
use super::stages::Stages;
use super::superblocks::SuperblockPair;
use super::tree::ChecksumTree;
use super::waiting::Waiting;
use crate::device::Port;
use crate::error::{Error, Result, Structure};
use crate::format::{
    COUNTERS_END, ExtentsEncoder, ExtentsUpdate, FEATURE_EXTENTS, GroupHeader, Patch, Payload,
    PayloadEncoder, StoreState, Superblock, UpdateKind, content_checksum,
};

/// What replay found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ReplayReport {
    /// The store had been closed in order.
    pub was_clean: bool,
    /// Groups applied.
    pub records: u64,
    /// Transactions in them.
    pub transactions: u64,
    /// Byte ranges written by them, and what became of extents, each of which is one.
    pub writes: u64,
    /// Bytes of the groups, without padding.
    pub bytes: u64,
    /// Pieces of groups that nothing says were durable were dropped from the end.
    pub torn_tail: bool,
    /// Where the pieces are, in bytes from the start of the device.
    pub torn_offset: Option<u64>,
    /// LSN of the first transaction applied.
    pub first_lsn: Option<u64>,
    /// LSN of the last transaction applied.
    pub last_lsn: Option<u64>,
}

/// Refuses a forged store of which nobody could tell after this opening that its counters are in order.
fn check_counters(superblock: &Superblock, end: JournalEnd) -> Result<()> {
    let next_lsn = superblock.next_lsn.max(end.last_lsn);
    let Superblock { sequence, epoch, generation, .. } = *superblock;
    if [next_lsn, end.position, sequence, epoch, generation]
        .into_iter()
        .all(|counter| counter < COUNTERS_END / 2)
    {
        return Ok(());
    }
    let offset = superblock.layout.superblock_offset(0);
    Err(Error::corrupt(Structure::Superblock, offset, "counters near their end; it can be opened read-only"))
}

impl Journal {
    /// Opens the journal of a store and replays it: in place for a writer, in memory only for a reader.
    ///
    /// # Errors
    /// Everything that [`SuperblockPair::read`] and [`scan_journal`](super::scan_journal) refuse; [`Error::Truncated`]; I/O errors.
    ///
    /// `inspect` sees the replayed journal before the first write: what it refuses stays as it was.
    pub fn open<T>(
        port: Arc<Port>,
        options: JournalOptions,
        replay: Replay,
        inspect: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<(Arc<Self>, ReplayReport, T)> {
        let mut superblocks = SuperblockPair::read(&port)?;
        let superblock = superblocks.current().clone();
        let device_bytes = port.geometry().len_bytes;
        if device_bytes < superblock.layout.device_bytes() {
            return Err(Error::Truncated { expected: superblock.layout.device_bytes(), found: device_bytes });
        }
        if superblock.read_only_compatible != 0 && replay == Replay::InPlace {
            return Err(Error::UnsupportedFeatures {
                kind: "read-only compatible",
                bits: superblock.read_only_compatible,
            });
        }
        let sector_bytes = port.geometry().sector_bytes;
        if replay == Replay::InPlace && sector_bytes > superblock.layout.ring_granule_bytes() {
            // Two groups would share a sector, and writing one could destroy the other (rule 9).
            return Err(Error::InvalidGeometry(format!(
                "the device has sectors of {sector_bytes} bytes, the store was made for {}; open it read-only, or without direct I/O",
                superblock.layout.ring_granule_bytes()
            )));
        }
        let mut report = ReplayReport::default();
        let (layout, overlay) = (Arc::new(superblock.layout.clone()), Overlay::default());
        let mut tree = ChecksumTree::new(
            Arc::clone(&layout),
            superblock.store_id,
            superblock.root,
            superblock.generation,
        );
        let replayer =
            Replayer::new(&port, &layout, &mut tree, &overlay, &mut report, superblock.incompatible);
        let Replayed { end, blocks, last } = replay_journal(&superblock, replayer)?;
        if replay == Replay::InPlace {
            check_counters(&superblock, end)?;
        }
        let journal = Self::assemble(port, options, &superblocks, end, tree, overlay);
        let snapshot = journal.replay_in_memory(&superblocks, blocks, last.as_ref(), &mut report)?;
        report.was_clean = superblock.state == StoreState::Clean && last.is_none() && end.torn.is_none();
        report.torn_tail = end.torn.is_some();
        report.torn_offset = end.torn.map(|torn| torn.offset);
        let inspected = inspect(&journal)?;
        if replay == Replay::InPlace {
            journal.replay_in_place(&mut superblocks, end, last.as_ref(), &snapshot)?;
            let ring = journal.layout.ring_offset();
            journal.port.dedicate_to_journal(ring..ring + journal.layout.ring_bytes());
        }
        *journal.lock(&journal.checkpointing) = superblocks;
        Ok((Arc::new(journal), report, inspected))
    }

    fn assemble(
        port: Arc<Port>,
        options: JournalOptions,
        superblocks: &SuperblockPair,
        end: JournalEnd,
        tree: ChecksumTree,
        overlay: Overlay,
    ) -> Self {
        let superblock = superblocks.current();
        let layout = Arc::new(superblock.layout.clone());
        // LSNs that a dropped tail may have used are not used again: it had fewer transactions than the ring has bytes.
        let next_lsn = (end.last_lsn + 1).max(superblock.next_lsn) + layout.ring_bytes();
        Self {
            tree: Mutex::new(tree),
            store: superblock.store_id,
            options,
            overlay,
            block_claim_bytes: Self::share_of_block(&layout),
            checkpointing: Mutex::new(superblocks.clone()),
            checkpointing_wanted: Waiting::default(),
            writer: Mutex::new(Writer {
                head_position: end.position,
                durable_lsn: superblock.tail_lsn,
                epoch: superblock.epoch,
                witnessed_lsn: end.last_lsn,
                // Not over the newest one.
                witness_copy: end.witness_copy,
                changes: Changes::default(),
            }),
            state: CachePadded::new(Mutex::new(State {
                open: Group::default(),
                full: VecDeque::new(),
                next_lsn,
                data_waiters: Vec::new(),
                driving: false,
            })),
            space: Semaphore::new(Self::ring_granules(&layout)).into(),
            space_wanted: Waiting::default(),
            ring_tail: AtomicU64::new(superblock.tail_position),
            ring_head: AtomicU64::new(end.position),
            data: DataSequence::default(),
            counters: CachePadded::default(),
            stages: Stages::default(),
            wake: Arc::default(),
            epoch: AtomicU64::new(superblock.epoch),
            recent_write: AtomicU64::new(u64::MAX),
            last_writes: [AtomicU64::new(0), AtomicU64::new(0)],
            recent_transactions: AtomicU32::new(0),
            encoded_of_late: [AtomicU64::new(0), AtomicU64::new(0)],
            writer_wanted: Waiting::default(),
            dirty_blocks: AtomicUsize::new(0),
            dirty_since: AtomicU64::new(0),
            kept: KeptLeaves::default(),
            absence: Mutex::default(),
            standing_in: AtomicBool::new(false),
            settling: AtomicUsize::new(0),
            shut: AtomicBool::new(false),
            publisher: OnceLock::new(),
            port,
            layout,
        }
    }

    /// Puts what all groups but the last have made into the overlay, and applies the last. Returns a snapshot as of the last
    /// group but one: what is known to have been durable on the medium.
    fn replay_in_memory(
        &self,
        superblocks: &SuperblockPair,
        blocks: Vec<ReplayedBlock>,
        last: Option<&ScannedGroup>,
        report: &mut ReplayReport,
    ) -> Result<Snapshot> {
        let mut writer = self.lock(&self.writer);
        writer.durable_lsn = report.last_lsn.unwrap_or(superblocks.current().tail_lsn);
        self.put_replayed(&mut writer, blocks);
        // LSNs may not skip forward before the new epoch begins.
        let next_lsn = writer.durable_lsn + 1;
        let mut snapshot = self.snapshot_dirty(&mut writer, next_lsn)?;
        if let Some(last) = last {
            snapshot.position = last.header.position;
            let mut tree = self.lock(&self.tree);
            let features = superblocks.current().incompatible;
            let mut replayer =
                Replayer::new(&self.port, &self.layout, &mut tree, &self.overlay, report, features);
            replayer.apply(last.view())?;
            self.put_replayed(&mut writer, replayer.finish()?);
        }
        // A checkpoint by age has these to write.
        self.dirty_blocks.store(writer.changes.dirty_blocks(), Ordering::Relaxed);
        self.note_dirty_since();
        Ok(snapshot)
    }

    fn put_replayed(&self, writer: &mut Writer, blocks: Vec<ReplayedBlock>) {
        let changes = &mut writer.changes;
        for block in blocks {
            let (lsn, ReplayedBlock { id, content, .. }) = (block.lsn(), block);
            self.overlay.put_replayed(id, Arc::new(content), lsn, changes.round);
            changes.dirty.insert(id);
        }
    }

    fn replay_in_place(
        &self,
        superblocks: &mut SuperblockPair,
        end: JournalEnd,
        last: Option<&ScannedGroup>,
        snapshot: &Snapshot,
    ) -> Result<()> {
        let found = superblocks.current().sequence;
        if !superblocks.is_agreed() {
            superblocks.publish(&self.port, |_| {})?;
        }
        // The ring starts out with nothing claimed; claims of what is in it are settled here.
        let ring_used = (end.position - superblocks.current().tail_position)
            / u64::from(self.layout.ring_granule_bytes());
        let ring_used = usize::try_from(ring_used).unwrap_or(0);
        if self.space.forget_permits(ring_used) != ring_used {
            return Err(Error::Internal("the journal is larger than its ring"));
        }
        if end.torn.is_some() && last.is_some() {
            self.void_torn_tail(end.position)?;
        }
        self.write_snapshot(superblocks, snapshot)?;
        if last.is_some() && superblocks.current().sequence == found {
            superblocks.publish(&self.port, |_| {})?;
        }
        self.begin_epoch(superblocks, last)
    }

    /// Settles that the group whose pieces are at `position` does not count.
    ///
    /// The last group is about to be written over these pieces, under the next epoch. Cut off, that write could complete
    /// what it lies over. Then the group in front of it would no longer be the last one, and would go in place on the next
    /// opening, although the images that its deltas need are behind the tail by now. One sector is written, so that
    /// nothing is completed by this write either.
    fn void_torn_tail(&self, position: u64) -> Result<()> {
        let sector_bytes = self.port.geometry().sector_bytes;
        let mut ring = Ring::new(&self.port, &self.layout);
        let mut front = ring.read(position, u64::from(sector_bytes))?.to_vec();
        GroupHeader::void(&mut front);
        ring.write(position, &front)?;
        self.port.flush()
    }

    /// Opens a new epoch. The last group of the old one, if any, is taken along.
    ///
    /// An epoch is the sequence of a superblock copy that is durable before the first group of that epoch is issued. So no
    /// other opening ever has the same one, not even when this one is cut off and what it took along was in a cache only.
    fn begin_epoch(&self, superblocks: &mut SuperblockPair, last: Option<&ScannedGroup>) -> Result<()> {
        let sequence = superblocks.current().sequence;
        let epoch = if last.is_some() { sequence } else { sequence + 1 };
        let mut writer = self.lock(&self.writer);
        writer.epoch = epoch;
        self.epoch.store(epoch, Ordering::Relaxed);
        let start = writer.head_position;
        if let Some(last) = last {
            let header = self.restate(last, epoch, start, superblocks.current().tail_lsn)?;
            writer.head_position += header.padded_bytes(self.layout.ring_granule_bytes());
            writer.durable_lsn = header.last_lsn();
        }
        let next_lsn = self.lock(&self.state).next_lsn;
        let freed = start - superblocks.current().tail_position;
        superblocks
            .publish(&self.port, |superblock| {
                // Before the first group that has some.
                superblock.incompatible |= FEATURE_EXTENTS;
                superblock.epoch = epoch;
                superblock.state = StoreState::Open;
                superblock.tail_position = start;
                superblock.next_lsn = next_lsn;
            })
            .inspect_err(|error| {
                self.port.poison(error.clone());
            })?;
        // Nothing in the new epoch says yet that the group taken along is durable; the witness soon will.
        writer.witnessed_lsn = superblocks.current().tail_lsn;
        self.counters.durable_lsn.store(writer.durable_lsn, Ordering::Relaxed);
        self.ring_tail.store(start, Ordering::Relaxed);
        self.ring_head.store(writer.head_position, Ordering::Relaxed);
        let granule = u64::from(self.layout.ring_granule_bytes());
        let used = (writer.head_position - start) / granule;
        // Net change of claims: the original goes, its copy stays.
        self.space.add_permits(usize::try_from(freed / granule).unwrap_or(0));
        self.space.forget_permits(usize::try_from(used).unwrap_or(0));
        Ok(())
    }

    /// Writes the effects of a group that is in the overlay once more, durably, at `position` under a new epoch.
    fn restate(
        &self,
        group: &ScannedGroup,
        epoch: u64,
        position: u64,
        durable_lsn: u64,
    ) -> Result<GroupHeader> {
        let Payload { extents, blocks } = decode_group(group.view(), &self.layout)?;
        let mut encoder = PayloadEncoder::default();
        if let Some(ExtentsUpdate { records, digest }) = extents {
            let mut extents = ExtentsEncoder::default();
            records.iter().for_each(|record| extents.push(record.page, &record.change));
            encoder.push_extents(&extents, digest);
        }
        let mut updates = Vec::new();
        for update in blocks {
            let (kind, id) = match update.kind {
                UpdateKind::Metadata => (UpdateKind::Metadata, BlockId::Metadata(update.address)),
                // Earlier images are behind the new tail, so every block of the caller is given whole.
                UpdateKind::CallerDelta | UpdateKind::CallerImage => {
                    (UpdateKind::CallerImage, BlockId::Caller(update.address))
                }
            };
            let content = self.overlay.get(id).ok_or(Error::Internal("a replayed block left the overlay"))?;
            updates.push((kind, update.address, content, patch_ranges(&update.patches)));
        }
        updates.sort_by_key(|&(kind, address, ..)| (kind, address));
        for (kind, address, content, ranges) in &updates {
            encoder.push(*kind, *address, content, ranges, content_checksum(content));
        }
        let (mut bytes, length, updates) = encoder.finish(self.layout.ring_granule_bytes());
        let header = GroupHeader { length, epoch, position, durable_lsn, updates, ..group.header };
        if bytes.len() as u64 + group.bytes.len() as u64 > self.layout.ring_bytes() {
            return Err(Error::corrupt(
                Structure::JournalGroup,
                group.offset,
                "group larger than half the journal",
            ));
        }
        header.seal(&self.store, &mut bytes);
        Ring::new(&self.port, &self.layout).write(position, &bytes)?;
        self.port.flush()?;
        Ok(header)
    }
}

/// Whether the journal may change the device when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// For a writer.
    InPlace,
    /// For a reader.
    InMemory,
}

fn patch_ranges(patches: &[Patch<'_>]) -> Vec<(u32, u32)> {
    let narrow = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    patches
        .iter()
        .map(|patch| match *patch {
            Patch::Bytes { offset, bytes } => (narrow(offset), narrow(offset + bytes.len())),
            Patch::Fill { offset, len, .. } => (narrow(offset), narrow(offset + len)),
        })
        .collect()
}
