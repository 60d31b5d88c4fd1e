//! Times as people read them: in local time on a terminal, in UTC elsewhere, or relative to now.

use cairn::internals::clock;
use std::time::Duration;

/// How a command shows times.
pub struct Times {
    relative: bool,
    local: bool,
    now: i64,
}

impl Times {
    /// Relative times if they are wanted; else local ones if a person reads them on a terminal.
    pub fn new(relative: bool, terminal: bool) -> Times {
        Times { relative, local: terminal, now: clock::unix_now() }
    }

    /// The time of a record; a text that is not a time stays as it is.
    pub fn show(&self, recorded: &str) -> String {
        match clock::parse(recorded) {
            Some(at) if self.relative => relative(self.now - at),
            Some(at) if self.local => local(at).unwrap_or_else(|| recorded.to_owned()),
            _ => recorded.to_owned(),
        }
    }
}

/// `3 hours ago`, in the largest unit that fits.
fn relative(seconds: i64) -> String {
    const UNITS: [(u64, &str); 6] =
        [(31_557_600, "year"), (2_629_800, "month"), (86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let length = seconds.unsigned_abs();
    let Some((unit, name)) = UNITS.into_iter().find(|(unit, _)| length >= *unit) else { return "now".to_owned() };
    let span = span(length / unit, name);
    if seconds < 0 { format!("in {span}") } else { format!("{span} ago") }
}

/// About how long: `47 hours`, in the largest unit of which there are at least two, else in seconds.
pub fn about(seconds: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "day"), (3600, "hour"), (60, "minute")];
    let (unit, name) = UNITS.into_iter().find(|(unit, _)| seconds >= 2 * unit).unwrap_or((1, "second"));
    span(seconds / unit, name)
}

fn span(n: u64, unit: &str) -> String {
    format!("{n} {unit}{}", if n == 1 { "" } else { "s" })
}

/// `2026-11-25 04:34:47 +0100`, in the time zone of `TZ` or of this host.
fn local(at: i64) -> Option<String> {
    // SAFETY: all zeroes is a valid tm.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to values that outlive the call; the function keeps neither.
    let done = unsafe { libc::localtime_r(&at, &mut tm) };
    if done.is_null() {
        return None;
    }
    let (sign, offset) = (if tm.tm_gmtoff < 0 { '-' } else { '+' }, tm.tm_gmtoff.unsigned_abs() / 60);
    Some(format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02} {sign}{:02}{:02}",
        i64::from(tm.tm_year) + 1900,
        tm.tm_mon + 1,
        tm.tm_mday,
        tm.tm_hour,
        tm.tm_min,
        tm.tm_sec,
        offset / 60,
        offset % 60
    ))
}

/// A length of time as options take it: the largest of `d`, `h`, `m` and `s` that divides it.
pub fn duration(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    let fits = units.into_iter().find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    fits.map_or(format!("{seconds}s"), |(unit, name)| format!("{}{name}", seconds / unit))
}

/// Parses `90s`, `30m`, `24h`, `7d`, `0`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        "" if text == "0" => 1,
        _ => return Err("expected a number and s, m, h or d, for example 24h".to_owned()),
    };
    let number: u64 = text[..text.len() - unit.len()].parse().map_err(|_| "expected a number first".to_owned())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(|| "that is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_time_is_in_the_largest_unit_that_fits() {
        for (seconds, text) in [
            (0, "now"),
            (1, "1 second ago"),
            (119, "1 minute ago"),
            (7200, "2 hours ago"),
            (86_400 * 40, "1 month ago"),
            (86_400 * 800, "2 years ago"),
            (-180, "in 3 minutes"),
        ] {
            assert_eq!(relative(seconds), text);
        }
    }

    #[test]
    fn a_length_of_time_is_in_the_largest_unit_of_which_there_are_two() {
        for (seconds, text) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (119, "119 seconds"),
            (120, "2 minutes"),
            (7199, "119 minutes"),
            (7200, "2 hours"),
            (172_799, "47 hours"),
            (172_800, "2 days"),
        ] {
            assert_eq!(about(seconds), text);
        }
    }

    #[test]
    fn a_duration_is_shown_as_it_was_given() {
        for (seconds, text) in [(0, "0s"), (90, "90s"), (120, "2m"), (7200, "2h"), (86_400 * 30, "30d")] {
            assert_eq!(duration(seconds), text);
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)));
        }
    }

    #[test]
    fn what_is_not_a_time_stays_as_it_is() {
        let times = |relative, local| Times { relative, local, now: 1_795_000_060 };
        let at = clock::show(1_795_000_000);
        assert_eq!(times(false, false).show(&at), at);
        assert_eq!(times(true, true).show(&at), "1 minute ago");
        assert_eq!(times(true, true).show("yesterday"), "yesterday");
        assert_eq!(times(false, true).show(&at).len(), "2026-11-25 04:34:47 +0100".len());
    }
}
