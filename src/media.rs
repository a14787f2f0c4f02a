//! Floor 1: kinds of media and what follows from them.

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
}
