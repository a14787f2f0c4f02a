//! Every small instance beside an exhaustive search: sources with areas of 1 to 6 units, legs of 1 to 6 units, 1 to 3 of
//! them, all policies.

use std::sync::LazyLock;

use freehold::placement::{Area, Method, Policy, Request, Source, place};

use crate::random::POLICIES;

const SOURCES: usize = 4;
const LEGS: usize = 3;
const LONGEST: u64 = 6;
/// Units that a source has at most.
const MOST: usize = 3 * LONGEST as usize;

/// Lengths of the areas of one source, ascending; how they lie changes nothing but ties.
type Lengths = Vec<u64>;

/// All ways for a source to have up to so many areas.
fn lengths(areas: usize) -> Vec<Lengths> {
    let mut all = vec![Vec::new()];
    let mut from = 0;
    for _ in 0..areas {
        let longer: Vec<Lengths> = all[from..]
            .iter()
            .flat_map(|shorter| {
                let least = shorter.last().copied().unwrap_or(1);
                (least..=LONGEST).map(|length| shorter.iter().copied().chain([length]).collect())
            })
            .collect();
        from = all.len();
        all.extend(longer);
    }
    all
}

/// Whether rows of one unit on each of `legs` different sources can be taken so often from sources with so many units:
/// every choice is tried for each row. By legs, rows and units of each source.
struct RowsExist(Vec<bool>);

static ROWS_EXIST: LazyLock<RowsExist> = LazyLock::new(|| {
    let size = (MOST + 1).pow(SOURCES as u32);
    let mut known = vec![false; LEGS * (LONGEST as usize + 1) * size];
    for legs in 1..=LEGS {
        for rows in 0..=LONGEST as usize {
            for code in 0..size {
                let units: Vec<usize> =
                    (0..SOURCES).map(|at| code / (MOST + 1).pow(at as u32) % (MOST + 1)).collect();
                let sets = (0..1_usize << SOURCES).filter(|set| set.count_ones() as usize == legs);
                let exist = rows == 0
                    || sets.into_iter().any(|set| {
                        let chosen = (0..SOURCES).filter(|at| set >> at & 1 == 1);
                        let mut next = code;
                        chosen.into_iter().all(|at| {
                            next = next.wrapping_sub((MOST + 1).pow(at as u32));
                            units[at] > 0
                        }) && known[at(legs, rows - 1, next)]
                    });
                known[at(legs, rows, code)] = exist;
            }
        }
    }
    RowsExist(known)
});

fn at(legs: usize, rows: usize, code: usize) -> usize {
    ((legs - 1) * (LONGEST as usize + 1) + rows) * (MOST + 1).pow(SOURCES as u32) + code
}

impl RowsExist {
    fn on(&self, units: &[u64], legs: usize, rows: u64) -> bool {
        let code = units.iter().rev().fold(0, |code, &units| code * (MOST + 1) + units as usize);
        self.0[at(legs, rows as usize, code)]
    }
}

/// What is allowed, by trying everything.
fn exists(sources: &[&Lengths], legs: usize, rows: u64, policy: Policy) -> bool {
    let units: Vec<u64> = sources.iter().map(|lengths| lengths.iter().sum()).collect();
    match policy {
        Policy::Anywhere => units.iter().sum::<u64>() >= legs as u64 * rows,
        Policy::Contiguous => {
            sources.iter().filter(|lengths| lengths.iter().any(|&length| length >= rows)).count() >= legs
        }
        Policy::Normal => ROWS_EXIST.on(&units, legs, rows),
        _ => (0..1_u32 << sources.len()).filter(|set| set.count_ones() as usize == legs).any(|set| {
            let only: Vec<u64> = units
                .iter()
                .enumerate()
                .map(|(at, &units)| if set >> at & 1 == 1 { units } else { 0 })
                .collect();
            ROWS_EXIST.on(&only, legs, rows)
        }),
    }
}

/// How many instances were placed by the rounds, placed by the exact search, and not placed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    rounds: u64,
    exact: u64,
    none: u64,
}

fn compare(sources: &[&Lengths], count: &mut Count) {
    let areas: Vec<Vec<Area>> = sources
        .iter()
        .map(|lengths| {
            let mut end = 0;
            let areas = lengths.iter().map(|&length| {
                let start = end;
                end = start + length + 1;
                Area::new(start, start + length)
            });
            areas.collect()
        })
        .collect();
    let offered: Vec<Source<'_, usize>> =
        areas.iter().enumerate().map(|(handle, areas)| Source::new(handle, areas)).collect();
    for policy in POLICIES {
        for legs in 1..=LEGS {
            for rows in 1..=LONGEST {
                let request = Request { stripes: legs as u32, ..Request::new(rows * legs as u64, policy) };
                let placed = place(&offered, &request);
                let context = || format!("{sources:?}, {legs} legs of {rows}, {policy:?}: {placed:?}");
                let is_allowed = exists(sources, legs, rows, policy);
                assert_eq!(placed.is_ok(), is_allowed, "{}", context());
                match &placed {
                    Ok(plan) => {
                        let length = |leg: &Vec<_>| {
                            leg.iter()
                                .map(|piece: &freehold::placement::Piece<usize>| piece.length)
                                .sum::<u64>()
                        };
                        assert!(plan.legs.iter().all(|leg| length(leg) == rows), "{}", context());
                        *(if plan.method == Method::Exact { &mut count.exact } else { &mut count.rounds }) +=
                            1;
                    }
                    Err(_) => count.none += 1,
                }
            }
        }
    }
}

/// All instances of so many sources, whose areas are fewer than `areas` in all.
fn each(
    choices: &[Lengths],
    sources: usize,
    areas: usize,
    chosen: &mut Vec<usize>,
    then: &mut dyn FnMut(&[&Lengths]),
) {
    if chosen.len() == sources {
        let lengths: Vec<&Lengths> = chosen.iter().map(|&choice| &choices[choice]).collect();
        return then(&lengths);
    }
    for (choice, lengths) in choices.iter().enumerate() {
        if lengths.len() <= areas {
            chosen.push(choice);
            each(choices, sources, areas - lengths.len(), chosen, then);
            chosen.pop();
        }
    }
}

#[test]
fn with_three_areas_in_all() {
    let choices = lengths(3);
    let mut count = Count::default();
    for sources in 1..=SOURCES {
        each(&choices, sources, 3, &mut Vec::new(), &mut |sources| compare(sources, &mut count));
    }
    assert!(count.exact > 100 && count.none > 100 && count.rounds > 100, "{count:?}");
    println!("{count:?}");
}

/// With up to three areas on each source, in every order of up to three sources, and four in ascending order: 254 million
/// requests, some minutes when optimised. `cargo test --release --test placement -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes: run it after a change of the rules, optimised"]
fn with_three_areas_on_each_source() {
    let choices = lengths(3);
    let mut totals = Count::default();
    let mut add = |count: Count| {
        totals.rounds += count.rounds;
        totals.exact += count.exact;
        totals.none += count.none;
    };
    for sources in 1..SOURCES {
        let mut count = Count::default();
        each(&choices, sources, 9, &mut Vec::new(), &mut |sources| compare(sources, &mut count));
        add(count);
    }
    let (choices, next) = (&choices, &std::sync::atomic::AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let worker = || {
            scope.spawn(move || {
                let mut count = Count::default();
                loop {
                    let a = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(first) = choices.get(a) else { return count };
                    for b in a..choices.len() {
                        for c in b..choices.len() {
                            for fourth in &choices[c..] {
                                compare(&[first, &choices[b], &choices[c], fourth], &mut count);
                            }
                        }
                    }
                }
            })
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| worker()).collect();
        workers.into_iter().for_each(|worker| add(worker.join().unwrap()));
    });
    println!("{totals:?}");
}
