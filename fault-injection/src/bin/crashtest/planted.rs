//! Planted bugs: each patch of `fault-injection/planted` is applied to a copy of the source, which is built and run; the
//! campaign must fail. A patch that no longer applies, or a bug that is not caught, is an error.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::Deserialize;

use crate::arguments::PlantedArguments;

#[derive(Deserialize)]
struct Outcome {
    distinct_states: u64,
    violations: u64,
    failures: Vec<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    message: String,
}

/// Runs all planted bugs, or those whose names contain one of `names`. Returns whether every one was caught.
///
/// # Errors
/// What keeps the job from being done, in words.
pub(crate) fn run(arguments: &PlantedArguments) -> Result<bool, String> {
    let PlantedArguments { names, seconds, seed, .. } = arguments;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let patches = patches(&root, names)?;
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let copy = directory.path().join("source");
    let mut all_caught = true;
    for patch in &patches {
        let text = fs::read_to_string(patch).map_err(|error| format!("{}: {error}", patch.display()))?;
        let title = text.lines().next().unwrap_or_default();
        let name = patch.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        copy_source(&root, &copy).map_err(|error| format!("cannot copy the source: {error}"))?;
        let target = directory.path().join("target");
        let mut git = Command::new("git");
        git.arg("apply").arg("--whitespace=nowarn").arg(fs::canonicalize(patch).map_err(|e| e.to_string())?);
        // Outside a repository of its own, git would look for one above.
        git.current_dir(&copy).env("GIT_CEILING_DIRECTORIES", directory.path());
        succeed(&mut git, &format!("{name} no longer applies"))?;
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--release", "--quiet", "--locked", "--bin", "crashtest"]);
        build.current_dir(&copy).env("CARGO_TARGET_DIR", &target);
        succeed(&mut build, &format!("{name} does not build"))?;

        let started = Instant::now();
        let output = Command::new(target.join("release/crashtest"))
            .args(["--json", "--kills", "0", "--seconds", &seconds.to_string(), "--seed", &seed.to_string()])
            .stderr(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        let outcome: Outcome =
            serde_json::from_slice(&output.stdout).map_err(|error| format!("{name}: {error}"))?;
        let caught = outcome.violations > 0 && !output.status.success();
        all_caught &= caught;
        println!(
            "{} {name}: {title}\n    after {:.1} s and {} distinct states: {}",
            if caught { "caught    " } else { "NOT CAUGHT" },
            started.elapsed().as_secs_f64(),
            outcome.distinct_states,
            outcome.failures.first().map_or("nothing", |failure| &failure.message)
        );
    }
    println!("{} planted bugs, {}", patches.len(), if all_caught { "all caught" } else { "NOT ALL CAUGHT" });
    Ok(all_caught && !patches.is_empty())
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
