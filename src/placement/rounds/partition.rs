//! Sources for the legs of which no two share a listed tag: an independent set in the graph of those that do.

use crate::placement::tags::Tags;

/// How many pairs of sources the search for legs that share no tag compares at most, some tens of milliseconds. It ends
/// before that for some 20 legs and sources in any case, and for many more in practice.
pub const PARTITION_BOUND: u64 = 1 << 22;

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
    let mut candidates: Vec<usize> = Vec::new();
    for &source in sources {
        let of = tags.of(source);
        if of.is_empty() || candidates.iter().all(|&other| tags.of(other) != of) {
            candidates.push(source);
        }
    }
    let mut search = Search { tags, legs, chosen: Vec::with_capacity(legs), compared: 0 };
    if search.extend(&candidates) {
        Found::Seats(search.chosen)
    } else {
        Found::Nothing { bounded: search.compared >= PARTITION_BOUND }
    }
}

struct Search<'t> {
    tags: &'t Tags,
    legs: usize,
    chosen: Vec<usize>,
    compared: u64,
}

impl Search<'_> {
    /// Chooses the rest among sources that share nothing with those chosen. As deep as there are legs.
    fn extend(&mut self, candidates: &[usize]) -> bool {
        let missing = self.legs - self.chosen.len();
        if missing == 0 {
            return true;
        }
        let mut left = candidates;
        while let Some((&source, others)) = left.split_first() {
            if left.len() < missing || self.compared >= PARTITION_BOUND {
                return false;
            }
            self.compared += 1 + others.len() as u64;
            let compatible: Vec<usize> =
                others.iter().copied().filter(|&other| !self.tags.share(source, other)).collect();
            self.chosen.push(source);
            if self.extend(&compatible) {
                return true;
            }
            self.chosen.pop();
            if compatible.len() == others.len() {
                // It shares nothing with any other: leaving it out cannot help.
                return false;
            }
            left = others;
        }
        false
    }
}
