//! Floor 2: the seam through which every byte passes.
//!
//! [`Device`] is implemented by [`FileDevice`] for regular files and block devices, by [`MemoryDevice`], and by the simulated disk of the
//! fault-injection crate. The engine never touches a device directly: it goes through a [`Port`], which counts, times
//! and, after a failed write or flush, lets nothing more pass.

mod aligned;
mod clock;
mod detect;
mod file;
mod lock;
mod memory;
mod metrics;
mod port;
mod seekable;

pub use aligned::AlignedBuf;
pub use clock::{Clock, ManualClock, SystemClock};
pub use detect::{detect_media, detect_medium};
pub use file::transfer::{PositionedIo, read_full, write_full};
pub use file::{FileDevice, FileDeviceOptions};
pub use memory::MemoryDevice;
pub use metrics::{DeviceMetrics, Metrics};
pub use port::Port;
pub use seekable::{ErrorLatch, SeekableDevice, read_through, write_through};

use std::fmt;
use std::io;
use std::ops::Range;

/// What a device is made of. All sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceGeometry {
    /// Length of the device.
    pub len_bytes: u64,
    /// Logical block size: direct I/O is aligned to it, and a power cut tears writes at it.
    pub sector_bytes: u32,
    /// Physical block size: what the medium rewrites as a whole. At least a sector.
    pub physical_block_bytes: u32,
}

/// What a write is for. It changes nothing about the write; traces, metrics and fault injection read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Purpose {
    /// Clearing or filling space while formatting.
    Format,
    /// One superblock copy.
    Superblock,
    /// The note of the last durable LSN.
    Witness,
    /// A group in the journal ring.
    Journal,
    /// A metadata block (allocator state, segment records, bitmap, page headers), into its unused slot.
    Metadata,
    /// A block of the checksum tree, into its unused slot.
    ChecksumTree,
    /// A journaled block of the caller, written in place by a checkpoint.
    CallerCheckpoint,
    /// The caller's own data, written directly.
    CallerDirect,
}

/// A file, a block device, or something that behaves like one.
///
/// Calls block. Implementations transfer the whole range or fail: short transfers and interruptions are handled
/// inside. A successful [`flush`](Device::flush) makes every write that had completed before the call durable; a
/// failed one says nothing about any of them, and is never repeated by the engine. Flushes may overlap: of a write that is lost
/// each of them tells that covers it.
pub trait Device: Send + Sync + fmt::Debug + 'static {
    /// Length and block sizes. Constant while the device is open.
    fn geometry(&self) -> DeviceGeometry;

    /// Fills `buf` from `offset`. Reading past the end is [`io::ErrorKind::UnexpectedEof`].
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Does what [`read_at`](Device::read_at) does, if that takes no waiting for the medium. `false` if it would, or if the device
    /// cannot tell, and after an error: `buf` is in any state then, and `read_at` has the answer.
    fn read_at_once(&self, _offset: u64, _buf: &mut [u8]) -> bool {
        false
    }

    /// Writes all of `data` at `offset`. Durable only after the next successful [`flush`](Device::flush).
    fn write_at(&self, offset: u64, data: &[u8], purpose: Purpose) -> io::Result<()>;

    /// Has the medium begin with what was written in the range and is in a cache, without waiting for it. It saves the next
    /// [`flush`](Device::flush) time, and makes nothing durable. What goes wrong is an error of all flushes that are under way or come
    /// later.
    fn start_writeback(&self, _offset: u64, _len: u64) {}

    /// Does the same, and waits for it. An error is like one of a flush: anything that was written may be lost.
    fn finish_writeback(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    /// Makes all completed writes durable (data, and what is needed to read it back).
    fn flush(&self) -> io::Result<()>;

    /// Tells the device that the range holds nothing of value. Its contents are undefined afterwards.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Makes sure that later writes to the range cannot fail for want of space. Contents are kept.
    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()>;

    /// From now on nothing is written in this range but groups of the journal ([`Purpose::Journal`]), one at a time, each made
    /// durable before the next; nobody reads them. A device that has a quicker way for that may take it.
    fn dedicate_to_journal(&self, _ring: Range<u64>) {}

    /// Whether calls may wait for hardware. The engine moves such calls off the asynchronous tasks; calls of a device
    /// in memory run where they are made, without threads or timers.
    fn may_block(&self) -> bool {
        true
    }

    /// Whether a write is done when a cache in memory has it, so that it takes a processor and, as a rule, no waiting. Constant while the
    /// device is open.
    ///
    /// On a runtime of several threads the engine makes such writes where they are asked for, if those of late took less than 100
    /// microseconds (for as many bytes): another thread could do it no sooner. Others are made there only if they are short,
    /// and quicker than the way to another thread.
    fn writes_into_cache(&self) -> bool {
        false
    }

    /// Whether the device refuses writes.
    fn is_read_only(&self) -> bool {
        false
    }
}
