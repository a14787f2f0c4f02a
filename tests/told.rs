//! Goal: everyone learns in time that a transaction is durable, and nobody too early that data is.
//!
//! Method: a device in memory whose flush has done its work and waits behind a gate before it says so: what comes
//! meanwhile is in the next group, and is not covered by that flush.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod gated;

use std::sync::atomic::Ordering;
use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use freehold::device::Purpose;
use freehold::{Allocator, Committed, FormatOptions, OpenOptions, Result};
use tokio::runtime::Builder;

use gated::{Gated, PATIENCE, journaled_blocks};

async fn store(checkpoint_age: Duration) -> (Arc<Gated>, Allocator) {
    let device = Arc::new(Gated::new(64 << 20));
    let options = FormatOptions::new().page_bytes(4096).journal_bytes(4 << 20);
    options.format_device(Arc::clone(&device) as _).await.unwrap();
    // However long a group is expected to take, a task writes it.
    let options = OpenOptions::new().block_up_to(PATIENCE).checkpoint_age(checkpoint_age);
    let (store, _) = options.open_device(Arc::clone(&device) as _).await.unwrap();
    (device, store)
}

async fn commit(store: Allocator) -> Result<Committed> {
    let mut transaction = store.begin();
    transaction.alloc(4096).await?;
    transaction.commit().await
}

/// Rule 16: what is written while the device flushes may come too late for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_that_is_written_during_a_flush_waits_for_the_next() {
    let (device, store) = store(2 * PATIENCE).await;
    let mut transaction = store.begin();
    let extent = transaction.alloc(4096).await.unwrap();
    device.gate.set(true);
    let other = tokio::spawn(commit(store.clone()));
    let waiting = Arc::clone(&device);
    tokio::task::spawn_blocking(move || waiting.gate.wait_for_somebody()).await.unwrap();
    store.write_at(&extent, 0, &[7; 4096]).await.unwrap();
    let written = device.done.lock().unwrap().len();
    device.gate.set(false);
    other.await.unwrap().unwrap();
    transaction.commit().await.unwrap();
    let done = device.done.lock().unwrap().split_off(written);
    let place = |sought| done.iter().position(|one| *one == sought).unwrap();
    assert!(place(None) < place(Some(Purpose::Journal)), "{done:?}");
}

#[test]
fn a_lone_commit_is_not_told_before_its_flush() {
    nobody_is_told_before_the_flush(1);
}

#[test]
fn no_commit_of_a_group_is_told_before_its_flush() {
    nobody_is_told_before_the_flush(4);
}

/// Futures are polled by hand: who is told too early may not be woken until the flush is over.
fn nobody_is_told_before_the_flush(commits: usize) {
    let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let device = Arc::new(Gated::new(16 << 20));
    let (store, _) = runtime.block_on(async {
        FormatOptions::new().page_bytes(4096).format_device(Arc::clone(&device) as _).await.unwrap();
        // A thread of its own writes the group.
        let options = OpenOptions::new().block_up_to(Duration::ZERO);
        options.open_device(Arc::clone(&device) as _).await.unwrap()
    });
    let is_ready = |committing: &mut _| futures_util::FutureExt::now_or_never(committing).is_some();
    // What allocating reads is in memory then. Outside of a runtime nobody else is at work when it is done.
    let mut first = Box::pin(commit(store.clone()));
    while !is_ready(&mut first) {}
    device.gate.set(true);
    let groups = store.stats().journal.groups;
    let mut group: Vec<_> = (0..commits).map(|_| Box::pin(commit(store.clone()))).collect();
    // All but the last join and wait for others; the last one has the group written.
    let (last, others) = group.split_last_mut().unwrap();
    assert!(!others.iter_mut().any(is_ready));
    let entered = runtime.enter();
    let mut told = usize::from(is_ready(last));
    device.gate.wait_for_somebody();
    if told == 0 {
        told = group.iter_mut().filter_map(futures_util::FutureExt::now_or_never).count();
    }
    device.gate.set(false);
    drop(entered);
    assert_eq!(told, 0, "of {commits} commits, while their flush waits");
    let outcomes = runtime.block_on(futures_util::future::join_all(group));
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(store.stats().journal.groups, groups + 1);
}

/// Rule 18: those who are told are woken in portions, by a task, which has the duty to write groups meanwhile. Here all threads of
/// its runtime are blocked by the first of them, who wait for the last one, which is no task, and commits once more.
#[test]
fn who_is_told_is_woken_although_others_keep_all_threads() {
    all_are_woken(false, false);
}

/// The same while the thread that would stand in makes a checkpoint, which takes twenty seconds if it takes its time.
#[test]
fn who_is_told_is_woken_although_a_checkpoint_is_under_way() {
    all_are_woken(false, true);
}

/// The same when the store stops: then there is nobody who could stand in.
#[test]
fn who_is_told_of_a_failure_is_woken_although_others_keep_all_threads() {
    all_are_woken(true, false);
}

fn all_are_woken(fails: bool, during_checkpoint: bool) {
    const TASKS: usize = 40;
    let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let age = if during_checkpoint { Duration::from_millis(100) } else { 2 * PATIENCE };
    let (device, store) = runtime.block_on(store(age));
    // Groups of several, which are quick: a task writes them.
    for _ in 0..50 {
        let together: Vec<_> = (0..8).map(|_| runtime.spawn(commit(store.clone()))).collect();
        runtime.block_on(futures_util::future::join_all(together));
    }
    if during_checkpoint {
        device.writeback_micros.store(1_000_000, Ordering::Relaxed);
        device.ended.lock().unwrap().clear();
        runtime.block_on(journaled_blocks(&store, 320));
        let start = Instant::now();
        while device.ended.lock().unwrap().is_empty() {
            assert!(start.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    device.gate.set(true);
    let first = [0; 2].map(|_| runtime.spawn(commit(store.clone())));
    device.gate.wait_for_somebody();
    let is_told = Arc::new((Mutex::new(false), Condvar::new()));
    let (joined, all_joined) = channel();
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (store, is_told, joined) = (store.clone(), Arc::clone(&is_told), joined.clone());
            runtime.spawn(async move {
                let mut committing = Box::pin(commit(store));
                assert!(futures_util::poll!(&mut committing).is_pending());
                joined.send(()).unwrap();
                assert_eq!(committing.await.is_err(), fails);
                let (told, changed) = &*is_told;
                let waited = changed.wait_timeout_while(told.lock().unwrap(), PATIENCE, |told| !*told);
                drop(waited);
            })
        })
        .collect();
    for _ in 0..TASKS {
        all_joined.recv_timeout(PATIENCE).unwrap();
    }
    let (sender, told) = sync_channel(3);
    let last = std::thread::spawn(move || {
        let mut committing = Box::pin(commit(store.clone()));
        assert!(futures_util::FutureExt::now_or_never(&mut committing).is_none());
        sender.send(()).unwrap();
        let runtime = Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(committing).is_err(), fails);
        sender.send(()).unwrap();
        assert_eq!(runtime.block_on(commit(store)).is_err(), fails);
        sender.send(()).unwrap();
    });
    told.recv_timeout(PATIENCE).unwrap();
    // The group before is durable, whatever becomes of theirs.
    device.fails.store(fails, Ordering::Relaxed);
    device.gate.set(false);
    let in_time = [told.recv_timeout(PATIENCE / 4), told.recv_timeout(PATIENCE / 4)];
    *is_told.0.lock().unwrap() = true;
    is_told.1.notify_all();
    assert!(in_time.iter().all(Result::is_ok), "the last one waits: {in_time:?}");
    last.join().unwrap();
    runtime.block_on(async {
        futures_util::future::join_all(first).await;
        futures_util::future::join_all(tasks).await;
    });
}
