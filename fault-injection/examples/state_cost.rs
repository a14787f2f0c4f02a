//! Measures what one crash state costs: putting it onto a disk of 256 KiB and hashing it. Build with `--release`.

use std::error::Error;
use std::time::Instant;

use fault_injection::Rng;
use fault_injection::disk::{CowDisk, CutWalker, Keep, SimDisk};
use freehold::device::{Device, Purpose};

const ROUNDS: u32 = 200_000;

fn measure(
    name: &str,
    mut work: impl FnMut(u32) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    for round in 0..ROUNDS {
        work(round)?;
    }
    let nanoseconds = start.elapsed().as_nanos() / u128::from(ROUNDS);
    println!("{name:56} {nanoseconds:7} ns");
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut rng = Rng::new(1);
    let sim = SimDisk::zeroed(256 << 10, 512, 4096);
    let mut data = vec![0; 256 << 10];
    rng.bytes(&mut data);
    sim.write_at(0, &data, Purpose::Format)?;
    sim.flush()?;
    sim.restart_recording();
    for (offset, len) in [(8192, 4096), (32768, 512), (65536, 4096), (131_072, 512)] {
        let mut data = vec![0; len];
        rng.bytes(&mut data);
        sim.write_at(offset, &data, Purpose::Journal)?;
    }
    let (trace, base) = (sim.trace(), sim.base());
    let mut walker = CutWalker::new(&trace, base, &sim.geometry());
    let cut = walker.cut_at(trace.len());
    let disk = CowDisk::new(sim.base(), 512, 4096);
    let mut sum = 0u128;
    measure("make a disk", |_| {
        drop(CowDisk::new(sim.base(), 512, 4096));
        Ok(())
    })?;
    measure("apply an empty state and hash", |_| {
        cut.apply(&cut.choice(Keep::None), &disk)?;
        sum ^= disk.content_hash();
        Ok(())
    })?;
    measure("apply any of 18 pending sectors (9 KiB)", |round| {
        Ok(cut.apply(&cut.choice(Keep::Sectors(u64::from(round) & 0x3_ffff)), &disk)?)
    })?;
    measure("the same and hash", |round| {
        cut.apply(&cut.choice(Keep::Sectors(u64::from(round) & 0x3_ffff)), &disk)?;
        sum ^= disk.content_hash();
        Ok(())
    })?;
    measure("apply all of them and hash", |_| {
        cut.apply(&cut.choice(Keep::All), &disk)?;
        sum ^= disk.content_hash();
        Ok(())
    })?;
    let mut buffer = vec![0; 4096];
    measure("read 4 KiB", |round| Ok(disk.read_at(u64::from(round % 64) * 4096, &mut buffer)?))?;
    println!("(checksum {sum:#x})");
    Ok(())
}
