//! URIs of references: what they name, and that they have no secrets in them. A version is read by many, and lives
//! long.

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Names of query parameters that sign a request or are a password.
const SECRETS: [&str; 11] = [
    "x-amz-signature",
    "x-amz-credential",
    "x-amz-security-token",
    "x-goog-signature",
    "x-goog-credential",
    "awsaccesskeyid",
    "signature",
    "sig",
    "access_token",
    "token",
    "password",
];

/// A URI that may be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uri {
    /// All of it.
    pub(crate) text: String,
    /// What it names.
    pub(crate) at: Location,
}

/// Where the content of a reference is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// A file or directory of this host.
    File(PathBuf),
    /// A resource of a web server.
    Http,
    /// An object of an object store, or all whose keys begin with the key.
    Object(ObjectAt),
    /// Content of a version of the store: `NAME[:V]` and a path, which may be empty.
    Version {
        /// `NAME` or `NAME:V`.
        spec: String,
        /// The path in it.
        path: String,
    },
    /// Something that this release cannot read.
    Other,
}

/// An object of an object store.
#[cfg_attr(not(feature = "remote"), allow(dead_code))] // it is recorded, and not read
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectAt {
    /// `s3`, `gs` or `az`.
    pub(crate) scheme: &'static str,
    /// The bucket or container.
    pub(crate) bucket: String,
    /// The key, or a prefix.
    pub(crate) key: String,
    /// A version of the object, from `?versionId=`.
    pub(crate) version: Option<String>,
}

impl Uri {
    /// Takes a URI apart.
    ///
    /// # Errors
    /// Usage: it has no scheme, has a password or a signature in it, or names nothing that a known scheme has.
    pub(crate) fn parse(text: &str) -> Result<Uri> {
        let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
            return Err(Error::usage(format!("`{}` is not a URI: it has no scheme", shown_uri(text)))
                .with_hint(format!("for a local file: file://{}", shown_uri(text))));
        };
        refuse_secrets(text, rest)?;
        let at = match scheme.to_ascii_lowercase().as_str() {
            "file" => Location::File(file(text)?),
            "http" | "https" => Location::Http,
            "s3" => Location::Object(object(text, "s3", rest)?),
            "gs" => Location::Object(object(text, "gs", rest)?),
            "az" => Location::Object(object(text, "az", rest)?),
            "cairn" => {
                let (spec, path) = rest.split_once('/').unwrap_or((rest, ""));
                Location::Version { spec: spec.to_owned(), path: path.trim_end_matches('/').to_owned() }
            }
            _ => Location::Other,
        };
        Ok(Uri { text: text.to_owned(), at })
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+.-".contains(&b))
}

fn file(text: &str) -> Result<PathBuf> {
    local_path(text).map(|path| PathBuf::from(OsString::from_vec(path))).ok_or_else(|| {
        Error::usage(format!("{text} does not name a file of this host"))
            .with_hint("file:///PATH, with an absolute path; other bytes than letters and digits may be written %XX")
    })
}

fn object(text: &str, scheme: &'static str, rest: &str) -> Result<ObjectAt> {
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(Error::usage(format!("{text} names no bucket")).with_hint(format!("{scheme}://BUCKET/KEY")));
    }
    let (key, version) = match key.rsplit_once("?versionId=") {
        Some((key, version)) => (key, Some(version.to_owned())),
        None => (key, None),
    };
    Ok(ObjectAt { scheme, bucket: bucket.to_owned(), key: key.to_owned(), version })
}

/// The part of a URI between `://` and the path, if a user and a password are in it.
fn userinfo(rest: &str) -> Option<&str> {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, _) = authority.rsplit_once('@')?;
    user.contains(':').then_some(user)
}

fn parameters(text: &str) -> impl Iterator<Item = &str> {
    let query = text.split('#').next().unwrap_or_default().split_once('?').map_or("", |(_, query)| query);
    query.split('&').filter(|p| !p.is_empty())
}

fn is_secret(parameter: &str) -> bool {
    let name = parameter.split('=').next().unwrap_or_default().to_ascii_lowercase();
    SECRETS.contains(&name.as_str())
}

fn refuse_secrets(text: &str, rest: &str) -> Result<()> {
    let shown = shown_uri(text);
    if userinfo(rest).is_some() {
        return Err(Error::usage(format!(
            "{shown} has a user and a password in it: they would be stored in the version"
        ))
        .with_hint("leave them out; credentials are read from the environment and from ~/.aws"));
    }
    match parameters(text).find(|p| is_secret(p)) {
        Some(parameter) => {
            let name = parameter.split('=').next().unwrap_or_default();
            Err(Error::usage(format!("{shown} has a secret in it ({name}): it would be stored in the version"))
                .with_hint("name the object without it: s3://BUCKET/KEY, gs://BUCKET/KEY, az://CONTAINER/KEY"))
        }
        None => Ok(()),
    }
}

/// A URI as messages show it: without passwords and signatures, which older releases may have recorded.
pub fn shown_uri(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let mut shown = match userinfo(rest) {
        Some(user) => format!("{scheme}://***@{}", &rest[user.len() + 1..]),
        None => text.to_owned(),
    };
    for parameter in parameters(text).filter(|p| is_secret(p)) {
        let name = parameter.split('=').next().unwrap_or_default();
        shown = shown.replacen(parameter, &format!("{name}=***"), 1);
    }
    shown
}

/// The absolute path that a `file://` URI of this host names.
pub(crate) fn local_path(uri: &str) -> Option<Vec<u8>> {
    let (scheme, rest) = uri.split_once("://")?;
    let path =
        if rest.starts_with('/') { rest } else { rest.strip_prefix("localhost").filter(|p| p.starts_with('/'))? };
    let bytes = path.split(['?', '#']).next().unwrap_or_default().as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes
            .get(at + 1..at + 3)
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u8::from_str_radix(d, 16).ok());
        match digits.filter(|b| bytes[at] == b'%' && *b != 0) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    (scheme.eq_ignore_ascii_case("file") && out.len() > 1 && out.len() < libc::PATH_MAX as usize).then_some(out)
}

/// The URI of a path below the directory that `directory` names.
pub(super) fn below(directory: &str, path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut uri = directory.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/').to_owned();
    uri.push('/');
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/+=,:@".contains(byte) {
            uri.push(*byte as char);
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_file_uris_of_this_host_are_paths() {
        for (uri, path) in [
            ("file:///data/a%20b", Some("/data/a b")),
            ("FILE://localhost/data/%zz", Some("/data/%zz")),
            ("file:///data/x?y#z", Some("/data/x")),
            ("file://host/data", None),
            ("s3://bucket/key", None),
            ("file:///", None),
        ] {
            assert_eq!(local_path(uri).as_deref(), path.map(str::as_bytes), "{uri}");
        }
        let odd = below("file:///data/", Path::new("a b/ü#?%.bin"));
        assert_eq!(odd, "file:///data/a%20b/%C3%BC%23%3F%25.bin");
        assert_eq!(local_path(&odd).unwrap(), "/data/a b/ü#?%.bin".as_bytes());
    }

    #[test]
    fn a_uri_with_a_password_or_a_signature_is_refused_and_never_shown() {
        for (uri, shown) in [
            ("https://me:hunter2@host/x", "https://***@host/x"),
            ("s3://AK:hunter2@bucket/x", "s3://***@bucket/x"),
            ("myproto://a:hunter2@host", "myproto://***@host"),
            ("https://host/x?a=1&X-Amz-Signature=hunter2&b=2", "https://host/x?a=1&X-Amz-Signature=***&b=2"),
            ("https://host/x?sig=hunter2#y", "https://host/x?sig=***#y"),
        ] {
            let refused = Uri::parse(uri).unwrap_err();
            assert_eq!(shown_uri(uri), shown);
            assert!(!format!("{refused:#} {:?}", refused.hint()).contains("hunter2"), "{refused:#}");
        }
        for fine in ["https://host/x?a=1#y", "ssh://git@host/x", "s3://bucket/a@b:c", "myproto://x"] {
            assert_eq!((Uri::parse(fine).unwrap().text.as_str(), shown_uri(fine).as_str()), (fine, fine));
        }
    }

    #[test]
    fn an_object_is_its_bucket_its_key_and_its_version() {
        let at = |uri: &str| Uri::parse(uri).unwrap().at;
        let object = |scheme, key: &str, version: Option<&str>| {
            Location::Object(ObjectAt { scheme, bucket: "b".into(), key: key.into(), version: version.map(Into::into) })
        };
        assert_eq!(at("s3://b/x/y?versionId=7"), object("s3", "x/y", Some("7")));
        assert_eq!(at("GS://b"), object("gs", "", None));
        let version = |spec: &str, path: &str| Location::Version { spec: spec.into(), path: path.into() };
        assert_eq!(at("cairn://images:v3/a/b/"), version("images:v3", "a/b"));
        assert_eq!(at("cairn://images"), version("images", ""));
        assert_eq!(at("hdfs://x/y"), Location::Other);
        assert!(Uri::parse("s3:///x").is_err() && Uri::parse("file://host/x").is_err());
        let without = Uri::parse("/data/x").unwrap_err();
        assert_eq!(without.hint(), Some("for a local file: file:///data/x"));
    }
}
