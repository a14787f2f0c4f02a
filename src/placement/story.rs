//! What happened while something was placed, for people.

use std::fmt;

use super::Step;
use super::draft::Taken;

/// Why a round did not take from a source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Nothing may be placed there.
    NotAllocatable,
    /// It is to be avoided in these rows, or shares a listed tag with one that is.
    Avoided,
    /// It holds a log that must be apart from the data.
    KeptForLog,
    /// No area of it has room.
    Full,
    /// No area of it holds a leg whole.
    TooSmall {
        /// Units that its longest area could take.
        largest: u64,
        /// Units of a leg.
        needed: u64,
    },
    /// The leg ended on it, and what is behind is not free.
    NotAdjacent {
        /// The unit behind the leg's last one.
        at: u64,
    },
    /// The volume is not on it.
    NotUsed,
    /// The volume is not on it, nor on a source that shares a listed tag with it.
    NoSharedTag,
    /// It shares a listed tag with the source of another leg.
    SharesTag {
        /// The position of that source.
        with: usize,
    },
    /// Others give more.
    Lighter {
        /// Units that it would have given.
        gives: u64,
        /// Units that the lightest of those taken gives.
        least: u64,
    },
    /// It gives as much as those taken, and comes later in the caller's order.
    Later,
    /// It has room, but there is no such source for every leg.
    Alone,
}

/// One round, or what the exact search decided.
#[derive(Clone, Debug)]
pub(super) struct Round {
    /// None for the exact search.
    pub(super) step: Option<Step>,
    pub(super) row: u64,
    pub(super) length: u64,
    pub(super) taken: Vec<Taken>,
    pub(super) skipped: Vec<(usize, Reason)>,
    /// How many more there are that are not told of.
    pub(super) others: usize,
    /// Whether it is part of the plan in the end.
    pub(super) kept: bool,
}

/// Of so many sources the reasons are told in each round; with more, stories would be long.
pub(super) const TOLD: usize = 64;

/// The rounds in their order.
pub(super) type Story = Vec<Round>;

/// What one round of a placement took and why, and why it did not take from other sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<H> {
    /// The step that it belongs to; none for the exact search.
    pub step: Option<Step>,
    /// Units of each leg that were placed before.
    pub row: u64,
    /// Units that each leg got, 0 if the round took nothing.
    pub length: u64,
    /// What each leg got: source, first unit.
    pub taken: Vec<(H, u64)>,
    /// Other sources, and why not they; 64 of them at most.
    pub skipped: Vec<(H, Because<H>)>,
    /// How many other sources there are beyond those.
    pub others: usize,
    /// Whether it is part of the plan: the exact search starts anew.
    pub kept: bool,
}

/// A [`Reason`], and the source that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Because<H> {
    /// The reason.
    pub reason: Reason,
    /// The source in [`Reason::SharesTag`].
    pub with: Option<H>,
}

/// Why areas were taken, and why others were not: [`Plan::explain`](super::Plan::explain) and
/// [`explain`](super::explain). Displayed, it is a text of some lines for each round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation<H> {
    /// The rounds in their order.
    pub decisions: Vec<Decision<H>>,
    /// The logs: source, first unit, units.
    pub log: Vec<(H, u64, u64)>,
    /// How it ended.
    pub outcome: String,
}

impl<H: Copy> Explanation<H> {
    pub(super) fn new(
        story: Story,
        log: &[Taken],
        outcome: String,
        handle: impl Fn(usize) -> Option<H>,
    ) -> Self {
        let because = |reason: Reason| {
            let with = if let Reason::SharesTag { with } = reason { handle(with) } else { None };
            Because { reason, with }
        };
        let decision = |round: Round| Decision {
            step: round.step,
            row: round.row,
            length: round.length,
            taken: round
                .taken
                .iter()
                .filter_map(|taken| Some((handle(taken.source)?, taken.start)))
                .collect(),
            skipped: round
                .skipped
                .into_iter()
                .filter_map(|(source, reason)| Some((handle(source)?, because(reason))))
                .collect(),
            others: round.others,
            kept: round.kept,
        };
        let log = log.iter().filter_map(|log| Some((handle(log.source)?, log.start, log.length)));
        Self { decisions: story.into_iter().map(decision).collect(), log: log.collect(), outcome }
    }
}

impl<H: fmt::Display> fmt::Display for Because<H> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::NotAllocatable => write!(out, "nothing may be placed there"),
            Reason::Avoided => write!(out, "to be avoided in these rows"),
            Reason::KeptForLog => write!(out, "kept for a log"),
            Reason::Full => write!(out, "no area has room"),
            Reason::TooSmall { largest, needed } => {
                write!(out, "no area holds a leg of {needed}, the longest gives {largest}")
            }
            Reason::NotAdjacent { at } => write!(out, "no area begins with {at}, where the leg ended"),
            Reason::NotUsed => write!(out, "the volume is not on it"),
            Reason::NoSharedTag => write!(out, "no listed tag in common with where the volume is"),
            Reason::SharesTag { .. } => match &self.with {
                Some(with) => write!(out, "a listed tag in common with {with}, which is taken"),
                None => write!(out, "a listed tag in common with another that is taken"),
            },
            Reason::Lighter { gives, least } => write!(out, "gives {gives}, those taken {least} or more"),
            Reason::Later => write!(out, "gives no more, and comes later"),
            Reason::Alone => write!(out, "has room, but not every leg finds such a source"),
        }
    }
}

impl<H: fmt::Display> fmt::Display for Explanation<H> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for decision in &self.decisions {
            let step = decision.step.map_or("exact search", Step::name);
            let row = decision.row;
            if decision.length == 0 {
                writeln!(out, "{step}, from row {row}: nothing")?;
            } else {
                write!(out, "{step}, rows {row} to {}:", row + decision.length)?;
                for (source, start) in &decision.taken {
                    write!(out, " {source}[{start},{})", start + decision.length)?;
                }
                writeln!(out, "{}", if decision.kept { "" } else { " (given up)" })?;
            }
            for (source, because) in &decision.skipped {
                writeln!(out, "    not {source}: {because}")?;
            }
            if decision.others > 0 {
                writeln!(out, "    nor {} others", decision.others)?;
            }
        }
        for (source, start, units) in &self.log {
            writeln!(out, "log: {source}[{start},{})", start + units)?;
        }
        writeln!(out, "{}", self.outcome)
    }
}
