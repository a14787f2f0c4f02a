//! What must hold for the markup of every page.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::collections::HashSet;

/// Splits a page into tags and checks that they nest. Returns the tags without their brackets, and the text.
pub(super) fn well_formed(page: &str) -> (Vec<&str>, String) {
    let (mut open, mut tags, mut text) = (Vec::new(), Vec::new(), String::new());
    let mut rest = page.strip_prefix("<!DOCTYPE html>").unwrap();
    while let Some(start) = rest.find('<') {
        text += &rest[..start];
        text.push('\n');
        let end = start + rest[start..].find('>').unwrap();
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        assert!(!tag.contains('<') && tag.matches('"').count().is_multiple_of(2), "<{tag}>");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{name}>");
        } else if !tag.ends_with('/') && name != "meta" {
            open.push(name);
        }
        tags.push(tag);
    }
    assert!(open.is_empty(), "{open:?} still open");
    assert!(!rest.contains('>') && rest.trim().is_empty(), "after the end: {rest}");
    (tags, text)
}

/// What must hold for every page.
pub(super) fn check(page: &str) -> String {
    let (tags, text) = well_formed(page);
    for word in page.split(|c: char| !c.is_alphanumeric()) {
        assert!(!["NaN", "nan", "inf", "Infinity"].contains(&word), "{word}");
    }
    let ids: Vec<&str> = tags.iter().filter_map(|tag| attribute(tag, "id")).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "{ids:?}");
    for link in tags.iter().filter_map(|tag| attribute(tag, "href")) {
        assert!(ids.contains(&link.strip_prefix('#').unwrap()), "{link}");
    }
    for outside in ["<script", "src=", "http:", "https:", "@import", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
    pictures_hold_what_they_show(&tags);
    text
}

pub(super) fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    tag.split_once(&format!(" {name}=\""))?.1.split('"').next()
}

pub(super) fn number(tag: &str, name: &str) -> f64 {
    attribute(tag, name).map_or(0.0, |number| number.parse().unwrap())
}

fn pictures_hold_what_they_show(tags: &[&str]) {
    let mut size = (f64::MAX, f64::MAX);
    for tag in tags {
        if let Some(view) = attribute(tag, "viewBox") {
            let sides: Vec<f64> = view.split(' ').map(|side| side.parse().unwrap()).collect();
            size = (sides[2], sides[3]);
        }
        let right = (number(tag, "x") + number(tag, "width")).max(number(tag, "x2")).max(number(tag, "cx"));
        let foot = (number(tag, "y") + number(tag, "height")).max(number(tag, "y2")).max(number(tag, "cy"));
        assert!(right <= size.0 + 0.11 && foot <= size.1 + 0.11, "{tag} is outside of {size:?}");
    }
}
