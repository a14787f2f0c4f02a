//! A case on trial: an image is opened and judged by what the history allows.

use std::sync::Arc;

use freehold::device::{Device, ManualClock, Port};
use freehold::journal::{SuperblockPair, scan_journal};

use super::sheet::Column;
use crate::allocator::Subject;
use crate::allocator::model::State;
use crate::disk::CowDisk;
use crate::harness::{Damage, History, Judge, Progress, Verdict};
use crate::oracle::{Violation, without_panic};

/// What an image is judged by.
#[derive(Clone, Copy)]
pub(super) struct Trial<'a> {
    pub(super) subject: &'a Subject,
    pub(super) history: &'a History<State>,
    pub(super) progress: Progress,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Whether every acknowledged step is there.
    pub(super) whole: bool,
    /// Whether opening reported that it dropped a torn tail.
    pub(super) torn_tail: bool,
    /// Steps of the history that are there.
    pub(super) steps: usize,
}

/// A store that was refused, or a finding.
pub(super) enum Outcome {
    /// It was opened.
    Opened(Finding),
    /// There is no store, and there may be none.
    NotFormatted,
    /// It was refused by a typed error.
    Refused,
}

impl Trial<'_> {
    /// Opens what is on a device and judges it.
    pub(super) fn judge(&self, device: Arc<dyn Device>, damage: Damage) -> Result<Outcome, Violation> {
        let judge = Judge { subject: self.subject, history: self.history };
        let judged =
            without_panic(|| judge.recover(device, self.progress, damage).map(|(verdict, _)| verdict));
        match judged? {
            Verdict::Recovered { steps, torn_tail, .. } => {
                let whole = steps >= self.progress.acknowledged;
                Ok(Outcome::Opened(Finding { whole, torn_tail, steps }))
            }
            Verdict::NotFormatted => Ok(Outcome::NotFormatted),
            // A state from before the history has the torn tail reported.
            Verdict::Refused(_) | Verdict::Earlier => Ok(Outcome::Refused),
        }
    }

    /// The column of a case without damage: it must be recovered.
    pub(super) fn recovered(&self, device: Arc<dyn Device>) -> Column {
        match self.judge(device, Damage::None) {
            Ok(Outcome::Opened(_)) => Column::Recovered,
            Ok(Outcome::NotFormatted | Outcome::Refused) => Column::Detected,
            Err(violation) => Column::broken(&violation),
        }
    }

    /// A trial in which any state of the history is right, and what the caller's pages hold does not matter.
    pub(super) fn lenient(&self) -> Self {
        Self { progress: Progress { acknowledged: usize::MAX, ..self.progress }, ..*self }
    }
}

/// How many transactions at the end of the journal may vanish without a trace when these ranges of the device, in bytes,
/// are overwritten: those of the last groups that are hit, up to the first that is not.
pub(super) fn vanishable(disk: &Arc<CowDisk>, hit: &[std::ops::Range<u64>]) -> usize {
    let port = Port::new(Arc::clone(disk) as Arc<dyn Device>, Arc::new(ManualClock::default()), true);
    let Ok(pair) = SuperblockPair::read(&port) else { return 0 };
    let Ok(scan) = scan_journal(&port, pair.current()) else { return 0 };
    let layout = &pair.current().layout;
    let (ring, ring_bytes) = (layout.ring_offset(), layout.ring_bytes());
    let is_hit = |offset: u64, len: u64| {
        // A group may wrap around the end of the ring.
        let parts = [
            offset..offset + len,
            offset.saturating_sub(ring_bytes)..(offset + len).saturating_sub(ring_bytes),
        ];
        parts.iter().any(|part| {
            let part = part.start.max(ring)..part.end;
            hit.iter().any(|hit| hit.start < part.end && part.start < hit.end)
        })
    };
    let suffix = scan.groups.iter().rev().take_while(|group| is_hit(group.offset, group.bytes.len() as u64));
    let transactions: u64 = suffix.map(|group| u64::from(group.header.transactions)).sum();
    usize::try_from(transactions).unwrap_or(usize::MAX)
}

/// The damage that follows from a loss of so many transactions at most.
pub(super) const fn damage(vanishable: usize) -> Damage {
    match vanishable {
        0 => Damage::Some,
        transactions => Damage::LastGroup(transactions),
    }
}

/// What became of a case, and in which way it is weaker than promised.
pub(super) type Judged = (Column, Option<&'static str>);

/// Judges an image that a fault has hit: it is right, or refused, or reported as torn, or it has lost the groups at the
/// end of the journal that were hit, so many transactions, and no more. With `extents_only`, what the caller's pages hold
/// does not matter.
pub(super) fn judge_hit(
    trial: &Trial<'_>,
    extents_only: bool,
    device: Arc<dyn Device>,
    vanishable: usize,
) -> Judged {
    let acknowledged = trial.progress.acknowledged;
    let least = trial.history.lowest(acknowledged, damage(vanishable), false);
    let judged = if extents_only {
        trial.lenient().judge(device, Damage::LastGroup(usize::MAX))
    } else {
        trial.judge(device, damage(vanishable))
    };
    match judged {
        Ok(Outcome::Opened(found)) if found.steps >= acknowledged => (Column::Recovered, None),
        Ok(Outcome::Opened(found)) if found.steps < least => {
            let message =
                format!("{} of {acknowledged} steps are left, {least} at least should be", found.steps);
            (Column::Silent(message), None)
        }
        Ok(Outcome::Opened(found)) if found.torn_tail => (Column::Detected, None),
        Ok(Outcome::Opened(_)) => {
            (Column::Recovered, Some("groups at the end of the journal gone without a trace"))
        }
        Ok(Outcome::NotFormatted | Outcome::Refused) => (Column::Detected, None),
        Err(violation) => (Column::broken(&violation), None),
    }
}
