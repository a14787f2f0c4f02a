//! The cases that the rules were gathered with, by their numbers.

use freehold::placement::Policy::{Anywhere, Cling, ClingByTags, Contiguous, Normal};

use crate::input::on;

#[test]
fn case_1_the_smaller_area_that_fits() {
    assert_eq!(on("A[0,100)[200,250)", 30, Normal).legs_placed(), "A[200,230)");
}

#[test]
fn case_3_exact_fit() {
    assert_eq!(on("A[0,100)[200,250)", 50, Normal).legs_placed(), "A[200,250)");
}

#[test]
fn case_5_no_sources() {
    assert_eq!(on("", 10, Normal).kind(), "too_few_sources");
}

#[test]
fn case_7_all_that_there_is() {
    let case = on("A[0,50)", 100, Anywhere).approximate();
    assert_eq!(case.legs_placed(), "A[0,50)");
    let plan = case.place().unwrap();
    assert_eq!((plan.placed_units, plan.unplaced_units), (50, 50));
}

#[test]
fn case_9_the_larger_source_first() {
    assert_eq!(on("A[0,30) B[0,40)", 60, Normal).legs_placed(), "B[0,40) A[0,20)");
}

#[test]
fn case_10_from_the_largest_to_the_smallest() {
    assert_eq!(on("A[0,10) B[0,25) C[0,15)", 45, Normal).legs_placed(), "B[0,25) C[0,15) A[0,5)");
}

#[test]
fn case_12_cling_before_a_larger_source() {
    assert_eq!(on("A[0,30)[40,60) B[0,25)", 70, Normal).legs_placed(), "A[0,30) A[40,60) B[0,20)");
}

#[test]
fn case_13_contiguous_is_never_split() {
    assert_eq!(on("A[0,30)[50,90)", 80, Contiguous).kind(), "insufficient_total");
    assert_eq!(on("A[0,30)[50,90)", 60, Contiguous).kind(), "insufficient_suitable");
}

#[test]
fn case_14_contiguous_in_the_area_that_holds_it() {
    assert_eq!(on("A[0,30)[50,90)[100,200)", 80, Contiguous).legs_placed(), "A[100,180)");
}

#[test]
fn case_15_contiguous_goes_on() {
    assert_eq!(on("A[10,100) B[0,100)", 10, Contiguous).prev("10: A0").legs_placed(), "A[10,20)");
}

#[test]
fn case_16_not_adjacent() {
    assert_eq!(on("A[11,100) B[0,100)", 10, Contiguous).prev("10: A0").kind(), "insufficient_suitable");
}

#[test]
fn case_17_on_the_same_source() {
    assert_eq!(on("A[11,100) B[0,100)", 10, Normal).prev("10: A0").legs_placed(), "A[11,21)");
}

#[test]
fn case_18_what_is_adjacent_if_less_will_do() {
    let case = on("A[10,15)[21,100)", 10, Contiguous).prev("10: A0");
    assert_eq!(case.kind(), "insufficient_suitable");
    assert_eq!(case.approximate().legs_placed(), "A[10,15)");
}

#[test]
fn case_19_adjacent_then_same_source_then_any() {
    let case = on("A[10,15)[20,22) B[0,100)", 10, Normal).prev("10: A0");
    assert_eq!(case.legs_placed(), "A[10,15) A[20,22) B[0,3)");
}

#[test]
fn case_20_cling_need_not_be_adjacent() {
    assert_eq!(on("A[21,100) B[0,100)", 20, Cling).prev("10: A0").legs_placed(), "A[21,41)");
}

#[test]
fn case_21_cling_never_leaves() {
    let case = on("A[20,30) B[0,100)", 20, Cling).prev("10: A0");
    assert_eq!(case.kind(), "insufficient_suitable");
    assert_eq!(case.approximate().legs_placed(), "A[20,30)");
}

#[test]
fn case_24_each_leg_clings() {
    let case = on("A[15,30) B[15,30) C[0,30)", 10, Cling).stripes(2).prev("20: A0 B0");
    assert_eq!(case.legs_placed(), "A[15,20) / B[15,20)");
}

#[test]
fn case_25_a_leg_that_cannot_cling() {
    let case = on("A B[15,30) C[0,30)", 10, Cling).stripes(2).prev("20: A0 B0");
    assert_eq!(case.kind(), "insufficient_suitable");
    // Two distinct sources; the leg that was on B stays there.
    assert_eq!(case.policy(Normal).legs_placed(), "C[0,5) / B[15,20)");
}

#[test]
fn case_27_equal_lengths_in_each_row() {
    let case = on("A[5,8)[9,50) B[5,50)", 10, Normal).stripes(2).prev("10: A0 B0");
    assert_eq!(case.legs_placed(), "A[5,8) A[9,11) / B[5,10)");
}

#[test]
fn case_29_a_stripe_on_each() {
    let case = on("A[0,10) B[0,10) C[0,10)", 9, Normal).stripes(3);
    assert_eq!(case.legs_placed(), "A[0,3) / B[0,3) / C[0,3)");
}

#[test]
fn case_31_two_legs_on_one_source() {
    let case = on("A[0,100)", 10, Normal).stripes(2);
    assert_eq!(case.kind(), "too_few_sources");
    assert_eq!(case.policy(Anywhere).legs_placed(), "A[0,5) / A[5,10)");
}

#[test]
fn case_32_one_area_a_leg() {
    assert_eq!(on("A[0,8)[12,20)", 16, Anywhere).stripes(2).legs_placed(), "A[0,8) / A[12,20)");
}

#[test]
fn case_34_the_smallest_of_three_decides() {
    let case = on("A[0,10) B[0,8) C[0,4)", 18, Normal).stripes(3);
    assert_eq!(case.kind(), "insufficient_suitable");
    assert_eq!(case.clone().approximate().legs_placed(), "A[0,4) / B[0,4) / C[0,4)");
    assert_eq!(case.clone().approximate().place().unwrap().placed_units, 12);
    assert_eq!(case.policy(Anywhere).place().unwrap().placed_units, 18);
}

#[test]
fn case_36_rows_on_distinct_sources() {
    let case = on("A[0,20) B[0,38) C[0,38) D[0,38) E[0,38) F[0,38)", 192, Normal).stripes(2);
    assert_eq!(case.legs_placed(), "B[0,38) D[0,38) A[0,20) / C[0,38) E[0,38) F[0,20)");
}

#[test]
fn case_38_metadata_in_front_of_each_leg() {
    let case = on("A[0,100) B[0,100) C[0,100)", 20, Normal).stripes(2).set(|input| {
        input.parity = 1;
        input.metadata_units = 1;
    });
    assert_eq!(case.legs_placed(), "A[1,11) / B[1,11) / C[1,11)");
    let metadata: Vec<_> = case
        .place()
        .unwrap()
        .metadata
        .iter()
        .map(|piece| (piece.source, piece.start, piece.length))
        .collect();
    assert_eq!(metadata, [('A', 0, 1), ('B', 0, 1), ('C', 0, 1)]);
    let case = case.set(|input| {
        input.sources.pop();
    });
    assert_eq!(case.kind(), "too_few_sources");
}

#[test]
fn case_41_a_log_beside_the_mirrors() {
    let case = on("A[0,100) B[0,100)", 10, Normal).mirrors(2).set(|input| {
        input.log_areas = 1;
        input.log_units = 1;
    });
    assert_eq!(case.legs_placed(), "A[0,10) / B[0,10)");
    let log = case.place().unwrap().log;
    assert_eq!(log.iter().map(|log| (log.source, log.start, log.length)).collect::<Vec<_>>(), [('A', 10, 1)]);
}

#[test]
fn case_43_one_more_copy_elsewhere() {
    let case = on("A[5,10) B[5,10) C[0,20)", 10, Normal).avoid(5, "A").avoid(5, "B");
    assert_eq!(case.legs_placed(), "B[5,10) A[5,10)");
    assert_eq!(case.policy(Contiguous).kind(), "insufficient_suitable");
}

#[test]
fn case_45_a_source_with_the_same_tag() {
    let case = on("A@site1 B[0,50)@site2 C[0,50)@site1", 20, ClingByTags).prev("10: A0");
    assert_eq!(case.clone().tags(&["@site1", "@site2"]).legs_placed(), "C[0,20)");
    assert_eq!(case.clone().tags(&["@*"]).legs_placed(), "C[0,20)");
    assert_eq!(case.kind(), "insufficient_suitable");
}
