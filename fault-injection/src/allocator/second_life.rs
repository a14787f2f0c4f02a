//! The recovered store goes on: new work, an orderly end, and the next opening finds just that.

use std::sync::Arc;

use freehold::device::{Device, Purpose};
use freehold::format::{GROUP_HEADER_BYTES, GroupHeader};
use freehold::{AllocRequest, Allocator, Error, Extent, ExtentInfo, OpenOptions};
use futures_util::future;

use super::{Subject, compare};
use crate::disk::Event;
use crate::executor;
use crate::harness::{Probe, Refusal};
use crate::oracle::{Oracle, Violation};

fn violation<T>(message: impl Into<String>) -> Result<T, Violation> {
    Err(Violation::new(Oracle::SecondLife, message))
}

fn fail(what: &str, error: &Error) -> Violation {
    Violation::new(Oracle::SecondLife, format!("after recovery, {what}: {error}"))
}

impl Subject {
    pub(super) fn second_life(&self, probe: &Probe<'_, Self>) -> Result<(), Violation> {
        let store = &probe.store.allocator;
        let state = probe.run.history.state(probe.steps);
        let mut expected: Vec<ExtentInfo> = state.map(|state| state.infos().collect()).unwrap_or_default();
        let page_bytes = u64::from(store.layout().page_bytes());
        // An item, what is longest, and any other in turn.
        let victim = match probe.steps % 3 {
            0 => expected.iter().find(|info| info.extent.len < page_bytes),
            1 => expected.iter().max_by_key(|info| info.extent.len),
            _ => None,
        };
        let victim = victim.or(expected.first()).copied();
        let like = victim.map(|victim| AllocRequest::bytes(victim.extent.len).owner(victim.owner));
        let mut transaction = store.begin();
        if let Some(victim) = victim {
            executor::run(transaction.free(&victim.extent))?
                .map_err(|error| fail("a free failed", &error))?;
        }
        let mut has_effects = victim.is_some();
        match executor::run(transaction.alloc(AllocRequest::bytes(1).owner(u64::MAX)))? {
            Ok(extent) => {
                take_in(&mut expected, ExtentInfo { extent, owner: u64::MAX })?;
                has_effects = true;
            }
            Err(Error::NoSpace { .. }) => {}
            Err(error) => return Err(fail("an allocation failed", &error)),
        }
        // Somebody else wants such a thing before the free is durable, and again when it is.
        let (committed, meanwhile) =
            executor::run(future::join(transaction.commit(), allocate(store, like)))?;
        let committed = committed.map_err(|error| fail("a commit failed", &error))?;
        let later = executor::run(allocate(store, like))?;
        if let Some(used) = last_lsn_on_disk(probe).filter(|used| has_effects && committed.lsn <= *used) {
            return violation(format!(
                "LSN {} is given out again: up to {used} are on the disk",
                committed.lsn
            ));
        }
        expected.retain(|info| Some(*info) != victim);
        let is_spent = |extent: &Extent| {
            let handle = |extent: &Extent| (extent.offset, extent.generation);
            victim.is_some_and(|victim| handle(&victim.extent) == handle(extent))
                || state.is_some_and(|state| state.is_spent(extent))
        };
        for outcome in [meanwhile, later] {
            if let Some((extent, durable)) = outcome.map_err(|error| fail("an allocation failed", &error))? {
                let was_freed = victim.is_some_and(|victim| overlap(&victim.extent, &extent));
                if was_freed && durable < committed.lsn {
                    let message =
                        format!("after recovery, {extent:?} was handed out before its free was durable");
                    return violation(message);
                }
                if is_spent(&extent) {
                    return violation(format!(
                        "after recovery, {extent:?} has the handle of one that was freed"
                    ));
                }
                take_in(&mut expected, ExtentInfo { extent, owner: victim.map_or(0, |info| info.owner) })?;
            }
        }
        expected.sort_by_key(|info| info.extent.offset);
        counters_hold(store, &expected)?;
        every_byte_is_reachable(store, &expected, is_spent)?;
        executor::run(store.close())?.map_err(|error| fail("closing failed", &error))?;
        let device = Arc::clone(probe.disk) as Arc<dyn Device>;
        let (again, report) = executor::run(OpenOptions::new().open_device(device))?
            .map_err(|error| fail("reopening failed", &error))?;
        if !report.was_clean {
            return violation("after recovery and an orderly end, the store was not clean");
        }
        let extents = compare::list(&again)?.map_err(|error| fail("listing failed", &error))?;
        if extents != expected {
            return violation(format!("after an orderly end: {extents:?} in place of {expected:?}"));
        }
        Ok(())
    }
}

/// Commits an extent of its own, if there is room. Gives also the last LSN that was durable when it was handed out.
async fn allocate(
    store: &Allocator,
    request: Option<AllocRequest>,
) -> freehold::Result<Option<(Extent, u64)>> {
    let Some(request) = request else { return Ok(None) };
    let mut transaction = store.begin();
    let extent = match transaction.alloc(request).await {
        Err(Error::NoSpace { .. }) => return Ok(None),
        outcome => outcome?,
    };
    let durable = store.stats().journal.durable_lsn;
    transaction.commit().await?;
    Ok(Some((extent, durable)))
}

fn overlap(a: &Extent, b: &Extent) -> bool {
    a.offset < b.end() && b.offset < a.end()
}

/// An extent that nobody else may have a part of.
fn take_in(expected: &mut Vec<ExtentInfo>, new: ExtentInfo) -> Result<(), Violation> {
    let extent = new.extent;
    if expected.iter().any(|info| overlap(&info.extent, &extent)) {
        return violation(format!("after recovery, {extent:?} was handed out twice"));
    }
    expected.push(new);
    Ok(())
}

/// The highest LSN of the groups that were issued and whose headers are on the disk, dropped tails included.
fn last_lsn_on_disk(probe: &Probe<'_, Subject>) -> Option<u64> {
    let layout = probe.store.allocator.layout();
    let image = probe.image.bytes();
    let issued = probe.run.trace.events().iter().filter_map(|event| match event {
        Event::Write { offset, data, purpose: Purpose::Journal } => {
            let start = usize::try_from(*offset).ok()?;
            let header = data.get(..GROUP_HEADER_BYTES)?;
            let is_there = image.get(start..start + GROUP_HEADER_BYTES) == Some(header);
            let position = u64::from_le_bytes(*header.get(24..)?.first_chunk()?);
            GroupHeader::peek(header, position, layout.ring_bytes()).filter(|_| is_there)
        }
        _ => None,
    });
    issued.map(|header| header.last_lsn()).max()
}

/// Counters in memory, after work.
fn counters_hold(store: &Allocator, expected: &[ExtentInfo]) -> Result<(), Violation> {
    let stats = store.stats();
    if stats.reserved_bytes != 0 || stats.pending_bytes != 0 {
        let message = format!("after recovery and a commit, space is held by nobody: {stats:?}");
        return Err(Violation::new(Oracle::Conduct, message));
    }
    compare::check_counters(store, expected).map_err(|refusal| match refusal {
        Refusal::Broken(violation) => violation,
        refusal => Violation::new(Oracle::Recount, format!("after recovery and a commit: {refusal:?}")),
    })
}

/// Whoever asks for single pages, and then for items of the sizes that are in use, gets all that is said to be free.
/// Nothing is committed. No handle is one of those that were freed.
fn every_byte_is_reachable(
    store: &Allocator,
    live: &[ExtentInfo],
    is_spent: impl Fn(&Extent) -> bool,
) -> Result<(), Violation> {
    let page_bytes = u64::from(store.layout().page_bytes());
    let items = live.iter().filter(|info| info.extent.len < page_bytes);
    let mut requests: Vec<AllocRequest> =
        items.map(|info| AllocRequest::bytes(info.extent.len).owner(u64::from(info.owner != 0))).collect();
    requests.push(AllocRequest::bytes(900));
    requests.push(AllocRequest::bytes(page_bytes));
    let mut transaction = store.begin();
    for request in requests.into_iter().rev() {
        // A store that never says no is not asked for ever.
        for _ in 0..store.layout().usable_pages() * page_bytes / 16 {
            match executor::run(transaction.alloc(request))? {
                Ok(extent) if is_spent(&extent) => {
                    return violation(format!(
                        "after recovery, {extent:?} has the handle of one that was freed"
                    ));
                }
                Ok(_) => {}
                Err(Error::NoSpace { .. }) => break,
                Err(error) => return Err(fail("an allocation failed", &error)),
            }
        }
    }
    match store.stats().free_bytes {
        0 => Ok(()),
        free => violation(format!("after recovery and a commit, {free} free bytes cannot be had")),
    }
}
