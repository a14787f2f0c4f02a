//! Sources for the legs of which no two share a listed tag: an independent set in the graph of those that do.

use std::collections::BTreeSet;

use crate::placement::tags::Tags;

/// How many tags the search for legs that share none looks at most, some hundred milliseconds. It ends before that for
/// some 20 legs and sources in any case, and for thousands where the first choice, or one near it, will do.
pub const PARTITION_BOUND: u64 = 1 << 25;

/// What a search found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A source for each leg.
    Seats(Vec<usize>),
    /// There is nothing, or the search ended at its bound.
    Nothing { bounded: bool },
}

impl Found {
    /// The first sources, as many as there are legs.
    pub(super) fn first(sources: &[usize], legs: usize) -> Self {
        sources.get(..legs).map_or(Self::Nothing { bounded: false }, |seats| Self::Seats(seats.to_vec()))
    }
}

/// The first choice, in the order of `sources`, of which no two share a tag: by branch and bound. A branch is cut when
/// fewer sources are left that share nothing with those chosen than are needed.
pub(super) fn apart(sources: &[usize], tags: &Tags, legs: usize) -> Found {
    // Of sources with the same tags only one can be chosen, and the first of them will do.
    let mut seen: BTreeSet<&[usize]> = BTreeSet::new();
    let distinct = |source: &&usize| tags.of(**source).is_empty() || seen.insert(tags.of(**source));
    let candidates: Vec<usize> = sources.iter().filter(distinct).copied().collect();
    let mut has = vec![0_u32; tags.count()];
    for &tag in candidates.iter().flat_map(|&source| tags.of(source)) {
        if let Some(has) = has.get_mut(tag) {
            *has += 1;
        }
    }
    let mut search = Search {
        tags,
        has,
        taken: vec![false; tags.count()],
        legs,
        chosen: Vec::with_capacity(legs),
        looks: 0,
    };
    if search.extend(&candidates) {
        Found::Seats(search.chosen)
    } else {
        Found::Nothing { bounded: search.looks >= PARTITION_BOUND }
    }
}

struct Search<'t> {
    tags: &'t Tags,
    /// How many candidates have each tag.
    has: Vec<u32>,
    /// Tags of those chosen.
    taken: Vec<bool>,
    legs: usize,
    chosen: Vec<usize>,
    looks: u64,
}

impl Search<'_> {
    /// Chooses the rest among `left`. As deep as there are legs.
    fn extend(&mut self, left: &[usize]) -> bool {
        let missing = self.legs - self.chosen.len();
        if missing == 0 {
            return true;
        }
        for (at, &source) in left.iter().enumerate() {
            if self.looks >= PARTITION_BOUND || left.len() - at < missing {
                return false;
            }
            if !self.is_free(source) {
                continue;
            }
            let others = left.get(at + 1..).unwrap_or_default();
            self.mark(source, true);
            self.chosen.push(source);
            if self.extend(others) {
                return true;
            }
            self.chosen.pop();
            self.mark(source, false);
            // Leaving out a source that is in nobody's way cannot help; and it must leave enough.
            if self.is_alone(source) || others.iter().filter(|&&other| self.is_free(other)).count() < missing
            {
                return false;
            }
        }
        false
    }

    /// Whether it shares nothing with those chosen.
    fn is_free(&mut self, source: usize) -> bool {
        let tags = self.tags.of(source);
        self.looks += 1 + tags.len() as u64;
        !tags.iter().any(|&tag| self.taken.get(tag).copied().unwrap_or_default())
    }

    /// Whether it shares nothing with any candidate.
    fn is_alone(&self, source: usize) -> bool {
        self.tags.of(source).iter().all(|&tag| self.has.get(tag).is_some_and(|&has| has <= 1))
    }

    fn mark(&mut self, source: usize, taken: bool) {
        for &tag in self.tags.of(source) {
            if let Some(mark) = self.taken.get_mut(tag) {
                *mark = taken;
            }
        }
    }
}
