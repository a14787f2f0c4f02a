//! Floor 1: kinds of media, what follows from them, and what a system may know of one.

use std::fmt;
use std::str::FromStr;

/// The kind of medium under a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Medium {
    /// Byte-addressable persistent memory.
    Nvm,
    /// Solid-state disk behind NVMe (also the choice when nothing is known).
    Nvme,
    /// Solid-state disk behind SATA or SAS.
    SataSsd,
    /// Rotating disk.
    Hdd,
}

impl Medium {
    /// Every kind, in the order of the format's codes.
    pub const ALL: [Self; 4] = [Self::Nvm, Self::Nvme, Self::SataSsd, Self::Hdd];

    /// The page size that suits the medium, in bytes, before the sector size is looked at.
    #[must_use]
    pub const fn page_bytes(self) -> u32 {
        match self {
            Self::Nvm | Self::Nvme => 4 << 10,
            Self::SataSsd => 8 << 10,
            Self::Hdd => 256 << 10,
        }
    }

    /// The page size for a device with sectors of `sector_bytes`: never below a sector.
    #[must_use]
    pub const fn page_bytes_for_sector(self, sector_bytes: u32) -> u32 {
        let page = self.page_bytes();
        if page < sector_bytes { sector_bytes } else { page }
    }

    /// The name used on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nvm => "nvm",
            Self::Nvme => "nvme",
            Self::SataSsd => "sata-ssd",
            Self::Hdd => "hdd",
        }
    }

    /// The code that the superblock stores.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Nvm => 1,
            Self::Nvme => 2,
            Self::SataSsd => 3,
            Self::Hdd => 4,
        }
    }

    /// The medium for a code of the superblock.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|medium| medium.code() == code)
    }
}

impl fmt::Display for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Medium {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|medium| medium.name() == text)
            .ok_or_else(|| format!("unknown medium '{text}': expected nvm, nvme, sata-ssd or hdd"))
    }
}

/// Whether a disk may report a write as done that a power cut still takes back. Ordered: the worse answer is the larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum WriteCache {
    /// No: what was written stays.
    WriteThrough,
    /// Yes, until the next flush.
    WriteBack,
}

impl WriteCache {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WriteThrough => "write_through",
            Self::WriteBack => "write_back",
        }
    }
}

impl fmt::Display for WriteCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the system says about the disks under a path. What it does not say is `None`.
///
/// Where several disks or layers lie under one path, each value is the least favourable of those that are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MediaFacts {
    /// The whole disks at the bottom, by the system's names, in order.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Vec::is_empty"))]
    pub disks: Vec<String>,
    /// The kind of medium: a guess from names and flags.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub medium: Option<Medium>,
    /// Whether a disk says that it rotates. Virtual disks say what their hypervisor has as a default.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub rotational: Option<bool>,
    /// Logical block size in bytes. A file on the disk may have another one.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub sector_bytes: Option<u32>,
    /// Physical block size in bytes: what the medium rewrites as a whole.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub physical_block_bytes: Option<u32>,
    /// Whether a power cut can take back writes that were not flushed.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub write_cache: Option<WriteCache>,
    /// Whether transfers to the path itself can bypass the page cache.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub direct_io: Option<bool>,
    /// What such transfers must be aligned to, in bytes.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub direct_io_bytes: Option<u32>,
}

impl MediaFacts {
    /// Both together: the least favourable of what is known, and the disks of both.
    #[must_use]
    pub fn worst_of(self, other: Self) -> Self {
        let mut disks = self.disks;
        disks.extend(other.disks);
        disks.sort_unstable();
        disks.dedup();
        Self {
            disks,
            // The codes of the format happen to rise as the media get slower.
            medium: self.medium.into_iter().chain(other.medium).max_by_key(|medium| medium.code()),
            rotational: self.rotational.max(other.rotational),
            sector_bytes: self.sector_bytes.max(other.sector_bytes),
            physical_block_bytes: self.physical_block_bytes.max(other.physical_block_bytes),
            write_cache: self.write_cache.max(other.write_cache),
            direct_io: self.direct_io.into_iter().chain(other.direct_io).min(),
            direct_io_bytes: self.direct_io_bytes.max(other.direct_io_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_follows_medium_and_sector() {
        assert_eq!(Medium::Nvm.page_bytes_for_sector(512), 4096);
        assert_eq!(Medium::Nvme.page_bytes_for_sector(4096), 4096);
        assert_eq!(Medium::SataSsd.page_bytes_for_sector(512), 8192);
        assert_eq!(Medium::Hdd.page_bytes_for_sector(512), 262_144);
        assert_eq!(Medium::Nvme.page_bytes_for_sector(16_384), 16_384);
    }

    #[test]
    fn names_and_codes_round_trip() {
        for medium in Medium::ALL {
            assert_eq!(medium.name().parse::<Medium>(), Ok(medium));
            assert_eq!(Medium::from_code(medium.code()), Some(medium));
        }
        assert_eq!(Medium::from_code(0), None);
        assert!("floppy".parse::<Medium>().is_err());
    }

    #[test]
    fn the_worst_of_two_is_what_counts() {
        let solid = MediaFacts {
            disks: vec!["sdb".to_owned()],
            medium: Some(Medium::Nvme),
            rotational: Some(false),
            sector_bytes: Some(4096),
            physical_block_bytes: Some(4096),
            write_cache: Some(WriteCache::WriteBack),
            direct_io: Some(true),
            direct_io_bytes: Some(512),
        };
        let rotating = MediaFacts {
            disks: vec!["sda".to_owned()],
            medium: Some(Medium::Hdd),
            rotational: Some(true),
            sector_bytes: Some(512),
            physical_block_bytes: Some(65536),
            write_cache: Some(WriteCache::WriteThrough),
            direct_io: Some(false),
            direct_io_bytes: None,
        };
        let worst = MediaFacts {
            disks: vec!["sda".to_owned(), "sdb".to_owned()],
            medium: Some(Medium::Hdd),
            rotational: Some(true),
            sector_bytes: Some(4096),
            physical_block_bytes: Some(65536),
            write_cache: Some(WriteCache::WriteBack),
            direct_io: Some(false),
            direct_io_bytes: Some(512),
        };
        assert_eq!(solid.clone().worst_of(rotating.clone()), worst);
        assert_eq!(rotating.worst_of(solid), worst);
        assert_eq!(worst.clone().worst_of(worst.clone()), worst);
        assert_eq!(worst.clone().worst_of(MediaFacts::default()), worst);
    }
}
