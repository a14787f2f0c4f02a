//! What a checkpoint writes in place, some of it at a time.
//!
//! A flush waits for all that is in the page cache, whoever wrote it. Written in one go, the blocks of a checkpoint are in front of the
//! flush of the next group: five thousand of them took 40 milliseconds, for a commit that takes a tenth of one. So they
//! reach the medium a few at a time, which the maintenance thread waits for, and nobody else.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::engine::Journal;
use crate::device::Purpose;
use crate::error::Result;

/// The most that a commit finds in front of its flush.
const MOST_UNDER_WAY_BYTES: u64 = 64 << 10;
/// Blocks that are so near to each other are waited for together.
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
        match self.under_way.last_mut() {
            Some(last) if (last.start..=last.end + NEAR_BYTES).contains(&offset) => {
                last.end = last.end.max(end);
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
        let is_of_use = self.journal.commits_go_on();
        for range in self.under_way.drain(..).filter(|_| is_of_use) {
            self.journal.port.finish_writeback(range.start, range.end - range.start)?;
        }
        Ok(())
    }
}

impl Journal {
    /// Whether there may be commits that do not wait for a checkpoint, and are not to be held up by one.
    fn commits_go_on(&self) -> bool {
        let is_open = self.publisher.get().is_some() && !self.shut.load(Ordering::Acquire);
        is_open && self.space_wanted.load(Ordering::Acquire) == 0 && !self.is_overlay_full()
    }
}
