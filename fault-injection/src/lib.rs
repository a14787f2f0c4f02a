//! Faults for stores that must survive them: a simulated disk that fails in every way disks fail, and the states that
//! a power cut can leave on it.
//!
//! A store takes part by doing its I/O through [`freehold::device::Device`]. A round goes like this:
//!
//! 1. Run a workload on a [`disk::SimDisk`], with or without a [`disk::FaultPlan`]. The disk records every write and
//!    flush; the harness puts a mark into the trace whenever the store acknowledges something.
//! 2. Go through the trace with a [`disk::CutWalker`]. At each instant it knows what is certainly on the medium and
//!    what may be there: every subset of the unflushed writes, sector by sector, and one sector damaged in itself.
//! 3. Put such a state onto a [`disk::CowDisk`], recover the store on it, and judge the result. The content hash tells
//!    whether the state was seen before. Recording the recovery gives a trace to cut again.
//!
//! Everything follows from seeds. A [`disk::Choice`] is one line of text that leads back to the same bytes.
//!
//! ```
//! use fault_injection::disk::{CowDisk, CutWalker, Keep, SimDisk};
//! use freehold::device::{Device, Purpose};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sim = SimDisk::zeroed(64 << 10, 512, 4096);
//! sim.write_at(0, &[1; 512], Purpose::Journal)?;
//! sim.flush()?;
//! sim.mark(1);
//! sim.write_at(512, &[2; 1024], Purpose::Metadata)?;
//!
//! let (trace, base) = (sim.trace(), sim.base());
//! let mut walker = CutWalker::new(&trace, base, &sim.geometry());
//! let cut = walker.cut_at(trace.len());
//! assert_eq!((cut.acknowledged(), cut.combinations()), (Some(1), 4));
//!
//! let disk = CowDisk::new(sim.base(), 512, 4096);
//! cut.apply(&"cut=4 keep=0x2".parse()?, &disk)?;
//! let image = disk.image();
//! assert_eq!((image[0], image[512], image[1024]), (1, 0, 2));
//! assert_eq!("cut=4 keep=0x2", cut.choice(Keep::Sectors(2)).to_string());
//! # Ok(())
//! # }
//! ```

pub mod allocator;
pub mod campaign;
pub mod disk;
pub mod executor;
pub mod harness;
pub mod kill;
pub mod oracle;
pub mod report;
pub mod rng;

pub use rng::Rng;
