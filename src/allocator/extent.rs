//! What an allocation returns, and what it is asked for.

/// Space that was handed out: whole pages, or an item smaller than a page, whose bytes go through
/// [`Transaction::write`](crate::Transaction::write). The caller keeps it, in its own index say.
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
///
/// The size picks the role: up to half a page an item of a slab, up to a segment a run of pages exactly as long as
/// needed, beyond that a span of segments.
///
/// ```
/// # use freehold::AllocRequest;
/// let blob = AllocRequest::bytes(70_000).owner(42);
/// let scattered = AllocRequest::bytes(70_000).max_extents(8);
/// let mapped = AllocRequest::bytes(2 << 20).power_of_two();
/// # let _ = (blob, scattered, mapped);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct AllocRequest {
    pub(super) bytes: u64,
    pub(super) owner: u64,
    pub(super) align_bytes: u64,
    pub(super) power_of_two: bool,
    pub(super) max_extents: u32,
    pub(super) near: Option<Extent>,
    pub(super) group: Option<u32>,
    pub(super) at: Option<u64>,
}

impl AllocRequest {
    /// The most extents that one allocation may be given.
    pub const MAX_EXTENTS: u32 = 8;

    /// At least `bytes` bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self {
            bytes,
            owner: 0,
            align_bytes: 1,
            power_of_two: false,
            max_extents: 1,
            near: None,
            group: None,
            at: None,
        }
    }

    /// With this tag, which is stored with the extent and listed with it.
    pub const fn owner(mut self, owner: u64) -> Self {
        self.owner = owner;
        self
    }

    /// Starting at a multiple of so many bytes, a power of two, at most a segment. Never an item.
    pub const fn align(mut self, bytes: u64) -> Self {
        self.align_bytes = bytes;
        self
    }

    /// A power of two of pages, aligned to its length: role `buddy`.
    pub const fn power_of_two(mut self) -> Self {
        self.power_of_two = true;
        self
    }

    /// In up to so many extents when no run is long enough, see
    /// [`alloc_extents`](crate::Transaction::alloc_extents); from 1, the default, to
    /// [`MAX_EXTENTS`](Self::MAX_EXTENTS).
    pub const fn max_extents(mut self, count: u32) -> Self {
        self.max_extents = count;
        self
    }

    /// Best right behind this extent, else in its segment. A hint for runs of pages; nothing fails for its sake.
    pub const fn near(mut self, extent: Extent) -> Self {
        self.near = Some(extent);
        self
    }

    /// Best where others of this group went: things that will be freed at about the same time. A hint, kept in memory.
    pub const fn group(mut self, group: u32) -> Self {
        self.group = Some(group);
        self
    }

    /// At this offset of the device, the start of a page, and nowhere else. For pages only.
    pub const fn at(mut self, offset: u64) -> Self {
        self.at = Some(offset);
        self
    }
}

impl From<u64> for AllocRequest {
    fn from(bytes: u64) -> Self {
        Self::bytes(bytes)
    }
}
