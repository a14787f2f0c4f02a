//! Progress on standard error: a bar on a terminal, else a line now and then.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::Duration;

use fault_injection::campaign::tally::Tally;
use indicatif::{ProgressBar, ProgressStyle};

const LINE_EVERY: Duration = Duration::from_secs(10);

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    last_line: Cell<Duration>,
}

fn words(tally: &Tally) -> String {
    format!(
        "{} distinct crash states, {} recoveries ({} nested), {} I/O points, {} kills, {} violations",
        tally.distinct_states.get(),
        tally.recoveries.get(),
        tally.nested_recoveries.get(),
        tally.io_points_cut.get(),
        tally.kills.get(),
        tally.failures().len()
    )
}

impl Progress {
    pub(crate) fn new(length: Duration) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(length.as_secs());
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} s  {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, last_line: Cell::new(Duration::ZERO) }
    }

    pub(crate) fn show(&self, tally: &Tally, elapsed: Duration) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(elapsed.as_secs());
                bar.set_message(words(tally));
            }
            None if elapsed >= self.last_line.get() + LINE_EVERY => {
                self.last_line.set(elapsed);
                eprintln!("{:4} s  {}", elapsed.as_secs(), words(tally));
            }
            None => {}
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
