//! The engine's own door to the device: context for errors, metrics, and the poison latch (rule 5).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::{Clock, Device, DeviceGeometry, Metrics, Purpose};
use crate::error::{Error, IoOperation, Result};

/// A device together with its metrics, its clock and its poison.
///
/// Invariant: once poisoned, no write, flush, discard or preallocation reaches the device through this port.
#[derive(Debug)]
pub struct Port {
    device: Arc<dyn Device>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    poison: OnceLock<Arc<Error>>,
    read_only: bool,
    /// What short direct writes of the caller took of late.
    recent_short: Recent,
    /// The same of longer ones into a cache, for as many bytes as a short one has at most.
    recent_long: Recent,
    /// What starting the writeback of either took.
    recent_writeback: Recent,
}

/// A direct write of more bytes than this says nothing of what a short one takes.
const SHORT_WRITE_BYTES: usize = 16 << 10;
/// What one of more bytes than this takes is not known.
const LONG_WRITE_BYTES: usize = 128 << 10;
/// The most that either can be the last piece of, for the medium to begin with.
const MOST_BEHIND_WRITE: u64 = 192 << 10;

impl Port {
    /// Wraps a device; with `read_only`, nothing that changes it passes.
    #[must_use]
    pub fn new(device: Arc<dyn Device>, clock: Arc<dyn Clock>, read_only: bool) -> Self {
        let read_only = read_only || device.is_read_only();
        Self {
            device,
            clock,
            metrics: Metrics::default(),
            poison: OnceLock::new(),
            read_only,
            recent_short: Recent::default(),
            recent_long: Recent::default(),
            recent_writeback: Recent::default(),
        }
    }

    /// Length and block sizes of the device.
    #[must_use]
    pub fn geometry(&self) -> DeviceGeometry {
        self.device.geometry()
    }

    /// The clock that was injected.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Counters over everything that passed.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether calls may wait for hardware.
    #[must_use]
    pub fn may_block(&self) -> bool {
        self.device.may_block()
    }

    /// Whether a write takes a processor and, as a rule, no waiting.
    #[must_use]
    pub fn writes_into_cache(&self) -> bool {
        self.device.writes_into_cache()
    }

    /// Whether writes are refused.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Tells the device where the journal lies, of which nothing is read any more.
    pub fn dedicate_to_journal(&self, ring: std::ops::Range<u64>) {
        self.device.dedicate_to_journal(ring);
    }

    fn check_writable(&self) -> Result<()> {
        self.check_poison()?;
        if self.read_only { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// Stops all writing through this port, for ever. The first cause is kept.
    pub fn poison(&self, cause: Error) -> Arc<Error> {
        let cause = self.poison.get_or_init(|| {
            tracing::error!(%cause, "the store stopped");
            Arc::new(cause)
        });
        Arc::clone(cause)
    }

    /// The error that every call gets once the port is poisoned.
    pub fn check_poison(&self) -> Result<()> {
        match self.poison.get() {
            None => Ok(()),
            Some(cause) => Err(Error::Poisoned { cause: Arc::clone(cause) }),
        }
    }

    /// Reads `buf.len()` bytes at `offset`.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let start = self.clock.monotonic();
        self.device
            .read_at(offset, buf)
            .map_err(|e| Error::io(IoOperation::Read, offset, buf.len() as u64, e))?;
        self.metrics.count_read(buf.len(), self.clock.monotonic().saturating_sub(start));
        Ok(())
    }

    /// Reads `len` bytes at `offset` into a new buffer.
    pub fn read_vec(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut buf = vec![0; len];
        self.read(offset, &mut buf)?;
        Ok(buf)
    }

    /// The same, if that takes no waiting for the medium.
    #[must_use]
    pub fn read_vec_at_once(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
        let start = self.clock.monotonic();
        let mut buf = vec![0; len];
        if !self.device.read_at_once(offset, &mut buf) {
            return None;
        }
        self.metrics.count_read(len, self.clock.monotonic().saturating_sub(start));
        Some(buf)
    }

    /// Writes all of `data` at `offset`.
    pub fn write(&self, offset: u64, data: &[u8], purpose: Purpose) -> Result<()> {
        self.check_writable()?;
        let start = self.clock.monotonic();
        self.device
            .write_at(offset, data, purpose)
            .map_err(|e| Error::io(IoOperation::Write, offset, data.len() as u64, e))?;
        let took = self.clock.monotonic().saturating_sub(start);
        self.metrics.count_write(data.len(), took);
        if purpose == Purpose::CallerDirect
            && let Some((recent, pieces)) = self.recent(data.len())
        {
            recent.note(took / pieces);
        }
        Ok(())
    }

    /// Has the medium begin with what was written in the range, so that the next flush, which tells what went wrong, has less to wait
    /// for.
    pub fn start_writeback(&self, offset: u64, len: u64) {
        if self.check_writable().is_ok() {
            let start = self.clock.monotonic();
            self.device.start_writeback(offset, len);
            if len <= MOST_BEHIND_WRITE {
                self.recent_writeback.note(self.clock.monotonic().saturating_sub(start));
            }
        }
    }

    /// The same, and waits for it. An error means that anything may be lost that was written.
    pub fn finish_writeback(&self, offset: u64, len: u64) -> Result<()> {
        self.check_writable()?;
        self.device.finish_writeback(offset, len).map_err(|e| Error::io(IoOperation::Flush, offset, len, e))
    }

    /// What a direct write of so many bytes is expected to take, and the start of its writeback, when that is known: it goes into
    /// a cache, or it does not.
    #[must_use]
    pub fn expected_direct_write(&self, bytes: usize) -> Option<Duration> {
        let (recent, pieces) = self.recent(bytes)?;
        let write = recent.get()?.checked_mul(pieces)?;
        write.checked_add(self.recent_writeback.get().unwrap_or_default())
    }

    /// What says how long a direct write of so many bytes takes, and how many times that is. A cache takes as long for each piece of a long
    /// one; a medium may take any time.
    fn recent(&self, bytes: usize) -> Option<(&Recent, u32)> {
        if bytes <= SHORT_WRITE_BYTES {
            return Some((&self.recent_short, 1));
        }
        if bytes > LONG_WRITE_BYTES || !self.writes_into_cache() {
            return None;
        }
        let pieces = u32::try_from(bytes.div_ceil(SHORT_WRITE_BYTES)).ok()?;
        Some((&self.recent_long, pieces))
    }

    /// Makes every completed write durable.
    pub fn flush(&self) -> Result<()> {
        self.check_writable()?;
        let start = self.clock.monotonic();
        self.device.flush().map_err(|e| Error::io(IoOperation::Flush, 0, 0, e))?;
        self.metrics.count_flush(self.clock.monotonic().saturating_sub(start));
        Ok(())
    }

    /// Declares the range unused.
    pub fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.check_writable()?;
        self.device.discard(offset, len).map_err(|e| Error::io(IoOperation::Discard, offset, len, e))
    }

    /// Reserves physical space for the range.
    pub fn preallocate(&self, offset: u64, len: u64) -> Result<()> {
        self.check_writable()?;
        self.device.preallocate(offset, len).map_err(|e| Error::io(IoOperation::Preallocate, offset, len, e))
    }
}

/// What calls took of late, in nanoseconds; for ever, before the first.
#[derive(Debug)]
struct Recent(AtomicU64);

impl Default for Recent {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Recent {
    /// Takes a call into account for what is expected of the next. One that is lost between two threads changes nothing that
    /// matters.
    fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let recent = self.0.load(Ordering::Relaxed);
        let next = if recent == u64::MAX { took } else { recent - recent / 8 + took / 8 };
        self.0.store(next, Ordering::Relaxed);
    }

    fn get(&self) -> Option<Duration> {
        let recent = self.0.load(Ordering::Relaxed);
        (recent != u64::MAX).then(|| Duration::from_nanos(recent))
    }
}
