//! Reading the journal after a power loss: which groups count, and whether what stops them is a tear or rot (rule 7).

use crate::device::Port;
use crate::error::{Error, Result, Structure};
use crate::format::{GroupHeader, Superblock, WITNESS_COPIES, Witness};

use super::batch::{Batch, GroupView};
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

/// The journal ends in pieces of groups that nothing says were durable.
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

/// The end of a journal.
#[derive(Clone, Copy, Debug)]
pub(super) struct JournalEnd {
    pub(super) position: u64,
    /// LSN of the last transaction, or of the checkpoint.
    pub(super) last_lsn: u64,
    pub(super) torn: Option<TornTail>,
    pub(super) witness: Option<Witness>,
    /// The copy that the next witness goes over.
    pub(super) witness_copy: usize,
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
    let mut groups = Vec::new();
    let end = read_journal(port, superblock, &mut |batch| {
        groups.extend(batch.groups().map(GroupView::to_owned));
        batch
    })?;
    Ok(JournalScan {
        groups,
        end_position: end.position,
        last_lsn: end.last_lsn,
        torn: end.torn,
        witness: end.witness,
        witness_copy: end.witness_copy,
    })
}

/// Reads the journal from the superblock's tail. `sink` gets the groups that count, some at a time, before it is known what
/// follows them: with an error, none of them counts. It gives back a batch to be filled again.
pub(super) fn read_journal(
    port: &Port,
    superblock: &Superblock,
    sink: &mut dyn FnMut(Batch) -> Batch,
) -> Result<JournalEnd> {
    let newest = read_witness(port, superblock)?;
    let mut ring = Ring::new(port, &superblock.layout);
    let mut end = JournalEnd {
        position: superblock.tail_position,
        last_lsn: superblock.tail_lsn,
        torn: None,
        witness: newest.map(|(_, witness)| witness),
        witness_copy: newest.map_or(0, |(copy, _)| 1 - copy),
    };
    read_groups(&mut ring, superblock, &mut end, sink)?;
    if end.position < superblock.tail_position + superblock.layout.ring_bytes() {
        end.torn = judge_end(&mut ring, superblock, &end)?;
    }
    Ok(end)
}

/// Follows the groups to the first place where none counts.
fn read_groups(
    ring: &mut Ring<'_>,
    superblock: &Superblock,
    end: &mut JournalEnd,
    sink: &mut dyn FnMut(Batch) -> Batch,
) -> Result<()> {
    let granule = superblock.layout.ring_granule_bytes();
    let ring_end = superblock.tail_position + superblock.layout.ring_bytes();
    let mut batch = Batch::default();
    while end.position < ring_end {
        let room = ring_end - end.position;
        batch = batch.make_room(ring, end.position, u64::from(granule), sink);
        let Some(header) = peek_group(ring, superblock, end.position, room)? else { break };
        batch = batch.make_room(ring, end.position, header.padded_bytes(granule), sink);
        match verified(ring, superblock, end.position, header)? {
            // LSNs only grow: an older one is a leftover of a recovery that did not come to its end.
            Some(offset) if header.first_lsn > end.last_lsn => {
                if header.durable_lsn > end.last_lsn {
                    let reason = format!("says that LSN {} was durable before it", header.durable_lsn);
                    return Err(Error::corrupt(Structure::JournalGroup, offset, reason));
                }
                end.last_lsn = header.last_lsn();
                let len = header.padded_bytes(granule);
                batch.note(header, end.position, len, offset);
                end.position += len;
            }
            _ => break,
        }
    }
    batch.hand_over(ring, sink);
    Ok(())
}

/// Something else than a group follows. What says that there must have been one?
fn judge_end(ring: &mut Ring<'_>, superblock: &Superblock, end: &JournalEnd) -> Result<Option<TornTail>> {
    let layout = &superblock.layout;
    let granule = u64::from(layout.ring_granule_bytes());
    let ring_end = superblock.tail_position + layout.ring_bytes();
    let position = end.position;
    let offset = ring.offset(position);
    let expected = end.last_lsn + 1;
    if let Some(witness) = end.witness
        && witness.durable_lsn >= expected
    {
        let reason = format!("LSN {expected} was durable by the witness, and is not readable");
        return Err(Error::corrupt(Structure::JournalGroup, offset, reason));
    }
    let mut torn = looks_begun(ring, superblock, position, expected)?;
    if superblock.state == crate::format::StoreState::Open || torn {
        refuse_newer_group(ring, superblock, position)?;
        refuse_displaced_group(ring, superblock, position, expected)?;
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
            if let Some((header, at)) = read_group(ring, superblock, ahead, ring_end - ahead)? {
                if header.durable_lsn >= expected {
                    let reason = format!(
                        "LSN {expected} was durable by the group at offset {at}, and is not readable"
                    );
                    return Err(Error::corrupt(Structure::JournalGroup, offset, reason));
                }
                torn = true;
            } else {
                refuse_newer_group(ring, superblock, ahead)?;
                refuse_displaced_group(ring, superblock, ahead, expected)?;
            }
            ahead += granule;
        }
    }
    Ok(torn.then_some(TornTail { position, offset }))
}

/// A whole, valid group of the current epoch at `position`, and where it lies on the device.
fn read_group(
    ring: &mut Ring<'_>,
    superblock: &Superblock,
    position: u64,
    room: u64,
) -> Result<Option<(GroupHeader, u64)>> {
    let Some(header) = peek_group(ring, superblock, position, room)? else { return Ok(None) };
    Ok(verified(ring, superblock, position, header)?.map(|offset| (header, offset)))
}

/// What begins like a group of the current epoch at `position`.
fn peek_group(
    ring: &mut Ring<'_>,
    superblock: &Superblock,
    position: u64,
    room: u64,
) -> Result<Option<GroupHeader>> {
    let layout = &superblock.layout;
    let granule = layout.ring_granule_bytes();
    let front = ring.read(position, u64::from(granule))?;
    let header = GroupHeader::peek(front, position, layout.ring_bytes());
    Ok(header.filter(|header| {
        let padded = header.padded_bytes(granule);
        // No group is larger than half the ring; recovery counts on it.
        header.epoch == superblock.epoch && padded <= room && padded <= layout.ring_bytes() / 2
    }))
}

/// Where on the device the group at `position` lies that a header promises, if all of it is there.
fn verified(
    ring: &mut Ring<'_>,
    superblock: &Superblock,
    position: u64,
    header: GroupHeader,
) -> Result<Option<u64>> {
    let bytes = ring.read(position, header.padded_bytes(superblock.layout.ring_granule_bytes()))?;
    let counts = header.verify(&superblock.store_id, bytes);
    Ok(counts.then(|| ring.offset(position)))
}

/// Refuses a superblock that is older than a group in the place of `position`.
///
/// A lap begins only where the tail of a durable superblock, in both copies, has left room for it; and an epoch is the
/// sequence of one. When neither copy knows of that, newer ones were lost, and what they stood for cannot be told.
fn refuse_newer_group(ring: &mut Ring<'_>, superblock: &Superblock, position: u64) -> Result<()> {
    let layout = &superblock.layout;
    let ring_bytes = layout.ring_bytes();
    let front = ring.read(position, u64::from(layout.ring_granule_bytes()))?;
    let Some(claimed) = GroupHeader::claimed_position(front) else { return Ok(()) };
    if claimed % ring_bytes != position % ring_bytes {
        return Ok(());
    }
    let Some(header) = GroupHeader::peek(front, claimed, ring_bytes) else { return Ok(()) };
    let later_lap = claimed >= superblock.tail_position + ring_bytes;
    // The other copy has a sequence that is higher by one, at most.
    let later_epoch = header.epoch > superblock.sequence + 1;
    if !(later_lap || later_epoch) || header.padded_bytes(layout.ring_granule_bytes()) > ring_bytes / 2 {
        return Ok(());
    }
    // The position that is claimed is the same place, and may be any number.
    match verified(ring, superblock, position, header)? {
        Some(offset) => {
            let reason = "newer than both copies of the superblock: the ones that belong to it were lost";
            Err(Error::corrupt(Structure::JournalGroup, offset, reason))
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
    let Some(claimed) = GroupHeader::claimed_position(front) else { return Ok(()) };
    let Some(header) = GroupHeader::peek(front, claimed, ring_bytes) else { return Ok(()) };
    let padded = header.padded_bytes(granule);
    let says_more = header.epoch == superblock.epoch && header.durable_lsn >= expected;
    if claimed % ring_bytes == position % ring_bytes || !says_more || padded > ring_bytes / 2 {
        return Ok(());
    }
    match verified(ring, superblock, position, header)? {
        Some(offset) => {
            let reason = format!("LSN {expected} was durable by a group that lies where another one should");
            Err(Error::corrupt(Structure::JournalGroup, offset, reason))
        }
        None => Ok(()),
    }
}

/// Whether the bytes at `position` are the beginning of a group of this epoch, perhaps with damage in its header.
///
/// A leftover of an earlier lap agrees in at most two of the four fields: its position is another one and its LSNs are
/// older. A header with one damaged field agrees in three.
fn looks_begun(ring: &mut Ring<'_>, superblock: &Superblock, position: u64, expected: u64) -> Result<bool> {
    let front = ring.read(position, u64::from(superblock.layout.ring_granule_bytes()))?;
    Ok(GroupHeader::resemblance(front, superblock.epoch, position, expected) >= 3)
}
