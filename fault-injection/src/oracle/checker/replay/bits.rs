//! Bits in a row.

use std::ops::Range;

/// Gives these bits one value.
pub(super) fn put(bytes: &mut [u8], bits: &Range<usize>, value: bool) {
    let first = bits.start / 8;
    let touched = bytes.get_mut(first..bits.end.div_ceil(8)).unwrap_or_default();
    for (byte, number) in touched.iter_mut().zip(first..) {
        let low = bits.start.saturating_sub(number * 8).min(8);
        let high = bits.end.saturating_sub(number * 8).min(8);
        let mask = (0xff_u16 << low & !(0xff_u16 << high)).to_le_bytes()[0];
        *byte = if value { *byte | mask } else { *byte & !mask };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_bits_and_no_others() {
        for start in 0..40 {
            for end in start..=40 {
                for value in [false, true] {
                    let mut bytes = [if value { 0 } else { 0xff }; 5];
                    put(&mut bytes, &(start..end), value);
                    for bit in 0..40 {
                        let is_set = bytes[bit / 8] >> (bit % 8) & 1 == 1;
                        assert_eq!(is_set == value, (start..end).contains(&bit), "{start} {end} {bit}");
                    }
                }
            }
        }
    }
}
