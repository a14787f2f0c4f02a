//! Standard output and standard error. A closed pipe is no error for what only looks: there is just nobody who wants to
//! read on.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use serde::Serialize;

use crate::exit::{Exit, Failure};

/// Where results go.
#[derive(Debug)]
pub(crate) struct Output {
    out: BufWriter<Stdout>,
    pub(crate) json: bool,
    closed: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { out: BufWriter::new(io::stdout()), json, closed: false }
    }

    /// Whether the reader has gone away.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    fn took(&mut self, result: io::Result<()>) -> Result<(), Failure> {
        match result {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(error) => {
                Err(Failure::new(Exit::Failed, "io", format!("cannot write to standard output: {error}")))
            }
        }
    }

    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        if self.closed {
            return Ok(());
        }
        let result = writeln!(self.out, "{text}");
        self.took(result)
    }

    /// One JSON value on a line of its own.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| unprintable(&error))?;
        self.line(&text)
    }

    /// The same, with null for what could not be read.
    pub(crate) fn json_without(
        &mut self,
        value: &impl Serialize,
        unknown: &[(bool, &[&str])],
    ) -> Result<(), Failure> {
        let mut value = serde_json::to_value(value).map_err(|error| unprintable(&error))?;
        let keys = unknown.iter().filter(|(is_unknown, _)| *is_unknown).flat_map(|(_, keys)| *keys);
        for key in keys {
            if let Some(figure) = value.get_mut(key) {
                *figure = serde_json::Value::Null;
            }
        }
        self.json(&value)
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        if self.closed {
            return Ok(());
        }
        let result = self.out.flush();
        self.took(result)
    }
}

fn unprintable(error: &serde_json::Error) -> Failure {
    Failure::new(Exit::Failed, "internal", format!("cannot print the report: {error}"))
}

/// Whether to draw in colour on standard error.
pub(crate) fn colour_on_stderr() -> bool {
    io::stderr().is_terminal() && !no_colour()
}

/// Whether to draw in colour on standard output.
pub(crate) fn colour_on_stdout() -> bool {
    io::stdout().is_terminal() && !no_colour()
}

fn no_colour() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// One line on standard error, whatever the text.
pub(crate) fn complain(message: &str) {
    let message: String =
        message.split(['\n', '\r']).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    let name = if colour_on_stderr() { "\x1b[1;31mfreehold:\x1b[0m" } else { "freehold:" };
    // There is no place left to report that this cannot be written.
    let _ = writeln!(io::stderr(), "{name} {message}");
}
