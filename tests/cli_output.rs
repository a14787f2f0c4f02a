//! What the command line says and how: help, complaints about its arguments, documents and pictures; and how it ends when
//! nobody listens any more.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod cli;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

use cli::{Place, code, complains, json, program, run, stderr, stdout};
use serde_json::Value;

#[test]
fn help_and_version_are_answers() {
    for args in [&["--help"][..], &["--version"], &["-h"], &["-V"]] {
        let output = run(args);
        assert_eq!((code(&output), stderr(&output).as_str()), (0, ""), "{args:?}");
        assert!(stdout(&output).contains("freehold"), "{args:?}");
    }
    for command in ["format", "info", "check", "replay", "journal", "map", "stat", "list", "exec", "bench"] {
        let output = run(&[command, "--help"]);
        assert_eq!((code(&output), stderr(&output).as_str()), (0, ""), "{command}");
        assert!(stdout(&output).contains("Usage: freehold"), "{command}");
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_usage() {
    let place = Place::new();
    let path = place.text("new");
    for args in [
        &[][..],
        &["frobnicate"],
        &["info"],
        &["info", &path, "--frobnicate"],
        &["info", &path, "another"],
        &["format", &path, "--size", "many"],
        &["format", &path, "--size", "1MB"],
        &["format", &path, "--size", "16EiB"],
        &["format", &path, "--size", "99999999999999999999999"],
        &["format", &path, "--size=-1"],
        &["format", &path, "--size", "1MiB", "--medium", "tape"],
        &["exec", &path, "script", "-c", "stat"],
    ] {
        let output = run(args);
        assert_eq!(code(&output), 2, "{args:?}: {output:?}");
        complains(&output, &format!("{args:?}"));
        assert_eq!(stdout(&output), "", "{args:?}");
    }
    assert!(!place.path("new").exists());
}

#[test]
fn documents_have_their_keys() {
    let place = Place::new();
    let path = place.text("store");
    let keys = [
        "format_version",
        "uuid",
        "state",
        "medium",
        "device_bytes",
        "sector_bytes",
        "page_bytes",
        "segment_bytes",
        "journal_bytes",
        "metadata_bytes",
        "allocated_bytes",
        "free_bytes",
        "extents",
    ];
    let made = run(&[
        "format",
        &path,
        "--size",
        "16MiB",
        "--medium",
        "sata-ssd",
        "--segment-size",
        "1MiB",
        "--journal-size",
        "64KiB",
        "--json",
    ]);
    assert_eq!((code(&made), stderr(&made).as_str()), (0, ""), "{made:?}");
    let info = run(&["info", &path, "--json"]);
    assert_eq!(code(&info), 0);
    for document in [json(&made), json(&info)] {
        for key in keys {
            assert!(!document[key].is_null(), "{key} in {document}");
        }
        assert_eq!(document["state"], "clean");
        assert_eq!(document["medium"], "sata-ssd");
        assert_eq!(document["device_bytes"], 16 << 20);
        assert_eq!(document["page_bytes"], 8192);
        assert_eq!(document["segment_bytes"], 1 << 20);
        assert_eq!(document["journal_bytes"], 65536);
        let sum =
            ["metadata_bytes", "allocated_bytes", "free_bytes"].map(|key| document[key].as_u64().unwrap());
        assert_eq!(sum.iter().sum::<u64>(), 16 << 20);
    }
    let check = run(&["check", &path, "--json"]);
    assert_eq!(code(&check), 0);
    let check = json(&check);
    assert_eq!((&check["ok"], &check["errors"]), (&true.into(), &Value::Array(Vec::new())));
    for key in ["allocated_bytes", "free_bytes", "extents", "leaked_bytes"] {
        assert!(check[key].is_u64(), "{key}");
    }
    let before = fs::read(&path).unwrap();
    let replay = json(&run(&["replay", &path, "--json"]));
    for key in ["records", "transactions", "writes", "bytes"] {
        assert_eq!(replay[key], 0, "{key}");
    }
    assert_eq!((&replay["torn_tail"], &replay["dry_run"]), (&false.into(), &false.into()));
    assert!(replay.get("first_lsn").is_some() && replay.get("last_lsn").is_some());
    assert!(fs::read(&path).unwrap() == before, "there was nothing to replay");
}

#[test]
fn answers_come_at_once_and_an_interrupt_is_130() {
    let place = Place::new();
    let path = place.store("store");
    let mut child = program()
        .args(["exec", &path])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        stdin.write_all(b"alloc n 4096\nfree n\n").unwrap();
        for _ in 0..2 {
            let answer: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
            assert_eq!(answer["ok"], true);
        }
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 130);
    drop(stdin);
    assert_eq!(code(&run(&["check", &path])), 4);
    assert_eq!(code(&run(&["replay", &path])), 0);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let place = Place::new();
    let path = place.store("store");
    for args in [&["list", &path, "--json"][..], &["info", &path], &["map", &path]] {
        let output = to_nobody(args);
        assert_eq!((code(&output), stderr(&output).as_str()), (0, ""), "{args:?}");
    }
    assert_eq!(code(&run(&["info", &path])), 0);
}

#[test]
fn a_script_whose_answers_nobody_reads_ends_with_an_error() {
    let place = Place::new();
    let path = place.store("store");
    let output = to_nobody(&["exec", &path, "-c", "alloc x 4096", "-c", "alloc y 4096", "-c", "exit"]);
    assert_eq!(code(&output), 1, "{output:?}");
    complains(&output, "exec");
    assert!(stderr(&output).contains("standard output was closed after 1 command;"), "{output:?}");
    // What was done stays, the rest was not begun, and the store is in order.
    assert_eq!(stdout(&run(&["list", &path, "--json"])).lines().count(), 3);
    assert_eq!(code(&run(&["info", &path])), 0);
    assert_eq!(code(&to_nobody(&["exec", &path, "-c", "exit"])), 1);
    // The same as for any answer that cannot be written.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = program().args(["exec", &path, "-c", "alloc z 4096"]).stdout(full).output().unwrap();
    assert_eq!(code(&output), 1, "{output:?}");
    complains(&output, "exec");
    assert_eq!(code(&run(&["info", &path])), 0);
    assert!(stdout(&run(&["exec", "--help"])).contains("standard output is closed"));
}

/// Runs the program with a standard output that nobody reads.
fn to_nobody(args: &[&str]) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = program();
    child.args(args).stdin(Stdio::null()).stderr(Stdio::piped());
    child.stdout(writer).spawn().unwrap().wait_with_output().unwrap()
}

#[test]
fn pictures_and_tables_have_no_colour_in_a_pipe() {
    let place = Place::new();
    let path = place.store("store");
    for args in [["map", &path], ["info", &path], ["check", &path], ["list", &path], ["journal", &path]] {
        let output = program().env_remove("NO_COLOR").args(args).output().unwrap();
        assert_eq!((code(&output), stderr(&output).as_str()), (0, ""), "{args:?}");
        assert!(!stdout(&output).contains('\x1b') && !stdout(&output).is_empty(), "{args:?}");
    }
    for picture in ["map", "stat"] {
        assert!(stdout(&run(&[picture, &path])).contains('█'));
    }
    assert!(stdout(&run(&["info", &path])).contains("1 MiB"));
}
