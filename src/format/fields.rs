//! The fields of every structure, for the test that compares them with `docs/FORMAT.md`.

/// A field of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name in the document.
    pub name: &'static str,
    /// Offset in the structure, in bytes.
    pub offset: u64,
    /// Size in bytes.
    pub bytes: u64,
}

/// A structure of the format.
#[derive(Clone, Copy, Debug)]
pub struct StructureLayout {
    /// The heading that it stands under in the document.
    pub heading: &'static str,
    /// Its fields, in order.
    pub fields: &'static [Field],
    /// Its size in bytes.
    pub bytes: u64,
}

/// Lists the fields of a structure from their offsets; each ends where the next begins, the last one at `end`.
macro_rules! fields {
    ($($name:literal $offset:expr),+ ; $end:expr) => {{
        const STARTS: &[(&str, u64)] = &[$(($name, $offset)),+];
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which stops at a bad index")]
        const FIELDS: [$crate::format::Field; STARTS.len()] = {
            let mut fields = [$crate::format::Field { name: "", offset: 0, bytes: 0 }; STARTS.len()];
            let mut at = 0;
            while at < STARTS.len() {
                let end = if at + 1 < STARTS.len() { STARTS[at + 1].1 } else { $end };
                fields[at] = $crate::format::Field { name: STARTS[at].0, offset: STARTS[at].1, bytes: end - STARTS[at].1 };
                at += 1;
            }
            fields
        };
        &FIELDS
    }};
}
pub(super) use fields;

/// Every structure that has a table in the document.
#[must_use]
pub fn structures() -> Vec<StructureLayout> {
    let all = [
        ("Superblock", super::superblock::FIELDS),
        ("Witness", super::witness::FIELDS),
        ("Checksum tree", super::reference::FIELDS),
        ("Allocator state", super::state::FIELDS),
        ("Segment record", super::segment::FIELDS),
        ("Page header", super::header::FIELDS),
        ("Journal", super::group::FIELDS),
    ];
    all.into_iter()
        .map(|(heading, fields)| StructureLayout {
            heading,
            fields,
            bytes: fields.last().map_or(0, |field| field.offset + field.bytes),
        })
        .collect()
}
