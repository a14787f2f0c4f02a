//! The index on the device: fixed-size slots, one a blob.

use freehold::Extent;

use super::error::{Error, Result};

/// Size of a slot. A page holds a whole number of them.
pub(crate) const SLOT_BYTES: usize = 512;
/// The longest name, in bytes of UTF-8.
pub(crate) const MAX_NAME_BYTES: usize = SLOT_BYTES - FIXED_BYTES - CHECK_BYTES;

const USED: u8 = 0xB1;
/// Mark, one reserved byte, length of the name, length of the blob, hash, extent.
const FIXED_BYTES: usize = 1 + 1 + 2 + 8 + 32 + Extent::ENCODED_BYTES;
/// The caller's bytes carry no checksum of Freehold, so that a slot brings its own.
const CHECK_BYTES: usize = 8;

/// What the index says about a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Its name.
    pub(crate) name: String,
    /// Its length in bytes.
    pub(crate) len: u64,
    /// BLAKE3 of its bytes.
    pub(crate) hash: blake3::Hash,
    /// Where they lie. An empty blob has none.
    pub(crate) extent: Option<Extent>,
}

/// Names are lines of text: not empty, not too long, without control characters.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_NAME_BYTES {
        "it is too long"
    } else if name.chars().any(char::is_control) {
        "it has a control character"
    } else {
        return Ok(());
    };
    Err(Error::Name { name: name.to_owned(), reason })
}

impl Slot {
    /// Written over the start of a slot, it makes it free.
    pub(crate) const FREE_MARK: [u8; 1] = [0];

    /// The slot's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let name_len = u16::try_from(self.name.len()).unwrap_or(u16::MAX);
        let extent = self.extent.map_or([0; Extent::ENCODED_BYTES], |extent| extent.to_bytes());
        let mut bytes = Vec::with_capacity(SLOT_BYTES);
        bytes.extend([USED, 0]);
        bytes.extend(name_len.to_le_bytes());
        bytes.extend(self.len.to_le_bytes());
        bytes.extend(self.hash.as_bytes());
        bytes.extend(extent);
        bytes.extend(self.name.as_bytes());
        bytes.resize(SLOT_BYTES - CHECK_BYTES, 0);
        bytes.extend(check_of(&bytes));
        bytes
    }

    /// The blob that a slot names, or `None` for a free slot.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Self>, &'static str> {
        let Some((&mark, _)) = bytes.split_first() else { return Err("a slot is short") };
        if mark == 0 {
            return Ok(None);
        }
        let (content, check) = bytes.split_last_chunk::<CHECK_BYTES>().ok_or("a slot is short")?;
        if mark != USED || check_of(content) != *check {
            return Err("a slot's checksum is wrong");
        }
        Self::fields(content).map(Some).ok_or("a slot contradicts itself")
    }

    fn fields(content: &[u8]) -> Option<Self> {
        let (_, rest) = content.split_first_chunk::<2>()?;
        let (name_len, rest) = rest.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let (hash, rest) = rest.split_first_chunk::<32>()?;
        let (extent, names) = rest.split_first_chunk::<{ Extent::ENCODED_BYTES }>()?;
        let name = names.get(..usize::from(u16::from_le_bytes(*name_len)))?;
        let len = u64::from_le_bytes(*len);
        let extent = (len > 0).then(|| Extent::from_bytes(extent));
        if extent.is_some_and(|extent| extent.len < len) {
            return None;
        }
        let name = std::str::from_utf8(name).ok()?.to_owned();
        check_name(&name).ok()?;
        Some(Self { name, len, hash: blake3::Hash::from_bytes(*hash), extent })
    }
}

fn check_of(content: &[u8]) -> [u8; CHECK_BYTES] {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(content).as_bytes();
    [a, b, c, d, e, f, g, h]
}
