//! F15: no room in the allocator, in the journal, or in the middle of a transaction. Nothing may be left of it.

use std::sync::Arc;

use freehold::device::Device;
use freehold::{AllocRequest, Allocator, AllocatorStats, Error, Transaction};

use super::sheet::{Column, Sheet};
use super::workloads::Workload;
use super::world::World;
use super::{Settings, Task};
use crate::allocator::{Operation, Plan};
use crate::executor;
use crate::harness::Subject as _;
use crate::rng::Rng;

pub(super) fn tasks(settings: &Settings, loads: &[Arc<Workload>]) -> Vec<Task> {
    loads
        .iter()
        .map(|load| {
            let (load, settings) = (Arc::clone(load), settings.clone());
            Task::new(&[15], format!("F15: no room in workload {}", load.number), move |sheet| {
                if let Err(why) = inject(&load, &settings, sheet) {
                    sheet.enter(15, Column::Silent(why), || format!("workload {}", load.number));
                }
            })
        })
        .collect()
}

/// What a caller tries that there is no room for.
#[derive(Clone, Copy, Debug)]
enum Attempt {
    /// More than the device has, in one piece.
    TooLong,
    /// Pages until there are no more, and a free, in one transaction.
    AllAndMore,
    /// More journaled bytes than the journal takes.
    TooManyBytes,
    /// The same, by an operation that also allocates and frees.
    Mixed,
}

const ATTEMPTS: [Attempt; 4] = [Attempt::TooLong, Attempt::AllAndMore, Attempt::TooManyBytes, Attempt::Mixed];

fn counters(stats: &AllocatorStats) -> [u64; 7] {
    let AllocatorStats { allocated_bytes, free_bytes, reserved_bytes, pending_bytes, extents, .. } = *stats;
    let (used, claimed) = (stats.journal.ring_used_bytes, stats.journal.ring_claimed_bytes);
    [allocated_bytes, free_bytes, reserved_bytes, pending_bytes, extents, used, claimed]
}

fn inject(load: &Workload, settings: &Settings, sheet: &mut Sheet) -> Result<(), String> {
    for after in (1..load.stages()).step_by(settings.stride.min(4)) {
        let mut world = World::blank(load.subject);
        for stage in 0..=after {
            load.stage(&mut world, stage).map_err(|stop| format!("{}: {stop:?}", load.stage_name(stage)))?;
        }
        for attempt in ATTEMPTS {
            let column = try_it(&mut world, attempt).unwrap_or_else(Column::Silent);
            sheet.enter(15, column, || {
                format!("workload {}, {attempt:?} after {}", load.number, load.stage_name(after))
            });
        }
        let mut rng = Rng::new(settings.seed).fork_numbered("many large", after as u64);
        let column = many_large(&mut world, &mut rng).unwrap_or_else(Column::Silent);
        sheet.enter(15, column, || {
            format!("workload {}, many large ones after {}", load.number, load.stage_name(after))
        });
    }
    Ok(())
}

/// Tries something; the store must say no, and be as it was, in memory and after opening again.
fn try_it(world: &mut World, attempt: Attempt) -> Result<Column, String> {
    let store = world.store().map_err(|stop| format!("{stop:?}"))?;
    let before = counters(&store.stats());
    let writes = world.disk().counts().writes;
    let image = world.disk().freeze().hash();
    let infos: Vec<_> = world.state().map_err(|stop| format!("{stop:?}"))?.infos().collect();
    let victim = infos.first().map(|info| info.extent);
    let refused = executor::run(attempt_one(&store, attempt, victim)).map_err(|stuck| stuck.to_string())?;
    match refused {
        Ok(()) => return Err("there was room".to_owned()),
        Err(Error::NoSpace { .. } | Error::TransactionTooLarge { .. }) => {}
        Err(error) => return Err(format!("the caller was told: {error}")),
    }
    let after = counters(&store.stats());
    if after != before {
        return Err(format!("counters {before:?} became {after:?}"));
    }
    // Direct writes into space that was never committed are the caller's; there were none.
    if world.disk().counts().writes != writes || world.disk().freeze().hash() != image {
        return Err("something was written".to_owned());
    }
    drop(store);
    world.settle().map_err(|stop| format!("in memory: {stop:?}"))?;
    reopened(world)?;
    Ok(Column::Detected)
}

/// The image of now, opened by somebody else.
fn reopened(world: &World) -> Result<(), String> {
    let subject = world.subject;
    let disk = subject.disk().cow(&world.disk().freeze());
    match world.trial().recovered(disk as Arc<dyn Device>) {
        Column::Recovered => Ok(()),
        other => Err(format!("after opening again: {other:?}")),
    }
}

async fn attempt_one(
    store: &Allocator,
    attempt: Attempt,
    victim: Option<freehold::Extent>,
) -> freehold::Result<()> {
    let mut transaction = store.begin();
    match attempt {
        Attempt::TooLong => {
            transaction.alloc(AllocRequest::bytes(store.layout().device_bytes())).await?;
        }
        Attempt::AllAndMore => {
            if let Some(victim) = victim {
                transaction.free(&victim).await?;
            }
            loop {
                transaction.alloc(AllocRequest::bytes(1)).await?;
            }
        }
        Attempt::TooManyBytes => stage_too_much(store, &mut transaction, victim).await?,
        Attempt::Mixed => {
            let extent = transaction.alloc(AllocRequest::bytes(1)).await?;
            stage_too_much(store, &mut transaction, Some(extent)).await?;
        }
    }
    transaction.commit().await.map(drop)
}

/// Journals whole pages until the transaction cannot fit. A store without room for the pages refuses before that.
async fn stage_too_much(
    store: &Allocator,
    transaction: &mut Transaction,
    victim: Option<freehold::Extent>,
) -> freehold::Result<()> {
    let mut extent = match victim {
        Some(extent) => extent,
        None => transaction.alloc(AllocRequest::bytes(1)).await?,
    };
    while transaction.journal_bytes() <= store.max_transaction_bytes() {
        let len = usize::try_from(extent.len).unwrap_or(0);
        transaction.write(&extent, 0, &vec![0xa5; len]).await?;
        if transaction.journal_bytes() <= store.max_transaction_bytes() {
            extent = transaction.alloc(AllocRequest::bytes(1)).await?;
        }
    }
    Ok(())
}

/// Many transactions at once, each of several journaled pages: together far more than the ring. All must come through.
fn many_large(world: &mut World, rng: &mut Rng) -> Result<Column, String> {
    let plans = (0..12).map(|_| Plan::any_large(rng)).collect();
    world.apply(&Operation::Transact(plans)).map_err(|stop| format!("{stop:?}"))?;
    world.settle().map_err(|stop| format!("in memory: {stop:?}"))?;
    reopened(world)?;
    Ok(Column::Survived)
}
