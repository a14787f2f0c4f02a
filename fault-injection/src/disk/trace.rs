//! What reached a disk, in order.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use freehold::device::Purpose;

use crate::rng::mix;

/// One thing that happened at a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes handed to the disk's volatile cache. After a misdirected write this is where they went.
    Write {
        /// Where, in bytes from the start of the disk.
        offset: u64,
        /// What.
        data: Arc<[u8]>,
        /// What for.
        purpose: Purpose,
    },
    /// A flush that kept its promise.
    Flush,
    /// A flush that failed. The writes before it are from now on taken for clean: no later flush makes them durable,
    /// though each of their sectors may have reached the medium.
    FailedFlush,
    /// A flush that answered "done" and did nothing. A later honest one still covers the writes before it.
    LyingFlush,
    /// A range declared unused. A pseudo-random half of its whole sectors turns into zeros, the others keep their bytes.
    Discard {
        /// Start of the range in bytes.
        offset: u64,
        /// Length of the range in bytes.
        len: u64,
        /// Selects the sectors that turn into zeros.
        salt: u64,
    },
    /// Space reserved; changes no byte.
    Preallocate {
        /// Start of the range in bytes.
        offset: u64,
        /// Length of the range in bytes.
        len: u64,
        /// On a disk that can reserve space only by writing: the zeros that are written into this hole.
        rewritten: Option<Arc<[u8]>>,
    },
    /// Bits of the medium flipped by themselves, at once and durably.
    Rot {
        /// Where, in bytes from the start of the disk.
        offset: u64,
        /// The bits that flipped.
        mask: Arc<[u8]>,
    },
    /// A write that the disk refused. It stands where the call was; what was written of it before the refusal, if
    /// anything, is an event of its own.
    FailedWrite {
        /// Where, in bytes from the start of the disk.
        offset: u64,
        /// How many bytes it was to write.
        len: u64,
        /// What for.
        purpose: Purpose,
    },
    /// Put in by the harness, usually: operation number n was acknowledged here.
    Mark(u64),
    /// Put in by the harness: this space was handed out to a new owner here.
    Claim {
        /// Start of the space in bytes.
        offset: u64,
        /// Length of the space in bytes.
        len: u64,
    },
    /// Put in by the harness: from here on, the store is being opened.
    Opening,
    /// Put in by the harness: the store is open.
    Opened,
    /// Put in by the harness: what it does next, in words.
    Label(Arc<str>),
    /// A remark about an injected fault, for readers of the trace.
    Note(Arc<str>),
}

impl Event {
    /// Whether this is a write or a flush of any outcome.
    #[must_use]
    pub const fn is_io(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Flush | Self::FailedFlush | Self::LyingFlush)
    }

    /// Whether this was put in by the harness and changes nothing about the disk.
    #[must_use]
    pub const fn is_annotation(&self) -> bool {
        matches!(
            self,
            Self::Mark(_)
                | Self::Claim { .. }
                | Self::Opening
                | Self::Opened
                | Self::Label(_)
                | Self::Note(_)
        )
    }

    /// What the write was for; none for other events.
    #[must_use]
    pub const fn purpose(&self) -> Option<Purpose> {
        match self {
            Self::Write { purpose, .. } => Some(*purpose),
            _ => None,
        }
    }
}

/// The name of a purpose in traces.
#[must_use]
pub const fn purpose_name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Format => "format",
        Purpose::Superblock => "superblock",
        Purpose::Witness => "witness",
        Purpose::Journal => "journal",
        Purpose::Metadata => "metadata",
        Purpose::ChecksumTree => "checksum tree",
        Purpose::CallerCheckpoint => "caller checkpoint",
        Purpose::CallerDirect => "caller direct",
        _ => "other",
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { offset, data, purpose } => {
                write!(f, "write {} B at {offset} ({})", data.len(), purpose_name(*purpose))
            }
            Self::Flush => f.write_str("flush"),
            Self::FailedFlush => f.write_str("flush (failed)"),
            Self::LyingFlush => f.write_str("flush (lied)"),
            Self::Discard { offset, len, .. } => write!(f, "discard {len} B at {offset}"),
            Self::Preallocate { offset, len, rewritten } => {
                let how = if rewritten.is_some() { " by writing zeros into a hole" } else { "" };
                write!(f, "preallocate {len} B at {offset}{how}")
            }
            Self::Rot { offset, mask } => write!(f, "rot in {} B at {offset}", mask.len()),
            Self::FailedWrite { offset, len, purpose } => {
                write!(f, "write {len} B at {offset} ({}), failed", purpose_name(*purpose))
            }
            Self::Mark(number) => write!(f, "mark {number}"),
            Self::Claim { offset, len } => write!(f, "{len} B at {offset} handed out"),
            Self::Opening => f.write_str("the store is being opened"),
            Self::Opened => f.write_str("the store is open"),
            Self::Label(text) => write!(f, "-- {text}"),
            Self::Note(text) => write!(f, "note: {text}"),
        }
    }
}

/// The history of a disk since recording began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    events: Vec<Event>,
}

impl Trace {
    /// Adds an event at the end.
    pub fn push(&mut self, event: Event) {
        self.events.push(event);
    }

    /// All events in order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Number of events. The last possible cut is at this position.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Positions of the writes and flushes.
    pub fn io_points(&self) -> impl Iterator<Item = usize> + '_ {
        self.events.iter().enumerate().filter(|(_, event)| event.is_io()).map(|(index, _)| index)
    }

    /// How many writes there are for each purpose.
    #[must_use]
    pub fn purposes(&self) -> BTreeMap<Purpose, usize> {
        let mut counts = BTreeMap::new();
        for purpose in self.events.iter().filter_map(Event::purpose) {
            *counts.entry(purpose).or_insert(0) += 1;
        }
        counts
    }

    /// The marks put in before a position, in order: what was acknowledged when power fails there.
    pub fn marks_before(&self, position: usize) -> impl Iterator<Item = u64> + '_ {
        self.events.iter().take(position).filter_map(|event| match event {
            Event::Mark(number) => Some(*number),
            _ => None,
        })
    }

    /// Bytes written in all.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        let lengths = self.events.iter().map(|event| match event {
            Event::Write { data, .. } => data.len() as u64,
            _ => 0,
        });
        lengths.sum()
    }
}

impl Extend<Event> for Trace {
    fn extend<I: IntoIterator<Item = Event>>(&mut self, events: I) {
        self.events.extend(events);
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, event) in self.events.iter().enumerate() {
            writeln!(f, "{index:6} {event}")?;
        }
        Ok(())
    }
}

/// The sectors of a discarded range that turn into zeros. Sectors that lie in the range only partly are kept.
pub(super) fn zeroed_sectors(
    offset: u64,
    len: u64,
    salt: u64,
    sector_bytes: u64,
) -> impl Iterator<Item = u64> {
    let first = offset.div_ceil(sector_bytes);
    let end = offset.saturating_add(len) / sector_bytes;
    (first..end).filter(move |sector| mix(salt ^ mix(*sector)) & 1 == 0)
}

/// Block size of the file that a simulated disk lies in.
const FILE_BLOCK_BYTES: u64 = 4096;

/// Runs of whole file blocks of zeros in bytes that begin at `offset`. A block that was ever written with anything but
/// zeros is data as a whole, as in a file.
pub(super) fn holes(bytes: &[u8], offset: u64) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    let first = offset.next_multiple_of(FILE_BLOCK_BYTES);
    let whole = usize::try_from(first - offset).ok().and_then(|skip| bytes.get(skip..)).unwrap_or(&[]);
    let size = usize::try_from(FILE_BLOCK_BYTES).unwrap_or(1);
    for (block, start) in whole.chunks_exact(size).zip((first..).step_by(size)) {
        if block.iter().any(|&byte| byte != 0) {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.end == start => run.end += FILE_BLOCK_BYTES,
            _ => runs.push(start..start + FILE_BLOCK_BYTES),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_and_finds() {
        let mut trace = Trace::default();
        trace.push(Event::Write { offset: 8192, data: Arc::from([0; 4096]), purpose: Purpose::Journal });
        trace.push(Event::Mark(7));
        trace.push(Event::Flush);
        trace.push(Event::Preallocate { offset: 0, len: 1, rewritten: None });
        trace.push(Event::FailedFlush);
        trace.push(Event::Mark(8));
        assert_eq!(trace.events()[0].to_string(), "write 4096 B at 8192 (journal)");
        assert_eq!(trace.io_points().collect::<Vec<_>>(), [0, 2, 4]);
        assert_eq!(trace.marks_before(5).collect::<Vec<_>>(), [7]);
        assert_eq!(trace.marks_before(99).collect::<Vec<_>>(), [7, 8]);
        assert_eq!(trace.purposes(), BTreeMap::from([(Purpose::Journal, 1)]));
        assert_eq!(trace.written_bytes(), 4096);
        assert_eq!(trace.to_string().lines().count(), 6);
    }

    #[test]
    fn discard_takes_whole_sectors_only() {
        for salt in 0..100 {
            assert!(zeroed_sectors(100, 2000, salt, 512).all(|sector| (1..4).contains(&sector)));
            assert_eq!(zeroed_sectors(1, 1022, salt, 512).count(), 0);
        }
        let zeroed = zeroed_sectors(0, 1 << 20, 5, 512).count();
        assert!((900..1150).contains(&zeroed), "{zeroed}");
    }

    #[test]
    fn holes_are_whole_blocks_of_zeros() {
        let mut bytes = vec![0; 5 * 4096];
        bytes[2 * 4096 + 7] = 1;
        assert_eq!(holes(&bytes, 8192), [8192..16384, 20480..28672]);
        assert_eq!(holes(&bytes[512..], 8704), [12288..16384, 20480..28672]);
        assert_eq!(holes(&[], 0), []);
    }
}
