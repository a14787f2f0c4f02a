//! `crashtest planted`: each patch of `fault-injection/planted` is applied to a copy of the source, which is built and
//! run; the campaign must fail. A patch that no longer applies, or a bug that is not caught, is an error.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::arguments::PlantedArguments;

/// What a campaign says of itself.
#[derive(Deserialize)]
struct Outcome {
    failures: Vec<Failure>,
    oracles: Vec<OracleCount>,
}

#[derive(Deserialize)]
struct Failure {
    oracle: String,
    message: String,
    replay: String,
    seconds: f64,
    distinct_states: u64,
}

#[derive(Deserialize)]
struct OracleCount {
    oracle: String,
    violations: u64,
}

/// A bug, and what became of it.
#[derive(Serialize)]
struct Bug {
    name: String,
    title: String,
    story: String,
    caught: bool,
    /// The oracle that caught it first.
    first: String,
    message: String,
    replay: String,
    seconds: f64,
    distinct_states: u64,
    /// All oracles that caught it within the time that was given.
    oracles: Vec<String>,
}

/// Runs all planted bugs, or those whose names contain one of those given. Returns whether every one was caught.
///
/// # Errors
/// What keeps the job from being done, in words.
pub(crate) fn run(arguments: &PlantedArguments) -> Result<bool, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let patches = patches(&root, &arguments.names)?;
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (mut bugs, mut failures) = (Vec::new(), Vec::new());
    for patch in &patches {
        let bug = match plant(arguments, &root, directory.path(), patch) {
            Ok(bug) => bug,
            // The others are looked at all the same.
            Err(failure) => {
                eprintln!("{failure}");
                failures.push(failure);
                continue;
            }
        };
        if arguments.json {
            println!("{}", serde_json::to_string(&bug).map_err(|error| error.to_string())?);
        } else {
            print!("{}", bug.text());
        }
        bugs.push(bug);
    }
    let all_caught = bugs.iter().all(|bug| bug.caught) && !bugs.is_empty();
    if !arguments.json {
        let caught = bugs.iter().filter(|bug| bug.caught).count();
        println!("{caught} of {} planted bugs caught", bugs.len());
    }
    if let Some(path) = &arguments.out {
        fs::write(path, document(&bugs, arguments))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    match failures.first() {
        Some(first) => Err(format!("{} could not be planted, first {first}", failures.len())),
        None => Ok(all_caught),
    }
}

fn plant(arguments: &PlantedArguments, root: &Path, directory: &Path, patch: &Path) -> Result<Bug, String> {
    let copy = directory.join("source");
    let target = directory.join("target");
    let text = fs::read_to_string(patch).map_err(|error| format!("{}: {error}", patch.display()))?;
    let name = patch.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    copy_source(root, &copy).map_err(|error| format!("cannot copy the source: {error}"))?;
    let mut git = Command::new("git");
    git.arg("apply").arg("--whitespace=nowarn").arg(fs::canonicalize(patch).map_err(|e| e.to_string())?);
    // Outside a repository of its own, git would look for one above.
    git.current_dir(&copy).env("GIT_CEILING_DIRECTORIES", directory);
    succeed(&mut git, &format!("{name} no longer applies"))?;
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--release", "--quiet", "--locked", "--bin", "crashtest"]);
    build.current_dir(&copy).env("CARGO_TARGET_DIR", &target);
    // Each bug changes a few lines.
    build.env("CARGO_INCREMENTAL", "1").env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    succeed(&mut build, &format!("{name} does not build"))?;

    let program = target.join("release/crashtest");
    let looked = campaign(&program, arguments.look_around, arguments.seed, &["--keep-going"])?;
    let outcome = if looked.failures.is_empty() {
        campaign(&program, arguments.seconds, arguments.seed, &[])?
    } else {
        looked
    };
    let (header, _) = text.split_once("\ndiff ").unwrap_or((&text, ""));
    let (title, story) = header.split_once('\n').unwrap_or((header, ""));
    let oracles = outcome.oracles.iter().filter(|oracle| oracle.violations > 0);
    let oracles: Vec<String> = oracles.map(|oracle| oracle.oracle.clone()).collect();
    let mut bug = Bug {
        name,
        title: title.trim().to_owned(),
        story: story.split_whitespace().collect::<Vec<_>>().join(" "),
        caught: false,
        first: String::new(),
        message: String::new(),
        replay: String::new(),
        seconds: 0.0,
        distinct_states: 0,
        oracles,
    };
    if let Some(failure) = outcome.failures.into_iter().next() {
        bug.caught = true;
        bug.first = failure.oracle;
        bug.message = failure.message;
        bug.replay = failure.replay;
        bug.seconds = failure.seconds;
        bug.distinct_states = failure.distinct_states;
    }
    Ok(bug)
}

fn campaign(program: &Path, seconds: u64, seed: u64, more: &[&str]) -> Result<Outcome, String> {
    let output = Command::new(program)
        .args([
            "run",
            "--json",
            "--kills",
            "0",
            "--seconds",
            &seconds.to_string(),
            "--seed",
            &seed.to_string(),
        ])
        .args(more)
        .stderr(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("the campaign said nothing useful: {error}"))
}

impl Bug {
    fn text(&self) -> String {
        if !self.caught {
            return format!("NOT CAUGHT {}: {}\n", self.name, self.title);
        }
        format!(
            "caught     {}: {}\n    by {} after {:.1} s and {} distinct states: {}\n    all that caught it: {}\n",
            self.name,
            self.title,
            self.first,
            self.seconds,
            self.distinct_states,
            self.message,
            self.oracles.join(", ")
        )
    }
}

/// The page of the documentation.
fn document(bugs: &[Bug], arguments: &PlantedArguments) -> String {
    let mut page = String::from(
        "# Planted bugs\n\n\
         A harness that has caught nothing has shown nothing. Most of these bugs were shipped by some system, the others are of a kind that was; each is a small patch in\n\
         `fault-injection/planted`. `crashtest planted` applies it to a copy of the source, builds it and runs the campaign. This page is \
         written by\n\n",
    );
    let (seed, seconds) = (arguments.seed, arguments.look_around);
    let _ = writeln!(
        page,
        "```sh\ncargo run --release --bin crashtest -- planted --seed {seed} --look-around {seconds} --out docs/PLANTED-BUGS.md\n```\n"
    );
    let caught = bugs.iter().filter(|bug| bug.caught).count();
    let _ = writeln!(
        page,
        "{caught} of {} caught. Time and distinct crash states are those until the first violation.\n",
        bugs.len()
    );
    page.push_str("| bug | caught by, first | all oracles that caught it | seconds | distinct states |\n|---|---|---|---|---|\n");
    for bug in bugs {
        let first = if bug.caught { bug.first.as_str() } else { "**nobody**" };
        let all = bug.oracles.join(", ");
        let _ = writeln!(
            page,
            "| [{}](#{}) | {first} | {all} | {:.1} | {} |",
            bug.title, bug.name, bug.seconds, bug.distinct_states
        );
    }
    page.push_str("\n## Oracles, and the bugs that only one of them caught\n\n| oracle | what it says | bugs that only it caught |\n|---|---|---|\n");
    for oracle in fault_injection::oracle::Oracle::ALL {
        let alone =
            |bug: &&Bug| bug.oracles.len() == 1 && bug.oracles.iter().all(|name| name == oracle.name());
        let alone: Vec<&str> = bugs.iter().filter(alone).map(|bug| bug.name.as_str()).collect();
        let alone = if alone.is_empty() { "none".to_owned() } else { alone.join(", ") };
        let _ = writeln!(page, "| {oracle} | {} | {alone} |", oracle.meaning());
    }
    for bug in bugs {
        let _ = write!(page, "\n## {}\n\n**{}** {}\n\n", bug.name, bug.title, bug.story);
        if bug.caught {
            let _ = writeln!(page, "First said by {}: {}", bug.first, bug.message);
        }
    }
    page
}

fn patches(root: &Path, names: &[String]) -> Result<Vec<PathBuf>, String> {
    let directory = root.join("fault-injection/planted");
    let entries = fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut patches: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "patch"))
        .filter(|path| {
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            names.is_empty() || names.iter().any(|name| stem.contains(name.as_str()))
        })
        .collect();
    patches.sort();
    Ok(patches)
}

fn succeed(command: &mut Command, what: &str) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{what}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// Copies what a build needs, over whatever was there.
fn copy_source(root: &Path, copy: &Path) -> std::io::Result<()> {
    if copy.exists() {
        fs::remove_dir_all(copy)?;
    }
    fs::create_dir_all(copy)?;
    for name in ["Cargo.toml", "Cargo.lock", "README.md"] {
        fs::copy(root.join(name), copy.join(name))?;
    }
    for name in ["src", "fault-injection", "benches", "examples", "tests"] {
        copy_tree(&root.join(name), &copy.join(name))?;
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            // Modification times stay, so that only what is patched is built again.
            fs::copy(entry.path(), &target)?;
            let times = fs::FileTimes::new().set_modified(entry.metadata()?.modified()?);
            fs::File::options().write(true).open(&target)?.set_times(times)?;
        }
    }
    Ok(())
}
