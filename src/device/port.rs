//! The engine's own door to the device: context for errors, metrics, and the poison latch (rule 5).

use std::sync::{Arc, OnceLock};

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
}

impl Port {
    /// Wraps a device; with `read_only`, nothing that changes it passes.
    #[must_use]
    pub fn new(device: Arc<dyn Device>, clock: Arc<dyn Clock>, read_only: bool) -> Self {
        let read_only = read_only || device.is_read_only();
        Self { device, clock, metrics: Metrics::default(), poison: OnceLock::new(), read_only }
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

    /// Whether writes are refused.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only
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

    /// Writes all of `data` at `offset`.
    pub fn write(&self, offset: u64, data: &[u8], purpose: Purpose) -> Result<()> {
        self.check_writable()?;
        let start = self.clock.monotonic();
        self.device
            .write_at(offset, data, purpose)
            .map_err(|e| Error::io(IoOperation::Write, offset, data.len() as u64, e))?;
        self.metrics.count_write(data.len(), self.clock.monotonic().saturating_sub(start));
        Ok(())
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
