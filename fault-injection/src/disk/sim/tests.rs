use super::super::{ErrorCode, When};
use super::*;

fn disk() -> SimDisk {
    SimDisk::zeroed(64 << 10, 512, 4096)
}

fn put(disk: &SimDisk, offset: u64, byte: u8) -> io::Result<()> {
    disk.write_at(offset, &[byte; 512], Purpose::Journal)
}

fn get(disk: &SimDisk, offset: u64) -> u8 {
    let mut byte = [0];
    disk.read_at(offset, &mut byte).unwrap();
    byte[0]
}

fn on_medium(disk: &SimDisk, offset: usize) -> u8 {
    disk.durable_image()[offset]
}

#[test]
fn readers_see_the_cache_and_the_medium_the_flush() {
    let disk = disk();
    put(&disk, 0, 1).unwrap();
    assert_eq!((get(&disk, 0), on_medium(&disk, 0)), (1, 0));
    disk.flush().unwrap();
    put(&disk, 512, 2).unwrap();
    assert_eq!((on_medium(&disk, 0), on_medium(&disk, 512)), (1, 0));
    assert_eq!(disk.image()[512], 2);
    assert_eq!(disk.counts(), IoCounts { reads: 1, writes: 2, flushes: 1, ..IoCounts::default() });
    disk.restart_recording();
    assert_eq!((disk.trace().len(), on_medium(&disk, 512), disk.base().bytes()[512]), (0, 2, 2));
}

#[test]
fn a_flush_that_failed_once_loses_its_writes_without_a_word() {
    let disk = disk();
    disk.set_faults(FaultPlan::one(When::kind(IoKind::Flush), Fault::Fail(ErrorCode::Io)));
    put(&disk, 0, 1).unwrap();
    put(&disk, 512, 1).unwrap();
    assert_eq!(disk.flush().unwrap_err().raw_os_error(), Some(5));
    put(&disk, 512, 2).unwrap();
    put(&disk, 1024, 2).unwrap();
    disk.flush().unwrap();
    disk.flush().unwrap();
    assert_eq!((get(&disk, 0), get(&disk, 512), get(&disk, 1024)), (1, 2, 2));
    assert_eq!((on_medium(&disk, 0), on_medium(&disk, 512), on_medium(&disk, 1024)), (0, 2, 2));
    put(&disk, 0, 3).unwrap();
    disk.flush().unwrap();
    assert_eq!(on_medium(&disk, 0), 3);
}

#[test]
fn a_flush_that_fails_for_ever() {
    let disk = disk();
    let when = When::kind(IoKind::Flush).nth(1).for_ever();
    disk.set_faults(FaultPlan::one(when, Fault::Fail(ErrorCode::Io)));
    disk.flush().unwrap();
    for _ in 0..3 {
        put(&disk, 0, 1).unwrap();
        assert!(disk.flush().is_err());
    }
    assert_eq!((on_medium(&disk, 0), disk.faults_fired()), (0, 3));
    assert_eq!(disk.trace().events()[0], Event::Flush);
}

#[test]
fn a_flush_that_lies_keeps_nothing_until_an_honest_one() {
    let disk = disk();
    disk.set_faults(FaultPlan::one(When::kind(IoKind::Flush), Fault::LyingFlush));
    put(&disk, 0, 1).unwrap();
    disk.flush().unwrap();
    assert_eq!(on_medium(&disk, 0), 0);
    disk.flush().unwrap();
    assert_eq!(on_medium(&disk, 0), 1);
}

#[test]
fn failed_writes_and_preallocations() {
    let disk = disk();
    let plan = FaultPlan::one(When::kind(IoKind::Write), Fault::Fail(ErrorCode::NoSpace))
        .and(When::kind(IoKind::Write).nth(1), Fault::FailAfter { code: ErrorCode::Io, written_bytes: 100 })
        .and(When::kind(IoKind::Preallocate), Fault::Fail(ErrorCode::NoSpace))
        .and(When::kind(IoKind::Read), Fault::Fail(ErrorCode::Io));
    disk.set_faults(plan);
    assert_eq!(put(&disk, 0, 1).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(disk.read_at(0, &mut [0]).is_err());
    assert_eq!(get(&disk, 0), 0);
    assert!(put(&disk, 0, 1).is_err());
    assert_eq!((get(&disk, 99), get(&disk, 100)), (1, 0));
    assert!(disk.preallocate(0, 512).is_err());
    disk.preallocate(0, 512).unwrap();
    put(&disk, 0, 2).unwrap();
    assert_eq!(get(&disk, 511), 2);
}

#[test]
fn lost_and_misdirected() {
    let disk = disk();
    let plan = FaultPlan::one(When::kind(IoKind::Write).nth(1), Fault::LostWrite)
        .and(When::kind(IoKind::Write).nth(2), Fault::MisdirectedWrite { to: 8192 })
        .and(When::kind(IoKind::Write).nth(3), Fault::MisdirectedWrite { to: (64 << 10) - 100 })
        .and(When::kind(IoKind::Read).nth(2), Fault::MisdirectedRead { from: 8192 });
    disk.set_faults(plan);
    put(&disk, 0, 1).unwrap();
    put(&disk, 0, 2).unwrap();
    assert_eq!(get(&disk, 0), 1);
    put(&disk, 0, 3).unwrap();
    assert_eq!(get(&disk, 0), 1);
    assert_eq!(get(&disk, 0), 3);
    put(&disk, 0, 4).unwrap();
    assert_eq!((get(&disk, 0), get(&disk, (64 << 10) - 1)), (1, 4));
    assert_eq!(disk.faults_fired(), 4);
    disk.flush().unwrap();
    assert_eq!((on_medium(&disk, 0), on_medium(&disk, 8192)), (1, 3));
}

#[test]
fn rot_reaches_the_medium_and_not_the_dirty_cache() {
    let disk = disk();
    put(&disk, 0, 1).unwrap();
    disk.rot(0, &[0x80]);
    disk.rot(5000, &[0x80, 1]);
    assert_eq!((get(&disk, 0), on_medium(&disk, 0)), (1, 0x80));
    assert_eq!((get(&disk, 5001), on_medium(&disk, 5000)), (1, 0x80));
    disk.flush().unwrap();
    assert_eq!(on_medium(&disk, 0), 1);
    let rot = Fault::Rot { offset: 0, mask: vec![2] };
    disk.set_faults(FaultPlan::one(When::kind(IoKind::Read), rot));
    assert_eq!((get(&disk, 0), get(&disk, 0)), (3, 3));
    // Beyond the end there is nothing to rot.
    disk.rot(u64::MAX, &[1]);
}

#[test]
fn discards_leave_zeros_or_old_bytes() {
    let disk = disk();
    disk.write_at(0, &vec![7; 64 << 10], Purpose::Format).unwrap();
    disk.flush().unwrap();
    disk.discard(0, 32 << 10).unwrap();
    assert_eq!(on_medium(&disk, 0), 7);
    let image = disk.image();
    let zeroed = image[..32 << 10].chunks(512).filter(|sector| **sector == [0; 512]).count();
    assert!((10..54).contains(&zeroed), "{zeroed}");
    assert!(image.chunks(512).all(|sector| *sector == [0; 512] || *sector == [7; 512]));
    assert!(image[32 << 10..].iter().all(|&byte| byte == 7));
    disk.flush().unwrap();
    assert_eq!(disk.durable_image(), image);
}

#[test]
fn read_only_and_range_errors() {
    let disk = disk();
    assert!(put(&disk, 64 << 10, 1).is_err());
    assert_eq!(disk.read_at(65_000, &mut [0; 4096]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    disk.set_read_only(true);
    assert!(put(&disk, 0, 1).is_err() && disk.is_read_only());
    assert!(disk.trace().is_empty());
}
