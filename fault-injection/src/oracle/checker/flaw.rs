//! Why a store gives no picture.

use std::error::Error;
use std::fmt;

/// What the bytes are, if not a sound store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing on the device says that there is a store.
    NotFormatted,
    /// The store is of a kind that version 2 of the format does not describe.
    Unsupported {
        /// What is not known.
        what: &'static str,
    },
    /// The store's metadata is more than an oracle for small stores takes into memory.
    TooLarge {
        /// Metadata and journal, in bytes.
        bytes: u64,
    },
    /// The device failed to read.
    Unreadable {
        /// Where, in bytes.
        offset: u64,
    },
    /// A checksum does not hold where one has to.
    Damaged {
        /// The structure that is damaged.
        what: &'static str,
        /// Where it lies, in bytes.
        offset: u64,
    },
    /// Every checksum holds, but what is said cannot be true.
    Inconsistent {
        /// The kind of thing that is wrong.
        structure: &'static str,
        /// Which of them: a segment, a page of the device, a leaf, a position of the journal, an offset.
        number: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl Flaw {
    /// A disagreement within a superblock copy, named by its offset.
    pub(super) const fn superblock(number: u64, what: &'static str) -> Self {
        Self::Inconsistent { structure: "superblock", number, what }
    }

    /// A disagreement within a group, named by its position.
    pub(super) const fn group(number: u64, what: &'static str) -> Self {
        Self::Inconsistent { structure: "group", number, what }
    }

    /// A disagreement about a segment.
    pub(super) fn segment(number: usize, what: &'static str) -> Self {
        Self::Inconsistent { structure: "segment", number: number as u64, what }
    }

    /// A disagreement about a page, counted from the start of the device.
    pub(super) const fn page(number: u64, what: &'static str) -> Self {
        Self::Inconsistent { structure: "page", number, what }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFormatted => f.write_str("there is no store on the device"),
            Self::Unsupported { what } => write!(f, "the store has an unknown {what}"),
            Self::TooLarge { bytes } => write!(f, "{bytes} bytes of metadata are too many to check"),
            Self::Unreadable { offset } => write!(f, "reading at {offset} failed"),
            Self::Damaged { what, offset } => write!(f, "{what} at {offset} is damaged"),
            Self::Inconsistent { structure, number, what } => write!(f, "{structure} {number}: {what}"),
        }
    }
}

impl Error for Flaw {}
