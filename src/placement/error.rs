//! Why nothing is placed.

use super::{Area, Step};

/// What is wrong with the input, or what was short. Nothing is placed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlacementError {
    /// The request contradicts itself or the sources.
    #[error("{what}")]
    InvalidRequest {
        /// What, and what would do.
        what: String,
        /// The position of the source that it is about.
        source_index: Option<usize>,
    },
    /// Two areas of one source have units in common, or one is free and in use at the same time.
    #[error("areas [{}, {}) and [{}, {}) of source number {source_index} overlap; a unit may be listed once", first.start, first.end, second.start, second.end)]
    OverlappingAreas {
        /// The position of the source.
        source_index: usize,
        /// One of them.
        first: Area,
        /// The other one.
        second: Area,
    },
    /// Two sources have the same handle.
    #[error("source number {source_index} has the handle of an earlier one; each needs its own")]
    DuplicateSource {
        /// The position of the later one.
        source_index: usize,
    },
    /// The units cannot be shared out evenly.
    #[error("{units} units cannot be shared by {stripes} stripes; round to a multiple of them")]
    NotDivisible {
        /// Units asked for.
        units: u64,
        /// Stripes asked for.
        stripes: u32,
    },
    /// Legs must be on different sources, and there are not so many.
    #[error("{legs} legs need as many sources, and {sources} may be used; add sources, or allow 'anywhere'")]
    TooFewSources {
        /// Legs asked for.
        legs: usize,
        /// Sources on which something may be placed.
        sources: usize,
    },
    /// There is not enough free space, wherever it is.
    #[error("{needed} units are needed, and {free} are free")]
    InsufficientTotal {
        /// Units needed, for all legs, their metadata and the logs.
        needed: u64,
        /// Units free on sources that may be used.
        free: u64,
    },
    /// There is enough free space, but not where it is allowed to be.
    #[error(
        "{placed} of {rows} units of each leg could be placed under policy '{}'{}", policy.name(),
        if *searched { "" } else { "; the exact search ended at its bound and may have missed a placement" }
    )]
    InsufficientSuitable {
        /// Units of each leg that the rounds could place.
        placed: u64,
        /// Units that each leg needs.
        rows: u64,
        /// The last step that was allowed.
        policy: Step,
        /// Whether every placement that is allowed was ruled out.
        searched: bool,
    },
    /// The legs can be placed, the logs beside them cannot.
    #[error(
        "no place for {areas} log areas of {units} units beside the legs{}",
        if *searched { "" } else { "; the exact search ended at its bound and may have missed a placement" }
    )]
    NoLogSpace {
        /// Logs asked for.
        areas: u32,
        /// Units of each.
        units: u64,
        /// Whether every placement that is allowed was ruled out.
        searched: bool,
    },
    /// Too few areas can hold the metadata of a leg and data behind it.
    #[error(
        "{units} units of metadata and data behind them need an area each, and {areas} of {legs} legs find one"
    )]
    MetadataTooBig {
        /// Units of metadata in front of each leg.
        units: u64,
        /// Legs that could begin somewhere.
        areas: usize,
        /// Legs asked for.
        legs: usize,
    },
}

impl PlacementError {
    pub(super) fn invalid(what: impl Into<String>) -> Self {
        Self::InvalidRequest { what: what.into(), source_index: None }
    }

    pub(super) fn invalid_source(source_index: usize, what: impl Into<String>) -> Self {
        Self::InvalidRequest { what: what.into(), source_index: Some(source_index) }
    }

    /// Stable name of the kind of error.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::InvalidRequest { .. } => "invalid_request",
            Self::OverlappingAreas { .. } => "overlapping_areas",
            Self::DuplicateSource { .. } => "duplicate_source",
            Self::NotDivisible { .. } => "not_divisible",
            Self::TooFewSources { .. } => "too_few_sources",
            Self::InsufficientTotal { .. } => "insufficient_total",
            Self::InsufficientSuitable { .. } => "insufficient_suitable",
            Self::NoLogSpace { .. } => "no_log_space",
            Self::MetadataTooBig { .. } => "metadata_too_big",
        }
    }

    /// The position of the source that it is about, if it is about one.
    #[must_use]
    pub const fn source_index(&self) -> Option<usize> {
        match self {
            Self::InvalidRequest { source_index, .. } => *source_index,
            Self::OverlappingAreas { source_index, .. } | Self::DuplicateSource { source_index } => {
                Some(*source_index)
            }
            _ => None,
        }
    }
}
