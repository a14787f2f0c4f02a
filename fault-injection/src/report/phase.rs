//! What I/O is for: colour, letter, order.

/// How a phase is shown. The letter tells phases apart where colours do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Class in the style sheet.
    pub(super) class: &'static str,
    /// Letter or sign.
    pub(super) letter: char,
    /// What such I/O does, in a few words.
    pub(super) meaning: &'static str,
}

/// Phases that have a colour of their own.
const KNOWN: [(&str, Look); 9] = [
    ("journal", look("journal", 'J', "a group of records in the journal ring")),
    ("superblock", look("superblock", 'S', "one of the superblock copies")),
    ("witness", look("witness", 'W', "the note of the last durable record")),
    ("metadata", look("metadata", 'M', "a block of allocation data, into its unused slot")),
    ("checksum tree", look("checksums", 'C', "a block of the tree of checksums, into its unused slot")),
    ("caller checkpoint", look("checkpoint", 'K', "a journaled block of the caller, written in place")),
    ("caller direct", look("direct", 'D', "the caller's own data, past the journal")),
    ("format", look("format", 'F', "clearing space for a new store")),
    ("flush", look("flush", '↓', "makes all earlier writes durable")),
];

const fn look(class: &'static str, letter: char, meaning: &'static str) -> Look {
    Look { class, letter, meaning }
}

/// How this phase is shown.
pub(super) fn look_of(phase: &str) -> Look {
    let known = KNOWN.iter().find(|(name, _)| name.eq_ignore_ascii_case(phase));
    known.map_or(look("other", '?', "other I/O"), |(_, look)| *look)
}
