//! A device in memory whose flushes and direct writes move the clock by hand, and that notes which threads call it.

#![allow(clippy::unwrap_used, dead_code, reason = "for tests, of which none uses all")]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use freehold::device::{Device, DeviceGeometry, ManualClock, MemoryDevice, Purpose};
use freehold::{Allocator, FormatOptions, OpenOptions};

#[derive(Debug)]
pub(crate) struct Timed {
    pub(crate) device: MemoryDevice,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) flush_micros: AtomicU64,
    pub(crate) writers: Mutex<Vec<ThreadId>>,
    pub(crate) flushers: Mutex<Vec<ThreadId>>,
    /// Whether reads need no waiting, how many were made so, and on which threads the others.
    pub(crate) at_hand: AtomicBool,
    pub(crate) read_at_once: AtomicU64,
    pub(crate) readers: Mutex<Vec<ThreadId>>,
    /// What a direct write takes, on which threads they are made, and whether they go into a cache.
    pub(crate) direct_micros: AtomicU64,
    pub(crate) direct: Mutex<Vec<ThreadId>>,
    pub(crate) caches: AtomicBool,
    /// One in eight of them takes this much longer.
    pub(crate) stall_micros: AtomicU64,
}

impl Device for Timed {
    fn geometry(&self) -> DeviceGeometry {
        self.device.geometry()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.readers.lock().unwrap().push(std::thread::current().id());
        self.device.read_at(offset, buf)
    }

    fn read_at_once(&self, offset: u64, buf: &mut [u8]) -> bool {
        let at_hand = self.at_hand.load(Ordering::Relaxed);
        self.read_at_once.fetch_add(u64::from(at_hand), Ordering::Relaxed);
        at_hand && self.device.read_at(offset, buf).is_ok()
    }

    fn write_at(&self, offset: u64, data: &[u8], purpose: Purpose) -> io::Result<()> {
        if purpose == Purpose::Journal {
            self.writers.lock().unwrap().push(std::thread::current().id());
        }
        if purpose == Purpose::CallerDirect {
            let mut direct = self.direct.lock().unwrap();
            direct.push(std::thread::current().id());
            let stalls = direct.len().is_multiple_of(8);
            let stall = if stalls { self.stall_micros.load(Ordering::Relaxed) } else { 0 };
            self.clock.advance(Duration::from_micros(self.direct_micros.load(Ordering::Relaxed) + stall));
        }
        self.device.write_at(offset, data, purpose)
    }

    fn flush(&self) -> io::Result<()> {
        self.flushers.lock().unwrap().push(std::thread::current().id());
        self.clock.advance(Duration::from_micros(self.flush_micros.load(Ordering::Relaxed)));
        self.device.flush()
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

    fn writes_into_cache(&self) -> bool {
        self.caches.load(Ordering::Relaxed)
    }
}

pub(crate) async fn store(flush_micros: u64, options: OpenOptions) -> (Arc<Timed>, Allocator) {
    let clock = Arc::new(ManualClock::default());
    let device = Arc::new(Timed {
        device: MemoryDevice::zeroed(4 << 20),
        clock: Arc::clone(&clock),
        flush_micros: AtomicU64::new(flush_micros),
        writers: Mutex::default(),
        flushers: Mutex::default(),
        at_hand: AtomicBool::new(true),
        read_at_once: AtomicU64::new(0),
        readers: Mutex::default(),
        direct_micros: AtomicU64::new(5),
        direct: Mutex::default(),
        caches: AtomicBool::new(false),
        stall_micros: AtomicU64::new(0),
    });
    FormatOptions::new().format_device(Arc::clone(&device) as _).await.unwrap();
    let (store, _) = options.clock(clock).open_device(Arc::clone(&device) as _).await.unwrap();
    (device, store)
}
