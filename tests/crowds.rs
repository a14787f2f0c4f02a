//! Goal: a store that thousands of tasks share does not do less for each of them than one that a few share.
//!
//! Method: a device in memory whose flush waits behind a gate while the crowd comes, and that notes on which threads groups are
//! written.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod gated;

use std::collections::HashSet;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use freehold::{Allocator, Extent, FormatOptions, OpenOptions, Transaction};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use gated::{Gated, PATIENCE};

const RING_BYTES: u64 = 1 << 20;

struct Crowd {
    runtime: Runtime,
    /// The threads that run tasks, and no blocking calls.
    workers: Arc<Mutex<HashSet<ThreadId>>>,
    device: Arc<Gated>,
    store: Allocator,
    /// Room for what is journaled.
    index: Extent,
    /// Commits that have begun.
    begun: Arc<AtomicUsize>,
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // The runtime waits for those before it.
        self.device.gate.set(false);
    }
}

impl Crowd {
    fn new(ring_bytes: u64) -> Self {
        let workers = Arc::new(Mutex::new(HashSet::new()));
        let parked = Arc::clone(&workers);
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .on_thread_park(move || {
                parked.lock().unwrap().insert(std::thread::current().id());
            })
            .build()
            .unwrap();
        let device = Arc::new(Gated::new(64 << 20));
        let (store, index) = runtime.block_on(async {
            let format = FormatOptions::new().page_bytes(4096).journal_bytes(ring_bytes);
            format.format_device(Arc::clone(&device) as _).await.unwrap();
            // However long a group is expected to take, a task writes it, if it is not large. No checkpoint comes by age.
            let options = OpenOptions::new().block_up_to(PATIENCE).checkpoint_age(50 * PATIENCE);
            let (store, _) = options.open_device(Arc::clone(&device) as _).await.unwrap();
            let mut transaction = store.begin();
            let index = transaction.alloc(512 << 10).await.unwrap();
            transaction.commit().await.unwrap();
            (store, index)
        });
        let crowd = Self { runtime, workers, device, store, index, begun: Arc::default() };
        // Groups of several, which are quick.
        for _ in 0..50 {
            crowd.wait_for((0..8).map(|_| crowd.allocate()).collect());
        }
        crowd
    }

    /// A task that commits a small transaction.
    fn allocate(&self) -> JoinHandle<()> {
        let (store, begun) = (self.store.clone(), Arc::clone(&self.begun));
        self.runtime.spawn(async move {
            let mut transaction = store.begin();
            transaction.alloc(4096).await.unwrap();
            commit(transaction, &begun).await;
        })
    }

    /// A task that journals bytes of the index.
    fn journal(&self, offset: u64, bytes: usize) -> JoinHandle<()> {
        self.journal_at(vec![offset], bytes)
    }

    /// The same, for a byte in each so many.
    fn journal_each(&self, step: usize) -> JoinHandle<()> {
        self.journal_at((0..self.index.len).step_by(step).collect(), 1)
    }

    fn journal_at(&self, offsets: Vec<u64>, bytes: usize) -> JoinHandle<()> {
        let (store, begun, index) = (self.store.clone(), Arc::clone(&self.begun), self.index);
        self.runtime.spawn(async move {
            let mut transaction = store.begin();
            for offset in offsets {
                transaction.write(&index, offset, &vec![7; bytes]).await.unwrap();
            }
            commit(transaction, &begun).await;
        })
    }

    /// Tasks that all commit while somebody's group waits at the gate, which is opened then.
    fn all_come(&self, count: usize, task: impl Fn(u64) -> JoinHandle<()>) {
        self.device.gate.set(true);
        let mut tasks = vec![self.allocate()];
        self.device.gate.wait_for_somebody();
        let before = self.begun.load(Ordering::Relaxed);
        tasks.extend((0..).map(task).take(count));
        wait_until("not all have come", || self.begun.load(Ordering::Relaxed) - before >= count);
        self.device.gate.set(false);
        self.wait_for(tasks);
    }

    fn wait_for(&self, tasks: Vec<JoinHandle<()>>) {
        let all = futures_util::future::join_all(tasks);
        let ended = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, all).await });
        ended.unwrap().into_iter().for_each(Result::unwrap);
    }

    /// Whether each of the groups since the first so many was written by a task.
    fn written_by_tasks(&self, from: usize) -> Vec<bool> {
        let (workers, writers) = (self.workers.lock().unwrap(), self.device.writers.lock().unwrap());
        writers.iter().skip(from).map(|writer| workers.contains(writer)).collect()
    }

    fn groups(&self) -> usize {
        self.device.writers.lock().unwrap().len()
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

async fn commit(transaction: Transaction, begun: &AtomicUsize) {
    let mut committing = pin!(transaction.commit());
    let first = futures_util::poll!(committing.as_mut());
    begun.fetch_add(1, Ordering::Relaxed);
    let committed = match first {
        Poll::Ready(committed) => committed,
        Poll::Pending => committing.await,
    };
    committed.unwrap();
}

/// Symptom: 4,096 tasks did half of what 256 did. Cause: a large group was left to a thread for blocking calls, because of the room
/// that its transactions had claimed; a task writes it, and wakes those in it by and by.
#[test]
fn a_large_group_of_small_transactions_is_written_by_a_task() {
    let crowd = Crowd::new(16 << 20);
    // What transactions take in a large group is not known before there was one.
    crowd.all_come(1000, |_| crowd.allocate());
    let before = crowd.groups();
    crowd.all_come(10_000, |_| crowd.allocate());
    assert_eq!(crowd.written_by_tasks(before).get(1), Some(&true));
}

/// What may be images of many blocks is much to write, however little is staged.
#[test]
fn bytes_in_many_blocks_are_left_to_a_thread() {
    let crowd = Crowd::new(16 << 20);
    for (step, by_task) in [(128 << 10, true), (4 << 10, false)] {
        let before = crowd.groups();
        crowd.all_come(1, |_| crowd.journal_each(step));
        assert_eq!(crowd.written_by_tasks(before).get(1), Some(&by_task), "a byte every {step}");
    }
}

/// The same for as long as groups followed each other: the thread that had one large group to write kept the duty.
#[test]
fn a_thread_that_wrote_a_large_group_leaves_those_that_follow_to_tasks() {
    let crowd = Crowd::new(16 << 20);
    crowd.device.flush_micros.store(2000, Ordering::Relaxed);
    let stop = Arc::new(AtomicBool::new(false));
    // Each has a pause of its own between two transactions: somebody always comes while a group is flushed.
    let busy: Vec<_> = (0..64)
        .map(|task| {
            let (store, stop) = (crowd.store.clone(), Arc::clone(&stop));
            crowd.runtime.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let mut transaction = store.begin();
                    transaction.alloc(4096).await.unwrap();
                    transaction.commit().await.unwrap();
                    tokio::time::sleep(Duration::from_millis(task % 16)).await;
                }
            })
        })
        .collect();
    let before = crowd.groups();
    wait_until("nothing is written", || crowd.groups() > before + 10);
    let before = crowd.groups();
    crowd.wait_for(vec![crowd.journal(0, 400 << 10)]);
    let large = crowd.groups();
    assert!(crowd.written_by_tasks(before).contains(&false), "a task wrote the large group");
    wait_until("no group is written", || crowd.groups() > large + 60);
    stop.store(true, Ordering::Relaxed);
    crowd.wait_for(busy);
    let later = crowd.written_by_tasks(large + 20);
    assert!(later.contains(&true), "a thread keeps the duty: {later:?}");
}

/// Those take effect slowly, and the next ones come meanwhile.
#[test]
fn many_that_journal_are_left_to_a_thread() {
    let crowd = Crowd::new(16 << 20);
    for (count, by_task) in [(16, true), (200, false)] {
        let before = crowd.groups();
        crowd.all_come(count, |task| crowd.journal(task * 16, 16));
        assert_eq!(crowd.written_by_tasks(before).get(1), Some(&by_task), "{count} tasks");
    }
}

/// Symptom: 4,096 tasks that journaled some bytes each did a sixth of what 256 did, with a checkpoint for every group. Cause: what
/// transactions claim of the ring counted as if it were written.
#[test]
fn room_that_is_claimed_and_not_written_makes_no_checkpoints() {
    let crowd = Crowd::new(RING_BYTES);
    crowd.runtime.block_on(crowd.store.checkpoint()).unwrap();
    let checkpoints = || crowd.store.stats().journal.checkpoints;
    let before = checkpoints();
    // An image of a block each, at least: more than the ring has.
    crowd.all_come(400, |task| crowd.journal(task * 16, 16));
    assert_eq!(checkpoints(), before);
    assert!(crowd.store.stats().journal.ring_used_bytes <= RING_BYTES / 8);
}

/// Each group that ends while the ring is half full asks for a checkpoint. The one that is under way then is enough.
#[test]
fn a_checkpoint_that_was_asked_for_during_one_is_not_made() {
    let crowd = Crowd::new(RING_BYTES);
    crowd.runtime.block_on(crowd.store.checkpoint()).unwrap();
    let journal = || crowd.store.stats().journal;
    let before = journal().checkpoints;
    while journal().ring_used_bytes < RING_BYTES / 2 - (16 << 10) {
        crowd.wait_for(vec![crowd.allocate()]);
    }
    crowd.device.flush_micros.store(20_000, Ordering::Relaxed);
    while journal().ring_used_bytes <= RING_BYTES / 2 {
        crowd.wait_for(vec![crowd.allocate()]);
    }
    let mut asked = 0;
    while journal().checkpoints == before {
        crowd.wait_for(vec![crowd.allocate()]);
        asked += 1;
    }
    assert!(asked > 1, "no group ended during the checkpoint");
    // Several times what one takes.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(journal().checkpoints, before + 1);
}

/// Rule 18. Symptom: a commit waited for room in the ring until a checkpoint came by age. Cause: another one had been given room and
/// was not polled again; a few groups that no checkpoint had covered made the rest too little.
#[test]
fn who_waits_for_room_does_not_wait_for_one_that_is_not_polled() {
    let crowd = Crowd::new(RING_BYTES);
    let (store, gate) = (crowd.store.clone(), &crowd.device.gate);
    crowd.runtime.block_on(async {
        store.checkpoint().await.unwrap();
        // Each claims half of the ring, as nearly as can be.
        let mut large = Vec::new();
        for _ in 0..3 {
            let mut transaction = store.begin();
            let extent = transaction.alloc(1 << 20).await.unwrap();
            transaction.commit().await.unwrap();
            let mut transaction = store.begin();
            let (most, block) = (store.max_transaction_bytes(), 4096);
            for offset in (0..).step_by(block) {
                if most - transaction.journal_bytes() < 2 * block as u64 {
                    break;
                }
                transaction.write(&extent, offset, &vec![0; block]).await.unwrap();
            }
            large.push(Box::pin(transaction.commit()));
        }
        // More than two of them leave, and less than anybody makes a checkpoint for.
        while store.stats().journal.ring_used_bytes < RING_BYTES / 16 {
            let mut transaction = store.begin();
            transaction.alloc(4096).await.unwrap();
            transaction.commit().await.unwrap();
        }
        let claimed = || store.stats().journal.ring_claimed_bytes;
        gate.set(true);
        let before = crowd.allocate();
        gate.wait_for_somebody();
        let [first, kept, last] = &mut large[..] else { panic!() };
        // The first one has joined a group that has to wait, and the second one waits for room.
        while claimed() < RING_BYTES / 3 {
            assert!(futures_util::poll!(first.as_mut()).is_pending());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let used = || store.stats().journal.ring_used_bytes;
        while used() + claimed() < RING_BYTES {
            assert!(futures_util::poll!(kept.as_mut()).is_pending());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        gate.set(false);
        tokio::time::timeout(PATIENCE, first).await.unwrap().unwrap();
        assert!(claimed() > RING_BYTES / 3, "the second one was given room");
        tokio::time::timeout(PATIENCE, last).await.unwrap().unwrap();
        tokio::time::timeout(PATIENCE, kept).await.unwrap().unwrap();
        assert_eq!(claimed(), 0);
        before.await.unwrap();
    });
}
