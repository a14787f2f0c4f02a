//! `freehold place`: JSON in, JSON out, one line of complaint and exit code 1 when nothing is placed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod cli;

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use cli::{code, complains, json, run, stderr, stdout};
use serde_json::json;

const SOURCES: &str = r#"[{"name": "A", "free": [[10, 15], [20, 22]]}, {"name": "B", "free": [[0, 100]]}]"#;

fn place(input: &str, args: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_freehold"))
        .arg("place")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn document(rest: &str) -> String {
    format!(r#"{{"sources": {SOURCES}, {rest}}}"#)
}

#[test]
fn a_plan_has_legs_side_areas_and_units() {
    let input = document(
        r#""previous": [{"units": 10, "legs": [{"source": "A", "start": 0}]}], "request": {"units": 10, "policy": "normal"}"#,
    );
    let output = place(&input, &[]);
    assert_eq!((code(&output), stderr(&output)), (0, String::new()));
    let expected = json!({
        "legs": [[
            {"source": "A", "start": 10, "length": 5},
            {"source": "A", "start": 20, "length": 2},
            {"source": "B", "start": 0, "length": 3},
        ]],
        "metadata": [], "log": [], "placed_units": 10,
    });
    assert_eq!(json(&output), expected);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &input).unwrap();
    assert_eq!(json(&run(&["place", file.path().to_str().unwrap()])), expected);
}

#[test]
fn everything_that_a_request_may_have_is_read() {
    let input = r#"{"sources": [
            {"name": "A", "tags": ["site1"], "units": 100, "free": [[0, 50]], "allocatable": true},
            {"name": "B", "tags": ["site2"], "units": 100, "free": [[0, 50]]},
            {"name": "C", "tags": ["site2"], "free": [[0, 50]]},
            {"name": "D", "free": [[0, 40]]},
            {"name": "E", "free": [[0, 40]], "allocatable": false}],
        "default_policy": "contiguous",
        "request": {"units": 20, "policy": "inherit", "stripes": 2, "mirrors": 1, "parity": 0, "approximate": false,
            "tags": ["@site1", "@site2"], "maximise_cling": false, "avoid": [{"units": 20, "sources": ["A"]}],
            "metadata_units": 2, "log_areas": 1, "log_units": 3, "log_separate": true}}"#;
    let expected = json!({
        "legs": [[{"source": "B", "start": 2, "length": 10}], [{"source": "D", "start": 2, "length": 10}]],
        "metadata": [{"source": "B", "start": 0, "length": 2}, {"source": "D", "start": 0, "length": 2}],
        "log": [{"source": "C", "start": 0, "length": 3}],
        "placed_units": 20,
    });
    assert_eq!(json(&place(input, &[])), expected);
}

fn refused(input: &str, kind: &str) -> String {
    let output = place(input, &[]);
    assert_eq!(code(&output), 1, "{output:?}");
    complains(&output, input);
    let answer = json(&output);
    assert_eq!(answer["error"], kind, "{answer}");
    let message = answer["message"].as_str().unwrap().to_owned();
    assert!(stderr(&output).contains(&message), "{output:?}");
    message
}

#[test]
fn each_kind_of_failure_has_its_name() {
    let request = |rest: &str| document(&format!(r#""request": {rest}"#));
    for (rest, kind) in [
        (r#"{"units": 200, "policy": "normal"}"#, "insufficient_total"),
        (r#"{"units": 101, "policy": "contiguous"}"#, "insufficient_suitable"),
        (r#"{"units": 5, "policy": "normal", "stripes": 2}"#, "not_divisible"),
        (r#"{"units": 6, "policy": "normal", "mirrors": 3}"#, "too_few_sources"),
        (
            r#"{"units": 2, "policy": "normal", "mirrors": 2, "log_areas": 1, "log_units": 1, "log_separate": true}"#,
            "no_log_space",
        ),
        (r#"{"units": 2, "policy": "normal", "metadata_units": 100}"#, "metadata_too_big"),
        (r#"{"units": 0, "policy": "normal"}"#, "invalid_request"),
    ] {
        refused(&request(rest), kind);
    }
    let message = refused(
        r#"{"sources": [{"name": "disk", "free": [[0, 5], [3, 9]]}], "request": {"units": 1, "policy": "normal"}}"#,
        "overlapping_areas",
    );
    assert!(message.contains("\"disk\"") && message.contains("[0, 5) and [3, 9)"), "{message}");
    refused(
        r#"{"sources": [{"name": "A"}, {"name": "A"}], "request": {"units": 1, "policy": "normal"}}"#,
        "duplicate_source",
    );
}

#[test]
fn what_is_no_request_is_refused_with_its_place() {
    for input in [
        "",
        "{",
        "[]",
        r#"{"sources": []}"#,
        r#"{"sources": [], "request": {"units": 1}}"#,
        r#"{"sources": [], "request": {"units": -1, "policy": "normal"}}"#,
        r#"{"sources": [], "request": {"units": 1.5, "policy": "normal"}}"#,
        r#"{"sources": [], "request": {"units": 18446744073709551616, "policy": "normal"}}"#,
        r#"{"sources": [], "request": {"units": 1, "policy": "loose"}}"#,
        r#"{"sources": [], "request": {"units": 1, "policy": "normal", "stripe": 2}}"#,
        r#"{"sources": [{"name": "A", "free": [[1]]}], "request": {"units": 1, "policy": "normal"}}"#,
    ] {
        let message = refused(input, "invalid_request");
        assert!(message.contains("line 1 column"), "{message}");
    }
    refused(
        &document(r#""default_policy": "inherit", "request": {"units": 1, "policy": "normal"}"#),
        "invalid_request",
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let output = run(&["place", "/nowhere/request.json"]);
    assert_eq!((code(&output), stdout(&output)), (1, String::new()));
    complains(&output, "place");
    assert!(stderr(&output).contains("/nowhere/request.json"));
}

#[test]
fn the_reasons_are_told_beside_the_plan() {
    let input = document(r#""request": {"units": 10, "policy": "normal"}"#);
    let output = place(&input, &["--explain"]);
    assert_eq!(code(&output), 0);
    assert_eq!(json(&output)["placed_units"], 10);
    let told = stderr(&output);
    assert!(told.contains("contiguous, rows 0 to 10: B[0,10)"), "{told}");
    assert!(told.contains("not A: no area holds a leg of 10, the longest gives 5"), "{told}");
}

#[test]
fn help_says_what_may_be_left_out() {
    let help = stdout(&run(&["place", "--help"]));
    assert!(help.contains("all but 'sources', their names, 'request', 'units' and 'policy' may be left out"));
    // A source without 'free' has none, and is no mistake.
    let input = r#"{"sources": [{"name": "A"}], "request": {"units": 1, "policy": "normal"}}"#;
    refused(input, "insufficient_total");
}
