//! A door before a disk that counts what is read, has a limit, and can answer one read from elsewhere.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use freehold::device::{Device, DeviceGeometry, Purpose};

use crate::disk::CowDisk;

/// Counts reads. A read beyond the limit fails with a message that no disk gives.
#[derive(Debug)]
pub(super) struct Metered {
    disk: Arc<CowDisk>,
    reads: AtomicU64,
    bytes: AtomicU64,
    limit_bytes: u64,
    /// Number of the read that is answered from elsewhere, counted from 0, and where from.
    misdirected: Option<(u64, u64)>,
    /// Offset and length of each read, if they are kept.
    places: Option<Mutex<Vec<(u64, u64)>>>,
}

impl Metered {
    /// Lets so many bytes be read.
    pub(super) const fn limited(disk: Arc<CowDisk>, limit_bytes: u64) -> Self {
        Self {
            disk,
            reads: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            limit_bytes,
            misdirected: None,
            places: None,
        }
    }

    /// Keeps where reads go.
    pub(super) fn recording(disk: Arc<CowDisk>) -> Self {
        Self { places: Some(Mutex::new(Vec::new())), ..Self::limited(disk, u64::MAX) }
    }

    /// Answers a read from elsewhere.
    pub(super) fn misdirecting(disk: Arc<CowDisk>, nth: u64, from: u64) -> Self {
        Self { misdirected: Some((nth, from)), ..Self::limited(disk, u64::MAX) }
    }

    /// Whether more was read than may be.
    pub(super) fn is_over(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.limit_bytes
    }

    /// Offset and length of the reads so far.
    pub(super) fn places(&self) -> Vec<(u64, u64)> {
        let places =
            self.places.as_ref().map(|places| places.lock().unwrap_or_else(PoisonError::into_inner).clone());
        places.unwrap_or_default()
    }
}

impl Device for Metered {
    fn geometry(&self) -> DeviceGeometry {
        self.disk.geometry()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let len = buf.len() as u64;
        let number = self.reads.fetch_add(1, Ordering::Relaxed);
        let before = self.bytes.fetch_add(len, Ordering::Relaxed);
        if before.saturating_add(len) > self.limit_bytes {
            return Err(io::Error::other("too much is read"));
        }
        if let Some(places) = &self.places {
            places.lock().unwrap_or_else(PoisonError::into_inner).push((offset, len));
        }
        let offset = match self.misdirected {
            Some((nth, from)) if nth == number => from.min(self.geometry().len_bytes.saturating_sub(len)),
            _ => offset,
        };
        self.disk.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8], purpose: Purpose) -> io::Result<()> {
        self.disk.write_at(offset, data, purpose)
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
