//! One line of text that leads back to a crash state.

use std::fmt;
use std::str::FromStr;

use crate::disk::Choice;

/// Where the operations come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A round of a chain of random workloads.
    Chain {
        /// Which chain.
        chain: u64,
        /// Which round of it.
        round: u64,
    },
    /// A sequence of the exhaustive run, each operation by its number.
    Sequence(Vec<usize>),
}

/// Leads back to a state: `chain=0 round=2 cut=17 keep=all injury=0x4d / cut=3 keep=none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Where the operations come from.
    pub source: Source,
    /// Which of them are left after shortening; all if none is said.
    pub kept: Option<Vec<usize>>,
    /// Whether they run on a store that was just formatted, in the place of the one that the source has.
    pub fresh: bool,
    /// The cut, then those inside the recoveries.
    pub choices: Vec<Choice>,
    /// Seed of the damage done besides to what the first cut left.
    pub injury: Option<u64>,
}

impl Address {
    /// The address of a whole run.
    #[must_use]
    pub const fn of(source: Source) -> Self {
        Self { source, kept: None, fresh: false, choices: Vec::new(), injury: None }
    }

    /// The address of a state, or of one inside its recovery.
    #[must_use]
    pub fn with(&self, choice: Choice) -> Self {
        let mut address = self.clone();
        address.choices.push(choice);
        address
    }
}

fn list(numbers: &[usize]) -> String {
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Chain { chain, round } => write!(f, "chain={chain} round={round}")?,
            Source::Sequence(numbers) => write!(f, "sequence={}", list(numbers))?,
        }
        if let Some(kept) = &self.kept {
            write!(f, " operations={}", list(kept))?;
        }
        if self.fresh {
            f.write_str(" fresh")?;
        }
        let mut choices = self.choices.iter();
        choices.next().map_or(Ok(()), |first| write!(f, " {first}"))?;
        self.injury.map_or(Ok(()), |seed| write!(f, " injury={seed:#x}"))?;
        choices.try_for_each(|nested| write!(f, " / {nested}"))
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("'{text}' is no number"))
}

fn numbers(text: &str) -> Result<Vec<usize>, String> {
    text.split(',').filter(|part| !part.is_empty()).map(number).collect()
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut chain, mut round, mut sequence) = (None, None, None);
        let (mut kept, mut fresh, mut injury) = (None, false, None);
        let mut choices = vec![String::new()];
        for word in text.split_whitespace() {
            match word.split_once('=') {
                Some(("chain", value)) => chain = Some(number(value)?),
                Some(("round", value)) => round = Some(number(value)?),
                Some(("sequence", value)) => sequence = Some(numbers(value)?),
                Some(("operations", value)) => kept = Some(numbers(value)?),
                Some(("injury", value)) => {
                    let digits = value.strip_prefix("0x").unwrap_or(value);
                    let seed = u64::from_str_radix(digits, 16);
                    injury = Some(seed.map_err(|_| format!("'{value}' is no number"))?);
                }
                Some(("cut" | "keep" | "tear", _)) => {
                    if let Some(choice) = choices.last_mut() {
                        choice.push_str(word);
                        choice.push(' ');
                    }
                }
                None if word == "fresh" => fresh = true,
                None if word == "/" => choices.push(String::new()),
                _ => return Err(format!("'{word}' is no part of an address")),
            }
        }
        let source = match (chain, round, sequence) {
            (Some(chain), Some(round), None) => Source::Chain { chain, round },
            (None, None, Some(sequence)) => Source::Sequence(sequence),
            _ => return Err(format!("'{text}' names neither 'chain=N round=N' nor 'sequence=N,N'")),
        };
        let choices = match choices.as_slice() {
            [only] if only.is_empty() => Vec::new(),
            choices => choices
                .iter()
                .map(|choice| choice.parse::<Choice>().map_err(|error| error.to_string()))
                .collect::<Result<_, _>>()?,
        };
        Ok(Self { source, kept, fresh, choices, injury })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        for text in [
            "chain=3 round=1",
            "chain=3 round=1 cut=7 keep=0xb1 injury=0x7b / cut=4 keep=first:2 tear=12:prefix:100",
            "chain=3 round=1 operations=0,4 fresh cut=7 keep=all",
            "sequence=0,11,3 cut=7 keep=none",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "chain=1",
            "chain=x round=1",
            "chain=1 round=1 cut=2",
            "chain=1 round=1 odd",
            "sequence=1 / ",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
