//! What placing costs, by number of areas and sources: medians, and how they grow beside `n log n`.
//!
//! `cargo bench --bench placement`, seconds. The goal is 200 us for 10,000 areas on 64 sources.

#![allow(
    missing_docs,
    clippy::cast_precision_loss,
    clippy::expect_used,
    reason = "a program that prints a table"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use freehold::placement::{Area, Method, Origin, Policy, Request, Segment, Source, place};

/// How long each case runs, and how often at least.
const TURN: Duration = Duration::from_millis(200);
const LEAST: usize = 5;

/// Areas of 1 to 64 units on sources, in a fixed disorder.
struct Map {
    areas: Vec<Vec<Area>>,
    units: u64,
}

impl Map {
    fn new(areas: usize, sources: usize) -> Self {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut units = 0;
        let of = |source: usize| {
            let count = areas / sources + usize::from(source < areas % sources);
            // The first 64 units of each are in use.
            let mut at = 64;
            let area = |_| {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let length = 1 + (random >> 58);
                let start = at + 1 + (random >> 32) % 16;
                at = start + length;
                units += length;
                Area::new(start, at)
            };
            (0..count).map(area).collect()
        };
        let areas = (0..sources).map(of).collect();
        Self { areas, units }
    }

    fn sources(&self) -> Vec<Source<'_, usize>> {
        self.areas.iter().enumerate().map(|(handle, areas)| Source::new(handle, areas)).collect()
    }
}

/// What is asked for, on a map of so many units.
type Ask = fn(units: u64, previous: &'static [Segment<'static, usize>]) -> Request<'static, usize>;

static ORIGINS: [Origin<usize>; 1] = [Origin { source: 0, start: 0 }];
static PREVIOUS: [Segment<'static, usize>; 1] = [Segment { units: 64, legs: &ORIGINS }];

const CASES: [(&str, Ask); 8] = [
    ("one leg in one area", |_, _| Request::new(40, Policy::Normal)),
    ("one leg goes on, 100 pieces", |_, previous| Request {
        previous,
        ..Request::new(3_200, Policy::Normal)
    }),
    ("three legs, one area each", |_, _| Request { stripes: 3, ..Request::new(120, Policy::Normal) }),
    ("three legs, 10 pieces each", |_, _| Request { stripes: 3, ..Request::new(1_920, Policy::Normal) }),
    ("three legs, anywhere", |_, _| Request { stripes: 3, ..Request::new(1_920, Policy::Anywhere) }),
    ("one leg, half of all space", |units, _| Request::new(units / 2, Policy::Normal)),
    ("two legs, half of all space", |units, _| Request {
        stripes: 2,
        ..Request::new(units / 4 * 2, Policy::Normal)
    }),
    ("two legs, half, anywhere", |units, _| Request {
        stripes: 2,
        ..Request::new(units / 4 * 2, Policy::Anywhere)
    }),
];

/// Median time of a placement in microseconds.
fn measure(map: &Map, ask: Ask) -> f64 {
    let (sources, request) = (map.sources(), ask(map.units, &PREVIOUS));
    let mut times = Vec::new();
    let began = Instant::now();
    while times.len() < LEAST || began.elapsed() < TURN {
        let before = Instant::now();
        let plan = place(black_box(&sources), black_box(&request)).expect("there is space");
        times.push(before.elapsed().as_secs_f64() * 1e6);
        assert!(plan.method == Method::Rounds, "the rounds are measured");
    }
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn table(title: &str, sizes: &[(usize, usize)]) {
    println!("\n{title}, microseconds; in brackets the growth for each column beside that of n log n");
    print!("{:<30}", "areas on sources");
    sizes.iter().for_each(|(areas, sources)| print!("{:>22}", format!("{areas} on {sources}")));
    println!();
    let maps: Vec<Map> = sizes.iter().map(|&(areas, sources)| Map::new(areas, sources)).collect();
    let cost = |(areas, sources): (usize, usize)| {
        let n = (areas + sources) as f64;
        n * n.log2()
    };
    for (name, ask) in CASES {
        print!("{name:<30}");
        let mut before: Option<(f64, f64)> = None;
        for (map, &size) in maps.iter().zip(sizes) {
            let time = measure(map, ask);
            let growth = before.map_or(String::new(), |(time_before, cost_before)| {
                format!("({:.2})", time / time_before / (cost(size) / cost_before))
            });
            print!("{:>22}", format!("{time:.1} {growth:>7}"));
            before = Some((time, cost(size)));
        }
        println!();
    }
}

fn main() {
    table("By number of areas", &[(1_000, 64), (10_000, 64), (100_000, 64)]);
    table("By number of sources", &[(10_000, 8), (10_000, 64), (10_000, 1_000), (10_000, 10_000)]);
    table("By both", &[(1_000, 1_000), (10_000, 10_000), (100_000, 100_000)]);
}
