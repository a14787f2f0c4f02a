//! What fits into the areas of one source beside each other: pieces that must not be cut.

use crate::placement::Area;

/// How many pieces of so many units the areas hold.
pub(super) fn most(areas: impl Iterator<Item = Area>, units: u64) -> u64 {
    areas.map(|area| area.units() / units.max(1)).sum()
}

/// An area that holds `head` units and leaves room for `count` pieces of `units` in all areas together: the smallest one that
/// holds `whole`, or else the largest.
pub(super) fn host(
    areas: impl Iterator<Item = Area> + Clone,
    head: u64,
    whole: u64,
    units: u64,
    count: u64,
) -> Option<Area> {
    let all = if count > 0 { most(areas.clone(), units) } else { 0 };
    let leaves = |area: &Area| {
        let (before, after) = (area.units() / units.max(1), (area.units() - head) / units.max(1));
        count == 0 || all - before + after >= count
    };
    let areas = areas.filter(|area| area.units() >= head).filter(leaves);
    areas.min_by_key(|area| {
        if area.units() < whole {
            (true, !area.units(), area.start)
        } else {
            (false, area.units(), area.start)
        }
    })
}

/// How to put `count` pieces of `units` into the areas so that as many pieces of `head` units as can be fit beside them:
/// for each area how many of the former, and how many of the latter there are in all. By dynamic programming over
/// the areas. None if they do not fit at all.
pub(super) fn beside(areas: &[Area], head: u64, units: u64, count: usize) -> Option<(Vec<usize>, u64)> {
    // For each number of pieces the most heads, and how many pieces the last area has then.
    let mut heads: Vec<Option<u64>> = vec![None; count + 1];
    if let Some(none) = heads.first_mut() {
        *none = Some(0);
    }
    let mut choices: Vec<Vec<usize>> = Vec::with_capacity(areas.len());
    for area in areas {
        let mut next: Vec<Option<u64>> = vec![None; count + 1];
        let mut choice = vec![0; count + 1];
        for (placed, best) in heads.iter().enumerate().filter_map(|(placed, best)| Some((placed, (*best)?))) {
            for (here, (slot, choice)) in next.iter_mut().zip(&mut choice).skip(placed).enumerate() {
                let Some(left) = area.units().checked_sub((here as u64).saturating_mul(units)) else { break };
                let total = best + left / head.max(1);
                if slot.is_none_or(|most| total > most) {
                    (*slot, *choice) = (Some(total), here);
                }
            }
        }
        heads = next;
        choices.push(choice);
    }
    let total = heads.get(count).copied().flatten()?;
    let mut left = count;
    let mut pieces: Vec<usize> = choices
        .iter()
        .rev()
        .map(|choice| {
            let here = choice.get(left).copied().unwrap_or(0);
            left -= here;
            here
        })
        .collect();
    pieces.reverse();
    Some((pieces, total))
}
