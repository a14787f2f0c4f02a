//! Many tasks in front of a product that commits one transaction at a time: each hands its change to one thread, which
//! puts all that wait into one transaction of the product, and wakes them when it is durable.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use freehold::Extent;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::Failure;
use crate::contender::{Clients, Contender};
use crate::free_map::FreeMap;
use crate::workload::{OWNER, PAGE_BYTES, Pool};

/// What one transaction does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) freed: Option<Extent>,
    pub(crate) made: Option<Extent>,
}

/// A product that keeps a record per live extent: its first page, its pages, its owner.
pub(crate) trait Engine: Sized + Send + 'static {
    /// Opens what is there, or makes it.
    fn open(dir: &Path) -> Result<Self, Failure>;

    /// Applies all in one transaction. If it is not durable, later ones must not be durable before it.
    fn apply(&mut self, changes: &[Change], durable: bool) -> Result<(), Failure>;

    /// Makes everything durable.
    fn sync(&mut self) -> Result<(), Failure>;

    /// All records.
    fn load(&self) -> Result<Vec<Extent>, Failure>;
}

/// Size of a record without its key.
pub(crate) const RECORD_BYTES: usize = 12;

pub(crate) fn first_page(extent: &Extent) -> u64 {
    extent.offset / PAGE_BYTES
}

pub(crate) fn pages(extent: &Extent) -> Result<u32, Failure> {
    Ok(u32::try_from(extent.len / PAGE_BYTES)?)
}

pub(crate) fn extent(first_page: u64, pages: u32) -> Extent {
    Extent { offset: first_page * PAGE_BYTES, len: u64::from(pages) * PAGE_BYTES, generation: 0 }
}

/// Pages and owner, as a product without columns has them.
pub(crate) fn record(extent: &Extent) -> Result<[u8; RECORD_BYTES], Failure> {
    let mut record = [0; RECORD_BYTES];
    let fields = pages(extent)?.to_le_bytes().into_iter().chain(OWNER.to_le_bytes());
    for (byte, value) in record.iter_mut().zip(fields) {
        *byte = value;
    }
    Ok(record)
}

/// The other way round.
pub(crate) fn from_record(first_page: u64, record: &[u8]) -> Result<Extent, Failure> {
    let pages = record.first_chunk().ok_or("a record is too short")?;
    Ok(extent(first_page, u32::from_le_bytes(*pages)))
}

struct Waiting {
    change: Change,
    done: oneshot::Sender<Result<(), String>>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    closed: bool,
}

struct Shared<E> {
    engine: Mutex<E>,
    map: Mutex<FreeMap>,
    queue: Mutex<Queue>,
    ready: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<E: Engine> Shared<E> {
    /// Space is free for others only behind this.
    fn apply(&self, changes: &[Change], durable: bool) -> Result<(), Failure> {
        lock(&self.engine).apply(changes, durable)?;
        let mut map = lock(&self.map);
        for freed in changes.iter().filter_map(|change| change.freed) {
            map.give(&freed);
        }
        Ok(())
    }

    /// Waits for work. None when there will be no more.
    fn next(&self) -> Option<Vec<Waiting>> {
        let mut queue = lock(&self.queue);
        while queue.waiting.is_empty() {
            if queue.closed {
                return None;
            }
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        Some(std::mem::take(&mut queue.waiting))
    }

    fn serve(&self, tasks: &Handle) {
        while let Some(group) = self.next() {
            let changes: Vec<Change> = group.iter().map(|waiting| waiting.change).collect();
            let outcome = self.apply(&changes, true).map_err(|failure| failure.to_string());
            // One task wakes the others where they run: from here, each would cost a call of the system.
            tasks.spawn(async move {
                for waiting in group {
                    // Somebody who does not wait any more does not want to know.
                    let _ = waiting.done.send(outcome.clone());
                }
            });
        }
    }
}

/// A product with an allocator in front.
pub(crate) struct Peer<E: Engine> {
    shared: Arc<Shared<E>>,
    thread: Option<JoinHandle<()>>,
}

impl<E: Engine> Peer<E> {
    fn take(&self, bytes: u64) -> Result<Extent, Failure> {
        lock(&self.shared.map).take(bytes).ok_or_else(|| "the map is full".into())
    }

    async fn hand_over(&self, change: Change) -> Result<(), Failure> {
        let (done, outcome) = oneshot::channel();
        lock(&self.shared.queue).waiting.push(Waiting { change, done });
        self.shared.ready.notify_one();
        Ok(outcome.await??)
    }
}

impl<E: Engine> Contender for Peer<E> {
    async fn open(dir: &Path, capacity: u64) -> Result<Self, Failure> {
        let engine = E::open(dir)?;
        let map = FreeMap::without(capacity, &engine.load()?)?;
        let shared = Arc::new(Shared {
            engine: Mutex::new(engine),
            map: Mutex::new(map),
            queue: Mutex::default(),
            ready: Condvar::new(),
        });
        let (server, tasks) = (Arc::clone(&shared), Handle::current());
        let thread =
            std::thread::Builder::new().name("commits".to_owned()).spawn(move || server.serve(&tasks))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    async fn transact(&self, freed: Option<Extent>, bytes: u64, clients: Clients) -> Result<Extent, Failure> {
        let made = self.take(bytes)?;
        let change = Change { freed, made: Some(made) };
        match clients {
            // Nobody to share with: no need to go through another thread.
            Clients::One => self.shared.apply(&[change], true)?,
            Clients::Many => self.hand_over(change).await?,
        }
        Ok(made)
    }

    async fn fill(&self, sizes: &[u64]) -> Result<Vec<Extent>, Failure> {
        let made: Vec<Extent> = sizes.iter().map(|&bytes| self.take(bytes)).collect::<Result<_, _>>()?;
        let changes: Vec<Change> =
            made.iter().map(|&made| Change { freed: None, made: Some(made) }).collect();
        self.shared.apply(&changes, true)?;
        Ok(made)
    }

    async fn rush(&self, pool: &mut Pool, time: Duration) -> Result<u64, Failure> {
        let (started, mut operations) = (Instant::now(), 0);
        while started.elapsed() < time {
            let (freed, bytes) = pool.choose();
            let made = self.take(bytes)?;
            self.shared.apply(&[Change { freed, made: Some(made) }], false)?;
            pool.live.push(made);
            operations += 1;
        }
        lock(&self.shared.engine).sync()?;
        Ok(operations)
    }

    async fn live(&self) -> Result<Vec<Extent>, Failure> {
        lock(&self.shared.engine).load()
    }
}

impl<E: Engine> Drop for Peer<E> {
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.ready.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic there was told to those who waited.
            let _ = thread.join();
        }
    }
}
