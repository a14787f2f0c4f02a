//! Logs beside the legs: each in one piece.

use super::draft::{Draft, Taken};

/// Where a log may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ground {
    /// On sources without data of the volume.
    Apart,
    /// On sources with data.
    Beside,
}

/// Takes for each log that is missing the smallest area that holds it: first on sources without data, on others only if
/// logs need not be apart. Within both, first on sources that hold no other log. Whether all are placed.
pub(super) fn place(draft: &mut Draft<'_, '_>) -> bool {
    let instance = draft.instance;
    let mut data = instance.has_data.clone();
    for piece in draft.legs.iter().flatten().chain(&draft.metadata) {
        if let Some(data) = data.get_mut(piece.source) {
            *data = true;
        }
    }
    while draft.log.len() < instance.logs as usize {
        let beside = (!instance.log_separate).then_some(Ground::Beside);
        let grounds = std::iter::once(Ground::Apart).chain(beside);
        let mut choices = grounds.flat_map(|ground| [(ground, false), (ground, true)]);
        let Some(log) = choices.find_map(|(ground, again)| smallest(draft, &data, ground, again)) else {
            return false;
        };
        if let Some(free) = draft.free.get_mut(log.source) {
            free.take(log.start, log.length);
        }
        draft.touched.push(log.source);
        draft.log.push(log);
    }
    true
}

/// The smallest area for a log on such sources: those that hold a log already if `again`, and only others if not.
fn smallest(draft: &mut Draft<'_, '_>, data: &[bool], ground: Ground, again: bool) -> Option<Taken> {
    let units = draft.instance.log_units;
    let mut best = None;
    for source in draft.instance.sources() {
        let has_data = data.get(source).copied().unwrap_or_default();
        let has_log = draft.log.iter().any(|log| log.source == source);
        if has_data != (ground == Ground::Beside) || has_log != again {
            continue;
        }
        let Some(area) = draft.free.get_mut(source).and_then(|free| free.smallest_holding(units)) else {
            continue;
        };
        if best.is_none_or(|(least, _)| area.units() < least) {
            best = Some((area.units(), Taken { source, start: area.start, length: units }));
        }
    }
    best.map(|(_, log)| log)
}
