//! CRC-32C over what a block is, where it lies and whose it is.

use super::StoreId;

/// Checksum of a block at rest: covers the store's id, the block's own address, a tag that its parent knows, and the
/// content. Guards against rot, against a well-formed block at the wrong place (F21), against blocks of another store
/// (F24) and, through the parent that holds it, against lost writes (F20).
#[must_use]
pub fn block_checksum(store: &StoreId, address: u64, tag: u32, content: &[u8]) -> u32 {
    let mut prefix = [0_u8; 28];
    let (id, rest) = prefix.split_at_mut(16);
    id.copy_from_slice(store);
    let (at, tag_bytes) = rest.split_at_mut(8);
    at.copy_from_slice(&address.to_le_bytes());
    tag_bytes.copy_from_slice(&tag.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&prefix), content)
}

/// Checksum of a block's content alone: what the journal says that a block holds after a group (rule 11).
///
/// It lies behind the content in a group, whose own checksum covers both. A CRC over content and its plain CRC is
/// the same for every content, so that the group would not notice one whole image in the place of another. Hence the
/// CRC goes through a bijection that is not linear (the finaliser of MurmurHash3, by Austin Appleby).
#[must_use]
pub fn content_checksum(content: &[u8]) -> u32 {
    mixed_checksum(crc32c::crc32c(content))
}

/// The [`content_checksum`] of a content with this CRC-32C.
#[must_use]
pub(crate) const fn mixed_checksum(crc: u32) -> u32 {
    let mut mixed = crc;
    mixed = (mixed ^ mixed >> 16).wrapping_mul(0x85eb_ca6b);
    mixed = (mixed ^ mixed >> 13).wrapping_mul(0xc2b2_ae35);
    mixed ^ mixed >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Symptom: a torn group was accepted, with the image of an earlier lap in it. Cause: image and checksum came from
    /// the same old group, and the CRC of content followed by its CRC does not depend on the content. Found by cutting
    /// a group's write inside a sector.
    #[test]
    fn content_followed_by_its_checksum_does_not_cancel_out() {
        let joined = |content: &[u8]| {
            let mut bytes = content.to_vec();
            bytes.extend_from_slice(&content_checksum(content).to_le_bytes());
            crc32c::crc32c(&bytes)
        };
        assert_ne!(joined(&[1; 4096]), joined(&[2; 4096]));
        let plain = |content: &[u8]| {
            crc32c::crc32c_append(crc32c::crc32c(content), &crc32c::crc32c(content).to_le_bytes())
        };
        assert_eq!(plain(&[1; 4096]), plain(&[2; 4096]), "which is why");
    }

    #[test]
    fn store_address_tag_and_content_all_count() {
        let base = block_checksum(&[1; 16], 4096, 7, b"content");
        assert_ne!(base, block_checksum(&[2; 16], 4096, 7, b"content"));
        assert_ne!(base, block_checksum(&[1; 16], 8192, 7, b"content"));
        assert_ne!(base, block_checksum(&[1; 16], 4096, 8, b"content"));
        assert_ne!(base, block_checksum(&[1; 16], 4096, 7, b"c0ntent"));
    }
}
