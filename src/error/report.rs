//! An error as JSON: what `--json` prints, and what a daemon tells the command that asked it.

use super::{Detail, Error, Kind};
use serde::{Deserialize, Serialize};

/// An [`Error`] as JSON. The fields `error`, `causes`, `hint` and `exit` are the ones that `--json` promises; new
/// fields may be added.
///
/// ```
/// use cairn::error::{Error, ErrorReport};
/// let json = serde_json::to_value(ErrorReport::from(&Error::usage("no name is given").with_hint("give one")))?;
/// assert_eq!(json["error"], "no name is given");
/// assert_eq!((&json["exit"], &json["kind"]), (&2.into(), &"usage".into()));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ErrorReport {
    /// The message.
    pub error: String,
    /// The causes, outermost first.
    pub causes: Vec<String>,
    /// The next step.
    pub hint: Option<String>,
    /// The exit status.
    pub exit: u8,
    /// What the reader can do.
    pub kind: Kind,
    /// Data for programs.
    pub detail: Option<Detail>,
    /// The system's error number, which depends on the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
}

/// Where a text is cut: a damaged record can put anything into a message.
const LONGEST_TEXT: usize = 8 << 10;

impl From<&Error> for ErrorReport {
    /// Texts over 8 KiB are cut, and end with `…`.
    fn from(e: &Error) -> ErrorReport {
        let mut report = ErrorReport {
            error: e.message().to_owned(),
            causes: e.causes(),
            hint: e.hint().map(str::to_owned),
            exit: e.kind().exit_status(),
            kind: e.kind(),
            detail: e.detail().cloned(),
            errno: e.errno(),
        };
        report.cut_texts(LONGEST_TEXT);
        report
    }
}

impl ErrorReport {
    /// The error again, in the process that received the report. Its causes are text: it has no source.
    pub fn into_error(self) -> Error {
        let mut e = Error::new(self.kind, self.error);
        e.0.lines = self.causes;
        e.0.hint = self.hint;
        e.0.detail = self.detail;
        e.0.errno = self.errno;
        e
    }

    /// Cuts each text to `longest` bytes and the causes to a hundredth of that number, for a channel that holds no
    /// more. Kind and the beginning of each text stay; the detail goes.
    #[cfg(feature = "fuse")]
    pub(crate) fn shorten(&mut self, longest: usize) {
        self.detail = None;
        self.causes.truncate(longest / 100);
        self.cut_texts(longest);
    }

    fn cut_texts(&mut self, longest: usize) {
        [&mut self.error].into_iter().chain(&mut self.causes).chain(&mut self.hint).for_each(|t| shorten(t, longest));
    }

    /// The report as people read it: `error:`, the causes, `hint:`, a line each.
    pub fn to_text(&self) -> String {
        let causes: String = self.causes.iter().map(|cause| format!("  {cause}\n")).collect();
        let hint = self.hint.as_ref().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
        format!("error: {}\n{causes}{hint}", self.error)
    }
}

/// Cuts a text to `longest` bytes.
pub(crate) fn shorten(text: &mut String, longest: usize) {
    if text.len() > longest {
        text.truncate(floor_char_boundary(text, longest));
        text.push('…');
    }
}

/// The largest index that is at most `at` and at which a character begins. (std has it since Rust 1.91.)
pub(crate) fn floor_char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_damaged_record_holds_does_not_fill_the_terminal() {
        let token = "x".repeat(70_000);
        let e = Error::damaged(format!("a record has token {token}")).with_cause(&token).with_hint(&token);
        let report = ErrorReport::from(&e);
        assert!(report.error.starts_with("a record has token xxx") && report.error.ends_with('…'));
        assert!(report.to_text().len() < 3 * (LONGEST_TEXT + 20));
        assert!(serde_json::to_string(&report).unwrap().len() < 3 * (LONGEST_TEXT + 100));
    }

    #[test]
    fn an_error_survives_json() {
        let denied = std::io::Error::from_raw_os_error(libc::EACCES);
        for e in [
            Error::usage("u").with_hint("h"),
            Error::conflict("c").with_cause("c1").with_cause("c2").with_detail(Detail::Interrupted),
            Error::damaged("d"),
            Error::not_found("n").context("o"),
            Error::io("read", "/a".as_ref(), denied).context("cannot add"),
        ] {
            let json = serde_json::to_string(&ErrorReport::from(&e)).unwrap();
            let back = serde_json::from_str::<ErrorReport>(&json).unwrap().into_error();
            assert_eq!(ErrorReport::from(&back), ErrorReport::from(&e), "{json}");
            assert_eq!(format!("{back:?}"), format!("{e:?}"));
        }
    }
}
