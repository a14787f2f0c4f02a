//! What the figures were measured on.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{major, minor};

use crate::Failure;

/// The machine, without its name.
pub(crate) struct Machine {
    pub(crate) cores: usize,
    processor: String,
    memory_gib: u64,
    kernel: String,
    file_system: String,
    /// Kind and cache of the device.
    device: Option<String>,
    /// Processes that wanted a core, in the mean over the minute before.
    load: String,
    /// Not zero if the process gave way to others.
    nice: i32,
    /// The system counts what the device does.
    pub(crate) has_counters: bool,
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The value behind the first `key` of a table with colons.
fn value<'a>(table: &'a str, key: &str) -> Option<&'a str> {
    table.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then_some(value.trim())
    })
}

/// The type of the file system on a device, from `/proc/self/mountinfo`.
fn file_system<'a>(table: &'a str, device: &str) -> Option<&'a str> {
    let line = table.lines().find(|line| line.split(' ').nth(2) == Some(device))?;
    line.split_once(" - ")?.1.split(' ').next()
}

/// What the system says of a block device: of what kind it is, and its cache. A partition has the queue of its disk.
fn disk(device: &str) -> Option<String> {
    let path = format!("/sys/dev/block/{device}");
    let place = std::fs::canonicalize(&path).ok()?;
    let queue = |name: &str| {
        let found = [format!("{path}/queue/{name}"), format!("{path}/../queue/{name}")];
        found.iter().map(|path| read(path).trim().to_owned()).find(|text| !text.is_empty())
    };
    Some(format!(
        "{} with cache \"{}\"",
        kind(&place.to_string_lossy(), &queue("rotational")?),
        queue("write_cache")?
    ))
}

fn kind(place: &str, rotational: &str) -> &'static str {
    match rotational {
        // What a virtual disk says of itself means nothing.
        _ if place.contains("/virtio") => "a virtual disk (virtio)",
        _ if place.contains("/nvme") => "an NVMe disk",
        "0" => "a solid-state disk",
        _ => "a rotating disk",
    }
}

impl Machine {
    pub(crate) fn of(dir: &Path, has_counters: bool) -> Result<Self, Failure> {
        let id = std::fs::metadata(dir)?.dev();
        let device = format!("{}:{}", major(id), minor(id));
        let unknown = || "unknown".to_owned();
        let memory = read("/proc/meminfo");
        let memory =
            value(&memory, "MemTotal").and_then(|value| value.split(' ').next()?.parse::<u64>().ok());
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            processor: value(&read("/proc/cpuinfo"), "model name").map_or_else(unknown, str::to_owned),
            memory_gib: memory.unwrap_or(0).div_ceil(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: file_system(&read("/proc/self/mountinfo"), &device)
                .map_or_else(unknown, str::to_owned),
            device: disk(&device),
            load: read("/proc/loadavg").split(' ').next().unwrap_or("unknown").to_owned(),
            nice: rustix::process::getpriority_process(None)?,
            has_counters,
        })
    }

    pub(crate) fn describe(&self) -> String {
        let device = self.device.as_ref().map_or_else(String::new, |device| format!(" on {device}"));
        let Self { cores, processor, memory_gib, kernel, file_system, load, nice, .. } = self;
        format!(
            "{cores} cores ({processor}), {memory_gib} GiB of memory, Linux {kernel}, {file_system}{device}. \
             Load before the start {load}, priority {nice}."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_system_are_read() {
        assert_eq!(
            value("a\t: 1\nmodel name\t: Some CPU @ 3: GHz\n", "model name"),
            Some("Some CPU @ 3: GHz")
        );
        let mounts =
            "22 1 254:0 / / rw,relatime - ext4 /dev/x rw\n29 22 0:23 / /run rw shared:1 - tmpfs none rw\n";
        assert_eq!(file_system(mounts, "0:23"), Some("tmpfs"));
        assert_eq!(file_system(mounts, "254:0"), Some("ext4"));
        assert_eq!(file_system(mounts, "1:1"), None);
        assert_eq!(kind("/sys/devices/pci0/virtio1/block/vda", "1"), "a virtual disk (virtio)");
        assert_eq!(kind("/sys/devices/pci0/ata1/block/sda", "1"), "a rotating disk");
    }
}
