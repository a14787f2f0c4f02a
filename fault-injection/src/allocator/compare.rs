//! Comparing an open store with states of the model.

use freehold::{Allocator, Error, ExtentInfo};
use futures_util::TryStreamExt;

use super::model::State;
use super::{Live, Subject, refusal};
use crate::executor;
use crate::harness::{Allowed, Refusal};
use crate::oracle::{Oracle, Violation};

/// All extents, by offset.
pub(super) fn list(store: &Allocator) -> Result<Result<Vec<ExtentInfo>, Error>, executor::Stuck> {
    executor::run(store.extents().try_collect())
}

fn broken<T>(oracle: Oracle, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Broken(Violation::new(oracle, message)))
}

impl Subject {
    /// Which of the allowed states the store holds.
    pub(super) fn compare(&self, live: &Live, allowed: &Allowed<'_, State>) -> Result<usize, Refusal> {
        let store = &live.allocator;
        let extents = list(store)?.map_err(|error| refusal(&error))?;
        check_counters(store, &extents)?;
        let mut nearest = None;
        for (at, state) in allowed.states.iter().enumerate().rev() {
            if !state.infos().eq(extents.iter().copied()) {
                continue;
            }
            // What was written directly after a group that is lost stands in pages that it does not belong to.
            if at < allowed.acknowledged {
                return Ok(at);
            }
            match self.wrong_page(store, state)? {
                None => return Ok(at),
                Some(wrong) => nearest = Some(wrong),
            }
        }
        match nearest {
            Some(wrong) => broken(Oracle::Payload, wrong),
            None => broken(Oracle::Model, explain(allowed, &extents)),
        }
    }

    /// The first page that is not as it must be.
    fn wrong_page(&self, store: &Allocator, state: &State) -> Result<Option<String>, Refusal> {
        let page_bytes = usize::try_from(self.shape.page_bytes).unwrap_or(1);
        for held in state.extents.values() {
            let extent = held.info.extent;
            let len = usize::try_from(extent.len).unwrap_or(0);
            let bytes = match executor::run(store.read_at(&extent, 0, len))? {
                Ok(bytes) => bytes,
                Err(error) => return broken(Oracle::Payload, format!("{extent:?} cannot be read: {error}")),
            };
            if bytes.len() != len {
                return broken(Oracle::Payload, format!("{} bytes of {extent:?} were read", bytes.len()));
            }
            let pages = bytes.chunks(page_bytes).zip(held.pages.iter()).enumerate();
            for (number, (page, expected)) in pages {
                if let Some(at) = expected.mismatch(page) {
                    return Ok(Some(format!(
                        "byte {at} of page {number} of {extent:?} is not what was written there"
                    )));
                }
            }
        }
        Ok(None)
    }
}

/// Counters in memory, against what is listed.
pub(super) fn check_counters(store: &Allocator, extents: &[ExtentInfo]) -> Result<(), Refusal> {
    let stats = store.stats();
    let allocated: u64 = extents.iter().map(|info| info.extent.len).sum();
    let parts = [stats.free_bytes, stats.reserved_bytes, stats.pending_bytes, stats.metadata_bytes];
    let sum = stats.allocated_bytes + parts.iter().sum::<u64>();
    if sum != stats.device_bytes
        || stats.allocated_bytes != allocated
        || stats.extents != extents.len() as u64
    {
        let count = extents.len();
        let message = format!("counters drifted: {allocated} bytes in {count} extents by recount, {stats:?}");
        return broken(Oracle::Recount, message);
    }
    if stats.reserved_bytes != 0 || stats.pending_bytes != 0 {
        return broken(Oracle::Recount, "space is held by nobody after recovery");
    }
    let mut end = store.layout().data_offset();
    let page_bytes = u64::from(store.layout().page_bytes());
    for info in extents {
        let whole_pages = info.extent.len.is_multiple_of(page_bytes);
        if info.extent.offset < end || whole_pages && !info.extent.offset.is_multiple_of(page_bytes) {
            return broken(Oracle::Recount, format!("extent {info:?} overlaps or is misaligned"));
        }
        end = info.extent.end();
    }
    Ok(())
}

fn explain(allowed: &Allowed<'_, State>, extents: &[ExtentInfo]) -> String {
    let state = allowed.states.get(allowed.acknowledged).cloned().unwrap_or_default();
    let brief = |info: &ExtentInfo| (info.extent.offset, info.extent.len, info.extent.generation);
    let missing: Vec<_> =
        state.infos().filter(|info| !extents.contains(info)).map(|info| brief(&info)).collect();
    let there = |info: &&ExtentInfo| state.infos().any(|held| held == **info);
    let foreign: Vec<_> = extents.iter().filter(|info| !there(info)).map(brief).collect();
    format!(
        "the extents are those of none of the {} states that the history allows; compared with the acknowledged one: \
         missing {missing:?}, foreign {foreign:?} (offset, length, generation)",
        allowed.states.len()
    )
}
