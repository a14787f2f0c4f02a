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
#[must_use]
pub fn content_checksum(content: &[u8]) -> u32 {
    crc32c::crc32c(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_address_tag_and_content_all_count() {
        let base = block_checksum(&[1; 16], 4096, 7, b"content");
        assert_ne!(base, block_checksum(&[2; 16], 4096, 7, b"content"));
        assert_ne!(base, block_checksum(&[1; 16], 8192, 7, b"content"));
        assert_ne!(base, block_checksum(&[1; 16], 4096, 8, b"content"));
        assert_ne!(base, block_checksum(&[1; 16], 4096, 7, b"c0ntent"));
    }
}
