//! Input that makes no sense: a typed error each.

use freehold::placement::Policy::{Anywhere, Contiguous, Inherit, Normal};
use freehold::placement::{Area, MAX_LEGS, PlacementError, Request, Source, place};

use crate::input::on;

fn kind(sources: &[Source<'_, char>], request: &Request<'_, char>) -> &'static str {
    place(sources, request).unwrap_err().kind()
}

#[test]
fn areas_that_overlap_or_come_twice() {
    assert_eq!(on("A[0,10)[5,12)", 1, Normal).kind(), "overlapping_areas");
    assert_eq!(on("A[0,10)[0,10)", 1, Normal).kind(), "overlapping_areas");
    assert_eq!(on("B[0,9) A[20,30)[0,21)", 1, Normal).kind(), "overlapping_areas");
    let error = on("B[0,9) A[20,30)[0,21)", 1, Normal).place().unwrap_err();
    let (first, second) = (Area::new(0, 21), Area::new(20, 30));
    assert_eq!(error, PlacementError::OverlappingAreas { source_index: 1, first, second });
}

#[test]
fn areas_without_units_and_beyond_the_source() {
    assert_eq!(on("A[5,5)", 1, Normal).kind(), "invalid_request");
    assert_eq!(on("A[7,5)", 1, Normal).kind(), "invalid_request");
    let areas = [Area::new(0, 11)];
    let source = Source { units: Some(10), ..Source::new('A', &areas) };
    assert_eq!(kind(&[source], &Request::new(1, Normal)), "invalid_request");
    let source = Source { units: Some(11), ..source };
    assert!(place(&[source], &Request::new(1, Normal)).is_ok());
}

#[test]
fn the_same_source_twice() {
    assert_eq!(on("A[0,10) B A[20,30)", 1, Normal).kind(), "duplicate_source");
    let error = on("A[0,10) B A[20,30)", 1, Normal).place().unwrap_err();
    assert_eq!(error.source_index(), Some(2));
}

#[test]
fn nothing_is_asked_for() {
    assert_eq!(on("A[0,10)", 0, Normal).kind(), "invalid_request");
    assert_eq!(on("A[0,10)", 1, Normal).stripes(0).kind(), "invalid_request");
    assert_eq!(on("A[0,10)", 1, Normal).mirrors(0).kind(), "invalid_request");
    assert_eq!(on("A[0,10)", 1, Normal).set(|input| input.log_areas = 1).kind(), "invalid_request");
}

#[test]
fn units_that_the_stripes_cannot_share() {
    assert_eq!(on("A[0,10) B[0,10) C[0,10)", 10, Normal).stripes(3).kind(), "not_divisible");
    assert_eq!(on("A[0,10) B[0,10) C[0,10)", 10, Normal).stripes(3).approximate().kind(), "not_divisible");
    assert_eq!(on("A[15,20) B[15,20)", 4, Normal).stripes(2).prev("3: A0 B0").kind(), "not_divisible");
}

#[test]
fn more_legs_than_sources() {
    assert_eq!(on("A[0,10) B[0,10)", 6, Normal).stripes(2).mirrors(2).kind(), "too_few_sources");
    assert_eq!(
        on("A[0,10) B[0,10)", 6, Contiguous).stripes(2).mirrors(2).approximate().kind(),
        "too_few_sources"
    );
    assert_eq!(on("A[0,10)", 1, Normal).set(|input| input.parity = 1).kind(), "too_few_sources");
    assert!(on("A[0,10) B[0,10)", 6, Anywhere).stripes(2).mirrors(2).place().is_ok());
    assert_eq!(on("A[0,10)", 1, Anywhere).mirrors(MAX_LEGS as u32 + 1).kind(), "invalid_request");
    assert_eq!(
        on("A[0,10)", u64::MAX / 3 * 3, Anywhere).mirrors(u32::MAX).stripes(3).kind(),
        "invalid_request"
    );
}

#[test]
fn inherit_as_a_default() {
    let areas = [Area::new(0, 10)];
    let sources = [Source::new('A', &areas)];
    let request = Request { default_policy: Inherit, ..Request::new(1, Normal) };
    assert_eq!(kind(&sources, &request), "invalid_request");
    let request = Request { default_policy: Contiguous, ..Request::new(10, Inherit) };
    assert!(place(&sources, &request).is_ok());
}

#[test]
fn totals_that_overflow() {
    let areas = [Area::new(0, u64::MAX)];
    let sources = [Source::new('A', &areas), Source::new('B', &areas)];
    assert_eq!(kind(&sources, &Request::new(1, Normal)), "invalid_request");
    let one = [Source::new('A', &areas)];
    assert!(place(&one, &Request::new(u64::MAX, Contiguous)).is_ok());
    assert_eq!(kind(&one, &Request { mirrors: 2, ..Request::new(u64::MAX, Anywhere) }), "invalid_request");
    let request = Request { metadata_units: u64::MAX, ..Request::new(1, Normal) };
    assert_eq!(kind(&one, &request), "invalid_request");
    let two = [Area::new(0, 1 << 63), Area::new((1 << 63) + 1, u64::MAX)];
    let request = Request { metadata_units: 1 << 63, ..Request::new(1, Normal) };
    assert_eq!(kind(&[Source::new('A', &two)], &request), "metadata_too_big");
    let request = Request { metadata_units: 2, mirrors: 2, ..Request::new(u64::MAX / 2, Anywhere) };
    assert_eq!(kind(&one, &request), "invalid_request");
    let request = Request { log_areas: 3, log_units: u64::MAX / 2, ..Request::new(1, Normal) };
    assert_eq!(kind(&one, &request), "invalid_request");
    assert_eq!(on("A[0,9)", 1, Normal).avoid(u64::MAX, "").avoid(1, "").kind(), "invalid_request");
}

#[test]
fn handles_that_nobody_knows() {
    assert_eq!(on("A[10,20)", 1, Normal).prev("10: B0").kind(), "invalid_request");
    assert_eq!(on("A[10,20)", 1, Normal).prev("10: A0 B0").kind(), "invalid_request");
    assert_eq!(on("A[10,20)", 1, Normal).avoid(1, "C").kind(), "invalid_request");
}

#[test]
fn earlier_segments_where_they_cannot_be() {
    // In use and free at the same time.
    assert_eq!(on("A[5,20)", 1, Normal).prev("10: A0").kind(), "overlapping_areas");
    assert_eq!(on("A[5,20)", 1, Normal).prev("10: A18446744073709551610").kind(), "invalid_request");
    let areas = [Area::new(0, 10)];
    let legs = [freehold::placement::Origin { source: 'A', start: 95 }];
    let previous = [freehold::placement::Segment { units: 10, legs: &legs }];
    let source = Source { units: Some(100), ..Source::new('A', &areas) };
    assert_eq!(
        kind(&[source], &Request { previous: &previous, ..Request::new(1, Normal) }),
        "invalid_request"
    );
}

#[test]
fn the_last_unit_there_can_be() {
    let input =
        on("A[18446744073709551610,18446744073709551615)", 5, Normal).prev("10: A18446744073709551600");
    assert_eq!(input.legs_placed(), "A[18446744073709551610,18446744073709551615)");
}
