//! The contract of the command line: exit codes, one line of complaint, untouched files, documents, and the script
//! language. The suite of bad input runs over every command.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use freehold::device::FileDeviceOptions;
use freehold::format::Superblock;
use serde_json::Value;
use tempfile::TempDir;

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freehold"));
    command.env("NO_COLOR", "1").env_remove("RUST_BACKTRACE");
    command
}

fn run(args: &[&str]) -> Output {
    program().args(args).stdin(Stdio::null()).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn lines(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// One line that says what is wrong, and no backtrace.
fn complains(output: &Output, context: &str) {
    let text = stderr(output);
    assert_eq!(text.lines().count(), 1, "{context}: {text}");
    assert!(text.starts_with("freehold: ") && text.len() > 20, "{context}: {text}");
}

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A small store with two extents, closed in order.
    fn store(&self, name: &str) -> String {
        let path = self.text(name);
        let made = run(&["format", &path, "--size", "1MiB", "--json"]);
        assert_eq!(code(&made), 0, "{made:?}");
        let filled =
            run(&["exec", &path, "-c", "alloc a 4096 1", "-c", "alloc b 8192 2", "-c", "put a hello"]);
        assert_eq!(code(&filled), 0, "{filled:?}");
        path
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        fs::write(self.path(name), content).unwrap();
        self.text(name)
    }
}

fn script(path: &str, script: &str) -> Output {
    let mut child = program()
        .args(["exec", path])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Every way to look at or open the store at `path`.
fn commands(path: &str) -> Vec<Vec<&str>> {
    vec![
        vec!["info", path],
        vec!["info", path, "--json"],
        vec!["check", path],
        vec!["check", path, "--json"],
        vec!["replay", path],
        vec!["replay", path, "--json"],
        vec!["replay", path, "--dry-run"],
        vec!["journal", path],
        vec!["journal", path, "--json"],
        vec!["map", path],
        vec!["stat", path],
        vec!["stat", path, "--json"],
        vec!["list", path],
        vec!["list", path, "--json"],
        vec!["exec", path, "-c", "stat"],
    ]
}

/// Every command answers with `expected` and one line, and leaves the bytes alone.
fn refused_by_all(path: &str, expected: i32) {
    let before = fs::read(path).ok();
    for args in commands(path) {
        let output = run(&args);
        let context = format!("{args:?}");
        assert_eq!(code(&output), expected, "{context}: {output:?}");
        complains(&output, &context);
        let has_document =
            expected == 3 && args.contains(&"--json") && !["list", "journal"].contains(&args[0]);
        if has_document {
            assert!(!json(&output)["errors"].as_array().unwrap().is_empty(), "{context}");
        } else if expected != 3 {
            assert_eq!(stdout(&output), "", "{context}");
        }
        assert!(fs::read(path).ok() == before, "{context} changed the file");
    }
}

fn format_refused(args: &[&str], path: &str, expected: i32) {
    let before = fs::read(path).ok();
    let mut all = vec!["format", path];
    all.extend(args);
    let output = run(&all);
    assert_eq!(code(&output), expected, "{all:?}: {output:?}");
    complains(&output, &format!("{all:?}"));
    assert_eq!(stdout(&output), "", "{all:?}");
    assert!(fs::read(path).ok() == before, "{all:?} changed the file");
    assert_eq!(Path::new(path).exists(), before.is_some() || Path::new(path).is_dir(), "{all:?}");
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn help_and_version_are_answers() {
    for args in [&["--help"][..], &["--version"], &["-h"], &["-V"]] {
        let output = run(args);
        assert_eq!((code(&output), stderr(&output).as_str()), (0, ""), "{args:?}");
        assert!(stdout(&output).contains("freehold"), "{args:?}");
    }
    for command in ["format", "info", "check", "replay", "journal", "map", "stat", "list", "exec"] {
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
fn what_is_no_store_is_refused_by_every_command() {
    let place = Place::new();
    refused_by_all(&place.text("missing"), 1);
    refused_by_all(place.dir.path().to_str().unwrap(), 1);
    refused_by_all(&place.file("empty", b""), 1);
    refused_by_all(&place.file("tiny", b"x"), 1);
    refused_by_all(&place.file("page", &[0; 4096]), 1);
    refused_by_all(&place.file("zeros", &[0; 300_000]), 1);
    refused_by_all(&place.file("noise", &noise(300_000)), 1);
    refused_by_all(&place.file("text", "a line of text\n".repeat(30_000).as_bytes()), 1);
    refused_by_all("/dev/null", 1);
}

#[test]
fn a_store_of_a_newer_version_is_refused_by_every_command() {
    let place = Place::new();
    let path = place.store("store");
    let mut bytes = fs::read(&path).unwrap();
    for copy in [0, 8192] {
        assert_eq!(&bytes[copy..copy + 8], b"FREEHOLD");
        bytes[copy + 12..copy + 16].copy_from_slice(&7_u32.to_le_bytes());
    }
    let path = place.file("newer", &bytes);
    refused_by_all(&path, 1);
    assert!(stderr(&run(&["info", &path])).contains("version 7"));
}

#[test]
fn unknown_incompatible_features_are_refused_by_every_command() {
    let place = Place::new();
    let path = place.store("store");
    let mut bytes = fs::read(&path).unwrap();
    for copy in [0, 8192_usize] {
        let block = &mut bytes[copy..copy + 4096];
        let mut superblock = Superblock::decode(block, copy as u64).unwrap();
        superblock.incompatible = 1 << 33;
        block.copy_from_slice(&superblock.encode(copy as u64));
    }
    let path = place.file("features", &bytes);
    refused_by_all(&path, 1);
    assert!(stderr(&run(&["info", &path])).contains("0x200000000"));
}

#[test]
fn a_truncated_store_is_corrupt() {
    let place = Place::new();
    let bytes = fs::read(place.store("store")).unwrap();
    for len in [bytes.len() - 1, bytes.len() / 2, 20_000, 4096] {
        refused_by_all(&place.file("short", &bytes[..len]), 3);
    }
}

#[test]
fn damaged_superblocks() {
    let place = Place::new();
    let bytes = fs::read(place.store("store")).unwrap();
    let mut one = bytes;
    one[100] ^= 1;
    let one_path = place.file("one", &one);
    let output = run(&["check", &one_path, "--json"]);
    assert_eq!(code(&output), 0, "{output:?}");
    let report = json(&output);
    assert_eq!((&report["ok"], &report["warnings"][0]["kind"]), (&true.into(), &"superblock".into()));
    assert_eq!(code(&run(&["info", &one_path])), 0);

    let mut both = one;
    both[8192 + 100] ^= 1;
    let path = place.file("both", &both);
    refused_by_all(&path, 3);
    let report = json(&run(&["check", &path, "--json"]));
    assert_eq!(report["errors"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!((&report["ok"], &report["errors"][0]["kind"]), (&false.into(), &"superblock".into()));
}

#[test]
fn damaged_metadata_is_found_and_the_check_goes_on() {
    let place = Place::new();
    let path = place.store("store");
    let bytes = fs::read(&path).unwrap();
    let superblock = Superblock::decode(&bytes[..4096], 0).unwrap();
    let layout = superblock.layout;
    let first = layout.first_segment();
    let mut bad = bytes;
    // Both slots of the bitmap and of the headers of the first segment.
    for leaf in [layout.bitmap_leaf(first, 0), layout.header_leaf(first, 0)] {
        for slot in [0, 1] {
            let at = usize::try_from(layout.slot(0, leaf.0, slot).offset).unwrap();
            bad[at + 3] ^= 0x10;
        }
    }
    let path = place.file("bad", &bad);
    let output = run(&["check", &path, "--json"]);
    assert_eq!(code(&output), 3);
    complains(&output, "check");
    let report = json(&output);
    let kinds: Vec<&str> =
        report["errors"].as_array().unwrap().iter().map(|error| error["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["bitmap", "page_header"], "{report}");
    for error in report["errors"].as_array().unwrap() {
        assert!(error["offset"].as_u64().unwrap() > 0 && error["message"].is_string());
    }
    assert_eq!(fs::read(&path).unwrap(), bad);
    assert_eq!(code(&run(&["list", &path])), 3);
    assert_eq!(code(&run(&["map", &path])), 3);
}

#[test]
fn locked_by_a_writer() {
    let place = Place::new();
    let path = place.store("store");
    let writer = FileDeviceOptions::new().open(&path).unwrap();
    refused_by_all(&path, 1);
    format_refused(&["--force"], &path, 1);
    drop(writer);
    // Readers share, and keep writers out.
    let reader = FileDeviceOptions::new().read_only(true).open(&path).unwrap();
    for args in [["info", &path], ["check", &path], ["list", &path]] {
        assert_eq!(code(&run(&args)), 0, "{args:?}");
    }
    let output = run(&["exec", &path, "-c", "stat"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("open elsewhere"), "{output:?}");
    drop(reader);
}

#[test]
fn a_read_only_file() {
    let place = Place::new();
    let path = place.store("store");
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).unwrap();
    for args in [["info", &path], ["check", &path], ["list", &path], ["journal", &path], ["map", &path]] {
        assert_eq!(code(&run(&args)), 0, "{args:?}");
    }
    if fs::OpenOptions::new().write(true).open(&path).is_ok() {
        eprintln!("skipped in part: this user may write to read-only files");
        return;
    }
    let before = fs::read(&path).unwrap();
    for args in [&["exec", &path, "-c", "stat"][..], &["replay", &path], &["format", &path, "--force"]] {
        let output = run(args);
        assert_eq!(code(&output), 1, "{args:?}");
        complains(&output, &format!("{args:?}"));
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[test]
fn format_refuses_sizes_that_cannot_work_and_leaves_no_file() {
    let place = Place::new();
    let path = place.text("new");
    for sizes in [
        &["--size", "1MiB", "--page-size", "5000"][..],
        &["--size", "1MiB", "--page-size", "0"],
        &["--size", "1MiB", "--page-size", "256"],
        &["--size", "1MiB", "--page-size", "1MiB"],
        &["--size", "1MiB", "--page-size", "4EiB"],
        &["--size", "1MiB", "--journal-size", "2MiB"],
        &["--size", "1MiB", "--journal-size", "0"],
        &["--size", "1MiB", "--journal-size", "7EiB"],
        &["--size", "1MiB", "--segment-size", "100000"],
        &["--size", "1MiB", "--segment-size", "4KiB"],
        &["--size", "0"],
        &["--size", "100KiB"],
    ] {
        format_refused(sizes, &path, 2);
    }
    format_refused(&[], &path, 1);
    assert!(stderr(&run(&["format", &path])).contains("--size"));
    // More than a file system holds.
    let output = run(&["format", &path, "--size", "7EiB"]);
    assert!([1, 2].contains(&code(&output)), "{output:?}");
    complains(&output, "7EiB");
    assert!(!place.path("new").exists());
    format_refused(&["--size", "1MiB"], &place.text("no/such/directory"), 1);
}

#[test]
fn format_refuses_what_looks_like_data() {
    let place = Place::new();
    format_refused(&[], place.dir.path().to_str().unwrap(), 1);
    format_refused(&[], &place.file("empty", b""), 1);
    format_refused(&[], &place.file("tiny", b"x"), 1);
    format_refused(&[], &place.file("noise", &noise(1 << 20)), 1);
    let mut late = vec![0; 4 << 20];
    let end = late.len() - 10;
    late[end] = 1;
    format_refused(&[], &place.file("late", &late), 1);
    let store = place.store("store");
    format_refused(&[], &store, 1);
    format_refused(&["--size", "1MiB"], &store, 1);
    format_refused(&["--size", "2MiB"], &store, 1);
    format_refused(&["--size", "2MiB", "--force"], &store, 1);
    format_refused(&["--force", "--page-size", "5000"], &store, 2);

    let old = json(&run(&["info", &store, "--json"]))["uuid"].clone();
    let output = run(&["format", &store, "--force", "--json"]);
    assert_eq!(code(&output), 0, "{output:?}");
    assert_ne!(json(&output)["uuid"], old);
    // Zeros are nobody's data; a length that is right is no reason to refuse.
    let zeros = place.file("zeros", &vec![0; 1 << 20]);
    assert_eq!(code(&run(&["format", &zeros, "--size", "1MiB"])), 0);
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
fn a_crash_needs_replay_and_nothing_acknowledged_is_lost() {
    let place = Place::new();
    let path = place.store("store");
    let output = script(
        &path,
        "alloc c 10000 9\nput c journaled text\nbegin\nalloc d 4096\nwrite d lost\ncommit\nbegin\nalloc e 4096\ncrash\nstat\n",
    );
    assert_ne!(code(&output), 0);
    assert_eq!(lines(&output).len(), 8, "{output:?}");
    assert!(lines(&output).iter().all(|answer| answer["ok"] == true));

    let before = fs::read(&path).unwrap();
    assert_eq!(code(&run(&["info", &path])), 4);
    let info = run(&["info", &path, "--json"]);
    assert_eq!((code(&info), &json(&info)["state"]), (4, &"needs_replay".into()));
    assert_eq!(json(&info)["extents"], 4);
    assert_eq!(code(&run(&["check", &path])), 4);
    let check = run(&["check", &path, "--json"]);
    assert_eq!((code(&check), &json(&check)["ok"], &json(&check)["extents"]), (4, &true.into(), &4.into()));
    for args in [&["list", &path][..], &["map", &path], &["journal", &path], &["replay", &path, "--dry-run"]]
    {
        assert_eq!(code(&run(args)), 0, "{args:?}");
    }
    let listed = lines(&run(&["list", &path, "--json"]));
    assert_eq!(listed.len(), 4);
    assert!(listed.iter().any(|extent| extent["owner"] == 9 && extent["bytes"] == 12288));
    for key in ["offset", "bytes", "owner", "generation"] {
        assert!(listed[0][key].is_u64(), "{key}");
    }
    let groups = lines(&run(&["journal", &path, "--json"]));
    assert_eq!(groups.len(), 3);
    assert!(groups.iter().all(|group| group["state"] == "valid" && group["bytes"].as_u64() > Some(64)));
    let dry = json(&run(&["replay", &path, "--dry-run", "--json"]));
    assert_eq!(
        (&dry["records"], &dry["transactions"], &dry["dry_run"]),
        (&3.into(), &3.into(), &true.into())
    );
    assert!(fs::read(&path).unwrap() == before, "looking at a store changed it");

    let done = json(&run(&["replay", &path, "--json"]));
    assert_eq!((&done["records"], &done["dry_run"]), (&3.into(), &false.into()));
    assert!(done["first_lsn"].as_u64() < done["last_lsn"].as_u64());
    assert_eq!(code(&run(&["check", &path])), 0);
    assert_eq!(code(&run(&["info", &path])), 0);
    assert_eq!(lines(&run(&["list", &path, "--json"])), listed);
    assert_eq!(stdout(&run(&["journal", &path, "--json"])), "");
}

#[test]
fn a_torn_tail_is_dropped_and_damage_in_the_middle_is_refused() {
    let place = Place::new();
    let path = place.store("store");
    let list = || stdout(&run(&["list", &path, "--json"])).lines().count();
    script(&path, "alloc c 4096\nalloc d 4096\nalloc e 4096\ncrash\n");
    assert_eq!(list(), 5);
    let whole = fs::read(&path).unwrap();
    let groups = lines(&run(&["journal", &path, "--json"]));
    let offset = |group: &Value| usize::try_from(group["offset"].as_u64().unwrap()).unwrap();

    let mut torn = whole.clone();
    torn[offset(&groups[2]) + 70] ^= 0x55;
    fs::write(&path, &torn).unwrap();
    let report = json(&run(&["check", &path, "--json"]));
    assert_eq!((&report["ok"], &report["torn_tail"]), (&true.into(), &true.into()), "{report}");
    let last = lines(&run(&["journal", &path, "--json"])).pop().unwrap();
    assert_eq!((&last["state"], &last["offset"]), (&"torn".into(), &groups[2]["offset"]));
    let output = run(&["replay", &path, "--json"]);
    assert_eq!((code(&output), &json(&output)["torn_tail"]), (0, &true.into()));
    assert_eq!((list(), code(&run(&["check", &path]))), (4, 0));

    let mut rotten = whole;
    rotten[offset(&groups[1]) + 70] ^= 0x55;
    fs::write(&path, &rotten).unwrap();
    for args in [&["check", &path, "--json"][..], &["info", &path, "--json"], &["replay", &path, "--json"]] {
        let output = run(args);
        assert_eq!(code(&output), 3, "{args:?}");
        complains(&output, &format!("{args:?}"));
        let error = json(&output)["errors"][0].clone();
        assert_eq!((&error["kind"], &error["offset"]), (&"journal".into(), &groups[1]["offset"]), "{args:?}");
    }
    let output = run(&["journal", &path, "--json"]);
    assert_eq!(code(&output), 3);
    let states: Vec<Value> = lines(&output).into_iter().map(|group| group["state"].clone()).collect();
    assert_eq!(states, ["valid", "damaged"]);
    assert_eq!(code(&run(&["exec", &path, "-c", "stat"])), 3);
    assert!(fs::read(&path).unwrap() == rotten);
}

/// Runs a script line by line and compares each answer with `ok` or a kind of error.
fn expect(path: &str, steps: &[(&str, &str)]) -> Vec<Value> {
    let text: String = steps.iter().map(|(line, _)| format!("{line}\n")).collect();
    let output = script(path, &text);
    let answers = lines(&output);
    assert_eq!(answers.len(), steps.len(), "{output:?}");
    for ((line, expected), answer) in steps.iter().zip(&answers) {
        let got = if answer["ok"] == true { "ok" } else { answer["error"].as_str().unwrap() };
        assert_eq!(got, *expected, "{line}: {answer}");
        assert_eq!(answer["op"], line.split_whitespace().next().unwrap(), "{answer}");
        assert_eq!(answer["ok"] == false, answer["message"].is_string(), "{answer}");
    }
    let failed = steps.iter().any(|(_, expected)| *expected != "ok");
    assert_eq!(code(&output), i32::from(failed), "{output:?}");
    assert_eq!(stderr(&output), "");
    answers
}

#[test]
fn exec_every_kind_of_error() {
    let place = Place::new();
    let path = place.text("store");
    assert_eq!(code(&run(&["format", &path, "--size", "1MiB"])), 0);
    let answers = expect(
        &path,
        &[
            ("alloc a 0", "invalid_size"),
            ("alloc a 2MiB", "no_space"),
            ("alloc a 18446744073709551615", "no_space"),
            ("alloc a 99999999999999999999", "usage"),
            ("alloc a", "usage"),
            ("frobnicate", "usage"),
            ("free a", "unknown_name"),
            ("write a x", "unknown_name"),
            ("put a x", "unknown_name"),
            ("read a 1", "unknown_name"),
            ("commit", "no_transaction"),
            ("abort", "no_transaction"),
            ("alloc a 100 5", "ok"),
            ("alloc a 100", "usage"),
            ("read a 4097", "invalid_extent"),
            ("read a 18446744073709551615", "invalid_extent"),
            ("free @1", "invalid_extent"),
            ("free @0", "invalid_extent"),
            ("free @18446744073709551615", "invalid_extent"),
            ("free @x", "usage"),
            ("begin", "ok"),
            ("begin", "transaction_open"),
            ("abort", "ok"),
            ("stat", "ok"),
            ("list", "ok"),
            ("checkpoint", "ok"),
            ("exit", "ok"),
        ],
    );
    let stat = &answers[23];
    assert_eq!(
        (&stat["reserved_bytes"], &stat["pending_bytes"], &stat["extents"]),
        (&0.into(), &0.into(), &1.into())
    );
    assert!(stat["uuid"].is_string() && stat["free_bytes"].is_u64());
    assert_eq!(answers[24]["extents"].as_array().unwrap().len(), 1);
    assert_eq!(answers[12]["requested"], 100);
    assert_eq!(answers[12]["bytes"], 104);
    assert_eq!(code(&run(&["check", &path])), 0);
}

#[test]
fn exec_writes_beyond_an_extent() {
    let place = Place::new();
    let path = place.store("store");
    let long = "x".repeat(5000);
    expect(
        &path,
        &[
            ("alloc s 4096", "ok"),
            (&format!("write s {long}"), "invalid_extent"),
            (&format!("put s {long}"), "invalid_extent"),
            ("begin", "ok"),
            (&format!("put s {long}"), "invalid_extent"),
            ("put s  spaces  kept # and this", "ok"),
            ("commit", "ok"),
        ],
    );
}

#[test]
fn exec_frees_once() {
    let place = Place::new();
    let path = place.text("store");
    assert_eq!(code(&run(&["format", &path, "--size", "1MiB"])), 0);
    let answers = expect(&path, &[("alloc a 8192", "ok"), ("alloc b 4096", "ok"), ("alloc d 8192", "ok")]);
    let at = |index: usize, plus: u64| format!("free @{}", answers[index]["offset"].as_u64().unwrap() + plus);
    expect(
        &path,
        &[
            (&at(0, 4096), "invalid_extent"),
            ("begin", "ok"),
            (&at(0, 0), "ok"),
            (&at(0, 0), "not_allocated"),
            ("abort", "ok"),
            (&at(0, 0), "ok"),
            (&at(0, 0), "not_allocated"),
            (&at(1, 0), "ok"),
        ],
    );
    // In another process too, and for what one transaction made and freed.
    let answers = expect(
        &path,
        &[("begin", "ok"), ("alloc x 16384", "ok"), ("abort", "ok"), (&at(0, 0), "not_allocated")],
    );
    let fresh = format!("free @{}", answers[1]["offset"]);
    expect(
        &path,
        &[
            ("begin", "ok"),
            ("alloc x 16384", "ok"),
            (&fresh, "ok"),
            (&fresh, "not_allocated"),
            ("free x", "unknown_name"),
            ("commit", "ok"),
            (&fresh, "not_allocated"),
        ],
    );
    assert_eq!(lines(&run(&["list", &path, "--json"])).len(), 1);
}

#[test]
fn exec_names_follow_transactions() {
    let place = Place::new();
    let path = place.text("store");
    assert_eq!(code(&run(&["format", &path, "--size", "1MiB"])), 0);
    let answers = expect(
        &path,
        &[
            ("alloc a 4096", "ok"),
            ("put a first", "ok"),
            ("begin", "ok"),
            ("free a", "ok"),
            ("free a", "unknown_name"),
            ("alloc a 4096", "ok"),
            ("alloc b 4096", "ok"),
            ("put a second", "ok"),
            ("read a 6", "ok"),
            ("abort", "ok"),
            ("read b 1", "unknown_name"),
            ("read a 5", "ok"),
            ("begin", "ok"),
            ("alloc b 4096", "ok"),
            ("write b direct", "ok"),
            ("free a", "ok"),
            ("commit", "ok"),
            ("read a 1", "unknown_name"),
            ("read b 8", "ok"),
            ("begin", "ok"),
            ("alloc c 4096", "ok"),
        ],
    );
    assert_eq!(answers[8]["text"], "second");
    assert_eq!(answers[11]["text"], "first");
    assert_eq!(answers[18]["text"], "direct\0\0");
    assert!(answers[16]["lsn"].as_u64() > answers[1]["lsn"].as_u64());
    // The open transaction was aborted at the end of input, and the store closed in order.
    assert_eq!(lines(&run(&["list", &path, "--json"])).len(), 1);
    assert_eq!(code(&run(&["info", &path])), 0);
}

#[test]
fn exec_transaction_too_large_stays_open() {
    let place = Place::new();
    let path = place.text("store");
    assert_eq!(code(&run(&["format", &path, "--size", "1MiB", "--journal-size", "32KiB"])), 0);
    let text = "0123456789abcdef".repeat(1024);
    let put: Vec<String> = (0..4).map(|i| format!("put n{i} {text}")).collect();
    expect(
        &path,
        &[
            ("begin", "ok"),
            ("alloc n0 16384", "ok"),
            ("alloc n1 16384", "ok"),
            (&put[0], "ok"),
            (&put[1], "ok"),
            ("commit", "transaction_too_large"),
            ("begin", "transaction_open"),
            ("free n1", "ok"),
            ("free n0", "ok"),
            ("alloc n2 4096", "ok"),
            ("commit", "ok"),
            ("read n2 1", "ok"),
        ],
    );
}

#[test]
fn exec_takes_scripts_from_files_and_arguments() {
    let place = Place::new();
    let path = place.store("store");
    let file = place.file("script", b"# a comment\n\n  stat # more\nlist\n");
    let output = run(&["exec", &path, &file]);
    assert_eq!((code(&output), lines(&output).len()), (0, 2), "{output:?}");
    let output = run(&["exec", &path, "-c", "stat", "list", "-c", "stat"]);
    assert_eq!((code(&output), lines(&output).len()), (0, 3), "{output:?}");
    for missing in [place.text("missing"), place.dir.path().to_str().unwrap().to_owned()] {
        let output = run(&["exec", &path, &missing]);
        assert_eq!(code(&output), 1);
        complains(&output, &missing);
    }
    let output = script(&path, "list\nexit\nlist\n");
    assert_eq!((code(&output), lines(&output).len()), (0, 2));
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
    for args in
        [&["list", &path, "--json"][..], &["info", &path], &["map", &path], &["exec", &path, "-c", "list"]]
    {
        let mut child = program();
        child.args(args).stdin(Stdio::null()).stderr(Stdio::piped());
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = child.stdout(writer).spawn().unwrap().wait_with_output().unwrap();
        assert_eq!((code(&output), stderr(&output).as_str()), (0, ""), "{args:?}");
    }
    assert_eq!(code(&run(&["info", &path])), 0);
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
