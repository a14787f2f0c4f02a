//! Logs beside the legs: each in one piece.

use std::collections::BTreeSet;

use super::draft::{Draft, Taken};

/// Where a log goes before it goes elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ground {
    /// On a source without data of the volume, and without another log.
    Apart,
    /// Beside another log.
    BesideLog,
    /// Beside data.
    BesideData,
    /// Beside both.
    BesideBoth,
}

/// Takes for each log that is missing the smallest area that holds it: first on sources without data, on others only if
/// logs need not be apart. Within both, first on sources that hold no other log. Whether all are placed.
pub(super) fn place(draft: &mut Draft<'_, '_>) -> bool {
    let instance = draft.instance;
    if instance.logs == 0 {
        return true;
    }
    let mut data = instance.has_data.clone();
    for piece in draft.legs.iter().flatten() {
        if let Some(data) = data.get_mut(piece.source) {
            *data = true;
        }
    }
    let units = instance.log_units;
    let mut grounds: BTreeSet<(Ground, u64, usize)> = BTreeSet::new();
    for (source, has_data) in data.iter().enumerate() {
        let area = draft.free.get_mut(source).and_then(|free| free.smallest_holding(units));
        let Some(area) = area.filter(|_| !(*has_data && instance.log_separate)) else { continue };
        grounds.insert((if *has_data { Ground::BesideData } else { Ground::Apart }, area.units(), source));
    }
    while draft.log.len() < instance.logs as usize {
        let Some((ground, _, source)) = grounds.pop_first() else { return false };
        let Some(free) = draft.free.get_mut(source) else { return false };
        let Some(area) = free.smallest_holding(units) else { return false };
        free.take(area.start, units);
        if let Some(next) = free.smallest_holding(units) {
            let ground = match ground {
                Ground::Apart | Ground::BesideLog => Ground::BesideLog,
                Ground::BesideData | Ground::BesideBoth => Ground::BesideBoth,
            };
            grounds.insert((ground, next.units(), source));
        }
        draft.touched.push(source);
        draft.log.push(Taken { source, start: area.start, length: units });
    }
    true
}
