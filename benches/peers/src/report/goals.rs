//! Goals, each beside the figure of this run. Whether it is reached follows from the figure alone.

use super::tables::{ideal, over, ratio};
use super::text::{grouped, interval, number, tasks};
use super::{Figures, Report};
use crate::contender::Kind;
use crate::driver::{Load, Turn};
use crate::measure::Median;
use crate::probes::{Probes, Steady};

const FREEHOLD: Kind = Kind::Freehold;
const ONE: Load = Load::Tasks(1);
const MANY: Load = Load::Tasks(256);

#[derive(Clone, Copy, Debug)]
enum Wanted {
    Most(f64),
    Least(f64),
    /// It is only told.
    Nothing,
}

impl Wanted {
    fn text(self) -> String {
        let round = |value: f64| if value < 1e6 { value.to_string() } else { number(value) };
        match self {
            Self::Most(most) => format!("at most {}", round(most)),
            Self::Least(least) => format!("at least {}", round(least)),
            Self::Nothing => String::new(),
        }
    }

    fn verdict(self, found: Median) -> String {
        let reached = |value: f64| match self {
            Self::Most(most) => value <= most,
            Self::Least(least) => value >= least,
            Self::Nothing => true,
        };
        if matches!(self, Self::Nothing) {
            return String::new();
        }
        let word = if reached(found.middle) { "reached" } else { "**missed**" };
        let sure = reached(found.low) == reached(found.high);
        format!("{word}{}", if sure { "" } else { ", but the interval has both" })
    }
}

/// Nothing takes less than this share of what the floor does, or of the ideal; else those were held up.
const POSSIBLE: f64 = 0.8;

#[derive(Default)]
struct Goals(Vec<Vec<String>>);

impl Goals {
    fn row(&mut self, name: &str, wanted: Wanted, found: Option<Median>, verdict: impl Fn(Median) -> String) {
        let verdict = found.map_or_else(|| "not measured".to_owned(), verdict);
        self.0.push(vec![name.to_owned(), wanted.text(), interval(found), verdict]);
    }

    fn add(&mut self, name: &str, wanted: Wanted, found: Option<Median>) {
        self.row(name, wanted, found, |found| wanted.verdict(found));
    }

    /// A time, or a share, that cannot be far better than that of the floor.
    fn beside_floor(&mut self, name: &str, wanted: Wanted, found: Option<Median>) {
        self.row(name, wanted, found, |found| {
            let impossible = match wanted {
                Wanted::Least(_) => found.middle > 1.0 / POSSIBLE,
                _ => found.middle < POSSIBLE,
            };
            if impossible { "no verdict: the floor was held up".to_owned() } else { wanted.verdict(found) }
        });
    }
}

/// The fastest peer under a load.
fn best_peer(figures: &Figures, load: Load) -> Option<Kind> {
    let peers = figures.options.kinds.iter().copied().filter(|kind| kind.is_peer());
    let rates = peers.filter_map(|kind| Some((kind, over(&figures.transactions, kind, load, Turn::rate)?)));
    rates.max_by(|left, right| left.1.middle.total_cmp(&right.1.middle)).map(|(kind, _)| kind)
}

fn one_client(goals: &mut Goals, figures: &Figures) {
    let results = &figures.transactions;
    let pairs = [(FREEHOLD, Kind::Append), (Kind::FreeholdDirect, Kind::Direct)];
    for (kind, floor) in pairs {
        let name = |what: &str| format!("one client, {}: {what} to that of {}", kind.name(), floor.name());
        let p50 = ratio(results, kind, floor, ONE, Turn::p50);
        let p99 = ratio(results, kind, floor, ONE, |turn| turn.quantiles.p99);
        goals.beside_floor(&name("p50"), Wanted::Most(1.15), p50);
        goals.add(&name("p99"), Wanted::Nothing, p99);
    }
}

fn many_tasks(goals: &mut Goals, figures: &Figures) {
    let results = &figures.transactions;
    for (count, times) in [(16, 2.0), (256, 5.0)] {
        let load = Load::Tasks(count);
        let best = best_peer(figures, load);
        let name = best.map_or_else(String::new, |best| format!(" ({})", best.name()));
        let name = format!("{count} tasks: rate to that of the best peer{name}");
        let found = best.and_then(|best| ratio(results, FREEHOLD, best, load, Turn::rate));
        goals.add(&name, Wanted::Least(times), found);
    }
    let engine = Kind::from_name("write-journal");
    let times = engine.and_then(|engine| ratio(results, FREEHOLD, engine, MANY, Turn::rate));
    goals.add("256 tasks: rate to that of write-journal", Wanted::Least(100.0), times);
    let share = ideal(figures, FREEHOLD, 256).map(|[_, share]| share);
    goals.beside_floor("256 tasks: share of the ideal", Wanted::Least(0.9), share);
    let cpu = over(results, FREEHOLD, MANY, |turn| turn.cpu() * 1e9);
    goals.add("256 tasks: CPU per transaction, ns", Wanted::Most(500.0), cpu);
    let pairs = results.turns(FREEHOLD, Load::Tasks(4096)).iter().zip(results.turns(FREEHOLD, MANY));
    let kept = Median::of(pairs.map(|(most, many)| most.rate() / many.rate()));
    goals.add("4,096 tasks: rate to that of 256 tasks", Wanted::Least(0.7), kept);
    let memory = figures.memory.as_ref();
    let rate = memory.and_then(|results| over(results, FREEHOLD, MANY, Turn::rate));
    goals.add("256 tasks, file in memory: transactions/s", Wanted::Least(3e6), rate);
    let pair = over(results, FREEHOLD, Load::Reserve, |turn| 1e9 / turn.rate());
    goals.add("space reserved and given back, ns", Wanted::Most(25.0), pair);
}

/// Freehold's own counts.
fn counts(goals: &mut Goals, figures: &Figures) {
    let results = &figures.transactions;
    let loads = figures.options.tasks.iter().map(|&tasks| Load::Tasks(tasks));
    let turns: Vec<&Turn> = loads.flat_map(|load| results.turns(FREEHOLD, load)).collect();
    let quiet = || turns.iter().filter(|turn| turn.grown(|stats| stats.journal.checkpoints) == 0.0);
    let groups = |turn: &Turn| turn.grown(|stats| stats.journal.groups);
    let writes = Median::of(quiet().map(|turn| turn.grown(|stats| stats.device.writes) / groups(turn)));
    let flushes = Median::of(quiet().map(|turn| turn.grown(|stats| stats.device.flushes) / groups(turn)));
    // With the notes of the last durable transaction, some 20 a second.
    goals.add("device writes per group, no checkpoint under way", Wanted::Most(1.05), writes);
    goals.add("device flushes per group, no checkpoint under way", Wanted::Most(1.01), flushes);

    let transactions = |turn: &Turn| turn.grown(|stats| stats.journal.transactions);
    let size = over(results, FREEHOLD, MANY, |turn| transactions(turn) / groups(turn));
    let encoded = |turn: &Turn| turn.grown(|stats| stats.journal.encoded_bytes);
    let padding = |turn: &Turn| turn.grown(|stats| stats.journal.written_bytes) - encoded(turn);
    let each =
        |of: &dyn Fn(&Turn) -> f64| over(results, FREEHOLD, MANY, |turn| of(turn) / transactions(turn));
    let name = |what: &str| {
        let size = size.map_or(f64::NAN, |size| size.middle);
        format!("256 tasks, {} in a group: {what} journal bytes per transaction", number(size))
    };
    goals.add(&name("encoded"), Wanted::Most(32.0), each(&encoded));
    goals.add(&name("padding"), Wanted::Nothing, each(&padding));
}

/// Metadata bytes written for each byte of the journal.
pub(super) fn amplification(steady: &Steady) -> f64 {
    steady.grown(|stats| stats.device.write_bytes) / steady.grown(|stats| stats.journal.written_bytes)
}

fn probes(goals: &mut Goals, probes: &Probes) {
    for (number, steady) in probes.steady.iter().enumerate() {
        let name = format!("{} live: metadata bytes written to journal bytes", grouped(steady.live));
        // A goal for the peers' work; the large store is only told.
        let wanted = if number == 0 { Wanted::Most(1.5) } else { Wanted::Nothing };
        goals.add(&name, wanted, Median::exactly(amplification(steady)));
    }
    let millis = |seconds: &[f64]| Median::of(seconds.iter().map(|seconds| seconds * 1e3));
    let full = format!("open with {} MiB of journal to replay, ms", probes.replays.ring_bytes >> 20);
    goals.add(&full, Wanted::Most(250.0), millis(&probes.replays.warm_seconds));
    let live = grouped(probes.steady.last().map_or(0, |steady| steady.live));
    let name = format!("open with {live} live, closed in order, ms");
    goals.add(&name, Wanted::Most(10.0), millis(&probes.clean_seconds));
}

fn puts(goals: &mut Goals, figures: &Figures) {
    for count in figures.options.put_tasks() {
        let name = format!("blobs, {}: puts to the same bytes and flushes alone", tasks(count));
        let share = ratio(&figures.blobs, FREEHOLD, Kind::Append, Load::Tasks(count), Turn::rate);
        goals.add(&name, Wanted::Least(0.9), share);
    }
}

/// All of them.
pub(super) fn goals(report: &mut Report, figures: &Figures) {
    let mut goals = Goals::default();
    one_client(&mut goals, figures);
    many_tasks(&mut goals, figures);
    counts(&mut goals, figures);
    if let Some(found) = &figures.probes {
        probes(&mut goals, found);
    }
    puts(&mut goals, figures);
    report.table(&["figure", "wanted", "measured", "verdict"], &goals.0);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    fn median(low: f64, middle: f64, high: f64) -> Option<Median> {
        Some(Median { low, middle, high })
    }

    #[test]
    fn verdicts_follow_from_the_figures() {
        let mut goals = Goals::default();
        goals.add("a", Wanted::Most(1.15), median(1.0, 1.1, 1.12));
        goals.add("b", Wanted::Most(1.15), median(1.0, 1.2, 1.3));
        goals.add("c", Wanted::Least(5.0), median(4.0, 4.5, 4.9));
        goals.add("d", Wanted::Least(5.0), median(4.0, 5.5, 7.0));
        goals.add("e", Wanted::Nothing, median(4.0, 5.5, 7.0));
        goals.add("f", Wanted::Least(5.0), None);
        let verdicts: Vec<&str> = goals.0.iter().map(|row| row.last().unwrap().as_str()).collect();
        let both = ", but the interval has both";
        assert_eq!(
            verdicts,
            [
                "reached",
                &format!("**missed**{both}"),
                "**missed**",
                &format!("reached{both}"),
                "",
                "not measured"
            ]
        );
    }

    #[test]
    fn what_cannot_be_has_no_verdict() {
        let mut goals = Goals::default();
        goals.beside_floor("a", Wanted::Most(1.15), median(0.1, 0.1, 0.1));
        goals.beside_floor("b", Wanted::Least(0.9), median(1.3, 1.3, 1.3));
        goals.beside_floor("c", Wanted::Least(0.9), median(0.5, 0.5, 0.5));
        let verdicts: Vec<bool> =
            goals.0.iter().map(|row| row.last().unwrap().starts_with("no verdict")).collect();
        assert_eq!(verdicts, [true, true, false]);
    }
}
