//! The disk on which a crash state is recovered.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use freehold::device::{Device, DeviceGeometry, Purpose};

use super::footprint::Footprint;
use super::layer::{CowBase, Layer};
use super::trace::{Event, Trace, holes, zeroed_sectors};
use super::{checked_range, past_end, read_only, to_usize};

/// How many reads, writes and flushes a disk takes before it fails: far more than any recovery needs on so small a disk, so
/// that one that goes round in circles comes to an end.
const MOST_TRANSFERS: u64 = 1 << 20;

/// A disk in memory made of a shared image and the chunks that were changed. One is kept per worker and put on another
/// state with [`Cut::apply`](super::Cut::apply) or [`rebase`](Self::rebase); that costs what the state changes, not
/// the size of the disk.
pub struct CowDisk {
    sector_bytes: u32,
    physical_block_bytes: u32,
    state: Mutex<State>,
}

struct State {
    layer: Layer,
    trace: Option<Trace>,
    footprint: Footprint,
    follows_reads: bool,
    read_only: bool,
    rewrites: bool,
    discards: u64,
    transfers: u64,
}

impl State {
    /// Counts a read, write or flush.
    fn transfer(&mut self) -> io::Result<()> {
        self.transfers += 1;
        if self.transfers > MOST_TRANSFERS {
            return Err(io::Error::other(format!("more than {MOST_TRANSFERS} reads, writes and flushes")));
        }
        Ok(())
    }

    /// Notes, for the footprint, that a range is about to change.
    fn note_change(&mut self, range: &Range<usize>) {
        if self.follows_reads {
            self.footprint.write(&mut self.layer, range);
        }
    }

    fn record(&mut self, event: impl FnOnce() -> Event) {
        if let Some(trace) = &mut self.trace {
            trace.push(event());
        }
    }

    fn range(&self, kind: io::ErrorKind, what: &str, offset: u64, len: u64) -> io::Result<Range<usize>> {
        let disk_len = to_usize(self.layer.base().len());
        checked_range(offset, len, disk_len).ok_or_else(|| past_end(kind, what, offset, len, disk_len))
    }

    fn writable(&self, what: &str, offset: u64, len: u64) -> io::Result<Range<usize>> {
        if self.read_only {
            return Err(read_only());
        }
        self.range(io::ErrorKind::InvalidInput, what, offset, len)
    }
}

impl fmt::Debug for CowDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CowDisk")
            .field("geometry", &self.geometry())
            .field("changed_chunks", &self.changed_chunks())
            .finish()
    }
}

impl CowDisk {
    /// A disk with the content of the image. Sizes in bytes.
    #[must_use]
    pub fn new(base: Arc<CowBase>, sector_bytes: u32, physical_block_bytes: u32) -> Self {
        let state = State {
            layer: Layer::new(base),
            trace: None,
            footprint: Footprint::default(),
            follows_reads: false,
            read_only: false,
            rewrites: false,
            discards: 0,
            transfers: 0,
        };
        Self { sector_bytes, physical_block_bytes, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panicking holder leaves bytes behind, nothing that could be half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets all changes, the recording and the read-only flag.
    pub fn reset(&self) {
        let mut state = self.state();
        state.layer.clear();
        state.trace = None;
        state.footprint.clear();
        state.follows_reads = false;
        state.read_only = false;
        state.discards = 0;
        state.transfers = 0;
    }

    /// Like [`reset`](Self::reset), and goes over to another image, which may have another length.
    pub fn rebase(&self, base: &Arc<CowBase>) {
        self.reset();
        self.state().layer.rebase(base);
    }

    /// Changes bytes without a trace, as damage does.
    ///
    /// # Errors
    /// When the range passes the end of the disk.
    pub fn poke(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let range = state.range(io::ErrorKind::InvalidInput, "change", offset, data.len() as u64)?;
        state.layer.write(range.start, data);
        Ok(())
    }

    /// Runs over the layer under one lock.
    pub(super) fn with_layer<T>(&self, work: impl FnOnce(&mut Layer) -> T) -> T {
        work(&mut self.state().layer)
    }

    /// Begins a new trace.
    pub fn start_recording(&self) {
        self.state().trace = Some(Trace::default());
    }

    /// Ends the recording and gives the trace; empty when there was none.
    #[must_use]
    pub fn take_trace(&self) -> Trace {
        self.state().trace.take().unwrap_or_default()
    }

    /// From here on, follows what is read.
    pub fn follow_reads(&self) {
        let mut state = self.state();
        state.footprint.clear();
        state.follows_reads = true;
    }

    /// Ends following; gives the hash of what was read before it was written. Deterministic readers did the same on
    /// every disk that has this hash.
    #[must_use]
    pub fn footprint(&self) -> u128 {
        let mut state = self.state();
        state.follows_reads = false;
        state.footprint.hash()
    }

    /// Puts a mark into the trace, if one is recorded.
    pub fn mark(&self, number: u64) {
        self.state().record(|| Event::Mark(number));
    }

    /// Makes the disk refuse writes, or take them again.
    pub fn set_read_only(&self, read_only: bool) {
        self.state().read_only = read_only;
    }

    /// Makes the disk one that can reserve space only by writing zeros into holes. File blocks of zeros count as holes.
    pub fn set_rewriting(&self, rewrites: bool) {
        self.state().rewrites = rewrites;
    }

    /// The content hash: equal for equal content, however it came about.
    #[must_use]
    pub fn content_hash(&self) -> u128 {
        self.state().layer.hash()
    }

    /// The content.
    #[must_use]
    pub fn image(&self) -> Arc<[u8]> {
        self.state().layer.image()
    }

    /// The content as a base for other disks, and for cuts through the trace of what happens next.
    #[must_use]
    pub fn freeze(&self) -> Arc<CowBase> {
        self.state().layer.freeze()
    }

    /// Number of chunks that differ from the base, or were written with what they held.
    #[must_use]
    pub fn changed_chunks(&self) -> usize {
        self.state().layer.changed_chunks()
    }
}

impl Device for CowDisk {
    fn geometry(&self) -> DeviceGeometry {
        DeviceGeometry {
            len_bytes: self.state().layer.base().len(),
            sector_bytes: self.sector_bytes,
            physical_block_bytes: self.physical_block_bytes,
        }
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        state.transfer()?;
        let range = state.range(io::ErrorKind::UnexpectedEof, "read", offset, buf.len() as u64)?;
        if state.follows_reads {
            let State { footprint, layer, .. } = &mut *state;
            footprint.read(layer, &range);
        }
        state.layer.read(range, buf);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8], purpose: Purpose) -> io::Result<()> {
        let mut state = self.state();
        state.transfer()?;
        let range = state.writable("write", offset, data.len() as u64)?;
        state.note_change(&range);
        state.layer.write(range.start, data);
        state.record(|| Event::Write { offset, data: Arc::from(data), purpose });
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut state = self.state();
        state.transfer()?;
        state.record(|| Event::Flush);
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut state = self.state();
        let range = state.writable("discard", offset, len)?;
        state.note_change(&range);
        let salt = state.discards;
        state.discards += 1;
        let zeros = vec![0; to_usize(u64::from(self.sector_bytes))];
        for sector in zeroed_sectors(offset, len, salt, u64::from(self.sector_bytes)) {
            state.layer.write(to_usize(sector * u64::from(self.sector_bytes)), &zeros);
        }
        state.record(|| Event::Discard { offset, len, salt });
        Ok(())
    }

    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut state = self.state();
        let range = state.writable("preallocation", offset, len)?;
        let State { layer, trace, rewrites, .. } = &mut *state;
        if let Some(trace) = trace {
            trace.push(Event::Preallocate { offset, len, rewritten: None });
            if *rewrites {
                let mut bytes = vec![0; range.len()];
                layer.read(range, &mut bytes);
                for hole in holes(&bytes, offset) {
                    let len = hole.end - hole.start;
                    let zeros = vec![0; to_usize(len)];
                    let rewritten = Some(Arc::from(zeros));
                    trace.push(Event::Preallocate { offset: hole.start, len, rewritten });
                }
            }
        }
        Ok(())
    }

    fn may_block(&self) -> bool {
        false
    }

    fn is_read_only(&self) -> bool {
        self.state().read_only
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> CowDisk {
        CowDisk::new(Arc::new(CowBase::new(Arc::from(vec![0; 256 << 10]), 512)), 512, 4096)
    }

    #[test]
    fn equal_content_has_equal_hashes() {
        let (a, b) = (disk(), disk());
        let empty = a.content_hash();
        a.write_at(1000, &[1; 600], Purpose::Format).unwrap();
        a.write_at(5000, &[2; 8], Purpose::Format).unwrap();
        b.write_at(5000, &[2; 8], Purpose::Format).unwrap();
        b.write_at(1000, &[7; 600], Purpose::Format).unwrap();
        assert_ne!(a.content_hash(), b.content_hash());
        b.write_at(1300, &[1; 300], Purpose::Format).unwrap();
        b.write_at(1000, &[1; 300], Purpose::Format).unwrap();
        assert_eq!(a.content_hash(), b.content_hash());
        // The same content over another base.
        let c = CowDisk::new(a.freeze(), 512, 4096);
        assert_eq!((c.content_hash(), c.changed_chunks()), (a.content_hash(), 0));
        c.write_at(1000, &[0; 600], Purpose::Format).unwrap();
        c.write_at(5000, &[0; 8], Purpose::Format).unwrap();
        assert_eq!(c.content_hash(), empty);
        a.reset();
        assert_eq!((a.content_hash(), a.changed_chunks()), (empty, 0));
    }

    #[test]
    fn is_reused_after_a_reset() {
        let disk = disk();
        for round in 1..4u8 {
            disk.reset();
            let mut buf = [9; 16];
            disk.read_at(508, &mut buf).unwrap();
            assert_eq!(buf, [0; 16]);
            disk.start_recording();
            disk.write_at(508, &[round; 16], Purpose::Journal).unwrap();
            disk.flush().unwrap();
            disk.mark(3);
            disk.read_at(508, &mut buf).unwrap();
            assert_eq!(buf, [round; 16]);
            assert_eq!(disk.take_trace().len(), 3);
            assert_eq!(disk.take_trace().len(), 0);
        }
    }

    #[test]
    fn refuses_what_a_device_refuses() {
        let disk = disk();
        let end = disk.geometry().len_bytes;
        let read = disk.read_at(end - 1, &mut [0; 2]).unwrap_err();
        assert_eq!(read.kind(), io::ErrorKind::UnexpectedEof);
        assert!(disk.write_at(end, &[1], Purpose::Format).is_err());
        assert!(disk.write_at(u64::MAX, &[1], Purpose::Format).is_err());
        assert!(disk.discard(0, u64::MAX).is_err());
        assert!(!disk.may_block());
        disk.set_read_only(true);
        assert!(disk.is_read_only());
        let write = disk.write_at(0, &[1], Purpose::Format).unwrap_err();
        assert_eq!(write.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(disk.changed_chunks(), 0);
    }

    #[test]
    fn the_footprint_is_what_was_read_first() {
        let (a, b) = (disk(), disk());
        a.poke(8192, &[1; 512]).unwrap();
        let mut buffer = [0; 512];
        let mut read = |disk: &CowDisk, offset| disk.read_at(offset, &mut buffer).unwrap();
        for disk in [&a, &b] {
            disk.follow_reads();
            read(disk, 0);
        }
        assert_eq!(a.footprint(), b.footprint());
        for disk in [&a, &b] {
            disk.follow_reads();
            read(disk, 8192);
        }
        assert_ne!(a.footprint(), b.footprint());
        for disk in [&a, &b] {
            disk.follow_reads();
            disk.write_at(8192, &[2; 512], Purpose::Journal).unwrap();
            read(disk, 8192);
        }
        assert_eq!(a.footprint(), b.footprint());
        a.poke(8192, &[1; 512]).unwrap();
        for disk in [&a, &b] {
            disk.follow_reads();
            disk.write_at(8192, &[2; 100], Purpose::Journal).unwrap();
        }
        assert_ne!(a.footprint(), b.footprint());
    }
}
