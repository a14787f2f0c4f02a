//! The script language of `exec`: every kind of error, names and transactions, and where scripts come from.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod cli;

use cli::{Place, code, complains, expect, lines, run, script};

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
