//! Half-open ranges.

use std::ops::Range;

/// What some ranges cover together, in order, as ranges that neither overlap nor touch; none of them is empty.
pub(crate) fn merged<T: Ord + Copy>(mut ranges: Vec<Range<T>>) -> Vec<Range<T>> {
    ranges.retain(|range| range.start < range.end);
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, before| {
        let touches = next.start <= before.end;
        if touches {
            before.end = before.end.max(next.end);
        }
        touches
    });
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    quickcheck! {
        fn the_same_is_covered_by_as_few_as_can_be(ranges: Vec<(u8, u8)>) -> bool {
            let ranges: Vec<_> = ranges.into_iter().map(|(start, end)| start..end).collect();
            let merged = merged(ranges.clone());
            let covers = |ranges: &[Range<u8>], at: u8| ranges.iter().any(|range| range.contains(&at));
            (0..=u8::MAX).all(|at| covers(&ranges, at) == covers(&merged, at))
                && merged.iter().all(|range| !range.is_empty())
                && merged.windows(2).all(|pair| pair[0].end < pair[1].start)
        }
    }
}
