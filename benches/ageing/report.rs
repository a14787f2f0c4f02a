//! Tables, and the page that they are put in.

use std::fmt::Write as _;
use std::path::Path;

use crate::svg::Picture;

/// Text in Markdown, printed as it comes, and pictures that go with it.
pub(crate) struct Report {
    text: String,
    pictures: Vec<(&'static str, String)>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { text: String::new(), pictures: Vec::new() }
    }

    /// Adds a paragraph, a heading or a line of a list.
    pub(crate) fn say(&mut self, text: &str) {
        println!("{text}\n");
        self.text.push_str(text);
        self.text.push_str("\n\n");
    }

    pub(crate) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let mut text = format!("| {} |\n|---", head.join(" | "));
        text.push_str(&"|---:".repeat(head.len().saturating_sub(1)));
        text.push('|');
        for row in rows {
            let _ = write!(text, "\n| {} |", row.join(" | "));
        }
        self.say(&text);
    }

    /// Adds a picture under the name of its file.
    pub(crate) fn picture(&mut self, file: &'static str, picture: &Picture) {
        self.text.push_str(&format!("![{}](ageing/{file}.svg)\n\n", picture.title));
        self.pictures.push((file, picture.render()));
    }

    /// Adds what another one says, which was printed before.
    pub(crate) fn append(&mut self, other: Self) {
        self.text.push_str(&other.text);
        self.pictures.extend(other.pictures);
    }

    /// Writes the page and its pictures.
    pub(crate) fn write(&self, docs: &Path) -> std::io::Result<()> {
        let pictures = docs.join("ageing");
        std::fs::create_dir_all(&pictures)?;
        for (file, picture) in &self.pictures {
            std::fs::write(pictures.join(format!("{file}.svg")), picture)?;
        }
        std::fs::write(docs.join("AGEING.md"), format!("{}\n", self.text.trim_end()))
    }
}

pub(crate) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// Whether a target is reached.
pub(crate) fn verdict(reached: bool) -> String {
    if reached { "reached" } else { "**missed**" }.to_owned()
}
