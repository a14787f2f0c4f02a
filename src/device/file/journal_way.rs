//! How groups of the journal reach the medium: through the page cache, or past it.
//!
//! Which is quicker is a matter of the device and its file system. Each way is tried on the first short groups, in turns, and
//! the quicker one is taken from there on.
//!
//! Past the cache is not for every place of the ring. The cache keeps a file in folios, which lie at multiples of their size;
//! a write past it drops those under it, and where one is dirty, the system takes that for an error of the file, and says
//! so at the next flush. So no folio may lie partly in what is written past the cache, and partly where others write.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::facts::{self, Kind};
use super::transfer::write_full;
use crate::device::aligned::AlignedBuf;

/// So many groups in a row go one way, then as many the other. After a change the first ones meet what the other way left in
/// the cache, and do not count.
const ROW: usize = 8;
const WARM: usize = 2;
/// Rows that are tried, of both ways.
const ROWS: usize = 6;
/// Only groups of up to so many bytes are compared.
const SHORT_BYTES: usize = 16 << 10;
/// Longer ones go through the cache: they are copied once more, and hardly gain anything.
const MOST_BYTES: usize = 1 << 20;
/// The largest folio, with pages of 4 KiB. With larger ones it is larger by the square of that.
const MOST_FOLIO_BYTES: u64 = 2 << 20;
const USUAL_PAGE_BYTES: u64 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Past,
    Through,
}

/// The way past the cache, and what is known of it.
#[derive(Debug)]
pub(super) struct JournalWay {
    /// The same file, opened once more for direct I/O.
    direct: File,
    /// Offsets that may be written past the cache.
    inside: Range<u64>,
    align: usize,
    trial: Mutex<Trial>,
}

#[derive(Debug)]
struct Trial {
    /// Holds what direct I/O wants at an aligned address.
    bounce: AlignedBuf,
    /// Groups that were written to find out.
    tried: usize,
    /// Since when the last of them is under way.
    began: Option<Instant>,
    past: Vec<Duration>,
    through: Vec<Duration>,
    chosen: Option<Way>,
}

impl JournalWay {
    /// For a ring that lies in this range. `None` where there is no way past the cache.
    pub(super) fn new(file: &File, kind: Kind, ring: Range<u64>) -> Option<Self> {
        let inside = without_shared_folios(ring, rustix::param::page_size() as u64);
        if inside.is_empty() {
            return None;
        }
        let direct = facts::open_again(file).ok()?;
        facts::make_direct(&direct).ok()?;
        let align = usize::try_from(facts::direct_alignment(&direct, kind).ok()?).ok()?;
        Some(Self { direct, inside, align, trial: Mutex::new(Trial::new(align)) })
    }

    /// Writes past the cache, if that is the way; `false` if nothing was written and it goes through the cache.
    pub(super) fn write(&self, offset: u64, data: &[u8]) -> io::Result<bool> {
        let mut trial = self.trial();
        trial.began = None;
        let is_aligned = |number: u64| number.is_multiple_of(self.align as u64);
        let end = offset.saturating_add(data.len() as u64);
        if data.len() > MOST_BYTES
            || offset < self.inside.start
            || end > self.inside.end
            || !is_aligned(offset)
            || !is_aligned(end)
        {
            return Ok(false);
        }
        let way = match trial.chosen {
            Some(way) => way,
            None if data.len() > SHORT_BYTES => return Ok(false),
            None => {
                trial.began = Some(Instant::now());
                trial.way()
            }
        };
        if way == Way::Through {
            return Ok(false);
        }
        match write_full(&self.direct, offset, trial.bounced(data, self.align)) {
            // Refused for what it is: that says nothing about the medium, and nothing was written.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
            {
                (trial.began, trial.chosen) = (None, Some(Way::Through));
                Ok(false)
            }
            written => written.map(|()| true),
        }
    }

    /// What was written last is durable.
    pub(super) fn flushed(&self) {
        // One that comes in the middle of a write, for something else, has nothing to say.
        let Ok(mut trial) = self.trial.try_lock() else { return };
        if let Some(began) = trial.began.take() {
            trial.note(began.elapsed());
        }
    }

    fn trial(&self) -> MutexGuard<'_, Trial> {
        // Whatever a panic left behind is as good as anything.
        self.trial.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trial {
    fn new(align: usize) -> Self {
        Self {
            bounce: AlignedBuf::zeroed(0, align),
            tried: 0,
            began: None,
            past: Vec::new(),
            through: Vec::new(),
            chosen: None,
        }
    }

    /// Whose turn it is.
    fn way(&self) -> Way {
        if (self.tried / ROW).is_multiple_of(2) { Way::Past } else { Way::Through }
    }

    fn bounced(&mut self, data: &[u8], align: usize) -> &[u8] {
        if self.bounce.len() < data.len() {
            self.bounce = AlignedBuf::zeroed(data.len().next_power_of_two(), align);
        }
        let Some(bounce) = self.bounce.get_mut(..data.len()) else { return &[] };
        bounce.copy_from_slice(data);
        bounce
    }

    fn note(&mut self, took: Duration) {
        if self.tried % ROW >= WARM {
            match self.way() {
                Way::Past => self.past.push(took),
                Way::Through => self.through.push(took),
            }
        }
        self.tried += 1;
        if self.tried >= ROW * ROWS {
            let (past, through) = (median(&mut self.past), median(&mut self.through));
            let way = if past <= through { Way::Past } else { Way::Through };
            tracing::debug!(?way, ?past, ?through, "how groups are written");
            self.chosen = Some(way);
        }
    }
}

fn median(times: &mut [Duration]) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

/// The part of a range in which no folio lies that reaches out of it.
fn without_shared_folios(range: Range<u64>, page_bytes: u64) -> Range<u64> {
    let larger = (page_bytes / USUAL_PAGE_BYTES).max(1);
    let folio = MOST_FOLIO_BYTES.saturating_mul(larger * larger).next_power_of_two();
    let start = range.start.checked_next_multiple_of(folio).unwrap_or(u64::MAX);
    start..range.end / folio * folio
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    const RING: Range<u64> = 5 << 20..13 << 20;

    fn way() -> (tempfile::NamedTempFile, Option<JournalWay>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(16 << 20).unwrap();
        let way = JournalWay::new(file.as_file(), Kind::Regular, RING);
        (file, way)
    }

    #[test]
    fn folios_that_reach_out_of_the_ring_are_left_out() {
        let mib = |range: Range<u64>| range.start << 20..range.end << 20;
        assert_eq!(without_shared_folios(RING, 4096), mib(6..12));
        assert_eq!(without_shared_folios(mib(4..8), 4096), mib(4..8));
        assert!(without_shared_folios(mib(5..7), 4096).is_empty());
        assert!(without_shared_folios(RING, 16384).is_empty(), "folios of 32 MiB");
        assert!(without_shared_folios(u64::MAX - 5..u64::MAX, 4096).is_empty());
    }

    #[test]
    fn ways_are_tried_in_turns_and_the_quicker_one_is_taken() {
        for quick in [Way::Past, Way::Through] {
            let mut trial = Trial::new(1);
            for at in 0..(ROW * ROWS) as u64 {
                assert_eq!(trial.chosen, None);
                // Some take long for another reason: the first after a change, and one in between.
                let micros = match at {
                    13 | 21 => 100_000,
                    at if trial.way() != quick => 100 + at,
                    at if at % ROW as u64 == 0 => 1000,
                    _ => 90,
                };
                trial.note(Duration::from_micros(micros));
            }
            assert_eq!(trial.chosen, Some(quick));
        }
    }

    #[test]
    fn what_is_written_either_way_is_there() {
        let (file, way) = way();
        // Where the file system has no way past the cache, there is nothing to test.
        let Some(way) = way else { return };
        let mut past = 0;
        for group in 0..ROW * (ROWS + 1) {
            let offset = (6 << 20) + group as u64 * 8192;
            let data = vec![u8::try_from(group + 1).unwrap(); 8192];
            if way.write(offset, &data).unwrap() {
                past += 1;
            } else {
                file.as_file().write_all_at(&data, offset).unwrap();
            }
            file.as_file().sync_data().unwrap();
            way.flushed();
            let mut found = vec![0; 8192];
            file.as_file().read_exact_at(&mut found, offset).unwrap();
            assert_eq!(found, data);
        }
        assert!(past >= ROW * ROWS / 2, "each way was tried: {past}");
        assert!(way.trial().chosen.is_some());
        // Outside of the ring, across its edge, and where it is not aligned, it goes through the cache.
        way.trial().chosen = Some(Way::Past);
        for (offset, len) in
            [(0, 4096), ((6 << 20) - 4096, 8192), ((12 << 20) - 4096, 8192), ((7 << 20) + 1, 4096)]
        {
            assert!(!way.write(offset, &vec![1; len]).unwrap(), "{offset} {len}");
        }
        assert!(way.write(7 << 20, &[1; 4096]).unwrap());
    }

    struct SetAtEnd<'a>(&'a AtomicBool);

    impl Drop for SetAtEnd<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// The edges of what is written past the cache, with dirty blocks in front and behind all the time: were they in one folio
    /// with them, the system would report an error of the file.
    #[test]
    fn dirty_neighbours_are_no_trouble() {
        let (file, way) = way();
        let Some(way) = way else { return };
        way.trial().chosen = Some(Way::Past);
        // All of it is in the cache to begin with.
        let mut all = vec![0; 16 << 20];
        file.as_file().read_exact_at(&mut all, 0).unwrap();
        let (Range { start, end }, done) = (way.inside.clone(), AtomicBool::new(false));
        thread::scope(|scope| {
            let file = file.as_file();
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for offset in [start - 4096, end] {
                        file.write_all_at(&[7; 4096], offset).unwrap();
                    }
                }
            });
            // Also when a comparison fails.
            let _end = SetAtEnd(&done);
            for round in 0..300_u32 {
                let data = [round.to_le_bytes()[0]; 4096];
                for offset in [start, end - 4096] {
                    assert!(way.write(offset, &data).unwrap());
                    file.sync_data().unwrap();
                    let mut found = [0; 4096];
                    file.read_exact_at(&mut found, offset).unwrap();
                    assert_eq!(found, data);
                }
            }
        });
    }
}
