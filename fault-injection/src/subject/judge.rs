//! The judge: recovers a crash state and says whether it is one that the history allows.

use std::sync::Arc;

use freehold::device::Device;
use freehold::{AllocRequest, Allocator, Error, ExtentInfo, OpenOptions, ReplayReport};
use futures_util::TryStreamExt;

use super::model::{Entry, History, Progress, State};
use crate::executor::{self, Stuck};

/// What came of a recovery that broke no rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The store holds the state after so many steps.
    Recovered {
        /// Steps of the history.
        steps: usize,
        /// What replay did.
        report: ReplayReport,
    },
    /// There is no store, and there may not be one yet.
    NotFormatted,
    /// The store is refused by a typed error that names damage; only allowed where there was some.
    Refused(String),
}

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// In words.
    pub message: String,
}

fn violation<T>(message: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { message: message.into() })
}

/// What may have happened to the image besides a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Nothing: every acknowledged step must be there.
    None,
    /// Bytes changed: a typed refusal is allowed, and a shorter prefix when replay reports a torn tail.
    Some,
    /// A block of the journal is not what was written last. Besides, the last group may be gone without a trace: nobody
    /// after it says that it was there, unless the witness does.
    JournalBlock,
}

/// The most transactions of the workload that share a group.
const GROUP_LIMIT: usize = 4;

/// Judges recoveries against one history.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    /// What was done.
    pub history: &'a History,
    /// Page size of the store.
    pub page_bytes: u64,
}

impl From<Stuck> for Violation {
    fn from(stuck: Stuck) -> Self {
        Self { message: stuck.to_string() }
    }
}

impl Judge<'_> {
    /// Recovers the store on `device` and compares. The store is left open in the result.
    pub fn recover(
        &self,
        device: Arc<dyn Device>,
        progress: Progress,
        damage: Damage,
    ) -> Result<(Verdict, Option<Allocator>), Violation> {
        let opened = executor::run(OpenOptions::new().open_device(device))?;
        let formatted = self.history.entries.iter().position(|entry| matches!(entry, Entry::Format));
        let (store, report) = match opened {
            Ok(opened) => opened,
            Err(Error::NotFreehold { .. }) if formatted.is_some_and(|at| progress.acknowledged <= at) => {
                return Ok((Verdict::NotFormatted, None));
            }
            Err(error) => return self.refused(&error, damage),
        };
        let extents: Vec<ExtentInfo> = match executor::run(store.extents().try_collect())? {
            Ok(extents) => extents,
            Err(error) => return self.refused(&error, damage),
        };
        self.check_counters(&store, &extents)?;
        let lowest = match damage {
            Damage::None => progress.acknowledged,
            Damage::Some | Damage::JournalBlock if report.torn_tail => 0,
            Damage::Some => progress.acknowledged,
            Damage::JournalBlock => self.before_last_group(progress.acknowledged),
        };
        let mut nearest = None;
        for steps in (lowest..=progress.started).rev() {
            let Some(state) = self.history.states.get(steps) else { continue };
            if !same_extents(state, &extents) {
                continue;
            }
            // What was written directly after a group that is lost stands in pages that it does not belong to.
            let problem = if steps < progress.acknowledged {
                None
            } else {
                self.check_pages(&store, state, steps, progress)?
            };
            match problem {
                None => return Ok((Verdict::Recovered { steps, report }, Some(store))),
                Some(problem) => nearest = Some(problem),
            }
        }
        if damage != Damage::None && lowest == 0 && formatted.is_none() {
            return Ok((Verdict::Refused("a state from before this history".to_owned()), None));
        }
        violation(nearest.unwrap_or_else(|| self.explain_extents(&extents, lowest, progress)))
    }

    /// The fewest steps that are left when the last group before `steps` vanishes. Direct writes after it stay.
    fn before_last_group(&self, steps: usize) -> usize {
        let entries = self.history.entries.get(..steps).unwrap_or(&[]);
        let mut transactions =
            entries.iter().enumerate().rev().filter(|(_, entry)| matches!(entry, Entry::Transaction(_)));
        transactions.nth(GROUP_LIMIT - 1).map_or(0, |(at, _)| at)
    }

    fn refused(&self, error: &Error, damage: Damage) -> Result<(Verdict, Option<Allocator>), Violation> {
        if damage != Damage::None && (error.is_corruption() || matches!(error, Error::NotFreehold { .. })) {
            return Ok((Verdict::Refused(error.to_string()), None));
        }
        violation(format!("recovery failed: {error}"))
    }

    fn check_counters(&self, store: &Allocator, extents: &[ExtentInfo]) -> Result<(), Violation> {
        let stats = store.stats();
        let allocated: u64 = extents.iter().map(|info| info.extent.len).sum();
        let sum = stats.allocated_bytes
            + stats.free_bytes
            + stats.reserved_bytes
            + stats.pending_bytes
            + stats.metadata_bytes;
        if sum != stats.device_bytes
            || stats.allocated_bytes != allocated
            || stats.extents != extents.len() as u64
        {
            return violation(format!(
                "counters drifted: {allocated} bytes in {} extents by recount, {stats:?}",
                extents.len()
            ));
        }
        if stats.reserved_bytes != 0 || stats.pending_bytes != 0 {
            return violation("space is held by nobody after recovery");
        }
        let mut end = store.layout().data_offset();
        for info in extents {
            if info.extent.offset < end || info.extent.offset % info.extent.len.max(1) != 0 {
                return violation(format!("extent {info:?} overlaps or is misaligned"));
            }
            end = info.extent.end();
        }
        Ok(())
    }

    /// The first page that is not as it must be. Pages under a direct write that was under way may hold anything.
    fn check_pages(
        &self,
        store: &Allocator,
        state: &State,
        steps: usize,
        progress: Progress,
    ) -> Result<Option<String>, Violation> {
        let under_way: Vec<(u64, usize)> = self
            .history
            .entries
            .iter()
            .take(progress.started)
            .skip(progress.acknowledged)
            .filter_map(|entry| match entry {
                Entry::Overwrite { extent, page, .. } => Some((extent.offset, *page)),
                _ => None,
            })
            .collect();
        for held in state.extents.values() {
            let extent = held.info.extent;
            let len = usize::try_from(extent.len).unwrap_or(0);
            let bytes = match executor::run(store.read_at(&extent, 0, len))? {
                Ok(bytes) => bytes,
                Err(error) => return violation(format!("{extent:?} cannot be read: {error}")),
            };
            let page_bytes = usize::try_from(self.page_bytes).unwrap_or(1);
            for (number, (page, expected)) in
                bytes.chunks_exact(page_bytes).zip(held.pages.iter()).enumerate()
            {
                if under_way.contains(&(extent.offset, number)) {
                    continue;
                }
                if let Some(at) = expected.mismatch(page) {
                    return Ok(Some(format!(
                        "after {steps} steps, byte {at} of page {number} of {extent:?} is not what was written there"
                    )));
                }
            }
        }
        Ok(None)
    }

    fn explain_extents(&self, extents: &[ExtentInfo], lowest: usize, progress: Progress) -> String {
        let state = self.history.states.get(lowest).cloned().unwrap_or_default();
        let missing: Vec<_> = state
            .extents
            .values()
            .filter(|held| !extents.contains(&held.info))
            .map(|held| (held.info.extent.offset, held.info.extent.len, held.info.extent.generation))
            .collect();
        let foreign: Vec<_> = extents
            .iter()
            .filter(|info| state.extents.get(&info.extent.offset).is_none_or(|held| held.info != **info))
            .map(|info| (info.extent.offset, info.extent.len, info.extent.generation))
            .collect();
        format!(
            "the extents are those of no state that the history allows ({} acknowledged, {} begun); \
             compared with the former: missing {missing:?}, foreign {foreign:?}",
            progress.acknowledged, progress.started
        )
    }

    /// The recovered store goes on working: a transaction, an orderly end, and the next opening finds just that.
    pub fn exercise(
        &self,
        store: &Allocator,
        device: Arc<dyn Device>,
        steps: usize,
    ) -> Result<(), Violation> {
        let fail =
            |what: &str, error: Error| Violation { message: format!("after recovery, {what}: {error}") };
        let mut expected: Vec<ExtentInfo> = self
            .history
            .states
            .get(steps)
            .map(|state| state.extents.values().map(|held| held.info).collect())
            .unwrap_or_default();
        let victim = expected.first().copied();
        let mut transaction = store.begin();
        if let Some(victim) = victim {
            executor::run(transaction.free(&victim.extent))?.map_err(|error| fail("a free failed", error))?;
        }
        match executor::run(transaction.alloc(AllocRequest::bytes(1).owner(u64::MAX)))? {
            Ok(extent) => {
                if expected
                    .iter()
                    .any(|info| info.extent.offset < extent.end() && extent.offset < info.extent.end())
                {
                    return violation(format!("after recovery, {extent:?} was handed out twice"));
                }
                expected.push(ExtentInfo { extent, owner: u64::MAX });
            }
            Err(Error::NoSpace { .. }) => {}
            Err(error) => return Err(fail("an allocation failed", error)),
        }
        executor::run(transaction.commit())?.map_err(|error| fail("a commit failed", error))?;
        if victim.is_some() {
            expected.remove(0);
        }
        expected.sort_by_key(|info| info.extent.offset);
        executor::run(store.close())?.map_err(|error| fail("closing failed", error))?;
        let (again, report) = executor::run(OpenOptions::new().open_device(device))?
            .map_err(|error| fail("reopening failed", error))?;
        if !report.was_clean {
            return violation("after recovery and an orderly end, the store was not clean");
        }
        let extents: Vec<ExtentInfo> =
            executor::run(again.extents().try_collect())?.map_err(|error| fail("listing failed", error))?;
        if extents != expected {
            return violation(format!("after an orderly end: {extents:?} in place of {expected:?}"));
        }
        Ok(())
    }
}

fn same_extents(state: &State, extents: &[ExtentInfo]) -> bool {
    state.extents.len() == extents.len()
        && state.extents.values().zip(extents).all(|(held, info)| held.info == *info)
}
