//! The rules, each at the event that may break it.

mod checkpoint;
mod journal;
mod pages;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use freehold::device::Purpose;
use freehold::format::{Layout, SUPERBLOCK_COPIES};

use self::journal::Flight;
use super::Watched;
use super::store::{Block, Version, copies, find_superblock};
use super::views::Views;

/// A rule that is broken by the event that is looked at.
#[derive(Debug)]
pub(super) struct Breach {
    pub(super) rule: &'static str,
    pub(super) message: String,
}

type Check = Result<(), Breach>;

impl Breach {
    pub(super) fn because<T>(rule: &'static str, message: impl Into<String>) -> Result<T, Self> {
        Err(Self { rule, message: message.into() })
    }
}

/// A write as it is issued.
pub(super) struct Write<'a> {
    pub(super) event: usize,
    pub(super) offset: u64,
    pub(super) data: &'a [u8],
    /// The disk took only this much and then failed.
    pub(super) cut_short: bool,
}

impl Write<'_> {
    fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.data.len() as u64
    }

    fn lies_in(&self, area: &Range<u64>) -> bool {
        area.start <= self.offset && self.range().end <= area.end
    }
}

/// The store that is watched, as the medium has it.
pub(super) struct Store {
    layout: Layout,
    versions: [Option<Version>; SUPERBLOCK_COPIES],
    flight: Option<Flight>,
    /// No LSN above this was seen.
    highest_lsn: u64,
    /// The epoch before the next opening.
    last_epoch: u64,
    /// Metadata blocks as of the durable groups, as far as they were asked for.
    durable: BTreeMap<Block, Vec<u8>>,
    /// When each page was handed out last, by offset.
    handed_out: BTreeMap<u64, usize>,
    /// Direct writes that the disk took only in part: nobody waits for them.
    cut_short: BTreeSet<usize>,
}

impl Store {
    /// The store on the medium, if there is one.
    pub(super) fn find(views: &Views) -> Option<Self> {
        let layout = find_superblock(&views.medium)?.layout;
        let versions = copies(&views.medium, &layout)
            .map(|copy| copy.map(|superblock| Version::read(&views.medium, superblock)));
        let mut store = Self {
            layout,
            versions,
            flight: None,
            highest_lsn: 0,
            last_epoch: 0,
            durable: BTreeMap::new(),
            handed_out: BTreeMap::new(),
            cut_short: BTreeSet::new(),
        };
        store.highest_lsn = store.valid().map(|version| version.last_lsn).max().unwrap_or(0);
        store.last_epoch = store.valid().map(|version| version.superblock.epoch).max().unwrap_or(0);
        Some(store)
    }

    fn valid(&self) -> impl Iterator<Item = &Version> {
        self.versions.iter().flatten()
    }

    /// What recovery would go by.
    fn in_force(&self) -> Result<&Version, Breach> {
        self.valid().max_by_key(|version| version.superblock.sequence).ok_or_else(|| Breach {
            rule: "one-copy",
            message: "no copy of the superblock on the medium is valid".to_owned(),
        })
    }

    fn block_bytes(&self) -> u64 {
        u64::from(self.layout.block_bytes())
    }

    fn copy_range(&self, copy: usize) -> Range<u64> {
        let offset = self.layout.superblock_offset(copy);
        offset..offset + self.block_bytes()
    }

    fn ring(&self) -> Range<u64> {
        let offset = self.layout.ring_offset();
        offset..offset + self.layout.ring_bytes()
    }

    /// Writes have reached the medium.
    pub(super) fn flushed(&mut self, views: &Views, written: &[Range<u64>]) {
        if self.flight.as_ref().is_some_and(|flight| flight.group.is_some()) {
            self.flight = None;
        }
        let touched =
            |area: &Range<u64>| written.iter().any(|range| range.start < area.end && area.start < range.end);
        let renewed = [0, 1].map(|copy| touched(&self.copy_range(copy)));
        let ring_touched = touched(&self.ring());
        if !ring_touched && renewed == [false, false] {
            return;
        }
        self.durable.clear();
        let found = copies(&views.medium, &self.layout);
        for ((version, superblock), renewed) in self.versions.iter_mut().zip(found).zip(renewed) {
            if renewed {
                *version = superblock.map(|superblock| Version::read(&views.medium, superblock));
            } else if let Some(version) = version {
                version.extend(&views.medium);
            }
        }
    }

    /// A write is issued.
    pub(super) fn check(
        &mut self,
        views: &Views,
        purpose: Purpose,
        write: &Write<'_>,
        watched: &mut Watched,
    ) -> Check {
        match purpose {
            Purpose::Journal => {
                watched.groups += u64::from(self.journal(views, write, watched)?);
            }
            Purpose::Superblock => {
                watched.superblocks += 1;
                self.superblock(views, write, watched)?;
            }
            Purpose::Metadata | Purpose::ChecksumTree => {
                watched.slots += 1;
                self.slot(write)?;
            }
            Purpose::CallerCheckpoint => {
                watched.in_place += 1;
                self.in_place(views, write)?;
            }
            Purpose::CallerDirect => {
                watched.direct += 1;
                self.direct(write)?;
            }
            Purpose::Witness => {
                watched.witnesses += 1;
                self.witness(write)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn caller_area(&self) -> Range<u64> {
        self.layout.data_offset()..self.layout.page_count() * u64::from(self.layout.page_bytes())
    }

    /// A commit was acknowledged.
    pub(super) fn acknowledged(&self) -> Check {
        match &self.flight {
            Some(flight) => {
                let message = format!("the group begun at event {} is not durable", flight.event);
                Breach::because("acknowledgement", message)
            }
            None => Ok(()),
        }
    }

    /// What was in flight when the store was given up has no outcome that anybody relies on.
    pub(super) fn forget_flight(&mut self) {
        self.flight = None;
    }

    /// The store was opened for writing.
    pub(super) fn opened(&mut self) -> Check {
        let epoch = self.in_force()?.superblock.epoch;
        let both = self.versions.iter().flatten().filter(|version| version.superblock.epoch == epoch).count();
        if epoch <= self.last_epoch || both < SUPERBLOCK_COPIES {
            let message =
                format!("epoch {epoch} in {both} copies after an opening with epoch {}", self.last_epoch);
            return Breach::because("epoch", message);
        }
        self.last_epoch = epoch;
        Ok(())
    }
}
