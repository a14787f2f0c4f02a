//! The program at work on stores in a directory of their own, and what it answers.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests; none uses all of them"
)]

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freehold"));
    command.env("NO_COLOR", "1").env_remove("RUST_BACKTRACE");
    command
}

pub(crate) fn run(args: &[&str]) -> Output {
    program().args(args).stdin(Stdio::null()).output().unwrap()
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The documents of an answer that has one in each line.
pub(crate) fn lines(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// One line that says what is wrong, and no backtrace.
pub(crate) fn complains(output: &Output, context: &str) {
    let text = stderr(output);
    assert_eq!(text.lines().count(), 1, "{context}: {text}");
    assert!(text.starts_with("freehold: ") && text.len() > 20, "{context}: {text}");
}

/// A directory for the stores of one test.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A small store with two extents, closed in order.
    pub(crate) fn store(&self, name: &str) -> String {
        let path = self.text(name);
        let made = run(&["format", &path, "--size", "1MiB", "--json"]);
        assert_eq!(code(&made), 0, "{made:?}");
        let filled =
            run(&["exec", &path, "-c", "alloc a 4096 1", "-c", "alloc b 8192 2", "-c", "put a hello"]);
        assert_eq!(code(&filled), 0, "{filled:?}");
        path
    }

    pub(crate) fn file(&self, name: &str, content: &[u8]) -> String {
        fs::write(self.path(name), content).unwrap();
        self.text(name)
    }
}

/// Gives a script to `exec`, at its standard input.
pub(crate) fn script(path: &str, script: &str) -> Output {
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

/// Runs a script line by line. Each is to be answered with `ok`, or with the kind of error that is given with it.
pub(crate) fn expect(path: &str, steps: &[(&str, &str)]) -> Vec<Value> {
    let text: String = steps.iter().map(|(line, _)| format!("{line}\n")).collect();
    let output = script(path, &text);
    let answers = lines(&output);
    assert_eq!(answers.len(), steps.len(), "{output:?}");
    for ((line, expected), answer) in steps.iter().zip(&answers) {
        let failed = *expected != "ok";
        assert_eq!(answer["error"].as_str(), failed.then_some(*expected), "{line}: {answer}");
        assert_eq!(answer["ok"], !failed, "{line}: {answer}");
        assert_eq!(answer["message"].is_string(), failed, "{line}: {answer}");
        assert_eq!(answer["op"], line.split_whitespace().next().unwrap(), "{answer}");
    }
    let failed = steps.iter().any(|(_, expected)| *expected != "ok");
    assert_eq!(code(&output), i32::from(failed), "{output:?}");
    assert_eq!(stderr(&output), "");
    answers
}
