//! What can go wrong in a blob store.

use freehold::Extent;

/// The result of the blob store's calls.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a blob store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The space underneath.
    #[error(transparent)]
    Space(#[from] freehold::Error),
    /// Files outside the store.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The answers cannot be printed.
    #[error("cannot print: {0}")]
    Print(#[from] std::io::Error),
    /// Not a name for a blob.
    #[error("'{name}' cannot be a name: {reason}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no such blob.
    #[error("no blob is named '{0}'")]
    Missing(String),
    /// A blob's bytes do not have its hash.
    #[error("the blob '{name}' is damaged: its bytes do not have its hash")]
    Damaged {
        /// The blob.
        name: String,
    },
    /// The index, and what is allocated, do not belong together.
    #[error("extent at offset {}, {} bytes: {reason}", extent.offset, extent.len)]
    Index {
        /// Where.
        extent: Extent,
        /// In what way.
        reason: &'static str,
    },
    /// More is counted as allocated than is listed.
    #[error("{counted} bytes are counted as allocated, {listed} are listed")]
    Leaked {
        /// Bytes of the counters.
        counted: u64,
        /// Bytes of the extents.
        listed: u64,
    },
    /// The runtime ended before the operation did.
    #[error("the operation was interrupted")]
    Interrupted,
    /// The command line.
    #[error("{0}")]
    Usage(String),
}
