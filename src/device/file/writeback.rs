//! Writing what is in the page cache to the medium before anybody waits for it in a flush, and who is told what goes wrong.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};

use libc::{SYNC_FILE_RANGE_WAIT_AFTER, SYNC_FILE_RANGE_WAIT_BEFORE, SYNC_FILE_RANGE_WRITE, c_uint};
use rustix::io::Errno;

use super::facts;

/// The most that is started at a time: a flush that has ended waits for it.
const MOST_AT_ONCE_BYTES: u64 = 1 << 20;

/// Does as asked, if the system can.
#[derive(Debug, Default)]
pub(super) struct Writeback {
    works: AtomicBool,
    cannot: AtomicBool,
    /// What went wrong first, with a start or with a flush.
    failed: OnceLock<Errno>,
    /// Held by those who start.
    starting: RwLock<()>,
    /// Held by the one who flushes. Of two at a time only one would be told of an error.
    flushing: Mutex<()>,
    /// The same file, opened once more, to wait with. Who waits is told what went wrong since it was told last, with any page of
    /// the file, and each opening is told for itself (since Linux 4.13): waiting on the one that is flushed could take a flush's
    /// error away.
    waiting: OnceLock<File>,
}

impl Writeback {
    /// Starts writing the dirty pages of a range, and does not wait for them. The system does the same of its own accord when pages
    /// have been dirty for long, so that it changes nothing about what is durable. What goes wrong later is told by a flush that is
    /// under way or by the next; what goes wrong at once may have cost pages that no flush finds any more, and is remembered.
    pub(super) fn start(&self, file: &File, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        let mut position = offset;
        while position < end {
            // One who has flushed waits to see what becomes of those who start. Nobody waits for that one: it is a hint.
            let Ok(_starting) = self.starting.try_read() else { return };
            let some = MOST_AT_ONCE_BYTES.min(end - position);
            if self.noted(self.call(file, position, some, SYNC_FILE_RANGE_WRITE)).is_err() {
                return;
            }
            position += some;
        }
    }

    /// Starts, and waits until the pages are written. Without waiting, if the file cannot be opened once more.
    pub(super) fn finish(&self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        let wait = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WAIT_AFTER;
        match self.waiting_on(file) {
            Some(waiting) => Ok(self.noted(self.call(waiting, offset, len, SYNC_FILE_RANGE_WRITE | wait))?),
            None => {
                self.start(file, offset, len);
                Ok(())
            }
        }
    }

    /// Flushes by this call, alone. It fails for ever when anything has failed: what was lost is not dirty any more, and another
    /// flush would not miss it.
    pub(super) fn flush(&self, flush: impl FnOnce() -> Result<(), Errno>) -> io::Result<()> {
        let _flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.failed.get().is_none() {
            self.noted(flush())?;
            // Of what the flush has met, that which is just being started has not said yet what becomes of it.
            drop(self.starting.write().unwrap_or_else(PoisonError::into_inner));
        }
        self.failed.get().map_or(Ok(()), |error| Err((*error).into()))
    }

    fn noted(&self, result: Result<(), Errno>) -> Result<(), Errno> {
        result.inspect_err(|error| {
            self.failed.get_or_init(|| *error);
        })
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
    use std::cell::Cell;
    use std::os::unix::fs::MetadataExt;
    use std::thread;
    use std::time::Duration;

    use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};

    use super::*;

    fn flushed(writeback: &Writeback) -> io::Result<()> {
        writeback.flush(|| Ok(()))
    }

    #[test]
    fn what_cannot_be_started_is_left_to_the_flush_and_not_tried_again() {
        let (_reader, writer) = std::io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(writer));
        let writeback = Writeback::default();
        assert_eq!(sync_file_range(&pipe, 0, 4096, SYNC_FILE_RANGE_WRITE), Err(Errno::SPIPE));
        writeback.start(&pipe, 0, 4096);
        assert!(writeback.cannot.load(Ordering::Relaxed));
        flushed(&writeback).unwrap();
        // Once it has worked, it is an error as any other.
        let writeback = Writeback::default();
        writeback.start(&tempfile::tempfile().unwrap(), 0, 4096);
        writeback.start(&pipe, 0, 4096);
        flushed(&writeback).unwrap_err();
    }

    #[test]
    fn what_fails_is_told_by_every_flush() {
        let file = tempfile::NamedTempFile::new().unwrap();
        // A descriptor that is good for nothing but its name.
        let name = rustix::fs::open(file.path(), OFlags::PATH, Mode::empty()).unwrap();
        let name = File::from(name);
        let failing: [&dyn Fn(&Writeback); 2] =
            [&|writeback| writeback.start(&name, 0, 4096), &|writeback| {
                writeback.flush(|| Err(Errno::BADF)).unwrap_err();
            }];
        for fail in failing {
            let writeback = Writeback::default();
            writeback.start(file.as_file(), 0, 4096);
            flushed(&writeback).unwrap();
            fail(&writeback);
            for _ in 0..2 {
                let error = flushed(&writeback).unwrap_err();
                assert_eq!(Errno::from_io_error(&error), Some(Errno::BADF));
            }
            assert!(!writeback.cannot.load(Ordering::Relaxed));
        }
        // While it is under way, too.
        let writeback = Writeback::default();
        let flush = || {
            writeback.start(&name, 0, 4096);
            Ok(())
        };
        writeback.flush(flush).unwrap_err();
    }

    #[test]
    fn a_flush_waits_for_what_others_start_and_for_other_flushes() {
        let writeback = Writeback::default();
        let done = AtomicBool::new(false);
        let waits_for = |release: &dyn Fn()| {
            done.store(false, Ordering::SeqCst);
            thread::scope(|scope| {
                scope.spawn(|| {
                    flushed(&writeback).unwrap();
                    done.store(true, Ordering::SeqCst);
                });
                thread::sleep(Duration::from_millis(20));
                assert!(!done.load(Ordering::SeqCst));
                release();
            });
        };
        let starting = Cell::new(Some(writeback.starting.read().unwrap()));
        waits_for(&|| drop(starting.take()));
        let flushing = Cell::new(Some(writeback.flushing.lock().unwrap()));
        waits_for(&|| drop(flushing.take()));
    }

    #[test]
    fn waiting_takes_no_error_from_the_flush() {
        let file = tempfile::tempfile().unwrap();
        let writeback = Writeback::default();
        writeback.finish(&file, 0, 4096).unwrap();
        writeback.finish(&file, 0, 4096).unwrap();
        let waiting = writeback.waiting.get().unwrap();
        // Opened for itself, and not a second name for the same opening.
        let flags = fcntl_getfl(&file).unwrap();
        fcntl_setfl(&file, flags | OFlags::APPEND).unwrap();
        assert!(!fcntl_getfl(waiting).unwrap().contains(OFlags::APPEND));
        assert_eq!(waiting.metadata().unwrap().ino(), file.metadata().unwrap().ino());
    }
}
