use std::collections::HashSet;
use std::sync::Arc;

use freehold::device::{Device, Purpose};

use super::super::{CutWalker, ErrorCode, Fault, FaultPlan, IoKind, SimDisk, Trace, When};
use super::*;

const LEN: u64 = 32 << 10;

fn disk() -> SimDisk {
    SimDisk::zeroed(LEN, 512, 4096)
}

fn put(disk: &SimDisk, offset: u64, len: usize, byte: u8) {
    disk.write_at(offset, &vec![byte; len], Purpose::Journal).unwrap();
}

/// Works on the cut at a position, with a disk to apply its states to.
fn at<T>(sim: &SimDisk, position: usize, work: impl FnOnce(&Cut, &CowDisk) -> T) -> T {
    let trace = sim.trace();
    let mut walker = CutWalker::new(&trace, sim.base(), &sim.geometry());
    work(walker.cut_at(position), &CowDisk::new(sim.base(), 512, 4096))
}

fn state(cut: &Cut, disk: &CowDisk, keep: Keep) -> Arc<[u8]> {
    cut.apply(&cut.choice(keep), disk).unwrap();
    disk.image()
}

fn torn(cut: &Cut, disk: &CowDisk, keep: Keep, sector: u64, kind: TearKind) -> Arc<[u8]> {
    cut.apply(&Choice { tear: Some(Tear { sector, kind }), ..cut.choice(keep) }, disk).unwrap();
    disk.image()
}

fn distinct(cut: &Cut, disk: &CowDisk) -> usize {
    let mut images = HashSet::new();
    let mut hashes = HashSet::new();
    for choice in cut.subsets(1 << 12, 0, &mut Rng::new(0)) {
        cut.apply(&choice, disk).unwrap();
        hashes.insert(disk.content_hash());
        images.insert(disk.image());
    }
    assert_eq!(images.len(), hashes.len());
    images.len()
}

#[test]
fn flushed_stays_and_unflushed_may_vanish() {
    let sim = disk();
    put(&sim, 0, 512, 1);
    sim.flush().unwrap();
    sim.mark(5);
    put(&sim, 512, 512, 2);
    put(&sim, 1024, 512, 3);
    let bytes = |image: &[u8]| (image[0], image[512], image[1024]);
    at(&sim, 0, |cut, disk| {
        assert_eq!(bytes(&state(cut, disk, Keep::None)), (0, 0, 0));
        assert_eq!(bytes(&state(cut, disk, Keep::All)), (1, 0, 0));
    });
    // The flush itself is in flight: nothing is certain yet.
    at(&sim, 1, |cut, disk| {
        assert_eq!((cut.pending_writes().len(), cut.acknowledged()), (1, None));
        assert_eq!(bytes(&state(cut, disk, Keep::None)), (0, 0, 0));
    });
    at(&sim, 3, |cut, disk| {
        assert_eq!((cut.pending_writes().len(), cut.acknowledged()), (1, Some(5)));
        assert_eq!(bytes(&state(cut, disk, Keep::None)), (1, 0, 0));
    });
    at(&sim, 5, |cut, disk| {
        assert_eq!(bytes(&state(cut, disk, Keep::First(1))), (1, 2, 0));
        assert_eq!(bytes(&state(cut, disk, Keep::Writes(2))), (1, 0, 3));
        assert_eq!(state(cut, disk, Keep::All), sim.image());
        assert_eq!(state(cut, disk, Keep::None), sim.durable_image());
        assert_eq!(cut.prefixes().count(), 3);
    });
}

#[test]
fn independent_sectors_double_the_states() {
    let sim = disk();
    for sector in 0..5u8 {
        put(&sim, u64::from(sector) * 1024, 512, sector + 1);
        at(&sim, usize::from(sector), |cut, disk| {
            let expected = 2usize << sector;
            assert_eq!((cut.combinations(), distinct(cut, disk)), (expected as u64, expected));
        });
    }
}

#[test]
fn versions_of_a_sector_keep_their_order() {
    let sim = disk();
    put(&sim, 512, 512, 1);
    put(&sim, 512, 512, 2);
    at(&sim, 1, |cut, disk| {
        assert_eq!((cut.combinations(), distinct(cut, disk)), (3, 3));
        assert_eq!(state(cut, disk, Keep::Writes(0b10))[512], 2);
        assert_eq!(state(cut, disk, Keep::Writes(0b01))[512], 1);
    });
    // Two writes of part of one sector: the second is on top of the first.
    put(&sim, 512, 8, 3);
    put(&sim, 2048, 1024, 4);
    at(&sim, 3, |cut, disk| {
        assert_eq!((cut.combinations(), distinct(cut, disk), cut.pending_sectors()), (16, 16, 3));
        let image = state(cut, disk, Keep::Writes(0b100));
        assert_eq!((image[519], image[520]), (3, 2));
        assert_eq!(state(cut, disk, Keep::Sectors(4 * 2))[2560], 4);
    });
}

#[test]
fn torn_sectors() {
    let sim = disk();
    put(&sim, 512, 512, 1);
    put(&sim, 512, 512, 2);
    at(&sim, 1, |cut, disk| {
        let image = torn(cut, disk, Keep::None, 1, TearKind::Prefix(100));
        assert_eq!((image[511], image[512], image[611], image[612], image[1024]), (0, 1, 1, 0, 0));
        let image = torn(cut, disk, Keep::First(1), 1, TearKind::Suffix(100));
        assert_eq!((image[512], image[923], image[924], image[1023]), (1, 1, 2, 2));
        // With everything kept, the last version is the one that tears.
        assert_eq!(torn(cut, disk, Keep::All, 1, TearKind::Suffix(100)), image);
        let image = torn(cut, disk, Keep::All, 1, TearKind::Garbage(Fill::Ones));
        assert_eq!((image[511], image[512], image[1023], image[1024]), (0, 255, 255, 0));
        let random = TearKind::Garbage(Fill::Random(4));
        let image = torn(cut, disk, Keep::All, 1, random);
        assert!(image[512..1024].iter().collect::<HashSet<_>>().len() > 100);
        assert_eq!(torn(cut, disk, Keep::None, 1, random), image);
        let image = torn(cut, disk, Keep::All, 1, TearKind::Block(Fill::Ones));
        assert_eq!((image[0], image[4095], image[4096]), (255, 255, 0));
        let outside =
            Choice { tear: Some(Tear { sector: 2, kind: TearKind::Prefix(1) }), ..cut.choice(Keep::All) };
        assert_eq!(cut.apply(&outside, disk), Err(ChoiceError::NotPending { sector: 2 }));
        let elsewhere = Choice { cut: 0, keep: Keep::All, tear: None };
        assert!(matches!(cut.apply(&elsewhere, disk), Err(ChoiceError::WrongCut { choice: 0, cut: 1 })));
    });
}

#[test]
fn failed_and_lying_flushes_cover_nothing() {
    let sim = disk();
    let plan = FaultPlan::one(When::kind(IoKind::Flush), Fault::Fail(ErrorCode::Io))
        .and(When::kind(IoKind::Flush).nth(2), Fault::LyingFlush);
    sim.set_faults(plan);
    put(&sim, 0, 1024, 1);
    assert!(sim.flush().is_err());
    put(&sim, 512, 512, 2);
    sim.flush().unwrap();
    put(&sim, 2048, 512, 3);
    sim.flush().unwrap();
    let bytes = |image: &[u8]| (image[0], image[512], image[2048]);
    at(&sim, 6, |cut, disk| {
        assert!(cut.pending_writes()[0].is_forgotten() && !cut.pending_writes()[1].is_forgotten());
        assert_eq!(bytes(&state(cut, disk, Keep::None)), (0, 2, 0));
        assert_eq!(bytes(&state(cut, disk, Keep::Writes(1))), (1, 2, 0));
        assert_eq!(bytes(&state(cut, disk, Keep::Writes(2))), (0, 2, 3));
        assert_eq!((cut.combinations(), distinct(cut, disk)), (4, 4));
    });
    sim.flush().unwrap();
    at(&sim, 7, |cut, disk| {
        assert_eq!(bytes(&state(cut, disk, Keep::None)), (0, 2, 3));
        assert_eq!(cut.pending_writes().len(), 1);
    });
}

/// A long random history with every kind of event.
fn history(seed: u64) -> (SimDisk, Trace) {
    let mut rng = Rng::new(seed);
    let sim = disk();
    let plan = FaultPlan::one(When::kind(IoKind::Flush).nth(3), Fault::Fail(ErrorCode::Io))
        .and(When::kind(IoKind::Flush).nth(9), Fault::LyingFlush)
        .and(When::kind(IoKind::Write).nth(20), Fault::LostWrite)
        .and(When::kind(IoKind::Write).nth(30), Fault::MisdirectedWrite { to: LEN - 100 });
    sim.set_faults(plan);
    for step in 0..200 {
        let offset = rng.below(LEN - 3000);
        match rng.below(10) {
            0..6 => {
                let mut data = vec![0; rng.index(3000)];
                rng.bytes(&mut data);
                sim.write_at(offset, &data, Purpose::Metadata).unwrap();
            }
            6 => sim.discard(offset, rng.below(3000)).unwrap(),
            7 => sim.rot(offset, &[1, 2, 3]),
            8 => sim.mark(step),
            _ => drop(sim.flush()),
        }
    }
    let trace = sim.trace();
    (sim, trace)
}

#[test]
fn walker_and_disk_agree_and_one_seed_gives_one_history() {
    for seed in 0..10 {
        let (sim, trace) = history(seed);
        assert_eq!(history(seed).1, trace);
        at(&sim, usize::MAX, |cut, disk| {
            assert_eq!(cut.position(), trace.len());
            assert_eq!(state(cut, disk, Keep::None), sim.durable_image());
        });
    }
}

#[test]
fn states_can_be_replayed_from_their_line() {
    let (sim, trace) = history(3);
    let disk = CowDisk::new(sim.base(), 512, 4096);
    let mut walker = CutWalker::new(&trace, sim.base(), &sim.geometry());
    let mut rng = Rng::new(1);
    let sampling = Sampling { exhaustive: 16, sampled: 5, torn: 5, garbage_blocks: 2 };
    let mut lines = Vec::new();
    for position in trace.io_points().chain([trace.len()]) {
        let cut = walker.cut_at(position);
        for choice in cut.choices(&sampling, &mut rng) {
            cut.apply(&choice, &disk).unwrap();
            lines.push((choice.to_string(), disk.content_hash()));
        }
    }
    assert!(lines.len() > 1000);
    let mut order: Vec<usize> = (0..lines.len()).collect();
    rng.shuffle(&mut order);
    for index in order.into_iter().take(100) {
        let (line, hash) = &lines[index];
        let choice: Choice = line.parse().unwrap();
        walker.cut_at(choice.cut).apply(&choice, &disk).unwrap();
        assert_eq!(disk.content_hash(), *hash, "{line}");
        assert_eq!(CowBase::new(disk.image(), 512).hash(), *hash, "{line}");
    }
}

#[test]
fn sampling_reaches_whole_writes_and_single_sectors() {
    let sim = disk();
    put(&sim, 0, 4096, 1);
    put(&sim, 8192, 4096, 2);
    at(&sim, 1, |cut, disk| {
        let mut seen = HashSet::new();
        for choice in cut.subsets(1, 400, &mut Rng::new(2)) {
            let image = state(cut, disk, choice.keep);
            let count = |start: usize| (0..8).filter(|n| image[start + n * 512] != 0).count();
            seen.insert((count(0), count(8192)));
        }
        for pair in [(0, 0), (8, 0), (0, 8), (8, 8)] {
            assert!(seen.contains(&pair), "{pair:?}");
        }
        assert!(seen.iter().any(|&(a, b)| (1..8).contains(&a) && (1..8).contains(&b)));
        assert!(cut.torn_sector(&mut Rng::new(0)).is_some());
    });
    sim.flush().unwrap();
    at(&sim, 3, |cut, _| {
        assert_eq!(cut.combinations(), 1);
        assert!(cut.torn_sector(&mut Rng::new(0)).is_none());
        assert!(cut.garbage_block(&mut Rng::new(0)).is_none());
    });
}

#[test]
fn sectors_that_do_not_change_make_no_states() {
    let sim = disk();
    put(&sim, 0, 1024, 1);
    sim.flush().unwrap();
    put(&sim, 0, 512, 1);
    put(&sim, 512, 512, 2);
    at(&sim, 4, |cut, disk| {
        assert_eq!((cut.combinations(), cut.pending_sectors()), (2, 2));
        assert_eq!(distinct(cut, disk), 2);
        let lines = cut.describe(&cut.choice(Keep::Sectors(1)));
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with("changes nothing") && lines[1].ends_with("kept"), "{lines:?}");
    });
    // Back to what it was, by a detour: the version in between counts.
    put(&sim, 0, 512, 9);
    put(&sim, 0, 512, 1);
    at(&sim, 6, |cut, disk| assert_eq!((cut.combinations(), distinct(cut, disk)), (8, 4)));
}

#[test]
fn what_recovery_does_not_read_is_left_apart() {
    let sim = disk();
    sim.write_at(0, &[1; 4096], Purpose::CallerDirect).unwrap();
    sim.write_at(8192, &[1; 1024], Purpose::Journal).unwrap();
    at(&sim, 2, |cut, disk| {
        assert_eq!(cut.combinations(), 1 << 10);
        let choices = cut.subsets(16, 32, &mut Rng::new(1));
        let mut seen = [0; 4];
        let mut direct = HashSet::new();
        for choice in &choices {
            assert!(matches!(choice.keep, Keep::Apart { .. }), "{choice}");
            cut.apply(choice, disk).unwrap();
            let image = disk.image();
            seen[usize::from(image[8192]) + 2 * usize::from(image[8192 + 512])] += 1;
            direct.insert(image[..4096].to_vec());
        }
        assert!(seen.iter().all(|&count| count > 0), "{seen:?}");
        assert!(direct.len() > 1);
        // Few enough: every one of them.
        assert_eq!(cut.subsets(1 << 10, 0, &mut Rng::new(1)).len(), 1 << 10);
    });
}
