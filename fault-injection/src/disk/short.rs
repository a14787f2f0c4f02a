//! A disk whose calls do less than they are asked for: short counts, interruptions, "try again" (F13).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use freehold::device::{Device, DeviceGeometry, PositionedIo, Purpose, read_full, write_full};

use super::SimDisk;

/// What a call does instead of the whole transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hiccup {
    /// So many bytes are transferred, at least one.
    Short(usize),
    /// `EINTR`.
    Interrupted,
    /// `EAGAIN`.
    WouldBlock,
}

/// A simulated disk behind system calls that are not always kind. Whole transfers come from the product's own loop.
#[derive(Debug)]
pub struct ShortTransfers {
    disk: Arc<SimDisk>,
    hiccup: Hiccup,
    /// The calls that are met: this one, counted from 0, or all but every third when there is none.
    nth: Option<u64>,
    calls: AtomicU64,
}

/// One positioned call; what it is for goes into the trace.
struct Call<'a> {
    of: &'a ShortTransfers,
    purpose: Purpose,
}

impl ShortTransfers {
    /// The calls of `disk`, of which the `nth`, counted from 0, meets the hiccup; without a number, two of three do.
    #[must_use]
    pub const fn new(disk: Arc<SimDisk>, hiccup: Hiccup, nth: Option<u64>) -> Self {
        Self { disk, hiccup, nth, calls: AtomicU64::new(0) }
    }

    /// Positioned calls so far, those that met a hiccup included.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// How much of a call is done.
    fn admit(&self, wanted: usize) -> io::Result<usize> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let met = self.nth.map_or(number % 3 != 2, |nth| nth == number);
        match self.hiccup {
            _ if !met => Ok(wanted),
            Hiccup::Short(bytes) => Ok(wanted.min(bytes.max(1))),
            Hiccup::Interrupted => Err(io::ErrorKind::Interrupted.into()),
            Hiccup::WouldBlock => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl PositionedIo for Call<'_> {
    fn read_some(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.of.admit(buf.len())?;
        let (part, _) = buf.split_at_mut(count);
        self.of.disk.read_at(offset, part).map(|()| count)
    }

    fn write_some(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        let count = self.of.admit(data.len())?;
        let (part, _) = data.split_at(count);
        self.of.disk.write_at(offset, part, self.purpose).map(|()| count)
    }
}

impl Device for ShortTransfers {
    fn geometry(&self) -> DeviceGeometry {
        self.disk.geometry()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        read_full(&Call { of: self, purpose: Purpose::CallerDirect }, offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8], purpose: Purpose) -> io::Result<()> {
        write_full(&Call { of: self, purpose }, offset, data)
    }

    fn flush(&self) -> io::Result<()> {
        self.disk.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.disk.discard(offset, len)
    }

    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.disk.preallocate(offset, len)
    }

    fn may_block(&self) -> bool {
        false
    }

    fn is_read_only(&self) -> bool {
        self.disk.is_read_only()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_transfers_come_out_of_pieces() {
        for hiccup in [Hiccup::Short(1), Hiccup::Short(300), Hiccup::Interrupted, Hiccup::WouldBlock] {
            for nth in [None, Some(0), Some(1)] {
                let disk = Arc::new(SimDisk::zeroed(64 << 10, 512, 512));
                let short = ShortTransfers::new(Arc::clone(&disk), hiccup, nth);
                let data: Vec<u8> = (0..=255).cycle().take(2000).collect();
                short.write_at(1000, &data, Purpose::Journal).unwrap();
                let mut back = vec![0; 2000];
                short.read_at(1000, &mut back).unwrap();
                assert_eq!(back, data);
                assert!(short.calls() > 2, "{hiccup:?} {nth:?}");
                assert!(disk.trace().events().iter().all(|event| event.purpose() == Some(Purpose::Journal)));
            }
        }
    }
}
