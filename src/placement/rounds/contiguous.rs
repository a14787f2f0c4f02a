//! The step `contiguous`: behind the last unit of each leg, or in one area for each leg of a new volume.

use super::partition::{Found, apart};
use super::{Seats, are_distinct, take};
use crate::placement::draft::{Draft, Pick};
use crate::placement::story::Reason;
use crate::placement::{Partition, Step};

pub(super) fn run(draft: &mut Draft<'_, '_>) -> Partition {
    match &draft.instance.previous {
        Some(previous) => {
            adjacent(draft, previous.ends.clone());
            Partition::NotAsked
        }
        None => whole(draft),
    }
}

/// Goes on where each leg ended, in rounds only where a range of the avoid list ends.
fn adjacent(draft: &mut Draft<'_, '_>, mut ends: Vec<(usize, u64)>) {
    loop {
        let want = draft.want();
        if want == 0 {
            return;
        }
        let picks: Vec<Pick> = ends.iter().map(|&(source, start)| Pick { source, start }).collect();
        let length = ends.iter().map(|&(source, end)| behind(draft, source, end, want)).min().unwrap_or(0);
        let sources: Seats = ends.iter().map(|&(source, _)| source).collect();
        let length = if are_distinct(&sources) { length } else { 0 };
        let outside = |draft: &Draft<'_, '_>, source: usize| {
            let end = ends.iter().find(|end| end.0 == source);
            Some(match end {
                None => Reason::NotUsed,
                Some(&(_, end)) if behind(draft, source, end, want) > 0 => Reason::Alone,
                Some(&(_, at)) => Reason::NotAdjacent { at },
            })
        };
        let head = draft.head();
        draft.tell(Step::Contiguous, want, if length > 0 { &picks } else { &[] }, length, outside);
        if length == 0 {
            return;
        }
        draft.take_row(&picks, length);
        for (_, end) in &mut ends {
            *end += head + length;
        }
        // A leg is never split: not even where two ranges meet, unless a looser step could go on there anyway.
        if length < want || draft.instance.limit == Step::Contiguous {
            return;
        }
    }
}

/// Units for a piece that begins at `end`.
fn behind(draft: &Draft<'_, '_>, source: usize, end: u64, want: u64) -> u64 {
    if draft.is_avoided(source) {
        return 0;
    }
    let area = draft.free.get(source).and_then(|free| free.starting_at(end));
    area.map_or(0, |area| draft.usable(area, want))
}

/// Each leg of a new volume in one area, on sources that share no listed tag.
fn whole(draft: &mut Draft<'_, '_>) -> Partition {
    let (want, rows, tags) = (draft.want(), draft.rest(), &draft.instance.tags);
    if want == 0 {
        return Partition::NotAsked;
    }
    // A range of the avoid list that ends in between would split the legs.
    let fitting =
        draft.instance.sources().filter(|&source| want == rows && draft.weight(source, rows) == rows);
    let fitting: Vec<usize> = fitting.collect();
    let is_partition = tags.are_listed();
    let found = if is_partition {
        apart(&fitting, tags, draft.instance.legs)
    } else {
        Found::first(&fitting, draft.instance.legs)
    };
    let too_small = |draft: &Draft<'_, '_>, source: usize| {
        (draft.weight(source, rows) < rows || want < rows)
            .then(|| Reason::TooSmall { largest: draft.room(source).min(want), needed: rows })
    };
    match found {
        Found::Seats(seats) => {
            let shares = |draft: &Draft<'_, '_>, source: usize| {
                let other = seats.iter().find(|&&seat| draft.instance.tags.share(seat, source));
                let shares = other.map(|&with| Reason::SharesTag { with });
                too_small(draft, source).or(shares.filter(|_| is_partition))
            };
            take(draft, Step::Contiguous, &seats, rows, shares);
            if is_partition { Partition::Apart } else { Partition::NotAsked }
        }
        Found::Nothing { bounded } => {
            draft.tell(Step::Contiguous, want, &[], 0, too_small);
            match (is_partition, bounded) {
                (false, _) => Partition::NotAsked,
                (true, false) => Partition::Shared,
                (true, true) => Partition::Bounded,
            }
        }
    }
}
