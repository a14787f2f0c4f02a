//! Writing what is in the page cache to the medium before anybody waits for it in a flush.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};

use libc::{SYNC_FILE_RANGE_WAIT_AFTER, SYNC_FILE_RANGE_WAIT_BEFORE, SYNC_FILE_RANGE_WRITE, c_uint};
use rustix::io::Errno;

use super::facts;

/// Does as asked, for as long as the system can.
#[derive(Debug, Default)]
pub(super) struct Writeback {
    cannot: AtomicBool,
    /// What went wrong first.
    failed: OnceLock<Errno>,
    /// Held by those who start.
    starting: RwLock<()>,
    /// The same file, opened once more, to wait with. Who waits is told what went wrong since it was told last, with any page of
    /// the file, and each opening is told for itself (since Linux 4.13): waiting on the one that is flushed could take a flush's
    /// error away.
    waiting: OnceLock<File>,
}

impl Writeback {
    /// Starts writing the dirty pages of a range, and does not wait for them. The system does the same of its own accord when pages
    /// have been dirty for long, so that it changes nothing about what is durable. What goes wrong later is told by the next
    /// flush; what goes wrong at once may have cost pages that no flush finds any more, and is for [`check`](Self::check).
    pub(super) fn start(&self, file: &File, offset: u64, len: u64) {
        let _started = self.starting.read().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.call(file, offset, len, SYNC_FILE_RANGE_WRITE) {
            self.failed.get_or_init(|| error);
        }
    }

    /// Whether all that was started is on its way, that which others are just about to start included. Whoever has flushed asks,
    /// for nobody else is told.
    pub(super) fn check(&self) -> io::Result<()> {
        drop(self.starting.write().unwrap_or_else(PoisonError::into_inner));
        self.failed.get().map_or(Ok(()), |error| Err((*error).into()))
    }

    /// Starts, and waits until the pages are written. Without waiting, if the file cannot be opened once more.
    pub(super) fn finish(&self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        let wait = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WAIT_AFTER;
        match self.waiting_on(file) {
            Some(waiting) => Ok(self.call(waiting, offset, len, SYNC_FILE_RANGE_WRITE | wait)?),
            None => {
                self.start(file, offset, len);
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
            // For want of memory nothing was begun, and all is left to the flush.
            Ok(()) | Err(Errno::INTR | Errno::AGAIN | Errno::NOMEM) => Ok(()),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::SPIPE | Errno::PERM) => {
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

    use rustix::fs::{Mode, OFlags};

    use super::*;

    #[test]
    fn what_cannot_be_started_is_left_to_the_flush_and_not_tried_again() {
        let (_reader, writer) = std::io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(writer));
        let writeback = Writeback::default();
        assert_eq!(sync_file_range(&pipe, 0, 4096, SYNC_FILE_RANGE_WRITE), Err(Errno::SPIPE));
        writeback.start(&pipe, 0, 4096);
        assert!(writeback.cannot.load(Ordering::Relaxed));
        writeback.check().unwrap();
    }

    #[test]
    fn what_fails_at_once_is_told_for_ever() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writeback = Writeback::default();
        writeback.start(file.as_file(), 0, 4096);
        writeback.check().unwrap();
        // A descriptor that is good for nothing but its name.
        let name = rustix::fs::open(file.path(), OFlags::PATH, Mode::empty()).unwrap();
        writeback.start(&File::from(name), 0, 4096);
        for _ in 0..2 {
            let error = writeback.check().unwrap_err();
            assert_eq!(Errno::from_io_error(&error), Some(Errno::BADF));
        }
        assert!(!writeback.cannot.load(Ordering::Relaxed));
    }

    #[test]
    fn waiting_takes_no_error_from_the_flush() {
        let file = tempfile::tempfile().unwrap();
        let writeback = Writeback::default();
        writeback.finish(&file, 0, 4096).unwrap();
        writeback.finish(&file, 0, 4096).unwrap();
        let waiting = writeback.waiting.get().unwrap();
        assert_ne!(waiting.as_raw_fd(), file.as_raw_fd());
        assert_eq!(waiting.metadata().unwrap().ino(), file.metadata().unwrap().ino());
    }
}
