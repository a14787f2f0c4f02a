//! Progress of what takes long, on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::colour_on_stderr;

const TICK: Duration = Duration::from_millis(100);

/// A bar on standard error, drawn only when that is a terminal, and gone when dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar for counted things.
    pub(crate) fn counted(what: &'static str) -> Self {
        let colour = if colour_on_stderr() { ".cyan" } else { "" };
        let template = format!("{{msg}} {{bar:40{colour}}} {{pos}}/{{len}} {{eta}}");
        Self::with(ProgressBar::new(0), &template, what)
    }

    /// A spinner for what cannot be counted.
    pub(crate) fn spinner(what: &'static str) -> Self {
        let progress = Self::with(ProgressBar::new_spinner(), "{spinner} {msg} {elapsed}", what);
        progress.bar.enable_steady_tick(TICK);
        progress
    }

    fn with(bar: ProgressBar, template: &str, what: &'static str) -> Self {
        bar.set_draw_target(ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        Self { bar }
    }

    pub(crate) fn at(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
