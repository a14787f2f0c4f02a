//! What a script can ask of an allocation, and the report on free space.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod cli;

use std::fs;

use cli::{Place, expect, json, lines, run, stdout};
use serde_json::Value;

const PAGE: u64 = 4096;
const SEGMENT: u64 = 128 << 10;

fn done(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    stdout(&output)
}

/// A store of a few segments of 32 pages.
fn store() -> (Place, String) {
    let place = Place::new();
    let path = place.text("store");
    let sizes =
        ["--size", "1MiB", "--page-size", "4KiB", "--segment-size", "128KiB", "--journal-size", "64KiB"];
    done(&[&["format", &path], &sizes[..]].concat());
    (place, path)
}

/// Runs a script line by line. Each is to be answered with success, or, where the line ends in ` !kind`, with that kind
/// of error.
fn script(path: &str, steps: &[impl AsRef<str>]) -> Vec<Value> {
    let steps: Vec<(&str, &str)> =
        steps.iter().map(AsRef::as_ref).map(|step| step.rsplit_once(" !").unwrap_or((step, "ok"))).collect();
    let answers = expect(path, &steps);
    done(&["check", path]);
    answers
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("{key} in {value}"))
}

fn end(answer: &Value) -> u64 {
    number(answer, "offset") + number(answer, "bytes")
}

/// The store with every page of every segment in an extent of one page, and then every second one freed.
fn comb(path: &str) -> u64 {
    let pages = number(&serde_json::from_str(&done(&["info", path, "--json"])).unwrap(), "free_bytes") / PAGE;
    let fill: Vec<String> = (0..pages).map(|page| format!("alloc p{page} {PAGE}")).collect();
    let free = (0..pages).step_by(2).map(|page| format!("free p{page}"));
    let full = std::iter::once("areas".to_owned()).chain(free);
    let answers = script(path, &fill.into_iter().chain(full).collect::<Vec<_>>());
    let full = &answers[usize::try_from(pages).unwrap()];
    assert_eq!(full["areas"], Value::Array(Vec::new()));
    pages.div_ceil(2)
}

#[test]
fn options_of_an_allocation() {
    let (_place, path) = store();
    let at = 6 * SEGMENT + 3 * PAGE;
    let answers = script(
        &path,
        &[
            "alloc plain 9000 7".to_owned(),
            "alloc power 9000 8 aligned".to_owned(),
            "alloc behind 4096 near=plain".to_owned(),
            "alloc multiple 4096 align=32KiB".to_owned(),
            format!("alloc there 4096 9 at={at}"),
            format!("alloc again 4096 at={at} !no_space"),
            "alloc several 3000 max_extents=4 group=2".to_owned(),
            "alloc small 100 group=2 # an item".to_owned(),
            "list".to_owned(),
        ],
    );
    let [plain, power, behind, multiple, there, _, several, small, list] = answers.as_slice() else {
        panic!("{answers:?}")
    };
    assert_eq!(
        (number(plain, "bytes"), number(plain, "requested"), number(plain, "owner")),
        (3 * PAGE, 9000, 7)
    );
    assert_eq!((number(power, "bytes"), number(power, "offset") % (4 * PAGE)), (4 * PAGE, 0));
    assert_eq!(number(behind, "offset"), end(plain));
    assert_eq!(number(multiple, "offset") % (32 << 10), 0);
    assert_eq!((number(there, "offset"), number(there, "owner")), (at, 9));
    // One extent is answered as such, even where several would have done.
    assert!(several["generation"].is_u64() && several["extents"].is_null(), "{several}");
    assert!((100..PAGE / 2).contains(&number(small, "bytes")), "{small}");
    assert_eq!(list["extents"].as_array().unwrap().len(), 7);
    assert!(list["extents"].as_array().unwrap().iter().all(|extent| extent["owner"].is_u64()), "{list}");
}

#[test]
fn bad_words_are_answered() {
    let (_place, path) = store();
    script(
        &path,
        &[
            "alloc a 4096 frobnicate !usage",
            "alloc a 4096 -1 !usage",
            "alloc a 4096 1 2 !usage",
            "alloc a 4096 aligned 7 !usage",
            "alloc a 4096 aligned aligned !usage",
            "alloc a 4096 max_extents=many !usage",
            "alloc a 4096 max_extents=4294967296 !usage",
            "alloc a 4096 align=1MB !usage",
            "alloc a 4096 at= !usage",
            "alloc a 4096 near=@1 !usage",
            "alloc a 4096 near=nobody !unknown_name",
            "alloc a 4096 max_extents=0 !invalid_request",
            "alloc a 4096 max_extents=9 !invalid_request",
            "alloc a 4096 max_extents=2 align=4096 !invalid_request",
            "alloc a 4096 aligned align=8192 !invalid_request",
            "alloc a 4096 align=3 !invalid_request",
            "alloc a 4096 at=1 !invalid_extent",
            "alloc a 4096 at=0 !invalid_extent",
            "alloc a 4096 at=18446744073709551615 !invalid_extent",
            "alloc a 4096 align=18446744073709551615 !invalid_request",
            "alloc a 4096 align=8EiB !usage",
            "alloc a 0 max_extents=2 !invalid_size",
            "alloc a 18446744073709551615 max_extents=8 !no_space",
            "resize a 1 !unknown_name",
            "resize a !usage",
            "resize a many !usage",
            "areas now !usage",
            "areas",
            "list",
        ],
    );
}

#[test]
fn a_name_can_stand_for_several_extents() {
    let (_place, path) = store();
    let free = comb(&path);
    let text: String = (0..3 * PAGE).map(|at| char::from(b'a' + u8::try_from(at % 23).unwrap())).collect();
    let answers = script(
        &path,
        &[
            "alloc one 8192 !no_space".to_owned(),
            format!("alloc many {} 5 max_extents=2 !no_space", 3 * PAGE - 10),
            format!("alloc many {} 5 max_extents=3", 3 * PAGE - 10),
            "alloc many 1 !usage".to_owned(),
            format!("write many {text}"),
            format!("read many {}", 3 * PAGE),
            format!("read many {} !invalid_extent", 3 * PAGE + 1),
            format!("write many {text}! !invalid_extent"),
            format!("put many {}", "z".repeat(usize::try_from(PAGE + 2).unwrap())),
            format!("read many {}", PAGE + 4),
            "resize many 4096 !usage".to_owned(),
            "alloc next 4096 near=many".to_owned(),
            "free next".to_owned(),
            "begin".to_owned(),
            "free many".to_owned(),
            "read many 1 !unknown_name".to_owned(),
            "abort".to_owned(),
            "read many 1".to_owned(),
            "free many".to_owned(),
            "read many 1 !unknown_name".to_owned(),
            "areas".to_owned(),
        ],
    );
    let many = &answers[2];
    let extents = many["extents"].as_array().unwrap();
    assert_eq!((extents.len(), number(many, "bytes"), number(many, "owner")), (3, 3 * PAGE, 5));
    assert!(many["offset"].is_null() && many["generation"].is_null(), "{many}");
    for extent in extents {
        let keys: Vec<&String> = extent.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["bytes", "generation", "offset"], "{many}");
        assert_eq!(number(extent, "bytes"), PAGE);
    }
    assert_eq!(answers[5]["text"], text);
    assert!(
        answers[9]["text"].as_str().unwrap().ends_with(&format!("zzz{}", &text[4098..4100])),
        "{}",
        answers[9]
    );
    assert_eq!((number(&answers[18], "bytes"), &answers[18]["extents"]), (3 * PAGE, &many["extents"]));
    assert_eq!(u64::try_from(answers[20]["areas"].as_array().unwrap().len()).unwrap(), free);
}

#[test]
fn a_freed_part_takes_the_name_with_it() {
    let (_place, path) = store();
    comb(&path);
    let answers = script(&path, &["alloc many 12288 max_extents=3", "free many"]);
    // The same runs again: the lowest come first.
    let middle = number(&answers[0]["extents"][1], "offset");
    let free = format!("free @{middle}");
    script(
        &path,
        &["alloc many 12288 max_extents=3", &free, "read many 1 !unknown_name", "alloc many 1 max_extents=2"],
    );
}

#[test]
fn extents_change_their_length_in_place() {
    let (_place, path) = store();
    let answers = script(
        &path,
        &[
            "alloc a 8192 at=524288",
            "alloc b 4096 near=a",
            "put a kept",
            "resize a 12288 !cannot_resize",
            "resize a 100",
            "read a 4097 !invalid_extent",
            "resize b 20000",
            "read b 20480",
            "begin",
            "resize b 4096",
            "read b 4097 !invalid_extent",
            "abort",
            "read b 20480",
            "resize a 0 !invalid_size",
            "resize a 9223372036854775807 !cannot_resize",
            "alloc p 8192 aligned",
            "resize p 4096 !cannot_resize",
            "resize p 5000",
            "read a 4",
            "list",
        ],
    );
    assert_eq!((number(&answers[4], "bytes"), number(&answers[4], "requested")), (PAGE, 100));
    assert!(answers[4]["lsn"].is_u64() && answers[4]["offset"] == answers[0]["offset"], "{}", answers[4]);
    assert_eq!((number(&answers[6], "bytes"), &answers[6]["offset"]), (5 * PAGE, &answers[1]["offset"]));
    assert!(answers[9]["lsn"].is_null() && answers[9]["bytes"] == PAGE, "{}", answers[9]);
    assert_eq!(answers[18]["text"], "kept");
    let lengths: Vec<u64> =
        answers[19]["extents"].as_array().unwrap().iter().map(|extent| number(extent, "bytes")).collect();
    assert_eq!(lengths.iter().sum::<u64>(), 8 * PAGE, "{lengths:?}");
}

/// The report, after its sums were compared with each other and with those of `info`.
fn stat(path: &str) -> Value {
    let before = fs::read(path).unwrap();
    let report: Value = serde_json::from_str(&done(&["stat", path, "--json"])).unwrap();
    assert!(fs::read(path).unwrap() == before, "looking at a store changed it");
    let info = json(&run(&["info", path, "--json"]));
    for key in ["allocated_bytes", "free_bytes"] {
        assert_eq!(report[key], info[key], "{key}");
    }
    let buckets = report["histogram"].as_array().unwrap();
    assert_eq!(buckets.len(), 6, "from a page to a segment of 32");
    for (bucket, from) in buckets.iter().zip((0..).map(|order| PAGE << order)) {
        assert_eq!(number(bucket, "from_bytes"), from);
        let (runs, bytes) = (number(bucket, "runs"), number(bucket, "bytes"));
        assert!((runs * from..=runs * (2 * from - 1)).contains(&bytes), "{bucket}");
    }
    let runs = buckets.iter().map(|bucket| number(bucket, "bytes")).sum::<u64>();
    assert_eq!(number(&report, "run_bytes"), runs);
    let free = runs + number(&report, "free_item_bytes");
    assert_eq!(number(&report, "free_bytes"), free, "{report}");
    let by_role = |key| report["roles"].as_array().unwrap().iter().map(|role| number(role, key)).sum::<u64>();
    for key in ["allocated_bytes", "overhead_bytes", "rounding_bytes"] {
        assert_eq!(number(&report, key), by_role(key), "{key}");
    }
    assert_eq!(free, by_role("free_bytes") + number(&report, "untouched_bytes"));
    report
}

#[test]
fn free_space_adds_up() {
    let (_place, path) = store();
    let fresh = stat(&path);
    assert_eq!(
        (&fresh["untouched_bytes"], number(&fresh, "largest_run_bytes")),
        (&fresh["free_bytes"], SEGMENT)
    );
    assert_eq!((&fresh["roles"], number(&fresh, "page_bytes")), (&Value::Array(Vec::new()), PAGE));
    assert_eq!(number(&fresh, "segment_bytes"), SEGMENT);

    // Each role, and a span with a tail; the crash leaves it all in the journal.
    let steps = [
        "alloc run 9000",
        "alloc item 100",
        "alloc power 5000 aligned",
        "alloc span 150000 7",
        "areas",
        "crash",
    ];
    let steps = steps.iter().flat_map(|step| ["-c", step]);
    let answers = lines(&run(&["exec", &path].into_iter().chain(steps).collect::<Vec<_>>()));
    assert!(answers.len() == 5 && answers.iter().all(|answer| answer["ok"] == true), "{answers:?}");
    let areas = answers[4]["areas"].as_array().unwrap();
    let mixed = stat(&path);
    assert_eq!(number(&mixed, "run_bytes"), areas.iter().map(|area| number(area, "bytes")).sum::<u64>());
    let largest = areas.iter().map(|area| number(area, "bytes")).max().unwrap();
    assert_eq!(number(&mixed, "largest_run_bytes"), largest);
    let roles: Vec<&str> =
        mixed["roles"].as_array().unwrap().iter().map(|role| role["role"].as_str().unwrap()).collect();
    for role in ["extent", "slab", "buddy", "span"] {
        assert!(roles.contains(&role), "{mixed}");
    }
    assert!(number(&mixed, "rounding_bytes") > 0 && number(&mixed, "overhead_bytes") > 0, "{mixed}");
    assert!(number(&mixed, "free_item_bytes") > 0, "{mixed}");
    let score = mixed["fragmentation"].as_f64().unwrap();
    assert!((0.0..1.0).contains(&score) && Some(score) > fresh["fragmentation"].as_f64(), "{score}");
    let text = done(&["stat", &path]);
    for word in ["largest run", "fragmentation 0.", "extent", "slab", "rounding"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn dust_scores_near_one() {
    let (_place, path) = store();
    let pages = comb(&path);
    let report = stat(&path);
    // Segments have an even number of pages, but the first: no two free pages are next to each other.
    assert_eq!(
        (number(&report["histogram"][0], "runs"), number(&report, "largest_run_bytes")),
        (pages, PAGE)
    );
    assert_eq!(number(&report, "untouched_bytes"), 0);
    let expected = 1.0 - 1.0 / 32.0;
    assert!((report["fragmentation"].as_f64().unwrap() - expected).abs() < 1e-9, "{report}");
}

#[test]
fn damage_is_refused() {
    let (_place, path) = store();
    script(&path, &["alloc a 4096"]);
    let mut bytes = fs::read(&path).unwrap();
    // Everything behind the journal and in front of the pages: the metadata.
    for byte in &mut bytes[(16 << 10) + (64 << 10)..128 << 10] {
        *byte ^= 1;
    }
    fs::write(&path, &bytes).unwrap();
    let output = run(&["stat", &path, "--json"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let document = json(&output);
    assert!(document["ok"] == false && document["errors"][0]["offset"].is_u64(), "{document}");
}
