//! A device in memory whose flush waits behind a gate.

#![allow(clippy::unwrap_used, dead_code, reason = "for tests, of which none uses all")]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use freehold::device::{Device, DeviceGeometry, MemoryDevice, Purpose};
use freehold::{AllocRequest, Allocator, Extent};

/// Longer than anything takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Whether it is shut, and how many wait before it.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        // A test that has failed may never open it.
        let opened = self.changed.wait_timeout_while(state, 2 * PATIENCE, |(shut, _)| *shut);
        opened.unwrap().0.1 -= 1;
    }

    pub(crate) fn set(&self, shut: bool) {
        self.state.lock().unwrap().0 = shut;
        self.changed.notify_all();
    }

    pub(crate) fn wait_for_somebody(&self) {
        let state = self.state.lock().unwrap();
        let (guard, waited) =
            self.changed.wait_timeout_while(state, PATIENCE, |(_, waiting)| *waiting == 0).unwrap();
        drop(guard);
        assert!(!waited.timed_out(), "nothing is flushed");
    }
}

#[derive(Debug)]
pub(crate) struct Gated {
    pub(crate) device: MemoryDevice,
    pub(crate) gate: Gate,
    /// The purposes of writes and, as `None`, flushes that have ended, in order.
    pub(crate) done: Mutex<Vec<Option<Purpose>>>,
    /// The threads on which groups were written.
    pub(crate) writers: Mutex<Vec<ThreadId>>,
    /// What each flush takes.
    pub(crate) flush_micros: AtomicU64,
    /// Offset and length of what the medium was to begin with.
    pub(crate) begun: Mutex<Vec<(u64, u64)>>,
    /// The same of what it had to end with.
    pub(crate) ended: Mutex<Vec<(u64, u64)>>,
    /// What each of these takes.
    pub(crate) writeback_micros: AtomicU64,
    /// Flushes that begin from now on fail.
    pub(crate) fails: AtomicBool,
}

impl Device for Gated {
    fn geometry(&self) -> DeviceGeometry {
        self.device.geometry()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.device.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8], purpose: Purpose) -> io::Result<()> {
        self.device.write_at(offset, data, purpose)?;
        self.done.lock().unwrap().push(Some(purpose));
        if purpose == Purpose::Journal {
            self.writers.lock().unwrap().push(std::thread::current().id());
        }
        Ok(())
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        self.begun.lock().unwrap().push((offset, len));
    }

    fn finish_writeback(&self, offset: u64, len: u64) -> io::Result<()> {
        self.ended.lock().unwrap().push((offset, len));
        std::thread::sleep(Duration::from_micros(self.writeback_micros.load(Ordering::Relaxed)));
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let fails = self.fails.load(Ordering::Relaxed);
        // What comes while the gate is shut is not covered.
        self.device.flush()?;
        self.done.lock().unwrap().push(None);
        std::thread::sleep(Duration::from_micros(self.flush_micros.load(Ordering::Relaxed)));
        self.gate.pass();
        if fails { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.device.discard(offset, len)
    }

    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.device.preallocate(offset, len)
    }

    fn may_block(&self) -> bool {
        true
    }
}

impl Gated {
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            device: MemoryDevice::zeroed(bytes),
            gate: Gate::default(),
            done: Mutex::default(),
            writers: Mutex::default(),
            flush_micros: AtomicU64::new(0),
            begun: Mutex::default(),
            ended: Mutex::default(),
            writeback_micros: AtomicU64::new(0),
            fails: AtomicBool::new(false),
        }
    }
}

/// An extent whose blocks the next checkpoint writes in place.
pub(crate) async fn journaled_blocks(store: &Allocator, blocks: u64) -> Extent {
    let mut txn = store.begin();
    let extent = txn.alloc(AllocRequest::bytes(blocks << 12).owner(1)).await.unwrap();
    for block in 0..blocks {
        txn.write(&extent, block << 12, b"x").await.unwrap();
    }
    txn.commit().await.unwrap();
    extent
}
