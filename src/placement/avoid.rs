//! What is to be avoided, and where.

use super::instance::Handles;
use super::tags::Tags;
use super::{PlacementError, Request};

/// Rows in which the same sources are to be avoided.
#[derive(Clone, Debug)]
pub(super) struct Range {
    /// The first row behind it.
    pub(super) end: u64,
    pub(super) avoided: Avoided,
}

/// Sources to avoid: those that are named, and those with one of these tags. As long as the input, and not as what it
/// means: one name may mean all sources.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Avoided {
    /// Positions, ascending.
    named: Vec<usize>,
    /// Numbers of tags, ascending.
    tags: Vec<usize>,
}

impl Avoided {
    /// Whether the source is one of them.
    pub(super) fn has(&self, source: usize, tags: &Tags) -> bool {
        self.named.binary_search(&source).is_ok() || tags.has_any(source, &self.tags)
    }

    /// All of them, if they are named one by one.
    pub(super) fn listed(&self) -> Option<&[usize]> {
        self.tags.is_empty().then_some(&self.named)
    }

    /// Positions of the sources that are named, ascending.
    pub(super) fn named(&self) -> &[usize] {
        &self.named
    }

    fn join(&mut self, other: &Self) {
        for (to, from) in [(&mut self.named, &other.named), (&mut self.tags, &other.tags)] {
            to.extend_from_slice(from);
            to.sort_unstable();
            to.dedup();
        }
    }
}

/// The list of what to avoid, in rows. A row with units of several ranges avoids what any of them does.
pub(super) fn ranges<H: Copy + Ord>(
    request: &Request<'_, H>,
    handles: &Handles<H>,
    tags: &Tags,
) -> Result<Vec<Range>, PlacementError> {
    let stripes = u64::from(request.stripes);
    let mut ranges: Vec<Range> = Vec::new();
    let mut unit = 0_u64;
    for (number, avoid) in request.avoid.iter().enumerate() {
        let whose = || format!("range {number} of the avoid list, counted from 0,");
        let named = avoid.sources.iter().map(|&source| handles.find(source, whose));
        let mut named = named.collect::<Result<Vec<_>, _>>()?;
        named.sort_unstable();
        named.dedup();
        let avoided = Avoided { tags: tags.of_any(&named), named };
        let end = unit
            .checked_add(avoid.units)
            .ok_or_else(|| PlacementError::invalid("the ranges of the avoid list do not fit in 64 bits"))?;
        if avoid.units > 0 {
            add(&mut ranges, unit / stripes, end.div_ceil(stripes), avoided);
        }
        unit = end;
    }
    Ok(ranges)
}

/// Adds rows from `start` to `end`; the first of them may be the last one that is there.
fn add(ranges: &mut Vec<Range>, start: u64, end: u64, avoided: Avoided) {
    let mut covered = ranges.last().map_or(0, |last| last.end);
    if let Some(mut last) = ranges.pop_if(|last| last.end > start) {
        // Both have units in the row `start`: it becomes a range of its own.
        let mut both = last.avoided.clone();
        both.join(&avoided);
        covered = last.end;
        last.end = start;
        if ranges.last().map_or(0, |before| before.end) < start {
            ranges.push(last);
        }
        ranges.push(Range { end: covered, avoided: both });
    }
    if covered < end {
        ranges.push(Range { end, avoided });
    }
}
