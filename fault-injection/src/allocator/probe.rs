//! A closer look at a recovered store: the checker of raw bytes, recovery once more, a fresh load, and a twin.

use std::sync::{Arc, PoisonError};

use freehold::device::Device;
use freehold::{AllocRequest, Allocator, Error, ExtentInfo};

use super::compare::list;
use super::{Live, Subject, open};
use crate::disk::{CowBase, CowDisk};
use crate::executor;
use crate::harness::{Probe, Refusal, Run};
use crate::oracle::checker::{Picture, examine};
use crate::oracle::{Oracle, Violation};

fn violation<T>(oracle: Oracle, message: impl Into<String>) -> Result<T, Violation> {
    Err(Violation::new(oracle, message))
}

impl Subject {
    pub(super) fn look_closer(&self, probe: &Probe<'_, Self>) -> Result<(), Violation> {
        let after = probe.disk.freeze();
        let before = self.picture("before recovery", probe.image)?;
        let picture = self.picture("after recovery", &after)?;
        let expected: Vec<ExtentInfo> =
            probe.run.history.state(probe.steps).map(|state| state.infos().collect()).unwrap_or_default();
        agrees("before recovery", &before, &expected)?;
        if before.torn.is_some() != probe.torn_tail {
            let (bytes, store) = (before.torn.is_some(), probe.torn_tail);
            let message = format!("a torn tail: raw bytes say {bytes}, the store {store}");
            return violation(Oracle::Checker, message);
        }
        agrees("after recovery", &picture, &expected)?;
        changes_only_what_it_may(&before, probe.image, &picture, &after)?;
        let again = self.recover_again(probe, &after, &picture)?;
        self.is_like_a_fresh_load(&probe.store.allocator, &again)?;
        self.is_like_its_twin(probe.run, probe.steps, &picture)
    }

    /// What the checker reads.
    pub(super) fn picture(&self, when: &str, image: &Arc<CowBase>) -> Result<Picture, Violation> {
        let disk = self.shape.disk.cow(image);
        examine(&*disk).map_err(|flaw| Violation::new(Oracle::Checker, format!("{when}: {flaw}")))
    }

    /// Recovery is deterministic, and recovering what was recovered changes nothing. Returns the disk after both.
    fn recover_again(
        &self,
        probe: &Probe<'_, Self>,
        after: &Arc<CowBase>,
        picture: &Picture,
    ) -> Result<Arc<CowDisk>, Violation> {
        let disk = self.shape.disk.cow(probe.image);
        drop(reopen(&disk, Oracle::Twice)?);
        if disk.content_hash() != after.hash() {
            return violation(Oracle::Twice, "the same recovery left other bytes the second time");
        }
        drop(reopen(&disk, Oracle::Twice)?);
        let again = disk.freeze();
        let second = self.picture("after a second recovery", &again)?;
        changes_only_what_it_may(picture, after, &second, &again)?;
        Ok(disk)
    }

    /// What the recovered store believes, a store that is loaded from a closed disk believes too.
    pub(super) fn is_like_a_fresh_load(
        &self,
        recovered: &Allocator,
        disk: &Arc<CowDisk>,
    ) -> Result<(), Violation> {
        let closing = reopen(disk, Oracle::FreshLoad)?;
        if let Err(error) = executor::run(closing.allocator.close())? {
            return violation(Oracle::FreshLoad, format!("closing failed: {error}"));
        }
        drop(closing);
        let fresh = reopen(disk, Oracle::FreshLoad)?;
        let (of_recovered, of_fresh) = (recovered.stats(), fresh.allocator.stats());
        let counters = |stats: &freehold::AllocatorStats| {
            (stats.allocated_bytes, stats.free_bytes, stats.metadata_bytes, stats.extents, stats.segments)
        };
        if counters(&of_recovered) != counters(&of_fresh) {
            let message = format!("memory has {of_recovered:?}, a fresh load {of_fresh:?}");
            return violation(Oracle::FreshLoad, message);
        }
        touch(recovered)?;
        touch(&fresh.allocator)?;
        let (places, fresh_places) = (drain(recovered)?, drain(&fresh.allocator)?);
        if places != fresh_places {
            let message = format!("memory would hand out {places:?}, a fresh load {fresh_places:?}");
            return violation(Oracle::FreshLoad, message);
        }
        Ok(())
    }

    /// A twin that did the same operations without a crash, and was closed, has the same metadata. Only for states that
    /// lie between two operations.
    pub(super) fn is_like_its_twin(
        &self,
        run: &Run<Self>,
        steps: usize,
        picture: &Picture,
    ) -> Result<(), Violation> {
        let is_like = |steps: usize| {
            let Some(operations) = run.steps_at.iter().position(|&at| at == steps) else { return Ok(true) };
            Ok::<_, Violation>(picture.logical == self.known_twin(run, operations)?)
        };
        if is_like(steps)? {
            return Ok(());
        }
        // The model does not know all that metadata says: how much was asked for, and bounds of what is free. A step that changes
        // nothing else leaves a state like the one before, and which of them it is nobody can tell but the twins.
        let state = run.history.state(steps);
        let alike =
            (0..=run.history.steps().len()).filter(|&at| at != steps && run.history.state(at) == state);
        for steps in alike {
            if is_like(steps)? {
                return Ok(());
            }
        }
        let message = format!("the metadata after {steps} steps is not that of a twin without a crash");
        violation(Oracle::Twin, message)
    }

    /// The metadata of a twin, made once.
    fn known_twin(&self, run: &Run<Self>, operations: usize) -> Result<u128, Violation> {
        let known = run.memo.lock().unwrap_or_else(PoisonError::into_inner).get(&operations).copied();
        if let Some(logical) = known {
            return Ok(logical);
        }
        let logical = self.twin(run, operations)?;
        run.memo.lock().unwrap_or_else(PoisonError::into_inner).insert(operations, logical);
        Ok(logical)
    }

    /// The metadata after the first so many operations and an orderly end.
    fn twin(&self, of: &Run<Self>, operations: usize) -> Result<u128, Violation> {
        let (twin, rest) = of.again(self, of.operations.get(..operations).unwrap_or(&[]));
        if let Some(violation) = twin.broken {
            return Err(violation);
        }
        if let Some(live) = rest.store
            && let Err(error) = executor::run(live.allocator.close())?
        {
            return violation(Oracle::Twin, format!("closing the twin failed: {error}"));
        }
        Ok(self.picture("the twin", &rest.disk.freeze())?.logical)
    }
}

fn reopen(disk: &Arc<CowDisk>, oracle: Oracle) -> Result<Live, Violation> {
    match open(Arc::clone(disk) as Arc<dyn Device>) {
        Ok(opened) => Ok(opened.store),
        Err(Refusal::Broken(violation)) => violation_of(oracle, &violation.message),
        Err(refusal) => violation_of(oracle, &format!("{refusal:?}")),
    }
}

fn violation_of(oracle: Oracle, message: &str) -> Result<Live, Violation> {
    violation(oracle, format!("opening again failed: {message}"))
}

/// The extents that the checker sees.
pub(super) fn agrees(when: &str, picture: &Picture, expected: &[ExtentInfo]) -> Result<(), Violation> {
    let seen = picture.extents.iter().map(|seen| (seen.offset, seen.len, seen.generation, seen.owner));
    let due = expected.iter().map(|info| {
        let extent = info.extent;
        (extent.offset, extent.len, extent.generation, info.owner)
    });
    if !seen.eq(due) {
        let message = format!("{when}, raw bytes say {:?}, the model {expected:?}", picture.extents);
        return violation(Oracle::Checker, message);
    }
    Ok(())
}

/// Recovery changes metadata in form but not in content, and of the caller's blocks those that the journal holds, to
/// what it holds.
pub(super) fn changes_only_what_it_may(
    before: &Picture,
    image: &Arc<CowBase>,
    after: &Picture,
    image_after: &Arc<CowBase>,
) -> Result<(), Violation> {
    if before.logical != after.logical {
        return violation(Oracle::Twice, "recovery changed what the metadata says");
    }
    let block = usize::try_from(before.shape.block_bytes).unwrap_or(4096);
    let start = usize::try_from(before.shape.data_offset).unwrap_or(0);
    let blocks = |base: &Arc<CowBase>| Arc::clone(base.bytes());
    let (old, new) = (blocks(image), blocks(image_after));
    let old = old.get(start..).unwrap_or(&[]).chunks(block);
    let new = new.get(start..).unwrap_or(&[]).chunks(block);
    for ((old, new), at) in old.zip(new).zip((before.shape.data_offset..).step_by(block)) {
        let held = |picture: &Picture| picture.caller.get(&at).cloned();
        let due = held(before).unwrap_or_else(|| old.to_vec());
        let found = held(after).unwrap_or_else(|| new.to_vec());
        if old != new && held(before).is_none() {
            return violation(
                Oracle::Twice,
                format!("recovery wrote the block at {at}, which the journal does not hold"),
            );
        }
        if due != found {
            return violation(Oracle::Twice, format!("recovery changed the content of the block at {at}"));
        }
    }
    Ok(())
}

/// Reads from every extent, so that the segments which that brings into memory are in memory: space in them is handed
/// out first.
fn touch(store: &Allocator) -> Result<(), Violation> {
    let failed = |error| Violation::new(Oracle::FreshLoad, format!("reading failed: {error}"));
    for info in list(store)?.map_err(failed)? {
        executor::run(store.read_at(&info.extent, 0, 1))?.map_err(failed)?;
    }
    Ok(())
}

/// Where the store would put extents until it is full. Nothing is committed.
pub(super) fn drain(store: &Allocator) -> Result<Vec<(u64, u64)>, Violation> {
    let mut transaction = store.begin();
    let mut places = Vec::new();
    let page_bytes = u64::from(store.layout().page_bytes());
    let mut pages = 8;
    // A store that never says no is not asked for ever.
    while pages > 0 && (places.len() as u64) < store.layout().page_count() {
        match executor::run(transaction.alloc(AllocRequest::bytes(pages * page_bytes)))? {
            Ok(extent) => places.push((extent.offset, extent.len)),
            Err(Error::NoSpace { .. }) => pages /= 2,
            Err(error) => return violation(Oracle::FreshLoad, format!("an allocation failed: {error}")),
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::allocator::{Operation, Plan, Shape};
    use crate::harness::{Address, Explorer, Policy, Source, Start, Subject as _, Tally, run};

    /// One of two transactions comes to nothing, so more steps begin than come. What the next operation does then leads
    /// back to the state of before, but not to its metadata.
    #[test]
    fn no_step_is_found_before_its_operation_begins() {
        let subject = Subject { shape: Shape::TINY };
        let start = Start { base: subject.disk().blank(), state: None, serial: 64 };
        let operations = [
            Operation::Transact(vec![Plan::allocating(1), Plan::default()]),
            Operation::Transact(vec![Plan { free: vec![0], ..Plan::default() }]),
        ];
        let (run, _) = run(&subject, &start, &operations);
        let states: Vec<u64> = run.history.states().iter().map(|state| state.fingerprint()).collect();
        assert!(matches!(states[..], [_, empty, full, again] if empty == again && empty != full));
        let policy = Policy { nest: 0.0, probe: 1.0, live_on: 0.0, injure: 0.0, ..Policy::CAMPAIGN };
        let tally = Tally::new(Duration::from_secs(60));
        let address = Address::of(Source::Sequence(Vec::new()));
        Explorer::new(&subject, &run, address, &policy, 1, &tally).explore();
        assert!(tally.failures().is_empty(), "{:?}", tally.failures());
        assert!(tally.probes.get() > 10);
        let of_first = run.begins[0]..run.begins[1];
        assert!(of_first.map(|position| run.progress(position).started).all(|steps| steps <= 2));
    }
}
