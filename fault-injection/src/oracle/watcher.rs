//! The watcher at the device: it looks at what reached a disk, in order, and says which rule of the order of
//! writes was broken. It needs no crash for that, so it sees what a crash would have to hit the right instant
//! to show.
//!
//! It follows the trace with two images (what readers see, and what is certainly on the medium), and knows
//! for each superblock copy on the medium what recovery would make of it: the blocks that its tree refers to,
//! and the groups behind its tail. Each write is compared with that at the moment when it is issued:
//!
//! | rule | what is demanded |
//! |---|---|
//! | `acknowledgement` | an acknowledgement comes when no write of the journal is unflushed |
//! | `in-place` | a checkpoint writes a block of the caller as some durable group left it |
//! | `noted` | before that, a witness or a later group on the medium says that the group was durable |
//! | `slot` | a metadata block never goes over one that a superblock copy on the medium refers to |
//! | `unflushed-checkpoint` | a superblock moves tail or root when everything written for that is flushed |
//! | `one-copy` | a superblock is written when the other copy is valid and certainly on the medium |
//! | `sequence` | each superblock has a higher sequence than those before |
//! | `tail` | it moves behind a durable group and to its LSN; with a new epoch, to the group taken along |
//! | `content` | recovery from the new superblock comes to what recovery from the old one would |
//! | `ring` | no group goes over one that recovery from either copy would need, nor over its physical block |
//! | `one-group` | one group is in flight at a time |
//! | `group` | it is whole, of this epoch or taken along to the next, right behind the last durable one |
//! | `lsn` | LSNs grow, also beyond those of a dropped tail; a group that is taken along keeps its own |
//! | `torn-tail` | no group is taken along over pieces of a dropped one that it may complete |
//! | `durable-mark` | no group says that more was durable than was flushed when it was issued |
//! | `claim` | space is handed out, or discarded, when it is free as of the durable groups |
//! | `direct` | no direct write touches a block that a group at or behind the tail of either copy changes |
//! | `data` | a group gives a page away when direct writes of its new owner into it are flushed |
//! | `poison` | after a failed write or flush of the engine, the disk is left alone until the next opening |
//! | `witness` | a witness says what is durable, and where it ends |
//! | `epoch` | each opening for writing has an epoch of its own, in both copies |
//! | `place` | every write goes where its purpose belongs |
//!
//! A replayed group changes whole blocks: each comes with the checksum of the block after it. That is why
//! `direct` counts in blocks, and why it is exact: a block stays in the overlay until both copies durably
//! point past its groups.
//!
//! The store is blamed for what a disk hides from it: traces with rot, lying flushes, lost or misdirected
//! writes are not for the watcher. Errors that are reported are: what was cut short by one is not held
//! against the store.

mod rules;
mod store;
mod views;

use std::fmt;
use std::ops::AddAssign;

use freehold::device::{DeviceGeometry, Purpose};

use self::rules::{Breach, Store};
use self::views::Views;
use crate::disk::{CowBase, Event, Trace};

/// The names of all rules.
pub const RULES: [&str; 22] = [
    "acknowledgement",
    "in-place",
    "noted",
    "slot",
    "unflushed-checkpoint",
    "one-copy",
    "sequence",
    "tail",
    "content",
    "ring",
    "one-group",
    "group",
    "lsn",
    "torn-tail",
    "durable-mark",
    "claim",
    "direct",
    "data",
    "poison",
    "witness",
    "epoch",
    "place",
];

/// A rule of the order of writes that was broken, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfOrder {
    /// Position in the trace of the event that broke it.
    pub event: usize,
    /// One of [`RULES`].
    pub rule: &'static str,
    /// In words.
    pub message: String,
}

impl fmt::Display for OutOfOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at event {}: {}", self.rule, self.event, self.message)
    }
}

impl std::error::Error for OutOfOrder {}

/// How much was looked at. A watcher that looked at nothing has shown nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Groups written to the journal.
    pub groups: u64,
    /// Of these, groups that an opening took along into its epoch.
    pub restated: u64,
    /// Blocks of the caller written in place.
    pub in_place: u64,
    /// Blocks of metadata and of the checksum tree.
    pub slots: u64,
    /// Superblock copies.
    pub superblocks: u64,
    /// Of these, copies that moved the tail.
    pub moved_tails: u64,
    /// Witnesses.
    pub witnesses: u64,
    /// Direct writes.
    pub direct: u64,
    /// Acknowledgements.
    pub acknowledgements: u64,
    /// Space handed out or discarded.
    pub claims: u64,
    /// Openings.
    pub openings: u64,
    /// Failures of the disk that stop a store.
    pub failures: u64,
    /// Events between such a failure and the next opening, or the end.
    pub after_poison: u64,
}

impl AddAssign for Watched {
    fn add_assign(&mut self, other: Self) {
        self.groups += other.groups;
        self.restated += other.restated;
        self.in_place += other.in_place;
        self.slots += other.slots;
        self.superblocks += other.superblocks;
        self.moved_tails += other.moved_tails;
        self.witnesses += other.witnesses;
        self.direct += other.direct;
        self.acknowledgements += other.acknowledgements;
        self.claims += other.claims;
        self.openings += other.openings;
        self.failures += other.failures;
        self.after_poison += other.after_poison;
    }
}

/// Watches a trace that began on the image `base`. Writes of formatting are not judged; watching begins with
/// the first superblock on the medium.
///
/// # Errors
/// The first event that breaks a rule.
pub fn watch(base: &CowBase, trace: &Trace, geometry: &DeviceGeometry) -> Result<Watched, OutOfOrder> {
    let views = Views::new(base.bytes(), geometry.sector_bytes);
    let store = Store::find(&views);
    let mut watcher = Watcher { views, store, poisoned: None, watched: Watched::default() };
    let events = trace.events();
    for (index, event) in events.iter().enumerate() {
        let cut_short = is_cut_short(event, events.get(index + 1));
        watcher.observe(index, event, cut_short).map_err(|Breach { rule, message }| OutOfOrder {
            event: index,
            rule,
            message,
        })?;
    }
    Ok(watcher.watched)
}

/// Whether the disk refused the rest of a write: the refusal stands right behind it.
fn is_cut_short(event: &Event, next: Option<&Event>) -> bool {
    match (event, next) {
        (Event::Write { offset, data, .. }, Some(Event::FailedWrite { offset: refused, len, .. })) => {
            offset == refused && (data.len() as u64) < *len
        }
        _ => false,
    }
}

struct Watcher {
    views: Views,
    /// What is watched; none while there is no superblock.
    store: Option<Store>,
    /// Where the disk failed, while the store must be silent.
    poisoned: Option<usize>,
    watched: Watched,
}

impl Watcher {
    fn observe(&mut self, index: usize, event: &Event, cut_short: bool) -> Result<(), Breach> {
        if let Event::Write { purpose: Purpose::Format, .. } = event {
            // Whatever was there is no longer a store.
            self.store = None;
            self.poisoned = None;
        }
        // Recovery's writes come before the store is open.
        if matches!(event, Event::Opening | Event::Opened) {
            self.begin_again();
        }
        self.silence(event)?;
        match event {
            Event::Write { offset, data, purpose } => {
                if let Some(store) = &mut self.store {
                    let write = rules::Write { event: index, offset: *offset, data, cut_short };
                    store.check(&self.views, *purpose, &write, &mut self.watched)?;
                }
                self.views.write(index, *offset, data, *purpose);
            }
            Event::Flush => {
                let written = self.views.flush();
                match &mut self.store {
                    Some(store) => store.flushed(&self.views, &written),
                    None => self.store = Store::find(&self.views),
                }
            }
            Event::FailedFlush => {
                self.views.fail_flush();
                self.poison(index);
            }
            Event::FailedWrite { purpose, .. } if *purpose != Purpose::CallerDirect => self.poison(index),
            Event::Rot { offset, mask } => self.views.rot(*offset, mask),
            Event::Mark(mark) if mark & 1 == 1 => {
                self.watched.acknowledgements += 1;
                self.store.as_ref().map_or(Ok(()), Store::acknowledged)?;
            }
            Event::Claim { offset, len } | Event::Discard { offset, len, .. } => {
                if let Some(store) = &mut self.store {
                    self.watched.claims += 1;
                    store.claimed(&self.views, index, *offset, *len)?;
                }
            }
            Event::Opened => {
                self.watched.openings += 1;
                self.store.as_mut().map_or(Ok(()), Store::opened)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// After a failure, nothing may be asked of the disk.
    fn silence(&mut self, event: &Event) -> Result<(), Breach> {
        let Some(failure) = self.poisoned else { return Ok(()) };
        self.watched.after_poison += 1;
        let asks = !event.is_annotation() && !matches!(event, Event::Rot { .. });
        if asks {
            return Breach::because("poison", format!("{event}, after the failure at event {failure}"));
        }
        Ok(())
    }

    fn poison(&mut self, index: usize) {
        if self.store.is_some() {
            self.watched.failures += 1;
            self.poisoned = Some(index);
        }
    }

    fn begin_again(&mut self) {
        self.poisoned = None;
        if let Some(store) = &mut self.store {
            store.forget_flight();
        }
    }
}

#[cfg(test)]
mod tests;
