//! Sizes on the command line: `4096`, `64KiB`, `1GiB`, `16T`.

/// Nothing on a device is further away than this.
const MAX_BYTES: u64 = i64::MAX.unsigned_abs();

/// Parses a size in bytes, with an optional binary unit.
///
/// Decimal units (`MB`) are refused: a store made for another size than was meant cannot be resized.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(digits_end).unwrap_or((text, ""));
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "ki" | "kib" => 10,
        "m" | "mi" | "mib" => 20,
        "g" | "gi" | "gib" => 30,
        "t" | "ti" | "tib" => 40,
        "p" | "pi" | "pib" => 50,
        "e" | "ei" | "eib" => 60,
        _ => return Err("expected bytes or a binary unit, as in 4096, 64KiB or 1GiB".to_owned()),
    };
    if digits.is_empty() {
        return Err("expected a number of bytes, as in 4096, 64KiB or 1GiB".to_owned());
    }
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|&bytes| bytes <= MAX_BYTES)
        .ok_or_else(|| "the size is too large; at most 2^63-1 bytes can be addressed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_binary_and_overflow_is_refused() {
        assert_eq!(parse("0"), Ok(0));
        assert_eq!(parse("4096"), Ok(4096));
        assert_eq!(parse("64KiB"), Ok(65536));
        assert_eq!(parse("1 gib"), Ok(1 << 30));
        assert_eq!(parse("16T"), Ok(16 << 40));
        assert_eq!(parse("9223372036854775807"), Ok(i64::MAX.unsigned_abs()));
        for bad in
            ["", "KiB", "-1", "1.5GiB", "1MB", "0x10", "8EiB", "16EiB", "99999999999999999999", "1GiBB"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
