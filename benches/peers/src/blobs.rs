//! A blob store's put: a place for 16 KiB, the data, and its entry in the index, replacing an older blob. Beside it
//! the same bytes written to one file that exists in full, with as many flushes, and nothing else. And its get: a blob read
//! that was just written, beside the same from a file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use freehold::device::{Device, FileDevice, FileDeviceOptions};
use freehold::{AllocRequest, AllocatorStats, Extent};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::Failure;
use crate::contender::{Contender, DirectBuffer, Freehold, open_direct, write_in_full};
use crate::driver::{Load, Subject, Turn};
use crate::measure::Times;
use crate::workload::{Random, capacity};

pub(crate) const BLOB_BYTES: usize = 16 << 10;
/// What is in them.
const BLOB_BYTE: u8 = 0xCD;
/// An entry of the index: the extent, and the start of a hash.
const ENTRY_BYTES: u64 = 32;
const JOURNAL_BYTES: usize = 64 << 20;

/// A slot of the index, and the blob in it.
type Slot = (u64, Option<Extent>);

/// A store with an index of blobs.
pub(crate) struct Blobs<const DIRECT: bool> {
    runtime: Arc<Runtime>,
    shared: Arc<Shared<DIRECT>>,
}

struct Shared<const DIRECT: bool> {
    freehold: Freehold<DIRECT>,
    index: Extent,
    /// Those that no task has in hand.
    slots: Mutex<(Vec<Slot>, Random)>,
}

impl<const DIRECT: bool> Shared<DIRECT> {
    fn slots(&self) -> MutexGuard<'_, (Vec<Slot>, Random)> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn put(&self, data: &[u8]) -> Result<(), Failure> {
        let taken = {
            let (slots, random) = &mut *self.slots();
            random.take(slots)
        };
        let (slot, old) = taken.ok_or("there are more tasks than slots")?;
        let store = &self.freehold.store;
        let mut transaction = store.begin();
        let blob = transaction.alloc(AllocRequest::bytes(BLOB_BYTES as u64).owner(slot)).await?;
        store.write_at(&blob, 0, data).await?;
        let mut entry = blob.to_bytes().to_vec();
        entry.extend_from_slice(&[0xAB; 12]);
        transaction.write(&self.index, slot * ENTRY_BYTES, &entry).await?;
        if let Some(old) = old {
            transaction.free(&old).await?;
        }
        transaction.commit().await?;
        self.slots().0.push((slot, Some(blob)));
        Ok(())
    }
}

impl<const DIRECT: bool> Blobs<DIRECT> {
    /// With so many blobs.
    pub(crate) fn new(runtime: &Arc<Runtime>, dir: &Path, blobs: usize) -> Result<Self, Failure> {
        std::fs::create_dir_all(dir)?;
        let (dir, count) = (dir.to_owned(), u64::try_from(blobs)?);
        let opening = async move {
            let freehold = Freehold::<DIRECT>::open(&dir, capacity(0)).await?;
            let mut transaction = freehold.store.begin();
            let index = transaction.alloc(AllocRequest::bytes(count * ENTRY_BYTES)).await?;
            transaction.commit().await?;
            let slots = Mutex::new(((0..count).map(|slot| (slot, None)).collect(), Random::new(1)));
            Ok::<_, Failure>(Shared { freehold, index, slots })
        };
        Ok(Self { runtime: Arc::clone(runtime), shared: Arc::new(runtime.block_on(opening)?) })
    }

    fn stats(&self) -> Option<AllocatorStats> {
        self.shared.freehold.stats()
    }

    async fn share(&self, tasks: usize, time: Duration) -> Result<Turn, Failure> {
        let started = Instant::now();
        let workers: Vec<_> = (0..tasks)
            .map(|_| {
                let shared = Arc::clone(&self.shared);
                tokio::spawn(async move {
                    let (data, mut times) = (vec![BLOB_BYTE; BLOB_BYTES], Times::default());
                    while started.elapsed() < time {
                        let began = Instant::now();
                        shared.put(&data).await?;
                        times.record(began.elapsed());
                    }
                    Ok::<_, Failure>(times)
                })
            })
            .collect();
        turn_of(started, workers).await
    }

    /// Reads blobs that are there, again and again.
    async fn read(&self, tasks: usize, time: Duration) -> Result<Turn, Failure> {
        let live: Vec<Extent> = self.shared.slots().0.iter().filter_map(|(_, blob)| *blob).collect();
        let (live, started) = (Arc::new(live), Instant::now());
        let readers: Vec<_> = (1..)
            .take(tasks)
            .map(|seed| {
                let (store, live) = (self.shared.freehold.store.clone(), Arc::clone(&live));
                tokio::spawn(async move {
                    let (mut random, mut times) = (Random::new(seed), Times::default());
                    while started.elapsed() < time {
                        let blob = *random.choose(&live).ok_or("there are no blobs")?;
                        let began = Instant::now();
                        let content = store.read_at(&blob, 0, BLOB_BYTES).await?;
                        times.record(began.elapsed());
                        if content.first() != Some(&BLOB_BYTE) {
                            return Err("a blob is not what was put".into());
                        }
                    }
                    Ok::<_, Failure>(times)
                })
            })
            .collect();
        turn_of(started, readers).await
    }
}

/// The turn of tasks that have times to show.
async fn turn_of(started: Instant, tasks: Vec<JoinHandle<Result<Times, Failure>>>) -> Result<Turn, Failure> {
    let mut times = Times::default();
    for task in tasks {
        times.append(&mut task.await??);
    }
    Ok(Turn::new(u64::try_from(times.len())?, started.elapsed(), times))
}

impl<const DIRECT: bool> Subject for Blobs<DIRECT> {
    fn turn(&mut self, load: Load, time: Duration) -> Result<Option<Turn>, Failure> {
        let tasks = match load {
            Load::Tasks(tasks) => tasks,
            Load::Reads(tasks) => return self.runtime.block_on(self.read(tasks, time)).map(Some),
            Load::Rush | Load::Reserve | Load::Early(_) => return Ok(None),
        };
        let before = self.stats();
        let turn = self.runtime.block_on(self.share(tasks, time))?;
        let stats = before.zip(self.stats()).map(|(before, after)| [before, after]);
        Ok(Some(Turn { stats: stats.into_iter().collect(), ..turn }))
    }
}

/// What Freehold did for each put, for the floor to do the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    flushes: f64,
    journal_bytes: f64,
}

impl Share {
    pub(crate) fn of(turn: &Turn) -> Self {
        let puts = turn.operations as f64;
        Self {
            flushes: turn.grown(|stats| stats.device.flushes) / puts,
            journal_bytes: turn.grown(|stats| stats.journal.written_bytes) / puts,
        }
    }
}

/// A file that exists in full: records in front, data behind.
pub(crate) struct BlobFloor {
    file: File,
    /// The same file, to begin the writeback of a blob with; not where the page cache has no part in it.
    early: Option<FileDevice>,
    slots: Vec<u64>,
    random: Random,
    position: usize,
    buffer: DirectBuffer,
    pub(crate) share: Share,
}

impl BlobFloor {
    pub(crate) fn new(dir: &Path, blobs: usize, direct: bool) -> Result<Self, Failure> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join("floor");
        // Room for the blob that replaces another.
        let slots = 2 * blobs;
        let mut file = write_in_full(&path, JOURNAL_BYTES + slots * BLOB_BYTES)?;
        let mut early = None;
        if direct {
            file = open_direct(&path, false)?;
        } else {
            early = Some(FileDeviceOptions::new().open(&path)?);
        }
        let slots = (0..slots).map(|slot| u64::try_from(JOURNAL_BYTES + slot * BLOB_BYTES));
        Ok(Self {
            file,
            early,
            slots: slots.collect::<Result<_, _>>()?,
            random: Random::new(1),
            position: 0,
            buffer: DirectBuffer::new(JOURNAL_BYTES),
            share: Share { flushes: 2.0, journal_bytes: 4096.0 },
        })
    }

    fn put(&mut self, load: Load) -> Result<(), Failure> {
        let slot = self.random.take(&mut self.slots).ok_or("the floor has no slot")?;
        self.file.write_all_at(self.buffer.blocks(BLOB_BYTES)?, slot)?;
        if let (Load::Early(_), Some(device)) = (load, &self.early) {
            device.start_writeback(slot, BLOB_BYTES as u64);
        }
        self.slots.push(slot);
        Ok(())
    }

    fn record(&mut self, bytes: f64) -> Result<(), Failure> {
        #[expect(clippy::cast_possible_truncation, reason = "far below the size of the journal")]
        let block = self.buffer.blocks((bytes as usize).clamp(1, JOURNAL_BYTES))?;
        if self.position + block.len() > JOURNAL_BYTES {
            self.position = 0;
        }
        self.file.write_all_at(block, u64::try_from(self.position)?)?;
        self.position += block.len();
        Ok(())
    }
}

impl BlobFloor {
    /// Reads as many bytes, on as many threads as there are cores.
    fn read(&self, tasks: usize, time: Duration) -> Result<Turn, Failure> {
        let cores = std::thread::available_parallelism()?.get();
        // As many as the store has blobs.
        let slots = self.slots.get(..self.slots.len() / 2).unwrap_or_default();
        let started = Instant::now();
        let read = |seed: u64| {
            let (mut random, mut times) = (Random::new(seed), Times::default());
            let mut content = vec![0; BLOB_BYTES];
            while started.elapsed() < time {
                let slot = *random.choose(slots).ok_or("the floor has no slot")?;
                let began = Instant::now();
                self.file.read_exact_at(&mut content, slot)?;
                times.record(began.elapsed());
            }
            Ok::<_, Failure>(times)
        };
        let mut times = Times::default();
        std::thread::scope(|scope| {
            let readers: Vec<_> =
                (1..).take(tasks.min(cores)).map(|seed| scope.spawn(move || read(seed))).collect();
            for reader in readers {
                times.append(&mut reader.join().map_err(|_| "a reader panicked")??);
            }
            Ok::<_, Failure>(())
        })?;
        Ok(Turn::new(u64::try_from(times.len())?, started.elapsed(), times))
    }
}

impl Subject for BlobFloor {
    fn turn(&mut self, load: Load, time: Duration) -> Result<Option<Turn>, Failure> {
        if let Load::Reads(tasks) = load {
            return self.read(tasks, time).map(Some);
        }
        if matches!(load, Load::Early(_)) && self.early.is_none() {
            return Ok(None);
        }
        let started = Instant::now();
        let (mut times, mut operations) = (Times::default(), 0);
        let (mut flushes, mut bytes) = (0.0, 0.0);
        while started.elapsed() < time {
            let began = Instant::now();
            self.put(load)?;
            operations += 1;
            flushes += self.share.flushes;
            bytes += self.share.journal_bytes;
            while flushes >= 1.0 {
                flushes -= 1.0;
                // The last flush of several makes the record durable, those before it the data.
                if flushes < 1.0 {
                    self.record(bytes)?;
                    bytes = 0.0;
                }
                self.file.sync_data()?;
            }
            times.record(began.elapsed());
        }
        self.file.sync_data()?;
        Ok(Some(Turn::new(operations, started.elapsed(), times)))
    }
}
