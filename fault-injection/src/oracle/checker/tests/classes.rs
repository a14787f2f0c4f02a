//! Classes of segments, which bound their free runs.

use freehold::AllocRequest;

use super::forge::Forge;
use super::rejections::closed;
use super::{Bench, SHAPES, agree, run};

#[test]
fn classes_that_do_not_bound() {
    let forge = closed();
    let extents = forge.examine().unwrap().extents;
    let segment_of = |pages: u64| {
        let extent = extents.iter().find(|extent| extent.len == pages * 4096).unwrap();
        forge.place(extent.offset / 4096).0
    };
    let class = |segment: usize, class: u8| {
        let mut forge = forge.clone();
        forge.change_record(segment, 1, &[class]);
        forge
    };
    let (full, part) = (segment_of(16), segment_of(4));
    class(full, 1).refused("it has a class, but no free pages");
    class(part, 0).refused("it has free pages, but no class");
    class(part, 5).examine().unwrap();
    class(part, 6).refused("its class is above that of a whole segment");

    // A free run of 178 pages, in which no more than 64 are aligned.
    let mut bench = Bench::new(SHAPES[4]);
    bench.open();
    let page = bench.shape.page_bytes;
    for _ in 0..7 {
        bench.allocate_all(&[(AllocRequest::bytes(64 * page).power_of_two(), 1)]);
    }
    for first in [64, 128] {
        let number = bench.live.iter().position(|info| info.extent.offset == first * page).unwrap();
        bench.free(number);
    }
    assert_eq!(agree(&bench).extents.len(), 5);
    run(bench.store().close());
    let forge = Forge::of(&bench.disk);
    // The last class is that of a whole segment.
    for (role, least) in [(1, 7), (2, 8)] {
        for class in 1..=10 {
            let mut forge = forge.clone();
            forge.change_record(0, 0, &[role, class]);
            if class < least {
                forge.refused("its class does not bound its free runs");
            } else {
                forge.examine().unwrap();
            }
        }
    }
}
