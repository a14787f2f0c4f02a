//! Tables and pictures, and the page that they are put in.

mod goals;
mod machine;
mod own;
mod page;
mod pictures;
mod svg;
mod tables;
#[cfg(test)]
mod tests;
mod text;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

pub(crate) use machine::Machine;
pub(crate) use page::page;
use svg::Picture;

use crate::options::Options;
use crate::probes::Probes;
use crate::reopen::Openings;
use crate::rounds::Results;

/// All that was measured.
pub(crate) struct Figures {
    pub(crate) options: Options,
    pub(crate) machine: Machine,
    /// How long all of it took.
    pub(crate) took: Duration,
    pub(crate) transactions: Results,
    /// On files in memory.
    pub(crate) memory: Option<Results>,
    pub(crate) blobs: Results,
    pub(crate) probes: Option<Probes>,
    pub(crate) openings: Vec<Openings>,
}

/// Text in Markdown, printed as it comes, and pictures that go with it.
pub(crate) struct Report {
    text: String,
    pictures: Vec<(&'static str, String)>,
}

impl Report {
    fn new() -> Self {
        Self { text: String::new(), pictures: Vec::new() }
    }

    /// Adds a paragraph, a heading or a list.
    fn say(&mut self, text: &str) {
        println!("{text}\n");
        self.text.push_str(text);
        self.text.push_str("\n\n");
    }

    /// Adds a table of figures behind names.
    fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        self.aligned("|---:", head, rows);
    }

    fn aligned(&mut self, alignment: &str, head: &[&str], rows: &[Vec<String>]) {
        if rows.is_empty() {
            return;
        }
        let mut text = format!("| {} |\n|---", head.join(" | "));
        text.push_str(&alignment.repeat(head.len().saturating_sub(1)));
        text.push('|');
        for row in rows {
            let _ = write!(text, "\n| {} |", row.join(" | "));
        }
        self.say(&text);
    }

    /// Adds a picture under the name of its file.
    fn picture(&mut self, file: &'static str, picture: &Picture) {
        if picture.panels.iter().all(|panel| panel.bars.is_empty()) {
            return;
        }
        self.text.push_str(&format!("![{}](benchmarks/{file}.svg)\n\n", picture.title));
        self.pictures.push((file, picture.render()));
    }

    /// Writes the page and its pictures.
    pub(crate) fn write(&self, docs: &Path) -> std::io::Result<()> {
        let pictures = docs.join("benchmarks");
        std::fs::create_dir_all(&pictures)?;
        for (file, picture) in &self.pictures {
            std::fs::write(pictures.join(format!("{file}.svg")), picture)?;
        }
        std::fs::write(docs.join("BENCHMARKS.md"), format!("{}\n", self.text.trim_end()))
    }
}
