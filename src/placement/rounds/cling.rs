//! The steps `cling` and `cling_by_tags`: each leg stays on sources that it knows.

use smallvec::SmallVec;

use super::{Seats, take};
use crate::placement::Step;
use crate::placement::draft::Draft;
use crate::placement::free::Free;
use crate::placement::instance::Instance;
use crate::placement::story::Reason;
use crate::placement::tags::Tags;

/// For each leg the sources that it may stay on.
#[derive(Clone, Debug)]
pub(super) struct Homes {
    legs: Vec<Vec<usize>>,
}

impl Homes {
    /// Those of the volume so far.
    pub(super) fn new(instance: &Instance<'_>) -> Self {
        let previous = instance.previous.as_ref();
        Self {
            legs: previous.map_or_else(|| vec![Vec::new(); instance.legs], |previous| previous.homes.clone()),
        }
    }

    /// Whether no leg has been anywhere.
    pub(super) fn are_unknown(&self) -> bool {
        self.legs.iter().all(Vec::is_empty)
    }

    /// The same with all sources that share a listed tag with one of a leg's.
    pub(super) fn with_sharing(&self, tags: &Tags) -> Self {
        Self { legs: self.legs.iter().map(|homes| tags.with_sharing(homes.clone())).collect() }
    }

    /// The sources of a row are known from now on; only they if just the last segment counts.
    pub(super) fn follow(&mut self, seats: &[usize], maximise_cling: bool) {
        for (homes, &source) in self.legs.iter_mut().zip(seats) {
            if !maximise_cling {
                homes.clear();
            }
            if !homes.contains(&source) {
                homes.push(source);
            }
        }
    }

    /// Gives the legs their seats on the chosen sources: each one that it knows, where there is one; the others in order.
    pub(super) fn seated(&self, chosen: Seats) -> Seats {
        if self.are_unknown() {
            return chosen;
        }
        let mut left: SmallVec<[Option<usize>; 8]> = chosen.into_iter().map(Some).collect();
        let known = self.legs.iter().map(|homes| {
            let seat = left.iter_mut().find(|seat| seat.is_some_and(|source| homes.contains(&source)));
            seat.and_then(Option::take)
        });
        let known: SmallVec<[Option<usize>; 8]> = known.collect();
        let mut others = left.into_iter().flatten();
        known.into_iter().filter_map(|seat| seat.or_else(|| others.next())).collect()
    }

    /// Whether any leg knows the source.
    fn know(&self, source: usize) -> bool {
        self.legs.iter().any(|homes| homes.contains(&source))
    }

    /// Forgets sources on which nothing is free.
    fn forget_full(&mut self, free: &[Free<'_>]) {
        for homes in &mut self.legs {
            homes.retain(|&source| free.get(source).is_some_and(|free| free.units() > 0));
        }
    }
}

/// Rounds on sources that the legs know, until one takes nothing.
pub(super) fn run(draft: &mut Draft<'_, '_>, step: Step, homes: &mut Homes) {
    loop {
        let want = draft.want();
        if want == 0 || homes.are_unknown() {
            return;
        }
        homes.forget_full(&draft.free);
        let stranger = if step == Step::Cling { Reason::NotUsed } else { Reason::NoSharedTag };
        let outside = |_: &Draft<'_, '_>, source: usize| (!homes.know(source)).then(|| stranger.clone());
        let Some(seats) = at_home(draft, homes, want).or_else(|| with_others(draft, homes, want)) else {
            draft.tell(step, want, &[], 0, outside);
            return;
        };
        if !take(draft, step, &seats, want, outside) {
            return;
        }
    }
}

/// Each leg on the heaviest source that it knows itself.
fn at_home(draft: &Draft<'_, '_>, homes: &Homes, want: u64) -> Option<Seats> {
    let mut seats = Seats::with_capacity(homes.legs.len());
    for known in &homes.legs {
        let weighed = known.iter().map(|&source| (draft.weight(source, want), source));
        let best = weighed
            .filter(|&(weight, _)| weight > 0)
            .max_by_key(|&(weight, source)| (weight, std::cmp::Reverse(source)));
        seats.push(best?.1);
    }
    if are_distinct(&seats) { Some(seats) } else { matched(draft, homes, want) }
}

fn are_distinct(seats: &[usize]) -> bool {
    if let [_] = seats {
        return true;
    }
    let mut sorted = Seats::from_slice(seats);
    sorted.sort_unstable();
    sorted.windows(2).all(|pair| pair.first() != pair.last())
}

/// Legs that would choose the same source are matched with others that they know: by augmenting paths (Kuhn's form of
/// the Hungarian method), each leg looking at the heaviest first.
fn matched(draft: &Draft<'_, '_>, homes: &Homes, want: u64) -> Option<Seats> {
    let wishes: Vec<Vec<usize>> = homes
        .legs
        .iter()
        .map(|known| {
            let mut wishes: Vec<(u64, usize)> = known
                .iter()
                .map(|&source| (draft.weight(source, want), source))
                .filter(|wish| wish.0 > 0)
                .collect();
            wishes.sort_unstable_by_key(|&(weight, source)| (std::cmp::Reverse(weight), source));
            wishes.into_iter().map(|(_, source)| source).collect()
        })
        .collect();
    let mut holders: Vec<Option<usize>> = vec![None; draft.free.len()];
    for leg in 0..wishes.len() {
        let mut asked = vec![false; draft.free.len()];
        if !seat(leg, &wishes, &mut holders, &mut asked) {
            return None;
        }
    }
    let mut seats = Seats::from_elem(0, wishes.len());
    for (source, holder) in holders.iter().enumerate() {
        if let Some(seat) = holder.and_then(|leg| seats.get_mut(leg)) {
            *seat = source;
        }
    }
    Some(seats)
}

/// Finds a source for a leg, moving others if they can move. As deep as there are legs at most.
fn seat(leg: usize, wishes: &[Vec<usize>], holders: &mut [Option<usize>], asked: &mut [bool]) -> bool {
    for &source in wishes.get(leg).into_iter().flatten() {
        match asked.get_mut(source) {
            Some(asked) if !*asked => *asked = true,
            _ => continue,
        }
        let holder = holders.get(source).copied().flatten();
        if holder.is_none_or(|other| seat(other, wishes, holders, asked)) {
            if let Some(holder) = holders.get_mut(source) {
                *holder = Some(leg);
            }
            return true;
        }
    }
    false
}

/// The heaviest of the sources that any leg knows.
fn with_others(draft: &Draft<'_, '_>, homes: &Homes, want: u64) -> Option<Seats> {
    let mut known: Seats = homes.legs.iter().flatten().copied().collect();
    known.sort_unstable();
    known.dedup();
    known.retain(|source| draft.weight(*source, want) > 0);
    if known.len() < homes.legs.len() {
        return None;
    }
    known.sort_by_key(|&source| std::cmp::Reverse(draft.weight(source, want)));
    known.truncate(homes.legs.len());
    Some(homes.seated(known))
}
