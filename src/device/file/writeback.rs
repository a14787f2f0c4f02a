//! Writing what is in the page cache to the medium before anybody waits for it in a flush.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{SYNC_FILE_RANGE_WAIT_AFTER, SYNC_FILE_RANGE_WAIT_BEFORE, SYNC_FILE_RANGE_WRITE, c_uint};
use rustix::io::Errno;

use super::facts;
use super::flush::Flushes;

/// The most that is started at a time: a flush that has ended waits for it.
const MOST_AT_ONCE_BYTES: u64 = 1 << 20;

/// Does as asked, if the system can.
#[derive(Debug, Default)]
pub(super) struct Writeback {
    works: AtomicBool,
    cannot: AtomicBool,
    /// The same file, opened once more, to wait with. Who waits is told what went wrong since it was told last, with any page of
    /// the file, and each opening is told for itself (since Linux 4.13): waiting on the one that is flushed could take a flush's
    /// error away.
    waiting: OnceLock<File>,
}

impl Writeback {
    /// Starts writing the dirty pages of a range, and does not wait for them. The system does the same of its own accord when pages
    /// have been dirty for long, so that it changes nothing about what is durable. What goes wrong is told by flushes.
    pub(super) fn start(&self, flushes: &Flushes, file: &File, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        let mut position = offset;
        while position < end {
            let some = MOST_AT_ONCE_BYTES.min(end - position);
            let started = flushes.start(|| self.call(file, position, some, SYNC_FILE_RANGE_WRITE));
            // It is a hint: nobody waits until it can be given, or gives it again.
            if !matches!(started, Some(Ok(()))) {
                return;
            }
            position += some;
        }
    }

    /// Starts, and waits until the pages are written. Without waiting, if the file cannot be opened once more.
    pub(super) fn finish(&self, flushes: &Flushes, file: &File, offset: u64, len: u64) -> io::Result<()> {
        let wait = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WAIT_AFTER;
        match self.waiting_on(file) {
            Some(waiting) => {
                Ok(flushes.note(self.call(waiting, offset, len, SYNC_FILE_RANGE_WRITE | wait))?)
            }
            None => {
                self.start(flushes, file, offset, len);
                Ok(())
            }
        }
    }

    fn waiting_on(&self, file: &File) -> Option<&File> {
        if let Some(waiting) = self.waiting.get() {
            return Some(waiting);
        }
        // There may be no descriptor to be had just now.
        let opened = facts::open_again(file).ok()?;
        Some(self.waiting.get_or_init(|| opened))
    }

    fn call(&self, file: &File, offset: u64, len: u64, flags: c_uint) -> Result<(), Errno> {
        if self.cannot.load(Ordering::Relaxed) {
            return Ok(());
        }
        match sync_file_range(file, offset, len, flags) {
            Ok(()) => {
                self.works.fetch_or(true, Ordering::Relaxed);
                Ok(())
            }
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::SPIPE | Errno::PERM)
                if !self.works.load(Ordering::Relaxed) =>
            {
                self.cannot.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

fn sync_file_range(file: &File, offset: u64, len: u64, flags: c_uint) -> Result<(), Errno> {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return Err(Errno::INVAL) };
    #[expect(
        unsafe_code,
        reason = "no crate has it without; several blobs are flushed in a third of the time, and a commit waits for a tenth of a checkpoint"
    )]
    // SAFETY: the descriptor is open for as long as the file is borrowed, and no memory is passed.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, flags) };
    if result == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};

    use super::*;

    fn told(flushes: &Flushes) -> Option<Errno> {
        flushes.flush(|| Ok(())).err().and_then(|error| Errno::from_io_error(&error))
    }

    #[test]
    fn what_cannot_be_started_is_left_to_the_flush_and_not_tried_again() {
        let (_reader, writer) = std::io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(writer));
        let (writeback, flushes) = (Writeback::default(), Flushes::default());
        assert_eq!(sync_file_range(&pipe, 0, 4096, SYNC_FILE_RANGE_WRITE), Err(Errno::SPIPE));
        writeback.start(&flushes, &pipe, 0, 4096);
        assert!(writeback.cannot.load(Ordering::Relaxed));
        assert_eq!(told(&flushes), None);
        // Once it has worked, it is an error as any other.
        let (writeback, flushes) = (Writeback::default(), Flushes::default());
        writeback.start(&flushes, &tempfile::tempfile().unwrap(), 0, 4096);
        writeback.start(&flushes, &pipe, 0, 4096);
        assert_eq!(told(&flushes), Some(Errno::SPIPE));
    }

    #[test]
    fn what_fails_is_told_by_flushes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        // A descriptor that is good for nothing but its name.
        let name = File::from(rustix::fs::open(file.path(), OFlags::PATH, Mode::empty()).unwrap());
        let (writeback, flushes) = (Writeback::default(), Flushes::default());
        writeback.start(&flushes, &name, 0, 4096);
        assert_eq!(told(&flushes), Some(Errno::BADF));
        assert!(!writeback.cannot.load(Ordering::Relaxed));
        let (writeback, flushes) = (Writeback::default(), Flushes::default());
        writeback.waiting.set(name).unwrap();
        writeback.finish(&flushes, file.as_file(), 0, 4096).unwrap_err();
        assert_eq!(told(&flushes), Some(Errno::BADF));
    }

    #[test]
    fn waiting_takes_no_error_from_the_flush() {
        let file = tempfile::tempfile().unwrap();
        let (writeback, flushes) = (Writeback::default(), Flushes::default());
        writeback.finish(&flushes, &file, 0, 4096).unwrap();
        writeback.finish(&flushes, &file, 0, 4096).unwrap();
        let waiting = writeback.waiting.get().unwrap();
        // Opened for itself, and not a second name for the same opening.
        let flags = fcntl_getfl(&file).unwrap();
        fcntl_setfl(&file, flags | OFlags::APPEND).unwrap();
        assert!(!fcntl_getfl(waiting).unwrap().contains(OFlags::APPEND));
        assert_eq!(waiting.metadata().unwrap().ino(), file.metadata().unwrap().ino());
    }
}
