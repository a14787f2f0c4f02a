//! What the caller says: sources of free areas, and what is to be placed on them.

/// A half-open range of units of one source, `start` included and `end` not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Area {
    /// The first unit.
    pub start: u64,
    /// The first unit behind it.
    pub end: u64,
}

impl Area {
    /// The units from `start` to `end`, without `end`.
    #[must_use]
    pub const fn new(start: u64, end: u64) -> Self {
        Self { start, end }
    }

    /// How many units it has.
    #[must_use]
    pub const fn units(self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// Something that has free areas: a device, a segment, a file. The placement knows it by its handle only.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a, H> {
    /// How the caller calls it; different for each source.
    pub handle: H,
    /// Names that it may have in common with others: a site, a rack, a controller. A leading `@` does not count.
    pub tags: &'a [&'a str],
    /// What is free, in any order, without overlaps. Areas that touch are one area.
    pub areas: &'a [Area],
    /// Its size in units, when areas are to be compared with it.
    pub units: Option<u64>,
    /// Whether anything may be placed there. If not, it still counts as a place of earlier segments.
    pub allocatable: bool,
}

impl<'a, H> Source<'a, H> {
    /// A source without tags, of unknown size, that may be used.
    #[must_use]
    pub const fn new(handle: H, areas: &'a [Area]) -> Self {
        Self { handle, tags: &[], areas, units: None, allocatable: true }
    }
}

/// How strictly units must be kept together. See the [module](super) for a picture of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Each leg in one area, behind its last unit if it has any.
    Contiguous,
    /// Each leg on sources that it is on already.
    Cling,
    /// As [`Cling`](Self::Cling), or on a source that shares a listed tag with one of those.
    ClingByTags,
    /// Legs of a row on different sources.
    Normal,
    /// Wherever there is space.
    Anywhere,
    /// What [`Request::default_policy`] says.
    Inherit,
}

/// The steps of a placement, from strict to loose: a request with a policy runs all steps up to its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Behind the last unit of each leg, or in one area for each.
    Contiguous,
    /// On sources that are used already.
    Cling,
    /// On sources that share a tag with those.
    ClingByTags,
    /// On different sources.
    Normal,
    /// Anywhere.
    Anywhere,
}

impl Policy {
    /// The last step that it allows; none for [`Inherit`](Self::Inherit).
    #[must_use]
    pub const fn step(self) -> Option<Step> {
        match self {
            Self::Contiguous => Some(Step::Contiguous),
            Self::Cling => Some(Step::Cling),
            Self::ClingByTags => Some(Step::ClingByTags),
            Self::Normal => Some(Step::Normal),
            Self::Anywhere => Some(Step::Anywhere),
            Self::Inherit => None,
        }
    }
}

impl Step {
    /// The name of the policy that ends with this step.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Contiguous => "contiguous",
            Self::Cling => "cling",
            Self::ClingByTags => "cling_by_tags",
            Self::Normal => "normal",
            Self::Anywhere => "anywhere",
        }
    }
}

/// Where one leg of an earlier segment lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<H> {
    /// The source.
    pub source: H,
    /// Its first unit there. It is as long as the segment has units for each stripe.
    pub start: u64,
}

/// A part of the volume that is there already.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a, H> {
    /// How many units it adds to the volume.
    pub units: u64,
    /// One place for each leg, in the order of the legs.
    pub legs: &'a [Origin<H>],
}

/// Sources on which the new legs must not be, for a logical range. The first range begins with the first unit of
/// the request, each other one behind the one before.
#[derive(Clone, Copy, Debug)]
pub struct Avoid<'a, H> {
    /// How many units of the request it covers.
    pub units: u64,
    /// The sources.
    pub sources: &'a [H],
}

/// What is to be placed. `..Request::new(units, policy)` fills in what is not said.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a, H> {
    /// Logical units: a row of one unit in each leg gives as many as there are stripes.
    pub units: u64,
    /// How strictly.
    pub policy: Policy,
    /// What [`Policy::Inherit`] means.
    pub default_policy: Policy,
    /// Parallel areas that share the units among them.
    pub stripes: u32,
    /// How many copies of each unit there are.
    pub mirrors: u32,
    /// Legs of the same length that add no units.
    pub parity: u32,
    /// Whether less will do when not all can be placed.
    pub approximate: bool,
    /// The tags that count, with or without a leading `@`; `*` lists all tags of all sources.
    pub tags: &'a [&'a str],
    /// Whether legs stay on any source that they are on, and not only on those of the last segment.
    pub maximise_cling: bool,
    /// The volume so far, which the new units continue. It counts only when its last segment has as many legs.
    pub previous: &'a [Segment<'a, H>],
    /// Where the new legs must not be.
    pub avoid: &'a [Avoid<'a, H>],
    /// Units in front of the data of each leg, in the same area.
    pub metadata_units: u64,
    /// How many logs are to be placed beside the legs.
    pub log_areas: u32,
    /// How long each of them is, in one piece.
    pub log_units: u64,
    /// Whether logs must be on sources that have no data of the volume: of its earlier segments, of what is placed now,
    /// or of what the avoid list names, which is where its other copies are.
    pub log_separate: bool,
}

impl<H> Request<'_, H> {
    /// One leg of so many units, all or nothing.
    #[must_use]
    pub const fn new(units: u64, policy: Policy) -> Self {
        Self {
            units,
            policy,
            default_policy: Policy::Normal,
            stripes: 1,
            mirrors: 1,
            parity: 0,
            approximate: false,
            tags: &[],
            maximise_cling: true,
            previous: &[],
            avoid: &[],
            metadata_units: 0,
            log_areas: 0,
            log_units: 0,
            log_separate: false,
        }
    }
}
