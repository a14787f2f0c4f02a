//! Applying the groups of a journal to the blocks that they change, in memory, while the journal is still being read.
//!
//! The one who reads verifies groups, and judges how the journal ends; the one who applies decodes them. Where there is more
//! than a batch of groups these are two threads. What comes out is what one after the other gives: with an error of
//! the reader nothing that was applied counts, nor what was found wrong with it.

use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::append::{BitsChange, set_bits};
use super::batch::{Batch, GroupView};
use super::engine::Journal;
use super::extents::for_bits;
use super::overlay::{BlockId, Overlay};
use super::recovery::ReplayReport;
use super::scan::{JournalEnd, ScannedGroup, read_journal};
use super::tree::ChecksumTree;
use crate::device::Port;
use crate::error::{Error, Result, Structure};
use crate::format::{
    ExtentRecord, FEATURE_EXTENTS, Layout, LeafAddress, PAGE_HEADER_BYTES, Patch, Payload, PayloadError,
    PayloadVisitor, Superblock, UpdateKind, content_checksum, decode_payload, header_digest, headers_digest,
    visit_payload,
};

/// Commits are held up at twice the blocks that make a checkpoint due; those that were let through before may add as much
/// as the ring takes by what it is claimed for, some 300 bytes for a free, which is thirteen times what makes one due; and
/// while a checkpoint runs, all of it may gather once more. A journal with more than this is forged.
const MAX_ROUNDS: usize = 32;

/// Batches that the reader may be ahead.
const AHEAD: usize = 4;

/// A block as groups made it.
#[derive(Debug)]
pub(super) struct ReplayedBlock {
    pub(super) id: BlockId,
    pub(super) content: Vec<u8>,
    /// Last LSN of the last group that changed it.
    pub(super) lsn: u64,
    /// What the block must be after that group; what became of extents in it was compared when that group was applied.
    checksum: Option<u32>,
    /// Of page headers: their digest, once it is known.
    digest: Option<u64>,
    /// Last LSN of the last group that has records of extents in it.
    extents_lsn: u64,
    /// The same, of bits.
    bits_lsn: u64,
    group_offset: u64,
}

impl ReplayedBlock {
    /// Changes the header of the page with this number, for the group that ends with this LSN. Returns by what the digest of
    /// all blocks that the group changes differs for it.
    fn change_header(
        &mut self,
        page: u64,
        offset: u32,
        lsn: u64,
        change: impl FnOnce(&mut [u8; PAGE_HEADER_BYTES]),
    ) -> Option<u64> {
        let place = offset as usize;
        let before = self.digest.unwrap_or_else(|| {
            let first = page - (place / PAGE_HEADER_BYTES) as u64;
            headers_digest(first, &self.content)
        });
        let header = self.content.get_mut(place..)?.first_chunk_mut()?;
        let old = header_digest(page, header);
        change(header);
        let difference = old ^ header_digest(page, header);
        self.digest = Some(before ^ difference);
        // A checksum is of before.
        (self.checksum, self.lsn) = (None, lsn);
        let is_first = std::mem::replace(&mut self.extents_lsn, lsn) != lsn;
        Some(if is_first { before ^ difference } else { difference })
    }
}

/// Applies groups, one after the other.
pub(super) struct Replayer<'a> {
    port: &'a Port,
    layout: &'a Layout,
    tree: &'a mut ChecksumTree,
    /// Blocks as they were made before.
    overlay: &'a Overlay,
    most_blocks: usize,
    places: FxHashMap<BlockId, usize>,
    blocks: Vec<ReplayedBlock>,
    report: &'a mut ReplayReport,
    /// The group that is being applied: its last LSN, and its offset on the device.
    lsn: u64,
    group_offset: u64,
    /// The place of the block that is being changed.
    current: usize,
    /// The digests of the blocks whose headers this group has changed so far.
    digest: u64,
    /// Places of the blocks whose bits this group has changed; each must have an update for its checksum.
    bits: Vec<usize>,
    /// Whether the store has the feature that groups may say what becomes of extents.
    may_have_extents: bool,
    /// Pages whose bits this group has changed so far. Each changes once in a group, so there is an end to them.
    changed_pages: u64,
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
            places: FxHashMap::default(),
            blocks: Vec::new(),
            report,
            lsn: 0,
            group_offset: 0,
            current: 0,
            digest: 0,
            bits: Vec::new(),
            may_have_extents: incompatible & FEATURE_EXTENTS != 0,
            changed_pages: 0,
        }
    }

    /// Applies a group. After an error the blocks are of no use.
    pub(super) fn apply(&mut self, group: GroupView<'_>) -> Result<()> {
        let header = &group.header;
        self.lsn = header.last_lsn();
        self.group_offset = group.offset;
        self.digest = 0;
        self.bits.clear();
        self.changed_pages = 0;
        visit_payload(group.payload(), header.updates, self.layout.block_bytes(), self).map_err(|fault| {
            // A group that cannot be decoded is refused for that, wherever in it that shows.
            match (decode_group(group, self.layout), fault) {
                (Err(error), _) | (Ok(_), Fault::Error(error)) => error,
                (Ok(_), Fault::Payload(error)) => undecodable(group, error),
            }
        })?;
        self.check_bits()?;
        let report = &mut *self.report;
        report.records += 1;
        report.transactions += u64::from(header.transactions);
        report.bytes += u64::from(header.length);
        report.first_lsn.get_or_insert(header.first_lsn);
        report.last_lsn = Some(self.lsn);
        Ok(())
    }

    /// The blocks, compared with the checksums that the journal gives (rule 11), as of the last group that changes each of
    /// them: what was wrong before and is right after it was put right by that group, or by one in between.
    pub(super) fn finish(self) -> Result<Vec<ReplayedBlock>> {
        let differs = |block: &&ReplayedBlock| {
            block.checksum.is_some_and(|checksum| content_checksum(&block.content) != checksum)
        };
        match self.blocks.iter().filter(differs).min_by_key(|block| (block.lsn, block.id)) {
            None => Ok(self.blocks),
            Some(ReplayedBlock { id, lsn, group_offset, .. }) => Err(Error::corrupt(
                Structure::JournalGroup,
                *group_offset,
                format!("{id:?} is not what the journal says it is after LSN {lsn}"),
            )),
        }
    }

    fn bad(&self, reason: impl Into<String>) -> Error {
        Error::corrupt(Structure::JournalGroup, self.group_offset, reason)
    }

    #[cold]
    fn misfit(&self) -> Fault {
        let (id, lsn) = (self.blocks.get(self.current).map(|block| block.id), self.lsn);
        Fault::Error(self.bad(format!("{id:?} cannot take what the journal has for it after LSN {lsn}")))
    }

    /// The place of a block.
    fn place_of(&mut self, kind: UpdateKind, id: BlockId) -> Result<usize> {
        match self.places.get(&id) {
            Some(&place) => Ok(place),
            None => self.take_in(kind, id),
        }
    }

    /// What becomes of a header, and of the bits of its pages.
    fn apply_extent(&mut self, record: &ExtentRecord) -> Result<()> {
        if !self.may_have_extents {
            return Err(self.bad("what becomes of extents, in a store without that feature"));
        }
        let &ExtentRecord { page: number, ref change } = record;
        let (segment, page) = self.layout.page_in_segment(number);
        let fits = page + change.reach() <= self.layout.pages_per_segment();
        let segment = u32::try_from(segment).ok().filter(|segment| *segment < self.layout.segment_count());
        let Some(segment) = segment.filter(|_| fits) else {
            return Err(self.bad(format!("an extent at page {number} is outside of the segments")));
        };
        self.report.writes += 1;
        self.changed_pages += change.bits().map_or(0, |(pages, _)| pages.len() as u64);
        if self.changed_pages > self.layout.page_count() {
            return Err(self.bad("a group changes more bits than there are pages"));
        }
        let (leaf, offset) = self.layout.header_place(segment, page);
        let place = self.place_of(UpdateKind::Metadata, BlockId::Metadata(leaf.0))?;
        if let Some(block) = self.blocks.get_mut(place)
            && let Some(digest) =
                block.change_header(number, offset, self.lsn, |header| change.apply_to_header(header))
        {
            self.digest ^= digest;
            block.group_offset = self.group_offset;
        }
        let mut parts = SmallVec::<[_; 2]>::new();
        for_bits(self.layout, segment, page, change, |leaf, bits| parts.push((leaf, bits)));
        for (leaf, BitsChange { first, count, set }) in parts {
            let place = self.place_of(UpdateKind::Metadata, BlockId::Metadata(leaf.0))?;
            if let Some(block) = self.blocks.get_mut(place) {
                set_bits(&mut block.content, first, count, set);
                // One checksum is of before, and the group has another.
                block.checksum = None;
                block.group_offset = self.group_offset;
                if std::mem::replace(&mut block.bits_lsn, self.lsn) != self.lsn {
                    self.bits.push(place);
                }
            }
        }
        Ok(())
    }

    /// Whether each block whose bits the group has changed has a checksum in it (rule 11).
    fn check_bits(&self) -> Result<()> {
        let unchecked =
            |place: &&usize| self.blocks.get(**place).is_some_and(|block| block.checksum.is_none());
        match self.bits.iter().find(unchecked).and_then(|place| self.blocks.get(*place)) {
            None => Ok(()),
            Some(ReplayedBlock { id, .. }) => Err(self.bad(format!(
                "bits of {id:?} change, and no checksum says what it is after LSN {}",
                self.lsn
            ))),
        }
    }

    /// Compares the blocks whose headers the group has changed with its digest of them (rule 11).
    fn compare_extents(&self, digest: u64) -> Result<()> {
        if self.digest == digest {
            Ok(())
        } else {
            Err(self
                .bad(format!("page headers are not what the journal says they are after LSN {}", self.lsn)))
        }
    }

    /// Takes a block in that no group has changed so far.
    #[cold]
    fn take_in(&mut self, kind: UpdateKind, id: BlockId) -> Result<usize> {
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
        let place = self.blocks.len();
        self.blocks.push(ReplayedBlock {
            id,
            content,
            lsn: 0,
            checksum: None,
            digest: None,
            extents_lsn: 0,
            bits_lsn: 0,
            group_offset: 0,
        });
        self.places.insert(id, place);
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
    Payload(PayloadError),
    Error(Error),
}

impl From<PayloadError> for Fault {
    fn from(error: PayloadError) -> Self {
        Self::Payload(error)
    }
}

impl PayloadVisitor<'_> for Replayer<'_> {
    type Error = Fault;

    fn extent(&mut self, record: ExtentRecord) -> Result<(), Fault> {
        self.apply_extent(&record).map_err(Fault::Error)
    }

    fn end_of_extents(&mut self, digest: u64) -> Result<(), Fault> {
        self.compare_extents(digest).map_err(Fault::Error)
    }

    fn begin(&mut self, kind: UpdateKind, address: u64) -> Result<(), Fault> {
        let id = match kind {
            UpdateKind::Metadata => BlockId::Metadata(address),
            UpdateKind::CallerDelta | UpdateKind::CallerImage => BlockId::Caller(address),
        };
        self.current = self.place_of(kind, id).map_err(Fault::Error)?;
        if let Some(block) = self.blocks.get_mut(self.current) {
            block.digest = None;
            if kind == UpdateKind::CallerImage {
                block.content.fill(0);
            }
        }
        Ok(())
    }

    fn patch(&mut self, patch: Patch<'_>) -> Result<(), Fault> {
        self.report.writes += 1;
        let fits = self.blocks.get_mut(self.current).is_some_and(|block| patch.apply(&mut block.content));
        if fits { Ok(()) } else { Err(self.misfit()) }
    }

    fn end(&mut self, checksum_after: u32) -> Result<(), Fault> {
        if let Some(block) = self.blocks.get_mut(self.current) {
            block.checksum = Some(checksum_after);
            block.lsn = self.lsn;
            block.group_offset = self.group_offset;
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
        let mut groups = batch.groups();
        let Some(last) = groups.next_back() else { return Ok(()) };
        if let Some(before) = self.last.take() {
            self.replayer.apply(before.view())?;
        }
        for group in groups {
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
    let port = replayer.port;
    let applier = Mutex::new(AllButLast { replayer, last: None, error: None });
    let end = thread::scope(|scope| {
        let mut batches = 0_u64;
        let mut helper = None;
        read_journal(port, superblock, &mut |batch| {
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
