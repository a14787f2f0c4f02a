//! One line of JSON for each command.

use freehold::Extent;
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) extents: Option<Vec<ListedExtent>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) areas: Option<Vec<Area>>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) stat: Option<Stat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
}

/// Free space in a row.
#[derive(Debug, Serialize)]
pub(super) struct Area {
    pub(super) offset: u64,
    pub(super) bytes: u64,
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

    /// About what a name stands for: place and generation of one extent, or a list of several.
    pub(super) fn about(op: &str, name: &str, extents: &[Extent]) -> Self {
        let (one, several) = match extents {
            [extent] => (Some(extent), None),
            several => (None, Some(several.iter().copied().map(ListedExtent::from).collect())),
        };
        Self {
            name: Some(name.to_owned()),
            offset: one.map(|extent| extent.offset),
            bytes: Some(extents.iter().map(|extent| extent.len).sum()),
            generation: one.map(|extent| extent.generation),
            extents: several,
            ..Self::done(op)
        }
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
