//! What the command line refuses: what is no store or a damaged one, one that is open elsewhere, sizes that cannot work.
//! Each time with its exit code, one line of complaint and an untouched file, by every command.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod cli;

use std::fs;
use std::path::Path;

use cli::{Place, code, complains, json, run, script, stderr, stdout};
use freehold::device::FileDeviceOptions;
use freehold::format::Superblock;
use serde_json::Value;

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
fn a_store_without_superblocks_is_damaged_and_not_to_be_formatted() {
    let place = Place::new();
    for block_size in ["4KiB", "16KiB", "64KiB"] {
        let path = place.text(block_size);
        let sizes = ["--size", "4MiB", "--page-size", "64KiB", "--block-size", block_size];
        assert_eq!(code(&run(&[&["format", &path][..], &sizes].concat())), 0, "{block_size}");
        assert_ne!(code(&script(&path, "alloc a 4096\ncrash\n")), 0);
        let bytes = fs::read(&path).unwrap();
        let block = Superblock::decode(&bytes, 0).map_or_else(
            |_| Superblock::claimed_block_bytes(&bytes).unwrap() as usize,
            |superblock| superblock.layout.block_bytes() as usize,
        );
        let mut bad = bytes;
        for copy in [0, 2 * block] {
            assert_eq!(&bad[copy..copy + 8], b"FREEHOLD");
            bad[copy..copy + block].fill(0);
        }
        let path = place.file("bad", &bad);
        refused_by_all(&path, 3);
        for command in ["info", "check", "list"] {
            let text = stderr(&run(&[command, &path]));
            assert!(text.contains("something of a store at offset"), "{text}");
            assert!(text.contains("restore the store from a copy, and do not format"), "{text}");
        }
        let report = json(&run(&["check", &path, "--json"]));
        assert_eq!((&report["state"], &report["extents"]), (&Value::Null, &Value::Null), "{report}");
        format_refused(&[], &path, 1);
        // Without a trace in front, it is nobody's.
        bad[..4 * block].fill(0);
        bad[4 * block..4 * block + 8].fill(0);
        refused_by_all(&place.file("gone", &bad), 1);
    }
}

#[test]
fn format_sees_a_store_behind_an_overwritten_front() {
    let place = Place::new();
    let path = place.text("store");
    assert_eq!(code(&run(&["format", &path, "--size", "64MiB"])), 0);
    let filled = script(&path, "alloc a 1MiB\nwrite a precious\n");
    assert_eq!(code(&filled), 0, "{filled:?}");
    let mut bytes = fs::read(&path).unwrap();
    bytes[..1 << 20].fill(0);
    let path = place.file("headless", &bytes);
    format_refused(&[], &path, 1);
    assert!(stderr(&run(&["format", &path])).contains("data at offset"));
    assert_eq!(code(&run(&["format", &path, "--force"])), 0);
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
    assert_eq!((&report["state"], &report["extents"]), (&"clean".into(), &Value::Null), "{report}");
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
        &["--size", "1MiB", "--block-size", "3"],
        &["--size", "1MiB", "--block-size", "0"],
        &["--size", "1MiB", "--block-size", "256"],
        &["--size", "1MiB", "--block-size", "12KiB"],
        &["--size", "64MiB", "--block-size", "128KiB"],
        &["--size", "64MiB", "--block-size", "1GiB"],
        &["--size", "1MiB", "--block-size", "64KiB", "--page-size", "4KiB"],
        &["--size", "0"],
        &["--size", "100KiB"],
    ] {
        format_refused(sizes, &path, 2);
    }
    format_refused(&[], &path, 1);
    assert!(stderr(&run(&["format", &path])).contains("--size"));
    let existing = place.file("existing", &vec![0; 1 << 20]);
    format_refused(&["--block-size", "3"], &existing, 2);
    let output = run(&["format", &existing, "--block-size", "256"]);
    assert!(code(&output) == 2 && stderr(&output).contains("--block-size 256 B"), "{output:?}");
    // More than a file system holds.
    let output = run(&["format", &path, "--size", "7EiB"]);
    assert!([1, 2].contains(&code(&output)), "{output:?}");
    complains(&output, "7EiB");
    assert!(!stderr(&output).contains("permissions"), "{output:?}");
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
