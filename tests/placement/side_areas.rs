//! Metadata and logs, partition by tags, earlier segments: what the cases do not say.

use freehold::placement::Policy::{Anywhere, Cling, ClingByTags, Contiguous, Normal};
use freehold::placement::{Method, Partition, Piece};

use crate::input::{Input, on};
use crate::oracle::judge;

fn pieces(pieces: &[Piece<char>]) -> Vec<(char, u64, u64)> {
    pieces.iter().map(|piece| (piece.source, piece.start, piece.length)).collect()
}

fn with_log(input: Input, areas: u32, units: u64) -> Input {
    input.set(|input| (input.log_areas, input.log_units) = (areas, units))
}

fn apart(input: Input) -> Input {
    input.set(|input| input.log_separate = true)
}

#[test]
fn a_log_goes_to_the_smallest_area_without_data() {
    let input = with_log(on("A[0,100) B[0,100) C[0,50)[60,65)", 10, Normal).mirrors(2), 1, 5);
    assert_eq!(pieces(&input.place().unwrap().log), [('C', 60, 5)]);
    // Two logs are on two sources, if there are two.
    let input = with_log(on("A[0,100) B[0,100) C[0,50)[60,65) D[0,70)", 10, Normal).mirrors(2), 2, 2);
    assert_eq!(pieces(&input.place().unwrap().log), [('C', 60, 2), ('D', 0, 2)]);
}

#[test]
fn a_log_that_must_be_apart_finds_no_place() {
    let input = with_log(on("A[0,100) B[0,100)", 10, Normal).mirrors(2), 1, 1);
    assert_eq!(apart(input).kind(), "no_log_space");
    assert_eq!(with_log(on("A[0,5)[6,11) B[0,5)", 4, Normal), 1, 6).kind(), "no_log_space");
}

#[test]
fn a_log_takes_the_space_that_the_rounds_would_have_taken() {
    // The rounds would begin on B, and leave no source without data.
    let input = apart(with_log(on("A[0,10) B[0,12)", 10, Normal), 1, 11));
    assert_eq!(input.legs_placed(), "A[0,10)");
    assert_eq!(pieces(&input.place().unwrap().log), [('B', 0, 11)]);
}

#[test]
fn a_log_is_not_where_the_volume_was_before() {
    let input = apart(with_log(on("A[10,20) B[0,20)", 5, Normal).prev("10: A0"), 1, 1));
    assert_eq!(pieces(&input.place().unwrap().log), [('B', 0, 1)]);
    let input = apart(with_log(on("A[10,20) B[0,20)", 5, Normal).avoid(5, "A"), 1, 1));
    assert_eq!(input.kind(), "no_log_space");
}

#[test]
fn metadata_that_no_area_holds() {
    let input = on("A[0,10)[20,30)", 5, Normal).set(|input| input.metadata_units = 12);
    assert_eq!(input.kind(), "metadata_too_big");
    let input = on("A[0,10)[20,30) B[0,4)", 4, Normal).mirrors(2).set(|input| input.metadata_units = 4);
    assert_eq!(input.kind(), "metadata_too_big");
}

#[test]
fn metadata_is_in_front_of_the_first_piece_only() {
    let input = on("A[0,10)[20,30)", 15, Normal).set(|input| input.metadata_units = 2);
    assert_eq!(input.legs_placed(), "A[2,10) A[20,27)");
    assert_eq!(pieces(&input.place().unwrap().metadata), [('A', 0, 2)]);
    let input = on("A[0,20)", 14, Anywhere).stripes(2).set(|input| input.metadata_units = 3);
    assert_eq!(input.legs_placed(), "A[3,10) / A[13,20)");
}

#[test]
fn legs_of_a_new_volume_share_no_listed_tag() {
    let input =
        on("A[0,9)@x B[0,9)@x@y C[0,9)@y D[0,9)@z", 18, Contiguous).stripes(3).tags(&["@x", "@y", "@z"]);
    // The first two would be in each other's way: x, y and z are on A, C and D.
    assert_eq!(input.legs_placed(), "A[0,6) / C[0,6) / D[0,6)");
    assert_eq!(input.place().unwrap().partition, Partition::Apart);
    // A tag that is not listed does not count.
    assert_eq!(input.tags(&["@z"]).legs_placed(), "A[0,6) / B[0,6) / C[0,6)");
}

#[test]
fn a_partition_is_found_when_the_first_choice_leads_nowhere() {
    let input = on("A[0,9)@x@y@z B[0,9)@x C[0,9)@y D[0,9)@z", 18, Contiguous).stripes(3).tags(&["@*"]);
    assert_eq!(input.legs_placed(), "B[0,6) / C[0,6) / D[0,6)");
}

#[test]
fn a_partition_is_a_preference_under_looser_policies() {
    let input = on("A[0,9)@x B[0,9)@x", 10, Contiguous).stripes(2).tags(&["@x"]);
    assert_eq!(input.kind(), "insufficient_suitable");
    let input = input.policy(Normal);
    assert_eq!(input.legs_placed(), "A[0,5) / B[0,5)");
    assert_eq!(input.place().unwrap().partition, Partition::Shared);
    let input = on("A[0,9)@x B[0,9)@x C[0,9)", 10, Normal).stripes(2).tags(&["@x"]);
    assert_eq!(input.legs_placed(), "A[0,5) / C[0,5)");
}

#[test]
fn a_partition_that_is_too_large_says_so() {
    // Sources are the edges of a complete graph of 24 points, tagged with their ends: 12 legs are a perfect matching of
    // the points, and 13 are none. To see that takes longer than the bound.
    let mut input = on("", 13 * 3, Contiguous).stripes(13).tags(&["@*"]);
    let mut name = 'A';
    for one in 0..24 {
        for other in one + 1..24 {
            let mut source = on("A[0,3)", 1, Normal).sources.remove(0);
            source.name = name;
            source.tags = vec![format!("t{one}"), format!("t{other}")];
            input.sources.push(source);
            name = char::from_u32(name as u32 + 1).unwrap();
        }
    }
    assert_eq!(input.kind(), "insufficient_suitable");
    let message = input.place().unwrap_err().to_string();
    assert!(message.contains("bound"), "{message}");
    let plan = input.clone().policy(Normal).place().unwrap();
    assert_eq!(plan.partition, Partition::Bounded);
    let plan = input.set(|input| (input.stripes, input.units) = (12, 36)).place().unwrap();
    assert_eq!(plan.partition, Partition::Apart);
}

#[test]
fn only_the_last_segment_counts_if_so_asked() {
    let input = on("A[10,40) B[30,40)", 20, Cling).prev("10: A0").prev("10: B0");
    assert_eq!(input.legs_placed(), "A[10,30)");
    assert_eq!(input.set(|input| input.maximise_cling = false).kind(), "insufficient_suitable");
}

#[test]
fn segments_with_another_number_of_legs_do_not_count() {
    let input = on("A[11,40) B[0,50)", 20, Contiguous).stripes(2).prev("10: A0");
    assert_eq!(input.legs_placed(), "A[11,21) / B[0,10)");
}

#[test]
fn legs_that_know_the_same_sources_are_matched() {
    // The first leg would take A, and the second knows nothing else.
    let input = on("A[20,40) B[20,30)", 10, Cling).stripes(2).prev("10: B0 A0").prev("10: A6 A12");
    assert_eq!(input.legs_placed(), "B[20,25) / A[20,25)");
}

#[test]
fn rounds_that_end_in_a_corner_are_followed_by_the_exact_search() {
    // Two legs of 15 on three sources of 10: the rounds take 10 of two, and have one left.
    let input = on("A[0,10) B[0,10) C[0,10)", 30, Normal).stripes(2);
    let plan = input.place().unwrap();
    assert_eq!(plan.method, Method::Exact);
    judge(&input, &plan).unwrap();
    // Less may do, and more is possible: it is not worse than all or nothing.
    assert_eq!(input.approximate().place().unwrap().unplaced_units, 0);
}

#[test]
fn a_new_volume_that_clings_stays_where_it_fits() {
    // The heaviest area is on A, and only B has space for all.
    let input = on("A[0,40) B[0,30)[50,80)", 60, Cling);
    assert_eq!(input.legs_placed(), "B[0,30) B[50,80)");
}

#[test]
fn adjacent_units_go_on_over_the_end_of_a_range() {
    let input = on("A[10,100)[200,206) B[0,9) C[0,9)", 10, Normal).prev("10: A0").avoid(5, "B").avoid(5, "C");
    assert_eq!(input.legs_placed(), "A[10,20)");
    assert_eq!(input.policy(Contiguous).kind(), "insufficient_suitable");
}

#[test]
fn sources_that_share_a_tag_with_one_to_avoid_are_avoided() {
    let input = on("A[0,10)@x B[0,20)@x C[0,10)", 10, Normal).avoid(10, "A").tags(&["@x"]);
    assert_eq!(input.legs_placed(), "C[0,10)");
    assert_eq!(input.clone().tags(&[]).legs_placed(), "B[0,10)");
    assert_eq!(input.policy(Anywhere).legs_placed(), "C[0,10)");
}

#[test]
fn sources_where_nothing_may_be_placed() {
    let input = on("A[0,50) B[0,10)", 10, Normal).set(|input| input.sources[0].allocatable = false);
    assert_eq!(input.legs_placed(), "B[0,10)");
    assert_eq!(input.mirrors(2).kind(), "too_few_sources");
}

#[test]
fn areas_that_touch_are_one() {
    assert_eq!(on("A[10,20)[0,10)", 15, Contiguous).legs_placed(), "A[0,15)");
}

#[test]
fn the_pictures_of_the_documentation() {
    let going_on = on("A[4,12) B[4,9)[10,12)", 6, Contiguous).stripes(2).prev("8: A0 B0");
    assert_eq!(going_on.legs_placed(), "A[4,7) / B[4,7)");
    assert_eq!(on("A[2,9) B[0,2)[3,8)", 10, Contiguous).stripes(2).legs_placed(), "A[2,7) / B[3,8)");
    assert_eq!(on("A[6,9)[10,11) B[0,12)", 4, Cling).prev("4: A0").legs_placed(), "A[6,9) A[10,11)");
    let relative =
        on("A@east B[0,8)@west C[0,8)@east", 4, ClingByTags).tags(&["@east", "@west"]).prev("8: A0");
    assert_eq!(relative.legs_placed(), "C[0,4)");
    let normal = on("A[4,9) B[4,6) C[2,10)", 10, Normal).stripes(2).prev("8: A0 B0");
    assert_eq!(normal.legs_placed(), "A[4,9) / B[4,6) C[2,5)");
    assert_eq!(on("A[0,12)", 10, Anywhere).stripes(2).legs_placed(), "A[0,5) / A[5,10)");
}

#[test]
fn relatives_of_a_full_source_are_still_relatives() {
    let input =
        on("A@site1 B[0,50)@site2 C[0,50)@site1", 20, Normal).prev("10: A0").tags(&["@site1", "@site2"]);
    assert_eq!(input.legs_placed(), "C[0,20)");
    let input = on("A[10,12)@x B[0,20)@x", 5, Cling).prev("10: A0").tags(&["@x"]);
    assert_eq!(input.legs_placed(), "A[10,12) B[0,3)");
    assert_eq!(input.place().unwrap().method, Method::Rounds);
    let input = on("A[0,10)@x B[0,9)@y C[0,8)@x", 15, Normal).tags(&["@*"]);
    assert_eq!(input.legs_placed(), "A[0,10) C[0,5)");
}

#[test]
fn the_rest_goes_on_to_the_next_step_and_not_back() {
    let input = on("A[0,3) B[0,5) C[0,4)[6,9)", 10, Normal);
    assert_eq!(input.legs_placed(), "B[0,5) C[0,4) A[0,1)");
}

#[test]
fn anywhere_cuts_areas_into_parts_that_serve_all_legs() {
    let input = on("A[0,6)[7,12)", 10, Anywhere).stripes(2).set(|input| input.parity = 1).approximate();
    assert_eq!(input.place().unwrap().placed_units, 6);
    let input = on("A[0,100)", 120, Anywhere).stripes(2).approximate();
    assert_eq!(input.legs_placed(), "A[0,50) / A[50,100)");
    // Asking for more never gives less.
    for units in 1..40 {
        let input = on("A[0,7)[9,14) B[3,5)[6,10)", units * 2, Anywhere).stripes(2).approximate();
        assert_eq!(input.place().unwrap().placed_units, (units * 2).min(18), "{units}");
    }
}

#[test]
fn the_lightest_of_matched_legs_is_as_heavy_as_can_be() {
    let input = on("A[100,110) B[100,109) C[100,101)", 9, Cling).mirrors(2).prev("1: C0 A0").prev("1: A5 B5");
    assert_eq!(input.legs_placed(), "A[100,109) / B[100,109)");
}

#[test]
fn a_partition_is_judged_by_the_plan() {
    let logs = |input: Input| apart(with_log(input, 2, 5));
    let input = logs(on("B[0,10)@y A[0,10)@x C[0,7)[8,11)@x", 10, Normal).mirrors(2).tags(&["@*"]));
    let plan = input.place().unwrap();
    judge(&input, &plan).unwrap();
    assert_eq!(plan.partition, Partition::Shared, "{plan:?}");
    let input = on("A[0,5)[6,11)@x B[0,5)[6,11)@y", 10, Normal).mirrors(2).tags(&["@*"]);
    assert_eq!(input.place().unwrap().partition, Partition::Apart);
}

#[test]
fn where_the_data_of_the_volume_is() {
    // Another source with the same tag has no data.
    let input = on("A@x B[0,10)@x C[0,10)@y", 10, Normal).tags(&["@*"]).avoid(10, "A");
    let plan = apart(with_log(input, 1, 1)).place().unwrap();
    assert_eq!(pieces(&plan.log), [('B', 0, 1)]);
    // A segment that cannot be continued has.
    let input = on("A[10,12) B[0,10) C[0,20)", 10, Normal).mirrors(2).prev("10: A0");
    assert_eq!(apart(with_log(input, 1, 1)).kind(), "no_log_space");
}

#[test]
fn many_legs_with_a_tag_each_are_kept_apart() {
    let mut input = on("", 3000 * 5, Contiguous).stripes(3000).tags(&["@*"]);
    for number in 0..3000 {
        let mut source = on("A[0,5)", 1, Normal).sources.remove(0);
        source.name = char::from_u32(0x4e00 + number).unwrap();
        source.tags = vec![format!("t{number}")];
        input.sources.push(source);
    }
    assert_eq!(input.place().unwrap().partition, Partition::Apart);
}

#[test]
fn many_logs_on_many_sources() {
    let mut input = with_log(on("", 10, Normal), 4096, 2);
    for number in 0..4097 {
        let mut source = on("A[0,50)", 1, Normal).sources.remove(0);
        source.name = char::from_u32(0x4e00 + number).unwrap();
        input.sources.push(source);
    }
    let plan = input.place().unwrap();
    let sources: std::collections::BTreeSet<char> = plan.log.iter().map(|log| log.source).collect();
    assert_eq!(sources.len(), 4096);
}

#[test]
fn a_search_that_is_too_large_says_so() {
    // Where six logs go on 64 sources: too many ways to try, and none leaves three sources for the legs.
    let mut input = with_log(on("", 201, Cling), 6, 1).mirrors(3);
    for number in 0..64 {
        let mut source = on("A", 1, Normal).sources.remove(0);
        source.name = char::from_u32(0x4e00 + number).unwrap();
        source.areas = (0..100).map(|at| freehold::placement::Area::new(at * 3, at * 3 + 2)).collect();
        input.sources.push(source);
    }
    let error = input.place().unwrap_err();
    assert!(error.to_string().contains("bound"), "{error}");
}

#[test]
fn a_leg_stays_on_its_own_source_before_another_goes_there_for_a_tag() {
    let input = on("A[1,6)@s3 B[0,9)@s3@s2 C@s1", 2, Normal).mirrors(2).prev("1: C20 B20").tags(&["@*"]);
    assert_eq!(input.legs_placed(), "A[1,3) / B[0,2)");
}

#[test]
fn the_exact_search_begins_as_a_round_would() {
    let input = on("A[1,4) B[1,3)[4,6)[9,10)[11,14)", 5, Cling);
    assert_eq!(input.legs_placed(), "B[11,14) B[1,3)");
    assert_eq!(input.place().unwrap().method, Method::Exact);
}

#[test]
fn a_leg_that_has_no_own_source_left_goes_to_one_of_the_others() {
    let input = on("A[20,30) B C[20,30)", 4, Cling).stripes(2).prev("10: A0 B0").prev("10: C0 B6");
    assert_eq!(input.legs_placed(), "A[20,22) / C[20,22)");
    assert_eq!(input.place().unwrap().method, Method::Rounds);
}

#[test]
fn anywhere_goes_on_with_what_a_round_has_left() {
    let input = on("A[0,13)[14,18)", 14, Anywhere).stripes(2);
    assert_eq!(input.legs_placed(), "A[0,6) A[12,13) / A[6,12) A[14,15)");
    assert_eq!(input.place().unwrap().method, Method::Rounds);
}

#[test]
fn anywhere_still_spreads_legs_where_it_can() {
    assert_eq!(
        on("A[0,8)[12,20) B[0,20)", 24, Anywhere).stripes(3).legs_placed(),
        "A[0,8) / B[0,8) / A[12,20)"
    );
}

#[test]
fn a_log_goes_where_most_legs_can_begin_beside_it() {
    // Four legs begin with three units each: two in the longest area beside the log, two in the next. The smallest area that
    // holds the log would leave room for three only.
    let input = with_log(on("A[0,10)[11,17)[18,20)[21,23)", 8, Anywhere).stripes(4), 1, 4);
    let input = input.set(|input| input.metadata_units = 2);
    let plan = input.place().unwrap();
    judge(&input, &plan).unwrap();
    assert_eq!((plan.method, pieces(&plan.log)), (Method::Exact, vec![('A', 0, 4)]));
}
