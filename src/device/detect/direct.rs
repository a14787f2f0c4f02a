//! Whether transfers to a path can bypass the page cache. Nothing is locked and nothing is changed.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

/// Whether direct I/O works, and what it must be aligned to in bytes; `None` where the system does not tell.
pub(super) fn direct_io(path: &Path) -> (Option<bool>, Option<u32>) {
    // Anything else is never a device, and opening a FIFO, a terminal or a tape could do something.
    let usable = fs::metadata(path).is_ok_and(|found| found.is_file() || found.file_type().is_block_device());
    if !usable {
        return (None, None);
    }
    match told(path) {
        Some(0) => (Some(false), None),
        Some(bytes) => (Some(true), Some(bytes)),
        // An older kernel, or a file system that does not tell.
        None => (tried(path), None),
    }
}

/// The alignment that the system asks for, 0 when it refuses direct I/O.
fn told(path: &Path) -> Option<u32> {
    let found = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::DIOALIGN).ok()?;
    StatxFlags::from_bits_retain(found.stx_mask)
        .contains(StatxFlags::DIOALIGN)
        .then(|| found.stx_dio_offset_align.max(found.stx_dio_mem_align))
}

/// Whether the path can be opened for reading with direct I/O.
fn tried(path: &Path) -> Option<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(_) => Some(true),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Some(false),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Device, FileDeviceOptions};

    #[test]
    fn the_answer_is_what_a_device_finds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, vec![0; 64 << 10]).unwrap();
        let opened = FileDeviceOptions::new().direct_io(true).open(&path);
        let (works, bytes) = direct_io(&path);
        assert_eq!(works, Some(opened.is_ok()));
        assert_eq!(tried(&path), Some(opened.is_ok()));
        if let (Ok(device), Some(bytes)) = (opened, bytes) {
            assert_eq!(device.geometry().sector_bytes, bytes.max(512));
        }
    }

    #[test]
    fn what_cannot_be_a_device_has_no_answer() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path(), &dir.path().join("missing"), Path::new("/dev/null")] {
            assert_eq!(direct_io(path), (None, None), "{}", path.display());
        }
        assert_eq!(tried(&dir.path().join("missing")), None);
    }
}
