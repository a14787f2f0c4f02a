//! What an opened file is, and how transfers to it must be aligned.

use std::fs::{File, FileType};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::fs::{AtFlags, OFlags, StatxFlags};
use rustix::io::Errno;

use crate::device::DeviceGeometry;

const MIN_SECTOR_BYTES: u32 = 512;
const DEFAULT_BLOCK_BYTES: u32 = 4096;
/// Block sizes of file systems above this are hints for buffering (1 MiB on NFS, say), not units of rewriting.
const MAX_BLOCK_BYTES: u32 = 64 << 10;

/// The kinds of files that can carry a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Regular,
    BlockDevice,
}

impl Kind {
    pub(super) fn of(file_type: FileType) -> io::Result<Self> {
        let (kind, what) = if file_type.is_file() {
            return Ok(Self::Regular);
        } else if file_type.is_block_device() {
            return Ok(Self::BlockDevice);
        } else if file_type.is_dir() {
            (io::ErrorKind::IsADirectory, "a directory")
        } else if file_type.is_fifo() {
            (io::ErrorKind::InvalidInput, "a FIFO")
        } else if file_type.is_socket() {
            (io::ErrorKind::InvalidInput, "a socket")
        } else if file_type.is_char_device() {
            (io::ErrorKind::InvalidInput, "a character device")
        } else {
            (io::ErrorKind::InvalidInput, "of an unknown kind")
        };
        Err(io::Error::new(kind, format!("it is {what}; a regular file or a block device is needed")))
    }
}

/// Finds length and block sizes. Under direct I/O the sector is what transfers must be aligned to, at the least.
pub(super) fn geometry(
    file: &File,
    kind: Kind,
    direct: bool,
    sector_override: Option<u32>,
) -> io::Result<DeviceGeometry> {
    let metadata = file.metadata()?;
    let (len_bytes, logical, physical) = match kind {
        Kind::Regular => {
            let preferred = u32::try_from(metadata.blksize()).unwrap_or(0);
            let usable =
                preferred.is_power_of_two() && (DEFAULT_BLOCK_BYTES..=MAX_BLOCK_BYTES).contains(&preferred);
            let physical = if usable { preferred } else { DEFAULT_BLOCK_BYTES };
            (metadata.len(), MIN_SECTOR_BYTES, physical)
        }
        Kind::BlockDevice => {
            let mut file = file;
            // Inodes of block devices have no length; their end can be sought.
            let len_bytes = file.seek(SeekFrom::End(0))?;
            let logical = rustix::fs::ioctl_blksszget(file)?;
            (len_bytes, logical, rustix::fs::ioctl_blkpbszget(file)?)
        }
    };
    let direct_bytes = if direct { direct_alignment(file, kind)? } else { 0 };
    let sector_bytes = sector_override.unwrap_or(logical).max(direct_bytes).max(MIN_SECTOR_BYTES);
    let physical_block_bytes = physical.max(sector_bytes);
    if !sector_bytes.is_power_of_two() || !physical_block_bytes.is_power_of_two() {
        let message = format!("blocks of {sector_bytes} and {physical_block_bytes} bytes, not powers of two");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    if direct && !len_bytes.is_multiple_of(u64::from(sector_bytes)) {
        let message = format!(
            "its length of {len_bytes} bytes is not a multiple of the {sector_bytes} bytes that direct I/O needs"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(DeviceGeometry { len_bytes, sector_bytes, physical_block_bytes })
}

/// The alignment in bytes that direct I/O needs for offsets, lengths and addresses alike.
pub(super) fn direct_alignment(file: &File, kind: Kind) -> io::Result<u32> {
    let answer = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN);
    match answer {
        Ok(found) if StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::DIOALIGN) => {
            match found.stx_dio_offset_align.max(found.stx_dio_mem_align) {
                0 => Err(refused()),
                bytes => Ok(bytes),
            }
        }
        // An older kernel, or a file system that does not tell. A page is enough for all of them; for a block device
        // the logical block is the documented answer.
        _ if kind == Kind::Regular => Ok(DEFAULT_BLOCK_BYTES),
        _ => Ok(rustix::fs::ioctl_blksszget(file)?),
    }
}

/// Opens an open file once more, for writing: whatever its path leads to by now.
pub(super) fn open_again(file: &File) -> io::Result<File> {
    std::fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Switches an open file to direct I/O.
///
/// Done after opening and not by a flag of it: a refused flag may leave a file behind that was created by the call.
pub(super) fn make_direct(file: &File) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    rustix::fs::fcntl_setfl(file, flags | OFlags::DIRECT).map_err(|e| match e {
        Errno::INVAL | Errno::OPNOTSUPP => refused(),
        other => other.into(),
    })
}

fn refused() -> io::Error {
    let message = "the file system refuses direct I/O for this file; open it without direct I/O";
    io::Error::new(io::ErrorKind::Unsupported, message)
}
