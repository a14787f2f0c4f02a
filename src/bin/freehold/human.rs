//! Figures for people.

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// A size in binary units: exact where that is short, else with two digits behind the point.
pub(crate) fn size(bytes: u64) -> String {
    let power = if bytes == 0 { 0 } else { bytes.ilog2() / 10 };
    let unit = UNITS.get(power as usize).copied().unwrap_or("B");
    let whole = bytes >> (10 * power);
    let rest = bytes - (whole << (10 * power));
    if rest == 0 {
        return format!("{whole} {unit}");
    }
    // Rounded down, so that a nearly full unit is not shown as a full one. A tenth of the rest cannot overflow.
    let hundredths = (u128::from(rest) * 100) >> (10 * power);
    format!("{whole}.{hundredths:02} {unit}")
}

/// A figure, if it could be read.
pub(crate) fn known(is_known: bool, figure: impl FnOnce() -> String) -> String {
    if is_known { figure() } else { "unknown".to_owned() }
}

/// Part of a whole in percent.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "0.0 %".to_owned();
    }
    let tenths = u128::from(part) * 1000 / u128::from(whole);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// `1 extent`, `2 extents`.
pub(crate) fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A bar for part of a whole, of at most `width` cells, in eighths of a cell. Anything at all shows.
pub(crate) fn bar(part: u64, whole: u64, width: u16) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if part == 0 || whole == 0 {
        return String::new();
    }
    let eighths = u128::from(part.min(whole)) * u128::from(width) * 8 / u128::from(whole);
    let eighths = usize::try_from(eighths).unwrap_or(0).max(1);
    let last = EIGHTHS.get(eighths % 8).copied().unwrap_or_default();
    format!("{}{last}", "█".repeat(eighths / 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(4096), "4 KiB");
        assert_eq!(size(1536 << 20), "1.50 GiB");
        assert_eq!(size((1 << 30) - 1), "1023.99 MiB");
        assert_eq!(size(u64::MAX), "15.99 EiB");
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!(count(1, "extent"), "1 extent");
    }

    #[test]
    fn bars_show_anything_and_end_at_their_width() {
        assert_eq!([bar(0, 9, 4), bar(0, 0, 4), bar(9, 0, 4)], [""; 3]);
        assert_eq!([bar(1, u64::MAX, 4), bar(3, 8, 1), bar(5, 8, 2)], ["▏", "▍", "█▎"]);
        assert_eq!([bar(9, 9, 4), bar(10, 9, 4), bar(u64::MAX, u64::MAX, 4)], ["████"; 3]);
    }
}
