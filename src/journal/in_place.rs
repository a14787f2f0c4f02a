//! What a checkpoint writes in place, some of it at a time.
//!
//! A flush waits for all that is in the page cache, whoever wrote it. Written in one go, the blocks of a checkpoint are in front of the
//! flush of the next group: five thousand of them took 40 milliseconds, for a commit that takes a tenth of one. So they
//! reach the medium a few at a time, which only the one who makes the checkpoint waits for, as long as nobody waits for him.

use std::ops::{Deref, DerefMut, Range};
use std::sync::MutexGuard;

use super::engine::Journal;
use super::superblocks::SuperblockPair;
use super::waiting::CountedOne;
use crate::device::Purpose;
use crate::error::Result;

/// The most that a commit finds in front of its flush.
const MOST_UNDER_WAY_BYTES: u64 = 64 << 10;
/// Blocks of metadata that are so near to each other are waited for together.
const NEAR_BYTES: u64 = 64 << 10;

/// Writes blocks in place, and has them reach the medium soon. Durable only after the next flush.
pub(super) struct InPlace<'a> {
    journal: &'a Journal,
    /// What was written and is not waited for yet.
    under_way: Vec<Range<u64>>,
    bytes: u64,
}

impl<'a> InPlace<'a> {
    pub(super) fn new(journal: &'a Journal) -> Self {
        Self { journal, under_way: Vec::new(), bytes: 0 }
    }

    pub(super) fn write(&mut self, offset: u64, content: &[u8], purpose: Purpose) -> Result<()> {
        self.journal.port.write(offset, content, purpose)?;
        let end = offset + content.len() as u64;
        // Between blocks of the caller lies what others write.
        let near = if purpose == Purpose::CallerCheckpoint { 0 } else { NEAR_BYTES };
        match self.under_way.last_mut() {
            Some(last) if (last.end..=last.end + near).contains(&offset) => {
                last.end = end;
            }
            _ => self.under_way.push(offset..end),
        }
        self.bytes += content.len() as u64;
        if self.bytes >= MOST_UNDER_WAY_BYTES {
            self.wait()?;
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<()> {
        self.bytes = 0;
        for range in self.under_way.drain(..) {
            if self.journal.commits_go_on() {
                self.journal.port.finish_writeback(range.start, range.end - range.start)?;
            }
        }
        Ok(())
    }
}

/// The lock of checkpoints, and that somebody is waited for who has it.
pub(super) struct SoonLocked<'a> {
    _waiting: CountedOne<'a>,
    superblocks: MutexGuard<'a, SuperblockPair>,
}

impl Journal {
    /// Takes the lock of checkpoints, for whoever holds up others, or is a commit: a checkpoint that is under way, and the one that
    /// is made now, take no account of others.
    pub(super) fn lock_checkpointing_soon(&self) -> SoonLocked<'_> {
        let _waiting = self.checkpointing_wanted.count_one();
        SoonLocked { _waiting, superblocks: self.lock(&self.checkpointing) }
    }

    /// Whether there may be commits that do not wait for a checkpoint, and are not to be held up by one. All wait when whoever has the
    /// duty to write groups stays away: the maintenance thread, which stands in, makes this checkpoint, or may be about to wait for it.
    fn commits_go_on(&self) -> bool {
        self.publisher.get().is_some()
            && !self.checkpointing_wanted.is_any()
            && !self.space_wanted.is_any()
            && !self.is_overlay_full()
            && !self.lock(&self.absence).is_overdue()
            && !self.wake.is_stopping()
    }
}

impl Deref for SoonLocked<'_> {
    type Target = SuperblockPair;

    fn deref(&self) -> &SuperblockPair {
        &self.superblocks
    }
}

impl DerefMut for SoonLocked<'_> {
    fn deref_mut(&mut self) -> &mut SuperblockPair {
        &mut self.superblocks
    }
}
