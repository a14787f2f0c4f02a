//! The backend for regular files and block devices.

mod direct;
mod facts;
mod flush;
mod holes;
mod journal_way;
#[cfg(test)]
mod tests;
pub(super) mod transfer;
mod writeback;

use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FallocateFlags;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use self::direct::WriteGate;
use self::facts::Kind;
use self::flush::Flushes;
use self::journal_way::JournalWay;
use self::writeback::Writeback;
use super::lock::{Access, LockedFile, in_path, open_existing};
use super::{Device, DeviceGeometry, Purpose};
use crate::error::{Error, IoOperation, Result};

/// How to open a [`FileDevice`].
///
/// ```no_run
/// # fn main() -> freehold::Result<()> {
/// let device = freehold::device::FileDeviceOptions::new().direct_io(true).open("/srv/blobs/store")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct FileDeviceOptions {
    read_only: bool,
    direct_io: bool,
    cached_journal: bool,
    create_len: Option<u64>,
    sector_bytes: Option<u32>,
}

impl FileDeviceOptions {
    /// Opens an existing file or block device for reading and writing, through the page cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether to open for reading only. Readers share the device among themselves and exclude a writer.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Whether to bypass the page cache (`O_DIRECT`). Opening fails where the system refuses that.
    pub fn direct_io(mut self, direct_io: bool) -> Self {
        self.direct_io = direct_io;
        self
    }

    /// Whether groups of the journal always go through the page cache, as everything else does without
    /// [`direct_io`](Self::direct_io). Otherwise they are written past it where that is possible and turns out to be quicker.
    pub fn cached_journal(mut self, cached_journal: bool) -> Self {
        self.cached_journal = cached_journal;
        self
    }

    /// With a length in bytes: create a new regular file of exactly that length. It is an error if the path exists.
    ///
    /// The file is sparse; [`Device::preallocate`] gives it space.
    pub fn create_len(mut self, len_bytes: Option<u64>) -> Self {
        self.create_len = len_bytes;
        self
    }

    /// Replaces the sector size, in bytes, that the system reports: a power of two, at least 512. For tests.
    ///
    /// Under direct I/O the sector is never smaller than the alignment that the system needs.
    pub fn sector_bytes(mut self, sector_bytes: Option<u32>) -> Self {
        self.sector_bytes = sector_bytes;
        self
    }

    /// Opens the device and takes its lock. Blocks while the system works.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] when another opener is in the way, and [`Error::Io`] when the path is missing (or, with
    /// [`create_len`](Self::create_len), exists), is neither a regular file nor a block device, or refuses what the
    /// options ask for. A file that could not be created whole is removed again.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<FileDevice> {
        let path = path.as_ref();
        let failed = |e: io::Error| Error::io(IoOperation::Open, 0, 0, in_path(path, &e));
        self.check().map_err(failed)?;
        let access = if self.read_only { Access::Read } else { Access::Write };

        let (file, kind, geometry) = if let Some(len) = self.create_len {
            let file =
                OpenOptions::new().read(true).write(true).create_new(true).open(path).map_err(failed)?;
            let file = LockedFile::lock(file, access)?;
            let geometry = self.finish_creation(&file, path, len).map_err(|e| {
                // The file is still locked, so nobody can have begun to use it. That it could not be created is the
                // error to report, whether or not the remains can be removed.
                let _ = std::fs::remove_file(path);
                failed(e)
            })?;
            (file, Kind::Regular, geometry)
        } else {
            // Looked at before it is opened, because opening a FIFO would wait for its other end.
            let kind =
                std::fs::metadata(path).and_then(|found| Kind::of(found.file_type())).map_err(failed)?;
            let file = LockedFile::lock(open_existing(path, access, kind == Kind::BlockDevice)?, access)?;
            let geometry = self.inspect(&file, kind).map_err(failed)?;
            (file, kind, geometry)
        };

        Ok(FileDevice {
            file,
            path: path.to_owned(),
            geometry,
            kind,
            read_only: self.read_only,
            direct: self.direct_io,
            gate: WriteGate::default(),
            cached_journal: self.cached_journal,
            cannot_tell: AtomicBool::new(false),
            flushes: Flushes::default(),
            writeback: Writeback::default(),
            journal: OnceLock::new(),
        })
    }

    fn check(&self) -> io::Result<()> {
        let message = if self.read_only && self.create_len.is_some() {
            "a file cannot be created for reading only"
        } else if self.sector_bytes.is_some_and(|bytes| bytes < 512 || !bytes.is_power_of_two()) {
            "the sector size must be a power of two and at least 512 bytes"
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    }

    /// Gives a new file its length, and makes both the length and the name durable.
    fn finish_creation(&self, file: &File, path: &Path, len: u64) -> io::Result<DeviceGeometry> {
        file.set_len(len)?;
        let geometry = self.inspect(file, Kind::Regular)?;
        file.sync_all()?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(geometry)
    }

    /// Reads the geometry. Called with the lock held, so that no one is still creating the file.
    fn inspect(&self, file: &File, kind: Kind) -> io::Result<DeviceGeometry> {
        if Kind::of(file.metadata()?.file_type())? != kind {
            let message = "the path was replaced by something else while it was being opened";
            return Err(io::Error::other(message));
        }
        if self.direct_io {
            facts::make_direct(file)?;
        }
        facts::geometry(file, kind, self.direct_io, self.sector_bytes)
    }
}

/// A regular file or a block device, locked for as long as it is open.
///
/// Its length is fixed when it is opened: nothing here makes a file longer or shorter.
#[derive(Debug)]
pub struct FileDevice {
    file: LockedFile,
    path: PathBuf,
    geometry: DeviceGeometry,
    kind: Kind,
    read_only: bool,
    direct: bool,
    gate: WriteGate,
    cached_journal: bool,
    /// The file system has said that it does not know whether a read would wait.
    cannot_tell: AtomicBool,
    flushes: Flushes,
    writeback: Writeback,
    /// How the journal is written, once its place is known.
    journal: OnceLock<Option<JournalWay>>,
}

impl FileDevice {
    /// Whether this is a block device, and not a regular file.
    #[must_use]
    pub fn is_block_device(&self) -> bool {
        self.kind == Kind::BlockDevice
    }

    /// The path that it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether transfers bypass the page cache.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// The alignment of transfers, in bytes.
    fn align(&self) -> usize {
        if self.direct { usize::try_from(self.geometry.sector_bytes).unwrap_or(1) } else { 1 }
    }

    fn journal_way(&self) -> Option<&JournalWay> {
        self.journal.get().and_then(Option::as_ref)
    }

    fn contains(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.geometry.len_bytes)
    }

    /// Refuses changes on a read-only device and outside of it.
    fn check_change(&self, offset: u64, len: u64) -> io::Result<()> {
        if self.read_only {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the device is open for reading only",
            ));
        }
        if self.contains(offset, len) {
            return Ok(());
        }
        let message =
            format!("the range does not lie inside the {} bytes of the device", self.geometry.len_bytes);
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    }

    /// Calls `fallocate` until it is not interrupted; `false` when the file system cannot do it.
    fn fallocate(&self, mode: FallocateFlags, offset: u64, len: u64) -> io::Result<bool> {
        loop {
            match rustix::fs::fallocate(&*self.file, mode, offset, len) {
                Ok(()) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl Device for FileDevice {
    fn geometry(&self) -> DeviceGeometry {
        self.geometry
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if !self.contains(offset, buf.len() as u64) {
            let message = format!("the device ends after {} bytes", self.geometry.len_bytes);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        direct::read(&*self.file, self.align(), offset, buf)
    }

    /// What is in the page cache is read. Past it every read waits.
    fn read_at_once(&self, offset: u64, buf: &mut [u8]) -> bool {
        let len = buf.len();
        if self.direct || !self.contains(offset, len as u64) {
            return false;
        }
        if self.cannot_tell.load(Ordering::Relaxed) {
            return false;
        }
        match preadv2(&*self.file, &mut [IoSliceMut::new(buf)], offset, ReadWriteFlags::NOWAIT) {
            Ok(count) => count == len,
            Err(error) => {
                let cannot_tell = matches!(error, Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL);
                self.cannot_tell.fetch_or(cannot_tell, Ordering::Relaxed);
                false
            }
        }
    }

    fn write_at(&self, offset: u64, data: &[u8], purpose: Purpose) -> io::Result<()> {
        self.check_change(offset, data.len() as u64)?;
        if purpose == Purpose::Journal
            && let Some(way) = self.journal_way()
            && way.write(offset, data)?
        {
            return Ok(());
        }
        direct::write(&*self.file, &self.gate, self.align(), offset, data)
    }

    /// Past the page cache there is nothing left to begin with.
    fn start_writeback(&self, offset: u64, len: u64) {
        if !self.direct && len > 0 && self.check_change(offset, len).is_ok() {
            self.writeback.start(&self.flushes, &self.file, offset, len);
        }
    }

    fn finish_writeback(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check_change(offset, len)?;
        if self.direct || len == 0 {
            return Ok(());
        }
        self.writeback.finish(&self.flushes, &self.file, offset, len)
    }

    /// `fdatasync`, called exactly once: the system call is made here and not by the standard library, which repeats
    /// it after an interruption, and the second answer would hide what the first one lost. After a failure every other flush
    /// fails, too, until the file is opened anew.
    fn flush(&self) -> io::Result<()> {
        if self.read_only {
            return Ok(());
        }
        self.flushes.flush(|| rustix::fs::fdatasync(&*self.file))?;
        if let Some(way) = self.journal_way() {
            way.flushed();
        }
        Ok(())
    }

    fn writes_into_cache(&self) -> bool {
        !self.direct
    }

    fn dedicate_to_journal(&self, ring: Range<u64>) {
        if !self.read_only && !self.direct && !self.cached_journal {
            self.journal.get_or_init(|| JournalWay::new(&self.file, self.kind, ring));
        }
    }

    /// Punches a hole into a regular file, where the file system can; a later write there may lack space again.
    /// Does nothing on a block device.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check_change(offset, len)?;
        if self.is_block_device() || len == 0 {
            return Ok(());
        }
        self.fallocate(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len)?;
        Ok(())
    }

    /// Reserves space in a regular file. On a file system that cannot do that, the holes in the range are filled; where
    /// it does not tell holes either, nothing can be done, and a full file system may stop the store at a checkpoint. Does
    /// nothing on a block device, which has all of its space.
    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check_change(offset, len)?;
        if self.is_block_device() || len == 0 {
            return Ok(());
        }
        if self.fallocate(FallocateFlags::KEEP_SIZE, offset, len)? {
            return Ok(());
        }
        holes::fill(&*self.file, &self.gate, self.align(), offset, len)
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }
}
