//! The journal ring: positions only grow; modulo the ring's size they are places on the device.

use std::ops::Range;

use tokio::sync::Semaphore;

use crate::device::{Port, Purpose};
use crate::error::{Error, Result};
use crate::format::Layout;

/// How much of the ring is read at a time, unless more is asked for.
const WINDOW_BYTES: u64 = 256 << 10;

/// Reads and writes of the ring, wrapping at its end.
#[derive(Debug)]
pub struct Ring<'a> {
    port: &'a Port,
    layout: &'a Layout,
    /// What was read last, and from which position on.
    window: Vec<u8>,
    window_position: Option<u64>,
    bytes_read: u64,
}

impl<'a> Ring<'a> {
    /// The ring of a store.
    #[must_use]
    pub fn new(port: &'a Port, layout: &'a Layout) -> Self {
        Self { port, layout, window: Vec::new(), window_position: None, bytes_read: 0 }
    }

    /// Offset on the device of a position.
    #[must_use]
    pub fn offset(&self, position: u64) -> u64 {
        self.layout.ring_offset() + position % self.layout.ring_bytes()
    }

    /// Writes a sealed group at its position; in two parts when it wraps.
    pub fn write(&self, position: u64, group: &[u8]) -> Result<()> {
        let ring_bytes = self.layout.ring_bytes();
        let until_end = usize::try_from(ring_bytes - position % ring_bytes).unwrap_or(usize::MAX);
        let (front, wrapped) = group.split_at_checked(until_end).unwrap_or((group, &[]));
        self.port.write(self.offset(position), front, Purpose::Journal)?;
        if !wrapped.is_empty() {
            self.port.write(self.layout.ring_offset(), wrapped, Purpose::Journal)?;
        }
        Ok(())
    }

    /// Bytes given out by [`read`](Self::read) so far.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// The `len` bytes at a position, at most the ring's size. They stay until something else is read.
    pub fn read(&mut self, position: u64, len: u64) -> Result<&[u8]> {
        self.bytes_read += len;
        if self.held(position, len).is_none() {
            self.load(position, len)?;
        }
        let held = self.held(position, len).and_then(|range| self.window.get(range));
        held.ok_or(Error::Internal("more was asked for than the ring has"))
    }

    /// Whether these bytes are in memory, so that nothing else has to make room for them.
    pub(super) fn holds(&self, position: u64, len: u64) -> bool {
        self.held(position, len).is_some()
    }

    /// Where in the window these bytes are.
    fn held(&self, position: u64, len: u64) -> Option<Range<usize>> {
        let start = usize::try_from(position.checked_sub(self.window_position?)?).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        (end <= self.window.len()).then_some(start..end)
    }

    /// Takes what is in memory, with its position.
    pub(super) fn take_window(&mut self) -> (u64, Vec<u8>) {
        (self.window_position.take().unwrap_or(0), std::mem::take(&mut self.window))
    }

    /// Gives back what was taken, now or earlier: what is still wanted of it is not read again, and the next window goes into
    /// its place.
    pub(super) fn put_back(&mut self, position: u64, window: Vec<u8>) {
        (self.window_position, self.window) = (Some(position), window);
    }

    fn load(&mut self, position: u64, len: u64) -> Result<()> {
        let ring_bytes = self.layout.ring_bytes();
        let until_end = ring_bytes - position % ring_bytes;
        // Only what was asked for goes over the end of the ring.
        let len = len.max(WINDOW_BYTES.min(until_end));
        // Nothing counts if the device fails.
        self.window_position = None;
        self.window.resize(usize::try_from(len).unwrap_or(0), 0);
        let offset = self.offset(position);
        let middle = usize::try_from(until_end.min(len)).unwrap_or(0);
        let (front, wrapped) = self.window.split_at_mut(middle);
        self.port.read(offset, front)?;
        if !wrapped.is_empty() {
            self.port.read(self.layout.ring_offset(), wrapped)?;
        }
        self.window_position = Some(position);
        Ok(())
    }
}

/// A claim on ring space, given back when dropped unless a group takes it over.
#[derive(Debug)]
pub struct RingPermit<'a> {
    space: &'a Semaphore,
    granules: usize,
}

impl<'a> RingPermit<'a> {
    pub(super) fn new(space: &'a Semaphore, granules: usize) -> Self {
        Self { space, granules }
    }

    /// Hands the claim over; it must be given back by other means.
    pub(super) fn take(mut self) -> usize {
        std::mem::take(&mut self.granules)
    }
}

impl Drop for RingPermit<'_> {
    fn drop(&mut self) {
        if self.granules > 0 {
            self.space.add_permits(self.granules);
        }
    }
}
