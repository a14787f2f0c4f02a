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
#[inline]
pub fn read_varint(input: &mut &[u8]) -> Option<u64> {
    match *input {
        [byte @ 0..0x80, rest @ ..] => {
            *input = rest;
            Some(u64::from(*byte))
        }
        _ => read_longer(input),
    }
}

/// Eight bytes at once, where there are so many and the integer has no more.
#[inline]
fn read_longer(input: &mut &[u8]) -> Option<u64> {
    const MORE: u64 = 0x8080_8080_8080_8080;
    let Some(word) = input.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else {
        return read_bytewise(input);
    };
    let last = (!word & MORE).trailing_zeros();
    if last == u64::BITS {
        return read_bytewise(input);
    }
    let word = word & (u64::MAX >> (u64::BITS - 1 - last));
    *input = input.get(last as usize / 8 + 1..)?;
    if word >> (last - 7) == 0 {
        return None;
    }
    // Sevens become fourteens, these twenty-eights, and these the value.
    let sevens = word & !MORE;
    let fourteens = sevens & 0x007f_007f_007f_007f | (sevens & 0x7f00_7f00_7f00_7f00) >> 1;
    let twenty_eights = fourteens & 0x3fff_0000_3fff | (fourteens & 0x3fff_0000_3fff_0000) >> 2;
    Some(twenty_eights & 0x0fff_ffff | twenty_eights >> 32 << 28)
}

#[cold]
fn read_bytewise(input: &mut &[u8]) -> Option<u64> {
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

        /// Some bytes at once are what one after the other is: the value, and what is left.
        fn arbitrary_bytes_mean_what_they_mean_bytewise(bytes: Vec<u8>, more: Vec<bool>) -> bool {
            let bytes: Vec<u8> =
                bytes.iter().zip(more.iter().chain([&true; 12])).map(|(byte, more)| byte & 0x7f | u8::from(*more) << 7).collect();
            (0..bytes.len()).all(|start| {
                let (mut input, mut bytewise) = (&bytes[start..], &bytes[start..]);
                read_varint(&mut input) == read_bytewise(&mut bytewise) && input == bytewise
            })
        }

        fn every_length_is_read_alike(value: u64, len: u8, behind: Vec<u8>) -> bool {
            let value = value >> (7 * u32::from(len % 10)).min(63);
            let mut bytes = Vec::new();
            write_varint(&mut bytes, value);
            bytes.extend(&behind);
            let mut input = &bytes[..];
            read_varint(&mut input) == Some(value) && input == behind
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
