//! How a store is opened.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::handle::Allocator;
use crate::device::{Clock, Device, FileDeviceOptions, SystemClock};
use crate::error::Result;
use crate::journal::{JournalOptions, ReplayReport};

/// A builder for opening a store.
///
/// ```no_run
/// # async fn open() -> freehold::Result<()> {
/// use std::time::Duration;
/// let (store, replayed) = freehold::OpenOptions::new()
///     .direct_io(true)
///     .checkpoint_age(Duration::from_secs(1))
///     .open("/dev/nvme0n1p4")
///     .await?;
/// println!("{} transactions replayed", replayed.transactions);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct OpenOptions {
    read_only: bool,
    direct_io: bool,
    cached_journal: bool,
    clock: Arc<dyn Clock>,
    journal: JournalOptions,
    loaded_bytes: usize,
}

/// Bytes of bitmaps and of indexes over them that stay in memory, unless told otherwise.
const DEFAULT_LOADED_BYTES: usize = 256 << 20;

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// For reading and writing, through the page cache.
    pub fn new() -> Self {
        Self {
            read_only: false,
            direct_io: false,
            cached_journal: false,
            clock: Arc::new(SystemClock::default()),
            journal: JournalOptions::default(),
            loaded_bytes: DEFAULT_LOADED_BYTES,
        }
    }

    /// Never writes; the journal is applied in memory.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Bypasses the page cache.
    pub fn direct_io(mut self, direct_io: bool) -> Self {
        self.direct_io = direct_io;
        self
    }

    /// Has the journal go through the page cache, too, for programs that must not use direct I/O at all. Otherwise groups are
    /// written past the cache where the system can do that and it turns out to be quicker: each way is tried on the first of
    /// them.
    pub fn cached_journal(mut self, cached_journal: bool) -> Self {
        self.cached_journal = cached_journal;
        self
    }

    /// Takes time from here.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Checkpoints when the oldest change that is only in the journal is this old.
    pub fn checkpoint_age(mut self, age: Duration) -> Self {
        self.journal.checkpoint_age = age;
        self
    }

    /// Keeps about this many metadata blocks in memory.
    pub fn cached_blocks(mut self, blocks: usize) -> Self {
        self.journal.cached_blocks = blocks;
        self
    }

    /// Lets groups be written on threads of the runtime, by the commit itself or by a task, where the device is expected to
    /// take less than this for a group (a millisecond by default), going by the groups before. That saves committers the
    /// way to a thread for blocking calls and back, which takes as long as a good part of a flush. Short direct writes that
    /// are expected to take less than that way are made in place, too, and writes into the page cache that are expected to
    /// take less than 100 microseconds (of 128 KiB at most), for these take a processor and, as a rule, no waiting; so are
    /// short reads of what the page cache has. What a thread does so in a row is expected to take no longer than this in
    /// all. A call that finds another thread allocating and freeing without a pause lets it go on for as long, too, and a
    /// millisecond at most, each time. With zero, no thread of the runtime is ever blocked for a commit, a direct write, a
    /// read, or another thread that has more to do.
    pub fn block_up_to(mut self, time: Duration) -> Self {
        self.journal.block_up_to = time;
        self
    }

    /// Keeps about so many bytes of bitmaps, region heads, and indexes over them in memory (256 MiB by default); the
    /// segments that were not used for longest are dropped, and loaded again when needed. What open transactions need
    /// stays. 1 TiB with pages of 4 KiB takes 32 MiB of bitmaps, and about as much again for the index.
    pub fn loaded_bytes(mut self, bytes: usize) -> Self {
        self.loaded_bytes = bytes;
        self
    }

    /// Opens the file or block device at `path`, and replays its journal.
    ///
    /// # Errors
    /// [`Error::Locked`](crate::Error::Locked), [`Error::NotFreehold`](crate::Error::NotFreehold),
    /// [`Error::Corrupt`](crate::Error::Corrupt) and the other refusals; I/O errors.
    pub async fn open(&self, path: impl AsRef<Path>) -> Result<(Allocator, ReplayReport)> {
        let options = FileDeviceOptions::new()
            .read_only(self.read_only)
            .direct_io(self.direct_io)
            .cached_journal(self.cached_journal);
        let path = path.as_ref().to_owned();
        let device = super::offload::offload(true, move || options.open(path)).await?;
        self.open_device(Arc::new(device)).await
    }

    /// Opens a store on any device.
    pub async fn open_device(&self, device: Arc<dyn Device>) -> Result<(Allocator, ReplayReport)> {
        let read_only = self.read_only || device.is_read_only();
        Allocator::open_with(device, Arc::clone(&self.clock), self.journal, self.loaded_bytes, read_only)
            .await
    }
}
