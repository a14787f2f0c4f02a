//! Instances with so many sources and areas that these are kept in order: plans must be legal there too, and no worse
//! than what there is.

use freehold::placement::{Area, Method, Policy};
use quickcheck::{Arbitrary, Gen, QuickCheck, TestResult};

use crate::input::{Input, on};
use crate::oracle::judge;

/// Some hundred areas on some ten sources.
#[derive(Clone, Debug)]
struct Large(Input);

impl Arbitrary for Large {
    fn arbitrary(g: &mut Gen) -> Self {
        let mut roll = |most: u64| u64::arbitrary(g) % (most + 1);
        let mut input =
            on("", 1, [Policy::Cling, Policy::Normal, Policy::Normal, Policy::Anywhere][roll(3) as usize]);
        for source in 0..4 + roll(8) {
            let mut offered = on("A", 1, Policy::Normal).sources.remove(0);
            offered.name = char::from(b'A' + source as u8);
            let mut at = 0;
            for _ in 0..roll(120) {
                let end = at + 1 + roll(30);
                offered.areas.push(Area::new(at, end));
                at = end + 1 + roll(3);
            }
            input.sources.push(offered);
        }
        input.stripes = 1 + roll(3) as u32;
        let free: u64 = input.sources.iter().flat_map(|source| &source.areas).map(|area| area.units()).sum();
        input.units = (1 + roll(free / u64::from(input.stripes))) * u64::from(input.stripes);
        if roll(3) == 0 {
            input.metadata_units = 1 + roll(9);
        }
        if roll(3) == 0 {
            (input.log_areas, input.log_units) = (1, 1 + roll(40));
            input.log_separate = roll(1) == 0;
        }
        if roll(2) == 0 {
            // Ranges of all lengths: what a round wants goes up and down.
            for _ in 0..1 + roll(12) {
                input.avoid.push((1 + roll(60), vec![char::from(b'A' + roll(3) as u8)]));
            }
        }
        Self(input)
    }
}

/// Whether rows of that length can be taken from sources with so many units: a source gives one unit to a row at most.
fn enough(input: &Input) -> bool {
    let units = input.sources.iter().map(|source| source.areas.iter().map(|area| area.units()).sum::<u64>());
    let most = if input.policy == Policy::Anywhere { u64::MAX } else { input.rows() };
    units.map(|units| units.min(most)).sum::<u64>() >= input.rows() * input.legs() as u64
}

#[test]
fn plans_are_legal_and_there_is_one_when_there_can_be() {
    fn property(Large(input): Large) -> TestResult {
        let placed = input.place();
        let plain = input.avoid.is_empty() && input.log_areas == 0 && input.metadata_units == 0;
        if plain && input.policy != Policy::Cling && placed.is_ok() != enough(&input) {
            return TestResult::error(format!("{placed:?}, and by the numbers {}", placed.is_err()));
        }
        match placed {
            Ok(plan) => judge(&input, &plan).map_or_else(TestResult::error, |()| TestResult::passed()),
            Err(error) if error.to_string().contains("bound") => TestResult::error(error.to_string()),
            Err(_) => TestResult::discard(),
        }
    }
    QuickCheck::new().tests(3_000).max_tests(300_000).quickcheck(property as fn(Large) -> TestResult);
}

#[test]
fn many_pieces_of_many_sources() {
    // Ten thousand areas of different lengths, all of which are needed.
    let mut input = on("", 1, Policy::Normal);
    for source in 0..50_u64 {
        let mut offered = on("A", 1, Policy::Normal).sources.remove(0);
        offered.name = char::from_u32(0x4e00 + source as u32).unwrap();
        offered.areas =
            (0..200).map(|at| Area::new(at * 300, at * 300 + 1 + (at * 7 + source * 13) % 299)).collect();
        input.sources.push(offered);
    }
    input.units = input.sources.iter().flat_map(|source| &source.areas).map(|area| area.units()).sum();
    let plan = input.place().unwrap();
    assert_eq!((plan.method, plan.legs[0].len()), (Method::Rounds, 10_000));
    judge_quickly(&plan.legs[0]);
}

/// No unit twice; the judge compares all pieces with all others.
fn judge_quickly(leg: &[freehold::placement::Piece<char>]) {
    let mut pieces = leg.to_vec();
    pieces.sort_unstable_by_key(|piece| (piece.source, piece.start));
    assert!(
        pieces.windows(2).all(|pair| pair[0].source != pair[1].source || pair[0].area().end < pair[1].start)
    );
}

#[test]
fn ranges_change_what_sources_are_chosen() {
    // In each of 2,000 ranges another source is to be avoided; the first of the others is taken.
    let mut input = on("", 2_000, Policy::Normal);
    for source in 0..2_000 {
        let mut offered = on("A", 1, Policy::Normal).sources.remove(0);
        offered.name = char::from_u32(0x4e00 + source).unwrap();
        offered.areas = vec![Area::new(0, 1)];
        input.avoid.push((1, vec![offered.name]));
        input.sources.push(offered);
    }
    let plan = input.place().unwrap();
    let row = |piece: &freehold::placement::Piece<char>| piece.source as u32 - 0x4e00;
    assert!(plan.legs[0].iter().enumerate().all(|(at, piece)| row(piece) != at as u32));
    assert_eq!(plan.method, Method::Rounds);
}
