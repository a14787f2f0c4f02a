//! The rules of the checkpoint: slots, blocks in place, the witness, and the superblock.

use freehold::device::Purpose;
use freehold::format::{SUPERBLOCK_COPIES, StoreState, Superblock, WITNESS_COPIES, Witness};

use super::super::Watched;
use super::super::store::{Block, Group, Version, copies};
use super::super::views::Views;
use super::{Breach, Check, Store, Write};

/// What a checkpoint writes before the superblock.
const CHECKPOINT: [Purpose; 3] = [Purpose::Metadata, Purpose::ChecksumTree, Purpose::CallerCheckpoint];

impl Store {
    pub(super) fn superblock(&self, views: &Views, write: &Write<'_>, watched: &mut Watched) -> Check {
        let Some(copy) = (0..SUPERBLOCK_COPIES).find(|copy| self.copy_range(*copy).start == write.offset)
        else {
            return Breach::because("place", "no superblock copy belongs there");
        };
        let other = self.versions.get(1 - copy).is_some_and(Option::is_some);
        if !other || !views.is_certain(&self.copy_range(1 - copy)) {
            return Breach::because("one-copy", "the other copy is not certainly on the medium");
        }
        if write.cut_short {
            return Ok(());
        }
        let new = Superblock::decode(write.data, write.offset)
            .map_err(|error| Breach { rule: "place", message: format!("no superblock: {error:?}") })?;
        let seen = copies(&views.seen, &self.layout);
        let Some(old) = seen.into_iter().flatten().max_by_key(|superblock| superblock.sequence) else {
            return Ok(());
        };
        if new.sequence <= old.sequence {
            let message = format!("sequence {} after {}", new.sequence, old.sequence);
            return Breach::because("sequence", message);
        }
        if new.same_content(&old) {
            return Ok(());
        }
        let moves = new.tail_position != old.tail_position || new.root != old.root;
        if moves && let Some(write) = views.pending(&CHECKPOINT).next() {
            let message = format!("the write at event {} is not flushed", write.event);
            return Breach::because("unflushed-checkpoint", message);
        }
        watched.moved_tails += u64::from(moves);
        self.tail(&new)?;
        let (old, new) = (Version::read(&views.seen, old), Version::read(&views.seen, new));
        old.same_as(&new, &views.seen).map_err(|message| Breach { rule: "content", message })
    }

    /// Where a superblock may put the tail.
    fn tail(&self, new: &Superblock) -> Check {
        let version = self.in_force()?;
        let old = &version.superblock;
        let place = (new.tail_position, new.tail_lsn);
        let allowed = if new.epoch == old.epoch {
            let behind = |group: &Group| (group.end(), group.header.last_lsn()) == place;
            let closed =
                new.state == StoreState::Open || (new.tail_position == version.end && self.flight.is_none());
            closed && (place == (old.tail_position, old.tail_lsn) || version.groups.iter().any(behind))
        } else {
            new.epoch > old.epoch
                && new.epoch <= new.sequence
                && new.tail_position >= version.end
                && new.tail_lsn == old.tail_lsn
                && self.flight.is_none()
        };
        if allowed && new.store_id == old.store_id && new.layout == old.layout {
            return Ok(());
        }
        let message = format!(
            "position {}, LSN {}, epoch {}; the durable groups end at position {}, LSN {}, epoch {}",
            new.tail_position, new.tail_lsn, new.epoch, version.end, version.last_lsn, old.epoch
        );
        Breach::because("tail", message)
    }

    pub(super) fn slot(&self, write: &Write<'_>) -> Check {
        if !write.lies_in(&(self.ring().end..self.layout.data_offset())) {
            return Breach::because("place", "metadata outside the metadata area");
        }
        let needed = self.valid().find_map(|version| {
            version.needs_slot(&write.range()).map(|slot| (slot, version.superblock.sequence))
        });
        match needed {
            Some((slot, sequence)) => {
                let message =
                    format!("the superblock copy with sequence {sequence} refers to the block at {slot}");
                Breach::because("slot", message)
            }
            None => Ok(()),
        }
    }

    pub(super) fn in_place(&self, views: &Views, write: &Write<'_>) -> Check {
        let block_bytes = self.block_bytes();
        if !write.lies_in(&self.caller_area()) {
            return Breach::because("place", "a block of the caller outside the pages");
        }
        let whole = write.cut_short || write.data.len() as u64 == block_bytes;
        if !write.offset.is_multiple_of(block_bytes) || !whole {
            return Breach::because("in-place", "not a whole block");
        }
        let version = self.in_force()?;
        let block = Block::Caller(write.offset / block_bytes);
        let lsn = version
            .who_says(&views.medium, block, write.data)
            .map_err(|message| Breach { rule: "in-place", message })?;
        let by_group = version.groups.iter().any(|group| group.header.durable_lsn >= lsn);
        if by_group || self.witnessed(views, version) >= Some(lsn) {
            return Ok(());
        }
        let message = format!("nothing on the medium says that LSN {lsn} was durable");
        Breach::because("noted", message)
    }

    /// The last LSN that a witness of this epoch on the medium says was durable.
    fn witnessed(&self, views: &Views, version: &Version) -> Option<u64> {
        let notes = (0..WITNESS_COPIES).filter_map(|copy| {
            let offset = self.layout.witness_offset(copy);
            let block = views.medium.get(offset, self.block_bytes())?;
            Witness::decode(&version.superblock.store_id, offset, block)
        });
        let current = notes.filter(|note| note.epoch == version.superblock.epoch);
        current.map(|note| note.durable_lsn).max()
    }

    pub(super) fn witness(&self, write: &Write<'_>) -> Check {
        if !(0..WITNESS_COPIES).any(|copy| self.layout.witness_offset(copy) == write.offset) {
            return Breach::because("place", "no witness belongs there");
        }
        if write.cut_short {
            return Ok(());
        }
        let version = self.in_force()?;
        let superblock = &version.superblock;
        let Some(note) = Witness::decode(&superblock.store_id, write.offset, write.data) else {
            return Breach::because("place", "no witness of this store");
        };
        let said = (note.durable_lsn, note.position);
        let true_ones = version.groups.iter().map(|group| (group.header.last_lsn(), group.end()));
        let at_tail = (superblock.tail_lsn, superblock.tail_position);
        if note.epoch == superblock.epoch && true_ones.chain([at_tail]).any(|durable| durable == said) {
            return Ok(());
        }
        let message = format!(
            "it says LSN {} was durable up to position {} in epoch {}; that is LSN {} up to {} in epoch {}",
            said.0, said.1, note.epoch, version.last_lsn, version.end, superblock.epoch
        );
        Breach::because("witness", message)
    }
}
