//! `crashtest matrix`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fault_injection::campaign::chain;
use fault_injection::campaign::matrix::{
    FAULTS, FaultNumber, Row, Settings, Sheet, page, run as run_matrix, title,
};
use fault_injection::harness::Tally;
use serde::Serialize;

use crate::arguments::MatrixArguments;
use crate::campaign::proven;
use crate::report::{self, Material, matrix_rows};

#[derive(Debug, Serialize)]
struct Figures {
    fault: String,
    title: &'static str,
    injected: u64,
    recovered: u64,
    detected: u64,
    survived: u64,
    silent: u64,
    lines: Vec<String>,
}

/// Injects every fault and writes the page. Returns whether nothing was silent and every row was exercised.
///
/// # Errors
/// What keeps it from running, or from writing the page.
pub(crate) fn run(arguments: &MatrixArguments) -> Result<bool, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find its own program: {error}"))?;
    let only = arguments.only.iter().map(|name| number(name)).collect::<Result<Vec<_>, _>>()?;
    let kills = Some((arguments.kills, program));
    let settings = Settings { only, kills, ..Settings::whole(arguments.seed, arguments.jobs) };
    let begun = Instant::now();
    let sheet = run_matrix(&settings, &|name, part, done, of| {
        let (mut injected, mut silent) = (0, 0);
        for row in (1..=FAULTS).map(|fault| part.row(fault)) {
            injected += row.injected();
            silent += row.silent;
        }
        let seconds = begun.elapsed().as_secs_f64();
        eprintln!("{seconds:6.1} s  {done:3}/{of}  {name}: {injected} injected, {silent} silent");
        part.lines().for_each(|line| eprintln!("          SILENT {line}"));
    });
    let wanted: Vec<FaultNumber> = (1..=FAULTS).filter(|&fault| settings.wants(fault)).collect();
    let text = page(&settings, &sheet);
    if arguments.json {
        let figures: Vec<Figures> = wanted.iter().map(|&fault| figures(fault, &sheet.row(fault))).collect();
        println!("{}", serde_json::to_string_pretty(&figures).map_err(|error| error.to_string())?);
    } else {
        print!("{text}");
    }
    write(arguments, &text)?;
    if let Some(path) = &arguments.report {
        report(arguments, path, &sheet)?;
    }
    for line in sheet.lines() {
        println!(
            "silent: {line}; again: crashtest matrix --seed {} --only F{}",
            arguments.seed,
            fault_of(line)
        );
    }
    let is_good = |fault: &FaultNumber| {
        let row = sheet.row(*fault);
        row.silent == 0 && (*fault == 8 || row.injected() > 0)
    };
    Ok(wanted.iter().all(is_good))
}

/// A part of the matrix is no matrix: it is written only where it was asked for.
fn write(arguments: &MatrixArguments, text: &str) -> Result<(), String> {
    let path = match &arguments.out {
        Some(path) => path.clone(),
        None if arguments.only.is_empty() => default_page(),
        None => return Ok(()),
    };
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    eprintln!("written to {}", path.display());
    Ok(())
}

/// The HTML page. It has the matrix, and no campaign.
fn report(arguments: &MatrixArguments, path: &Path, sheet: &Sheet) -> Result<(), String> {
    let settings = chain::Settings { seed: arguments.seed, operations: chain::OPERATIONS };
    let material = Material {
        command: "matrix",
        settings: &settings,
        jobs: arguments.jobs,
        tally: &Tally::new(Duration::ZERO),
        samples: Vec::new(),
        proofs: &proven()?,
        bounds: &[],
        matrix: matrix_rows(sheet),
    };
    report::write(path, material)
}

fn default_page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/FAULT-MATRIX.md")
}

fn fault_of(line: &str) -> &str {
    line.split(':').next().unwrap_or_default().trim_start_matches('F')
}

fn number(name: &str) -> Result<FaultNumber, String> {
    let digits = name.trim().trim_start_matches(['F', 'f']);
    match digits.parse() {
        Ok(number @ 1..=FAULTS) => Ok(number),
        _ => Err(format!("'{name}' is no fault: F1 to F{FAULTS}")),
    }
}

fn figures(fault: FaultNumber, row: &Row) -> Figures {
    Figures {
        fault: format!("F{fault}"),
        title: title(fault),
        injected: row.injected(),
        recovered: row.recovered,
        detected: row.detected,
        survived: row.survived,
        silent: row.silent,
        lines: row.lines.clone(),
    }
}
