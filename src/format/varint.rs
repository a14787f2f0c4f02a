//! Variable-length integers: seven bits a byte, least significant first, the high bit says that more follow (LEB128).

/// Appends `value`.
pub fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 0x80")]
    out.push(value as u8);
}

/// Bytes that `value` takes.
#[must_use]
pub const fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Takes one integer from the front of `input`. `None` when the input ends within it, when it exceeds 64 bits, or when
/// it is longer than necessary (every value has one encoding only).
#[must_use]
pub fn read_varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return (byte != 0 || shift == 0).then_some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    quickcheck! {
        fn round_trip(value: u64) -> bool {
            let mut bytes = Vec::new();
            write_varint(&mut bytes, value);
            let mut input = &bytes[..];
            bytes.len() == varint_len(value) && read_varint(&mut input) == Some(value) && input.is_empty()
        }

        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) -> bool {
            let mut input = &bytes[..];
            while !input.is_empty() && read_varint(&mut input).is_some() {}
            true
        }
    }

    #[test]
    fn overlong_and_oversize_are_refused() {
        assert_eq!(read_varint(&mut &[0x80, 0x00][..]), None);
        assert_eq!(read_varint(&mut &[0xff; 11][..]), None);
        assert_eq!(read_varint(&mut &[0x80][..]), None);
        let mut max = Vec::new();
        write_varint(&mut max, u64::MAX);
        assert_eq!(read_varint(&mut &max[..]), Some(u64::MAX));
    }
}
