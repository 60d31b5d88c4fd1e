//! Names that people give: artifacts, types, aliases, runs, distributed ids, tags; and the ones cairn gives: tokens,
//! version numbers.

use crate::error::{Error, Result};
use crate::types::Digest;
use std::fmt;

/// Declares a validated text newtype.
macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Validates `text`.
            ///
            /// # Errors
            /// A usage error that says what is not allowed.
            pub fn parse(text: &str) -> Result<Self> {
                $check(text)?;
                Ok($name(text.to_owned()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                Self::parse(text)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
                Self::parse(&String::deserialize(d)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_type! {
    /// The name of an artifact: `[A-Za-z0-9_.-]{1,128}`, not beginning with `-` or `.`.
    ArtifactName, check_artifact
}
text_type! {
    /// The type of an artifact ("dataset", "model"). It has the form of an artifact's name.
    ArtifactType, check_type
}
text_type! {
    /// An alias of a version: printable, 1–128 bytes, no `/` or `:`, no leading `.` or `-`, not `latest` or
    /// `v<digits>`.
    AliasName, check_alias
}
text_type! {
    /// The id of a run, which makes versions: 1–128 printable characters.
    RunId, check_run
}
text_type! {
    /// The id under which many runs make one version: 1–128 printable characters.
    DistributedId, check_distributed
}
text_type! {
    /// A tag: words of letters, digits, `_` and `-`, separated by spaces.
    Tag, check_tag
}

fn check_artifact(text: &str) -> Result<()> {
    check_plain("artifact name", text)
}

fn check_type(text: &str) -> Result<()> {
    check_plain("artifact type", text)
}

fn check_plain(what: &str, text: &str) -> Result<()> {
    let fits = (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && !text.starts_with(['-', '.']);
    if fits {
        return Ok(());
    }
    if let Some((name, _)) = text.split_once(':').filter(|(name, _)| check_plain(what, name).is_ok()) {
        return Err(Error::usage(format!("{text:?} is a version; here the {what} alone is expected"))
            .with_hint(format!("write `{name}`")));
    }
    Err(Error::usage(format!(
        "{what} {text:?} is not allowed: expected 1 to 128 characters of A-Z a-z 0-9 _ . -, not beginning with - or ."
    )))
}

fn check_alias(text: &str) -> Result<()> {
    let bad = |why: &str| Err(Error::usage(format!("alias {text:?} is not allowed: {why}")));
    if text.is_empty() || text.len() > 128 {
        return bad("expected 1 to 128 bytes");
    }
    if text.chars().any(char::is_control) {
        return bad("it has unprintable characters");
    }
    if text.contains(['/', ':']) || text.starts_with(['.', '-']) {
        return bad("it must not contain / or :, and must not begin with . or -");
    }
    if text == "latest" {
        return bad("`latest` follows the newest version by itself");
    }
    if text.strip_prefix('v').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit())) {
        return bad("it looks like a version number");
    }
    Ok(())
}

fn check_run(text: &str) -> Result<()> {
    check_printable("run id", text)
}

fn check_distributed(text: &str) -> Result<()> {
    check_printable("distributed id", text)
}

fn check_printable(what: &str, text: &str) -> Result<()> {
    if (1..=128).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::usage(format!("{what} {text:?} is not allowed: expected 1 to 128 printable characters")))
}

fn check_tag(text: &str) -> Result<()> {
    let word = |w: &str| !w.is_empty() && w.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
    let words = text.split(' ').filter(|w| !w.is_empty());
    if !text.is_empty() && !text.starts_with(' ') && !text.ends_with(' ') && words.clone().all(word) {
        return Ok(());
    }
    Err(Error::usage(format!(
        "tag {text:?} is not allowed: expected words of letters, digits, _ and -, separated by spaces"
    )))
}

/// Turns any text into a safe file name: percent-encoded if that is at most 200 bytes, else `%%` and a hash. The record
/// must hold the text itself.
pub(crate) fn file_name_of(text: &str) -> String {
    let mut out = String::new();
    for (i, b) in text.bytes().enumerate() {
        if b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-') || (b == b'.' && i > 0) {
            out.push(b as char);
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    if out.len() <= 200 { out } else { format!("%%{}", Digest::of(text.as_bytes())) }
}

impl AliasName {
    /// The alias as a file name in the store.
    pub fn file_name(&self) -> String {
        file_name_of(&self.0)
    }
}

impl RunId {
    /// A fresh random id, `run-` and 16 hexadecimal digits.
    pub fn fresh() -> Self {
        RunId(format!("run-{}", &random_hex()[..16]))
    }

    /// The id as a file name in the store.
    pub fn file_name(&self) -> String {
        file_name_of(&self.0)
    }

    /// The id whose file name this is; `None` if the name does not contain it whole.
    pub(crate) fn of_file_name(name: &str) -> Option<RunId> {
        let mut bytes = Vec::with_capacity(name.len());
        let mut rest = name.as_bytes();
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            bytes.push(match first {
                b'%' => {
                    let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                    rest = &rest[2..];
                    u8::from_str_radix(digits, 16).ok()?
                }
                other => *other,
            });
        }
        let id = RunId::parse(&String::from_utf8(bytes).ok()?).ok()?;
        (id.file_name() == name).then_some(id)
    }
}

impl DistributedId {
    /// The id as a file name in the store.
    pub fn file_name(&self) -> String {
        file_name_of(&self.0)
    }
}

/// The name of one attempt to publish: 32 random hexadecimal digits, used only once.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(String);

impl Token {
    /// A new token from the system's randomness.
    pub fn fresh() -> Self {
        Token(random_hex())
    }

    /// Parses what [`Token::as_str`] gives.
    ///
    /// # Errors
    /// A usage error when the text is anything else.
    pub fn parse(text: &str) -> Result<Self> {
        Self::of_text(text)
            .ok_or_else(|| Error::usage(format!("{text:?} is not a token: expected 32 lower-case hexadecimal digits")))
    }

    /// The token that a file name is, or `None`: other names in a directory are not an error.
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        let fits = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        fits.then(|| Token(text.to_owned()))
    }

    /// Parses the name of a record, `.` and a token; nothing else is accepted (L8).
    pub fn from_record_name(name: &[u8]) -> Option<Self> {
        Self::of_text(std::str::from_utf8(name).ok()?.strip_prefix('.')?)
    }

    /// The name under which this token's record exists: `.` and the token.
    pub fn record_name(&self) -> String {
        format!(".{}", self.0)
    }

    /// 32 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Token {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn random_hex() -> String {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The number of a version: `v0`, `v1`, …
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VersionNumber(pub u64);

impl VersionNumber {
    /// The number after `highest`, or the first number if there is none.
    pub fn after(highest: Option<VersionNumber>) -> VersionNumber {
        VersionNumber(highest.map_or(0, |n| n.0 + 1))
    }

    /// Parses `v` and digits without leading zeros.
    ///
    /// # Errors
    /// A usage error when the text is anything else.
    pub fn parse(text: &str) -> Result<Self> {
        Self::of_text(text)
            .ok_or_else(|| Error::usage(format!("{text:?} is not a version number: expected v0, v1, v2, …")))
    }

    /// Parses a version number; `None` for any other text, such as an alias or a file's name.
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('v')?;
        let canonical = digits == "0" || (!digits.is_empty() && !digits.starts_with('0'));
        if !canonical || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        digits.parse().ok().map(VersionNumber)
    }
}

impl std::str::FromStr for VersionNumber {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for VersionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl serde::Serialize for VersionNumber {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for VersionNumber {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_that_are_allowed_and_refused() {
        for good in ["a", "A-b_c.9", &"x".repeat(128)] {
            assert!(ArtifactName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-a", ".a", "a\n", "a b", "a/b", "ä", &"x".repeat(129)] {
            assert!(ArtifactName::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["prod", "best model", "v1x", "ü", "v"] {
            assert!(AliasName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a/b", "a:b", ".a", "-a", "latest", "v0", "v12", "a\n", &"x".repeat(129)] {
            assert!(AliasName::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["..", "a/b", "ü", &"ü".repeat(128)] {
            let run = RunId::parse(good).unwrap();
            assert!(
                run.file_name().len() <= 200 && !run.file_name().contains('/') && !run.file_name().starts_with('.')
            );
            let from_name = RunId::of_file_name(&run.file_name());
            assert_eq!(from_name, Some(run).filter(|run| run.as_str().len() < 50), "a hash does not give the id");
        }
        assert!(RunId::parse("a\tb").is_err());
        for bad in ["", ".a", "a%2e", "%41", "%4", "%", "a b", "%FF"] {
            assert_eq!(RunId::of_file_name(bad), None, "{bad}");
        }
        for good in ["a", "a-b c", "x_1"] {
            assert!(Tag::parse(good).is_ok());
        }
        for bad in ["", " a", "a ", "a,b"] {
            assert!(Tag::parse(bad).is_err());
        }
    }

    #[test]
    fn a_version_number_has_one_spelling() {
        assert_eq!("v10".parse::<VersionNumber>().unwrap(), VersionNumber(10));
        for bad in ["10", "v", "v01", "v-1", "v+1", "V1", "v1 ", "v99999999999999999999999"] {
            assert!(VersionNumber::parse(bad).is_err(), "{bad}");
        }
    }
}
