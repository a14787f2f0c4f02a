//! What `alloc` was asked for, in words.

use std::str::FromStr;

use freehold::{AllocRequest, Extent};

use super::command::{name, size};

pub(super) const EXPECTED: &str = "expected: alloc NAME BYTES [OWNER] [aligned] [max_extents=N] [near=NAME] \
     [align=BYTES] [at=OFFSET] [group=N]";

/// An allocation. What contradicts itself is for the store to refuse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) owner: u64,
    /// A power of two of pages.
    pub(super) aligned: bool,
    pub(super) max_extents: Option<u32>,
    /// The name of what it is to lie behind.
    pub(super) near: Option<String>,
    pub(super) align: Option<u64>,
    pub(super) at: Option<u64>,
    pub(super) group: Option<u32>,
}

impl Wanted {
    /// Parses the words behind `alloc`.
    pub(super) fn parse(words: &[&str]) -> Result<Self, String> {
        let [name_word, bytes, rest @ ..] = words else { return Err(EXPECTED.to_owned()) };
        let mut wanted = Self { name: name(name_word)?, bytes: size(bytes)?, ..Self::default() };
        let options = match rest {
            [owner, options @ ..] if owner.starts_with(|first: char| first.is_ascii_digit()) => {
                wanted.owner = number(owner, "an owner tag, a number of 64 bits")?;
                options
            }
            options => options,
        };
        for word in options {
            wanted.take(word)?;
        }
        Ok(wanted)
    }

    fn take(&mut self, word: &str) -> Result<(), String> {
        let count = |value| number(value, "a number of 32 bits");
        let fresh = match word.split_once('=') {
            None if word == "aligned" => !std::mem::replace(&mut self.aligned, true),
            Some(("max_extents", value)) => self.max_extents.replace(count(value)?).is_none(),
            Some(("near", value)) => self.near.replace(name(value)?).is_none(),
            Some(("align", value)) => self.align.replace(size(value)?).is_none(),
            Some(("at", value)) => self.at.replace(size(value)?).is_none(),
            Some(("group", value)) => self.group.replace(count(value)?).is_none(),
            _ => return Err(format!("'{word}' is no option; {EXPECTED}")),
        };
        if fresh { Ok(()) } else { Err(format!("'{word}': given twice")) }
    }

    /// Whether several extents will do.
    pub(super) fn may_be_several(&self) -> bool {
        self.max_extents.is_some_and(|count| count > 1)
    }

    /// As the store is asked.
    pub(super) fn request(&self, near: Option<Extent>) -> AllocRequest {
        let mut request = AllocRequest::bytes(self.bytes).owner(self.owner);
        if self.aligned {
            request = request.power_of_two();
        }
        if let Some(count) = self.max_extents {
            request = request.max_extents(count);
        }
        if let Some(extent) = near {
            request = request.near(extent);
        }
        if let Some(bytes) = self.align {
            request = request.align(bytes);
        }
        if let Some(offset) = self.at {
            request = request.at(offset);
        }
        if let Some(group) = self.group {
            request = request.group(group);
        }
        request
    }
}

fn number<T: FromStr>(word: &str, what: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("'{word}': expected {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Wanted, String> {
        Wanted::parse(&line.split_whitespace().collect::<Vec<_>>())
    }

    #[test]
    fn options_come_in_any_order() {
        let plain = Wanted { name: "a".to_owned(), bytes: 4096, ..Wanted::default() };
        assert_eq!(parse("a 4KiB"), Ok(plain.clone()));
        assert_eq!(parse("a 4096 7"), Ok(Wanted { owner: 7, ..plain.clone() }));
        let all = Wanted {
            owner: 7,
            aligned: true,
            max_extents: Some(3),
            near: Some("b=c".to_owned()),
            align: Some(8192),
            at: Some(u64::MAX),
            group: Some(0),
            ..plain.clone()
        };
        let words =
            ["aligned", "max_extents=3", "near=b=c", "align=8KiB", "at=18446744073709551615", "group=0"];
        let reversed: Vec<&str> = words.into_iter().rev().collect();
        for options in [words.join(" "), reversed.join(" ")] {
            assert_eq!(parse(&format!("a 4096 7 {options}")), Ok(all.clone()));
            let unowned = Wanted { owner: 0, ..all.clone() };
            assert_eq!(parse(&format!("a 4096 {options}")), Ok(unowned));
        }
        assert!(!plain.may_be_several() && all.may_be_several());
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "",
            "a",
            "a 1 x",
            "a 1 -1",
            "a 1 2 3",
            "a 1 7x",
            "a 1 aligned 7",
            "a 1 aligned aligned",
            "a 1 aligned=",
            "a 1 Aligned",
            "a 1 max_extents",
            "a 1 max_extents=",
            "a 1 max_extents=-1",
            "a 1 max_extents=4294967296",
            "a 1 max_extents=2 max_extents=2",
            "a 1 near=",
            "a 1 near=@7",
            "a 1 near=a near=b",
            "a 1 align=x",
            "a 1 align=1 align=2",
            "a 1 at=@4096",
            "a 1 at=1 at=1",
            "a 1 group=x",
            "a 1 group=1 group=1",
            "a 1 = =",
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn every_option_reaches_the_request() {
        let extent = Extent { offset: 4096, len: 4096, generation: 1 };
        let expected = AllocRequest::bytes(1).owner(2).power_of_two().max_extents(3).near(extent);
        let expected = expected.align(4).at(5).group(6);
        let wanted = parse("n 1 2 aligned max_extents=3 near=a align=4 at=5 group=6").unwrap();
        assert_eq!(wanted.request(Some(extent)), expected);
        assert_eq!(parse("n 1").unwrap().request(None), AllocRequest::bytes(1));
    }
}
