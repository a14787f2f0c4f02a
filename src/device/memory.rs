//! A device in memory, for tests of programs that embed the allocator and for stores that need not outlive the process.

use std::io;
use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use super::{Device, DeviceGeometry, Purpose};

/// Bytes in memory. Durable only in name: a flush does nothing.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> freehold::Result<()> {
/// use std::sync::Arc;
/// use freehold::{FormatOptions, OpenOptions, device::MemoryDevice};
/// let device = Arc::new(MemoryDevice::zeroed(1 << 20));
/// FormatOptions::new().format_device(device.clone()).await?;
/// let (store, _) = OpenOptions::new().open_device(device).await?;
/// assert!(store.stats().free_bytes > 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MemoryDevice {
    bytes: RwLock<Vec<u8>>,
    geometry: DeviceGeometry,
}

impl MemoryDevice {
    /// `len` zeros, with sectors of 512 bytes.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        Self::from_image(vec![0; len], 512, 512)
    }

    /// A copy of a store, with sectors and physical blocks of these sizes in bytes.
    #[must_use]
    pub fn from_image(image: Vec<u8>, sector_bytes: u32, physical_block_bytes: u32) -> Self {
        let geometry = DeviceGeometry { len_bytes: image.len() as u64, sector_bytes, physical_block_bytes };
        Self { bytes: RwLock::new(image), geometry }
    }

    /// The bytes as they are now.
    #[must_use]
    pub fn image(&self) -> Vec<u8> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn range(&self, offset: u64, len: usize, kind: io::ErrorKind) -> io::Result<Range<usize>> {
        let end = offset.checked_add(len as u64).filter(|&end| end <= self.geometry.len_bytes).ok_or(kind)?;
        let index = |at| usize::try_from(at).map_err(|_| io::Error::from(kind));
        Ok(index(offset)?..index(end)?)
    }
}

impl Device for MemoryDevice {
    fn geometry(&self) -> DeviceGeometry {
        self.geometry
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let range = self.range(offset, buf.len(), io::ErrorKind::UnexpectedEof)?;
        let bytes = self.bytes.read().unwrap_or_else(PoisonError::into_inner);
        buf.copy_from_slice(bytes.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8], _: Purpose) -> io::Result<()> {
        let range = self.range(offset, data.len(), io::ErrorKind::InvalidInput)?;
        let mut bytes = self.bytes.write().unwrap_or_else(PoisonError::into_inner);
        bytes.get_mut(range).ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(data);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn preallocate(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn may_block(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_beyond_the_end_are_errors_and_change_nothing() {
        let device = MemoryDevice::zeroed(1024);
        device.write_at(1000, &[1; 24], Purpose::CallerDirect).unwrap();
        assert!(device.write_at(1001, &[2; 24], Purpose::CallerDirect).is_err());
        assert!(device.write_at(u64::MAX, &[2; 24], Purpose::CallerDirect).is_err());
        assert!(device.read_at(1001, &mut [0; 24]).is_err());
        assert_eq!(device.image()[1000..], [1; 24]);
    }
}
