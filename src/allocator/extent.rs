//! What an allocation returns, and what it is asked for.

/// Space that was handed out. Both ends are aligned to pages; the caller keeps it, in its own index say.
///
/// The generation tells this extent from others that lie, or lay, at the same offset: a stale handle is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Extent {
    /// First byte, from the start of the device.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// Which of the extents that ever lay here.
    pub generation: u32,
}

impl Extent {
    /// Size of [`to_bytes`](Self::to_bytes).
    pub const ENCODED_BYTES: usize = 20;

    /// A fixed-size encoding for the caller's own index: offset, length and generation, little-endian.
    ///
    /// ```
    /// # use freehold::Extent;
    /// let extent = Extent { offset: 1 << 20, len: 4096, generation: 3 };
    /// assert_eq!(Extent::from_bytes(&extent.to_bytes()), extent);
    /// ```
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::ENCODED_BYTES] {
        let mut bytes = [0; Self::ENCODED_BYTES];
        let fields = self.offset.to_le_bytes().into_iter().chain(self.len.to_le_bytes());
        for (byte, value) in bytes.iter_mut().zip(fields.chain(self.generation.to_le_bytes())) {
            *byte = value;
        }
        bytes
    }

    /// Decodes what [`to_bytes`](Self::to_bytes) made. The result is checked when it is used.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::ENCODED_BYTES]) -> Self {
        let [o0, o1, o2, o3, o4, o5, o6, o7, l0, l1, l2, l3, l4, l5, l6, l7, generation @ ..] = *bytes;
        Self {
            offset: u64::from_le_bytes([o0, o1, o2, o3, o4, o5, o6, o7]),
            len: u64::from_le_bytes([l0, l1, l2, l3, l4, l5, l6, l7]),
            generation: u32::from_le_bytes(generation),
        }
    }

    /// The first byte behind the extent.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// An allocated extent with its owner tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ExtentInfo {
    /// The extent.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub extent: Extent,
    /// The tag that the caller gave.
    pub owner: u64,
}

/// What to allocate. A plain number of bytes converts into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct AllocRequest {
    pub(super) bytes: u64,
    pub(super) owner: u64,
}

impl AllocRequest {
    /// At least `bytes` bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self { bytes, owner: 0 }
    }

    /// With this tag, which is stored with the extent and listed with it.
    pub const fn owner(mut self, owner: u64) -> Self {
        self.owner = owner;
        self
    }
}

impl From<u64> for AllocRequest {
    fn from(bytes: u64) -> Self {
        Self::bytes(bytes)
    }
}
