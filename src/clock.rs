//! Wall-clock times for people. Nothing depends on them.

use std::time::{SystemTime, UNIX_EPOCH};

/// The last second that has four digits for its year in every time zone.
const LAST: i64 = 253_402_207_200;

/// The present time as records and lists show it: RFC 3339, UTC, whole seconds, such as `2026-11-25T03:34:47Z`.
pub fn now() -> String {
    show(unix_now())
}

/// Seconds since 1970; 0 if the clock is before that.
pub fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// `seconds` since 1970 as [`now`] writes it. RFC 3339 ends with the year 9999: a later time is shown as its end.
pub fn show(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds.min(LAST)).map(|t| t.to_string()).unwrap_or_else(|_| format!("@{seconds}"))
}

/// Parses what [`now`] wrote into seconds since 1970.
pub fn parse(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(|t| t.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_beyond_the_year_9999_gives_times_that_can_be_read_back() {
        for seconds in [0, 1_795_000_000, LAST - 1] {
            assert_eq!(parse(&show(seconds)), Some(seconds));
        }
        for seconds in [LAST, LAST + 1, i64::MAX] {
            assert_eq!(show(seconds), "9999-12-30T22:00:00Z");
            assert_eq!(parse(&show(seconds)), Some(LAST));
        }
    }
}
