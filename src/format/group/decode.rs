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

/// What is done with the updates of blocks in a payload, one after the other: nothing is gathered for the sake of decoding.
pub trait PayloadVisitor<'a> {
    /// What stops the visit.
    type Error: From<PayloadError>;

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

/// Reads the payload of a group (its bytes behind the header, without padding): what becomes of extents, and then the updates of
/// blocks. What is wrong with it may come to light when a part of it has been read.
#[derive(Clone, Copy, Debug)]
pub struct PayloadReader<'a> {
    payload: &'a [u8],
    /// What is left of it.
    input: &'a [u8],
    updates: u32,
}

/// How far the payload of a group has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PayloadPlace {
    offset: usize,
    /// Updates from there on.
    updates: u32,
}

impl<'a> PayloadReader<'a> {
    /// From the front on; the header of the group says how many updates there are.
    #[must_use]
    pub fn new(payload: &'a [u8], updates: u32) -> Self {
        Self { payload, input: payload, updates }
    }

    /// Goes on where another reader of the same payload was.
    #[must_use]
    pub fn resume(payload: &'a [u8], PayloadPlace { offset, updates }: PayloadPlace) -> Self {
        Self { payload, input: payload.get(offset..).unwrap_or(&[]), updates }
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> PayloadPlace {
        PayloadPlace { offset: self.payload.len() - self.input.len(), updates: self.updates }
    }

    /// Reads what becomes of extents, if the payload begins with that, and returns the digest of the blocks of their headers
    /// after the group. Pages are for `each` to check.
    ///
    /// # Errors
    /// What is not well-formed, and what `each` cannot use.
    #[inline]
    pub fn extents<E: From<PayloadError>>(
        &mut self,
        each: impl FnMut(ExtentRecord) -> Result<(), E>,
    ) -> Result<Option<u64>, E> {
        match self.input.split_first() {
            Some((&extents::KIND, rest)) if self.updates > 0 => self.input = rest,
            _ => return Ok(None),
        }
        self.updates -= 1;
        let payload = self.payload;
        let digest =
            extents::read(&mut self.input, each, |input, reason| bad(payload, input, reason).into())?;
        Ok(Some(digest))
    }

    /// Visits the updates of blocks, all that are left.
    ///
    /// # Errors
    /// What is not well-formed, and what the visitor cannot use.
    pub fn blocks<V: PayloadVisitor<'a>>(self, block_bytes: u32, visitor: &mut V) -> Result<(), V::Error> {
        let Self { payload, mut input, updates } = self;
        let mut previous: Option<(UpdateKind, u64)> = None;
        let at = |input: &[u8], reason| V::Error::from(bad(payload, input, reason));
        let number = |input: &mut &'a [u8]| read_varint(input).ok_or_else(|| at(input, "bad number"));
        for _ in 0..updates {
            let tag = number(&mut input)?;
            if tag >> KIND_BITS != 0 {
                return Err(at(input, "unknown device"));
            }
            let kind = match tag {
                0 => UpdateKind::Metadata,
                1 => UpdateKind::CallerDelta,
                2 => UpdateKind::CallerImage,
                _ if tag == u64::from(extents::KIND) => return Err(at(input, "updates out of order")),
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
                    (true, Some(&byte)) => {
                        Patch::Fill { offset, len: usize::try_from(len).unwrap_or(0), byte }
                    }
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
}

/// What is wrong in front of what is left of a payload.
fn bad(payload: &[u8], left: &[u8], reason: &'static str) -> PayloadError {
    PayloadError { offset: GROUP_HEADER_BYTES + payload.len() - left.len(), reason }
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
    let mut reader = PayloadReader::new(payload, updates);
    let mut records = Vec::new();
    let digest = reader.extents(|record| {
        records.push(record);
        Ok::<_, PayloadError>(())
    })?;
    let extents = digest.map(|digest| ExtentsUpdate { records, digest });
    let mut decoded = Payload { extents, blocks: Vec::new() };
    reader.blocks(block_bytes, &mut decoded)?;
    Ok(decoded)
}

impl<'a> PayloadVisitor<'a> for Payload<'a> {
    type Error = PayloadError;

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
