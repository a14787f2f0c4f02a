//! A page of a run of a moment: what it says must follow from that run, and name nothing of the machine's owner.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::{Figures, Machine, page};
use crate::contender::Kind;
use crate::driver::Load;
use crate::measure::Source;
use crate::options::{Call, parse};
use crate::rounds::{Results, transactions};

/// Turns of the floor and of Freehold.
fn figures(dir: &std::path::Path) -> Figures {
    let line = ["--quick", "--rounds", "2", "--turn-ms", "10", "--only", "floor,freehold"];
    let Ok(Call::Measure(mut options)) = parse(line.into_iter().map(str::to_owned)) else {
        unreachable!("it is to measure");
    };
    options.tasks = vec![1, 16];
    let runtime = Arc::new(Runtime::new().unwrap());
    let source = Source::under(dir).unwrap();
    Figures {
        machine: Machine::of(dir, true).unwrap(),
        took: Duration::from_secs(1),
        transactions: transactions(&options.on_disk(), &runtime, dir, &source).unwrap(),
        memory: None,
        blobs: Results::default(),
        probes: None,
        openings: Vec::new(),
        options: *options,
    }
}

#[test]
fn a_page_has_what_was_measured_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let figures = figures(dir.path());
    let turns = figures.transactions.turns(Kind::Freehold, Load::Tasks(16));
    // The counters of all parts.
    assert_eq!(turns.iter().map(|turn| turn.stats.len()).collect::<Vec<_>>(), [5, 5]);
    assert!(turns.iter().all(|turn| turn.grown(|stats| stats.device.flushes) >= 5.0));
    let report = page(&figures);
    let text = &report.text;
    assert!(text.contains("| one client, freehold: p50 to that of floor | at most 1.15 |"), "{text}");
    assert!(text.contains("## 16 tasks") && !text.contains("## 256 tasks"), "{text}");
    assert!(
        text.contains("| 256 tasks: share of the ideal | at least 0.9 | none | not measured |"),
        "{text}"
    );
    assert!(text.contains("| space reserved and given back, ns | at most 25 |"), "{text}");
    // None of these was run.
    for name in ["sqlite |", "to replay, ms", "## Files in memory"] {
        assert!(!text.contains(name), "{name} in {text}");
    }
    let names: Vec<&str> = report.pictures.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["rates", "latencies", "processor"]);
    let own = dir.path().to_string_lossy();
    for text in report.pictures.iter().map(|(_, text)| text).chain([text]) {
        assert!(!text.contains(&*own) && !text.contains(env!("CARGO_MANIFEST_DIR")));
    }
    report.write(&dir.path().join("docs")).unwrap();
    let written = std::fs::read_to_string(dir.path().join("docs/BENCHMARKS.md")).unwrap();
    assert!(written.contains("(benchmarks/rates.svg)") && written.ends_with('\n'));
    assert!(dir.path().join("docs/benchmarks/rates.svg").exists());
}
