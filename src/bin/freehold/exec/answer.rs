//! One line of JSON for each command.

use freehold::inspect::InfoReport;
use serde::Serialize;

use crate::list::ListedExtent;

/// What a command did. Only what belongs to it is printed.
#[derive(Debug, Default, Serialize)]
pub(super) struct Answer {
    pub(super) op: String,
    pub(super) ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requested: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) generation: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lsn: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "extents")]
    pub(super) listed: Option<Vec<ListedExtent>>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) stat: Option<Stat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
}

/// The keys of `info`, and what only an open store has.
#[derive(Debug, Serialize)]
pub(super) struct Stat {
    #[serde(flatten)]
    pub(super) info: InfoReport,
    pub(super) reserved_bytes: u64,
    pub(super) pending_bytes: u64,
}

impl Answer {
    pub(super) fn done(op: &str) -> Self {
        Self { op: op.to_owned(), ok: true, ..Self::default() }
    }

    pub(super) fn failed(op: &str, kind: &str, message: &str) -> Self {
        Self {
            op: op.to_owned(),
            error: Some(kind.to_owned()),
            message: Some(message.to_owned()),
            ..Self::default()
        }
    }

    pub(super) fn is_ok(&self) -> bool {
        self.ok
    }
}
