//! Times as the events spell them (PROTOCOL 20).

use std::time::{Duration, SystemTime};

const SECONDS_A_DAY: u64 = 86_400;

/// RFC 3339 in UTC, with microseconds. A clock before 1970 is taken for 1970.
pub(super) fn rfc3339(at: SystemTime) -> String {
    let since = since_1970(at);
    let (days, second) = (since.as_secs() / SECONDS_A_DAY, since.as_secs() % SECONDS_A_DAY);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let micros = since.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Seconds since 1970.
pub(super) fn unix_seconds(at: SystemTime) -> f64 {
    since_1970(at).as_secs_f64()
}

/// `H:MM:SS.ffffff`; the hours are not bounded.
pub(super) fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hours}:{minutes:02}:{seconds:02}.{:06}", length.subsec_micros())
}

fn since_1970(at: SystemTime) -> Duration {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The date, that many days after 1970-01-01, by the Gregorian rules. Years are counted from March, so that the leap day
/// is the last of its year.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_IN_400_YEARS: u64 = 146_097;
    /// From 0000-03-01 to 1970-01-01.
    const BEFORE_1970: u64 = 719_468;
    let days = days + BEFORE_1970;
    let (era, day) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (400 * era + year + u64::from(month <= 2), month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, micros: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::new(seconds, micros * 1000)
    }

    #[test]
    fn times_of_day() {
        for (seconds, micros, text) in [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, 999_999, "2000-02-28T23:59:59.999999Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.000000Z"),
            (1_709_164_800, 1, "2024-02-29T00:00:00.000001Z"),
            (1_735_689_599, 0, "2024-12-31T23:59:59.000000Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000Z"),
            (1_795_290_617, 155_398, "2026-11-21T19:50:17.155398Z"),
        ] {
            assert_eq!(rfc3339(at(seconds, micros)), text);
        }
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00.000000Z");
        assert_eq!(unix_seconds(at(12, 500_000)), 12.5);
    }

    #[test]
    fn durations() {
        assert_eq!(duration(Duration::from_micros(114_551)), "0:00:00.114551");
        assert_eq!(duration(Duration::from_secs(26 * 3600 + 3 * 60 + 4)), "26:03:04.000000");
    }
}
