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

    /// These sources, and all that share a listed tag with one of them, ascending.
    pub(super) fn with_sharing(&self, mut sources: Vec<usize>) -> Vec<usize> {
        if self.listed && !sources.is_empty() {
            let mut reached = vec![false; self.count];
            for &tag in sources.iter().flat_map(|&source| self.of(source)) {
                if let Some(reached) = reached.get_mut(tag) {
                    *reached = true;
                }
            }
            let shares =
                |tags: &&Vec<usize>| tags.iter().any(|&tag| reached.get(tag).copied().unwrap_or_default());
            sources
                .extend(self.of.iter().enumerate().filter(|(_, tags)| shares(tags)).map(|(index, _)| index));
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
