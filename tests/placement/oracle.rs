//! What is allowed, read off the rules: a judge of plans, and an exhaustive search for one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use freehold::placement::{Area, Piece, Plan, Policy};

use crate::input::Input;

/// The policy that decides: with listed tags `cling` runs the step behind it too.
fn policy(input: &Input) -> Policy {
    match input.policy {
        Policy::Cling if !input.tags.is_empty() => Policy::ClingByTags,
        Policy::ClingByTags if input.tags.is_empty() => Policy::Cling,
        Policy::Inherit => Policy::Normal,
        other => other,
    }
}

/// Whether two sources share a listed tag.
fn share(input: &Input, one: char, other: char) -> bool {
    let all = input.tags.iter().any(|tag| tag == "@*");
    let of = |name: char| {
        let source = input.sources.iter().find(|source| source.name == name).unwrap();
        source
            .tags
            .iter()
            .filter(|tag| all || input.tags.contains(&format!("@{tag}")))
            .collect::<BTreeSet<_>>()
    };
    !of(one).is_disjoint(&of(other))
}

/// These sources and, if asked for, all that share a listed tag with one of them.
fn relatives(input: &Input, homes: &BTreeSet<char>, sharing: bool) -> BTreeSet<char> {
    let names = input.sources.iter().map(|source| source.name);
    names
        .filter(|&name| {
            homes.contains(&name) || sharing && homes.iter().any(|&home| share(input, home, name))
        })
        .collect()
}

/// Sources to avoid in a row.
fn avoided(input: &Input, row: u64) -> BTreeSet<char> {
    let stripes = u64::from(input.stripes);
    let units = row * stripes..(row + 1) * stripes;
    let mut at = 0;
    let mut avoided = BTreeSet::new();
    for (length, sources) in &input.avoid {
        let range = at..at + length;
        if !range.is_empty() && range.start < units.end && units.start < range.end {
            avoided.extend(relatives(input, &sources.iter().copied().collect(), true));
        }
        at += length;
    }
    avoided
}

/// Whether a range of the avoid list ends inside of the legs, so that none can be whole. A row with units of two ranges
/// is a range of its own; one with units of the last range belongs to that.
fn is_split(input: &Input) -> bool {
    let stripes = u64::from(input.stripes);
    let ranges: Vec<u64> = input.avoid.iter().map(|range| range.0).filter(|&units| units > 0).collect();
    let ends = ranges.iter().scan(0, |at, units| {
        *at += units;
        Some(*at)
    });
    let last = ranges.len().saturating_sub(1);
    ends.enumerate().any(|(at, end)| {
        let inside = |row: u64| 0 < row && row < input.rows();
        inside(end.div_ceil(stripes)) || at < last && inside(end / stripes)
    })
}

/// For each leg the sources of the segments that count; none for a new volume.
fn homes(input: &Input) -> Option<BTreeSet<char>> {
    let last = input.previous.last().filter(|segment| segment.1.len() == input.legs())?;
    let all = input.previous.iter().filter(|segment| segment.1.len() == input.legs());
    let counting: Vec<_> = if input.maximise_cling { all.collect() } else { vec![last] };
    Some(counting.iter().flat_map(|segment| &segment.1).map(|&(source, _)| source).collect())
}

/// Where each leg ends; none for a new volume.
fn ends(input: &Input) -> Option<Vec<(char, u64)>> {
    let last = input.previous.last().filter(|segment| segment.1.len() == input.legs())?;
    Some(last.1.iter().map(|&(source, start)| (source, start + last.0 / u64::from(input.stripes))).collect())
}

/// Free areas by source, ascending, joined where they touch.
fn free(input: &Input) -> BTreeMap<char, Vec<Area>> {
    let mut free = BTreeMap::new();
    for source in &input.sources {
        let mut areas: Vec<Area> = Vec::new();
        let mut sorted = if source.allocatable { source.areas.clone() } else { Vec::new() };
        sorted.sort();
        for area in sorted {
            match areas.last_mut() {
                Some(last) if last.end == area.start => last.end = area.end,
                _ => areas.push(area),
            }
        }
        free.insert(source.name, areas);
    }
    free
}

/// Sources that have data of the volume before anything is placed.
fn has_data(input: &Input) -> BTreeSet<char> {
    let previous = input.previous.iter().flat_map(|segment| &segment.1).map(|leg| leg.0);
    let copies = input.avoid.iter().filter(|range| range.0 > 0).flat_map(|range| &range.1);
    previous.chain(copies.copied()).collect()
}

/// Everything that must be true of a plan. Says what is not.
pub(crate) fn judge(input: &Input, plan: &Plan<char>) -> Result<(), String> {
    let free = free(input);
    let all: Vec<Piece<char>> =
        plan.legs.iter().flatten().chain(&plan.metadata).chain(&plan.log).copied().collect();
    for piece in &all {
        let holds = |area: &Area| area.start <= piece.start && piece.start + piece.length <= area.end;
        if piece.length == 0 || !free[&piece.source].iter().any(holds) {
            return Err(format!("{piece:?} is outside of the free areas"));
        }
    }
    for (at, one) in all.iter().enumerate() {
        let overlap = |other: &&Piece<char>| {
            one.source == other.source
                && one.start < other.start + other.length
                && other.start < one.start + one.length
        };
        if let Some(other) = all[at + 1..].iter().find(overlap) {
            return Err(format!("{one:?} and {other:?} overlap"));
        }
    }
    let rows = plan.placed_units / u64::from(input.stripes);
    if plan.placed_units + plan.unplaced_units != input.units || rows == 0 {
        return Err("the units do not add up".to_owned());
    }
    if !input.approximate && plan.unplaced_units > 0 {
        return Err("all or nothing".to_owned());
    }
    if plan.legs.len() != input.legs() || plan.legs.iter().any(|leg| length(leg) != rows) {
        return Err("the legs are not equally long".to_owned());
    }
    let touching = |leg: &Vec<Piece<char>>| {
        leg.windows(2).any(|pair| pair[0].source == pair[1].source && pair[0].area().end == pair[1].start)
    };
    if plan.legs.iter().any(touching) {
        return Err("pieces that touch are not merged".to_owned());
    }
    judge_side_areas(input, plan, &free)?;
    judge_policy(input, plan, rows)
}

fn length(leg: &[Piece<char>]) -> u64 {
    leg.iter().map(|piece| piece.length).sum()
}

fn judge_side_areas(
    input: &Input,
    plan: &Plan<char>,
    free: &BTreeMap<char, Vec<Area>>,
) -> Result<(), String> {
    let metadata = if input.metadata_units > 0 { input.legs() } else { 0 };
    if plan.metadata.len() != metadata {
        return Err("metadata for each leg, or none".to_owned());
    }
    for (piece, leg) in plan.metadata.iter().zip(&plan.legs) {
        let whole = Area::new(piece.start, leg[0].start + 1);
        let is_in_front = piece.source == leg[0].source && piece.area().end == leg[0].start;
        let in_one =
            free[&piece.source].iter().any(|area| area.start <= whole.start && whole.end <= area.end);
        if piece.length != input.metadata_units || !is_in_front || !in_one {
            return Err(format!("{piece:?} is not in front of its leg"));
        }
    }
    if plan.log.len() != input.log_areas as usize || plan.log.iter().any(|log| log.length != input.log_units)
    {
        return Err("logs are missing, or not whole".to_owned());
    }
    let mut data = has_data(input);
    data.extend(plan.legs.iter().flatten().map(|piece| piece.source));
    if input.log_separate && plan.log.iter().any(|log| data.contains(&log.source)) {
        return Err("a log is not apart".to_owned());
    }
    Ok(())
}

fn judge_policy(input: &Input, plan: &Plan<char>, rows: u64) -> Result<(), String> {
    let policy = policy(input);
    let source_of = |leg: &[Piece<char>], row: u64| {
        let mut at = 0;
        leg.iter()
            .find(|piece| {
                at += piece.length;
                row < at
            })
            .unwrap()
            .source
    };
    let sources = |row: u64| plan.legs.iter().map(|leg| source_of(leg, row)).collect::<Vec<_>>();
    if policy != Policy::Anywhere {
        for row in 0..rows {
            let distinct: BTreeSet<char> = sources(row).into_iter().collect();
            if distinct.len() != plan.legs.len() {
                return Err(format!("legs share a source in row {row}"));
            }
            if !distinct.is_disjoint(&avoided(input, row)) {
                return Err(format!("row {row} is where it is to be avoided"));
            }
        }
    }
    let used: BTreeSet<char> = plan.legs.iter().flatten().map(|piece| piece.source).collect();
    match policy {
        Policy::Contiguous => {
            let starts = plan.legs.iter().map(|leg| (leg[0].source, leg[0].start - input.metadata_units));
            let ends = ends(input);
            if plan.legs.iter().any(|leg| leg.len() != 1) || plan.unplaced_units == 0 && is_split(input) {
                return Err("a leg is split".to_owned());
            }
            if ends.as_ref().is_some_and(|ends| !starts.eq(ends.iter().copied())) {
                return Err("a leg does not go on where it ended".to_owned());
            }
            if ends.is_none() && !input.tags.is_empty() {
                let all = sources(0);
                let twice = |at: usize| all[at + 1..].iter().any(|&other| share(input, all[at], other));
                if (0..all.len()).any(twice) {
                    return Err("legs share a tag".to_owned());
                }
            }
            Ok(())
        }
        Policy::Cling | Policy::ClingByTags => {
            let homes = homes(input).unwrap_or_else(|| sources(0).into_iter().collect());
            let allowed = relatives(input, &homes, policy == Policy::ClingByTags);
            if used.is_subset(&allowed) { Ok(()) } else { Err("a leg left its sources".to_owned()) }
        }
        _ => Ok(()),
    }
}

/// Lengths of free areas, by source.
type Lengths = BTreeMap<char, Vec<u64>>;

/// Whether any placement of all units is allowed: every choice is tried. Where an area may be cut anywhere only the
/// lengths that are left matter, and units that may be single ones are taken row by row.
pub(crate) fn exists(input: &Input) -> bool {
    let free = free(input);
    let mut lengths: Lengths =
        free.iter().map(|(&name, areas)| (name, areas.iter().map(|area| area.units()).collect())).collect();
    if policy(input) == Policy::Contiguous
        && let Some(ends) = ends(input)
    {
        let head = input.metadata_units + input.rows();
        let mut seen = BTreeSet::new();
        for (name, end) in ends {
            let Some(at) = free[&name].iter().position(|area| area.start == end && area.units() >= head)
            else {
                return false;
            };
            if !seen.insert(name) || is_split(input) || avoided(input, 0).contains(&name) {
                return false;
            }
            lengths.get_mut(&name).unwrap()[at] -= head;
        }
        let mut data = has_data(input);
        data.extend(seen);
        return logs(input, &lengths, input.log_areas, &mut BTreeSet::new(), &mut |_, at| {
            !input.log_separate || at.is_disjoint(&data)
        });
    }
    let before = has_data(input);
    logs(input, &lengths, input.log_areas, &mut BTreeSet::new(), &mut |lengths, at| {
        if !input.log_separate {
            return data(input, lengths);
        }
        at.is_disjoint(&before) && {
            let mut lengths = lengths.clone();
            at.iter().for_each(|name| lengths.get_mut(name).unwrap().clear());
            data(input, &lengths)
        }
    })
}

/// Tries every way to put the logs, and then what comes behind.
fn logs(
    input: &Input,
    lengths: &Lengths,
    missing: u32,
    at: &mut BTreeSet<char>,
    then: &mut dyn FnMut(&Lengths, &BTreeSet<char>) -> bool,
) -> bool {
    if missing == 0 {
        return then(lengths, at);
    }
    let mut lengths = lengths.clone();
    for name in lengths.keys().copied().collect::<Vec<_>>() {
        for area in 0..lengths[&name].len() {
            if lengths[&name][area] < input.log_units {
                continue;
            }
            lengths.get_mut(&name).unwrap()[area] -= input.log_units;
            let is_new = at.insert(name);
            let found = logs(input, &lengths, missing - 1, at, then);
            if is_new {
                at.remove(&name);
            }
            lengths.get_mut(&name).unwrap()[area] += input.log_units;
            if found {
                return true;
            }
        }
    }
    false
}

/// Whether the legs can be placed.
fn data(input: &Input, lengths: &Lengths) -> bool {
    let whole = policy(input) == Policy::Contiguous;
    if whole && is_split(input) {
        return false;
    }
    let head = input.metadata_units + if whole { input.rows() } else { 1 };
    first_row(input, lengths, head, &mut Vec::new())
}

/// Tries every source and area for the start of each leg that is left.
fn first_row(input: &Input, lengths: &Lengths, head: u64, chosen: &mut Vec<char>) -> bool {
    let policy = policy(input);
    if chosen.len() == input.legs() {
        return policy == Policy::Contiguous || other_rows(input, lengths, chosen);
    }
    let mut lengths = lengths.clone();
    let avoided = avoided(input, 0);
    let homes = homes(input);
    let allowed = homes.map(|homes| relatives(input, &homes, policy == Policy::ClingByTags));
    for name in lengths.keys().copied().collect::<Vec<_>>() {
        if policy != Policy::Anywhere {
            // In which order the legs are on the sources does not matter.
            let is_late = chosen.last().is_some_and(|&last| name <= last);
            if is_late || avoided.contains(&name) {
                continue;
            }
        }
        let must_cling = matches!(policy, Policy::Cling | Policy::ClingByTags);
        if must_cling && allowed.as_ref().is_some_and(|allowed| !allowed.contains(&name)) {
            continue;
        }
        if policy == Policy::Contiguous && chosen.iter().any(|&other| share(input, name, other)) {
            continue;
        }
        for area in 0..lengths[&name].len() {
            if lengths[&name][area] < head {
                continue;
            }
            lengths.get_mut(&name).unwrap()[area] -= head;
            chosen.push(name);
            let found = first_row(input, &lengths, head, chosen);
            chosen.pop();
            lengths.get_mut(&name).unwrap()[area] += head;
            if found {
                return true;
            }
        }
    }
    false
}

fn other_rows(input: &Input, lengths: &Lengths, first: &[char]) -> bool {
    let policy = policy(input);
    let units: BTreeMap<char, u64> =
        lengths.iter().map(|(&name, areas)| (name, areas.iter().sum())).collect();
    if policy == Policy::Anywhere {
        return units.values().sum::<u64>() >= (input.rows() - 1) * input.legs() as u64;
    }
    let allowed = match policy {
        Policy::Normal => units.keys().copied().collect(),
        _ => {
            let homes = homes(input).unwrap_or_else(|| first.iter().copied().collect());
            relatives(input, &homes, policy == Policy::ClingByTags)
        }
    };
    let names: Vec<char> = units.keys().copied().filter(|name| allowed.contains(name)).collect();
    let left: Vec<u64> = names.iter().map(|name| units[name]).collect();
    let avoided: Vec<BTreeSet<char>> = (0..input.rows()).map(|row| avoided(input, row)).collect();
    Rows { names, avoided, legs: input.legs(), known: HashMap::new() }.exist(1, &left)
}

struct Rows {
    names: Vec<char>,
    avoided: Vec<BTreeSet<char>>,
    legs: usize,
    known: HashMap<(usize, Vec<u64>), bool>,
}

impl Rows {
    /// Whether the rows from this one on find units, one on each of as many sources as there are legs.
    fn exist(&mut self, row: usize, left: &[u64]) -> bool {
        if row == self.avoided.len() {
            return true;
        }
        if let Some(&known) = self.known.get(&(row, left.to_vec())) {
            return known;
        }
        let usable = |at: &usize| left[*at] > 0 && !self.avoided[row].contains(&self.names[*at]);
        let usable: Vec<usize> = (0..self.names.len()).filter(usable).collect();
        let sets = (0..1_u32 << usable.len()).filter(|set| set.count_ones() as usize == self.legs);
        let found = sets.collect::<Vec<_>>().into_iter().any(|set| {
            let mut next = left.to_vec();
            usable
                .iter()
                .enumerate()
                .filter(|(bit, _)| set >> bit & 1 == 1)
                .for_each(|(_, &at)| next[at] -= 1);
            self.exist(row + 1, &next)
        });
        self.known.insert((row, left.to_vec()), found);
        found
    }
}
