//! Which sources share a listed tag.

use std::collections::BTreeMap;

use super::Source;

/// For each source the listed tags that it has, as numbers, ascending.
#[derive(Clone, Debug)]
pub(super) struct Tags {
    of: Vec<Vec<usize>>,
    listed: bool,
    count: usize,
}

impl Tags {
    pub(super) fn new<H>(sources: &[Source<'_, H>], listed: &[&str]) -> Self {
        let all = listed.iter().any(|&tag| plain(tag) == "*");
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        let names = listed.iter().chain(sources.iter().filter(|_| all).flat_map(|source| source.tags));
        for &tag in names {
            let next = numbers.len();
            numbers.entry(plain(tag)).or_insert(next);
        }
        let numbered = |source: &Source<'_, H>| {
            let mut tags: Vec<usize> =
                source.tags.iter().filter_map(|&tag| numbers.get(plain(tag)).copied()).collect();
            tags.sort_unstable();
            tags.dedup();
            tags
        };
        Self { of: sources.iter().map(numbered).collect(), listed: !listed.is_empty(), count: numbers.len() }
    }

    /// Whether any tag is listed.
    pub(super) fn are_listed(&self) -> bool {
        self.listed
    }

    /// How many listed tags there are. Their numbers are less.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The listed tags of a source, ascending.
    pub(super) fn of(&self, source: usize) -> &[usize] {
        self.of.get(source).map_or(&[], Vec::as_slice)
    }

    /// Whether two sources share a listed tag.
    pub(super) fn share(&self, one: usize, other: usize) -> bool {
        let (mut ones, mut others) = (self.of(one), self.of(other));
        while let (Some((a, rest_a)), Some((b, rest_b))) = (ones.split_first(), others.split_first()) {
            match a.cmp(b) {
                std::cmp::Ordering::Equal => return true,
                std::cmp::Ordering::Less => ones = rest_a,
                std::cmp::Ordering::Greater => others = rest_b,
            }
        }
        false
    }

    /// The listed tags of any of these sources, ascending.
    pub(super) fn of_any(&self, sources: &[usize]) -> Vec<usize> {
        let mut tags: Vec<usize> = sources.iter().flat_map(|&source| self.of(source)).copied().collect();
        tags.sort_unstable();
        tags.dedup();
        tags
    }

    /// Whether the source has one of these tags, which are ascending.
    pub(super) fn has_any(&self, source: usize, tags: &[usize]) -> bool {
        !tags.is_empty() && self.of(source).iter().any(|tag| tags.binary_search(tag).is_ok())
    }

    /// These sources, and all that share a listed tag with one of them, ascending.
    pub(super) fn with_sharing(&self, mut sources: Vec<usize>) -> Vec<usize> {
        let tags = self.of_any(&sources);
        if !tags.is_empty() {
            sources.extend((0..self.of.len()).filter(|&source| self.has_any(source, &tags)));
        }
        sources.sort_unstable();
        sources.dedup();
        sources
    }
}

/// Tags are written with a leading `@` where they are listed, and often without where they are given.
fn plain(tag: &str) -> &str {
    tag.strip_prefix('@').unwrap_or(tag)
}
