//! Which areas to take, when there are several sources of free space: pure decisions that know nothing of devices.
//!
//! A caller gives [`Source`]s with free areas, and a [`Request`]; [`place`] answers with a [`Plan`], or with what was
//! short. It does no I/O, keeps nothing, changes nothing of the input, and the same input always gives the same plan.
//!
//! ```
//! use freehold::placement::{Area, Policy, Request, Source, place};
//!
//! let (a, b) = ([Area::new(0, 30)], [Area::new(0, 40)]);
//! let sources = [Source::new("A", &a), Source::new("B", &b)];
//! let plan = place(&sources, &Request::new(60, Policy::Normal))?;
//! let taken: Vec<_> = plan.legs[0].iter().map(|piece| (piece.source, piece.start, piece.length)).collect();
//! assert_eq!(taken, [("B", 0, 40), ("A", 0, 20)]);
//! println!("{}", plan.explain(&sources, &Request::new(60, Policy::Normal)));
//! # Ok::<(), freehold::placement::PlacementError>(())
//! ```
//!
//! # Legs and rows
//! What is placed has `stripes x mirrors + parity` legs of the same length. A row is one unit in each leg; it gives as
//! many logical units as there are stripes. Every round gives every leg one piece of the same length, and so the legs
//! grow in lock-step:
//!
//! ```text
//!            row 0                 row n
//!  leg 0    |■■■■■■■■■■|■■■■|■■■■■■■■■|     on source B, then A, then C
//!  leg 1    |■■■■■■■■■■|■■■■|■■■■■■■■■|     on source C, then C, then A
//!            1st round   2nd  3rd
//! ```
//!
//! # Policies
//! From strict to loose. A request with a policy runs all steps up to it: what one step found is kept, and only the rest
//! goes on to the next. In the pictures `#` is what the volume has, `1` and `2` are what its two legs take, `·` is free
//! and `x` is somebody else's.
//!
//! [`Policy::Contiguous`]: each leg goes on where it ended, or lies in one area if it is new; never split.
//! ```text
//!  A  ####111·····      a leg that was at the end of its area        A  xx11111··      two new legs
//!  B  ####222··x··                                                   B  ··x22222x
//! ```
//! [`Policy::Cling`]: each leg stays on sources that it is on already, in as many pieces as it takes.
//! ```text
//!  A  ####xx111x1x      B is never looked at, whatever is free there
//!  B  ············
//! ```
//! [`Policy::ClingByTags`]: or on a source that shares a listed tag with one of those.
//! ```text
//!  A @east  ####xxxx    A is full
//!  B @west  ········
//!  C @east  1111····    C has the tag of A
//! ```
//! [`Policy::Normal`]: the legs of each row on different sources, and none on a source to be avoided there.
//! ```text
//!  A  ####11111x      the first leg goes on next to itself,
//!  B  ####22xxxx      the second too, as far as that goes,
//!  C  xx222·····      and then on a source that the first is not on
//! ```
//! [`Policy::Anywhere`]: wherever there is space, legs on one source, or in one area.
//! ```text
//!  A  1111122222··
//! ```
//! [`Policy::Inherit`] is what the caller's default says.
//!
//! # How a round chooses
//! Under every policy but `anywhere` a source offers one area: the smallest that holds the whole leg, or else its
//! largest. It weighs what it gives to the leg. The heaviest are taken, equals in the caller's order; within a source
//! equals go by their first unit. Units are taken from the low end. A leg keeps to sources that it knows if those that
//! are taken allow it.
//!
//! # When the rounds find nothing
//! Rounds take what looks best at the moment and may end in a corner. Then an exact search decides, by maximum flow
//! where legs may be split and by branch and bound where they may not, and fails only if no legal placement exists. It
//! has a bound, [`EXACT_BOUND`]; an error says when it was hit. Where the rounds find a placement, theirs stands.
//!
//! # Cost
//! Rounds over `n` areas on `m` sources cost `O((n + m) log (n + m))` for a fixed number of legs; what is not touched is
//! looked at once and not copied. Earlier segments and the avoid list come on top: each round of `cling` looks at all sources
//! that the legs know, each range of the avoid list at the sources that it names, and one that names a source with a listed tag
//! at all.

mod avoid;
mod draft;
mod error;
mod exact;
mod free;
mod instance;
mod logs;
mod plan;
mod request;
mod rounds;
mod story;
mod tags;

use draft::{Draft, Taken};
use instance::Instance;

pub use error::PlacementError;
pub use exact::EXACT_BOUND;
pub use plan::{Method, Partition, Piece, Plan};
pub use request::{Area, Avoid, Origin, Policy, Request, Segment, Source, Step};
pub use rounds::PARTITION_BOUND;
pub use story::{Because, Decision, Explanation, Reason};

/// The most legs, and the most logs, that a request may ask for.
pub const MAX_LEGS: usize = 4096;

/// Decides which areas to take.
///
/// # Errors
/// [`PlacementError`]: what is wrong with the input, or what was short. Nothing is taken then.
pub fn place<H: Copy + Ord>(
    sources: &[Source<'_, H>],
    request: &Request<'_, H>,
) -> Result<Plan<H>, PlacementError> {
    let instance = Instance::new(sources, request)?;
    let placed = decide(&instance, false).0?;
    let handle = |source: usize| sources.get(source).map(|source| source.handle);
    let piece = |taken: &Taken| {
        Some(Piece { source: handle(taken.source)?, start: taken.start, length: taken.length })
    };
    let pieces = |taken: &[Taken]| taken.iter().filter_map(piece).collect();
    let draft = &placed.draft;
    Ok(Plan {
        legs: draft.legs.iter().map(|leg| pieces(leg)).collect(),
        metadata: pieces(&draft.metadata),
        log: pieces(&draft.log),
        placed_units: draft.rows * instance.stripes,
        unplaced_units: draft.rest() * instance.stripes,
        method: placed.method,
        partition: placed.partition(),
    })
}

/// Tells how [`place`] decides on this input: what each round takes and why, and why not from the other sources; also
/// when nothing is placed in the end.
///
/// # Errors
/// [`PlacementError`] when the input is wrong by itself, or so short that no round is tried.
pub fn explain<H: Copy + Ord>(
    sources: &[Source<'_, H>],
    request: &Request<'_, H>,
) -> Result<Explanation<H>, PlacementError> {
    let instance = Instance::new(sources, request)?;
    let (result, story) = decide(&instance, true);
    let outcome = match &result {
        Ok(placed) => format!(
            "{} of {} units placed{}{}",
            placed.draft.rows * instance.stripes,
            instance.rows * instance.stripes,
            if placed.method == Method::Exact { ", by the exact search" } else { "" },
            match placed.partition() {
                Partition::NotAsked | Partition::Apart => "",
                Partition::Shared => "; legs share listed tags, for no areas for whole legs keep them apart",
                Partition::Bounded =>
                    "; legs share listed tags, for the search for others ended at its bound",
            }
        ),
        Err(error) => format!("nothing placed: {error}"),
    };
    let log = result.map(|placed| placed.draft.log).unwrap_or_default();
    Ok(Explanation::new(story, &log, outcome, |source| sources.get(source).map(|source| source.handle)))
}

impl<H: Copy + Ord> Plan<H> {
    /// Tells why each area of this plan was taken and why others were not. `sources` and `request` are those that it
    /// was made from: the decision is made once more, with every reason written down.
    #[must_use]
    pub fn explain(&self, sources: &[Source<'_, H>], request: &Request<'_, H>) -> Explanation<H> {
        explain(sources, request).unwrap_or_else(|error| Explanation {
            decisions: Vec::new(),
            log: Vec::new(),
            outcome: format!("this plan is not of this input: {error}"),
        })
    }
}

/// A placement that is decided.
struct Placed<'i, 'a> {
    draft: Draft<'i, 'a>,
    method: Method,
    /// What the step `contiguous` found.
    partition: Partition,
}

impl Placed<'_, '_> {
    /// What is true of the legs as they are: no leg may have a listed tag of another.
    fn partition(&self) -> Partition {
        let tags = &self.draft.instance.tags;
        if !tags.are_listed() || self.draft.instance.previous.is_some() {
            return Partition::NotAsked;
        }
        let mut owners: Vec<Option<usize>> = vec![None; tags.count()];
        for (leg, pieces) in self.draft.legs.iter().enumerate() {
            for &tag in pieces.iter().flat_map(|piece| tags.of(piece.source)) {
                match owners.get_mut(tag) {
                    Some(Some(owner)) if *owner != leg && self.partition == Partition::Bounded => {
                        return Partition::Bounded;
                    }
                    Some(Some(owner)) if *owner != leg => return Partition::Shared,
                    Some(owner) => *owner = Some(leg),
                    None => {}
                }
            }
        }
        Partition::Apart
    }
}

/// The rounds, then the logs; the logs first if that fails; and then the exact search.
fn decide<'i, 'a>(
    instance: &'i Instance<'a>,
    told: bool,
) -> (Result<Placed<'i, 'a>, PlacementError>, story::Story) {
    let mut draft = Draft::new(instance);
    draft.story = told.then(Vec::new);
    let partition = rounds::run(&mut draft);
    let mut story = draft.story.take().unwrap_or_default();
    let rounds_placed = draft.rows;
    let has_logs = draft.rows > 0 && logs::place(&mut draft);
    let mut best = has_logs.then_some(Placed { draft, method: Method::Rounds, partition });
    if best.as_ref().is_some_and(|placed| placed.draft.rest() == 0) {
        return (best.ok_or_else(|| short(instance, rounds_placed, true)), story);
    }
    if instance.logs > 0 && best.is_none() {
        let (placed, told) = logs_first(instance, told);
        if let Some(placed) = placed.filter(|placed| placed.draft.rest() == 0 || instance.approximate) {
            story = told;
            if placed.draft.rest() == 0 {
                return (Ok(placed), story);
            }
            best = Some(placed);
        }
    }
    let (found, searched) = exact::search(instance, best.is_some());
    let searched = searched && (partition != Partition::Bounded || instance.limit > Step::Contiguous);
    if let Some(draft) = found {
        story.iter_mut().for_each(|round| round.kept = false);
        story.extend(exact::told(&draft));
        best = Some(Placed { draft, method: Method::Exact, partition });
    }
    let result = match best {
        Some(placed) if instance.approximate || placed.draft.rest() == 0 => Ok(placed),
        _ => Err(short(instance, rounds_placed, searched)),
    };
    (result, story)
}

/// Logs where they would be if there were no data, and then the rounds on the rest.
fn logs_first<'i, 'a>(instance: &'i Instance<'a>, told: bool) -> (Option<Placed<'i, 'a>>, story::Story) {
    let mut draft = Draft::new(instance);
    draft.story = told.then(Vec::new);
    if !logs::place(&mut draft) {
        return (None, Vec::new());
    }
    if instance.log_separate {
        let logs: Vec<usize> = draft.log.iter().map(|log| log.source).collect();
        draft.close(logs.into_iter());
    }
    let partition = rounds::run(&mut draft);
    let story = draft.story.take().unwrap_or_default();
    ((draft.rows > 0).then_some(Placed { draft, method: Method::Rounds, partition }), story)
}

/// What was short, when everything that is wrong by itself was ruled out before.
fn short(instance: &Instance<'_>, placed: u64, searched: bool) -> PlacementError {
    if let Err(error) = instance.has_room_for_metadata() {
        return error;
    }
    let free = instance.free.iter().map(free::Free::units).sum::<u64>();
    if free < instance.legs as u64 {
        return PlacementError::InsufficientTotal { needed: instance.legs as u64, free };
    }
    if instance.logs > 0 {
        let mut without = instance.clone();
        without.logs = 0;
        if decide(&without, false).0.is_ok() {
            return PlacementError::NoLogSpace { areas: instance.logs, units: instance.log_units, searched };
        }
    }
    PlacementError::InsufficientSuitable { placed, rows: instance.rows, policy: instance.limit, searched }
}
