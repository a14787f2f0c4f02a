//! One opener: who may have a device open at the same time as whom.
//!
//! A writer excludes everybody, readers share among themselves. The lock belongs to the open file: it goes when the
//! file is closed, also when the process dies. It is advisory, and it is tied to the file's inode, so two device
//! nodes for one block device do not see each other's locks. Writers of block devices are therefore opened
//! exclusively as well, which the kernel enforces for the device itself, against mounted file systems and other
//! exclusive users, whatever the path.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::{Error, IoOperation, Result};

const OTHER_HANDLE: &str = "another process or handle";
const EXCLUSIVE_USER: &str = "a mounted file system or another exclusive user";

/// What the opener is going to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Only read: shares with other readers.
    Read,
    /// Read and write: alone.
    Write,
}

/// Opens an existing file or block device, without taking the lock.
///
/// A block device is claimed exclusively for writing.
pub(super) fn open_existing(path: &Path, access: Access, block_device: bool) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(access == Access::Write);
    if block_device && access == Access::Write {
        options.custom_flags(custom_flags(OFlags::EXCL));
    }
    options.open(path).map_err(|e| {
        if block_device && e.raw_os_error() == Some(Errno::BUSY.raw_os_error()) {
            Error::Locked { holder: EXCLUSIVE_USER.to_owned() }
        } else {
            Error::io(IoOperation::Open, 0, 0, in_path(path, &e))
        }
    })
}

/// Takes the lock for as long as `file` is open. Does not wait.
pub(super) fn lock(file: &File, access: Access) -> Result<()> {
    let taken = match access {
        Access::Read => file.try_lock_shared(),
        Access::Write => file.try_lock(),
    };
    taken.map_err(|e| match e {
        TryLockError::WouldBlock => Error::Locked { holder: OTHER_HANDLE.to_owned() },
        TryLockError::Error(e) => Error::io(IoOperation::Lock, 0, 0, e),
    })
}

/// The same kind of error, with the path in front of the message.
pub(super) fn in_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn custom_flags(flags: OFlags) -> i32 {
    // The system call takes the bits as a signed integer; the sign bit carries no flag.
    flags.bits().cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path, access: Access) -> Result<File> {
        let file = open_existing(path, access, false)?;
        lock(&file, access)?;
        Ok(file)
    }

    fn assert_locked(result: Result<File>) {
        match result {
            Err(Error::Locked { holder }) => assert_eq!(holder, OTHER_HANDLE),
            other => panic!("expected a lock conflict, got {other:?}"),
        }
    }

    #[test]
    fn a_writer_is_alone_and_readers_share() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        std::fs::write(&path, b"x").unwrap();

        let writer = open(&path, Access::Write).unwrap();
        assert_locked(open(&path, Access::Write));
        assert_locked(open(&path, Access::Read));
        drop(writer);

        let first = open(&path, Access::Read).unwrap();
        let second = open(&path, Access::Read).unwrap();
        assert_locked(open(&path, Access::Write));
        drop(first);
        assert_locked(open(&path, Access::Write));
        drop(second);
        open(&path, Access::Write).unwrap();
    }

    #[test]
    fn an_error_of_opening_names_the_path() {
        let error = open_existing(Path::new("/nonexistent/store"), Access::Write, false).unwrap_err();
        assert_eq!(error.kind(), "io");
        assert!(error.to_string().contains("/nonexistent/store"), "{error}");
    }
}
