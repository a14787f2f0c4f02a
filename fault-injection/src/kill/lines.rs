//! What the child tells: one line before a commit, one after it.

use freehold::{Extent, ExtentInfo};

use crate::allocator::model::{Effects, Put};

/// A line of the child.
#[derive(Clone, Debug)]
pub(super) enum Line {
    /// The store is open; the work begins.
    Ready,
    /// This transaction is about to be committed.
    Begin(u64, Effects),
    /// It was acknowledged.
    Acknowledged(u64),
}

fn extent_text(extent: &Extent) -> String {
    format!("{}:{}:{}", extent.offset, extent.len, extent.generation)
}

impl Line {
    /// As one line, without its end.
    #[must_use]
    pub(super) fn to_text(&self) -> String {
        match self {
            Self::Ready => "ready".to_owned(),
            Self::Acknowledged(number) => format!("ack {number}"),
            Self::Begin(number, effects) => {
                let mut text = format!("begin {number}");
                for (info, tag) in &effects.allocated {
                    text += &format!(" a:{}:{}:{tag}", extent_text(&info.extent), info.owner);
                }
                for extent in &effects.freed {
                    text += &format!(" f:{}", extent_text(extent));
                }
                for Put { extent, page, unit, tag } in &effects.puts {
                    let unit = unit.map_or(u64::MAX, |unit| unit as u64);
                    text += &format!(" p:{}:{page}:{unit}:{tag}", extent_text(extent));
                }
                text
            }
        }
    }

    /// Reads a line.
    #[must_use]
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        match words.next()? {
            "ready" => Some(Self::Ready),
            "ack" => Some(Self::Acknowledged(words.next()?.parse().ok()?)),
            "begin" => {
                let number = words.next()?.parse().ok()?;
                let mut effects = Effects::default();
                for word in words {
                    let (kind, numbers) = word.split_once(':')?;
                    let numbers: Option<Vec<u64>> = numbers.split(':').map(|n| n.parse().ok()).collect();
                    let numbers = numbers?;
                    let (&[offset, len, generation], rest) = numbers.split_first_chunk::<3>()?;
                    let extent = Extent { offset, len, generation: u32::try_from(generation).ok()? };
                    match (kind, rest) {
                        ("a", &[owner, tag]) => effects.allocated.push((ExtentInfo { extent, owner }, tag)),
                        ("f", []) => effects.freed.push(extent),
                        ("p", &[page, unit, tag]) => {
                            let index = |n: u64| usize::try_from(n).ok();
                            let unit = if unit == u64::MAX { None } else { Some(index(unit)?) };
                            effects.puts.push(Put { extent, page: index(page)?, unit, tag });
                        }
                        _ => return None,
                    }
                }
                Some(Self::Begin(number, effects))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_round_trip() {
        let extent = Extent { offset: 8192, len: 4096, generation: 3 };
        let effects = Effects {
            lsn: 0,
            allocated: vec![(ExtentInfo { extent, owner: 9 }, 70)],
            freed: vec![extent],
            resized: Vec::new(),
            puts: vec![Put { extent, page: 0, unit: Some(5), tag: 77 }],
        };
        let text = Line::Begin(12, effects).to_text();
        let Some(Line::Begin(12, parsed)) = Line::parse(&text) else { panic!("{text}") };
        assert_eq!(Line::Begin(12, parsed).to_text(), text);
        assert!(Line::parse("begin 1 a:1:2").is_none());
    }
}
