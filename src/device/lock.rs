//! One opener: who may have a device open at the same time as whom.
//!
//! A writer excludes everybody, readers share among themselves. The lock belongs to the open file: it goes when the
//! file is closed, also when the process dies. A program that starts another one shares its open files with it for the
//! moment until that one runs, so that closing alone would leave the lock taken for as long: it is given back
//! explicitly, and a claim that is in the way gets that moment to go. The lock is advisory, and it is tied to the file's inode, so two device
//! nodes for one block device do not see each other's locks. Writers of block devices are therefore opened
//! exclusively as well, which the kernel enforces for the device itself, against mounted file systems and other
//! exclusive users, whatever the path.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::{Error, IoOperation, Result};

const OTHER_HANDLE: &str = "another process or handle";
const EXCLUSIVE_USER: &str = "a mounted file system or another exclusive user";

/// How often, and after which pause, a block device that somebody has claimed is tried again. The claim cannot be given
/// back but by closing, see above.
const CLAIM_ROUNDS: u32 = 20;
const CLAIM_PAUSE: Duration = Duration::from_millis(1);

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
    let busy = |e: &io::Error| block_device && e.raw_os_error() == Some(Errno::BUSY.raw_os_error());
    let mut opened = options.open(path);
    for _ in 0..CLAIM_ROUNDS {
        match &opened {
            Err(e) if busy(e) => std::thread::sleep(CLAIM_PAUSE),
            _ => break,
        }
        opened = options.open(path);
    }
    opened.map_err(|e| {
        if busy(&e) {
            Error::Locked { holder: EXCLUSIVE_USER.to_owned() }
        } else {
            Error::io(IoOperation::Open, 0, 0, in_path(path, &e))
        }
    })
}

/// An open file with its lock, which is given back when this is dropped.
#[derive(Debug)]
pub(super) struct LockedFile(File);

impl LockedFile {
    /// Takes the lock. Does not wait.
    pub(super) fn lock(file: File, access: Access) -> Result<Self> {
        let taken = match access {
            Access::Read => file.try_lock_shared(),
            Access::Write => file.try_lock(),
        };
        match taken {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { holder: OTHER_HANDLE.to_owned() }),
            Err(TryLockError::Error(e)) => Err(Error::io(IoOperation::Lock, 0, 0, e)),
        }
    }
}

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // What fails here, closing mends.
        let _ = self.0.unlock();
    }
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

    fn open(path: &Path, access: Access) -> Result<LockedFile> {
        LockedFile::lock(open_existing(path, access, false)?, access)
    }

    fn assert_locked(result: Result<LockedFile>) {
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
    fn the_lock_goes_with_its_holder_and_not_with_the_last_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        std::fs::write(&path, b"x").unwrap();
        for access in [Access::Write, Access::Read] {
            let holder = open(&path, access).unwrap();
            // What a program that was just forked has, until it runs.
            let _inherited = holder.try_clone().unwrap();
            assert_locked(open(&path, Access::Write));
            drop(holder);
            open(&path, Access::Write).unwrap();
        }
    }

    #[test]
    fn an_error_of_opening_names_the_path() {
        let error = open_existing(Path::new("/nonexistent/store"), Access::Write, false).unwrap_err();
        assert_eq!(error.kind(), "io");
        assert!(error.to_string().contains("/nonexistent/store"), "{error}");
    }
}
