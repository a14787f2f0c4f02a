//! Typed errors: what failed, where, and what can be done about it.

use std::fmt;
use std::io;
use std::sync::Arc;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Which call of the [`Device`](crate::device::Device) seam failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IoOperation {
    /// Opening or inspecting the file.
    Open,
    /// Reading bytes.
    Read,
    /// Writing bytes.
    Write,
    /// Making completed writes durable.
    Flush,
    /// Telling the device that a range is unused.
    Discard,
    /// Reserving physical space for a range.
    Preallocate,
    /// Taking the lock.
    Lock,
    /// Starting the maintenance thread.
    Spawn,
}

impl fmt::Display for IoOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Discard => "discard",
            Self::Preallocate => "preallocate",
            Self::Lock => "lock",
            Self::Spawn => "spawn a thread",
        })
    }
}

/// Where an operation on a range took place; nothing for one on the whole device.
fn place(offset: u64, len: u64) -> String {
    if len == 0 { String::new() } else { format!(" {len} bytes at offset {offset}") }
}

/// The on-disk structure in which damage was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Structure {
    /// A superblock copy.
    Superblock,
    /// The note of the last durable LSN.
    Witness,
    /// A group in the journal ring.
    JournalGroup,
    /// A block of checksums over other metadata blocks.
    ChecksumTree,
    /// The frontier.
    AllocatorState,
    /// A segment record.
    SegmentRecord,
    /// A segment's bitmap.
    Bitmap,
    /// An extent's header.
    PageHeader,
    /// The head of a region of items.
    Region,
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Superblock => "superblock",
            Self::Witness => "witness",
            Self::JournalGroup => "journal group",
            Self::ChecksumTree => "checksum tree block",
            Self::AllocatorState => "allocator state",
            Self::SegmentRecord => "segment record",
            Self::Bitmap => "bitmap",
            Self::PageHeader => "page header",
            Self::Region => "region head",
        })
    }
}

/// What to do about a store of another version.
fn advice(found: u32, supported: u32) -> &'static str {
    if found > supported {
        "use a newer build"
    } else {
        "it is from before the first release: copy its data out with the build that made it"
    }
}

/// Everything that can go wrong.
///
/// An error other than [`Error::OutcomeUnknown`] means that the call changed nothing. Errors can be cloned because
/// one failed device write is the answer to every transaction of its group.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device failed a call.
    #[error("cannot {operation}{}: {source}", place(*.offset, *.len))]
    Io {
        /// The failed call.
        operation: IoOperation,
        /// First byte of the range, from the start of the device.
        offset: u64,
        /// Length of the range in bytes.
        len: u64,
        /// What the system said.
        source: Arc<io::Error>,
    },

    /// Another process, or another handle of this one, has the device open in a way that excludes this one.
    #[error("the store is open elsewhere ({holder}); close it there first")]
    Locked {
        /// Who is in the way, as far as it can be told.
        holder: String,
    },

    /// The device was opened read-only.
    #[error("the store is open for reading only")]
    ReadOnly,

    /// No superblock of this format was found.
    #[error("not a Freehold store: {reason}")]
    NotFreehold {
        /// What was found instead.
        reason: String,
        /// Where something of a store begins whose superblocks are gone. Formatting over a store leaves that, too, when it is cut
        /// off.
        trace: Option<u64>,
    },

    /// The store was written by a format version that this build does not know.
    #[error("the store has format version {found}, this build reads version {supported}; {}", advice(*.found, *.supported))]
    UnsupportedVersion {
        /// The version in the superblock.
        found: u32,
        /// The version that this build reads.
        supported: u32,
    },

    /// The store uses features that this build does not know.
    #[error("the store uses unknown {kind} features (bits {bits:#x}); use a newer build")]
    UnsupportedFeatures {
        /// `incompatible`, or `read-only compatible` when only writing is refused.
        kind: &'static str,
        /// The unknown bits.
        bits: u64,
    },

    /// The device is shorter than the store on it.
    #[error("the store needs {expected} bytes, the device has {found}; restore its full length")]
    Truncated {
        /// Length recorded in the superblock, in bytes.
        expected: u64,
        /// Length of the device, in bytes.
        found: u64,
    },

    /// Bytes on the device are not what was written there.
    #[error("corrupt {structure} at offset {offset}: {reason}")]
    Corrupt {
        /// What is damaged.
        structure: Structure,
        /// Where, in bytes from the start of the device.
        offset: u64,
        /// In what way.
        reason: String,
    },

    /// The geometry asked for cannot be laid out.
    #[error("cannot lay out the store: {0}")]
    InvalidGeometry(String),

    /// Formatting would overwrite what looks like someone's data.
    #[error("{what} found on the device; formatting would destroy it (force to go on)")]
    DataPresent {
        /// What was found.
        what: String,
    },

    /// An allocation of no bytes.
    #[error("invalid size: {0}")]
    InvalidSize(String),

    /// No run of free pages is long enough.
    #[error("no space for {requested} bytes: {reason}")]
    NoSpace {
        /// Bytes asked for.
        requested: u64,
        /// Why none can be had.
        reason: &'static str,
    },

    /// The extent is not allocated, or is no longer the one that the caller means.
    #[error("extent at offset {offset} is not allocated: {reason}")]
    NotAllocated {
        /// Offset of the extent in bytes.
        offset: u64,
        /// How it is known.
        reason: &'static str,
    },

    /// The extent or the range does not describe space that was handed out.
    #[error("invalid extent at offset {offset}, {len} bytes: {reason}")]
    InvalidExtent {
        /// Offset in bytes.
        offset: u64,
        /// Length in bytes.
        len: u64,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// An extent cannot be given this length where it is.
    #[error("the extent at offset {offset} cannot become {len} bytes long: {reason}")]
    CannotResize {
        /// Offset of the extent in bytes.
        offset: u64,
        /// Length asked for in bytes.
        len: u64,
        /// What is in the way.
        reason: &'static str,
    },

    /// What was asked of an allocation contradicts itself.
    #[error("invalid request: {0}")]
    InvalidRequest(&'static str),

    /// The transaction can never fit into the journal.
    #[error("the transaction needs up to {needed} bytes of journal, {max} can be had at most; split it")]
    TransactionTooLarge {
        /// Journal bytes that it may need.
        needed: u64,
        /// The largest possible, see [`Allocator::max_transaction_bytes`](crate::Allocator::max_transaction_bytes).
        max: u64,
    },

    /// An earlier write or flush failed; nothing more is written through this handle.
    #[error("the store stopped after an I/O error and must be reopened: {cause}")]
    Poisoned {
        /// The first failure.
        cause: Arc<Error>,
    },

    /// The commit may or may not be there after reopening.
    #[error("outcome unknown, reopen the store to see whether it was committed: {cause}")]
    OutcomeUnknown {
        /// The failure that left it open.
        cause: Arc<Error>,
    },

    /// The handle was closed.
    #[error("the store is closed")]
    Closed,

    /// A state that the code rules out was reached; nothing was changed by the call.
    #[error("internal invariant broken: {0}; please report this")]
    Internal(&'static str),
}

impl Error {
    /// A stable, short name of the kind of error, for scripts and logs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::Locked { .. } => "locked",
            Self::ReadOnly => "read_only",
            Self::NotFreehold { .. } => "not_freehold",
            Self::UnsupportedVersion { .. } => "unsupported_version",
            Self::UnsupportedFeatures { .. } => "unsupported_features",
            Self::Truncated { .. } => "truncated",
            Self::Corrupt { .. } => "corrupt",
            Self::InvalidGeometry(_) => "invalid_geometry",
            Self::DataPresent { .. } => "data_present",
            Self::InvalidSize(_) => "invalid_size",
            Self::NoSpace { .. } => "no_space",
            Self::NotAllocated { .. } => "not_allocated",
            Self::InvalidExtent { .. } => "invalid_extent",
            Self::CannotResize { .. } => "cannot_resize",
            Self::InvalidRequest(_) => "invalid_request",
            Self::TransactionTooLarge { .. } => "transaction_too_large",
            Self::Poisoned { .. } => "poisoned",
            Self::OutcomeUnknown { .. } => "outcome_unknown",
            Self::Closed => "closed",
            Self::Internal(_) => "internal",
        }
    }

    /// Whether a failed commit may nevertheless be there after reopening.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::OutcomeUnknown { .. })
    }

    /// Whether the error says that bytes on the device are damaged.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::Truncated { .. })
    }

    pub(crate) fn io(operation: IoOperation, offset: u64, len: u64, source: io::Error) -> Self {
        Self::Io { operation, offset, len, source: Arc::new(source) }
    }

    pub(crate) fn corrupt(structure: Structure, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt { structure, offset, reason: reason.into() }
    }
}
