use std::io::ErrorKind;

use rustix::fs::{CWD, FileType, Mode};
use tempfile::TempDir;

use super::*;
use crate::device::AlignedBuf;

const LEN: u64 = 64 << 10;

fn scratch() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    (dir, path)
}

fn create(path: &Path) -> FileDevice {
    FileDeviceOptions::new().create_len(Some(LEN)).open(path).unwrap()
}

/// A new device under direct I/O, unless the file system of the test has none.
fn create_direct(path: &Path, sector_bytes: Option<u32>) -> Option<FileDevice> {
    let options = FileDeviceOptions::new().create_len(Some(LEN)).direct_io(true).sector_bytes(sector_bytes);
    match options.open(path) {
        Ok(device) => Some(device),
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::Unsupported => {
            eprintln!("skipped: {source}");
            assert!(!path.exists(), "the remains of the creation are gone");
            None
        }
        Err(other) => panic!("{other}"),
    }
}

fn open_error(options: FileDeviceOptions, path: &Path) -> (ErrorKind, String) {
    match options.open(path) {
        Err(error @ Error::Io { operation: IoOperation::Open, .. }) => {
            let Error::Io { source, .. } = &error else { unreachable!() };
            (source.kind(), error.to_string())
        }
        other => panic!("expected an error of opening, got {other:?}"),
    }
}

fn file_len(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

#[test]
fn a_new_file_has_the_length_asked_for_and_keeps_its_bytes() {
    let (_dir, path) = scratch();
    let device = create(&path);
    let geometry = device.geometry();
    assert_eq!((geometry.len_bytes, geometry.sector_bytes), (LEN, 512));
    assert!(geometry.physical_block_bytes >= 4096);
    assert!(!device.is_block_device() && !device.is_direct() && !device.is_read_only() && device.may_block());
    assert!(device.writes_into_cache());
    assert_eq!(device.path(), path);
    device.write_at(100, b"hello", Purpose::CallerDirect).unwrap();
    device.flush().unwrap();
    drop(device);

    let device = FileDeviceOptions::new().sector_bytes(Some(4096)).open(&path).unwrap();
    assert_eq!(device.geometry().sector_bytes, 4096);
    let mut buf = [0; 7];
    device.read_at(99, &mut buf).unwrap();
    assert_eq!(&buf, b"\0hello\0");
    drop(device);

    let (kind, _) = open_error(FileDeviceOptions::new().create_len(Some(1)), &path);
    assert_eq!(kind, ErrorKind::AlreadyExists);
    assert_eq!(file_len(&path), LEN);
}

#[test]
fn what_is_neither_file_nor_block_device_is_refused_by_name() {
    let (dir, path) = scratch();
    let options = FileDeviceOptions::new();
    for options in [options, options.read_only(true)] {
        let (kind, text) = open_error(options, &path);
        assert_eq!(kind, ErrorKind::NotFound);
        assert!(text.contains("store"), "{text}");
        let (kind, text) = open_error(options, dir.path());
        assert_eq!(kind, ErrorKind::IsADirectory);
        assert!(text.contains("a directory"), "{text}");
        let (_, text) = open_error(options, Path::new("/dev/null"));
        assert!(text.contains("a character device"), "{text}");
    }
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    for options in [options, options.read_only(true)] {
        let (kind, text) = open_error(options, &path);
        assert_eq!(kind, ErrorKind::InvalidInput);
        assert!(text.contains("a FIFO"), "{text}");
    }
}

#[test]
fn options_that_make_no_sense_are_refused_before_anything_is_touched() {
    let (_dir, path) = scratch();
    let creating = FileDeviceOptions::new().create_len(Some(LEN));
    for options in
        [creating.read_only(true), creating.sector_bytes(Some(256)), creating.sector_bytes(Some(1000))]
    {
        assert_eq!(open_error(options, &path).0, ErrorKind::InvalidInput);
        assert!(!path.exists());
    }
}

#[test]
fn a_file_that_cannot_get_its_length_is_removed() {
    let (_dir, path) = scratch();
    open_error(FileDeviceOptions::new().create_len(Some(u64::MAX)), &path);
    assert!(!path.exists());
}

#[test]
fn one_writer_or_many_readers() {
    let (_dir, path) = scratch();
    let writer = create(&path);
    let reading = FileDeviceOptions::new().read_only(true);
    for options in [FileDeviceOptions::new(), reading] {
        assert_eq!(options.open(&path).unwrap_err().kind(), "locked");
    }
    drop(writer);
    let readers = [reading.open(&path).unwrap(), reading.open(&path).unwrap()];
    assert_eq!(FileDeviceOptions::new().open(&path).unwrap_err().kind(), "locked");
    drop(readers);
    FileDeviceOptions::new().open(&path).unwrap();
}

#[test]
fn a_reader_refuses_every_change() {
    let (_dir, path) = scratch();
    drop(create(&path));
    let device = FileDeviceOptions::new().read_only(true).open(&path).unwrap();
    assert!(device.is_read_only());
    for result in [
        device.write_at(0, &[1], Purpose::Journal),
        device.discard(0, 4096),
        device.preallocate(0, 4096),
        device.write_at(0, &[], Purpose::Journal),
    ] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
    device.flush().unwrap();
    let mut buf = [1];
    device.read_at(LEN - 1, &mut buf).unwrap();
    assert_eq!(buf, [0]);
}

#[test]
fn nothing_reaches_beyond_the_end() {
    let (_dir, path) = scratch();
    let device = create(&path);
    for (offset, len) in [(LEN, 1), (LEN - 1, 2), (LEN + 1, 0), (u64::MAX, 1), (u64::MAX - 1, 4)] {
        let data = vec![1; usize::try_from(len).unwrap()];
        let changes = [
            device.write_at(offset, &data, Purpose::CallerDirect),
            device.discard(offset, len),
            device.preallocate(offset, len),
        ];
        for result in changes {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput, "{len} bytes at {offset}");
        }
        let mut buf = data;
        let read = device.read_at(offset, &mut buf);
        assert_eq!(read.unwrap_err().kind(), ErrorKind::UnexpectedEof, "{len} bytes at {offset}");
    }
    device.write_at(LEN - 1, &[1], Purpose::CallerDirect).unwrap();
    device.write_at(LEN, &[], Purpose::CallerDirect).unwrap();
    assert_eq!(file_len(&path), LEN);
}

#[test]
fn what_the_cache_has_is_read_at_once() {
    let (_dir, path) = scratch();
    let device = create(&path);
    device.write_at(100, b"hello", Purpose::CallerDirect).unwrap();
    let mut bytes = [0; 5];
    let read = device.read_at_once(100, &mut bytes);
    if device.cannot_tell.load(Ordering::Relaxed) {
        return eprintln!("skipped: the file system cannot tell");
    }
    assert!(read && &bytes == b"hello", "what was just written is in the cache");
    // Beyond the end there is nothing, however long the file has become meanwhile.
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(2 * LEN).unwrap();
    for offset in [LEN - 4, LEN, u64::MAX - 2] {
        assert!(!device.read_at_once(offset, &mut bytes));
    }
    let (_dir, path) = scratch();
    if let Some(direct) = create_direct(&path, None) {
        direct.write_at(0, &[1; 4096], Purpose::CallerDirect).unwrap();
        let mut aligned = AlignedBuf::zeroed(4096, 4096);
        assert!(!direct.read_at_once(0, &mut aligned), "a read past the cache waits");
    }
}

#[test]
fn a_file_cut_short_behind_the_back_is_an_error() {
    let (_dir, path) = scratch();
    let device = create(&path);
    OpenOptions::new().write(true).open(&path).unwrap().set_len(1000).unwrap();
    let mut buf = [0; 100];
    assert_eq!(device.read_at(950, &mut buf).unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn space_is_given_and_taken_without_changing_the_length() {
    let (_dir, path) = scratch();
    let device = create(&path);
    device.write_at(8000, &[5; 1000], Purpose::CallerDirect).unwrap();
    device.preallocate(0, LEN).unwrap();
    device.preallocate(LEN, 0).unwrap();
    let mut buf = [0; 1000];
    device.read_at(8000, &mut buf).unwrap();
    assert_eq!(buf, [5; 1000]);
    device.discard(4096, 8192).unwrap();
    device.discard(0, 0).unwrap();
    device.flush().unwrap();
    assert_eq!(file_len(&path), LEN);
}

#[test]
fn direct_io_takes_any_alignment_and_keeps_neighbours() {
    for sector_bytes in [None, Some(4096)] {
        let (_dir, path) = scratch();
        let Some(device) = create_direct(&path, sector_bytes) else { return };
        assert!(device.is_direct() && !device.writes_into_cache());
        let sector = usize::try_from(device.geometry().sector_bytes).unwrap();
        assert!(sector >= 512 && sector_bytes.is_none_or(|wanted| sector >= wanted as usize));

        let mut expected = vec![0xAA; usize::try_from(LEN).unwrap()];
        device.write_at(0, &AlignedBuf::copy_of(&expected, sector), Purpose::Format).unwrap();
        for (offset, len) in [(1, 1), (sector - 1, 2), (sector + 5, 3 * sector), (expected.len() - 1, 1)] {
            let data = vec![0x55; len];
            expected[offset..offset + len].copy_from_slice(&data);
            device.write_at(offset as u64, &data, Purpose::CallerDirect).unwrap();
        }
        device.flush().unwrap();
        let mut all = AlignedBuf::zeroed(expected.len(), sector);
        device.read_at(0, &mut all).unwrap();
        assert!(*all == *expected);
        let mut part = vec![0; sector];
        device.read_at(sector as u64 + 1, &mut part).unwrap();
        assert_eq!(part, expected[sector + 1..2 * sector + 1]);
        assert_eq!(file_len(&path), LEN);
    }
}

#[test]
fn direct_io_needs_whole_sectors() {
    let (_dir, path) = scratch();
    let options = FileDeviceOptions::new().create_len(Some(LEN + 1)).direct_io(true);
    let (kind, text) = open_error(options, &path);
    if kind != ErrorKind::Unsupported {
        assert_eq!(kind, ErrorKind::InvalidInput);
        assert!(text.contains("not a multiple"), "{text}");
    }
    assert!(!path.exists());
}

#[test]
fn a_refusal_of_direct_io_says_so() {
    // A file system that never has direct I/O.
    let path = Path::new("/proc/version");
    if !path.exists() {
        eprintln!("skipped: no /proc");
        return;
    }
    let (kind, text) = open_error(FileDeviceOptions::new().read_only(true).direct_io(true), path);
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(text.contains("refuses direct I/O"), "{text}");
}

/// Overwrites the start of the block device that the environment variable `FREEHOLD_TEST_BLOCK_DEVICE` names.
#[test]
#[ignore = "needs a block device whose contents may be lost"]
fn a_block_device_is_claimed_and_measured() {
    let path = PathBuf::from(std::env::var_os("FREEHOLD_TEST_BLOCK_DEVICE").unwrap());
    for direct in [false, true] {
        let options = FileDeviceOptions::new().direct_io(direct);
        let device = options.open(&path).unwrap();
        assert!(device.is_block_device());
        let geometry = device.geometry();
        assert!(geometry.len_bytes >= 1 << 20, "{geometry:?}");
        assert!(geometry.physical_block_bytes >= geometry.sector_bytes, "{geometry:?}");
        match options.open(&path) {
            Err(Error::Locked { holder }) => assert!(holder.contains("mounted"), "{holder}"),
            other => panic!("{other:?}"),
        }
        let reading = options.read_only(true);
        assert_eq!(reading.open(&path).unwrap_err().kind(), "locked");

        device.write_at(0, &[0xAA; 16 << 10], Purpose::Format).unwrap();
        device.write_at(1000, &[0x55; 5000], Purpose::CallerDirect).unwrap();
        device.preallocate(0, geometry.len_bytes).unwrap();
        device.discard(0, 4096).unwrap();
        device.flush().unwrap();
        let mut buf = vec![0; 16 << 10];
        device.read_at(0, &mut buf).unwrap();
        assert!(
            buf.iter().enumerate().all(|(i, b)| *b == if (1000..6000).contains(&i) { 0x55 } else { 0xAA })
        );
        assert!(device.write_at(geometry.len_bytes, &[1], Purpose::Format).is_err());
        drop(device);

        let readers = [reading.open(&path).unwrap(), reading.open(&path).unwrap()];
        assert_eq!(options.open(&path).unwrap_err().kind(), "locked");
        drop(readers);
    }
}

#[test]
fn writeback_is_for_what_lies_inside_and_may_be_written() {
    let (_dir, path) = scratch();
    let device = create(&path);
    device.write_at(4096, &[1; 8192], Purpose::CallerDirect).unwrap();
    device.start_writeback(4096, 8192);
    device.finish_writeback(4096, 8192).unwrap();
    device.start_writeback(LEN - 1, 2);
    assert_eq!(device.finish_writeback(u64::MAX, 2).unwrap_err().kind(), ErrorKind::InvalidInput);
    device.flush().unwrap();
    let mut bytes = [0; 8192];
    device.read_at(4096, &mut bytes).unwrap();
    assert_eq!(bytes, [1; 8192]);
    drop(device);
    let device = FileDeviceOptions::new().read_only(true).open(&path).unwrap();
    device.start_writeback(0, 1);
    assert_eq!(device.finish_writeback(0, 1).unwrap_err().kind(), ErrorKind::PermissionDenied);
}

#[test]
fn a_writeback_that_cannot_start_is_an_error_of_the_flush() {
    let (_dir, path) = scratch();
    let device = create(&path);
    device.write_at(0, &[1; 4096], Purpose::CallerDirect).unwrap();
    device.flush().unwrap();
    // A descriptor that is good for nothing but its name.
    let name = rustix::fs::open(&path, rustix::fs::OFlags::PATH, Mode::empty()).unwrap();
    device.writeback.start(&device.flushes, &File::from(name), 0, 4096);
    for _ in 0..2 {
        assert_eq!(Errno::from_io_error(&device.flush().unwrap_err()), Some(Errno::BADF));
    }
}
