//! The states that a power cut at one instant can leave.

use std::sync::Arc;

use super::choice::{Choice, ChoiceError, Fill, Keep, Tear, TearKind};
use super::cow::CowDisk;
use super::layer::{CowBase, Layer};
use super::pending::{Pending, PendingWrite, Unit};
use super::to_usize;
use crate::rng::Rng;

/// An instant at which power fails: the image that is certainly on the medium, and the writes that may be.
///
/// Each sector of each pending write reaches the medium or not by itself; only the versions of one sector keep their
/// order. One sector (or the physical block around it) may moreover be damaged in itself.
#[derive(Clone, Debug)]
pub struct Cut {
    pub(super) position: usize,
    pub(super) base: Arc<CowBase>,
    pub(super) physical_block_bytes: u64,
    pub(super) pending: Pending,
    pub(super) acknowledged: Option<u64>,
}

/// How many states of a cut to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Take every combination of sectors if there are no more than this; else every combination of whole writes, on
    /// the same condition.
    pub exhaustive: u64,
    /// Where the sectors are too many: so many pseudo-random states.
    pub sampled: u32,
    /// States with one torn or garbage sector.
    pub torn: u32,
    /// States with one garbage physical block, if that is larger than a sector.
    pub garbage_blocks: u32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { exhaustive: 1 << 12, sampled: 64, torn: 16, garbage_blocks: 4 }
    }
}

impl Cut {
    /// Position in the trace: events before it were issued, and a write at it is in flight.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }

    /// What is certainly on the medium.
    #[must_use]
    pub const fn base(&self) -> &Arc<CowBase> {
        &self.base
    }

    /// The writes that may be on the medium, in the order in which they were issued.
    #[must_use]
    pub fn pending_writes(&self) -> &[PendingWrite] {
        self.pending.writes()
    }

    /// Number of sectors that pending writes touch.
    #[must_use]
    pub fn pending_sectors(&self) -> usize {
        self.pending.units().len()
    }

    /// The last mark before the cut.
    #[must_use]
    pub const fn acknowledged(&self) -> Option<u64> {
        self.acknowledged
    }

    /// Number of combinations of sector versions; `u64::MAX` stands for more than that.
    #[must_use]
    pub fn combinations(&self) -> u64 {
        let digits = self.pending.units().iter().map(|unit| unit.versions.len() as u64 + 1);
        digits.fold(1, u64::saturating_mul)
    }

    /// A state of this cut without damage.
    #[must_use]
    pub const fn choice(&self, keep: Keep) -> Choice {
        Choice { cut: self.position, keep, tear: None }
    }

    /// An ordered device: the first 0, 1, ... all pending writes.
    pub fn prefixes(&self) -> impl Iterator<Item = Choice> + '_ {
        (0..=self.pending.writes().len() as u64).map(|count| self.choice(Keep::First(count)))
    }

    /// A device that reorders: every combination of sector versions if there are at most `bound`, else every
    /// combination of whole writes if these are at most `bound`, and `samples` pseudo-random states besides.
    pub fn subsets(&self, bound: u64, samples: u32, rng: &mut Rng) -> Vec<Choice> {
        let combinations = self.combinations();
        if combinations <= bound && combinations < u64::MAX {
            return (0..combinations).map(|number| self.choice(Keep::Sectors(number))).collect();
        }
        let mut choices: Vec<Choice> = match u32::try_from(self.pending.writes().len()) {
            Ok(writes) if writes < 64 && 1u64 << writes <= bound => {
                (0..1u64 << writes).map(|mask| self.choice(Keep::Writes(mask))).collect()
            }
            _ => self.prefixes().collect(),
        };
        choices.extend((0..samples).map(|_| self.choice(Keep::Seed(rng.next_u64()))));
        choices
    }

    fn any_keep(&self, rng: &mut Rng) -> Keep {
        match rng.below(8) {
            0 => Keep::None,
            1 => Keep::All,
            2 | 3 => Keep::First(rng.below(self.pending.writes().len() as u64 + 1)),
            _ => Keep::Seed(rng.next_u64()),
        }
    }

    fn any_fill(rng: &mut Rng) -> Fill {
        match rng.below(4) {
            0 => Fill::Zeros,
            1 => Fill::Ones,
            _ => Fill::Random(rng.next_u64()),
        }
    }

    /// A state with one sector torn or turned into garbage; none when no write is pending.
    pub fn torn_sector(&self, rng: &mut Rng) -> Option<Choice> {
        let sector = rng.pick(self.pending.units())?.sector;
        let bytes = u32::try_from(rng.range(1..self.pending.sector_bytes())).unwrap_or(1);
        let kind = match rng.below(3) {
            0 => TearKind::Prefix(bytes),
            1 => TearKind::Suffix(bytes),
            _ => TearKind::Garbage(Self::any_fill(rng)),
        };
        Some(Choice { tear: Some(Tear { sector, kind }), ..self.choice(self.any_keep(rng)) })
    }

    /// A state in which the physical block around a pending sector is garbage; none when no write is pending, or a
    /// physical block is no more than a sector.
    pub fn garbage_block(&self, rng: &mut Rng) -> Option<Choice> {
        if self.physical_block_bytes <= self.pending.sector_bytes() {
            return None;
        }
        let sector = rng.pick(self.pending.units())?.sector;
        let kind = TearKind::Block(Self::any_fill(rng));
        Some(Choice { tear: Some(Tear { sector, kind }), ..self.choice(self.any_keep(rng)) })
    }

    /// States of all sorts.
    pub fn choices(&self, sampling: &Sampling, rng: &mut Rng) -> Vec<Choice> {
        let mut choices = self.subsets(sampling.exhaustive, sampling.sampled, rng);
        choices.extend((0..sampling.torn).filter_map(|_| self.torn_sector(rng)));
        choices.extend((0..sampling.garbage_blocks).filter_map(|_| self.garbage_block(rng)));
        choices
    }

    /// Puts a state onto a disk, in the place of whatever was on it.
    ///
    /// # Errors
    /// When the choice belongs to another cut or tears a sector that has no pending write; the disk is as it was.
    pub fn apply(&self, choice: &Choice, disk: &CowDisk) -> Result<(), ChoiceError> {
        if choice.cut != self.position {
            return Err(ChoiceError::WrongCut { choice: choice.cut, cut: self.position });
        }
        if let Some(Tear { sector, .. }) = choice.tear
            && self.pending.unit_of(sector).is_none()
        {
            return Err(ChoiceError::NotPending { sector });
        }
        disk.rebase(&self.base);
        disk.with_layer(|layer| {
            let mut digits = match choice.keep {
                Keep::Sectors(number) => number,
                _ => 0,
            };
            for unit in self.pending.units() {
                let versions = unit.versions.len();
                let mut count = match choice.keep {
                    Keep::Sectors(_) => {
                        let base = versions as u64 + 1;
                        let digit = digits % base;
                        digits /= base;
                        to_usize(digit)
                    }
                    keep => {
                        let last = unit.versions.iter().rposition(|&write| keep.has(write, unit.sector));
                        last.map_or(0, |last| last + 1)
                    }
                };
                let tear = choice.tear.filter(|tear| tear.sector == unit.sector);
                if tear.is_some() {
                    count = count.min(versions.saturating_sub(1));
                }
                if count > 0 {
                    self.pending.put(unit, count, &mut |at, bytes| layer.write(to_usize(at), bytes));
                }
                if let Some(Tear { kind: TearKind::Prefix(bytes), .. }) = tear {
                    self.tear(layer, unit, count, |new, old| splice(new, old, to_usize(u64::from(bytes))));
                }
                if let Some(Tear { kind: TearKind::Suffix(bytes), .. }) = tear {
                    self.tear(layer, unit, count, |new, old| {
                        let at = old.len().saturating_sub(to_usize(u64::from(bytes)));
                        splice(old, new, at)
                    });
                }
            }
            // Garbage comes last: a block reaches over sectors that other writes have touched.
            match choice.tear {
                Some(Tear { sector, kind: TearKind::Garbage(fill) }) => {
                    self.spoil(
                        layer,
                        sector * self.pending.sector_bytes(),
                        self.pending.sector_bytes(),
                        fill,
                    );
                }
                Some(Tear { sector, kind: TearKind::Block(fill) }) => {
                    let size = self.physical_block_bytes.max(self.pending.sector_bytes());
                    let start = sector * self.pending.sector_bytes();
                    self.spoil(layer, start - start % size, size, fill);
                }
                _ => {}
            }
        });
        Ok(())
    }

    /// Writes the version after the first `kept` ones as far as `join(new, old)` says.
    fn tear(&self, layer: &mut Layer, unit: &Unit, kept: usize, join: impl Fn(&[u8], &[u8]) -> Vec<u8>) {
        let Some(&write) = unit.versions.get(kept) else { return };
        let start = unit.sector * self.pending.sector_bytes();
        let range = to_usize(start)..to_usize((start + self.pending.sector_bytes()).min(self.base.len()));
        let mut old = vec![0; range.len()];
        layer.read(range.clone(), &mut old);
        let (at, bytes) = self.pending.piece(write, unit.sector);
        layer.write(to_usize(at), bytes);
        let mut new = vec![0; range.len()];
        layer.read(range.clone(), &mut new);
        layer.write(range.start, &join(&new, &old));
    }

    fn spoil(&self, layer: &mut Layer, start: u64, len: u64, fill: Fill) {
        let end = (start + len).min(self.base.len());
        let mut garbage = vec![0; to_usize(end.saturating_sub(start))];
        fill.fill(start, &mut garbage);
        layer.write(to_usize(start), &garbage);
    }
}

/// The first `at` bytes of one and the rest of the other, which are equally long.
fn splice(first: &[u8], second: &[u8], at: usize) -> Vec<u8> {
    first.iter().take(at).chain(second.iter().skip(at)).copied().collect()
}

#[cfg(test)]
mod tests;
