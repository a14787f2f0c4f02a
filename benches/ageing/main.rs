//! How free space ages, and what allocating costs in memory.
//!
//! `cargo bench --bench ageing` takes some minutes on one core, `-- --quick` a few seconds with smaller stores; with
//! `-- --write` the tables and pictures go to `docs/AGEING.md` and `docs/ageing`. Everything but the times follows from
//! the seeds.
#![expect(clippy::cast_possible_truncation, reason = "shares of stores, ranks and positions in pictures")]

mod buddies;
mod constant;
mod law;
mod population;
mod product;
mod report;
mod sections;
mod speed;
mod store;
mod svg;
mod swings;
mod targets;

use std::path::Path;

use report::Report;
use sections::Sizes;

type Failure = Box<dyn std::error::Error>;

const INTRODUCTION: &str = "# Ageing
How free space looks after a store has lived for long, and what allocating costs in memory: the output of `cargo bench --bench ageing -- --write`
(`benches/ageing/`). No device is involved: `Space` hands out places as the allocator has it do, and buddies stand beside it on the same pages.
Everything but the times follows from the seeds. The times are those of one machine, with others at work on it.

Two laws give the sizes of blobs: lognormal with a median of 15.8 KB and sigma 0.99, and lognormal with a median of 64 KiB and sigma 1.5 (nothing is larger
than 256 MiB). *Fill* is the share of the usable bytes that the blobs need in whole pages, or as items if they are at most half a page: the same
for all allocators, whatever they make of it. *Replacement* removes random blobs until the next one has room in bytes, and then
allocates that one; a *turnover* is as many bytes put as are in the store.

- **Freehold**: as a caller has it, with items in regions.
- **Freehold, pages only**: the smallest blobs too have pages of their own.
- **buddy, tail given back**: a block of a power of two, of which the pages behind those asked for are free again at once.
- **buddy, powers of two**: the whole block.";

fn main() -> Result<(), Failure> {
    let (mut sizes, mut write) = (Sizes::FULL, false);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => sizes = Sizes::QUICK,
            "--write" => write = true,
            // Given by cargo.
            "--bench" => {}
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    let mut body = Report::new();
    let figures = sections::all(&sizes, &mut body)?;
    let mut page = Report::new();
    page.say(INTRODUCTION);
    page.say("## Targets");
    figures.report(&mut page);
    page.append(body);
    if write {
        page.write(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs"))?;
    }
    Ok(())
}
