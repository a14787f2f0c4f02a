//! Reading the journal after a power loss: which groups count, and whether what stops them is a tear or rot (rule 7).

use crate::device::Port;
use crate::error::{Error, Result, Structure};
use crate::format::{GroupHeader, Superblock, WITNESS_COPIES, Witness};

use super::ring::Ring;

/// How often the ring may be read over before a scan gives up.
const MAX_READ_LAPS: u64 = 16;

/// A group that counts.
#[derive(Clone, Debug)]
pub struct ScannedGroup {
    /// Its header.
    pub header: GroupHeader,
    /// Header, payload and padding.
    pub bytes: Vec<u8>,
    /// Where it lies on the device.
    pub offset: u64,
}

/// The journal ends in pieces of a group that was never acknowledged, as far as can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Journal position of the pieces.
    pub position: u64,
    /// Their offset on the device.
    pub offset: u64,
}

/// What the journal holds.
#[derive(Clone, Debug)]
pub struct JournalScan {
    /// Groups from the tail on, in order.
    pub groups: Vec<ScannedGroup>,
    /// Position behind the last of them.
    pub end_position: u64,
    /// LSN of the last transaction in them, or of the checkpoint.
    pub last_lsn: u64,
    /// What was dropped.
    pub torn: Option<TornTail>,
    /// The witness of this epoch, if one was found.
    pub witness: Option<Witness>,
    /// The copy that the next witness goes over.
    pub witness_copy: usize,
}

/// The newest witness of the superblock's epoch, and which copy it is.
pub fn read_witness(port: &Port, superblock: &Superblock) -> Result<Option<(usize, Witness)>> {
    let layout = &superblock.layout;
    let mut newest: Option<(usize, Witness)> = None;
    for copy in 0..WITNESS_COPIES {
        let offset = layout.witness_offset(copy);
        let block = port.read_vec(offset, layout.block_bytes() as usize)?;
        if let Some(witness) = Witness::decode(&superblock.store_id, offset, &block)
            && witness.epoch == superblock.epoch
            && newest.is_none_or(|(_, newest)| newest.durable_lsn < witness.durable_lsn)
        {
            newest = Some((copy, witness));
        }
    }
    Ok(newest)
}

/// Reads the journal from the superblock's tail.
///
/// # Errors
/// [`Error::Corrupt`] when a group is damaged that is known to have been durable: a later group, or the witness, says so.
pub fn scan_journal(port: &Port, superblock: &Superblock) -> Result<JournalScan> {
    let layout = &superblock.layout;
    let granule = u64::from(layout.ring_granule_bytes());
    let ring_end = superblock.tail_position + layout.ring_bytes();
    let mut ring = Ring::new(port, layout);
    let newest = read_witness(port, superblock)?;
    let mut scan = JournalScan {
        groups: Vec::new(),
        end_position: superblock.tail_position,
        last_lsn: superblock.tail_lsn,
        torn: None,
        witness: newest.map(|(_, witness)| witness),
        witness_copy: newest.map_or(0, |(copy, _)| 1 - copy),
    };
    while scan.end_position < ring_end {
        let position = scan.end_position;
        let room = ring_end - position;
        match read_group(&mut ring, superblock, position, room)? {
            // LSNs only grow: an older one is a leftover of a recovery that did not come to its end.
            Some(group) if group.header.first_lsn > scan.last_lsn => {
                if group.header.durable_lsn > scan.last_lsn {
                    let reason = format!("says that LSN {} was durable before it", group.header.durable_lsn);
                    return Err(Error::corrupt(Structure::JournalGroup, group.offset, reason));
                }
                scan.last_lsn = group.header.last_lsn();
                scan.end_position += group.bytes.len() as u64;
                scan.groups.push(group);
            }
            _ => break,
        }
    }
    if scan.end_position >= ring_end {
        return Ok(scan);
    }

    // Something else than a group follows. What says that there must have been one?
    let position = scan.end_position;
    let offset = ring.offset(position);
    let expected = scan.last_lsn + 1;
    if let Some(witness) = scan.witness
        && witness.durable_lsn >= expected
    {
        let reason = format!("LSN {expected} was durable by the witness, and is not readable");
        return Err(Error::corrupt(Structure::JournalGroup, offset, reason));
    }
    let mut torn = looks_begun(&mut ring, superblock, position, expected)?;
    if superblock.state == crate::format::StoreState::Open || torn {
        refuse_newer_group(&mut ring, superblock, position)?;
        refuse_displaced_group(&mut ring, superblock, position, expected)?;
        let mut ahead = position + granule;
        while ahead < ring_end {
            // Overlapping claims of large groups are no accident: reading them all would take for ever.
            if ring.bytes_read() > MAX_READ_LAPS * layout.ring_bytes() {
                return Err(Error::corrupt(
                    Structure::JournalGroup,
                    ring.offset(ahead),
                    "too many false groups",
                ));
            }
            if let Some(group) = read_group(&mut ring, superblock, ahead, ring_end - ahead)? {
                if group.header.durable_lsn >= expected {
                    let reason = format!(
                        "LSN {expected} was durable by the group at offset {}, and is not readable",
                        group.offset
                    );
                    return Err(Error::corrupt(Structure::JournalGroup, offset, reason));
                }
                torn = true;
            } else {
                refuse_newer_group(&mut ring, superblock, ahead)?;
                refuse_displaced_group(&mut ring, superblock, ahead, expected)?;
            }
            ahead += granule;
        }
    }
    scan.torn = torn.then_some(TornTail { position, offset });
    Ok(scan)
}

/// A whole, valid group of the current epoch at `position`.
fn read_group(
    ring: &mut Ring<'_>,
    superblock: &Superblock,
    position: u64,
    room: u64,
) -> Result<Option<ScannedGroup>> {
    let layout = &superblock.layout;
    let granule = layout.ring_granule_bytes();
    let front = ring.read(position, u64::from(granule))?;
    match GroupHeader::peek(&front, position, layout.ring_bytes()) {
        Some(header) if header.epoch == superblock.epoch && header.padded_bytes(granule) <= room => {
            read_whole(ring, superblock, header)
        }
        _ => Ok(None),
    }
}

/// The group that a header promises, if all of it is there.
fn read_whole(
    ring: &mut Ring<'_>,
    superblock: &Superblock,
    header: GroupHeader,
) -> Result<Option<ScannedGroup>> {
    let layout = &superblock.layout;
    let padded = header.padded_bytes(layout.ring_granule_bytes());
    // No group is larger than half the ring; recovery counts on it.
    if padded > layout.ring_bytes() / 2 {
        return Ok(None);
    }
    let bytes = ring.read(header.position, padded)?;
    let offset = ring.offset(header.position);
    Ok(header.verify(&superblock.store_id, &bytes).then_some(ScannedGroup { header, bytes, offset }))
}

/// Refuses a superblock that is older than a group in the place of `position`.
///
/// A lap begins only where the tail of a durable superblock, in both copies, has left room for it; and an epoch is the
/// sequence of one. When neither copy knows of that, newer ones were lost, and what they stood for cannot be told.
fn refuse_newer_group(ring: &mut Ring<'_>, superblock: &Superblock, position: u64) -> Result<()> {
    let layout = &superblock.layout;
    let ring_bytes = layout.ring_bytes();
    let front = ring.read(position, u64::from(layout.ring_granule_bytes()))?;
    let Some(claimed) = GroupHeader::claimed_position(&front) else { return Ok(()) };
    if claimed % ring_bytes != position % ring_bytes {
        return Ok(());
    }
    let Some(header) = GroupHeader::peek(&front, claimed, ring_bytes) else { return Ok(()) };
    let later_lap = claimed >= superblock.tail_position + ring_bytes;
    // The other copy has a sequence that is higher by one, at most.
    let later_epoch = header.epoch > superblock.sequence + 1;
    if !(later_lap || later_epoch) {
        return Ok(());
    }
    match read_whole(ring, superblock, header)? {
        Some(group) => {
            let reason = "newer than both copies of the superblock: the ones that belong to it were lost";
            Err(Error::corrupt(Structure::JournalGroup, group.offset, reason))
        }
        None => Ok(()),
    }
}

/// Refuses when a group that was written to another place than its own says that more was durable than is there: a
/// misdirected write lies over what it says was durable.
fn refuse_displaced_group(
    ring: &mut Ring<'_>,
    superblock: &Superblock,
    position: u64,
    expected: u64,
) -> Result<()> {
    let layout = &superblock.layout;
    let (granule, ring_bytes) = (layout.ring_granule_bytes(), layout.ring_bytes());
    let front = ring.read(position, u64::from(granule))?;
    let Some(claimed) = GroupHeader::claimed_position(&front) else { return Ok(()) };
    let Some(header) = GroupHeader::peek(&front, claimed, ring_bytes) else { return Ok(()) };
    let padded = header.padded_bytes(granule);
    let says_more = header.epoch == superblock.epoch && header.durable_lsn >= expected;
    if claimed % ring_bytes == position % ring_bytes || !says_more || padded > ring_bytes / 2 {
        return Ok(());
    }
    let bytes = ring.read(position, padded)?;
    if !header.verify(&superblock.store_id, &bytes) {
        return Ok(());
    }
    let reason = format!("LSN {expected} was durable by a group that lies where another one should");
    Err(Error::corrupt(Structure::JournalGroup, ring.offset(position), reason))
}

/// Whether the bytes at `position` are the beginning of a group of this epoch, perhaps with damage in its header.
///
/// A leftover of an earlier lap agrees in at most two of the four fields: its position is another one and its LSNs are
/// older. A header with one damaged field agrees in three.
fn looks_begun(ring: &mut Ring<'_>, superblock: &Superblock, position: u64, expected: u64) -> Result<bool> {
    let front = ring.read(position, u64::from(superblock.layout.ring_granule_bytes()))?;
    Ok(GroupHeader::resemblance(&front, superblock.epoch, position, expected) >= 3)
}
