//! Guards of the hot paths: instructions for each operation, counted by callgrind, compared with those on record.
//!
//! Times are noise on most machines; instructions are not. Each case is run twice under callgrind, once with few and once
//! with many operations: the difference is what the operations cost, without start and preparation. It is compared with
//! `instructions.txt` beside this file, which is for x86-64.
//!
//! `cargo bench --bench instructions` prints and compares, and fails when a case needs more than it may; with
//! `-- --write` the record is made anew. It needs `valgrind`.

mod cases;

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};

use cases::Case;

/// By how much a case may exceed what is on record, in percent: compilers and C libraries differ.
const TOLERANCE_PERCENT: u64 = 10;
/// Operations of the shorter and of the longer run.
const FEW: u64 = 500;
const MANY: u64 = 2500;

const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/instructions.txt");

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all cases are within what they may.
fn run() -> Result<bool, Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        // What callgrind is given to run.
        ["--case", name, times] => {
            let case = Case::ALL.into_iter().find(|case| case.name() == name).ok_or("no such case")?;
            tokio::runtime::Builder::new_current_thread().build()?.block_on(case.run(times.parse()?))?;
            Ok(true)
        }
        ["--write"] => {
            let mut text = String::from("# Instructions for each operation; see main.rs.\n");
            for case in Case::ALL {
                text.push_str(&format!("{} {}\n", count(case)?, case.name()));
            }
            std::fs::write(RECORD, &text)?;
            print!("{text}");
            Ok(true)
        }
        [] => compare(),
        _ => Err("arguments: none, or --write".into()),
    }
}

fn compare() -> Result<bool, Failure> {
    let record = std::fs::read_to_string(RECORD)?;
    let record: BTreeMap<&str, u64> = record
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(count, name)| Some((name, count.parse().ok()?)))
        .collect();
    let mut good = true;
    println!("{:>12} {:>12} {:>8}  operation", "instructions", "on record", "change");
    for case in Case::ALL {
        let name = case.name();
        let now = count(case)?;
        let Some(&before) = record.get(name) else {
            println!("{now:>12} {:>12} {:>8}  {name}: not on record", "-", "-");
            good = false;
            continue;
        };
        let change = (now as f64 / before.max(1) as f64 - 1.0) * 100.0;
        let too_many = now * 100 > before * (100 + TOLERANCE_PERCENT);
        let verdict = if too_many { ": TOO MANY" } else { "" };
        println!("{now:>12} {before:>12} {change:>+7.1}%  {name}{verdict}");
        good &= !too_many;
    }
    if !good {
        println!(
            "more than {TOLERANCE_PERCENT} % above the record: mend it, or say why and record it with --write"
        );
    }
    Ok(good)
}

/// Instructions for one operation.
fn count(case: Case) -> Result<u64, Failure> {
    let (few, many) = (collected(case, FEW)?, collected(case, MANY)?);
    Ok(many.saturating_sub(few) / (MANY - FEW))
}

/// Instructions of a whole run.
fn collected(case: Case, times: u64) -> Result<u64, Failure> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--case", case.name(), &times.to_string()])
        .output()
        .map_err(|error| format!("valgrind cannot be run ({error}); it is in the package `valgrind`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{}: {said}", case.name()).into());
    }
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    let (_, collected) = collected.ok_or_else(|| format!("callgrind said no count: {said}"))?;
    Ok(collected.trim().parse()?)
}
