//! One state out of those that a power cut can leave, as one line of text.

use std::fmt;
use std::str::FromStr;

use crate::rng::mix;

/// One state of one [`Cut`](super::Cut). Written as `cut=137 keep=0x5f3 tear=12:prefix:100`; the line, the workload's
/// seed and the same build lead to the same bytes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Choice {
    /// Position of the cut in the trace.
    pub cut: usize,
    /// Which pending writes reached the medium.
    pub keep: Keep,
    /// What the cut did to one sector besides.
    pub tear: Option<Tear>,
}

/// Which pending writes, or which of their sectors, reached the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keep {
    /// None of them.
    None,
    /// All of them.
    All,
    /// The first so many, whole.
    First(u64),
    /// Whole writes: bit n stands for the n-th pending write.
    Writes(u64),
    /// Sectors: a number in which each pending sector, in order of its place, has a digit that says how many of its
    /// versions the medium went through. The first sector has the lowest digit.
    Sectors(u64),
    /// Sectors as above, of those that recovery reads; the others (the caller's data, blocks that nothing refers to yet)
    /// are kept or lost as a pseudo-random seed has it, for not every combination of them is worth its time.
    Apart {
        /// The digits.
        sectors: u64,
        /// The seed.
        aside: u64,
    },
    /// A pseudo-random mixture of writes kept whole, lost whole, and kept in part.
    Seed(u64),
}

/// Damage done to one pending sector. Of the versions of that sector which the medium did not go through, the next one
/// is the one being written; when it went through all, the last one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tear {
    /// The sector's number on the disk.
    pub sector: u64,
    /// What happened to it.
    pub kind: TearKind,
}

/// A kind of damage to a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TearKind {
    /// The first so many bytes are new, the others old.
    Prefix(u32),
    /// The last so many bytes are new, the others old.
    Suffix(u32),
    /// The whole sector is garbage.
    Garbage(Fill),
    /// The whole physical block around the sector is garbage, neighbours included.
    Block(Fill),
}

/// What garbage looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fill {
    /// Zero bytes.
    Zeros,
    /// Bytes of ones, as in erased flash.
    Ones,
    /// Pseudo-random bytes of a seed.
    Random(u64),
}

/// Why a choice cannot be read or applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChoiceError {
    /// The text is not a choice.
    Syntax(String),
    /// The choice is for another position.
    WrongCut {
        /// Position that the choice names.
        choice: usize,
        /// Position of the cut that it was applied to.
        cut: usize,
    },
    /// The sector to tear has no pending write.
    NotPending {
        /// Its number.
        sector: u64,
    },
}

impl fmt::Display for ChoiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(text) => write!(f, "cannot read '{text}' as part of a choice"),
            Self::WrongCut { choice, cut } => write!(f, "the choice is for cut {choice}, not for cut {cut}"),
            Self::NotPending { sector } => write!(f, "sector {sector} has no pending write to tear"),
        }
    }
}

impl std::error::Error for ChoiceError {}

impl Keep {
    /// One digit for each sector that has one, the first sector's lowest.
    pub(super) const fn digits(self) -> u64 {
        match self {
            Self::Sectors(digits) | Self::Apart { sectors: digits, .. } => digits,
            _ => 0,
        }
    }

    /// Whether the `number`-th pending write reached this sector. Not asked for sectors
    /// that have a digit.
    pub(super) fn has(self, number: usize, sector: u64) -> bool {
        let number = number as u64;
        match self {
            Self::None | Self::Sectors(_) => false,
            // One seed in four keeps all of them, one none.
            Self::Apart { aside, .. } => match aside & 3 {
                0 => true,
                1 => false,
                _ => mix(aside ^ mix(number) ^ sector) & 1 == 1,
            },
            Self::All => true,
            Self::First(count) => number < count,
            Self::Writes(mask) => number < 64 && (mask >> number) & 1 == 1,
            Self::Seed(seed) => {
                // Four temperaments (out of 256: kept whole, lost whole): balanced, mostly split, mostly kept, mostly
                // lost. Splitting only would hardly ever keep one write of many sectors whole and lose another.
                let base = mix(seed);
                let (kept, lost) = match base & 3 {
                    0 => (104, 104),
                    1 => (26, 26),
                    2 => (205, 26),
                    _ => (26, 205),
                };
                let write = mix(base ^ mix(number));
                match write & 0xff {
                    draw if draw < kept => true,
                    draw if draw < kept + lost => false,
                    _ => mix(write ^ sector) & 1 == 1,
                }
            }
        }
    }
}

impl Fill {
    /// Fills the buffer; `place` makes different places differ.
    pub(super) fn fill(self, place: u64, buffer: &mut [u8]) {
        match self {
            Self::Zeros => buffer.fill(0),
            Self::Ones => buffer.fill(0xff),
            Self::Random(seed) => crate::rng::Rng::new(mix(seed) ^ place).bytes(buffer),
        }
    }
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zeros => f.write_str("zeros"),
            Self::Ones => f.write_str("ones"),
            Self::Random(seed) => write!(f, "{seed:#x}"),
        }
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::All => f.write_str("all"),
            Self::First(count) => write!(f, "first:{count}"),
            Self::Writes(mask) => write!(f, "writes:{mask:#x}"),
            Self::Sectors(number) => write!(f, "{number:#x}"),
            Self::Apart { sectors, aside } => write!(f, "{sectors:#x}:{aside:#x}"),
            Self::Seed(seed) => write!(f, "seed:{seed:#x}"),
        }
    }
}

impl fmt::Display for Tear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.sector)?;
        match self.kind {
            TearKind::Prefix(bytes) => write!(f, "prefix:{bytes}"),
            TearKind::Suffix(bytes) => write!(f, "suffix:{bytes}"),
            TearKind::Garbage(fill) => write!(f, "garbage:{fill}"),
            TearKind::Block(fill) => write!(f, "block:{fill}"),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cut={} keep={}", self.cut, self.keep)?;
        match &self.tear {
            None => Ok(()),
            Some(tear) => write!(f, " tear={tear}"),
        }
    }
}

fn syntax(text: &str) -> ChoiceError {
    ChoiceError::Syntax(text.to_owned())
}

fn decimal<T: FromStr>(text: &str) -> Result<T, ChoiceError> {
    text.parse().map_err(|_| syntax(text))
}

fn hexadecimal(text: &str) -> Result<u64, ChoiceError> {
    let digits = text.strip_prefix("0x").ok_or_else(|| syntax(text))?;
    u64::from_str_radix(digits, 16).map_err(|_| syntax(text))
}

impl FromStr for Fill {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        match text {
            "zeros" => Ok(Self::Zeros),
            "ones" => Ok(Self::Ones),
            seed => Ok(Self::Random(hexadecimal(seed)?)),
        }
    }
}

impl FromStr for Keep {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            None if text == "all" => Ok(Self::All),
            None => Ok(Self::Sectors(hexadecimal(text)?)),
            Some(("first", count)) => Ok(Self::First(decimal(count)?)),
            Some(("writes", mask)) => Ok(Self::Writes(hexadecimal(mask)?)),
            Some(("seed", seed)) => Ok(Self::Seed(hexadecimal(seed)?)),
            Some((sectors, aside)) => {
                Ok(Self::Apart { sectors: hexadecimal(sectors)?, aside: hexadecimal(aside)? })
            }
        }
    }
}

impl FromStr for Tear {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        let mut parts = text.splitn(3, ':');
        let (Some(sector), Some(kind), Some(value)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(syntax(text));
        };
        let kind = match kind {
            "prefix" => TearKind::Prefix(decimal(value)?),
            "suffix" => TearKind::Suffix(decimal(value)?),
            "garbage" => TearKind::Garbage(value.parse()?),
            "block" => TearKind::Block(value.parse()?),
            _ => return Err(syntax(text)),
        };
        Ok(Self { sector: decimal(sector)?, kind })
    }
}

impl FromStr for Choice {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        let (mut cut, mut keep, mut tear) = (None, None, None);
        for part in text.split_whitespace() {
            match part.split_once('=') {
                Some(("cut", value)) if cut.is_none() => cut = Some(decimal(value)?),
                Some(("keep", value)) if keep.is_none() => keep = Some(value.parse()?),
                Some(("tear", value)) if tear.is_none() => tear = Some(value.parse()?),
                _ => return Err(syntax(part)),
            }
        }
        match (cut, keep) {
            (Some(cut), Some(keep)) => Ok(Self { cut, keep, tear }),
            _ => Err(syntax(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let keeps = [
            Keep::None,
            Keep::All,
            Keep::First(3),
            Keep::Writes(0b101),
            Keep::Sectors(0x5f3),
            Keep::Apart { sectors: 0x5f3, aside: 7 },
            Keep::Seed(u64::MAX),
        ];
        let tears = [
            TearKind::Prefix(100),
            TearKind::Suffix(1),
            TearKind::Garbage(Fill::Zeros),
            TearKind::Garbage(Fill::Random(7)),
            TearKind::Block(Fill::Ones),
        ];
        for keep in keeps {
            let tears = tears.iter().map(|&kind| Some(Tear { sector: 12, kind })).chain([None]);
            for tear in tears {
                let choice = Choice { cut: 137, keep, tear };
                assert_eq!(choice.to_string().parse(), Ok(choice));
            }
        }
        let tear = Some(Tear { sector: 12, kind: TearKind::Prefix(100) });
        let choice = Choice { cut: 137, keep: Keep::Sectors(0x5f3), tear };
        assert_eq!(choice.to_string(), "cut=137 keep=0x5f3 tear=12:prefix:100");
    }

    #[test]
    fn bad_text_is_refused() {
        for text in [
            "",
            "cut=1",
            "keep=all",
            "cut=x keep=all",
            "cut=1 keep=5",
            "cut=1 keep=0xg",
            "cut=1 cut=2 keep=all",
            "cut=1 keep=all tear=1",
            "cut=1 keep=all tear=1:prefix",
            "cut=1 keep=all tear=1:bend:3",
            "cut=1 keep=last:3",
            "cut=1 keep=all more",
        ] {
            assert!(text.parse::<Choice>().is_err(), "{text}");
        }
    }
}
