//! How numbers read: three decimals for fractions, four digits for losses, a dash for what was not measured.

/// Stands where a value was not measured or a parameter is not set.
pub(crate) const ABSENT: &str = "–";

/// A metric's value by its name: accuracies with three decimals, everything else with four significant digits.
pub fn metric_text(name: &str, value: Option<f64>) -> String {
    match value {
        None => ABSENT.to_owned(),
        Some(value) if !value.is_finite() => unbounded_text(value).to_owned(),
        Some(value) if name.ends_with("accuracy") => format!("{value:.3}"),
        Some(value) => significant_text(value),
    }
}

/// The spelling of values that JSON has no number for.
pub(crate) fn unbounded_text(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

/// Bytes in binary units.
pub(crate) fn bytes_text(n_bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if n_bytes < 1024 {
        return format!("{n_bytes} B");
    }
    let mut size = n_bytes as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", units[unit])
}

/// A count with its thousands set apart.
pub fn count_text(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Four significant digits, in powers of ten where zeros would hide them.
fn significant_text(value: f64) -> String {
    let scientific = format!("{value:.3e}");
    // Taken after rounding: 9.9999 has the exponent of 10.
    let exponent = scientific.split_once('e').and_then(|(_, exponent)| exponent.parse::<i32>().ok());
    match exponent {
        Some(exponent @ -4..=3) => format!("{value:.*}", (3 - exponent).unsigned_abs() as usize),
        Some(4..=6) => format!("{value:.0}"),
        _ => scientific,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_keep_four_digits_and_accuracies_three_decimals() {
        let cases = [
            ("valid.loss", Some(0.486_71), "0.4867"),
            ("valid.loss", Some(9.999_96), "10.00"),
            ("valid.loss", Some(0.0), "0.000"),
            ("valid.loss", Some(0.000_123_45), "0.0001234"),
            ("valid.loss", Some(0.000_012_345), "1.234e-5"),
            ("valid.loss", Some(12_345.6), "12346"),
            ("valid.loss", Some(1.5e9), "1.500e9"),
            ("valid.loss", Some(f64::NAN), "NaN"),
            ("valid.loss", Some(f64::NEG_INFINITY), "-Infinity"),
            ("valid.accuracy", Some(0.8478), "0.848"),
            ("valid.top5_accuracy", Some(1.0), "1.000"),
            ("valid.accuracy", None, "–"),
        ];
        for (name, value, expected) in cases {
            assert_eq!(metric_text(name, value), expected, "{name} {value:?}");
        }
    }

    #[test]
    fn sizes_are_binary_and_counts_grouped() {
        assert_eq!(
            [0, 1023, 1024, 9_578_016, u64::MAX].map(bytes_text),
            ["0 B", "1023 B", "1.0 KiB", "9.1 MiB", "16777216.0 TiB"]
        );
        assert_eq!([0, 999, 1000, 3_408_222].map(count_text), ["0", "999", "1,000", "3,408,222"]);
    }
}
