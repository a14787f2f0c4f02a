//! Progress on standard error: a bar on a terminal, else a line now and then. And what a campaign had reached when.

use std::io::IsTerminal;
use std::time::Duration;

use fault_injection::harness::{Counter, Tally};
use fault_injection::report::Sample;
use indicatif::{ProgressBar, ProgressStyle};

use crate::report::sample;

const MOST_SAMPLES: usize = 400;
const LINE_EVERY: Duration = Duration::from_secs(10);

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    last_line: Duration,
    samples: Vec<Sample>,
    /// Samples are this far apart; the distance doubles when there are many.
    sample_every: Duration,
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
        Self { bar, last_line: Duration::ZERO, samples: Vec::new(), sample_every: Duration::from_millis(500) }
    }

    /// Shows how it goes until it is over.
    pub(crate) fn follow(&mut self, tally: &Tally, is_over: impl Fn() -> bool) {
        while !is_over() {
            std::thread::sleep(Duration::from_millis(100));
            self.show(tally);
            self.take_sample(tally);
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// What the campaign had reached when.
    pub(crate) fn into_samples(self) -> Vec<Sample> {
        self.samples
    }

    fn take_sample(&mut self, tally: &Tally) {
        let last = self.samples.last().map_or(0.0, |sample| sample.seconds);
        if tally.elapsed().as_secs_f64() < last + self.sample_every.as_secs_f64() {
            return;
        }
        self.samples.push(sample(tally));
        if self.samples.len() >= MOST_SAMPLES {
            let mut at = 0;
            self.samples.retain(|_| {
                at += 1;
                at % 2 == 0
            });
            self.sample_every *= 2;
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
