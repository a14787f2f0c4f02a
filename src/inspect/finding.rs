//! One thing that is not as it should be.

use std::collections::HashSet;
use std::fmt;

use crate::error::{Error, Result, Structure};

/// What a finding is about. The names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum FindingKind {
    /// A superblock copy cannot be used.
    Superblock,
    /// The note of the last durable LSN cannot be used.
    Witness,
    /// The journal is refused.
    Journal,
    /// Pieces of groups that nothing says were durable end the journal: what a power loss leaves, and what damage to the
    /// last groups looks like, too.
    TornTail,
    /// The device is shorter than the store.
    Truncated,
    /// A block of checksums over other metadata blocks is damaged.
    ChecksumTree,
    /// The frontier is damaged or contradicts the segments.
    AllocatorState,
    /// A segment record is damaged or contradicts itself.
    SegmentRecord,
    /// A bitmap is damaged or marks pages that cannot be used.
    Bitmap,
    /// A page header is damaged or contradicts the bitmap.
    PageHeader,
    /// Two extents own the same page.
    Overlap,
    /// Pages in use that no extent owns.
    Leaked,
    /// A count in a record is not what a recount gives.
    Count,
    /// The bitmap has a longer free run than the record says there can be.
    Class,
    /// A segment is used in another way than its role says.
    Role,
    /// A header is newer than its segment's record.
    Generation,
    /// The head of a region of items is damaged, or is not what its header says.
    Region,
    /// The parts of a span do not fit together.
    Span,
    /// The device has other sizes than the store was made for.
    Geometry,
    /// Something was written for a segment that is not in use.
    Frontier,
}

impl FindingKind {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Superblock => "superblock",
            Self::Witness => "witness",
            Self::Journal => "journal",
            Self::TornTail => "torn_tail",
            Self::Truncated => "truncated",
            Self::ChecksumTree => "checksum_tree",
            Self::AllocatorState => "allocator_state",
            Self::SegmentRecord => "segment_record",
            Self::Bitmap => "bitmap",
            Self::PageHeader => "page_header",
            Self::Overlap => "overlap",
            Self::Leaked => "leaked",
            Self::Count => "count",
            Self::Class => "class",
            Self::Role => "role",
            Self::Generation => "generation",
            Self::Region => "region",
            Self::Span => "span",
            Self::Geometry => "geometry",
            Self::Frontier => "frontier",
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Structure> for FindingKind {
    fn from(structure: Structure) -> Self {
        match structure {
            Structure::Superblock => Self::Superblock,
            Structure::Witness => Self::Witness,
            Structure::JournalGroup => Self::Journal,
            Structure::ChecksumTree => Self::ChecksumTree,
            Structure::AllocatorState => Self::AllocatorState,
            Structure::SegmentRecord => Self::SegmentRecord,
            Structure::Bitmap => Self::Bitmap,
            Structure::PageHeader => Self::PageHeader,
            Structure::Region => Self::Region,
        }
    }
}

/// One thing that is not as it should be, and where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Finding {
    /// What it is about.
    pub kind: FindingKind,
    /// Where, in bytes from the start of the device.
    pub offset: u64,
    /// What is wrong, in words.
    pub message: String,
}

impl Finding {
    pub(super) fn new(kind: FindingKind, offset: u64, message: impl Into<String>) -> Self {
        Self { kind, offset, message: message.into() }
    }

    /// The finding that an error means; `None` for an error that is not about damaged bytes.
    #[must_use]
    pub fn from_error(error: &Error) -> Option<Self> {
        match error {
            Error::Corrupt { structure, offset, reason } => {
                Some(Self::new((*structure).into(), *offset, reason.clone()))
            }
            Error::NotFreehold { reason, trace: Some(_) } => {
                Some(Self::new(FindingKind::Superblock, 0, reason.clone()))
            }
            Error::Truncated { found, .. } => {
                Some(Self::new(FindingKind::Truncated, *found, error.to_string()))
            }
            _ => None,
        }
    }
}

/// A hostile image must not make a report grow without bound.
const MAX_FINDINGS: usize = 10_000;

/// Collects findings: one damaged block, which many questions run into, is one finding.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
    damaged: HashSet<(FindingKind, u64)>,
    omitted: u64,
}

impl Findings {
    pub(super) fn add(&mut self, kind: FindingKind, offset: u64, message: impl Into<String>) {
        if self.list.len() < MAX_FINDINGS {
            self.list.push(Finding::new(kind, offset, message));
        } else {
            self.omitted += 1;
        }
    }

    /// Takes an error that says that bytes are damaged; any other one comes back.
    pub(super) fn damage(&mut self, error: &Error) -> Result<()> {
        let finding = Finding::from_error(error).ok_or_else(|| error.clone())?;
        if self.damaged.len() < MAX_FINDINGS && self.damaged.insert((finding.kind, finding.offset)) {
            self.add(finding.kind, finding.offset, finding.message);
        }
        Ok(())
    }

    /// Whether damaged bytes were run into: what they held is not in any count.
    pub(super) fn any_damage(&self) -> bool {
        !self.damaged.is_empty()
    }

    /// The findings, and how many more there were.
    pub(super) fn into_parts(self) -> (Vec<Finding>, u64) {
        (self.list, self.omitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_damaged_block_is_one_finding_and_other_errors_pass_through() {
        let mut findings = Findings::default();
        let error = Error::corrupt(Structure::Bitmap, 4096, "checksum mismatch");
        findings.damage(&error).unwrap();
        findings.damage(&error).unwrap();
        assert!(findings.damage(&Error::Closed).is_err());
        let (list, omitted) = findings.into_parts();
        assert_eq!(list, [Finding::new(FindingKind::Bitmap, 4096, "checksum mismatch")]);
        assert_eq!(omitted, 0);
    }

    #[test]
    fn the_list_is_bounded() {
        let mut findings = Findings::default();
        for offset in 0..MAX_FINDINGS as u64 + 5 {
            findings.add(FindingKind::Leaked, offset, "");
        }
        let (list, omitted) = findings.into_parts();
        assert_eq!((list.len(), omitted), (MAX_FINDINGS, 5));
    }
}
