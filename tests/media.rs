//! Goal: sizes suit the medium, sectors and physical blocks, every choice can be overridden, and a store tells what it
//! lies on and what does not suit it.
//!
//! Method: layouts for devices of all kinds, without a device; small stores in memory, shown again as other devices;
//! and the program on a file.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::sync::Arc;

use freehold::device::{DeviceGeometry, FileDeviceOptions, MemoryDevice, detect_medium};
use freehold::format::{GeometryRequest, Layout};
use freehold::inspect::{check, info};
use freehold::{Allocator, Error, FormatOptions, Medium, OpenOptions};

const SECTORS: [u32; 5] = [512, 4096, 8192, 16_384, 65_536];

fn request(medium: Medium, len_bytes: u64, sector_bytes: u32, physical_block_bytes: u32) -> GeometryRequest {
    GeometryRequest {
        device: DeviceGeometry { len_bytes, sector_bytes, physical_block_bytes },
        medium,
        page_bytes: None,
        segment_bytes: None,
        journal_bytes: None,
    }
}

#[test]
fn each_medium_has_its_page_and_a_larger_sector_makes_it_larger() {
    let pages = [
        (Medium::Nvm, [4096, 4096, 8192, 16_384, 65_536]),
        (Medium::Nvme, [4096, 4096, 8192, 16_384, 65_536]),
        (Medium::SataSsd, [8192, 8192, 8192, 16_384, 65_536]),
        (Medium::Hdd, [262_144; 5]),
    ];
    for (medium, pages) in pages {
        for (sector, page) in SECTORS.into_iter().zip(pages) {
            let layout = Layout::plan(&request(medium, 1 << 30, sector, sector)).unwrap();
            assert_eq!(layout.page_bytes(), page, "{medium} with sectors of {sector}");
            assert_eq!(layout.sector_bytes(), sector);
        }
    }
}

#[test]
fn everything_lies_at_multiples_of_sector_and_physical_block() {
    let lens = [4 << 20, (64 << 20) + 512, 1 << 30, (1 << 40) + 12_345];
    for (medium, len) in Medium::ALL.into_iter().flat_map(|medium| lens.map(|len| (medium, len))) {
        for sector in SECTORS {
            for physical in [sector, sector.max(4096), sector.max(16_384), sector.max(65_536)] {
                let wanted = request(medium, len, sector, physical);
                let layout = Layout::plan(&wanted).unwrap();
                let page = layout.page_bytes();
                assert!(page >= sector, "{wanted:?}");
                if physical <= page {
                    assert!(page.is_multiple_of(physical), "{wanted:?}");
                }
                // What is written as one thing: a page, a metadata block. Groups of the journal start on granules.
                let unit = u64::from(physical.min(page));
                let places = [
                    u64::from(layout.block_bytes()),
                    layout.ring_offset(),
                    layout.ring_bytes(),
                    layout.slot(0, 0, 0).offset,
                    layout.slot(0, 0, 1).offset,
                    layout.data_offset(),
                    layout.segment_bytes(),
                ];
                assert!(places.iter().all(|place| place.is_multiple_of(unit)), "{wanted:?}: {places:?}");
                assert_eq!(u64::from(layout.ring_granule_bytes()), unit, "{wanted:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_device_of_ten_and_a_half_pages_gives_at_most_ten() {
    for page in [32_768_u64, 65_536, 262_144, 1 << 20] {
        let len = page * 10 + page / 2;
        let device = Arc::new(MemoryDevice::zeroed(usize::try_from(len).unwrap()));
        let options = FormatOptions::new().page_bytes(page).segment_bytes(page * 8);
        let layout = options.format_device(device.clone()).await.unwrap().layout;
        assert_eq!((layout.page_count(), layout.device_bytes()), (10, len));
        let (store, _) = OpenOptions::new().open_device(device).await.unwrap();
        let mut txn = store.begin();
        let mut got = 0;
        let full = loop {
            match txn.alloc(page).await {
                Ok(extent) => {
                    assert!(extent.offset + extent.len <= page * 10, "{extent:?}");
                    got += 1;
                }
                Err(error) => break error,
            }
        };
        assert!(matches!(full, Error::NoSpace { .. }), "{full}");
        assert_eq!(got, layout.usable_pages());
        assert!((1..10).contains(&got), "{got} pages of {page}");
    }
}

async fn device_with_store(sector: u32, physical: u32, page: u64) -> Arc<MemoryDevice> {
    let device = Arc::new(MemoryDevice::from_image(vec![0; 4 << 20], sector, physical));
    FormatOptions::new().page_bytes(page).format_device(device.clone()).await.unwrap();
    device
}

#[tokio::test]
async fn stores_work_with_sectors_of_every_size() {
    for sector in SECTORS {
        let device = device_with_store(sector, sector, 65_536).await;
        let (store, _) = OpenOptions::new().open_device(device.clone()).await.unwrap();
        let mut txn = store.begin();
        let extent = txn.alloc(100_000).await.unwrap();
        txn.write(&extent, 513, b"journaled").await.unwrap();
        txn.commit().await.unwrap();
        store.write_at(&extent, 70_000, b"direct").await.unwrap();
        store.close().await.unwrap();

        let (store, _) = OpenOptions::new().open_device(device.clone()).await.unwrap();
        assert_eq!(store.read_at(&extent, 513, 9).await.unwrap(), b"journaled");
        assert_eq!(store.read_at(&extent, 70_000, 6).await.unwrap(), b"direct");
        drop(store);
        let report = info(device.clone()).unwrap();
        assert_eq!((report.sector_bytes, report.page_bytes), (sector, 65_536));
        assert_eq!((report.warnings, report.detected), (Vec::new(), None));
        assert!(check(device, &mut |_| {}).unwrap().ok, "sectors of {sector}");
    }
}

#[tokio::test]
async fn a_device_that_the_sizes_do_not_suit_is_warned_of() {
    // Made for, moved to, and what the warning says.
    let cases = [
        ((512, 512), (512, 512), None),
        ((512, 4096), (4096, 4096), None),
        ((4096, 4096), (512, 512), None),
        ((512, 512), (512, 4096), Some("the journal writes 512 bytes")),
        ((512, 4096), (512, 16_384), Some("a page of 8192 bytes is not a multiple")),
        ((512, 16_384), (512, 16_384), Some("a page of 8192 bytes is not a multiple")),
        ((512, 512), (4096, 4096), Some("sectors of 4096 bytes")),
        ((4096, 4096), (16_384, 16_384), Some("sectors of 16384 bytes; the store has pages of 8192")),
    ];
    for (made, now, wanted) in cases {
        let image = device_with_store(made.0, made.1, 8192).await.image();
        let device = Arc::new(MemoryDevice::from_image(image, now.0, now.1));
        let warnings = info(device.clone()).unwrap().warnings;
        let found: Vec<&str> = warnings.iter().map(|warning| warning.message.as_str()).collect();
        assert_eq!(found.len(), usize::from(wanted.is_some()), "{made:?} {now:?}: {found:?}");
        if let Some(wanted) = wanted {
            assert!(found[0].contains(wanted), "{made:?} {now:?}: {found:?}");
        }
        // What the warning says about sectors is true.
        let writable = OpenOptions::new().open_device(device).await.is_ok();
        assert_eq!(writable, !found.iter().any(|message| message.contains("can only be read")));
    }
}

#[tokio::test]
async fn what_is_detected_can_be_overridden() {
    const LEN: u64 = 256 << 20;
    let dir = tempfile::tempdir().unwrap();
    let detected = detect_medium(dir.path());
    let created = FormatOptions::new().create(dir.path().join("detected"), LEN).await.unwrap();
    assert_eq!((created.medium, created.layout.page_bytes()), (detected, detected.page_bytes()));
    for medium in Medium::ALL {
        let options = FormatOptions::new().medium(medium);
        let created = options.create(dir.path().join(medium.name()), LEN).await.unwrap();
        assert_eq!((created.medium, created.layout.page_bytes()), (medium, medium.page_bytes()));
        let path = dir.path().join(format!("{medium}-16"));
        let created = options.page_bytes(16_384).create(&path, LEN).await.unwrap();
        assert_eq!((created.medium, created.layout.page_bytes()), (medium, 16_384));
        // Sectors of the device are asked for where it is opened.
        let device = FileDeviceOptions::new().sector_bytes(Some(65_536)).open(&path).unwrap();
        let options = FormatOptions::new().force(true).page_bytes(16_384);
        let refused = options.format_device(Arc::new(device)).await;
        assert!(matches!(refused, Err(Error::InvalidGeometry(_))), "{refused:?}");
        drop(Allocator::open(&path).await.unwrap());
    }
}

#[cfg(feature = "cli")]
#[tokio::test]
async fn the_program_shows_what_the_system_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    FormatOptions::new().create(&path, 1 << 20).await.unwrap();
    let run = |args: &[&str]| {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_freehold"));
        let output = program.arg("info").arg(&path).args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let document: serde_json::Value = serde_json::from_str(&run(&["--json"])).unwrap();
    let facts = freehold::device::detect_media(&path);
    let expected = facts.as_ref().map(|facts| serde_json::to_value(facts).unwrap());
    assert_eq!(document.get("detected"), expected.as_ref());
    let text = run(&[]);
    assert_eq!(text.contains("\ndetected "), facts.is_some(), "{text}");
    for disk in facts.iter().flat_map(|facts| &facts.disks) {
        assert!(text.contains(disk), "{disk} in {text}");
    }
    if let Some(expected) = expected {
        // What is not known is not there.
        assert!(expected.as_object().unwrap().values().all(|value| !value.is_null()), "{expected}");
    }
}
