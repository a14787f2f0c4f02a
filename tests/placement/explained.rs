//! Why areas were taken, and why others were not.

use freehold::placement::Policy::{Cling, Contiguous, Normal};
use freehold::placement::{Reason, Step};

use crate::input::on;

#[test]
fn each_round_tells_what_it_took_and_what_it_did_not() {
    let input = on("A[10,15)[20,22) B[0,100)", 10, Normal).prev("10: A0");
    let plan = input.place().unwrap();
    let told = input.with(|sources, request| plan.explain(sources, request));
    let rounds: Vec<_> =
        told.decisions.iter().map(|decision| (decision.step, decision.row, decision.length)).collect();
    let expected = [
        (Some(Step::Contiguous), 0, 5),
        (Some(Step::Cling), 5, 2),
        (Some(Step::Cling), 7, 0),
        (Some(Step::Normal), 7, 3),
    ];
    assert_eq!(rounds, expected);
    let reasons: Vec<_> =
        told.decisions.iter().map(|decision| decision.skipped.last().map(|other| &other.1.reason)).collect();
    assert_eq!(reasons[..3], [Some(&Reason::NotUsed), Some(&Reason::NotUsed), Some(&Reason::NotUsed)]);
    let text = told.to_string();
    for line in [
        "contiguous, rows 0 to 5: A[10,15)",
        "    not B: the volume is not on it",
        "cling, rows 5 to 7: A[20,22)",
        "normal, rows 7 to 10: B[0,3)",
        "    not A: no area has room",
        "10 of 10 units placed",
    ] {
        assert!(text.contains(line), "no {line:?} in:\n{text}");
    }
}

#[test]
fn a_request_that_fails_is_explained_too() {
    let text = on("A[11,100) B[0,100)", 10, Contiguous).prev("10: A0").explain().unwrap().to_string();
    assert!(text.contains("not A: no area begins with 10, where the leg ended"), "{text}");
    assert!(text.contains("nothing placed: 0 of 10 units of each leg"), "{text}");
    let text = on("A[0,9) B[0,20)", 10, Contiguous).explain().unwrap().to_string();
    assert!(text.contains("not A: no area holds a leg of 10, the longest gives 9"), "{text}");
    let text = on("A[20,30) B[0,100)", 20, Cling).prev("10: A0").explain().unwrap().to_string();
    assert!(text.contains("not B: the volume is not on it"), "{text}");
}

#[test]
fn ties_weights_and_tags_are_told_apart() {
    let text = on("A[0,9) B[0,9) C[0,4)", 9, Normal).explain().unwrap().to_string();
    assert!(text.contains("not B: gives no more, and comes later"), "{text}");
    let text = on("A[0,5) B[0,9) C[0,4)", 12, Normal).explain().unwrap().to_string();
    assert!(text.contains("not A: gives 5, those taken 9 or more"), "{text}");
    let input = on("A[0,9)@x B[0,9)@x C[0,9)", 10, Contiguous).stripes(2).tags(&["@x"]);
    let text = input.explain().unwrap().to_string();
    assert!(text.contains("not B: a listed tag in common with A, which is taken"), "{text}");
    let text = on("A[0,10) B[0,10) C[0,10)", 30, Normal).stripes(2).explain().unwrap().to_string();
    assert!(text.contains("exact search, rows"), "{text}");
    assert!(text.contains(" (given up)"), "{text}");
    let text = on("A[0,10) B[0,9)", 9, Normal).avoid(9, "A").explain().unwrap().to_string();
    assert!(text.contains("not A: to be avoided in these rows"), "{text}");
}

#[test]
fn the_reason_is_that_of_the_source() {
    // There is room behind the leg on A; it is B that has none.
    let text =
        on("A[10,20) B[11,20)", 5, Contiguous).mirrors(2).prev("10: A0 B0").explain().unwrap().to_string();
    assert!(text.contains("not A: has room, but not every leg finds such a source"), "{text}");
    assert!(text.contains("not B: no area begins with 10"), "{text}");
    // A is lighter than B for the first leg; that C is lighter still is the second leg's affair.
    let input =
        on("A[20,25) B[20,28) C[20,23)", 8, Cling).mirrors(2).prev("5: A0 C0").prev("5: B0 C6").approximate();
    let text = input.explain().unwrap().to_string();
    assert!(text.contains("not A: gives 5, those taken 8 or more"), "{text}");
}

#[test]
fn a_round_with_many_sources_tells_of_some() {
    let mut input = on("", 2000 * 3, Normal);
    for number in 0..2000 {
        let mut source = on("A[0,3)", 1, Normal).sources.remove(0);
        source.name = char::from_u32(0x4e00 + number).unwrap();
        input.sources.push(source);
    }
    let told = input.explain().unwrap();
    assert!(told.decisions.iter().all(|decision| decision.skipped.len() <= 64));
    assert!(told.to_string().contains("nor 1935 others"));
}
