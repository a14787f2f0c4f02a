//! Applying the groups of a journal to the blocks that they change, in memory, while the journal is still being read.
//!
//! The one who reads verifies groups, decodes what they make of extents, and judges how the journal ends; the other one
//! applies them. Where there is more than a batch of groups these are two threads. What comes out is what one after the other gives: with an error of
//! the reader nothing that was applied counts, nor what was found wrong with it.

use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};

use super::batch::{Batch, GroupView};
use super::checkpoint::{CLAIMED_ROUNDS, FULL_ROUNDS};
use super::decoded::{Change, Decoder, ExtentsRead, Unusable};
use super::engine::Journal;
use super::overlay::{BlockId, Overlay};
use super::recovery::ReplayReport;
use super::replayed::{GroupPlace, ReplayedBlock, ReplayedBlocks};
use super::scan::{JournalEnd, ScannedGroup, read_journal};
use super::tree::ChecksumTree;
use crate::device::Port;
use crate::error::{Error, Result, Structure};
use crate::format::{
    Layout, LeafAddress, Patch, Payload, PayloadError, PayloadReader, PayloadVisitor, Superblock, UpdateKind,
    content_checksum, decode_payload,
};

/// Commits are held up when there are some times the blocks that make a checkpoint due; those that were let through before may add
/// as many as the ring takes by what is claimed for a block; and while a checkpoint runs, all of it may gather once more. A
/// journal with more blocks than that is forged.
const MAX_ROUNDS: usize = 32;
const _: () = assert!(2 * (FULL_ROUNDS + CLAIMED_ROUNDS) <= MAX_ROUNDS);

/// Batches that the reader may be ahead.
const AHEAD: usize = 2;

/// Applies groups, one after the other.
pub(super) struct Replayer<'a> {
    port: &'a Port,
    layout: &'a Layout,
    tree: &'a mut ChecksumTree,
    /// Blocks as they were made before.
    overlay: &'a Overlay,
    most_blocks: usize,
    blocks: ReplayedBlocks,
    report: &'a mut ReplayReport,
    /// The group that is being applied.
    group: GroupPlace,
    /// The place of the block that is being changed.
    current: u32,
    /// The digests of the blocks whose headers this group has changed so far.
    digest: u64,
    /// Places of the blocks whose bits this group has changed; each must have an update for its checksum.
    bits: Vec<u32>,
    decoder: Decoder<'a>,
}

impl<'a> Replayer<'a> {
    pub(super) fn new(
        port: &'a Port,
        layout: &'a Layout,
        tree: &'a mut ChecksumTree,
        overlay: &'a Overlay,
        report: &'a mut ReplayReport,
        incompatible: u64,
    ) -> Self {
        Self {
            port,
            layout,
            tree,
            overlay,
            most_blocks: MAX_ROUNDS * Journal::max_dirty_blocks(layout),
            blocks: ReplayedBlocks::new(),
            report,
            group: GroupPlace::default(),
            current: 0,
            digest: 0,
            bits: Vec::new(),
            decoder: Decoder::new(layout, incompatible),
        }
    }

    /// Applies a group. After an error the blocks are of no use.
    pub(super) fn apply(&mut self, group: GroupView<'_>) -> Result<()> {
        self.begin_group(group);
        let read = self.decoder.read(group, |change| self.change(change).map_err(Fault::Error));
        self.end_group(group, read)
    }

    /// Applies a group whose changes of extents were decoded before.
    fn apply_decoded(
        &mut self,
        group: GroupView<'_>,
        changes: &[Change],
        read: Result<ExtentsRead, Unusable>,
    ) -> Result<()> {
        self.begin_group(group);
        let changed = changes.iter().try_for_each(|change| self.change(change).map_err(Fault::Error));
        self.end_group(group, changed.and(read.map_err(Fault::Unusable)))
    }

    fn begin_group(&mut self, group: GroupView<'_>) {
        self.group = GroupPlace { lsn: group.header.last_lsn(), offset: group.offset };
        self.digest = 0;
        self.bits.clear();
    }

    /// Applies the updates of blocks, and compares what can be compared at once.
    fn end_group(&mut self, group: GroupView<'_>, read: Result<ExtentsRead, Fault>) -> Result<()> {
        let ended = read.and_then(|ExtentsRead { digest, rest }| {
            digest.map_or(Ok(()), |digest| self.compare_extents(digest).map_err(Fault::Error))?;
            PayloadReader::resume(group.payload(), rest).blocks(self.layout.block_bytes(), self)
        });
        ended.map_err(|fault| {
            // A group that cannot be decoded is refused for that, wherever in it that shows.
            match (decode_group(group, self.layout), fault) {
                (Err(error), _) | (Ok(_), Fault::Error(error)) => error,
                (Ok(_), Fault::Unusable(Unusable::Payload(error))) => undecodable(group, error),
                (Ok(_), Fault::Unusable(Unusable::Extents(reason))) => self.bad(reason),
                (Ok(_), Fault::Unusable(Unusable::Outside(page))) => {
                    self.bad(format!("an extent at page {page} is outside of the segments"))
                }
            }
        })?;
        self.check_bits()?;
        let header = &group.header;
        let report = &mut *self.report;
        report.records += 1;
        report.transactions += u64::from(header.transactions);
        report.bytes += u64::from(header.length);
        report.first_lsn.get_or_insert(header.first_lsn);
        report.last_lsn = Some(self.group.lsn);
        Ok(())
    }

    /// The blocks, compared with the checksums that the journal gives (rule 11), as of the last group that changes each of
    /// them: what was wrong before and is right after it was put right by that group, or by one in between.
    pub(super) fn finish(self) -> Result<Vec<ReplayedBlock>> {
        let differs = |block: &&ReplayedBlock| {
            block.checksum.is_some_and(|checksum| content_checksum(&block.content) != checksum)
        };
        match self.blocks.iter().filter(differs).min_by_key(|block| (block.lsn(), block.id)) {
            None => Ok(self.blocks.into_blocks()),
            Some(block) => Err(Error::corrupt(
                Structure::JournalGroup,
                block.group_offset,
                format!("{:?} is not what the journal says it is after LSN {}", block.id, block.lsn()),
            )),
        }
    }

    fn bad(&self, reason: impl Into<String>) -> Error {
        Error::corrupt(Structure::JournalGroup, self.group.offset, reason)
    }

    #[cold]
    fn misfit(&self) -> Fault {
        let (id, lsn) = (self.blocks.get(self.current).map(|block| block.id), self.group.lsn);
        Fault::Error(self.bad(format!("{id:?} cannot take what the journal has for it after LSN {lsn}")))
    }

    /// The place of a block.
    #[inline]
    fn place_of(&mut self, kind: UpdateKind, id: BlockId) -> Result<u32> {
        let known = match id {
            BlockId::Metadata(leaf) => self.blocks.find_leaf(LeafAddress(leaf)),
            BlockId::Caller(_) => self.blocks.find(id),
        };
        known.map_or_else(|| self.take_in(kind, id), Ok)
    }

    #[inline]
    fn place_of_leaf(&mut self, leaf: LeafAddress) -> Result<u32> {
        self.place_of(UpdateKind::Metadata, BlockId::Metadata(leaf.0))
    }

    /// Changes a header, or bits, or both.
    #[inline]
    fn change(&mut self, change: &Change) -> Result<()> {
        let lsn = self.group.lsn;
        if let Some(header) = &change.header {
            self.report.writes += 1;
            let place = self.place_of_leaf(header.leaf)?;
            if let Some(block) = self.blocks.get_mut(place)
                && let Some(digest) = block.change_header(header, lsn)
            {
                self.digest ^= digest;
            }
        }
        if change.bits.count > 0 {
            let place = self.place_of_leaf(change.bitmap)?;
            if let Some(block) = self.blocks.get_mut(place)
                && block.change_bits(change.bits, lsn)
            {
                self.bits.push(place);
            }
        }
        Ok(())
    }

    /// Whether each block whose bits the group has changed has a checksum in it (rule 11).
    fn check_bits(&self) -> Result<()> {
        let unchecked = |place: &&u32| self.blocks.get(**place).is_some_and(|block| block.checksum.is_none());
        match self.bits.iter().find(unchecked).and_then(|place| self.blocks.get(*place)) {
            None => Ok(()),
            Some(ReplayedBlock { id, .. }) => Err(self.bad(format!(
                "bits of {id:?} change, and no checksum says what it is after LSN {}",
                self.group.lsn
            ))),
        }
    }

    /// Compares the blocks whose headers the group has changed with its digest of them (rule 11).
    fn compare_extents(&self, digest: u64) -> Result<()> {
        if self.digest == digest {
            Ok(())
        } else {
            Err(self.bad(format!(
                "page headers are not what the journal says they are after LSN {}",
                self.group.lsn
            )))
        }
    }

    /// Takes a block in that no group has changed so far.
    #[cold]
    fn take_in(&mut self, kind: UpdateKind, id: BlockId) -> Result<u32> {
        let base = self.overlay.get(id).map(|content| content.to_vec());
        let content = match (id, base) {
            (BlockId::Metadata(leaf), _) if leaf >= self.layout.leaf_count() => {
                return Err(self.bad(format!("metadata block {leaf} does not exist")));
            }
            (BlockId::Caller(block), _) if !is_caller_block(self.layout, block) => {
                return Err(self.bad(format!("block {block} is not the caller's")));
            }
            (_, Some(base)) => base,
            (BlockId::Metadata(leaf), None) => self.tree.read_leaf(self.port, LeafAddress(leaf))?,
            (BlockId::Caller(_), None) if kind == UpdateKind::CallerImage => {
                vec![0; self.layout.block_bytes() as usize]
            }
            (BlockId::Caller(block), None) => {
                // The image is behind the tail: an earlier recovery moved it up to the last group and did not come to its
                // end. It made the block durable in place before that, and nobody wrote it since.
                let offset = block * u64::from(self.layout.block_bytes());
                self.port.read_vec(offset, self.layout.block_bytes() as usize)?
            }
        };
        let place = self.blocks.push(ReplayedBlock::new(id, content));
        if self.blocks.len() > self.most_blocks {
            return Err(self.bad("more blocks than a journal is allowed to gather"));
        }
        Ok(place)
    }
}

/// The updates of a group.
pub(super) fn decode_group<'g>(group: GroupView<'g>, layout: &Layout) -> Result<Payload<'g>> {
    decode_payload(group.payload(), group.header.updates, layout.block_bytes())
        .map_err(|error| undecodable(group, error))
}

fn undecodable(group: GroupView<'_>, error: PayloadError) -> Error {
    Error::corrupt(Structure::JournalGroup, group.offset + error.offset as u64, error.reason)
}

/// Why a group cannot be applied.
pub(super) enum Fault {
    Unusable(Unusable),
    Error(Error),
}

impl From<PayloadError> for Fault {
    fn from(error: PayloadError) -> Self {
        Self::Unusable(error.into())
    }
}

impl From<Unusable> for Fault {
    fn from(unusable: Unusable) -> Self {
        Self::Unusable(unusable)
    }
}

impl PayloadVisitor<'_> for Replayer<'_> {
    type Error = Fault;

    fn begin(&mut self, kind: UpdateKind, address: u64) -> Result<(), Fault> {
        let id = match kind {
            UpdateKind::Metadata => BlockId::Metadata(address),
            UpdateKind::CallerDelta | UpdateKind::CallerImage => BlockId::Caller(address),
        };
        self.current = self.place_of(kind, id).map_err(Fault::Error)?;
        if let Some(block) = self.blocks.get_mut(self.current) {
            block.begin(kind);
        }
        Ok(())
    }

    fn patch(&mut self, patch: Patch<'_>) -> Result<(), Fault> {
        self.report.writes += 1;
        let fits = self.blocks.get_mut(self.current).is_some_and(|block| block.patch(&patch));
        if fits { Ok(()) } else { Err(self.misfit()) }
    }

    fn end(&mut self, checksum_after: u32) -> Result<(), Fault> {
        if let Some(block) = self.blocks.get_mut(self.current) {
            block.conclude(checksum_after, self.group);
        }
        Ok(())
    }
}

fn is_caller_block(layout: &Layout, block: u64) -> bool {
    let block_bytes = u64::from(layout.block_bytes());
    let end = layout.page_count() * u64::from(layout.page_bytes());
    block.checked_mul(block_bytes).is_some_and(|offset| (layout.data_offset()..end).contains(&offset))
}

/// Applies all groups but the last, which is kept.
struct AllButLast<'a> {
    replayer: Replayer<'a>,
    last: Option<ScannedGroup>,
    /// What was wrong first. Nothing is applied after it.
    error: Option<Error>,
}

impl AllButLast<'_> {
    fn take(&mut self, batch: &Batch) {
        if self.error.is_none() {
            self.error = self.apply(batch).err();
        }
    }

    fn apply(&mut self, batch: &Batch) -> Result<()> {
        let mut others = batch.others();
        let Some(last) = others.next_back() else { return Ok(()) };
        if let Some(before) = self.last.take() {
            self.replayer.apply(before.view())?;
        }
        for (group, changes, read) in batch.decoded() {
            self.replayer.apply_decoded(group, changes, read)?;
        }
        for group in others {
            self.replayer.apply(group)?;
        }
        self.last = Some(last.to_owned());
        Ok(())
    }
}

/// What a journal comes to.
pub(super) struct Replayed {
    pub(super) end: JournalEnd,
    /// The blocks, as of the last group but one.
    pub(super) blocks: Vec<ReplayedBlock>,
    pub(super) last: Option<ScannedGroup>,
}

/// Reads a journal and applies all of its groups but the last.
///
/// # Errors
/// What [`read_journal`] refuses; else what is wrong with the first group that cannot be applied; else what is wrong with a
/// block.
pub(super) fn replay_journal(superblock: &Superblock, replayer: Replayer<'_>) -> Result<Replayed> {
    let (port, decoder) = (replayer.port, replayer.decoder);
    let applier = Mutex::new(AllButLast { replayer, last: None, error: None });
    let end = thread::scope(|scope| {
        let mut batches = 0_u64;
        let mut helper = None;
        read_journal(port, superblock, &mut |mut batch| {
            batch.decode(decoder);
            batches += 1;
            // One batch is not worth a thread. Where calls do not block, reads come in an order that is always the same.
            if batches == 2 && port.may_block() {
                helper = start_helper(scope, &applier);
            }
            match &helper {
                Some((sender, spare)) => {
                    // The helper is gone only when it has panicked, and so does the scope then.
                    let _ = sender.send(batch);
                    spare.try_recv().unwrap_or_default()
                }
                None => {
                    lock(&applier).take(&batch);
                    batch
                }
            }
        })
    });
    let AllButLast { replayer, last, error } = applier.into_inner().unwrap_or_else(PoisonError::into_inner);
    let end = end?;
    match error {
        Some(error) => Err(error),
        None => Ok(Replayed { end, blocks: replayer.finish()?, last }),
    }
}

/// A thread that applies batches, and where to send them and get them back. `None` when there can be none.
fn start_helper<'scope>(
    scope: &'scope Scope<'scope, '_>,
    applier: &'scope Mutex<AllButLast<'_>>,
) -> Option<(SyncSender<Batch>, Receiver<Batch>)> {
    let (sender, batches) = sync_channel::<Batch>(AHEAD);
    let (back, spare) = channel();
    let help = move || {
        let mut applier = lock(applier);
        for batch in batches {
            applier.take(&batch);
            // Nobody wants it any more at the end.
            let _ = back.send(batch);
        }
    };
    let started = thread::Builder::new().name("freehold-replay".to_owned()).spawn_scoped(scope, help);
    started.is_ok().then_some((sender, spare))
}

fn lock<'m, 'a>(applier: &'m Mutex<AllButLast<'a>>) -> MutexGuard<'m, AllButLast<'a>> {
    applier.lock().unwrap_or_else(PoisonError::into_inner)
}
