//! Pieces of HTML.

use std::fmt::Write as _;

/// Makes text safe between tags and inside attributes. Control characters, which a page must not hold, become
/// spaces.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(c),
            _ if c.is_control() => safe.push(' '),
            _ => safe.push(c),
        }
    }
    safe
}

/// A picture or table with a caption that says how to read it. Both are HTML.
pub(super) fn figure(picture: &str, caption: &str) -> String {
    format!(
        "<figure>\n<div class=\"scroll\">{picture}</div>\n<figcaption>{caption}</figcaption>\n</figure>\n"
    )
}

/// A command to copy, as text.
pub(super) fn command(line: &str) -> String {
    format!("<pre><code>{}</code></pre>\n", escape(line))
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) enum Column {
    /// Words.
    Text(&'static str),
    /// Numbers, to the right.
    Number(&'static str),
}

/// A table. Rows are HTML and bring their own `tr`.
pub(super) fn table(class: &str, columns: &[Column], rows: &str) -> String {
    let mut head = String::new();
    for column in columns {
        let _ = match column {
            Column::Text(name) => write!(head, "<th scope=\"col\">{}</th>", escape(name)),
            Column::Number(name) => write!(head, "<th scope=\"col\" class=\"n\">{}</th>", escape(name)),
        };
    }
    format!("<table class=\"{class}\">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>")
}

/// Label and value pairs, as text.
pub(super) fn facts(pairs: &[(String, String)]) -> String {
    let mut list = String::from("<dl class=\"facts\">\n");
    for (label, value) in pairs {
        let _ = writeln!(list, "<div><dt>{}</dt><dd>{}</dd></div>", escape(label), escape(value));
    }
    list + "</dl>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_special_character_is_escaped() {
        assert_eq!(escape(r#"<a b="c" d='e'>&"#), "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;");
        assert_eq!(escape("a\0b\nc\u{1b}d"), "a b\nc d");
        assert_eq!(escape("Größe ≤ 4 KiB"), "Größe ≤ 4 KiB");
    }
}
