//! The sources in the order in which a round chooses among them: the heaviest first, equals in the caller's order.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::Seats;
use crate::placement::Step;
use crate::placement::draft::Draft;

/// What the order was made for; another order is needed when it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Terms {
    range: usize,
    head: u64,
}

/// Sources in order. It is kept up as areas are taken, so that a round costs no more when there are more sources that
/// have nothing to do with it.
#[derive(Debug)]
pub(super) struct Heaviest {
    step: Step,
    terms: Option<Terms>,
    /// The length of a piece for which `fit` holds.
    want: u64,
    /// Sources that hold a whole piece; all of the same weight.
    fit: BTreeSet<(u32, usize)>,
    /// The same, those with least room first.
    fit_by_room: BTreeSet<(u64, usize)>,
    /// The others, those with most room first.
    short: BTreeSet<(Reverse<u64>, u32, usize)>,
    /// Under which room and use each source stands in the order.
    listed: Vec<(u64, u32)>,
    /// How many of the draft's changes are followed.
    followed: usize,
}

impl Heaviest {
    /// For rounds of this step.
    pub(super) fn new(step: Step) -> Self {
        Self {
            step,
            terms: None,
            want: 0,
            fit: BTreeSet::new(),
            fit_by_room: BTreeSet::new(),
            short: BTreeSet::new(),
            listed: Vec::new(),
            followed: 0,
        }
    }

    /// One source for each leg, all different, the heaviest first. None when there are too few with any room.
    pub(super) fn choose(&mut self, draft: &Draft<'_, '_>, want: u64) -> Option<Seats> {
        self.follow(draft, want);
        let legs = draft.instance.legs;
        if self.fit.len() + self.short.len() < legs {
            return None;
        }
        let fit = self.fit.iter().map(|&(_, source)| source);
        Some(fit.chain(self.short.iter().map(|&(.., source)| source)).take(legs).collect())
    }

    /// The heaviest source; of equals the one that is used least.
    pub(super) fn first(&mut self, draft: &Draft<'_, '_>, want: u64) -> Option<usize> {
        self.follow(draft, want);
        let fit = self.fit.first().map(|&(_, source)| source);
        fit.or_else(|| self.short.first().map(|&(.., source)| source))
    }

    /// Brings the order up to date.
    fn follow(&mut self, draft: &Draft<'_, '_>, want: u64) {
        let range = if self.step == Step::Anywhere { 0 } else { draft.range() };
        let terms = Terms { range, head: draft.head() };
        let before = self.terms.replace(terms);
        let known = before.filter(|before| before.head == terms.head);
        let changed = known.and_then(|before| changed_between(draft, before.range, terms.range));
        if let Some(changed) = changed {
            for &source in changed.iter().chain(draft.touched.get(self.followed..).unwrap_or_default()) {
                self.relist(draft, source, 0);
            }
        } else {
            self.want = want;
            self.fit.clear();
            self.fit_by_room.clear();
            self.short.clear();
            self.listed.clear();
            self.listed.resize(draft.free.len(), (0, 0));
            draft.instance.sources().for_each(|source| self.list(draft, source, 0));
        }
        self.followed = draft.touched.len();
        self.want = want;
        while let Some(&(room, source)) = self.fit_by_room.first().filter(|fit| fit.0 < want) {
            let used = self.listed.get(source).map_or(0, |listed| listed.1);
            self.fit_by_room.pop_first();
            self.fit.remove(&(used, source));
            self.short.insert((Reverse(room), used, source));
        }
        while let Some(&(Reverse(room), used, source)) = self.short.first().filter(|short| short.0.0 >= want)
        {
            self.short.pop_first();
            self.fit.insert((used, source));
            self.fit_by_room.insert((room, source));
        }
    }

    /// Puts a source where it belongs now, used so many times in this row.
    pub(super) fn relist(&mut self, draft: &Draft<'_, '_>, source: usize, used: u32) {
        if let Some(&(room, used)) = self.listed.get(source) {
            self.short.remove(&(Reverse(room), used, source));
            self.fit.remove(&(used, source));
            self.fit_by_room.remove(&(room, source));
        }
        self.list(draft, source, used);
    }

    fn list(&mut self, draft: &Draft<'_, '_>, source: usize, used: u32) {
        let excluded =
            if self.step == Step::Anywhere { draft.is_closed(source) } else { draft.is_avoided(source) };
        let room = if excluded { 0 } else { draft.room(source) };
        if let Some(listed) = self.listed.get_mut(source) {
            *listed = (room, used);
        }
        if room >= self.want {
            self.fit.insert((used, source));
            self.fit_by_room.insert((room, source));
        } else if room > 0 {
            self.short.insert((Reverse(room), used, source));
        }
    }
}

/// Sources that are to be avoided in one of two ranges of the avoid list; none if that is no short list.
fn changed_between(draft: &Draft<'_, '_>, before: usize, now: usize) -> Option<Vec<usize>> {
    if before == now {
        return Some(Vec::new());
    }
    let ranges = [before, now].map(|range| draft.instance.ranges.get(range));
    let mut changed = Vec::new();
    for range in ranges.into_iter().flatten() {
        changed.extend_from_slice(range.avoided.listed()?);
    }
    Some(changed)
}
