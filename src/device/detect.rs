//! What kind of medium lies under a path, and what more the system tells about it.

mod direct;
#[cfg(test)]
mod tests;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::media::{MediaFacts, Medium, WriteCache};

/// How many layers of block devices over block devices (mapped, mirrored, loop) are looked through.
const MAX_LAYERS: u32 = 8;

/// The kind of medium under a block device, or under the block device that holds a file.
///
/// A path that does not exist yet is judged by its directory. The answer is a guess from names and flags that the
/// system gives out, good for a default that a user may override; where nothing is known it is [`Medium::Nvme`].
#[must_use]
pub fn detect_medium(path: &Path) -> Medium {
    disk_facts(path).and_then(|facts| facts.medium).unwrap_or(Medium::Nvme)
}

/// Everything that the system says about the disks under a block device or a file; `None` when it says nothing.
///
/// A path that does not exist yet is judged by its directory. Whether direct I/O works is about the path itself, which
/// has to exist for that. Nothing is locked and nothing is changed. It blocks while the system works.
#[must_use]
pub fn detect_media(path: &Path) -> Option<MediaFacts> {
    let mut facts = disk_facts(path).unwrap_or_default();
    (facts.direct_io, facts.direct_io_bytes) = direct::direct_io(path);
    (facts != MediaFacts::default()).then_some(facts)
}

fn disk_facts(path: &Path) -> Option<MediaFacts> {
    let (major, minor) = device_number(path)?;
    facts_of(Path::new("/sys"), major, minor, MAX_LAYERS)
}

/// What follows from the kernel's name of a whole disk (`sda`, `nvme0n1`), from whether it says that it rotates, and from
/// whether it can be mapped into memory directly; `None` when nothing does.
fn classify(name: &str, rotational: Option<bool>, dax: bool) -> Option<Medium> {
    if name.starts_with("nvme") {
        return Some(Medium::Nvme);
    }
    if name.starts_with("pmem") || dax {
        return Some(Medium::Nvm);
    }
    // A virtual disk's rotation flag is a default of the hypervisor and says nothing about what is behind it.
    if name.starts_with("vd") || name.starts_with("xvd") {
        return Some(Medium::Nvme);
    }
    match rotational {
        Some(true) => Some(Medium::Hdd),
        Some(false) if name.starts_with("sd") => Some(Medium::SataSsd),
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

/// Reads a block device's entry below `sysfs`, looking through at most `layers` devices to what is under them.
fn facts_of(sysfs: &Path, major: u32, minor: u32, layers: u32) -> Option<MediaFacts> {
    let entry = fs::canonicalize(sysfs.join(format!("dev/block/{major}:{minor}"))).ok()?;
    // The facts about a partition are those of its disk, one directory up.
    let disk = if entry.join("partition").exists() { entry.parent().map(Path::to_owned)? } else { entry };
    let own = own_facts(&disk);
    let Some(under) = layers.checked_sub(1).and_then(|layers| facts_under(sysfs, &disk, layers)) else {
        return Some(own);
    };
    // A layer can have larger blocks than its disks and a cache of its own. Its name and its flag of rotation say nothing
    // where those of the disks say something.
    Some(MediaFacts {
        disks: under.disks.clone(),
        medium: under.medium.or(own.medium),
        rotational: under.rotational.or(own.rotational),
        ..under.worst_of(own)
    })
}

/// What a whole disk, or a layer, says about itself.
fn own_facts(disk: &Path) -> MediaFacts {
    let name = disk.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let attribute = |attribute: &str| read_line(&disk.join("queue").join(attribute));
    let flag = |name: &str| match attribute(name)?.as_str() {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    };
    let bytes = |name: &str| attribute(name)?.parse().ok().filter(|&bytes: &u32| bytes > 0);
    let rotational = flag("rotational");
    MediaFacts {
        disks: vec![name.to_owned()],
        medium: classify(name, rotational, flag("dax").unwrap_or(false)),
        rotational,
        sector_bytes: bytes("logical_block_size"),
        physical_block_bytes: bytes("physical_block_size"),
        write_cache: attribute("write_cache").and_then(|text| match text.as_str() {
            "write back" => Some(WriteCache::WriteBack),
            "write through" => Some(WriteCache::WriteThrough),
            _ => None,
        }),
        ..MediaFacts::default()
    }
}

/// The facts under a device that is only a layer: the worst of those below, or those of a loop device's file.
fn facts_under(sysfs: &Path, disk: &Path, layers: u32) -> Option<MediaFacts> {
    if let Some(file) = read_line(&disk.join("loop/backing_file")) {
        // One step only: what holds that file is judged by its own layers, but not by those of another loop device.
        let (major, minor) = device_number(&PathBuf::from(file))?;
        let again = disk_is_loop(sysfs, major, minor);
        return facts_of(sysfs, major, minor, if again { 0 } else { layers });
    }
    let below = fs::read_dir(disk.join("slaves")).ok()?;
    below
        .filter_map(|entry| read_line(&entry.ok()?.path().join("dev")))
        .filter_map(|number| {
            let (major, minor) = number.split_once(':')?;
            facts_of(sysfs, major.parse().ok()?, minor.parse().ok()?, layers)
        })
        .reduce(MediaFacts::worst_of)
}

fn disk_is_loop(sysfs: &Path, major: u32, minor: u32) -> bool {
    sysfs.join(format!("dev/block/{major}:{minor}/loop")).exists()
}

fn read_line(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim_end_matches('\n').to_owned())
}
