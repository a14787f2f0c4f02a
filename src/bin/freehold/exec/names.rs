//! The names that a script gave to extents.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use freehold::{Error, Extent};

/// What a script knows of extents.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// A name stands for one extent or more, whose bytes follow each other.
    extents: HashMap<String, Vec<Extent>>,
    /// Offsets at which this script freed an extent that nothing was allocated over since.
    freed: HashSet<u64>,
}

impl Names {
    pub(super) fn get(&self, name: &str) -> Option<&[Extent]> {
        self.extents.get(name).map(Vec::as_slice)
    }

    pub(super) fn bind(&mut self, name: &str, extents: &[Extent]) {
        self.freed.retain(|offset| !extents.iter().any(|own| (own.offset..own.end()).contains(offset)));
        self.extents.insert(name.to_owned(), extents.to_vec());
    }

    /// An extent is no more. A name that stood for it and others stands for nothing then.
    pub(super) fn forget(&mut self, extent: &Extent) {
        self.extents.retain(|_, bound| !bound.contains(extent));
        self.freed.insert(extent.offset);
    }

    /// Whether an extent that started here was freed.
    pub(super) fn was_freed(&self, offset: u64) -> bool {
        self.freed.contains(&offset)
    }
}

/// Where the first `len` bytes of a sequence of extents lie: extents, and which of the bytes go there. There is at
/// least one, also for no bytes.
pub(super) fn parts(extents: &[Extent], len: u64) -> Result<Vec<(Extent, Range<usize>)>, Error> {
    let offset = extents.first().map_or(0, |extent| extent.offset);
    let refused = Error::InvalidExtent { offset, len, reason: "the range ends beyond the extent" };
    let total = extents.iter().fold(0_u64, |sum, extent| sum.saturating_add(extent.len));
    let len = usize::try_from(len).ok().filter(|_| len <= total).ok_or(refused)?;
    let mut parts = Vec::new();
    let mut start = 0;
    for extent in extents {
        let end = usize::try_from(extent.len).map_or(len, |bytes| len.min(start + bytes));
        parts.push((*extent, start..end));
        start = end;
        if start == len {
            break;
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Extent = Extent { offset: 4096, len: 10, generation: 1 };
    const B: Extent = Extent { offset: 8192, len: 5, generation: 1 };

    #[test]
    fn bytes_go_over_extents_in_order() {
        let both = [A, B];
        assert_eq!(parts(&both, 0).unwrap(), [(A, 0..0)]);
        assert_eq!(parts(&both, 10).unwrap(), [(A, 0..10)]);
        assert_eq!(parts(&both, 11).unwrap(), [(A, 0..10), (B, 10..11)]);
        assert_eq!(parts(&both, 15).unwrap(), [(A, 0..10), (B, 10..15)]);
        for beyond in [16, u64::MAX] {
            assert!(matches!(parts(&both, beyond), Err(Error::InvalidExtent { offset: 4096, .. })));
        }
    }

    #[test]
    fn a_name_goes_with_each_of_its_extents() {
        let mut names = Names::default();
        names.bind("both", &[A, B]);
        names.bind("other", &[Extent { offset: 0, ..A }]);
        names.forget(&B);
        assert!(names.get("both").is_none() && names.get("other").is_some());
        assert!(names.was_freed(B.offset) && !names.was_freed(A.offset));
        names.bind("new", &[Extent { offset: 8190, ..A }]);
        assert!(!names.was_freed(B.offset));
    }
}
