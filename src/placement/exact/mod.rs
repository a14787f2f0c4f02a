//! The exact search: it finds a placement whenever one is allowed, unless it comes to its bound.
//!
//! Three things are chosen: how many logs each source holds, which sources the first row is on where that matters (for
//! metadata, for legs that are whole, for a new volume that stays where it begins), and how many units each source
//! gives to the other rows. The first two are tried in a fixed order, the third is a maximum flow.

mod anywhere;
mod flow;
mod hosts;
mod spread;

use super::Step;
use super::draft::{Draft, Taken};
use super::free::Free;
use super::instance::Instance;
use super::story::{Round, Story};

use flow::Classes;

/// Steps that the exact search takes at most for one request: choices tried, sources compared, edges of the flow looked
/// at. Some hundred milliseconds of a present-day core.
pub const EXACT_BOUND: u64 = 1 << 24;

/// Steps that are left.
#[derive(Debug)]
struct Work(u64);

impl Work {
    /// Takes so many steps. False when there are none left.
    fn step(&mut self, steps: u64) -> bool {
        self.0 = self.0.saturating_sub(steps);
        self.0 > 0
    }

    fn is_over(&self) -> bool {
        self.0 == 0
    }
}

/// Where the legs may be.
enum Rule {
    /// Each leg in one area.
    Whole,
    /// On these sources, ascending.
    Within(Vec<usize>),
    /// On the sources of the first row, and on those that share a listed tag with them if so.
    Settled { sharing: bool },
    /// Anywhere, in any row.
    Anywhere,
}

impl Rule {
    /// None where the rounds tried every choice.
    fn of(instance: &Instance<'_>) -> Option<Self> {
        let sharing = instance.limit == Step::ClingByTags && instance.tags.are_listed();
        match (instance.limit, &instance.previous) {
            (Step::Contiguous, None) if instance.logs > 0 => Some(Self::Whole),
            (Step::Contiguous, _) => None,
            (Step::Cling | Step::ClingByTags, Some(previous)) => {
                let mut homes: Vec<usize> = previous.homes.iter().flatten().copied().collect();
                homes.sort_unstable();
                homes.dedup();
                Some(Self::Within(if sharing { instance.tags.with_sharing(homes) } else { homes }))
            }
            (Step::Cling | Step::ClingByTags, None) => Some(Self::Settled { sharing }),
            (Step::Normal, _) => Some(Self::Within(instance.sources().collect())),
            (Step::Anywhere, _) => Some(Self::Anywhere),
        }
    }
}

/// A placement of all rows, or else of as many as can be if less will do and nothing is placed so far. And whether all
/// that is allowed was looked at.
pub(super) fn search<'i, 'a>(
    instance: &'i Instance<'a>,
    is_anything_placed: bool,
) -> (Option<Draft<'i, 'a>>, bool) {
    let Some(rule) = Rule::of(instance) else { return (None, true) };
    let mut work = Work(EXACT_BOUND);
    let mut best = Search::new(instance, &rule, instance.rows).and_then(|search| search.run(&mut work));
    if best.is_none() && instance.approximate && !is_anything_placed && !matches!(rule, Rule::Whole) {
        // Fewer rows are never harder to place.
        let (mut fits, mut fails) = (0, instance.rows);
        while fails - fits > 1 && !work.is_over() {
            let rows = fits + (fails - fits) / 2;
            match Search::new(instance, &rule, rows).and_then(|search| search.run(&mut work)) {
                Some(draft) => (best, fits) = (Some(draft), rows),
                None => fails = rows,
            }
        }
    }
    (best, !work.is_over())
}

/// The search for a placement of so many rows.
struct Search<'i, 'a, 'r> {
    instance: &'i Instance<'a>,
    rule: &'r Rule,
    rows: u64,
    /// Logs that each source could hold at most.
    most_logs: Vec<u64>,
    /// Steps for each look at all areas of all sources.
    look: u64,
    /// The rows that are left to the flow.
    classes: Classes,
}

impl<'i, 'a, 'r> Search<'i, 'a, 'r> {
    /// None if that many rows cannot be placed by this rule at all.
    fn new(instance: &'i Instance<'a>, rule: &'r Rule, rows: u64) -> Option<Self> {
        let splits = instance.ranges.first().is_some_and(|range| range.end < rows);
        if matches!(rule, Rule::Whole) && splits {
            return None;
        }
        let most = |(source, free): (usize, &Free<'_>)| {
            let taken = instance.log_separate && instance.has_data.get(source).copied().unwrap_or_default();
            if taken || instance.logs == 0 { 0 } else { hosts::most(free.areas(), instance.log_units) }
        };
        let most_logs = instance.free.iter().enumerate().map(most).collect();
        let look = instance.free.iter().map(|free| 2 + free.areas().count() as u64).sum();
        let search = Self { instance, rule, rows, most_logs, look, classes: Classes::default() };
        let first = u64::from(search.has_first_row());
        Some(Self { classes: Classes::new(instance, first, rows), ..search })
    }

    /// Whether it matters on which sources the first row is.
    fn has_first_row(&self) -> bool {
        match self.rule {
            Rule::Whole | Rule::Settled { .. } => true,
            Rule::Within(_) => self.instance.metadata > 0,
            Rule::Anywhere => false,
        }
    }

    fn run(&self, work: &mut Work) -> Option<Draft<'i, 'a>> {
        let mut logs = vec![0; self.instance.free.len()];
        self.with_logs(&mut logs, 0, self.instance.logs.into(), work)
    }

    /// Tries all ways to put so many logs on the sources from `from` on. As deep as there are sources with logs.
    fn with_logs(
        &self,
        logs: &mut [u64],
        from: usize,
        missing: u64,
        work: &mut Work,
    ) -> Option<Draft<'i, 'a>> {
        if missing == 0 {
            return self.with_first_row(logs, work);
        }
        for source in from..logs.len() {
            let most = self.most_logs.get(source).copied().unwrap_or_default().min(missing);
            for count in 1..=most {
                if !work.step(1) {
                    return None;
                }
                set(logs, source, count);
                if let Some(draft) = self.with_logs(logs, source + 1, missing - count, work) {
                    return Some(draft);
                }
            }
            set(logs, source, 0);
        }
        None
    }

    fn with_first_row(&self, logs: &[u64], work: &mut Work) -> Option<Draft<'i, 'a>> {
        work.step(self.look).then_some(())?;
        match self.rule {
            Rule::Anywhere => anywhere::place(self.instance, self.rows, logs, work),
            Rule::Within(allowed) if !self.has_first_row() => self.with_flow(logs, allowed, &[], work),
            _ => {
                let first = self.first_sources(logs);
                let mut chosen = Vec::with_capacity(self.instance.legs);
                self.choose_first(logs, &first, &mut chosen, work).ok()
            }
        }
    }

    /// Units of a leg that must be in one area with what is in front of it.
    fn head(&self) -> u64 {
        self.instance.metadata + if matches!(self.rule, Rule::Whole) { self.rows } else { 1 }
    }

    /// Sources that the first row could be on, with the area for it. Those with most space first, where the others
    /// rows depend on it: with nothing to avoid, the first choice is the best then.
    fn first_sources(&self, logs: &[u64]) -> Vec<(usize, u64)> {
        let instance = self.instance;
        let avoided = instance.ranges.first().map(|range| &range.avoided);
        let whole = self.rows.saturating_add(instance.metadata);
        let mut first: Vec<(usize, u64)> = Vec::new();
        for (source, free) in instance.free.iter().enumerate() {
            let is_allowed = match self.rule {
                Rule::Within(allowed) => allowed.binary_search(&source).is_ok(),
                _ => true,
            };
            let count = logs.get(source).copied().unwrap_or_default();
            if !is_allowed
                || avoided.is_some_and(|avoided| avoided.has(source, &instance.tags))
                || self.is_closed(logs, source)
            {
                continue;
            }
            if let Some(area) = hosts::host(free.areas(), self.head(), whole, instance.log_units, count) {
                first.push((source, area.start));
            }
        }
        if matches!(self.rule, Rule::Settled { sharing: false }) {
            // All rows will be on them.
            let leg = self.rows.saturating_add(instance.metadata);
            first.retain(|&(source, _)| {
                self.capacity(logs, source) >= leg && !self.classes.are_avoiding(source, &instance.tags)
            });
        }
        if !matches!(self.rule, Rule::Whole) {
            first.sort_by_key(|&(source, _)| std::cmp::Reverse(self.capacity(logs, source)));
        }
        first
    }

    /// Tries the ways to choose the rest of the first row among `left`. As deep as there are legs. `Err(true)` when
    /// no other choice can do better.
    fn choose_first(
        &self,
        logs: &[u64],
        left: &[(usize, u64)],
        chosen: &mut Vec<(usize, u64)>,
        work: &mut Work,
    ) -> Result<Draft<'i, 'a>, bool> {
        let missing = self.instance.legs - chosen.len();
        if missing == 0 {
            let allowed = match self.rule {
                Rule::Within(allowed) => allowed.clone(),
                _ => {
                    let mut first: Vec<usize> = chosen.iter().map(|&(source, _)| source).collect();
                    first.sort_unstable();
                    let sharing = matches!(self.rule, Rule::Settled { sharing: true });
                    if sharing { self.instance.tags.with_sharing(first) } else { first }
                }
            };
            let is_best = matches!(self.rule, Rule::Within(_)) && self.instance.ranges.is_empty();
            return self.with_flow(logs, &allowed, chosen, work).ok_or(is_best);
        }
        for (at, &(source, start)) in left.iter().enumerate() {
            let compared = (1 + chosen.len()) * (1 + self.instance.tags.of(source).len());
            if left.len() - at < missing || !work.step(compared as u64) {
                break;
            }
            let shares = |&(other, _): &(usize, u64)| self.instance.tags.share(source, other);
            if matches!(self.rule, Rule::Whole) && chosen.iter().any(shares) {
                continue;
            }
            chosen.push((source, start));
            match self.choose_first(logs, left.get(at + 1..).unwrap_or_default(), chosen, work) {
                Err(false) => {}
                ended => return ended,
            }
            chosen.pop();
        }
        Err(false)
    }

    /// Whether the source is kept for logs.
    fn is_closed(&self, logs: &[u64], source: usize) -> bool {
        self.instance.log_separate && logs.get(source).is_some_and(|&count| count > 0)
    }

    /// Units of a source that are left beside its logs.
    fn capacity(&self, logs: &[u64], source: usize) -> u64 {
        let free = self.instance.free.get(source).map_or(0, Free::units);
        free - logs.get(source).map_or(0, |count| count * self.instance.log_units)
    }

    /// All rows but those of `first` by a flow, and then the placement.
    fn with_flow(
        &self,
        logs: &[u64],
        allowed: &[usize],
        first: &[(usize, u64)],
        work: &mut Work,
    ) -> Option<Draft<'i, 'a>> {
        let mut capacities = vec![0; self.instance.free.len()];
        for &source in allowed.iter().filter(|&&source| !self.is_closed(logs, source)) {
            set(&mut capacities, source, self.capacity(logs, source));
        }
        let head = if matches!(self.rule, Rule::Whole) { self.head() } else { self.instance.metadata + 1 };
        for &(source, _) in first {
            let left = capacities.get(source).copied()?.checked_sub(head)?;
            set(&mut capacities, source, left);
        }
        let whole = matches!(self.rule, Rule::Whole);
        let amounts = if whole {
            Vec::new()
        } else {
            self.classes.flow(&capacities, self.instance.legs as u64, &self.instance.tags, work)?
        };
        let mut draft = Draft::new(self.instance);
        for (leg, &(source, start)) in first.iter().enumerate() {
            let metadata = self.instance.metadata;
            draft.free.get_mut(source)?.take(start, head);
            if metadata > 0 {
                draft.metadata.push(Taken { source, start, length: metadata });
            }
            draft.append(leg, Taken { source, start: start + metadata, length: head - metadata });
        }
        put_logs(&mut draft, logs);
        spread::rows(&mut draft, &self.classes, &amounts);
        draft.rows = self.rows;
        Some(draft)
    }
}

/// Takes the logs of each source from its smallest areas that hold one.
fn put_logs(draft: &mut Draft<'_, '_>, logs: &[u64]) {
    let length = draft.instance.log_units;
    for (source, &count) in logs.iter().enumerate() {
        for _ in 0..count {
            let Some(free) = draft.free.get_mut(source) else { continue };
            let Some(area) = free.smallest_holding(length) else { continue };
            free.take(area.start, length);
            draft.log.push(Taken { source, start: area.start, length });
        }
    }
}

fn set(values: &mut [u64], at: usize, value: u64) {
    if let Some(place) = values.get_mut(at) {
        *place = value;
    }
}

/// The placement as rounds: rows are cut where any leg goes on elsewhere.
pub(super) fn told(draft: &Draft<'_, '_>) -> Story {
    let mut story = Story::new();
    let mut at: Vec<(usize, u64)> = vec![(0, 0); draft.legs.len()];
    let mut row = 0;
    loop {
        let current = draft.legs.iter().zip(&at).map(|(pieces, &(piece, offset))| {
            pieces.get(piece).map(|taken| Taken {
                start: taken.start + offset,
                length: taken.length - offset,
                ..*taken
            })
        });
        let Some(taken) = current.collect::<Option<Vec<Taken>>>() else { return story };
        let length = taken.iter().map(|taken| taken.length).min().unwrap_or(0);
        if length == 0 {
            return story;
        }
        for ((piece, offset), taken) in at.iter_mut().zip(&taken) {
            if taken.length == length {
                (*piece, *offset) = (*piece + 1, 0);
            } else {
                *offset += length;
            }
        }
        story.push(Round { step: None, row, length, taken, skipped: Vec::new(), others: 0, kept: true });
        row += length;
    }
}
