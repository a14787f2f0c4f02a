//! Reading the payload of a group, from bytes that nobody vouches for.

use super::super::read_varint;
use super::extents::{self, ExtentRecord, ExtentsUpdate};
use super::{BlockUpdate, GROUP_HEADER_BYTES, KIND_BITS, Patch, UpdateKind};

/// Why a payload with a good checksum cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadError {
    /// Where in the group, in bytes.
    pub offset: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

/// What is done with the updates of a payload, one after the other: nothing is gathered for the sake of decoding.
pub trait PayloadVisitor<'a> {
    /// What stops the visit.
    type Error: From<PayloadError>;

    /// What becomes of an extent. Pages are for the visitor to check.
    ///
    /// # Errors
    /// What the visitor cannot use.
    fn extent(&mut self, record: ExtentRecord) -> Result<(), Self::Error>;

    /// That were all extents: this is the digest of the blocks of their headers after the group.
    ///
    /// # Errors
    /// What the visitor cannot use.
    fn end_of_extents(&mut self, digest: u64) -> Result<(), Self::Error>;

    /// An update of a block begins. Addresses are for the visitor to check.
    ///
    /// # Errors
    /// What the visitor cannot use.
    fn begin(&mut self, kind: UpdateKind, address: u64) -> Result<(), Self::Error>;

    /// A patch of this update, inside a block, behind the patch before.
    ///
    /// # Errors
    /// What the visitor cannot use.
    fn patch(&mut self, patch: Patch<'a>) -> Result<(), Self::Error>;

    /// The update is complete: this is the checksum of the block's content after the group.
    ///
    /// # Errors
    /// What the visitor cannot use.
    fn end(&mut self, checksum_after: u32) -> Result<(), Self::Error>;
}

/// Visits the payload of a group (its bytes behind the header, without padding). What is wrong with it may come to light
/// when a part of it has been visited.
///
/// # Errors
/// A payload that is not well-formed, and what the visitor finds.
pub fn visit_payload<'a, V: PayloadVisitor<'a>>(
    payload: &'a [u8],
    updates: u32,
    block_bytes: u32,
    visitor: &mut V,
) -> Result<(), V::Error> {
    let mut input = payload;
    let mut previous: Option<(UpdateKind, u64)> = None;
    let at = |input: &[u8], reason| {
        V::Error::from(PayloadError { offset: GROUP_HEADER_BYTES + payload.len() - input.len(), reason })
    };
    let number = |input: &mut &'a [u8]| read_varint(input).ok_or_else(|| at(input, "bad number"));
    for update in 0..updates {
        let tag = number(&mut input)?;
        if tag >> KIND_BITS != 0 {
            return Err(at(input, "unknown device"));
        }
        let kind = match tag {
            0 => UpdateKind::Metadata,
            1 => UpdateKind::CallerDelta,
            2 => UpdateKind::CallerImage,
            extents::KIND if update == 0 => {
                let digest = extents::read(&mut input, |record| visitor.extent(record), at)?;
                visitor.end_of_extents(digest)?;
                continue;
            }
            extents::KIND => return Err(at(input, "updates out of order")),
            _ => return Err(at(input, "unknown kind of update")),
        };
        let delta = number(&mut input)?;
        let address = match previous {
            Some((previous_kind, previous)) if previous_kind == kind => previous.checked_add(delta),
            _ => Some(delta),
        }
        .ok_or_else(|| at(input, "address out of range"))?;
        if previous.is_some_and(|previous| previous >= (kind, address)) {
            return Err(at(input, "updates out of order"));
        }
        previous = Some((kind, address));
        let count = number(&mut input)?;
        if count > u64::from(block_bytes) {
            return Err(at(input, "too many patches"));
        }
        visitor.begin(kind, address)?;
        let mut end = 0_u64;
        for _ in 0..count {
            let gap = number(&mut input)?;
            let length = number(&mut input)?;
            let (len, fill) = (length >> 1, length & 1 == 1);
            let offset = end.checked_add(gap).filter(|&offset| offset < u64::from(block_bytes));
            let after =
                offset.and_then(|o| o.checked_add(len)).filter(|&after| after <= u64::from(block_bytes));
            let (Some(offset), Some(after)) = (offset, after) else {
                return Err(at(input, "patch outside the block"));
            };
            if len == 0 {
                return Err(at(input, "empty patch"));
            }
            let taken = if fill { 1 } else { usize::try_from(len).unwrap_or(usize::MAX) };
            let Some((bytes, rest)) = input.split_at_checked(taken) else {
                return Err(at(input, "patch beyond the group"));
            };
            input = rest;
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            visitor.patch(match (fill, bytes.first()) {
                (true, Some(&byte)) => Patch::Fill { offset, len: usize::try_from(len).unwrap_or(0), byte },
                _ => Patch::Bytes { offset, bytes },
            })?;
            end = after;
        }
        let Some((checksum, rest)) = input.split_first_chunk::<4>() else {
            return Err(at(input, "checksum beyond the group"));
        };
        input = rest;
        visitor.end(u32::from_le_bytes(*checksum))?;
    }
    if !input.is_empty() {
        return Err(at(input, "bytes behind the last update"));
    }
    Ok(())
}

/// All updates of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload<'a> {
    /// What becomes of extents. It comes first.
    pub extents: Option<ExtentsUpdate>,
    /// Changes of blocks, in order of kind and address.
    pub blocks: Vec<BlockUpdate<'a>>,
}

/// Decodes the payload of a group (its bytes behind the header, without padding).
///
/// Every patch is inside a block of `block_bytes`; addresses and pages are for the caller to check.
///
/// # Errors
/// A payload that is not well-formed.
pub fn decode_payload(payload: &[u8], updates: u32, block_bytes: u32) -> Result<Payload<'_>, PayloadError> {
    let mut decoded = Payload::default();
    visit_payload(payload, updates, block_bytes, &mut decoded)?;
    Ok(decoded)
}

impl<'a> PayloadVisitor<'a> for Payload<'a> {
    type Error = PayloadError;

    fn extent(&mut self, record: ExtentRecord) -> Result<(), PayloadError> {
        let update = self.extents.get_or_insert_with(|| ExtentsUpdate { records: Vec::new(), digest: 0 });
        update.records.push(record);
        Ok(())
    }

    fn end_of_extents(&mut self, digest: u64) -> Result<(), PayloadError> {
        if let Some(update) = &mut self.extents {
            update.digest = digest;
        }
        Ok(())
    }

    fn begin(&mut self, kind: UpdateKind, address: u64) -> Result<(), PayloadError> {
        self.blocks.push(BlockUpdate { kind, address, patches: Vec::new(), checksum_after: 0 });
        Ok(())
    }

    fn patch(&mut self, patch: Patch<'a>) -> Result<(), PayloadError> {
        if let Some(update) = self.blocks.last_mut() {
            update.patches.push(patch);
        }
        Ok(())
    }

    fn end(&mut self, checksum_after: u32) -> Result<(), PayloadError> {
        if let Some(update) = self.blocks.last_mut() {
            update.checksum_after = checksum_after;
        }
        Ok(())
    }
}
