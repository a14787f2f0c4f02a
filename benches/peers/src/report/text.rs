//! Numbers and words of the page.

use crate::measure::Median;

/// Three digits or so; "none" for what was not measured.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if !value.is_finite() => "none".to_owned(),
        _ if size >= 999_500.0 => format!("{:.2} M", value / 1e6),
        _ if size >= 9999.5 => format!("{:.1} k", value / 1e3),
        _ if size >= 99.95 => format!("{value:.0}"),
        _ if size >= 9.995 => format!("{value:.1}"),
        _ if size >= 0.0995 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// With its interval, if it has one.
pub(crate) fn interval(median: Option<Median>) -> String {
    median.map_or_else(
        || "none".to_owned(),
        |Median { low, middle, high }| {
            let interval =
                if low < high { format!(" [{}, {}]", number(low), number(high)) } else { String::new() };
            format!("{}{interval}", number(middle))
        },
    )
}

pub(crate) fn tasks(count: usize) -> String {
    match count {
        1 => "one client".to_owned(),
        _ => format!("{} tasks", grouped(count)),
    }
}

/// Digits in groups of three.
pub(crate) fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_few_digits() {
        let values = [0.0, 0.0123, 0.5, 12.34, 123.4, 9999.0, 12_345.0, 999_999.0, f64::NAN];
        let said = ["0.00", "0.0123", "0.50", "12.3", "123", "9999", "12.3 k", "1.00 M", "none"];
        assert_eq!(values.map(number), said.map(str::to_owned));
        assert_eq!([1, 1000, 1_234_567].map(grouped), ["1", "1,000", "1,234,567"].map(str::to_owned));
    }
}
