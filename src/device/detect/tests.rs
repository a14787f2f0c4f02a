//! A tree of files with the entries of sysfs that are looked at, and what follows from them.

use std::os::unix::fs::symlink;

use super::*;

#[test]
fn media_follow_from_names_and_flags() {
    let no = Some(false);
    let yes = Some(true);
    assert_eq!(classify("nvme0n1", no, false), Some(Medium::Nvme));
    assert_eq!(classify("pmem0", None, false), Some(Medium::Nvm));
    assert_eq!(classify("ram0", no, true), Some(Medium::Nvm));
    assert_eq!(classify("sda", yes, false), Some(Medium::Hdd));
    assert_eq!(classify("vda", yes, false), Some(Medium::Nvme));
    assert_eq!(classify("sda", no, false), Some(Medium::SataSsd));
    assert_eq!(classify("vda", no, false), Some(Medium::Nvme));
    assert_eq!(classify("loop3", no, false), None);
    assert_eq!(classify("sda", None, false), None);
}

/// A tree with the entries of sysfs that are looked at.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("dev/block")).unwrap();
        Self(dir)
    }

    fn add(&self, place: &str, number: &str, files: &[(&str, &str)]) {
        let device = self.0.path().join("devices").join(place);
        fs::create_dir_all(&device).unwrap();
        symlink(&device, self.0.path().join("dev/block").join(number)).unwrap();
        for (name, text) in files.iter().chain(&[("dev", number)]) {
            let file = device.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("{text}\n")).unwrap();
        }
    }

    fn stack(&self, upper: &str, lower: &str) {
        let slaves = self.0.path().join("devices").join(upper).join("slaves");
        fs::create_dir_all(&slaves).unwrap();
        let name = Path::new(lower).file_name().unwrap();
        symlink(self.0.path().join("devices").join(lower), slaves.join(name)).unwrap();
    }

    fn facts(&self, major: u32, minor: u32) -> Option<MediaFacts> {
        facts_of(self.0.path(), major, minor, MAX_LAYERS)
    }

    fn medium(&self, major: u32, minor: u32) -> Option<Medium> {
        self.facts(major, minor)?.medium
    }
}

/// The attributes of a disk's queue.
fn queue<'a>(
    rotational: &'a str,
    blocks: [&'a str; 2],
    write_cache: &'a str,
) -> [(&'static str, &'a str); 4] {
    [
        ("queue/rotational", rotational),
        ("queue/logical_block_size", blocks[0]),
        ("queue/physical_block_size", blocks[1]),
        ("queue/write_cache", write_cache),
    ]
}

fn disk_of(
    disks: &[&str],
    medium: Option<Medium>,
    rotational: bool,
    blocks: [u32; 2],
    write_cache: WriteCache,
) -> Option<MediaFacts> {
    Some(MediaFacts {
        disks: disks.iter().map(|&disk| disk.to_owned()).collect(),
        medium,
        rotational: Some(rotational),
        sector_bytes: Some(blocks[0]),
        physical_block_bytes: Some(blocks[1]),
        write_cache: Some(write_cache),
        ..MediaFacts::default()
    })
}

#[test]
fn a_disk_tells_blocks_and_cache_for_its_partitions_too() {
    let tree = Tree::new();
    tree.add("sda", "8:0", &queue("1", ["512", "4096"], "write back"));
    tree.add("sda/sda1", "8:1", &[("partition", "1")]);
    tree.add("nvme0n1", "259:0", &queue("0", ["4096", "16384"], "write through"));
    let rotating = disk_of(&["sda"], Some(Medium::Hdd), true, [512, 4096], WriteCache::WriteBack);
    assert_eq!(tree.facts(8, 0), rotating);
    assert_eq!(tree.facts(8, 1), rotating);
    let solid = disk_of(&["nvme0n1"], Some(Medium::Nvme), false, [4096, 16384], WriteCache::WriteThrough);
    assert_eq!(tree.facts(259, 0), solid);
}

#[test]
fn what_makes_no_sense_is_not_known() {
    let tree = Tree::new();
    tree.add("sda", "8:0", &queue("maybe", ["0", "many"], "write sometimes"));
    tree.add("sdb", "8:16", &[]);
    for (minor, name) in [(0, "sda"), (16, "sdb")] {
        let only_name = MediaFacts { disks: vec![name.to_owned()], ..MediaFacts::default() };
        assert_eq!(tree.facts(8, minor), Some(only_name));
    }
}

#[test]
fn layers_have_the_worst_of_what_is_under_them() {
    let tree = Tree::new();
    tree.add("nvme0n1", "259:0", &queue("0", ["4096", "4096"], "write through"));
    tree.add("sda", "8:0", &queue("1", ["512", "16384"], "write back"));
    tree.add("md0", "9:0", &queue("0", ["512", "512"], "write through"));
    tree.stack("md0", "nvme0n1");
    // The layer's own flag of rotation, and its name, do not count.
    let one = disk_of(&["nvme0n1"], Some(Medium::Nvme), false, [4096, 4096], WriteCache::WriteThrough);
    assert_eq!(tree.facts(9, 0), one);
    tree.stack("md0", "sda");
    let two = disk_of(&["nvme0n1", "sda"], Some(Medium::Hdd), true, [4096, 16384], WriteCache::WriteBack);
    assert_eq!(tree.facts(9, 0), two);
    // Over both a layer with larger sectors.
    tree.add("dm-0", "253:0", &queue("1", ["32768", "512"], "write through"));
    tree.stack("dm-0", "nvme0n1");
    let crypt = disk_of(&["nvme0n1"], Some(Medium::Nvme), false, [32768, 4096], WriteCache::WriteThrough);
    assert_eq!(tree.facts(253, 0), crypt);
}

#[test]
fn a_partition_is_judged_by_its_disk() {
    let tree = Tree::new();
    tree.add("sda", "8:0", &[("queue/rotational", "1")]);
    tree.add("sda/sda1", "8:1", &[("partition", "1")]);
    assert_eq!(tree.medium(8, 0), Some(Medium::Hdd));
    assert_eq!(tree.medium(8, 1), Some(Medium::Hdd));
    assert_eq!(tree.medium(8, 2), None);
}

#[test]
fn layers_are_as_slow_as_the_slowest_under_them() {
    let tree = Tree::new();
    tree.add("nvme0n1", "259:0", &[("queue/rotational", "0")]);
    tree.add("sda", "8:0", &[("queue/rotational", "0")]);
    tree.add("sda/sda1", "8:1", &[("partition", "1")]);
    tree.add("dm-0", "253:0", &[("queue/rotational", "0")]);
    tree.stack("dm-0", "nvme0n1");
    assert_eq!(tree.medium(253, 0), Some(Medium::Nvme));
    tree.stack("dm-0", "sda/sda1");
    assert_eq!(tree.medium(253, 0), Some(Medium::SataSsd));
}

#[test]
fn layers_in_a_circle_come_to_an_end() {
    let tree = Tree::new();
    tree.add("dm-0", "253:0", &[("queue/rotational", "0")]);
    tree.add("dm-1", "253:1", &[("queue/rotational", "0")]);
    tree.stack("dm-0", "dm-1");
    tree.stack("dm-1", "dm-0");
    assert_eq!(tree.medium(253, 0), None);
}

#[test]
fn a_loop_device_is_judged_by_what_holds_its_file() {
    let tree = Tree::new();
    let (major, minor) = device_number(tree.0.path()).unwrap();
    let file = tree.0.path().join("image");
    tree.add("sdz", &format!("{major}:{minor}"), &[("queue/rotational", "0")]);
    tree.add("loop9", "7:9", &[("queue/rotational", "1"), ("loop/backing_file", file.to_str().unwrap())]);
    if (major, minor) != (7, 9) {
        assert_eq!(tree.medium(7, 9), Some(Medium::SataSsd));
    }
    let gone = [("queue/rotational", "1"), ("loop/backing_file", "/nonexistent/a/image")];
    tree.add("loop8", "7:8", &gone);
    assert_eq!(tree.medium(7, 8), Some(Medium::Hdd));
}

#[test]
fn every_path_has_an_answer() {
    for path in ["/", "/dev/null", "/nonexistent/a/b", "not-there", ""] {
        let _ = detect_medium(Path::new(path));
    }
    assert_eq!(detect_medium(Path::new("/nonexistent/a/b")), Medium::Nvme);
    assert_eq!(detect_media(Path::new("/nonexistent/a/b")), None);
    assert_eq!(device_number(Path::new("not-there")), device_number(Path::new(".")));
}

#[test]
fn direct_io_is_asked_of_the_path_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let before = detect_media(&path).unwrap_or_default();
    assert_eq!((before.direct_io, before.direct_io_bytes), (None, None));
    fs::write(&path, vec![0; 4096]).unwrap();
    let facts = detect_media(&path).unwrap();
    assert_eq!((facts.direct_io, facts.direct_io_bytes), direct::direct_io(&path));
    assert!(facts.direct_io.is_some());
    assert_eq!(facts.disks, before.disks);
}
