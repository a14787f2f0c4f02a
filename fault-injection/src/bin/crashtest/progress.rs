//! Progress on standard error: a bar on a terminal, else a line now and then. And what a campaign had reached when.

use std::io::IsTerminal;
use std::time::Duration;

use fault_injection::harness::{Counter, Tally};
use indicatif::{ProgressBar, ProgressStyle};

const LINE_EVERY: Duration = Duration::from_secs(10);

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    last_line: Duration,
}

fn words(tally: &Tally) -> String {
    let sum = |counters: &[Counter]| counters.iter().map(Counter::get).sum::<u64>();
    format!(
        "{} distinct crash states, {} recoveries ({} nested), {} I/O points, {} kills, {} violations",
        tally.all_distinct(),
        tally.recoveries.get(),
        sum(tally.recoveries_by_depth.get(1..).unwrap_or(&[])),
        sum(&tally.io_points_cut),
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
        Self { bar, last_line: Duration::ZERO }
    }

    /// Shows how it goes until it is over.
    pub(crate) fn follow(&mut self, tally: &Tally, is_over: impl Fn() -> bool) {
        while !is_over() {
            std::thread::sleep(Duration::from_millis(100));
            self.show(tally);
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn show(&mut self, tally: &Tally) {
        let elapsed = tally.elapsed();
        match &self.bar {
            Some(bar) => {
                bar.set_position(elapsed.as_secs());
                bar.set_message(words(tally));
            }
            None if elapsed >= self.last_line + LINE_EVERY => {
                self.last_line = elapsed;
                eprintln!("{:4} s  {}", elapsed.as_secs(), words(tally));
            }
            None => {}
        }
    }
}
