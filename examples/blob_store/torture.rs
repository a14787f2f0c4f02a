//! Puts and deletes without end, each announced before and acknowledged after, so that whoever kills the program knows
//! what must be there afterwards.

use super::error::{Error, Result};
use super::program::{Source, put_aloud, read_file, say};
use super::store::BlobStore;

/// Works on the files until something fails or the process dies. Each name is one task's, so that the lines about it
/// are in order.
pub(crate) async fn run(store: &BlobStore, sources: &[Source], tasks: u64, seed: u64) -> Result<()> {
    if sources.is_empty() {
        return Err(Error::Usage("there is no file in that directory".to_owned()));
    }
    let step = usize::try_from(tasks).unwrap_or(usize::MAX).min(sources.len());
    let mut workers = tokio::task::JoinSet::new();
    for first in 0..step {
        let mine: Vec<Source> = sources.iter().skip(first).step_by(step).cloned().collect();
        workers.spawn(work(
            store.clone(),
            mine,
            Random(seed.wrapping_mul(1 << 20).wrapping_add(first as u64)),
        ));
    }
    // The first failure ends the program.
    while let Some(outcome) = workers.join_next().await {
        outcome.map_err(|_| Error::Interrupted)??;
    }
    Ok(())
}

async fn work(store: BlobStore, sources: Vec<Source>, mut random: Random) -> Result<()> {
    loop {
        let chosen = random.below(sources.len() as u64);
        let Some(source) = usize::try_from(chosen).ok().and_then(|at| sources.get(at)) else { continue };
        let name = &source.name;
        match random.below(100) {
            0..25 => {
                say(&format!("deleting {name}"))?;
                store.delete(name).await?;
                say(&format!("deleted {name}"))?;
            }
            // A damaged blob is an error, and ends the program.
            25..35 => drop(store.get(name).await?),
            chance => {
                let mut data = read_file(source.path.clone()).await?;
                if chance < 65 {
                    let keep = random.below(data.len() as u64 + 1);
                    data.truncate(usize::try_from(keep).unwrap_or(0));
                }
                put_aloud(&store, name, data).await?;
            }
        }
    }
}

/// A small generator of numbers, the same ones for the same seed (splitmix64).
struct Random(u64);

impl Random {
    /// A number below `bound`; 0 for a bound of 0.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (bits ^ (bits >> 31)).checked_rem(bound).unwrap_or(0)
    }
}
