//! The recovered store goes on: new work, an orderly end, and the next opening finds just that.

use std::sync::Arc;

use freehold::device::Device;
use freehold::{AllocRequest, Error, ExtentInfo, OpenOptions};

use super::{Subject, compare};
use crate::executor;
use crate::harness::Probe;
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
        let victim = expected.first().copied();
        let mut transaction = store.begin();
        if let Some(victim) = victim {
            executor::run(transaction.free(&victim.extent))?
                .map_err(|error| fail("a free failed", &error))?;
        }
        match executor::run(transaction.alloc(AllocRequest::bytes(1).owner(u64::MAX)))? {
            Ok(extent) => {
                let overlaps = |info: &ExtentInfo| {
                    info.extent.offset < extent.end() && extent.offset < info.extent.end()
                };
                if expected.iter().any(overlaps) {
                    return violation(format!("after recovery, {extent:?} was handed out twice"));
                }
                expected.push(ExtentInfo { extent, owner: u64::MAX });
            }
            Err(Error::NoSpace { .. }) => {}
            Err(error) => return Err(fail("an allocation failed", &error)),
        }
        executor::run(transaction.commit())?.map_err(|error| fail("a commit failed", &error))?;
        if victim.is_some() {
            expected.remove(0);
        }
        expected.sort_by_key(|info| info.extent.offset);
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
