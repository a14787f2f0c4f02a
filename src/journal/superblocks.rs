//! The superblock copies: choosing one, and replacing both without ever having none (rule 10).

use crate::device::{Port, Purpose};
use crate::error::{Error, IoOperation, Result, Structure};
use crate::format::{
    FORMAT_VERSION, GroupHeader, HEAD_BLOCKS, Layout, MAX_BLOCK_BYTES, MIN_BLOCK_BYTES, SUPERBLOCK_COPIES,
    Superblock, SuperblockError, WITNESS_COPIES, Witness, is_zero,
};

/// What was found at the place of one copy.
#[derive(Clone, Debug)]
pub struct SuperblockCopy {
    /// Offset on the device in bytes.
    pub offset: u64,
    /// The copy, or why there is none.
    pub content: std::result::Result<Superblock, SuperblockError>,
}

/// The superblock in force and the state of its copies.
#[derive(Clone, Debug)]
pub struct SuperblockPair {
    current: Superblock,
    /// The copy to overwrite first: never the only one that is certainly on the medium.
    first: usize,
    /// Both copies were found valid and alike.
    agreed: bool,
}

fn read_copy(port: &Port, offset: u64, block_bytes: Option<u32>) -> Result<SuperblockCopy> {
    let device_bytes = port.geometry().len_bytes;
    let missing = SuperblockCopy { offset, content: Err(SuperblockError::NoMagic) };
    if offset + u64::from(MIN_BLOCK_BYTES) > device_bytes {
        return Ok(missing);
    }
    let front = port.read_vec(offset, MIN_BLOCK_BYTES as usize)?;
    let Some(claimed) = Superblock::claimed_block_bytes(&front) else {
        let content =
            if is_zero(&front) { Err(SuperblockError::Blank) } else { Err(SuperblockError::NoMagic) };
        return Ok(SuperblockCopy { offset, content });
    };
    let size = block_bytes.unwrap_or(claimed);
    let plausible = size.is_power_of_two()
        && (MIN_BLOCK_BYTES..=MAX_BLOCK_BYTES).contains(&size)
        && offset + u64::from(size) <= device_bytes;
    let block =
        if plausible && size > MIN_BLOCK_BYTES { port.read_vec(offset, size as usize)? } else { front };
    Ok(SuperblockCopy { offset, content: Superblock::decode(&block, offset) })
}

/// Reads both copies, without choosing. The place of the second follows from the first, or is searched for.
pub fn inspect_superblocks(port: &Port) -> Result<[SuperblockCopy; SUPERBLOCK_COPIES]> {
    let first = read_copy(port, Layout::superblock_offset_for(MIN_BLOCK_BYTES, 0), None)?;
    if let Ok(superblock) = &first.content {
        let block_bytes = superblock.layout.block_bytes();
        let second = read_copy(port, Layout::superblock_offset_for(block_bytes, 1), Some(block_bytes))?;
        return Ok([first, second]);
    }
    let mut block_bytes = MIN_BLOCK_BYTES;
    let mut second = read_copy(port, Layout::superblock_offset_for(block_bytes, 1), Some(block_bytes))?;
    while matches!(second.content, Err(SuperblockError::NoMagic | SuperblockError::Blank))
        && block_bytes < MAX_BLOCK_BYTES
    {
        block_bytes *= 2;
        second = read_copy(port, Layout::superblock_offset_for(block_bytes, 1), Some(block_bytes))?;
    }
    Ok([first, second])
}

/// Where a witness or the first group of a ring begins, for any size of blocks. Whose it is cannot be told.
fn find_trace(port: &Port) -> Result<Option<u64>> {
    let mut block = u64::from(MIN_BLOCK_BYTES);
    while block <= u64::from(MAX_BLOCK_BYTES) {
        let witnesses = (0..WITNESS_COPIES as u64).map(|copy| (2 * copy + 1) * block);
        for offset in witnesses.chain([HEAD_BLOCKS * block]) {
            if offset + u64::from(MIN_BLOCK_BYTES) > port.geometry().len_bytes {
                continue;
            }
            let front = port.read_vec(offset, MIN_BLOCK_BYTES as usize)?;
            if Witness::is_claimed(&front) || GroupHeader::claimed_position(&front).is_some() {
                return Ok(Some(offset));
            }
        }
        block *= 2;
    }
    Ok(None)
}

impl SuperblockPair {
    /// Reads both copies and chooses.
    ///
    /// # Errors
    /// [`Error::NotFreehold`] without any trace of a superblock; [`Error::Corrupt`] when there are only damaged ones, and the
    /// refusals of newer versions and unknown features.
    pub fn read(port: &Port) -> Result<Self> {
        let len = port.geometry().len_bytes;
        if len < u64::from(MIN_BLOCK_BYTES) {
            let reason =
                if len == 0 { "the file is empty".to_owned() } else { format!("{len} bytes are too few") };
            return Err(Error::NotFreehold { reason, trace: None });
        }
        let copies = match inspect_superblocks(port) {
            Err(Error::Io { operation: IoOperation::Read, .. }) if len < 2 * u64::from(MIN_BLOCK_BYTES) => {
                return Err(Error::NotFreehold { reason: format!("{len} bytes are too few"), trace: None });
            }
            other => other?,
        };
        let nowhere = |copy: &SuperblockCopy| {
            matches!(copy.content, Err(SuperblockError::NoMagic | SuperblockError::Blank))
        };
        if copies.iter().all(nowhere)
            && let Some(offset) = find_trace(port)?
        {
            let reason = format!(
                "there is no superblock, but something of a store at offset {offset}: both copies were overwritten, or formatting over it was cut off"
            );
            return Err(Error::NotFreehold { reason, trace: Some(offset) });
        }
        Self::choose(&copies)
    }

    fn choose(copies: &[SuperblockCopy; SUPERBLOCK_COPIES]) -> Result<Self> {
        let [a, b] = copies;
        for copy in copies {
            if let Err(SuperblockError::Refused(error)) = &copy.content {
                return Err(error.clone());
            }
        }
        match (&a.content, &b.content) {
            (Ok(a), Ok(b)) => {
                if a.store_id != b.store_id {
                    return Err(Error::corrupt(
                        Structure::Superblock,
                        copies[1].offset,
                        "copies of two stores",
                    ));
                }
                // The older copy was flushed before the newer one was issued; the newer one may be in a cache only.
                let first = usize::from(b.sequence > a.sequence);
                let agreed = a.same_content(b);
                Ok(Self { current: if first == 1 { b.clone() } else { a.clone() }, first, agreed })
            }
            (Ok(a), Err(_)) => Ok(Self { current: a.clone(), first: 1, agreed: false }),
            (Err(_), Ok(b)) => Ok(Self { current: b.clone(), first: 0, agreed: false }),
            (Err(error_a), Err(error_b)) => Err(Self::neither(error_a, error_b, copies)),
        }
    }

    fn neither(
        a: &SuperblockError,
        b: &SuperblockError,
        copies: &[SuperblockCopy; SUPERBLOCK_COPIES],
    ) -> Error {
        use SuperblockError::{Blank, Damaged};
        match (a, b) {
            // Formatting clears both places, then writes one copy, then the other.
            (Blank, Damaged { .. }) | (Damaged { .. }, Blank) => {
                Error::NotFreehold { reason: "it was never formatted to the end".to_owned(), trace: None }
            }
            // A newer format may have another checksum rule; damage would hardly hit both copies alike.
            (Damaged { version: va, .. }, Damaged { version: vb, .. })
                if va == vb && *va > FORMAT_VERSION =>
            {
                Error::UnsupportedVersion { found: *va, supported: FORMAT_VERSION }
            }
            (Damaged { reason, .. }, _) => Error::corrupt(
                Structure::Superblock,
                copies[0].offset,
                format!("{reason}, and no other copy is usable"),
            ),
            (_, Damaged { reason, .. }) => Error::corrupt(
                Structure::Superblock,
                copies[1].offset,
                format!("{reason}, and no other copy is usable"),
            ),
            _ => Error::NotFreehold { reason: "there is no superblock".to_owned(), trace: None },
        }
    }

    /// A pair for a store that has none yet.
    #[must_use]
    pub fn fresh(superblock: Superblock) -> Self {
        Self { current: superblock, first: 1, agreed: false }
    }

    /// The superblock in force.
    #[must_use]
    pub fn current(&self) -> &Superblock {
        &self.current
    }

    /// Whether both copies were found valid and alike.
    #[must_use]
    pub fn is_agreed(&self) -> bool {
        self.agreed
    }

    /// Writes a changed superblock over both copies, one after the other, each durable before the next is touched.
    ///
    /// Everything that the new one refers to must be durable. After an error the pair on the device is unknown, and
    /// the caller must stop writing.
    pub fn publish(&mut self, port: &Port, change: impl FnOnce(&mut Superblock)) -> Result<()> {
        let mut next = self.current.clone();
        change(&mut next);
        for copy in [self.first, 1 - self.first] {
            next.sequence += 1;
            let offset = next.layout.superblock_offset(copy);
            port.write(offset, &next.encode(offset), Purpose::Superblock)?;
            port.flush()?;
        }
        self.current = next;
        self.agreed = true;
        Ok(())
    }
}
