//! The disk on which a workload runs.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use freehold::device::{Device, DeviceGeometry, Purpose};

use super::faults::Call;
use super::layer::{CowBase, Layer};
use super::pending::Pending;
use super::trace::{Event, Trace, holes, purpose_name, zeroed_sectors};
use super::{Fault, FaultPlan, IoKind, checked_range, past_end, read_only, to_usize};

/// Calls that a disk has had, failed ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoCounts {
    /// Calls of `read_at`.
    pub reads: u64,
    /// Calls of `write_at`.
    pub writes: u64,
    /// Calls of `flush`.
    pub flushes: u64,
    /// Calls of `discard`.
    pub discards: u64,
    /// Calls of `preallocate`.
    pub preallocations: u64,
}

impl IoCounts {
    /// Calls of any kind: the upper bound for a sweep with [`When::any`](super::When::any).
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.reads + self.writes + self.flushes + self.discards + self.preallocations
    }
}

/// A disk in memory with a volatile cache. Readers see the latest write; the medium has what an honest flush covered.
/// Everything is recorded in a [`Trace`], and a [`FaultPlan`] makes calls go wrong.
pub struct SimDisk {
    sector_bytes: u32,
    physical_block_bytes: u32,
    state: Mutex<State>,
}

struct State {
    /// What readers see.
    current: Layer,
    /// What is certainly on the medium.
    durable: Layer,
    pending: Pending,
    trace: Trace,
    plan: FaultPlan,
    counts: IoCounts,
    discards: u64,
    read_only: bool,
    rewrites: bool,
}

impl State {
    fn range(&self, kind: io::ErrorKind, what: &str, offset: u64, len: u64) -> io::Result<Range<usize>> {
        let disk_len = to_usize(self.current.base().len());
        checked_range(offset, len, disk_len).ok_or_else(|| past_end(kind, what, offset, len, disk_len))
    }

    fn writable(&self, what: &str, offset: u64, len: u64) -> io::Result<()> {
        if self.read_only {
            return Err(read_only());
        }
        self.range(io::ErrorKind::InvalidInput, what, offset, len).map(drop)
    }

    fn note(&mut self, text: &str) {
        self.trace.push(Event::Note(text.into()));
    }

    /// Lets rot happen and gives the other fault that meets the call.
    fn meet(&mut self, call: &Call) -> Option<Fault> {
        let mut other = None;
        for fault in self.plan.meet(call) {
            match fault {
                Fault::Rot { offset, mask } => self.rot(offset, &mask),
                fault => other = Some(fault),
            }
        }
        other
    }

    fn rot(&mut self, offset: u64, mask: &[u8]) {
        let len = (mask.len() as u64).min(self.current.base().len().saturating_sub(offset));
        for (&bits, at) in mask.iter().take(to_usize(len)).zip(offset..) {
            let index = to_usize(at);
            let flip = |layer: &mut Layer| {
                let mut byte = [0];
                layer.read(index..index + 1, &mut byte);
                layer.write(index, &byte.map(|byte| byte ^ bits));
            };
            flip(&mut self.durable);
            // The cache holds its own copy of what is not written back yet.
            if !self.pending.covers(at) {
                flip(&mut self.current);
            }
        }
        self.trace.push(Event::Rot { offset, mask: mask.iter().take(to_usize(len)).copied().collect() });
    }

    /// Takes bytes into the cache, as far as the disk goes.
    fn cache(&mut self, offset: u64, data: &[u8], purpose: Purpose) {
        let room = to_usize(self.current.base().len().saturating_sub(offset));
        let data: Arc<[u8]> = data.iter().take(room).copied().collect();
        if data.is_empty() {
            return;
        }
        self.current.write(to_usize(offset), &data);
        self.pending.write(self.trace.len(), offset, &data, purpose);
        self.trace.push(Event::Write { offset, data, purpose });
    }

    fn flush(&mut self) {
        let Self { pending, durable, .. } = self;
        pending.flush(&mut |offset, bytes| durable.write(to_usize(offset), bytes));
        self.trace.push(Event::Flush);
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("SimDisk")
            .field("len", &state.current.base().len())
            .field("sector_bytes", &self.sector_bytes)
            .field("events", &state.trace.len())
            .field("pending_writes", &state.pending.writes().len())
            .finish()
    }
}

impl SimDisk {
    /// A disk with the content of the image, all of it durable. Sizes in bytes.
    #[must_use]
    pub fn new(base: Arc<CowBase>, sector_bytes: u32, physical_block_bytes: u32) -> Self {
        let state = State {
            current: Layer::new(Arc::clone(&base)),
            durable: Layer::new(base),
            pending: Pending::new(sector_bytes),
            trace: Trace::default(),
            plan: FaultPlan::none(),
            counts: IoCounts::default(),
            discards: 0,
            read_only: false,
            rewrites: false,
        };
        Self { sector_bytes, physical_block_bytes, state: Mutex::new(state) }
    }

    /// A disk of zeros. Sizes in bytes.
    #[must_use]
    pub fn zeroed(len_bytes: u64, sector_bytes: u32, physical_block_bytes: u32) -> Self {
        let bytes: Arc<[u8]> = vec![0; to_usize(len_bytes)].into();
        Self::new(Arc::new(CowBase::new(bytes, sector_bytes)), sector_bytes, physical_block_bytes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panicking holder leaves bytes behind, nothing that could be half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a new trace at the present content, all of which counts as durable from here, as after a shutdown in
    /// good order. Counters start again; the fault plan stays.
    pub fn restart_recording(&self) {
        let mut state = self.state();
        let base = state.current.freeze();
        state.current.rebase(&base);
        state.durable.rebase(&base);
        state.pending.clear();
        state.trace = Trace::default();
        state.counts = IoCounts::default();
    }

    /// The content with which the trace begins.
    #[must_use]
    pub fn base(&self) -> Arc<CowBase> {
        Arc::clone(self.state().current.base())
    }

    /// What happened since recording began.
    #[must_use]
    pub fn trace(&self) -> Trace {
        self.state().trace.clone()
    }

    /// Number of events so far.
    #[must_use]
    pub fn position(&self) -> usize {
        self.state().trace.len()
    }

    /// Puts a mark into the trace.
    pub fn mark(&self, number: u64) {
        self.annotate(Event::Mark(number));
    }

    /// Puts an event into the trace that the harness alone knows of: a mark, a claim, a label. An event of the disk
    /// itself is left out.
    pub fn annotate(&self, event: Event) {
        if event.is_annotation() {
            self.state().trace.push(event);
        }
    }

    /// Puts a plan on the disk in the place of the one before, which is given back with its counts.
    pub fn set_faults(&self, plan: FaultPlan) -> FaultPlan {
        std::mem::replace(&mut self.state().plan, plan)
    }

    /// Number of faults injected by the present plan.
    #[must_use]
    pub fn faults_fired(&self) -> u64 {
        self.state().plan.fired()
    }

    /// Calls since recording began.
    #[must_use]
    pub fn counts(&self) -> IoCounts {
        self.state().counts
    }

    /// Flips bits of the medium at `offset` bytes. Readers see it, except where the cache holds a newer write.
    pub fn rot(&self, offset: u64, mask: &[u8]) {
        self.state().rot(offset, mask);
    }

    /// Makes the disk refuse writes, or take them again.
    pub fn set_read_only(&self, read_only: bool) {
        self.state().read_only = read_only;
    }

    /// Makes the disk one that can reserve space only by writing zeros into holes. File blocks of zeros count as holes.
    pub fn set_rewriting(&self, rewrites: bool) {
        self.state().rewrites = rewrites;
    }

    /// What readers see: the content after the process was killed.
    #[must_use]
    pub fn image(&self) -> Arc<[u8]> {
        self.state().current.image()
    }

    /// What is certainly on the medium: the content after a power cut that lost every write it could.
    #[must_use]
    pub fn durable_image(&self) -> Arc<[u8]> {
        self.state().durable.image()
    }

    /// [`image`](Self::image) as a base for another disk.
    #[must_use]
    pub fn freeze(&self) -> Arc<CowBase> {
        self.state().current.freeze()
    }

    /// [`durable_image`](Self::durable_image) as a base for another disk.
    #[must_use]
    pub fn freeze_durable(&self) -> Arc<CowBase> {
        self.state().durable.freeze()
    }
}

impl Device for SimDisk {
    fn geometry(&self) -> DeviceGeometry {
        DeviceGeometry {
            len_bytes: self.state().current.base().len(),
            sector_bytes: self.sector_bytes,
            physical_block_bytes: self.physical_block_bytes,
        }
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let len = buf.len() as u64;
        let mut state = self.state();
        state.counts.reads += 1;
        let mut range = state.range(io::ErrorKind::UnexpectedEof, "read", offset, len)?;
        match state.meet(&Call { kind: IoKind::Read, offset, len, purpose: None }) {
            Some(Fault::Fail(code)) => {
                state.note(&format!("read {len} B at {offset} failed"));
                return Err(code.to_error());
            }
            Some(Fault::MisdirectedRead { from }) => {
                let from = from.min(state.current.base().len() - len);
                state.note(&format!("read {len} B at {offset} answered from {from}"));
                range = to_usize(from)..to_usize(from + len);
            }
            _ => {}
        }
        state.current.read(range, buf);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8], purpose: Purpose) -> io::Result<()> {
        let len = data.len() as u64;
        let mut state = self.state();
        state.counts.writes += 1;
        state.writable("write", offset, len)?;
        let fault = state.meet(&Call { kind: IoKind::Write, offset, len, purpose: Some(purpose) });
        let what = || format!("write {len} B at {offset} ({})", purpose_name(purpose));
        match fault {
            Some(Fault::Fail(code)) => {
                state.trace.push(Event::FailedWrite { offset, len, purpose });
                return Err(code.to_error());
            }
            Some(Fault::FailAfter { code, written_bytes }) => {
                let (written, _) = data.split_at(data.len().min(to_usize(written_bytes)));
                state.cache(offset, written, purpose);
                state.trace.push(Event::FailedWrite { offset, len, purpose });
                return Err(code.to_error());
            }
            Some(Fault::LostWrite) => state.note(&format!("{} lost", what())),
            Some(Fault::MisdirectedWrite { to }) => {
                state.note(&format!("{} went to {to}", what()));
                state.cache(to, data, purpose);
            }
            _ => state.cache(offset, data, purpose),
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut state = self.state();
        state.counts.flushes += 1;
        match state.meet(&Call { kind: IoKind::Flush, offset: 0, len: 0, purpose: None }) {
            Some(Fault::Fail(code)) => {
                state.pending.fail_flush();
                state.trace.push(Event::FailedFlush);
                return Err(code.to_error());
            }
            Some(Fault::LyingFlush) => state.trace.push(Event::LyingFlush),
            _ => state.flush(),
        }
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.counts.discards += 1;
        state.writable("discard", offset, len)?;
        if let Some(Fault::Fail(code)) =
            state.meet(&Call { kind: IoKind::Discard, offset, len, purpose: None })
        {
            state.note(&format!("discard {len} B at {offset} failed"));
            return Err(code.to_error());
        }
        let salt = state.discards;
        state.discards += 1;
        let sector_bytes = u64::from(self.sector_bytes);
        let zeros = vec![0; to_usize(sector_bytes)];
        for sector in zeroed_sectors(offset, len, salt, sector_bytes) {
            state.current.write(to_usize(sector * sector_bytes), &zeros);
        }
        let position = state.trace.len();
        state.pending.discard(position, offset, len, salt);
        state.trace.push(Event::Discard { offset, len, salt });
        Ok(())
    }

    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.counts.preallocations += 1;
        state.writable("preallocation", offset, len)?;
        let call = Call { kind: IoKind::Preallocate, offset, len, purpose: None };
        if let Some(Fault::Fail(code)) = state.meet(&call) {
            state.note(&format!("preallocate {len} B at {offset} failed"));
            return Err(code.to_error());
        }
        state.trace.push(Event::Preallocate { offset, len, rewritten: None });
        if state.rewrites {
            let mut bytes = vec![0; to_usize(len)];
            state.current.read(to_usize(offset)..to_usize(offset + len), &mut bytes);
            for hole in holes(&bytes, offset) {
                let zeros: Arc<[u8]> = vec![0; to_usize(hole.end - hole.start)].into();
                let event = state.trace.len();
                state.pending.write(event, hole.start, &zeros, Purpose::Metadata);
                let len = hole.end - hole.start;
                state.trace.push(Event::Preallocate { offset: hole.start, len, rewritten: Some(zeros) });
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
mod tests;
