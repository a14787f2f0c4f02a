//! Goal: `docs/FORMAT.md` says what the code does. Method: every table of the document with offset, size and field is
//! compared with the constants that the code is built from.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

use freehold::format::{Field, structures};
use std::collections::BTreeMap;

/// Tables by the heading that they stand under.
fn tables() -> BTreeMap<String, Vec<(u64, u64, String)>> {
    let text = include_str!("../docs/FORMAT.md");
    let mut tables: BTreeMap<String, Vec<_>> = BTreeMap::new();
    let mut heading = String::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            heading = title.to_owned();
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [_, offset, size, field, ..] = cells[..]
            && let (Ok(offset), Ok(size)) = (offset.parse(), size.parse())
        {
            tables.entry(heading.clone()).or_default().push((offset, size, field.to_owned()));
        }
    }
    tables
}

#[test]
fn every_documented_field_is_where_the_code_has_it() {
    let documented = tables();
    let structures = structures();
    assert_eq!(
        documented.keys().map(String::as_str).collect::<Vec<_>>(),
        {
            let mut names: Vec<_> = structures.iter().map(|structure| structure.heading).collect();
            names.sort_unstable();
            names
        },
        "each structure has one table"
    );
    for structure in structures {
        let code: Vec<_> = structure
            .fields
            .iter()
            .map(|Field { name, offset, bytes }| (*offset, *bytes, (*name).to_owned()))
            .collect();
        assert_eq!(documented[structure.heading], code, "{}", structure.heading);
        let mut end = 0;
        for (offset, bytes, name) in code {
            assert_eq!(offset, end, "{}: {name} leaves a gap", structure.heading);
            end += bytes;
        }
        assert_eq!(end, structure.bytes, "{}", structure.heading);
    }
}

#[test]
fn the_version_is_documented() {
    let text = include_str!("../docs/FORMAT.md");
    assert!(text.contains(&format!("version {}", freehold::format::FORMAT_VERSION)));
    assert!(text.contains(&format!("| {} | ", freehold::format::FORMAT_VERSION)));
}
