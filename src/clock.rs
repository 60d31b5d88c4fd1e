//! Wall-clock times for people. Nothing is ever decided by them.

/// A moment as records and lists show it: RFC 3339, UTC, whole seconds. `2026-11-25T03:34:47Z`
pub fn now() -> String {
    show(unix_now())
}

/// Seconds since 1970.
pub fn unix_now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// `seconds` since 1970 as [`now`] writes it.
pub fn show(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map(|t| t.to_string()).unwrap_or_else(|_| format!("@{seconds}"))
}

/// What [`now`] wrote, as seconds since 1970.
pub fn parse(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(|t| t.as_second())
}
