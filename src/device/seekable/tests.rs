use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::device::{Device, DeviceGeometry, ManualClock};

/// Memory that may fail, and that may hold a call until it is told to go on.
#[derive(Debug)]
struct Memory {
    bytes: Mutex<Vec<u8>>,
    failing: AtomicBool,
    blocking: bool,
    hold: Option<Mutex<mpsc::Receiver<()>>>,
}

impl Memory {
    fn new(blocking: bool) -> Self {
        Self { bytes: Mutex::new(vec![7; 4096]), failing: AtomicBool::new(false), blocking, hold: None }
    }

    fn enter(&self) -> io::Result<()> {
        if let Some(hold) = &self.hold {
            let _ = hold.lock().unwrap().recv();
        }
        if self.failing.load(Ordering::SeqCst) { Err(io::Error::other("broken")) } else { Ok(()) }
    }
}

impl Device for Memory {
    fn geometry(&self) -> DeviceGeometry {
        DeviceGeometry { len_bytes: 4096, sector_bytes: 512, physical_block_bytes: 4096 }
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.enter()?;
        let start = usize::try_from(offset).unwrap();
        buf.copy_from_slice(&self.bytes.lock().unwrap()[start..start + buf.len()]);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8], purpose: Purpose) -> io::Result<()> {
        assert_eq!(purpose, Purpose::CallerDirect);
        self.enter()?;
        let start = usize::try_from(offset).unwrap();
        self.bytes.lock().unwrap()[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.enter()
    }

    fn discard(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn preallocate(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn may_block(&self) -> bool {
        self.blocking
    }
}

fn port(device: Memory) -> (Arc<Memory>, Arc<Port>) {
    let device = Arc::new(device);
    let port = Port::new(Arc::clone(&device) as Arc<dyn Device>, Arc::new(ManualClock::default()), false);
    (device, Arc::new(port))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// Counts how often it was dropped.
struct Guard(Arc<AtomicUsize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

async fn round_trip(blocking: bool) {
    let (_, port) = port(Memory::new(blocking));
    let dropped = Arc::new(AtomicUsize::new(0));
    let written = Arc::new(AtomicUsize::new(0));
    let hook = {
        let (written, dropped) = (Arc::clone(&written), Arc::clone(&dropped));
        move || {
            assert_eq!(dropped.load(Ordering::SeqCst), 0, "the guard is held while the hook runs");
            written.fetch_add(1, Ordering::SeqCst);
        }
    };
    write_through(Arc::clone(&port), 10, &[1, 2, 3], false, Guard(Arc::clone(&dropped)), hook).await.unwrap();
    assert_eq!((written.load(Ordering::SeqCst), dropped.load(Ordering::SeqCst)), (1, 1));

    let read = read_through(port, 9, 5, Guard(Arc::clone(&dropped))).await.unwrap();
    assert_eq!(read, [7, 1, 2, 3, 7]);
    assert_eq!(dropped.load(Ordering::SeqCst), 2);
}

#[test]
fn bytes_go_through_with_and_without_threads() {
    runtime().block_on(round_trip(true));
    runtime().block_on(round_trip(false));
    // No runtime at all.
    round_trip(true).now_or_never().unwrap();
}

#[test]
fn a_failure_is_an_error_and_never_data() {
    for blocking in [true, false] {
        let (device, port) = port(Memory::new(blocking));
        device.failing.store(true, Ordering::SeqCst);
        runtime().block_on(async {
            let error = read_through(Arc::clone(&port), 0, 16, ()).await.unwrap_err();
            assert!(matches!(error, Error::Io { operation: IoOperation::Read, len: 16, .. }), "{error}");
            let hook = || panic!("nothing was written");
            let error = write_through(Arc::clone(&port), 3, &[1], false, (), hook).await.unwrap_err();
            assert!(
                matches!(error, Error::Io { operation: IoOperation::Write, offset: 3, len: 1, .. }),
                "{error}"
            );
            // The error of a direct call is an error of that call only.
            device.failing.store(false, Ordering::SeqCst);
            assert_eq!(read_through(Arc::clone(&port), 0, 2, ()).await.unwrap(), [7, 7]);
            device.failing.store(true, Ordering::SeqCst);
        });
    }
}

#[test]
fn the_latch_keeps_the_first_error_and_gives_it_once() {
    let (device, port) = port(Memory::new(true));
    device.failing.store(true, Ordering::SeqCst);
    let (call, latch) = SeekableDevice::new(port, (), || {});
    assert_eq!(call.read_at_sync(0, 8).len(), 8);
    call.write_at_sync(0, &[1]);
    call.sync_data_sync();
    assert!(matches!(latch.take(), Err(Error::Io { operation: IoOperation::Read, .. })));
    latch.take().unwrap();
    call.sync_data_sync();
    assert!(matches!(latch.take(), Err(Error::Io { operation: IoOperation::Flush, .. })));
}

#[test]
fn the_guard_outlives_an_abandoned_future() {
    // Before the channel: when an assertion fails, the call must be let go before the runtime waits for it.
    let runtime = runtime();
    let (go_on, hold) = mpsc::channel();
    let mut memory = Memory::new(true);
    memory.hold = Some(Mutex::new(hold));
    let (device, port) = port(memory);
    let dropped = Arc::new(AtomicUsize::new(0));
    let guard = Guard(Arc::clone(&dropped));
    runtime.block_on(async {
        let call = write_through(port, 0, &[9], false, guard, || {});
        assert!(tokio::time::timeout(Duration::from_millis(20), call).await.is_err());
    });
    assert_eq!(dropped.load(Ordering::SeqCst), 0, "the write is still under way");
    go_on.send(()).unwrap();
    // Waits for the threads for blocking calls.
    drop(runtime);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    assert_eq!(device.bytes.lock().unwrap()[0], 9);
}

#[test]
fn a_runtime_that_shut_down_is_an_error_and_not_a_panic() {
    let (_, port) = port(Memory::new(true));
    let dropped = Arc::new(AtomicUsize::new(0));
    let runtime = runtime();
    let handle = runtime.handle().clone();
    drop(runtime);
    let _context = handle.enter();
    let write = write_through(Arc::clone(&port), 0, &[9], false, Guard(Arc::clone(&dropped)), || {});
    let read = read_through(port, 0, 1, Guard(Arc::clone(&dropped)));
    for error in [write.now_or_never().unwrap().unwrap_err(), read.now_or_never().unwrap().unwrap_err()] {
        let Error::Io { source, .. } = error else { panic!("unexpected {error}") };
        assert_eq!(source.kind(), io::ErrorKind::Interrupted);
    }
    assert_eq!(dropped.load(Ordering::SeqCst), 2);
}

#[test]
fn the_futures_can_move_between_threads() {
    fn assert_send<T: Send>(_: &T) {}
    let (_, port) = port(Memory::new(false));
    assert_send(&read_through(Arc::clone(&port), 0, 1, ()));
    assert_send(&write_through(port, 0, &[], false, (), || {}));
}

#[test]
fn a_write_is_made_in_place_when_asked_for() {
    let (_, port) = port(Memory::new(true));
    for in_place in [true, false] {
        let thread = Arc::new(Mutex::new(None));
        let hook = {
            let thread = Arc::clone(&thread);
            move || *thread.lock().unwrap() = Some(std::thread::current().id())
        };
        runtime().block_on(write_through(Arc::clone(&port), 0, &[1], in_place, (), hook)).unwrap();
        assert_eq!(thread.lock().unwrap().unwrap() == std::thread::current().id(), in_place);
    }
}
