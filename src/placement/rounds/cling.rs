//! The steps `cling` and `cling_by_tags`: each leg stays on sources that it knows.

use std::collections::BTreeSet;

use smallvec::SmallVec;

use super::{Seats, are_distinct, take};
use crate::placement::Step;
use crate::placement::draft::Draft;
use crate::placement::free::Free;
use crate::placement::instance::Instance;
use crate::placement::story::Reason;
use crate::placement::tags::Tags;

/// For each leg the sources that it may stay on.
#[derive(Clone, Debug)]
pub(super) struct Homes {
    legs: Vec<BTreeSet<usize>>,
    /// Those of them that it is on itself, where the others are there for their tags; empty where there is no difference.
    own: Vec<BTreeSet<usize>>,
}

impl Homes {
    /// Those of the volume so far.
    pub(super) fn new(instance: &Instance<'_>) -> Self {
        let previous = instance.previous.as_ref().map(|previous| &previous.homes);
        let of = |leg| previous.and_then(|homes| homes.get(leg)).into_iter().flatten().copied().collect();
        Self { legs: (0..instance.legs).map(of).collect(), own: Vec::new() }
    }

    /// Whether no leg has been anywhere.
    pub(super) fn are_unknown(&self) -> bool {
        self.legs.iter().all(BTreeSet::is_empty)
    }

    /// The same with all sources that share a listed tag with one of a leg's.
    pub(super) fn with_sharing(&self, tags: &Tags) -> Self {
        let sharing = |homes: &BTreeSet<usize>| tags.with_sharing(homes.iter().copied().collect());
        let legs = self.legs.iter().map(|homes| sharing(homes).into_iter().collect()).collect();
        Self { legs, own: self.legs.clone() }
    }

    /// The sources of a row are known from now on.
    pub(super) fn learn(&mut self, seats: &[usize]) {
        for (homes, &source) in self.legs.iter_mut().zip(seats) {
            homes.insert(source);
        }
    }

    /// Gives the legs their seats on the chosen sources: each one that it knows, where there is one; the others in order.
    pub(super) fn seated(&self, chosen: Seats) -> Seats {
        if self.are_unknown() {
            return chosen;
        }
        let mut left: SmallVec<[Option<usize>; 8]> = chosen.into_iter().map(Some).collect();
        let mut seats: SmallVec<[Option<usize>; 8]> = SmallVec::from_elem(None, self.legs.len());
        for known in [&self.own, &self.legs] {
            for (seat, homes) in seats.iter_mut().zip(known).filter(|(seat, _)| seat.is_none()) {
                let home = left.iter_mut().find(|left| left.is_some_and(|source| homes.contains(&source)));
                *seat = home.and_then(Option::take);
            }
        }
        let mut others = left.into_iter().flatten();
        seats.into_iter().filter_map(|seat| seat.or_else(|| others.next())).collect()
    }

    /// Whether any leg knows the source.
    fn know(&self, source: usize) -> bool {
        self.legs.iter().any(|homes| homes.contains(&source))
    }

    /// Why a source that legs know was not taken, where each leg chose among those that it knows.
    fn why_not(&self, draft: &Draft<'_, '_>, source: usize, seats: &[usize], want: u64) -> Option<Reason> {
        let knowing = self.legs.iter().zip(seats).filter(|(homes, _)| homes.contains(&source));
        let gives = draft.weight(source, want);
        let least = knowing.map(|(_, &seat)| draft.weight(seat, want)).min()?;
        Some(if gives < least { Reason::Lighter { gives, least } } else { Reason::Later })
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
    let stranger = if step == Step::Cling { Reason::NotUsed } else { Reason::NoSharedTag };
    loop {
        let want = draft.want();
        if want == 0 || homes.are_unknown() {
            return;
        }
        homes.forget_full(&draft.free);
        let own = at_home(draft, homes, want);
        let is_own = own.is_some();
        let Some(seats) = own.or_else(|| with_others(draft, homes, want)) else {
            let outside = |_: &Draft<'_, '_>, source: usize| (!homes.know(source)).then(|| stranger.clone());
            draft.tell(step, want, &[], 0, outside);
            return;
        };
        let outside = |draft: &Draft<'_, '_>, source: usize| match homes.know(source) {
            false => Some(stranger.clone()),
            true if is_own => homes.why_not(draft, source, &seats, want),
            true => None,
        };
        if !take(draft, step, &seats, want, outside) {
            return;
        }
        homes.learn(&seats);
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

/// Legs that would choose the same source are matched with others that they know, so that the lightest of those taken is as
/// heavy as can be: by augmenting paths (Kuhn's form of the Hungarian method) over the sources of a weight or more, each
/// leg looking at the heaviest first.
fn matched(draft: &Draft<'_, '_>, homes: &Homes, want: u64) -> Option<Seats> {
    let wishes = homes.legs.iter().map(|known| {
        let weighed = known.iter().map(|&source| (draft.weight(source, want), source));
        let mut wishes: Vec<(u64, usize)> = weighed.filter(|wish| wish.0 > 0).collect();
        wishes.sort_unstable_by_key(|&(weight, source)| (std::cmp::Reverse(weight), source));
        wishes
    });
    let wishes: Vec<Vec<(u64, usize)>> = wishes.collect();
    let mut weights: Vec<u64> = wishes.iter().flatten().map(|&(weight, _)| weight).collect();
    weights.sort_unstable();
    weights.dedup();
    // With a lower weight there is a match if there is one with a higher.
    let match_of = |least: u64| {
        let heavy: Vec<Vec<usize>> = wishes
            .iter()
            .map(|wishes| {
                wishes.iter().take_while(|wish| wish.0 >= least).map(|&(_, source)| source).collect()
            })
            .collect();
        seats_of(&heavy, draft.free.len())
    };
    let matching = weights.partition_point(|&weight| match_of(weight).is_some());
    weights.get(matching.checked_sub(1)?).and_then(|&least| match_of(least))
}

fn seats_of(wishes: &[Vec<usize>], sources: usize) -> Option<Seats> {
    let mut holders: Vec<Option<usize>> = vec![None; sources];
    for leg in 0..wishes.len() {
        let mut asked = vec![false; sources];
        if !seat(leg, wishes, &mut holders, &mut asked) {
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
    // A free one before one that another leg would have to give up.
    let free = wishes
        .get(leg)
        .into_iter()
        .flatten()
        .find(|&&source| holders.get(source).is_some_and(Option::is_none));
    if let Some(holder) = free.and_then(|&source| holders.get_mut(source)) {
        *holder = Some(leg);
        return true;
    }
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
