//! What a turn costs: processor time, bytes and flushes of the device.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{major, minor};
use rustix::time::{ClockId, clock_gettime};

use crate::Failure;

const SECTOR_BYTES: u64 = 512;
/// Columns of `/proc/diskstats`: sectors written, flush requests completed.
const SECTORS: usize = 9;
const FLUSHES: usize = 18;

/// Who counts what is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The device that a directory lies on.
    Device { major: String, minor: String },
    /// This process, where no device is counted, as under a file system in memory. Nobody counts flushes then.
    Process,
}

/// Bytes written and flushes so far.
type Written = (u64, Option<u64>);

impl Source {
    /// The best one for a directory.
    pub(crate) fn under(dir: &Path) -> Result<Self, Failure> {
        let id = std::fs::metadata(dir)?.dev();
        let device = Self::Device { major: major(id).to_string(), minor: minor(id).to_string() };
        Ok(if device.read().is_some() { device } else { Self::Process })
    }

    fn read(&self) -> Option<Written> {
        match self {
            Self::Device { major, minor } => {
                let table = std::fs::read_to_string("/proc/diskstats").ok()?;
                of_device(&table, major, minor)
            }
            Self::Process => {
                let table = std::fs::read_to_string("/proc/self/io").ok()?;
                Some((of_process(&table)?, None))
            }
        }
    }
}

fn of_device(table: &str, major: &str, minor: &str) -> Option<Written> {
    let columns = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let columns = columns.into_iter().find(|columns| columns.get(..2) == Some(&[major, minor]))?;
    let number = |at: usize| columns.get(at)?.parse::<u64>().ok();
    Some((number(SECTORS)? * SECTOR_BYTES, number(FLUSHES)))
}

fn of_process(table: &str) -> Option<u64> {
    table.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse().ok()
}

/// A reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counters {
    written: Option<Written>,
    cpu_seconds: f64,
}

impl Counters {
    pub(crate) fn read(source: &Source) -> Self {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Self { written: source.read(), cpu_seconds: time.tv_sec as f64 + time.tv_nsec as f64 / 1e9 }
    }
}

/// What was used between readings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) cpu_seconds: f64,
    /// With what was written back behind the turn.
    pub(crate) device_bytes: Option<f64>,
    pub(crate) flushes: Option<f64>,
}

impl Cost {
    /// Between the start and the end of a turn; bytes up to when everything was written back.
    pub(crate) fn between(start: &Counters, end: &Counters, settled: &Counters) -> Self {
        let grown = |(from, to): (u64, u64)| to.saturating_sub(from) as f64;
        let bytes = |counters: &Counters| counters.written.map(|written| written.0);
        let flushes = |counters: &Counters| counters.written.and_then(|written| written.1);
        Self {
            cpu_seconds: end.cpu_seconds - start.cpu_seconds,
            device_bytes: bytes(start).zip(bytes(settled)).map(grown),
            flushes: flushes(start).zip(flushes(end)).map(grown),
        }
    }

    /// Both together.
    pub(crate) fn and(&self, other: &Self) -> Self {
        let sum = |of: fn(&Self) -> Option<f64>| of(self).zip(of(other)).map(|(one, another)| one + another);
        Self {
            cpu_seconds: self.cpu_seconds + other.cpu_seconds,
            device_bytes: sum(|cost| cost.device_bytes),
            flushes: sum(|cost| cost.flushes),
        }
    }
}

/// Makes the system write back what it has of the files in a directory.
pub(crate) fn settle(dir: &Path) -> Result<(), Failure> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            settle(&entry.path())?;
        } else if kind.is_file() {
            // A file that a product has just removed needs nothing.
            match File::open(entry.path()) {
                Ok(file) => file.sync_data()?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Bytes of a process that are in memory.
pub(crate) fn resident_bytes(process: u32) -> Result<u64, Failure> {
    let table = std::fs::read_to_string(format!("/proc/{process}/statm"))?;
    let pages: u64 = table.split_whitespace().nth(1).ok_or("statm has no second column")?.parse()?;
    Ok(pages * u64::try_from(rustix::param::page_size())?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    const TABLE: &str = "\
   7       0 loop0 1 0 2 3 4 0 5 6 0 7 8 0 0 0 0 9 10
 254       1 vda1 9 9 9 9 9 9 100 9 0 9 9 6 9 2 1 33 6
 254       0 vda 6 1 6 1 1 4 347 20 0 7 12 62 95 23 11 252 60
";

    #[test]
    fn the_line_of_the_device_is_read() {
        assert_eq!(of_device(TABLE, "254", "0"), Some((347 * 512, Some(252))));
        assert_eq!(of_device(TABLE, "254", "1"), Some((100 * 512, Some(33))));
        assert_eq!(of_device(TABLE, "0", "23"), None);
        // Older systems have fewer columns.
        assert_eq!(of_device("1 2 a 0 0 0 0 0 0 8", "1", "2"), Some((8 * 512, None)));
        assert_eq!(of_process("wchar: 7\nwrite_bytes: 5\n"), Some(5));
    }

    #[test]
    fn what_the_process_uses_grows() {
        let start = Counters::read(&Source::Process);
        let held: Vec<u8> = (0..64 << 20).map(|at: u32| at.to_le_bytes()[0]).collect();
        let held = std::hint::black_box(held);
        let end = Counters::read(&Source::Process);
        let cost = Cost::between(&start, &end, &end);
        assert!(cost.cpu_seconds > 0.0 && cost.flushes.is_none());
        // The system may have taken some of it back.
        assert!(resident_bytes(std::process::id()).unwrap() > 16 << 20);
        assert_eq!(held.len(), 64 << 20);
    }
}
