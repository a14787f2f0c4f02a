//! Goal: groups are written where that is cheapest, as the time that they took of late says: by the lone committer itself,
//! in a task, or on a thread for blocking calls. Wherever that is, everyone is told.
//!
//! Method: a device in memory whose flush moves the clock by hand, and that notes on which thread groups are written.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod timed;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use freehold::device::MemoryDevice;
use freehold::{Allocator, Extent, FormatOptions, OpenOptions};
use futures_util::FutureExt;
use futures_util::future::join_all;

use timed::{Timed, store};

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(20);

async fn commit(store: &Allocator) -> u64 {
    let mut transaction = store.begin();
    transaction.alloc(4096).await.unwrap();
    transaction.commit().await.unwrap().lsn
}

/// Gives a thread that has just told everyone the time to find out that nobody waits any more.
fn let_writer_end() {
    std::thread::sleep(Duration::from_millis(20));
}

/// For each of the next groups of one transaction, whether the thread that polls the commit wrote it.
async fn written_here(device: &Timed, store: &Allocator, groups: usize) -> Vec<bool> {
    device.writers.lock().unwrap().clear();
    for _ in 0..groups {
        commit(store).await;
        let_writer_end();
    }
    let here = std::thread::current().id();
    device.writers.lock().unwrap().iter().map(|writer| *writer == here).collect()
}

/// Commits until a group is written on the polling thread: then nobody else is still at it.
async fn until_written_here(device: &Timed, store: &Allocator) {
    for _ in 0..100 {
        if written_here(device, store, 1).await == [true] {
            return;
        }
    }
    panic!("groups are never written on the thread that polls the commit");
}

#[tokio::test]
async fn a_lone_committer_writes_itself_unless_the_device_is_slow() {
    let (device, store) = store(150, OpenOptions::new()).await;
    // What the first one will take is not known.
    assert_eq!(written_here(&device, &store, 1).await, [false]);
    until_written_here(&device, &store).await;
    assert_eq!(written_here(&device, &store, 3).await, [true; 3]);
    device.flush_micros.store(100_000, Ordering::Relaxed);
    // A device that stalls once is not a slow one.
    assert_eq!(written_here(&device, &store, 4).await, [true, true, false, false]);
    // It takes some groups until the device is believed to be quick again.
    device.flush_micros.store(150, Ordering::Relaxed);
    until_written_here(&device, &store).await;
}

#[tokio::test]
async fn nothing_is_written_on_the_polling_thread_if_that_is_not_wanted() {
    for micros in [0, 5, 150] {
        let (device, store) = store(micros, OpenOptions::new().block_up_to(Duration::ZERO)).await;
        assert_eq!(written_here(&device, &store, 3).await, [false; 3]);
    }
}

#[tokio::test]
async fn several_committers_leave_it_to_a_thread_unless_the_device_is_quick() {
    for (micros, here) in [(150, false), (5, true)] {
        let (device, store) = store(micros, OpenOptions::new()).await;
        // So that nothing has to be loaded later.
        let (mut allocating, mut freeing) = (store.begin(), store.begin());
        let mut extents = Vec::new();
        for _ in 0..40 {
            extents.push(allocating.alloc(4096).await.unwrap());
        }
        allocating.commit().await.unwrap();
        for extent in extents {
            freeing.free(&extent).await.unwrap();
        }
        freeing.commit().await.unwrap();
        until_written_here(&device, &store).await;
        device.writers.lock().unwrap().clear();
        let groups = store.stats().journal.groups;
        let lsns = join_all((0..20).map(|_| commit(&store))).await;
        assert!(lsns.windows(2).all(|pair| pair[0] < pair[1]));
        let me = std::thread::current().id();
        let mine = device.writers.lock().unwrap().iter().map(|writer| *writer == me).collect::<Vec<_>>();
        assert_eq!(store.stats().journal.groups, groups + 1, "all of them were ready, so there is one group");
        assert_eq!(mine, [here]);
    }
}

/// Whoever has the duty to write may be dropped at any point.
#[tokio::test]
async fn a_committer_that_is_dropped_leaves_nobody_waiting() {
    for micros in [0, 150, 100_000] {
        let (_, store) = store(micros, OpenOptions::new()).await;
        let first = commit(&store).await;
        let_writer_end();
        let mut dropped = Box::pin(commit(&store));
        // On the slow device a thread may have been faster.
        let _ = dropped.as_mut().now_or_never();
        let mut waiting = Box::pin(commit(&store));
        let at_once = waiting.as_mut().now_or_never();
        drop(dropped);
        let lsn = match at_once {
            Some(lsn) => lsn,
            None => waiting.await,
        };
        assert_eq!(lsn, first + 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_are_all_told_on_any_device() {
    for micros in [0, 5, 30, 150, 100_000] {
        let (_, store) = store(micros, OpenOptions::new()).await;
        let tasks: Vec<_> = (0..32)
            .map(|task| {
                let store = store.clone();
                tokio::spawn(async move {
                    for round in 0..20 {
                        let mut transaction = store.begin();
                        let extent = transaction.alloc(4096).await.unwrap();
                        let committed = transaction.commit().await.unwrap();
                        // Some are dropped while somebody counts on them to write.
                        let mut transaction = store.begin();
                        transaction.free(&extent).await.unwrap();
                        let mut commit = Box::pin(transaction.commit());
                        if (task + round) % 3 == 0 {
                            let _ = commit.as_mut().now_or_never();
                        } else {
                            assert!(commit.await.unwrap().lsn > committed.lsn);
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        store.close().await.unwrap();
        assert_eq!(store.stats().reserved_bytes + store.stats().pending_bytes, 0);
    }
}

/// Symptom: every commit hung. Cause: the duty to write was held by a commit that had been polled once and was kept
/// without being polled again, as `select!` and streams of futures do.
#[tokio::test]
async fn a_commit_that_is_kept_and_not_polled_holds_nobody_up() {
    for micros in [0, 5, 150, 100_000] {
        let (_, store) = store(micros, OpenOptions::new()).await;
        let first = commit(&store).await;
        let_writer_end();
        let mut kept: Vec<_> = (0..3).map(|_| Box::pin(commit(&store))).collect();
        for commit in &mut kept {
            let _ = commit.as_mut().now_or_never();
        }
        assert_eq!(tokio::time::timeout(PATIENCE, commit(&store)).await.unwrap(), first + 4);
        drop(kept);
    }
    let device = Arc::new(MemoryDevice::zeroed(4 << 20));
    FormatOptions::new().format_device(Arc::clone(&device) as _).await.unwrap();
    let (store, _) = OpenOptions::new().open_device(device).await.unwrap();
    let mut kept = Box::pin(commit(&store));
    assert!(kept.as_mut().now_or_never().is_none());
    tokio::time::timeout(PATIENCE, commit(&store)).await.unwrap();
}

/// What is expected of a group says nothing about a flush with much written directly before it.
#[tokio::test]
async fn much_to_make_durable_is_left_to_a_thread() {
    let (device, store) = store(150, OpenOptions::new()).await;
    let mut transaction = store.begin();
    let extent = transaction.alloc(1 << 20).await.unwrap();
    transaction.commit().await.unwrap();
    let here = std::thread::current().id();
    for (bytes, flushed_here) in [(4096, true), (1 << 20, false), (4096, true)] {
        until_written_here(&device, &store).await;
        store.write_at(&extent, 0, &vec![1; bytes]).await.unwrap();
        device.flushers.lock().unwrap().clear();
        store.sync_data().await.unwrap();
        assert_eq!(device.flushers.lock().unwrap().contains(&here), flushed_here, "{bytes} bytes");
    }
}

/// A committer that never waits must not keep a thread of the runtime for itself: it lets others run, and goes on itself.
#[test]
fn a_lone_committer_lets_others_run() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    runtime.block_on(async {
        let (device, store) = store(150, OpenOptions::new()).await;
        let extents = hundred_extents(&store).await;
        until_written_here_by_a_task(&device, &store).await;
        let turns = Arc::new(AtomicU64::new(0));
        let other = {
            let turns = Arc::clone(&turns);
            tokio::spawn(async move {
                loop {
                    turns.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            })
        };
        let turns_meanwhile = tokio::spawn(async move {
            tokio::task::yield_now().await;
            let here = std::thread::current().id();
            let before = turns.load(Ordering::Relaxed);
            // Rarely the maintenance thread comes in a pause, and writes some.
            let mut all_here = false;
            for twenty in extents.chunks(20) {
                device.writers.lock().unwrap().clear();
                for extent in twenty {
                    let mut freeing = store.begin();
                    freeing.free(extent).await.unwrap();
                    freeing.commit().await.unwrap();
                }
                all_here |= *device.writers.lock().unwrap() == [here; 20];
            }
            assert!(all_here, "some of twenty groups were always written elsewhere");
            turns.load(Ordering::Relaxed) - before
        });
        // 150 us each, and at most a millisecond in a row.
        let turns = turns_meanwhile.await.unwrap();
        assert!(turns >= 10, "the other task had {turns} turns while 100 groups were written");
        other.abort();
    });
}

/// Rule 18: whoever runs while a lone committer pauses may wait for that very commit, and keep the thread on which it paused.
#[test]
fn who_runs_in_a_pause_may_wait_for_the_commit() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let (device, store) = store(150, OpenOptions::new()).await;
        let extents = hundred_extents(&store).await;
        until_written_here_by_a_task(&device, &store).await;
        let runs = Arc::new(AtomicBool::new(false));
        // The other thread takes nothing over until then, and has nothing to do from then on.
        let busy = tokio::spawn({
            let runs = Arc::clone(&runs);
            async move {
                while !runs.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let committing = tokio::spawn(async move {
            let (sender, told) = std::sync::mpsc::channel();
            let waiting = tokio::spawn({
                let runs = Arc::clone(&runs);
                async move {
                    runs.store(true, Ordering::SeqCst);
                    told.recv_timeout(PATIENCE / 4).is_ok()
                }
            });
            for extent in &extents {
                if !runs.load(Ordering::SeqCst) {
                    let mut freeing = store.begin();
                    freeing.free(extent).await.unwrap();
                    freeing.commit().await.unwrap();
                }
            }
            assert!(runs.load(Ordering::SeqCst), "there was no pause");
            // The other one may be there no more.
            let _ = sender.send(());
            waiting.await.unwrap()
        });
        assert!(committing.await.unwrap(), "the commit did not end before its thread was free");
        busy.await.unwrap();
    });
}

/// Rule 18, in the pause of a lone committer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_commit_that_is_left_in_its_pause_holds_nobody_up() {
    for keep in [false, true] {
        let (device, store) = store(150, OpenOptions::new()).await;
        let extents = hundred_extents(&store).await;
        tokio::spawn(async move {
            until_written_here(&device, &store).await;
            for (number, extent) in extents.iter().enumerate() {
                let next = store.stats().journal.durable_lsn + 1;
                let mut freeing = store.begin();
                freeing.free(extent).await.unwrap();
                let mut committing = Box::pin(freeing.commit());
                if committing.as_mut().now_or_never().is_some() {
                    assert!(number < 20, "there is no pause");
                    continue;
                }
                let kept = keep.then_some(committing);
                let begun = std::time::Instant::now();
                while store.stats().journal.durable_lsn < next {
                    assert!(begun.elapsed() < PATIENCE, "nobody writes it");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                assert_eq!(commit(&store).await, next + 1);
                return drop(kept);
            }
        })
        .await
        .unwrap();
    }
}

/// So that nothing has to be loaded, or waited for, when they are freed.
async fn hundred_extents(store: &Allocator) -> Vec<Extent> {
    let mut allocating = store.begin();
    let mut extents = Vec::new();
    for _ in 0..100 {
        extents.push(allocating.alloc(4096).await.unwrap());
    }
    allocating.commit().await.unwrap();
    extents
}

/// Commits from a task until groups are written on the thread that polls it.
async fn until_written_here_by_a_task(device: &Arc<Timed>, store: &Allocator) {
    let (device, store) = (Arc::clone(device), store.clone());
    tokio::spawn(async move { until_written_here(&device, &store).await }).await.unwrap();
}
