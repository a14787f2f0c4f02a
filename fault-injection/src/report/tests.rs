#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod markup;

use super::*;
use markup::{attribute, check, number, well_formed};

fn phase(name: &str, points: u64, cut: u64, states: u64) -> PhaseCount {
    PhaseCount { phase: name.into(), points, cut, states }
}

fn io(label: &str, phase: &str, cut: bool, states: u64) -> TimelinePoint {
    TimelinePoint { label: label.into(), phase: phase.into(), cut, states }
}

/// Every section, every text different, every number different and with four digits or more.
fn full(text: impl Fn(&str) -> String) -> Report {
    let pair = |a: &str, b: &str| (text(a), text(b));
    Report {
        title: text("title"),
        command: text("command"),
        seed: 9_001,
        seconds: 3_725.0,
        jobs: 16,
        version: text("version"),
        headline: vec![(text("label"), text("value"), text("explanation"))],
        over_time: vec![
            Sample { seconds: 60.0, crash_states: 1_001, distinct: 1_002, recoveries: 1_003, violations: 0 },
            Sample { seconds: 120.0, crash_states: 2_004, distinct: 2_005, recoveries: 2_006, violations: 0 },
        ],
        classes: vec![ClassCount {
            name: text("class"),
            made: 3_007,
            distinct: 3_008,
            meaning: text("class meaning"),
        }],
        phases: vec![phase("journal", 4_009, 4_009, 4_010), phase(&text("phase"), 4_011, 4_011, 4_012)],
        timeline: vec![
            io("commit", "flush", true, 5_013),
            io(&text("operation"), &text("own phase"), true, 5_014),
        ],
        oracles: vec![OracleCount {
            name: text("oracle"),
            meaning: text("oracle meaning"),
            judged: 6_015,
            proved: true,
            rejected: 6_016,
        }],
        matrix: vec![MatrixRow {
            id: text("F1"),
            fault: text("fault"),
            points: 7_017,
            recovered: 7_018,
            detected: 7_019,
            survived: 7_020,
            silent: 0,
            remark: text("remark"),
        }],
        exhaustive: vec![pair("fact", "fact value")],
        violations: vec![pair("message", "replay")],
        reproduce: vec![pair("what", "again")],
    }
}

fn good() -> Report {
    Report { violations: Vec::new(), ..full(str::to_owned) }
}

#[test]
fn numbers_and_texts_shown_are_those_given() {
    let text = check(&page(&full(|text| format!("the {text}!"))));
    for number in [
        "seed 9001",
        "62 min 5 s",
        "16 jobs",
        "2,004",
        "2,005",
        "2,006",
        "3,007",
        "3,008",
        "4,009",
        "4,010",
        "4,011",
        "4,012",
        "5,013",
        "5,014",
        "10,027",
        "6,015",
        "6,016",
        "7,017",
        "7,018",
        "7,019",
        "7,020",
        "8,020",
    ] {
        assert!(text.contains(number), "{number}");
    }
    for word in [
        "title",
        "command",
        "version",
        "label",
        "value",
        "explanation",
        "class",
        "class meaning",
        "phase",
        "operation",
        "own phase",
        "oracle",
        "oracle meaning",
        "F1",
        "fault",
        "remark",
        "fact",
        "fact value",
        "message",
        "replay",
        "what",
        "again",
    ] {
        assert!(text.contains(&format!("the {word}!")), "{word}");
    }
}

#[test]
fn text_cannot_break_out() {
    let page = page(&full(|text| format!("</pre></code>\"'<script x='1'>{text}&amp;\0")));
    let text = check(&page);
    assert!(!page.contains('\0'));
    for word in ["title", "remark", "fact value", "replay", "again", "operation"] {
        assert!(text.contains(&format!(
            "&lt;/pre&gt;&lt;/code&gt;&quot;&#39;&lt;script x=&#39;1&#39;&gt;{word}&amp;amp;"
        )));
    }
}

#[test]
fn an_empty_report_claims_nothing() {
    let page = page(&Report::default());
    let text = check(&page);
    assert!(text.contains("Crash test") && text.contains("Nothing was judged"), "{text}");
    assert!(!page.contains("verdict fine") && !page.contains("<table") && !page.contains("<figure"));
}

#[test]
fn a_section_without_data_is_left_out() {
    let ids = [
        "violations",
        "growth",
        "kinds",
        "phases",
        "timeline",
        "exhaustive",
        "faults",
        "checks",
        "reproduce",
    ];
    let with = |id: &str| {
        let mut report = full(str::to_owned);
        match id {
            "violations" => report.violations.clear(),
            "growth" => report.over_time.clear(),
            "kinds" => report.classes.clear(),
            "phases" => report.phases.clear(),
            "timeline" => report.timeline.clear(),
            "exhaustive" => report.exhaustive.clear(),
            "faults" => report.matrix.clear(),
            "checks" => report.oracles.clear(),
            _ => report.reproduce.clear(),
        }
        page(&report)
    };
    for left_out in ids {
        let page = with(left_out);
        check(&page);
        for id in ids {
            assert_eq!(
                page.contains(&format!("<section id=\"{id}\">")),
                id != left_out,
                "{id} without {left_out}"
            );
        }
    }
}

#[test]
fn what_was_not_cut_is_in_the_colour_of_alarm() {
    let uncut = |page: &str| page.matches("class=\"uncut\"").count();
    let mut report = good();
    assert_eq!(uncut(&page(&report)), 0);
    report.timeline[0].cut = false;
    let text = check(&page(&report));
    assert_eq!(uncut(&page(&report)), 1);
    assert!(text.contains("I/O 1, commit: flush, not cut") && text.contains("1 is outlined in red"));

    report = good();
    report.phases[0].cut = 4_008;
    let text = check(&page(&report));
    assert_eq!(uncut(&page(&report)), 1);
    assert!(page(&report).contains("<td class=\"n silent\">1</td>"));
    assert!(text.contains("power was not cut at 1 I/O") && text.contains("99.9 %"));
    let style = page(&report);
    let rule = style.lines().find(|line| line.starts_with(".uncut")).unwrap();
    assert!(rule.contains("stroke: var(--alarm)"), "{rule}");
}

#[test]
fn few_that_were_not_cut_are_not_hidden_by_many_that_were() {
    let report = Report {
        phases: vec![phase("journal", 10_000_000, 9_999_999, 1), phase("format", 1, 0, 0)],
        ..good()
    };
    let page = page(&report);
    check(&page);
    let (tags, _) = well_formed(&page);
    let widths: Vec<f64> = tags
        .iter()
        .filter(|tag| attribute(tag, "class") == Some("uncut"))
        .map(|tag| number(tag, "width"))
        .collect();
    assert_eq!(widths, [3.0, 3.0]);
}

#[test]
fn a_long_workload_is_counted_to_its_end() {
    let mut timeline = vec![io("write", "journal", true, 1); 5_000];
    timeline[4_999].cut = false;
    let text = check(&page(&Report { timeline, ..good() }));
    assert!(
        text.contains("each of the 5,000 I/Os")
            && text.contains("The last 4,424 are counted but not drawn, 1 of")
    );
}

#[test]
fn a_silent_fault_is_an_alarm_and_an_idle_one_is_grey() {
    let mut report = good();
    assert!(check(&page(&report)).contains("No rule was broken in 6,015 recoveries"));
    report.matrix.push(MatrixRow { id: "F8".into(), remark: "no resize yet".into(), ..MatrixRow::default() });
    let idle = page(&report);
    assert!(check(&idle).contains("1 of 2 faults not injected"));
    assert!(idle.contains("<tr class=\"idle\"><th scope=\"row\">F8</th>") && idle.contains("no resize yet"));
    assert!(idle.contains("verdict fine") && !idle.contains("<td class=\"n silent\">"));

    report.matrix[1].silent = 1_234;
    let silent = page(&report);
    assert!(check(&silent).contains("1,234 faults were silently wrong"));
    assert!(silent.contains("<td class=\"n silent\">1,234</td>") && silent.contains("verdict bad"));
    assert!(!silent.contains("class=\"idle\""));
}

#[test]
fn a_violation_is_the_first_thing_to_read() {
    let mut report = full(str::to_owned);
    let text = check(&page(&report));
    let at = |what: &str| text.find(what).unwrap();
    assert!(at("1 violation\n") < at("explanation") && at("message") < at("What was reached over time"));
    assert!(!text.contains("No rule was broken"));

    report.violations.clear();
    report.over_time[1].violations = 3;
    let counted = page(&report);
    assert!(check(&counted).contains("3 violations") && counted.contains("class=\"alarm-line\""));
}

#[test]
fn a_check_without_proof_is_named() {
    let mut report = good();
    assert!(page(&report).contains("✓ rejected its bait"));
    report.oracles[0].proved = false;
    let text = check(&page(&report));
    assert!(text.contains("! unproved") && text.contains("1 of 1 checks unproved"));
}

#[test]
fn rates_are_stated() {
    let text = check(&page(&good()));
    assert!(text.contains("17 distinct states/s") && text.contains("in the last quarter"), "{text}");
    let one = Sample { seconds: 0.5, distinct: 3, recoveries: 4, ..Sample::default() };
    let text = check(&page(&Report { over_time: vec![one], ..Report::default() }));
    assert!(text.contains("6.0 distinct states/s") && !text.contains("last quarter"));
    let text = check(&page(&Report { over_time: vec![Sample { seconds: 0.0, ..one }], ..Report::default() }));
    assert!(!text.contains("states/s") && text.contains("No rule was broken in 4 recoveries"));
}

#[test]
fn no_number_is_too_small_or_too_large() {
    for seconds in [0.0, -1.0, 1e-300, 1e-3, 1e12, f64::MAX, f64::NAN, f64::INFINITY] {
        for n in [0, 1, u64::MAX] {
            let sample = Sample { seconds, crash_states: n, distinct: n, recoveries: n, violations: n };
            let row = MatrixRow {
                points: n,
                recovered: n,
                detected: n,
                survived: n,
                silent: n,
                ..MatrixRow::default()
            };
            check(&page(&Report {
                seconds,
                seed: n,
                over_time: vec![sample; 3],
                classes: vec![ClassCount { made: n, distinct: n, ..ClassCount::default() }; 2],
                phases: vec![
                    phase("journal", n, 0, n),
                    phase("flush", n, n / 2, n),
                    phase("format", 1, 2, 0),
                ],
                timeline: vec![io("", "", true, n), io("a", "flush", false, n), io("b", "flush", true, 0)],
                oracles: vec![OracleCount { judged: n, rejected: n, ..OracleCount::default() }],
                matrix: vec![row.clone(), MatrixRow { points: 0, ..row }],
                ..Report::default()
            }));
        }
    }
}

#[test]
fn labels_of_lines_that_meet_are_apart() {
    for (distinct, recoveries) in [(5_000, 5_001), (5_000, 5_000), (0, 0), (0, 5_000)] {
        let sample = Sample { seconds: 9.0, distinct, recoveries, ..Sample::default() };
        let page = page(&Report { over_time: vec![sample], ..Report::default() });
        check(&page);
        let (tags, _) = well_formed(&page);
        let labels =
            tags.iter().filter(|tag| attribute(tag, "class").is_some_and(|c| c.starts_with("label ")));
        let places: Vec<f64> = labels.map(|tag| number(tag, "y")).collect();
        assert!(places.len() == 2 && places[1] - places[0] >= 33.9, "{places:?}");
    }
}
