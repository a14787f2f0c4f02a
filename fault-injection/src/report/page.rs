//! The page as a whole.

use super::html::{command, escape, facts, figure};
use super::number::{count, duration, length};
use super::{Report, growth, matrix, tables, timeline, verdict};

const STYLE: &str = include_str!("style.css");

/// The fill of what was not cut. Pictures refer to it by name.
const PATTERNS: &str = "<svg class=\"patterns\" width=\"0\" height=\"0\" aria-hidden=\"true\"><defs><pattern \
id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><rect \
width=\"6\" height=\"6\" class=\"hatch-ground\"/><rect width=\"2.5\" height=\"6\" \
class=\"hatch-line\"/></pattern></defs></svg>\n";

/// What the project and such a run are, for a reader who meets them here.
const ABOUT: &str = "<p class=\"lead\">Freehold is a space allocator for a file or a block device: it \
decides where a program's bytes go, and promises that after a power loss exactly what was committed is \
there. No space is lost, none has two owners. This page reports a run of <code>crashtest</code>, which tries \
to prove that promise wrong.</p>
<ol class=\"steps\">
<li><b>Work</b> A seeded workload runs on a simulated disk with a volatile cache. Every write and flush is \
recorded.</li>
<li><b>Cut</b> At each of them the power fails. What was not flushed may be on the disk, or not, or in \
part.</li>
<li><b>Make</b> Each such possibility is a disk image: a <i>crash state</i>. Many have the same bytes; \
distinct ones count.</li>
<li><b>Recover</b> The store is opened on that image, as after a real power loss. Some recoveries are cut as \
well.</li>
<li><b>Judge</b> Checks compare the result with a model of what was committed. A difference is a \
<i>violation</i>.</li>
</ol>
";

const WORDS: [(&str, &str); 8] = [
    (
        "I/O, I/O point",
        "One write or one flush that the store asks the disk for. Power can fail at any of them.",
    ),
    ("cut", "A power failure at an I/O point: nothing after it happens."),
    (
        "crash state",
        "A disk image that a cut may leave, given that unflushed writes reach the disk in any order or not \
         at all.",
    ),
    (
        "distinct",
        "Recovery read other bytes than from every earlier state of the run. What recovery does not read does not count, and garbage counts once for each cut.",
    ),
    ("recovery", "Opening the store on a crash state, which replays its journal."),
    ("oracle, check", "Code that judges a recovered store."),
    ("violation", "A promise that was not kept. Each comes with the command that leads back to it."),
    ("seed", "The number from which the choices of a run follow. Any one state can be made again from it."),
];

/// One part of the page.
struct Section {
    id: &'static str,
    /// Short, for the list of parts.
    short: &'static str,
    heading: &'static str,
    body: String,
}

/// Writes the page.
///
/// All text of the report is escaped. Numbers that are not finite count as zero.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut sections = sections(report);
    sections.retain(|section| !section.body.is_empty());
    let title = if report.title.is_empty() { "Crash test".into() } else { escape(&report.title) };
    let links: String = sections
        .iter()
        .map(|section| format!("<a href=\"#{}\">{}</a>\n", section.id, section.short))
        .collect();
    let bodies: String = sections.iter().map(section_html).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\n<meta name=\"color-scheme\" \
         content=\"light dark\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         {PATTERNS}<header>\n\
         <h1>{title}</h1>\n{}{}</header>\n<main>\n{}{ABOUT}<nav>\n{links}</nav>\n\
         {bodies}</main>\n</body>\n</html>\n",
        origin(report),
        verdict::banner(report),
        headline(report),
    )
}

fn sections(report: &Report) -> Vec<Section> {
    let section = |id, short, heading, body| Section { id, short, heading, body };
    vec![
        section("violations", "Violations", "Violations", violations(report)),
        section("growth", "Over time", "What was reached over time", growth::section(&report.over_time)),
        section("kinds", "Kinds of states", "Kinds of crash states", tables::classes(&report.classes)),
        section("phases", "Where power was cut", "Where power was cut", tables::phases(&report.phases)),
        section("timeline", "One workload", "One workload, I/O by I/O", timeline::section(&report.timeline)),
        section("exhaustive", "Exhaustive run", "The exhaustive run", exhaustive(report)),
        section("faults", "Faults", "Faults and what became of them", matrix::section(&report.matrix)),
        section("checks", "Checks", "The checks, and proof that they work", tables::oracles(&report.oracles)),
        section("reproduce", "Run it again", "Run it again", reproduce(report)),
        section("words", "Words", "Words used here", facts(&WORDS.map(|(w, m)| (w.into(), m.into())))),
    ]
}

fn section_html(section: &Section) -> String {
    let Section { id, heading, body, .. } = section;
    format!("<section id=\"{id}\">\n<h2>{heading}</h2>\n{body}</section>\n")
}

/// How the page came about.
fn origin(report: &Report) -> String {
    let mut parts = Vec::new();
    if !report.command.is_empty() {
        parts.push(format!("<code>{}</code>", escape(&report.command)));
    }
    if !report.version.is_empty() {
        parts.push(format!("version {}", escape(&report.version)));
    }
    parts.push(format!("seed {}", report.seed));
    if report.seconds > 0.0 {
        parts.push(duration(report.seconds));
    }
    if report.jobs > 0 {
        let s = if report.jobs == 1 { "" } else { "s" };
        parts.push(format!("{} job{s}", report.jobs));
    }
    format!("<p class=\"origin\">{}</p>\n", parts.join(" <span class=\"soft\">·</span> "))
}

/// The big numbers.
fn headline(report: &Report) -> String {
    if report.headline.is_empty() {
        return String::new();
    }
    let cards: String = report
        .headline
        .iter()
        .map(|(label, value, explanation)| {
            format!(
                "<div class=\"card\"><div class=\"label\">{}</div><div class=\"value\">{}</div><div \
                 class=\"soft\">{}</div></div>\n",
                escape(label),
                escape(value),
                escape(explanation)
            )
        })
        .collect();
    format!("<div class=\"cards\">\n{cards}</div>\n")
}

/// Broken rules, each with the way back to it.
fn violations(report: &Report) -> String {
    if report.violations.is_empty() {
        return String::new();
    }
    let items: String = report
        .violations
        .iter()
        .map(|(message, replay)| format!("<li><p>{}</p>\n{}</li>\n", escape(message), command(replay)))
        .collect();
    format!(
        "<p>{} listed. The command under each makes the same state again and judges it.</p>\n<ol \
         class=\"violations\">\n{items}</ol>\n",
        count(length(&report.violations))
    )
}

/// Facts about the run that leaves nothing out.
fn exhaustive(report: &Report) -> String {
    if report.exhaustive.is_empty() {
        return String::new();
    }
    let caption = "Sampling may miss a state. The exhaustive run takes a workload so small that every crash \
                   state of it can be made, and makes them all.";
    figure(&facts(&report.exhaustive), caption)
}

fn reproduce(report: &Report) -> String {
    report
        .reproduce
        .iter()
        .map(|(what, line)| format!("<p>{}</p>\n{}", escape(what), command(line)))
        .collect()
}
