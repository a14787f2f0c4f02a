//! Going through a trace, instant by instant.

use std::sync::Arc;

use freehold::device::{DeviceGeometry, Purpose};

use super::cut::Cut;
use super::layer::{CowBase, Layer};
use super::pending::Pending;
use super::trace::{Event, Trace};
use super::{checked_range, to_usize};

/// Gives the [`Cut`] at any position of a trace. Going forward, each event is looked at once, and a new image is made
/// only where a flush (or rot) has changed something. Going backward starts again from the beginning.
///
/// A trace that was put together by hand and passes the end of the disk has those events left out.
#[derive(Debug)]
pub struct CutWalker<'a> {
    events: &'a [Event],
    start: Arc<CowBase>,
    scratch: Layer,
    included: usize,
    cut: Cut,
}

impl<'a> CutWalker<'a> {
    /// A walker over what happened to a disk that began as `base`. The geometry's length is not looked at.
    #[must_use]
    pub fn new(trace: &'a Trace, base: Arc<CowBase>, geometry: &DeviceGeometry) -> Self {
        let cut = Cut {
            position: 0,
            base: Arc::clone(&base),
            physical_block_bytes: u64::from(geometry.physical_block_bytes),
            pending: Pending::new(geometry.sector_bytes),
            weights: Vec::new(),
            acknowledged: None,
        };
        let scratch = Layer::new(Arc::clone(&base));
        Self { events: trace.events(), start: base, scratch, included: 0, cut }
    }

    /// The cut at a position, which is taken for the end of the trace if it lies beyond. A write or discard at the
    /// position is in flight, a flush there has not done anything yet.
    pub fn cut_at(&mut self, position: usize) -> &Cut {
        let position = position.min(self.events.len());
        if position < self.cut.position {
            self.rewind();
        }
        while let Some(event) = self.events.get(self.included) {
            let in_flight = matches!(event, Event::Write { .. } | Event::Discard { .. });
            if self.included > position || (self.included == position && !in_flight) {
                break;
            }
            self.include(event);
            self.included += 1;
        }
        self.cut.position = position;
        self.cut.weigh();
        &self.cut
    }

    fn rewind(&mut self) {
        self.cut.base = Arc::clone(&self.start);
        self.cut.pending.clear();
        self.cut.acknowledged = None;
        self.scratch.rebase(&self.start);
        self.included = 0;
    }

    fn include(&mut self, event: &Event) {
        let disk_len = to_usize(self.start.len());
        let fits = |offset: u64, len: u64| checked_range(offset, len, disk_len);
        let Self { scratch, cut, included, .. } = self;
        match event {
            Event::Write { offset, data, purpose } => {
                if fits(*offset, data.len() as u64).is_some() {
                    cut.pending.write(*included, *offset, data, *purpose);
                }
            }
            // Nothing refers to what is reserved, so to recovery it is a write like those of metadata.
            Event::Preallocate { offset, rewritten: Some(data), .. } => {
                if fits(*offset, data.len() as u64).is_some() {
                    cut.pending.write(*included, *offset, data, Purpose::Metadata);
                }
            }
            Event::Discard { offset, len, salt } => {
                if fits(*offset, *len).is_some() {
                    cut.pending.discard(*included, *offset, *len, *salt);
                }
            }
            Event::Flush => {
                cut.pending.flush(&mut |at, bytes| scratch.write(to_usize(at), bytes));
                self.settle();
            }
            Event::FailedFlush => cut.pending.fail_flush(),
            Event::Rot { offset, mask } => {
                if let Some(range) = fits(*offset, mask.len() as u64) {
                    let mut bytes = vec![0; range.len()];
                    scratch.read(range.clone(), &mut bytes);
                    for (byte, bits) in bytes.iter_mut().zip(mask.iter()) {
                        *byte ^= bits;
                    }
                    scratch.write(range.start, &bytes);
                    self.settle();
                }
            }
            Event::Mark(number) => cut.acknowledged = Some(*number),
            Event::Preallocate { rewritten: None, .. }
            | Event::LyingFlush
            | Event::FailedWrite { .. }
            | Event::Claim { .. }
            | Event::Opening
            | Event::Opened
            | Event::Label(_)
            | Event::Note(_) => {}
        }
    }

    /// Makes what lies in the scratch layer the durable image.
    fn settle(&mut self) {
        self.cut.base = self.scratch.freeze();
        self.scratch.rebase(&self.cut.base);
    }
}
