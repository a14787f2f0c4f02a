//! The least that durable transactions cost: one write and one flush for all clients together, into a file that exists
//! in full.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use freehold::Histogram;
use rustix::fs::{Advice, fadvise};

use crate::exit::{Exit, Failure};

const FILE_BYTES: u64 = 64 << 20;
const RECORD_BYTES: usize = 64;
const PIECE_BYTES: usize = 1 << 20;

/// The file, and where the next write goes.
#[derive(Debug)]
pub(super) struct Floor {
    path: PathBuf,
    file: File,
    position: u64,
    /// What all clients write at once.
    records: Vec<u8>,
    pub(super) latencies: Histogram,
    /// Of all turns.
    pub(super) time: Duration,
}

/// Makes a file that has all its blocks, and nothing of it in the cache: some file systems cache what was written in
/// large units, and then write the whole unit for each small change in it.
fn write_in_full(path: &Path) -> io::Result<File> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    let piece = vec![0; PIECE_BYTES];
    for _ in 0..FILE_BYTES / PIECE_BYTES as u64 {
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    Ok(file)
}

impl Floor {
    pub(super) fn new(dir: &Path, clients: u32) -> Result<Self, Failure> {
        let path = dir.join("floor");
        let file = write_in_full(&path).map_err(|error| failed(&path, &error))?;
        let records = vec![0xAB; RECORD_BYTES * clients as usize];
        Ok(Self { path, file, position: 0, records, latencies: Histogram::default(), time: Duration::ZERO })
    }

    /// Appends for so long, and at least once.
    pub(super) fn turn(&mut self, time: Duration) -> Result<(), Failure> {
        let started = Instant::now();
        let mut began = started;
        loop {
            self.append().map_err(|error| failed(&self.path, &error))?;
            let now = Instant::now();
            self.latencies.record_time(now - began);
            if now - started >= time {
                self.time += now - started;
                return Ok(());
            }
            began = now;
        }
    }

    fn append(&mut self) -> io::Result<()> {
        let bytes = self.records.len() as u64;
        if self.position + bytes > FILE_BYTES {
            self.position = 0;
        }
        self.file.write_all_at(&self.records, self.position)?;
        self.position += bytes;
        self.file.sync_data()
    }
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, "io", format!("{}: cannot write to it: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appends_stay_in_the_file_and_begin_again_at_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut floor = Floor::new(dir.path(), 100).unwrap();
        floor.turn(Duration::ZERO).unwrap();
        assert_eq!((floor.latencies.count(), floor.position), (1, 6400));
        floor.position = FILE_BYTES - 6399;
        floor.turn(Duration::ZERO).unwrap();
        assert_eq!((floor.latencies.count(), floor.position), (2, 6400));
        let written = std::fs::read(&floor.path).unwrap();
        assert_eq!(written.len() as u64, FILE_BYTES);
        assert_eq!(written.iter().filter(|&&byte| byte == 0xAB).count(), 6400);
        assert!(floor.time > Duration::ZERO);
    }
}
