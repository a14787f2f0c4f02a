//! What can happen to a store, drawn at random.

use quickcheck::{Arbitrary, Gen};

/// One thing that happens. What it happens to is drawn too, from what there is then.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Item { bytes: u16, tagged: bool },
    Run { pages: u8, group: Option<u8>, near: Option<u16> },
    Buddy { order: u8 },
    Aligned { pages: u8, order: u8 },
    Span { segments: u8, tail: u8 },
    Pieces { pages: u16, most: u8 },
    At { which: u16, pages: u8 },
    Resize { which: u16, pages: u8 },
    Free { which: u16 },
    Write { which: u16 },
    Commit,
    Abort,
    Checkpoint,
    Crash { budget: u8 },
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        let (byte, word) = (u8::arbitrary(g), u16::arbitrary(g));
        match u8::arbitrary(g) % 100 {
            0..15 => Self::Item { bytes: 1 + word % 2048, tagged: byte & 1 == 1 },
            15..18 => Self::Item { bytes: 1 + word % 64, tagged: byte & 1 == 1 },
            18..30 => Self::Run {
                pages: 1 + byte % 20,
                group: (word & 7 == 0).then_some(byte % 4),
                near: (word & 7 == 1).then_some(word / 8),
            },
            30..36 => Self::Buddy { order: byte % 5 },
            36..41 => Self::Aligned { pages: 1 + byte % 9, order: (word % 5) as u8 },
            41..45 => Self::Span { segments: 1 + byte % 4, tail: (word % 40) as u8 },
            45..48 => Self::Pieces { pages: 1 + word % 80, most: 2 + byte % 7 },
            48..51 => Self::At { which: word, pages: 1 + byte % 12 },
            51..60 => Self::Resize { which: word, pages: byte % 20 },
            60..76 => Self::Free { which: word },
            76..80 => Self::Write { which: word },
            80..90 => Self::Commit,
            90..94 => Self::Abort,
            94..97 => Self::Checkpoint,
            _ => Self::Crash { budget: byte },
        }
    }
}
