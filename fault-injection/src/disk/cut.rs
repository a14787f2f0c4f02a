//! The states that a power cut at one instant can leave.

use std::sync::Arc;

use super::choice::{Choice, ChoiceError, Fill, Keep, Tear, TearKind};
use super::cow::CowDisk;
use super::layer::{CowBase, Layer};
use super::pending::{Pending, PendingWrite, Unit};
use super::to_usize;
use super::trace::purpose_name;
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
    /// What each unit of `pending` is good for.
    pub(super) weights: Vec<Weight>,
    pub(super) acknowledged: Option<u64>,
}

/// What the versions of a pending sector are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// Nothing: they are what the sector holds.
    None,
    /// They are the caller's data, or blocks that nothing refers to before a superblock does: recovery does not read
    /// them.
    Aside,
    /// Recovery reads them.
    Full,
}

/// How many states of a cut to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Take every combination of sectors if there are no more than this; else, on the same condition, of those
    /// that recovery reads; else of whole writes.
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

    /// Number of combinations of sector versions; `u64::MAX` stands for more than that. Sectors that are written with
    /// what they hold make no difference and are left out.
    #[must_use]
    pub fn combinations(&self) -> u64 {
        let digits = self.effective_units().map(|unit| unit.versions.len() as u64 + 1);
        digits.fold(1, u64::saturating_mul)
    }

    /// The same, of sectors that recovery reads.
    fn combinations_apart(&self) -> u64 {
        let units = self.pending.units().iter().zip(&self.weights);
        let digits = units.filter(|(_, weight)| **weight == Weight::Full);
        digits.map(|(unit, _)| unit.versions.len() as u64 + 1).fold(1, u64::saturating_mul)
    }

    fn effective_units(&self) -> impl Iterator<Item = &Unit> {
        let units = self.pending.units().iter().zip(&self.weights);
        units.filter(|(_, weight)| **weight != Weight::None).map(|(unit, _)| unit)
    }

    /// Finds out which pending sectors make a difference.
    pub(super) fn weigh(&mut self) {
        let Self { base, pending, weights, .. } = self;
        let weight = |unit: &Unit| {
            let differs = |&write: &usize| {
                let (at, bytes) = pending.piece(write, unit.sector);
                let range = to_usize(at)..to_usize(at) + bytes.len();
                base.bytes().get(range) != Some(bytes)
            };
            let is_aside = |&write: &usize| pending.writes().get(write).is_some_and(PendingWrite::is_aside);
            if !unit.versions.iter().any(differs) {
                Weight::None
            } else if unit.versions.iter().all(is_aside) {
                Weight::Aside
            } else {
                Weight::Full
            }
        };
        weights.clear();
        weights.extend(pending.units().iter().map(weight));
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
    /// combination of those sectors that recovery reads, else every combination of whole writes if these are at most
    /// `bound`, and `samples` pseudo-random states besides.
    pub fn subsets(&self, bound: u64, samples: u32, rng: &mut Rng) -> Vec<Choice> {
        let combinations = self.combinations();
        if combinations <= bound && combinations < u64::MAX {
            return (0..combinations).map(|number| self.choice(Keep::Sectors(number))).collect();
        }
        let apart = self.combinations_apart();
        if apart <= bound {
            let sectors = (0..apart.max(u64::from(samples) / 8)).map(|number| number % apart);
            return sectors
                .map(|sectors| self.choice(Keep::Apart { sectors, aside: rng.next_u64() }))
                .collect();
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
        let bytes = u32::try_from(rng.range(1..self.pending.sector_bytes())).unwrap_or(1);
        let kind = match rng.below(3) {
            0 => TearKind::Prefix(bytes),
            1 => TearKind::Suffix(bytes),
            _ => TearKind::Garbage(Self::any_fill(rng)),
        };
        let sector = match kind {
            // Old and new bytes of a sector that does not change are the same.
            TearKind::Prefix(_) | TearKind::Suffix(_) => {
                let wanted = if rng.chance(0.75) { Weight::Full } else { Weight::Aside };
                let of = |weight| {
                    let units = self.pending.units().iter().zip(&self.weights);
                    units.filter(move |(_, found)| **found == weight).map(|(unit, _)| unit.sector)
                };
                let sectors: Vec<u64> = of(wanted).collect();
                let any = || self.effective_units().map(|unit| unit.sector).next();
                rng.pick(&sectors).copied().or_else(any)?
            }
            _ => rng.pick(self.pending.units())?.sector,
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

    /// What a choice means for each pending write, line by line.
    #[must_use]
    pub fn describe(&self, choice: &Choice) -> Vec<String> {
        let mut digits = choice.keep.digits();
        let mut kept = vec![0_u64; self.pending.writes().len()];
        let mut same = kept.clone();
        let mut all = kept.clone();
        let add = |counts: &mut Vec<u64>, write: usize| {
            counts.get_mut(write).into_iter().for_each(|count| *count += 1);
        };
        for (unit, &weight) in self.pending.units().iter().zip(&self.weights) {
            let effective = weight != Weight::None;
            let count =
                if effective { self.kept_versions(unit, weight, choice.keep, &mut digits) } else { 0 };
            for (version, &write) in unit.versions.iter().enumerate() {
                add(&mut all, write);
                if !effective {
                    add(&mut same, write);
                } else if version < count {
                    add(&mut kept, write);
                }
            }
        }
        let mut lines: Vec<String> = Vec::new();
        for (write, ((kept, same), all)) in self.pending.writes().iter().zip(kept.iter().zip(&same).zip(&all))
        {
            let purpose = write.purpose().map_or("discard", purpose_name);
            let changing = all - same;
            let what = match (*kept, changing) {
                (_, 0) => "changes nothing".to_owned(),
                (0, _) => "lost".to_owned(),
                (kept, changing) if kept == changing => "kept".to_owned(),
                (kept, changing) => format!("{kept} of {changing} changed sectors kept"),
            };
            let (event, len, offset) = (write.event(), write.len(), write.offset());
            lines.push(format!("{event}: {len} B at {offset} ({purpose}): {what}"));
        }
        if let Some(tear) = choice.tear {
            let sector = tear.sector;
            lines.push(match tear.kind {
                TearKind::Prefix(bytes) => {
                    format!("sector {sector} is torn: the first {bytes} bytes are new")
                }
                TearKind::Suffix(bytes) => format!("sector {sector} is torn: the last {bytes} bytes are new"),
                TearKind::Garbage(fill) => format!("sector {sector} is garbage ({fill})"),
                TearKind::Block(fill) => {
                    format!("the physical block around sector {sector} is garbage ({fill})")
                }
            });
        }
        if lines.is_empty() {
            lines.push("nothing".to_owned());
        }
        lines
    }

    /// How many versions of a sector the medium went through. Takes a digit if the sector has one.
    fn kept_versions(&self, unit: &Unit, weight: Weight, keep: Keep, digits: &mut u64) -> usize {
        let has_digit = match keep {
            Keep::Sectors(_) => true,
            Keep::Apart { .. } => weight == Weight::Full,
            _ => false,
        };
        if has_digit {
            let base = unit.versions.len() as u64 + 1;
            let digit = *digits % base;
            *digits /= base;
            return to_usize(digit);
        }
        let last = unit.versions.iter().rposition(|&write| keep.has(write, unit.sector));
        last.map_or(0, |last| last + 1)
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
            let mut digits = choice.keep.digits();
            for (unit, &weight) in self.pending.units().iter().zip(&self.weights) {
                if weight == Weight::None {
                    continue;
                }
                let versions = unit.versions.len();
                let mut count = self.kept_versions(unit, weight, choice.keep, &mut digits);
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
