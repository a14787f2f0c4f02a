//! The rules of the journal: groups in the ring.

use freehold::format::{GROUP_HEADER_BYTES, GroupHeader};

use super::super::Watched;
use super::super::store::{Group, Version};
use super::super::views::Views;
use super::{Breach, Check, Store, Write};

/// A group on its way to the medium.
#[derive(Debug)]
pub(super) struct Flight {
    /// Where it began in the trace.
    pub(super) event: usize,
    header: GroupHeader,
    bytes: Vec<u8>,
    padded: u64,
    /// Present once all of it was issued.
    pub(super) group: Option<Group>,
}

impl Store {
    /// A write to the ring. Gives whether it completes a group.
    pub(super) fn journal(
        &mut self,
        views: &Views,
        write: &Write<'_>,
        watched: &mut Watched,
    ) -> Result<bool, Breach> {
        let ring = self.ring();
        if !write.lies_in(&ring) {
            return Breach::because("place", "a group outside the ring");
        }
        let granule = u64::from(self.layout.ring_granule_bytes());
        let start = write.offset - ring.start;
        let end = (start + write.data.len() as u64).next_multiple_of(granule);
        if let Some(version) = self.valid().find(|version| version.needs_ring(&(start..end))) {
            let message = format!(
                "over groups that the superblock copy with sequence {} needs",
                version.superblock.sequence
            );
            return Breach::because("ring", message);
        }
        let flight = match self.flight.take() {
            None if write.cut_short || self.voids_torn_tail(views, write)? => return Ok(false),
            None => self.new_flight(views, write, watched)?,
            Some(mut flight) => {
                let goes_on = start == 0 && (flight.bytes.len() + write.data.len()) as u64 <= flight.padded;
                if flight.group.is_some() || !goes_on {
                    let message = format!("the group begun at event {} is not durable yet", flight.event);
                    return Breach::because("one-group", message);
                }
                flight.bytes.extend_from_slice(write.data);
                flight
            }
        };
        let flight = self.flight.insert(flight);
        if (flight.bytes.len() as u64) < flight.padded {
            return Ok(false);
        }
        let (header, bytes) = (flight.header, std::mem::take(&mut flight.bytes));
        let Some(group) = Group::decode(&self.in_force()?.superblock, header, bytes) else {
            return Breach::because("group", "the bytes are not those that the header was sealed with");
        };
        self.data_first(views, &group)?;
        self.highest_lsn = self.highest_lsn.max(header.last_lsn());
        if let Some(flight) = &mut self.flight {
            flight.group = Some(group);
        }
        Ok(true)
    }

    /// Whether a write does nothing but give the group that is begun at the end of the journal a length of zero: in one
    /// sector, so that it completes nothing.
    fn voids_torn_tail(&self, views: &Views, write: &Write<'_>) -> Result<bool, Breach> {
        let sector_bytes = self.layout.sector_bytes() as usize;
        let seen = Version::read(&views.seen, self.in_force()?.superblock.clone());
        let place = self.layout.ring_offset() + seen.end % self.layout.ring_bytes();
        if write.data.len() != sector_bytes || write.offset != place {
            return Ok(false);
        }
        let mut front = views.seen.get(place, write.data.len() as u64).unwrap_or(&[]).to_vec();
        GroupHeader::void(&mut front);
        Ok(front == write.data)
    }

    /// Where a group begins: judges its header.
    fn new_flight(&self, views: &Views, write: &Write<'_>, watched: &mut Watched) -> Result<Flight, Breach> {
        let version = self.in_force()?;
        let ring_bytes = self.layout.ring_bytes();
        let start = write.offset - self.layout.ring_offset();
        let gap = (start + ring_bytes - version.end % ring_bytes) % ring_bytes;
        let Some(header) = GroupHeader::peek(write.data, version.end + gap, ring_bytes) else {
            return Breach::because("group", "no group that belongs there begins with these bytes");
        };
        let padded = header.padded_bytes(self.layout.ring_granule_bytes());
        if write.data.len() as u64 != padded.min(ring_bytes - start) {
            return Breach::because("group", "the group is longer or shorter than it says");
        }
        let epoch = version.superblock.epoch;
        if header.epoch == epoch {
            self.appended(version, &header)?;
        } else if header.epoch > epoch && header.epoch == version.superblock.sequence {
            watched.restated += 1;
            Self::restated(version, views, &header)?;
        } else {
            let message = format!("a group of epoch {} in epoch {epoch}", header.epoch);
            return Breach::because("group", message);
        }
        Ok(Flight { event: write.event, header, bytes: write.data.to_vec(), padded, group: None })
    }

    /// A group right behind the last one.
    fn appended(&self, version: &Version, header: &GroupHeader) -> Check {
        if header.position != version.end {
            let message = format!("at position {}, not at {}", header.position, version.end);
            return Breach::because("group", message);
        }
        let used = self.highest_lsn.max(version.superblock.next_lsn - 1);
        if header.first_lsn <= used {
            let message = format!("LSN {}; up to {used} they may have been used", header.first_lsn);
            return Breach::because("lsn", message);
        }
        Self::marks(header, version.last_lsn)
    }

    /// The last group, written again under the next epoch: the sequence of the superblock on the medium, which no
    /// later opening takes for an epoch.
    fn restated(version: &Version, views: &Views, header: &GroupHeader) -> Check {
        // What recovery sees may not be on the medium: that is why the group is written again.
        let seen = Version::read(&views.seen, version.superblock.clone());
        let last = seen.groups.last().map(|group| (group.header.first_lsn, group.header.transactions));
        if last != Some((header.first_lsn, header.transactions)) {
            let message = format!("LSN {} is taken along, the last group is {last:?}", header.first_lsn);
            return Breach::because("lsn", message);
        }
        // Whatever reaches the medium of this write must not complete a group that was dropped.
        let layout = &seen.superblock.layout;
        let place = layout.ring_offset() + seen.end % layout.ring_bytes();
        let front = views.medium.get(place, GROUP_HEADER_BYTES as u64).unwrap_or(&[]);
        let dropped = GroupHeader::peek(front, seen.end, layout.ring_bytes());
        if let Some(dropped) = dropped.filter(|dropped| dropped.epoch == seen.superblock.epoch) {
            let message =
                format!("over pieces of the group with LSN {}, which was dropped", dropped.first_lsn);
            return Breach::because("torn-tail", message);
        }
        Self::marks(header, version.superblock.tail_lsn)
    }

    fn marks(header: &GroupHeader, durable_lsn: u64) -> Check {
        if header.durable_lsn > durable_lsn {
            let message = format!("it says LSN {} was durable; {durable_lsn} was", header.durable_lsn);
            return Breach::because("durable-mark", message);
        }
        Ok(())
    }
}
