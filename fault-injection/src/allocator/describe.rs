//! What recovery is going to find, for stories.

use std::sync::Arc;

use freehold::device::{Device, ManualClock, Port};
use freehold::journal::{SuperblockPair, scan_journal};

use crate::disk::CowDisk;

/// The superblock and the groups of the journal, line by line.
pub(super) fn journal(disk: &Arc<CowDisk>) -> Vec<String> {
    let port = Port::new(Arc::clone(disk) as Arc<dyn Device>, Arc::new(ManualClock::default()), true);
    let pair = match SuperblockPair::read(&port) {
        Ok(pair) => pair,
        Err(error) => return vec![format!("superblock: {error}")],
    };
    let superblock = pair.current();
    let mut lines = vec![format!(
        "superblock: sequence {}, epoch {}, {:?}, tail at {} with LSN {}, copies {}",
        superblock.sequence,
        superblock.epoch,
        superblock.state,
        superblock.tail_position,
        superblock.tail_lsn,
        if pair.is_agreed() { "agree" } else { "do not agree" }
    )];
    match scan_journal(&port, superblock) {
        Ok(scan) => {
            lines.extend(scan.groups.iter().map(|group| {
                let header = &group.header;
                format!(
                    "group at {} (offset {}): LSN {} to {}, durable {}, {} bytes, {} updates",
                    header.position,
                    group.offset,
                    header.first_lsn,
                    header.last_lsn(),
                    header.durable_lsn,
                    header.length,
                    header.updates
                )
            }));
            let (end, torn, witness) = (scan.end_position, scan.torn, scan.witness);
            lines.push(format!("end at {end}, torn {torn:?}, witness {witness:?}"));
        }
        Err(error) => lines.push(format!("journal: {error}")),
    }
    lines
}
