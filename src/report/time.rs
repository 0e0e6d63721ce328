//! How moments and stretches of time read. All moments are UTC.

use jiff::Timestamp;

/// `2026-11-24 10:52`.
pub(crate) fn minute_text(at_ms: i64) -> String {
    formatted(at_ms, "%Y-%m-%d %H:%M")
}

/// `11-24 10:52`, where there is no room for the year.
pub(crate) fn short_minute_text(at_ms: i64) -> String {
    formatted(at_ms, "%m-%d %H:%M")
}

/// `2026-11-24 10:52:07`.
pub(crate) fn second_text(at_ms: i64) -> String {
    formatted(at_ms, "%Y-%m-%d %H:%M:%S")
}

/// RFC 3339 with milliseconds: `2026-11-24T10:52:07.250Z`.
pub(crate) fn rfc3339_text(at_ms: i64) -> String {
    formatted(at_ms, "%Y-%m-%dT%H:%M:%S%.3fZ")
}

/// The two largest units of a stretch of time: `4.2 s`, `1 m 32 s`, `3 h 05 m`, `2 d 04 h`.
pub(crate) fn duration_text(duration_ms: i64) -> String {
    let seconds = duration_ms / 1000;
    match seconds {
        ..10 => format!("{}.{} s", seconds, duration_ms % 1000 / 100),
        10..60 => format!("{seconds} s"),
        60..3_600 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {:02} m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

fn formatted(at_ms: i64, format: &str) -> String {
    match Timestamp::from_millisecond(at_ms) {
        Ok(timestamp) => timestamp.strftime(format).to_string(),
        // Out of the calendar's years: a broken clock wrote it, and the number still says so.
        Err(_) => format!("{at_ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_utc() {
        let at_ms = 1_795_517_527_250;
        assert_eq!(minute_text(at_ms), "2026-11-24 10:52");
        assert_eq!(short_minute_text(at_ms), "11-24 10:52");
        assert_eq!(second_text(at_ms), "2026-11-24 10:52:07");
        assert_eq!(rfc3339_text(at_ms), "2026-11-24T10:52:07.250Z");
        assert_eq!(rfc3339_text(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(minute_text(i64::MAX), "9223372036854775807 ms");
    }

    #[test]
    fn a_duration_shows_its_two_largest_units() {
        let cases = [
            (0, "0.0 s"),
            (4_250, "4.2 s"),
            (59_999, "59 s"),
            (92_000, "1 m 32 s"),
            (3_600_000, "1 h 00 m"),
            (90_000_000, "1 d 01 h"),
        ];
        for (duration_ms, expected) in cases {
            assert_eq!(duration_text(duration_ms), expected);
        }
    }
}
