//! `freehold bench`: its figures fit together, and nothing of it stays behind.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod cli;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cli::{Place, code, complains, json, program, run, stderr, stdout};

fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn the_figures_fit_together_and_the_directory_is_left_empty() {
    let place = Place::new();
    let dir = place.dir.path();
    for clients in [1, 8] {
        let clients_text = clients.to_string();
        let args = ["--clients", &clients_text, "--seconds", "0.3", "--json"];
        let output = run(&[&["bench", dir.to_str().unwrap()][..], &args].concat());
        assert_eq!((code(&output), stderr(&output).as_str()), (0, ""), "{output:?}");
        let report = json(&output);
        let count = |key: &str| report[key].as_u64().unwrap_or_else(|| panic!("{key} in {report}"));
        assert_eq!((count("clients"), count("extents")), (clients, 2000));
        let [txns, groups] = ["txns", "groups"].map(count);
        assert!(txns >= clients && (txns.div_ceil(clients)..=txns).contains(&groups), "{report}");
        assert!(count("writes") >= groups && count("flushes") >= groups, "{report}");
        assert!(count("encoded_bytes") > 8 * txns, "{report}");
        assert!(count("journal_bytes") >= count("encoded_bytes"), "{report}");
        assert!(count("device_bytes") >= count("journal_bytes"), "{report}");
        assert!(report["floor"]["writes"].as_u64().unwrap() > 0, "{report}");

        let figure =
            |of: &serde_json::Value, key: &str| of[key].as_f64().unwrap_or_else(|| panic!("{key} in {of}"));
        let (seconds, floor) = (figure(&report, "seconds"), &report["floor"]);
        assert!(seconds >= 0.3 && figure(floor, "seconds") > seconds / 5.01, "{report}");
        assert!((figure(&report, "txns_per_second") * seconds - txns as f64).abs() < 1e-3, "{report}");
        for part in [&report, floor] {
            let [p50, p99, p999] = ["p50_us", "p99_us", "p999_us"].map(|key| figure(part, key));
            assert!(p50 > 0.0 && p50 <= p99 && p99 <= p999, "{report}");
            assert!(p999 < figure(part, "seconds") * 1.01e6, "{report}");
        }
        // One after the other, the transactions of a client take no more time than there is; most take the median or more.
        let busy = figure(&report, "p50_us") * txns as f64 / 2.0;
        assert!(busy < seconds * 1e6 * 1.01 * clients as f64, "{report}");
        let ratio = figure(&report, "p50_us") / figure(floor, "p50_us");
        assert!((figure(&report, "ratio") / ratio - 1.0).abs() < 1e-9, "{report}");
        assert!(figure(&report, "cpu_us_per_txn") > 0.0, "{report}");
        assert_eq!(entries(dir), 0);
    }
}

#[test]
fn the_text_has_a_row_for_each_figure() {
    let place = Place::new();
    let output = run(&["bench", place.dir.path().to_str().unwrap(), "--seconds", "0.05"]);
    assert_eq!((code(&output), stderr(&output).as_str()), (0, ""), "{output:?}");
    let text = stdout(&output);
    for (name, figures) in [
        ("clients ", 1),
        ("transaction ", 3),
        ("floor ", 3),
        ("ratio ", 1),
        ("writes ", 2),
        ("flushes ", 2),
        ("journal bytes, encoded ", 2),
        ("journal bytes, written ", 2),
        ("device bytes ", 2),
        ("CPU microseconds ", 2),
    ] {
        let row =
            text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {text}"));
        let row: Vec<f64> = row.split_whitespace().map(|figure| figure.parse().unwrap()).collect();
        assert!(
            row.len() == figures && row.iter().all(|&figure| figure > 0.0 || name == "ratio "),
            "{name}: {text}"
        );
    }
}

#[test]
fn what_cannot_be_measured_is_one_line() {
    let place = Place::new();
    let file = place.file("file", b"");
    let missing = place.text("missing");
    let dir = place.dir.path().to_str().unwrap().to_owned();
    for (args, expected) in [
        (&[missing.as_str()][..], 1),
        (&[file.as_str(), "--json"], 1),
        (&[], 2),
        (&[&dir, "--clients", "0"], 2),
        (&[&dir, "--clients", "65537"], 2),
        (&[&dir, "--seconds", "0"], 2),
        (&[&dir, "--seconds=-1"], 2),
        (&[&dir, "--seconds", "inf"], 2),
    ] {
        let output = run(&[&["bench"], args].concat());
        assert_eq!(code(&output), expected, "{args:?}: {output:?}");
        complains(&output, &format!("{args:?}"));
        assert_eq!(stdout(&output), "", "{args:?}");
    }
    assert_eq!(entries(place.dir.path()), 1, "the file only");
}

#[test]
fn a_failure_and_an_interrupt_leave_nothing_behind() {
    let place = Place::new();
    let dir = place.dir.path();
    // No file may be larger than a MiB; a write that goes beyond fails.
    let limited = "trap '' XFSZ; ulimit -f 1024; exec \"$0\" bench \"$1\"";
    let failed = Command::new("sh")
        .args(["-c", limited, env!("CARGO_BIN_EXE_freehold")])
        .arg(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(code(&failed), 1, "{failed:?}");
    complains(&failed, "a full disk");
    assert_eq!(entries(dir), 0);

    let mut bench = program();
    bench.arg("bench").arg(dir).args(["--seconds", "60"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let bench = bench.spawn().unwrap();
    let started = Instant::now();
    let at_work = || fs::read_dir(dir).unwrap().any(|made| made.unwrap().path().join("floor").exists());
    while !at_work() {
        assert!(started.elapsed() < Duration::from_secs(60));
        sleep(Duration::from_millis(10));
    }
    let killed = Command::new("kill").args(["-INT", &bench.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = bench.wait_with_output().unwrap();
    assert_eq!((code(&output), stderr(&output).as_str()), (130, "freehold: interrupted\n"));
    assert_eq!(entries(dir), 0);
}
