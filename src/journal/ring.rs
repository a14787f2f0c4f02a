//! The journal ring: positions only grow; modulo the ring's size they are places on the device.

use tokio::sync::Semaphore;

use crate::device::{Port, Purpose};
use crate::error::Result;
use crate::format::Layout;

/// Size of the chunks in which the ring is read.
const READ_CHUNK_BYTES: u64 = 256 << 10;

/// Reads and writes of the ring, wrapping at its end.
#[derive(Debug)]
pub struct Ring<'a> {
    port: &'a Port,
    layout: &'a Layout,
    chunk: Vec<u8>,
    chunk_place: u64,
    bytes_read: u64,
}

impl<'a> Ring<'a> {
    /// The ring of a store.
    #[must_use]
    pub fn new(port: &'a Port, layout: &'a Layout) -> Self {
        Self { port, layout, chunk: Vec::new(), chunk_place: 0, bytes_read: 0 }
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

    /// Reads `len` bytes from a position; `len` is at most the ring's size.
    pub fn read(&mut self, position: u64, len: u64) -> Result<Vec<u8>> {
        self.bytes_read += len;
        let ring_bytes = self.layout.ring_bytes();
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
        let mut place = position % ring_bytes;
        while (bytes.len() as u64) < len {
            self.load(place)?;
            let start = usize::try_from(place - self.chunk_place).unwrap_or(usize::MAX);
            let wanted = usize::try_from(len).unwrap_or(usize::MAX) - bytes.len();
            let chunk = self.chunk.get(start..).unwrap_or(&[]);
            let taken = chunk.get(..wanted).unwrap_or(chunk);
            bytes.extend_from_slice(taken);
            place = (place + taken.len() as u64) % ring_bytes;
        }
        Ok(bytes)
    }

    fn load(&mut self, place: u64) -> Result<()> {
        if (self.chunk_place..self.chunk_place + self.chunk.len() as u64).contains(&place) {
            return Ok(());
        }
        let start = place / READ_CHUNK_BYTES * READ_CHUNK_BYTES;
        let len = (self.layout.ring_bytes() - start).min(READ_CHUNK_BYTES);
        self.chunk =
            self.port.read_vec(self.layout.ring_offset() + start, usize::try_from(len).unwrap_or(0))?;
        self.chunk_place = start;
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
