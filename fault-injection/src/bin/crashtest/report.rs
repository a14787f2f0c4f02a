//! `--report FILE`: the page about a run.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fault_injection::allocator::Subject;
use fault_injection::allocator::proof::Proof;
use fault_injection::campaign::chain::{Chain, Settings};
use fault_injection::campaign::matrix::{FAULTS, Sheet, title};
use fault_injection::disk::Trace;
use fault_injection::harness::{
    Address, Class, Counter, Explorer, PHASES, Policy, Run, Source, Tally, phase_name, phase_of,
};
use fault_injection::oracle::Oracle;
use fault_injection::report::{
    ClassCount, MatrixRow, OracleCount, PhaseCount, Report, Sample, TimelinePoint, count, page,
};

use crate::campaign::subject;
use crate::summary::{Bound, replay_command};

/// What the page is made of.
pub(crate) struct Material<'a> {
    /// Name of the subcommand.
    pub(crate) command: &'static str,
    pub(crate) settings: &'a Settings,
    pub(crate) jobs: usize,
    pub(crate) tally: &'a Tally,
    pub(crate) samples: Vec<Sample>,
    pub(crate) proofs: &'a [Proof],
    pub(crate) bounds: &'a [Bound],
    pub(crate) matrix: Vec<MatrixRow>,
}

/// Writes the page.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write(path: &Path, material: Material<'_>) -> Result<(), String> {
    let report = build(material);
    fs::write(path, page(&report)).map_err(|error| format!("{}: {error}", path.display()))
}

fn sum(counters: &[Counter]) -> u64 {
    counters.iter().map(Counter::get).sum()
}

fn at(counters: &[Counter], index: usize) -> u64 {
    counters.get(index).map_or(0, Counter::get)
}

fn build(material: Material<'_>) -> Report {
    let Material { command, settings, jobs, tally, mut samples, proofs, bounds, matrix } = material;
    samples.push(sample(tally));
    let seconds = tally.elapsed().as_secs_f64();
    Report {
        title: "Freehold crash test".to_owned(),
        command: format!("crashtest {command} --seed {} --jobs {jobs}", settings.seed),
        seed: settings.seed,
        seconds,
        jobs,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        headline: headline(tally),
        over_time: samples,
        classes: Class::ALL.iter().map(|&class| class_count(tally, class)).collect(),
        phases: (0..PHASES).filter_map(|phase| phase_count(tally, phase)).collect(),
        timeline: example(settings),
        oracles: proofs.iter().map(|proof| oracle_count(tally, proof)).collect(),
        matrix,
        exhaustive: bounds
            .iter()
            .map(|bound| (format!("sequences of {} operations", bound.length), bound.words.clone()))
            .collect(),
        violations: tally
            .failures()
            .into_iter()
            .map(|failure| {
                let state = failure.address.map_or_else(String::new, |address| format!("'{address}'"));
                (failure.violation.to_string(), replay_command(settings, &state))
            })
            .collect(),
        reproduce: vec![
            (
                "The same run again, with the same choices:".to_owned(),
                format!("cargo run --release --bin crashtest -- {command} --report report.html"),
            ),
            (
                "Every sequence of three operations:".to_owned(),
                "cargo run --release --bin crashtest -- exhaustive".to_owned(),
            ),
            ("The fault matrix:".to_owned(), "cargo run --release --bin crashtest -- matrix".to_owned()),
            (
                "Proof that the checks catch real bugs:".to_owned(),
                "cargo run --release --bin crashtest -- planted".to_owned(),
            ),
        ],
    }
}

/// The rows of a matrix, for the page.
pub(crate) fn matrix_rows(sheet: &Sheet) -> Vec<MatrixRow> {
    (1..=FAULTS)
        .map(|fault| {
            let row = sheet.row(fault);
            let apart: Vec<String> =
                row.apart.iter().map(|(name, count)| format!("{name}: {count}")).collect();
            MatrixRow {
                id: format!("F{fault}"),
                fault: title(fault).to_owned(),
                points: row.injected(),
                recovered: row.recovered,
                detected: row.detected,
                survived: row.survived,
                silent: row.silent,
                remark: if fault == 8 { "no resize yet".to_owned() } else { apart.join("; ") },
            }
        })
        .collect()
}

/// The counters now.
pub(crate) fn sample(tally: &Tally) -> Sample {
    Sample {
        seconds: tally.elapsed().as_secs_f64(),
        crash_states: tally.all_crash_states(),
        distinct: tally.all_distinct(),
        recoveries: tally.recoveries.get(),
        violations: tally.failures().len() as u64,
    }
}

fn headline(tally: &Tally) -> Vec<(String, String, String)> {
    let nested = sum(tally.recoveries_by_depth.get(1..).unwrap_or(&[]));
    let rows = [
        ("Distinct crash states", tally.all_distinct(), "told apart by what recovery reads; all recovered"),
        ("Recoveries judged", tally.recoveries.get(), "each compared with the model"),
        ("I/O points", sum(&tally.io_points), "writes and flushes of the workloads"),
        ("of them cut", sum(&tally.io_points_cut), "power failed there at least once"),
        ("Nested recoveries", nested, "after a crash inside a recovery, up to five deep"),
        ("Damaged images", tally.damaged_recoveries.get(), "rot, lost and misdirected writes, stale groups"),
        ("Closer looks", tally.probes.get(), "by checker, twin, fresh load, and recovery again"),
        ("Processes killed", tally.kills.get(), "with SIGKILL, on a real file"),
    ];
    rows.into_iter()
        .filter(|(_, value, _)| *value > 0)
        .map(|(label, value, meaning)| (label.to_owned(), count(value), meaning.to_owned()))
        .collect()
}

fn class_count(tally: &Tally, class: Class) -> ClassCount {
    ClassCount {
        name: class.name().to_owned(),
        made: at(&tally.crash_states, class as usize),
        distinct: at(&tally.distinct_states, class as usize),
        meaning: class.meaning().to_owned(),
    }
}

fn phase_count(tally: &Tally, phase: usize) -> Option<PhaseCount> {
    let points = at(&tally.io_points, phase);
    (points > 0).then(|| PhaseCount {
        phase: phase_name(phase).to_owned(),
        points,
        cut: at(&tally.io_points_cut, phase),
        states: at(&tally.states_by_phase, phase),
    })
}

fn oracle_count(tally: &Tally, proof: &Proof) -> OracleCount {
    let nested = sum(tally.recoveries_by_depth.get(1..).unwrap_or(&[]));
    let judged = match proof.oracle {
        Oracle::Model | Oracle::Payload | Oracle::Recount | Oracle::Awaits | Oracle::Refusal => {
            tally.recoveries.get()
        }
        Oracle::Checker | Oracle::Twin | Oracle::FreshLoad => tally.probes.get(),
        Oracle::Twice => tally.probes.get() + nested,
        Oracle::WriteAhead => tally.runs.get(),
        Oracle::SecondLife => tally.lives.get(),
        Oracle::Conduct => tally.operations.get(),
    };
    OracleCount {
        name: proof.oracle.name().to_owned(),
        meaning: proof.oracle.meaning().to_owned(),
        judged,
        proved: proof.rejected,
        rejected: tally.rejections(proof.oracle) + u64::from(proof.rejected),
    }
}

/// The first workload of the campaign, I/O by I/O, cut once more.
fn example(settings: &Settings) -> Vec<TimelinePoint> {
    let mut chain = Chain::new(settings.seed, 0, subject);
    let Some(round) = chain.next(settings.operations) else { return Vec::new() };
    let trace: &Trace = &round.trace;
    trace.io_points().filter_map(|position| example_point(chain.subject(), &round, position)).collect()
}

fn example_point(subject: &Subject, round: &Run<Subject>, position: usize) -> Option<TimelinePoint> {
    let phase = round.trace.events().get(position).and_then(phase_of)?;
    let tally = Arc::new(Tally::new(Duration::from_secs(60)));
    let address = Address::of(Source::Chain { chain: 0, round: 0 });
    let policy = Policy { nest: 0.0, probe: 0.0, live_on: 0.0, injure: 0.0, ..Policy::CAMPAIGN };
    let mut explorer = Explorer::new(subject, round, address, &policy, 1, &tally);
    explorer.explore_range(position..position + 1);
    let label = match round.operation_at(position) {
        None => "format, open".to_owned(),
        Some((at, operation)) => {
            let text = operation.to_string();
            let verb: Vec<&str> = text.split([':', ' ']).take(1).collect();
            format!("{} {}", verb.concat(), at + 1)
        }
    };
    Some(TimelinePoint {
        label,
        phase: phase_name(phase).to_owned(),
        cut: sum(&tally.io_points_cut) > 0,
        states: tally.all_crash_states(),
    })
}
