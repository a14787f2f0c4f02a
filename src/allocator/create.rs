//! Making a new store (fault F7: until the last write it is not one, and then it is whole).

use std::path::Path;
use std::sync::Arc;

use super::offload::offload;
use crate::device::{
    Clock, Device, FileDevice, FileDeviceOptions, Port, Purpose, SystemClock, detect_medium,
};
use crate::error::{Error, IoOperation, Result};
use crate::format::{
    BlockReference, FEATURE_EXTENTS, GeometryRequest, Layout, MIN_BLOCK_BYTES, MIN_STORE_BYTES, StoreId,
    StoreState, Superblock, SuperblockError,
};
use crate::journal::{SuperblockPair, inspect_superblocks};
use crate::media::Medium;

/// Zeros are written in pieces of this size.
const CHUNK_BYTES: u64 = 1 << 20;
/// How much of either end of the device is searched for somebody's data.
const SEARCHED_BYTES: u64 = 1 << 20;

/// A builder for making a store.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> freehold::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// let created = freehold::FormatOptions::new()
///     .page_bytes(8192)
///     .journal_bytes(1 << 20)
///     .create(dir.path().join("store"), 64 << 20)
///     .await?;
/// assert_eq!(created.layout.page_bytes(), 8192);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct FormatOptions {
    medium: Option<Medium>,
    page_bytes: Option<u64>,
    physical_block_bytes: Option<u64>,
    segment_bytes: Option<u64>,
    journal_bytes: Option<u64>,
    store_id: Option<StoreId>,
    force: bool,
    direct_io: bool,
    clock: Arc<dyn Clock>,
}

/// A store that was made.
#[derive(Clone, Debug)]
pub struct Created {
    /// Its identity.
    pub store_id: StoreId,
    /// Where everything lies in it.
    pub layout: Layout,
    /// The medium that the sizes were chosen for.
    pub medium: Medium,
}

impl Default for FormatOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl FormatOptions {
    /// Sizes chosen to suit the device.
    pub fn new() -> Self {
        Self {
            medium: None,
            page_bytes: None,
            physical_block_bytes: None,
            segment_bytes: None,
            journal_bytes: None,
            store_id: None,
            force: false,
            direct_io: false,
            clock: Arc::new(SystemClock::default()),
        }
    }

    /// The medium, instead of asking the system.
    pub fn medium(mut self, medium: Medium) -> Self {
        self.medium = Some(medium);
        self
    }

    /// Page size in bytes, a power of two from 4 KiB.
    pub fn page_bytes(mut self, bytes: u64) -> Self {
        self.page_bytes = Some(bytes);
        self
    }

    /// Physical block of the disk in bytes, a power of two, where it is larger than the system says, as under a loop
    /// device.
    pub fn physical_block_bytes(mut self, bytes: u64) -> Self {
        self.physical_block_bytes = Some(bytes);
        self
    }

    /// Segment size in bytes, a power of two of at least 8 pages, at most 1 GiB.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = Some(bytes);
        self
    }

    /// Size of the journal ring in bytes, at least 32 KiB.
    pub fn journal_bytes(mut self, bytes: u64) -> Self {
        self.journal_bytes = Some(bytes);
        self
    }

    /// Identity of the store, instead of random bits. Two stores must not share one.
    pub fn store_id(mut self, id: StoreId) -> Self {
        self.store_id = Some(id);
        self
    }

    /// Overwrites what looks like someone's data.
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Bypasses the page cache.
    pub fn direct_io(mut self, direct_io: bool) -> Self {
        self.direct_io = direct_io;
        self
    }

    /// Takes time from here.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Makes a store in a new file of `len` bytes. The file does not stay when that fails.
    ///
    /// # Errors
    /// [`Error::InvalidGeometry`], I/O errors; also when the file exists already.
    pub async fn create(&self, path: impl AsRef<Path>, len: u64) -> Result<Created> {
        let (options, path) = (self.clone(), path.as_ref().to_owned());
        offload(true, move || {
            let options = options.suited_to(&path);
            if len < MIN_STORE_BYTES {
                return Err(Error::InvalidGeometry(format!(
                    "{len} bytes are too few, a store has at least {MIN_STORE_BYTES}"
                )));
            }
            let device =
                FileDeviceOptions::new().direct_io(options.direct_io).create_len(Some(len)).open(&path)?;
            let created = options.format(&Arc::new(device));
            if created.is_err() {
                // Nobody else can have it: it was made here and is locked.
                let _ = std::fs::remove_file(&path);
            }
            created
        })
        .await
    }

    /// Makes a store in an existing file or block device.
    ///
    /// # Errors
    /// As [`create`](Self::create), and [`Error::DataPresent`].
    pub async fn open(&self, path: impl AsRef<Path>) -> Result<Created> {
        let (options, path) = (self.clone(), path.as_ref().to_owned());
        offload(true, move || {
            let options = options.suited_to(&path);
            let device: FileDevice = FileDeviceOptions::new().direct_io(options.direct_io).open(&path)?;
            options.format(&Arc::new(device))
        })
        .await
    }

    /// Makes a store on any device.
    pub async fn format_device(&self, device: Arc<dyn Device>) -> Result<Created> {
        let options = self.clone();
        offload(device.may_block(), move || options.format_dyn(device)).await
    }

    fn suited_to(&self, path: &Path) -> Self {
        let medium = self.medium.unwrap_or_else(|| detect_medium(path));
        Self { medium: Some(medium), ..self.clone() }
    }

    fn format(&self, device: &Arc<FileDevice>) -> Result<Created> {
        self.format_dyn(Arc::clone(device) as Arc<dyn Device>)
    }

    fn format_dyn(&self, device: Arc<dyn Device>) -> Result<Created> {
        let medium = self.medium.unwrap_or(Medium::Nvme);
        let mut geometry = device.geometry();
        if let Some(bytes) = self.physical_block_bytes {
            let valid = u32::try_from(bytes).ok().filter(|bytes| bytes.is_power_of_two());
            let valid = valid.filter(|&bytes| bytes >= geometry.sector_bytes);
            geometry.physical_block_bytes = valid.ok_or_else(|| {
                Error::InvalidGeometry(format!(
                    "a physical block of {bytes} bytes is no power of two, or smaller than the sector of {}",
                    geometry.sector_bytes
                ))
            })?;
        }
        let layout = Layout::plan(&GeometryRequest {
            device: geometry,
            medium,
            page_bytes: self.page_bytes,
            segment_bytes: self.segment_bytes,
            journal_bytes: self.journal_bytes,
        })?;
        let port = Port::new(device, Arc::clone(&self.clock), false);
        if port.is_read_only() {
            return Err(Error::ReadOnly);
        }
        if !self.force
            && let Some(what) = find_traces(&port)?
        {
            return Err(Error::DataPresent { what });
        }
        let store_id = match self.store_id {
            Some(id) => id,
            None => random_id()?,
        };

        clear_traces(&port, layout.data_offset())?;
        // The ring is written in full, so that commits never make a file system allocate blocks.
        write_zeros(&port, layout.ring_offset(), layout.ring_bytes())?;
        for range in layout.slots_for_leaves(layout.common_leaf_range()) {
            port.preallocate(range.start, range.end - range.start)?;
        }
        write_zeros(&port, layout.witness_offset(0), layout.block_bytes().into())?;
        write_zeros(&port, layout.witness_offset(1), layout.block_bytes().into())?;
        port.flush()?;
        let superblock = Superblock {
            store_id,
            compatible: 0,
            incompatible: FEATURE_EXTENTS,
            read_only_compatible: 0,
            sequence: 0,
            epoch: 0,
            state: StoreState::Clean,
            medium,
            created_unix_seconds: port.clock().unix_seconds(),
            tail_position: 0,
            tail_lsn: 0,
            next_lsn: 1,
            generation: 0,
            root: BlockReference::ABSENT,
            layout,
        };
        let mut pair = SuperblockPair::fresh(superblock);
        pair.publish(&port, |_| {})?;
        let superblock = pair.current();
        Ok(Created { store_id, layout: superblock.layout.clone(), medium })
    }
}

/// Destroys every trace of an earlier store, durably: from here on the device is not one.
///
/// Its superblock copies go first: while one is left, a power cut must find the store behind it whole.
pub fn clear_traces(port: &Port, metadata_bytes: u64) -> Result<()> {
    let mut copies = inspect_superblocks(port)?.to_vec();
    copies.retain(|copy| !matches!(copy.content, Err(SuperblockError::NoMagic | SuperblockError::Blank)));
    for copy in &copies {
        write_zeros(port, copy.offset, MIN_BLOCK_BYTES.into())?;
    }
    if !copies.is_empty() {
        port.flush()?;
    }
    write_zeros(port, 0, Layout::superblock_search_bytes().min(metadata_bytes))?;
    port.flush()
}

/// What looks like someone's data near either end of the device, in words.
pub fn find_traces(port: &Port) -> Result<Option<String>> {
    let len = port.geometry().len_bytes;
    let front_len = len.min(SEARCHED_BYTES);
    let front = port.read_vec(0, usize::try_from(front_len).unwrap_or(0))?;
    if front.starts_with(b"FREEHOLD") || SuperblockPair::read(port).is_ok() {
        return Ok(Some("a Freehold store was".to_owned()));
    }
    if let Some(at) = front.iter().position(|&byte| byte != 0) {
        return Ok(Some(format!("data at offset {at} was")));
    }
    let back_len = (len - front_len).min(SEARCHED_BYTES);
    let back = port.read_vec(len - back_len, usize::try_from(back_len).unwrap_or(0))?;
    Ok(back.iter().position(|&byte| byte != 0).map(|at| {
        let offset = len - back_len + at as u64;
        format!("data at offset {offset} was")
    }))
}

fn write_zeros(port: &Port, offset: u64, len: u64) -> Result<()> {
    let chunk = vec![0; usize::try_from(len.min(CHUNK_BYTES)).unwrap_or(0)];
    let mut done = 0;
    while done < len {
        let part = usize::try_from((len - done).min(CHUNK_BYTES)).unwrap_or(0);
        port.write(offset + done, chunk.get(..part).unwrap_or(&chunk), Purpose::Format)?;
        done += part as u64;
    }
    Ok(())
}

fn random_id() -> Result<StoreId> {
    let mut id = [0; 16];
    let read = rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Error::io(IoOperation::Read, 0, 16, error.into()))?;
    if read == id.len() { Ok(id) } else { Err(Error::Internal("the system gave too few random bytes")) }
}
