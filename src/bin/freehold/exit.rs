//! Exit codes, and the failures that lead to them.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use freehold::Error;
use freehold::error::{IoOperation, Structure};
use freehold::inspect::Finding;

/// What to do without a usable superblock: nothing else says where anything is.
pub(crate) const NO_SUPERBLOCK: &str = "restore the store from a copy, and do not format what is left of it";

/// How the program ends. The numbers are a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything is in order.
    Clean = 0,
    /// It could not be done.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// Corruption was found, or the journal is refused.
    Corrupt = 3,
    /// The store was not closed in order.
    NeedsReplay = 4,
    /// Somebody pressed Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ends without having done its work.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// What, where, and what to do.
    pub(crate) message: String,
    /// Stable name of the kind of error.
    pub(crate) kind: &'static str,
    /// The damage, when that is the reason.
    pub(crate) finding: Option<Finding>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, kind: &'static str, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), kind, finding: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// The failure that an error of the library means for the store at `path`.
    pub(crate) fn store(path: &Path, error: &Error) -> Self {
        let path = path.display();
        let finding = Finding::from_error(error);
        let exit = if finding.is_some() { Exit::Corrupt } else { Exit::Failed };
        let message = match error {
            Error::Io { operation: IoOperation::Open, source, .. }
                if source.kind() == io::ErrorKind::FileTooLarge =>
            {
                format!("{path}: the file system has no files of that size; give a smaller --size")
            }
            // The path is in the text already.
            Error::Io { operation: IoOperation::Open, source, .. } => {
                format!("cannot open {source}; check the path and its permissions")
            }
            Error::NotFreehold { reason, trace: Some(_) } => {
                format!("{path}: {reason}; {NO_SUPERBLOCK}")
            }
            Error::NotFreehold { .. } => {
                format!("{path}: {error}; check the path, or make a store with 'freehold format'")
            }
            Error::Corrupt { structure: Structure::Superblock, .. } => {
                format!("{path}: {error}; {NO_SUPERBLOCK}")
            }
            Error::Corrupt { .. } => {
                format!("{path}: {error}; 'freehold check' lists all damage, restore the store from a copy")
            }
            Error::DataPresent { what } => {
                format!("{path}: {what} found; check the path, or give --force to destroy it")
            }
            _ => format!("{path}: {error}"),
        };
        Self { exit, message, kind: error.kind(), finding }
    }
}
