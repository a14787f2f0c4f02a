//! Starting to write what is in the page cache to the medium before anybody waits for it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

/// Starts writing, for as long as the system can.
#[derive(Debug, Default)]
pub(super) struct Writeback {
    cannot: AtomicBool,
}

impl Writeback {
    /// Starts writing the dirty pages of a range, and does not wait for them. It does what the system does of its own accord when
    /// pages have been dirty for long, so that it changes nothing about what is durable, and what goes wrong later is still
    /// told by the next flush.
    pub(super) fn start(&self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        if self.cannot.load(Ordering::Relaxed) {
            return Ok(());
        }
        match sync_file_range(file, offset, len) {
            Ok(()) | Err(Errno::INTR | Errno::AGAIN) => Ok(()),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::SPIPE | Errno::PERM) => {
                self.cannot.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// `sync_file_range` with `SYNC_FILE_RANGE_WRITE` alone.
fn sync_file_range(file: &File, offset: u64, len: u64) -> Result<(), Errno> {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return Err(Errno::INVAL) };
    #[expect(
        unsafe_code,
        reason = "no crate has a safe wrapper; it saves two thirds of a flush behind several writes"
    )]
    // SAFETY: the descriptor is open for as long as the file is borrowed, and no memory is passed.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
    if result == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags};

    use super::*;

    #[test]
    fn what_cannot_be_started_is_left_to_the_flush_and_not_tried_again() {
        let (_reader, writer) = std::io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(writer));
        let writeback = Writeback::default();
        assert_eq!(sync_file_range(&pipe, 0, 4096), Err(Errno::SPIPE));
        writeback.start(&pipe, 0, 4096).unwrap();
        assert!(writeback.cannot.load(Ordering::Relaxed));
    }

    #[test]
    fn other_errors_are_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writeback = Writeback::default();
        writeback.start(file.as_file(), 0, 4096).unwrap();
        // A descriptor that is good for nothing but its name.
        let name = rustix::fs::open(file.path(), OFlags::PATH, Mode::empty()).unwrap();
        let error = writeback.start(&File::from(name), 0, 4096).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::BADF));
        assert!(!writeback.cannot.load(Ordering::Relaxed));
    }
}
