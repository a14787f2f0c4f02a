//! Which kind of medium lies under a path, as far as the system tells.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::media::Medium;

/// How many layers of block devices over block devices (mapped, mirrored, loop) are looked through.
const MAX_LAYERS: u32 = 8;

/// What the system says about one whole disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Facts<'a> {
    /// The kernel's name: `sda`, `nvme0n1`.
    name: &'a str,
    /// Whether the disk says that it rotates.
    rotational: Option<bool>,
    /// Whether the disk can be mapped into memory directly.
    dax: bool,
}

/// The kind of medium under a block device, or under the block device that holds a file.
///
/// A path that does not exist yet is judged by its directory. The answer is a guess from names and flags that the
/// system gives out, good for a default that a user may override; where nothing is known it is [`Medium::Nvme`].
#[must_use]
pub fn detect_medium(path: &Path) -> Medium {
    device_number(path)
        .and_then(|(major, minor)| medium_of(Path::new("/sys"), major, minor, MAX_LAYERS))
        .unwrap_or(Medium::Nvme)
}

/// What follows from the facts; `None` when nothing does.
fn classify(facts: Facts<'_>) -> Option<Medium> {
    if facts.name.starts_with("nvme") {
        return Some(Medium::Nvme);
    }
    if facts.name.starts_with("pmem") || facts.dax {
        return Some(Medium::Nvm);
    }
    // A virtual disk's rotation flag is a default of the hypervisor and says nothing about what is behind it.
    if facts.name.starts_with("vd") || facts.name.starts_with("xvd") {
        return Some(Medium::Nvme);
    }
    match facts.rotational {
        Some(true) => Some(Medium::Hdd),
        Some(false) if facts.name.starts_with("sd") => Some(Medium::SataSsd),
        _ => None,
    }
}

/// The number of the block device that `path` is or lies on.
fn device_number(path: &Path) -> Option<(u32, u32)> {
    let metadata = fs::metadata(path).or_else(|_| {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        fs::metadata(parent.unwrap_or(Path::new(".")))
    });
    let metadata = metadata.ok()?;
    let number = if metadata.file_type().is_block_device() { metadata.rdev() } else { metadata.dev() };
    Some((rustix::fs::major(number), rustix::fs::minor(number)))
}

/// Judges a block device by its entry below `sysfs`, looking through at most `layers` devices to what is under them.
fn medium_of(sysfs: &Path, major: u32, minor: u32, layers: u32) -> Option<Medium> {
    let entry = fs::canonicalize(sysfs.join(format!("dev/block/{major}:{minor}"))).ok()?;
    // The facts about a partition are those of its disk, one directory up.
    let disk = if entry.join("partition").exists() { entry.parent().map(Path::to_owned)? } else { entry };
    let under = layers.checked_sub(1).and_then(|layers| medium_under(sysfs, &disk, layers));
    under.or_else(|| {
        let name = disk.file_name()?.to_str()?;
        let flag = |attribute: &str| match read_line(&disk.join(attribute))?.as_str() {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        };
        classify(Facts {
            name,
            rotational: flag("queue/rotational"),
            dax: flag("queue/dax").unwrap_or(false),
        })
    })
}

/// The medium under a device that is only a layer: the slowest of those below, or that of a loop device's file.
fn medium_under(sysfs: &Path, disk: &Path, layers: u32) -> Option<Medium> {
    if let Some(file) = read_line(&disk.join("loop/backing_file")) {
        // One step only: what holds that file is judged by its own layers, but not by those of another loop device.
        let (major, minor) = device_number(&PathBuf::from(file))?;
        let again = disk_is_loop(sysfs, major, minor);
        return medium_of(sysfs, major, minor, if again { 0 } else { layers });
    }
    let below = fs::read_dir(disk.join("slaves")).ok()?;
    below
        .filter_map(|entry| read_line(&entry.ok()?.path().join("dev")))
        .filter_map(|number| {
            let (major, minor) = number.split_once(':')?;
            medium_of(sysfs, major.parse().ok()?, minor.parse().ok()?, layers)
        })
        // The codes of the format happen to rise as the media get slower.
        .max_by_key(|medium| medium.code())
}

fn disk_is_loop(sysfs: &Path, major: u32, minor: u32) -> bool {
    sysfs.join(format!("dev/block/{major}:{minor}/loop")).exists()
}

fn read_line(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim_end_matches('\n').to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn facts(name: &str, rotational: Option<bool>) -> Facts<'_> {
        Facts { name, rotational, dax: false }
    }

    #[test]
    fn media_follow_from_names_and_flags() {
        let no = Some(false);
        let yes = Some(true);
        assert_eq!(classify(facts("nvme0n1", no)), Some(Medium::Nvme));
        assert_eq!(classify(facts("pmem0", None)), Some(Medium::Nvm));
        assert_eq!(classify(Facts { dax: true, ..facts("ram0", no) }), Some(Medium::Nvm));
        assert_eq!(classify(facts("sda", yes)), Some(Medium::Hdd));
        assert_eq!(classify(facts("vda", yes)), Some(Medium::Nvme));
        assert_eq!(classify(facts("sda", no)), Some(Medium::SataSsd));
        assert_eq!(classify(facts("vda", no)), Some(Medium::Nvme));
        assert_eq!(classify(facts("loop3", no)), None);
        assert_eq!(classify(facts("sda", None)), None);
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

        fn medium(&self, major: u32, minor: u32) -> Option<Medium> {
            medium_of(self.0.path(), major, minor, MAX_LAYERS)
        }
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
        assert_eq!(device_number(Path::new("not-there")), device_number(Path::new(".")));
    }
}
