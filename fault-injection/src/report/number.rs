//! Numbers as text.

/// Puts commas between groups of three digits. What follows the first character that is no digit stays as it
/// is.
fn grouped(digits: &str) -> String {
    let whole = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (whole, rest) = digits.split_at(whole);
    let mut text = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

/// A count with thousands separators.
#[must_use]
pub fn count(number: u64) -> String {
    grouped(&number.to_string())
}

/// A count and what it counts.
pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// How many there are.
pub(super) fn length(items: impl IntoIterator) -> u64 {
    items.into_iter().fold(0, |number, _| number + 1)
}

/// A number with which one can calculate: finite, not negative, and not near the largest that there is. Else
/// 0.
pub(super) fn sane(number: f64) -> f64 {
    if number > 0.0 && number < 1e30 { number } else { 0.0 }
}

/// How many in a second, or nothing if no time to speak of passed.
pub(super) fn rate(number: u64, seconds: f64) -> Option<String> {
    let seconds = sane(seconds);
    let rate = if seconds > 0.0 { number as f64 / seconds } else { return None };
    if rate > 1e15 {
        return None;
    }
    Some(grouped(&if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }))
}

/// A part of a whole in percent. Only the whole is 100 %, only nothing is 0 %.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return "0 %".into();
    }
    if part >= whole {
        return "100 %".into();
    }
    let share = (100.0 * part as f64 / whole as f64).clamp(0.1, 99.9);
    format!("{share:.1} %")
}

/// Removes what a decimal fraction does not need.
pub(super) fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// A short form for axes: `1.5M`. At most two digits after the point.
pub(super) fn short(number: f64) -> String {
    let mut number = sane(number);
    let mut unit = "";
    for next in ["k", "M", "G", "T", "P", "E"] {
        if number < 1000.0 {
            break;
        }
        number /= 1000.0;
        unit = next;
    }
    format!("{}{unit}", trimmed(&format!("{number:.2}")))
}

/// The shortest form: at most four characters.
pub(super) fn tiny(number: u64) -> String {
    let (mut whole, mut tenths, mut unit) = (number, 0, "");
    for next in ["k", "M", "G", "T", "P", "E"] {
        if whole < 1000 {
            break;
        }
        tenths = whole % 1000 / 100;
        whole /= 1000;
        unit = next;
    }
    if tenths > 0 && whole < 10 { format!("{whole}.{tenths}{unit}") } else { format!("{whole}{unit}") }
}

/// A time span in words.
pub(super) fn duration(seconds: f64) -> String {
    let seconds = sane(seconds);
    if seconds < 120.0 {
        return format!("{} s", trimmed(&format!("{seconds:.1}")));
    }
    let minutes = (seconds / 60.0).floor();
    if minutes < 120.0 {
        return format!("{minutes:.0} min {:.0} s", (seconds - 60.0 * minutes).floor());
    }
    let hours = (minutes / 60.0).floor();
    format!("{} h {:.0} min", grouped(&format!("{hours:.0}")), minutes - 60.0 * hours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1000), "1,000");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(counted(1, "state", "states"), "1 state");
        assert_eq!(counted(2000, "state", "states"), "2,000 states");
    }

    #[test]
    fn a_rate_needs_time() {
        assert_eq!(rate(3_000_000, 120.0).as_deref(), Some("25,000"));
        assert_eq!(rate(5, 2.0).as_deref(), Some("2.5"));
        assert_eq!(rate(5, 0.0), None);
        assert_eq!(rate(5, f64::NAN), None);
        assert_eq!(rate(u64::MAX, 1e-200), None);
    }

    #[test]
    fn a_percentage_is_never_rounded_to_the_whole() {
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!(percent(999_999_999, 1_000_000_000), "99.9 %");
        assert_eq!(percent(1, 1_000_000_000), "0.1 %");
        assert_eq!(percent(7, 7), "100 %");
        assert_eq!(percent(0, 0), "0 %");
    }

    #[test]
    fn short_forms_are_short() {
        assert_eq!(short(0.0), "0");
        assert_eq!(short(1_500_000.0), "1.5M");
        assert_eq!(short(250_000.0), "250k");
        assert_eq!(short(2e19), "20E");
        assert_eq!(tiny(999), "999");
        assert_eq!(tiny(1_234), "1.2k");
        assert_eq!(tiny(65_536), "65k");
        assert_eq!(tiny(u64::MAX), "18E");
        for bits in 0..64 {
            assert!(tiny(u64::MAX >> bits).len() <= 4);
        }
    }

    #[test]
    fn time_spans_read_well() {
        assert_eq!(duration(0.25), "0.2 s");
        assert_eq!(duration(119.0), "119 s");
        assert_eq!(duration(125.9), "2 min 5 s");
        assert_eq!(duration(7_260.0), "2 h 1 min");
        assert_eq!(duration(f64::INFINITY), "0 s");
    }
}
