//! The text after `-o`, as mount(8), fstab and people write it.

use cairn::catalog::VersionSpec;
use cairn::error::{Error, Result};
use cairn::fuse::{CacheOptions, Execution, Io, MAX_THREADS, MountOptions, RunMode, VerifyMode};
use cairn::internals::cache::parse_size;
use cairn::types::{ArtifactName, Digest, DistributedId, RunId};
use std::time::Duration;

/// What is to be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The whole store.
    Store,
    /// A version: `NAME:vN`, `NAME:ALIAS` or `NAME`.
    Version(VersionSpec),
    /// A run's staging directory: artifact, draft, run.
    Stage(ArtifactName, DistributedId, RunId),
    /// A tree by the digest of its root, with a commit time, without a version record: for rescue and tests.
    Tree(Digest, i64),
}

/// Options of mount(8) that cairnfs accepts and ignores: mount(8) itself decides when to mount, and a version has no
/// devices, set-user-id files or access times.
const IGNORED_OPTIONS: [&str; 36] = [
    "rw",
    "defaults",
    "auto",
    "noauto",
    "user",
    "users",
    "nouser",
    "owner",
    "group",
    "_netdev",
    "nofail",
    "dev",
    "nodev",
    "suid",
    "nosuid",
    "exec",
    "async",
    "sync",
    "dirsync",
    "atime",
    "noatime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "diratime",
    "nodiratime",
    "lazytime",
    "nolazytime",
    "iversion",
    "noiversion",
    "mand",
    "nomand",
    "silent",
    "loud",
    "default_permissions",
];

/// Parses the options of all `-o` arguments together.
///
/// # Errors
/// Usage: an unknown option, an invalid value, or more than one thing to mount.
pub fn parse<S: AsRef<str>>(given: &[S]) -> Result<(What, MountOptions)> {
    let mut options = MountOptions::default();
    let (mut what, mut time) = (None, 0);
    let (mut stage, mut draft, mut run) = (None, None, None);
    for option in given.iter().flat_map(|text| split(text.as_ref())) {
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (option.as_str(), None),
        };
        if let Some(v) = value
            && set_value(&mut options, key, v).map_err(|why| bad(&option, &why))?
        {
            continue;
        }
        match (key, value) {
            ("version", Some(v)) => set(&mut what, What::Version(VersionSpec::parse(v)?))?,
            ("tree", Some(v)) => set(&mut what, What::Tree(Digest::parse(v)?, 0))?,
            ("time", Some(v)) => time = v.parse().map_err(|_| bad(&option, "expected seconds since 1970"))?,
            ("stage", Some(name)) => stage = Some(ArtifactName::parse(name)?),
            ("distributed_id", Some(id)) => draft = Some(DistributedId::parse(id)?),
            ("run", Some(id)) => run = Some(RunId::parse(id)?),
            ("edit", Some(_)) => return Err(not_yet(&option)),
            ("comment", Some(_)) => {}
            (key, None) if set_flag(&mut options, key) || IGNORED_OPTIONS.contains(&key) => {}
            (key, _) if key.starts_with("x-") || key.starts_with("X-") => {}
            _ => {
                return Err(bad(&option, "unknown option").with_hint(
                    "the options are version=NAME:V, stage=NAME,distributed_id=ID,run=R, nostage, \
                                allow_other, threads=N, foreground, io=auto|no-open|passthrough, verify=put|all, \
                                refresh=SECONDS, deadline=SECONDS, log=FILE, cache=DIR, cache_size=N, warm, \
                                and the options of mount(8)",
                ));
            }
        }
    }
    if what.is_some() && stage.is_some() {
        return Err(Error::usage("version and stage cannot be given together")
            .with_hint("mount the version and the staging directory at two mount points"));
    }
    if options.cache.as_ref().is_some_and(|cache| cache.dir.as_os_str().is_empty()) {
        return Err(Error::usage("cache_size needs cache=DIR"));
    }
    add_stage(&mut what, stage, draft, run)?;
    let what = match what {
        Some(What::Tree(digest, _)) => What::Tree(digest, time),
        Some(what) => what,
        None => What::Store,
    };
    Ok((what, options))
}

/// Sets an option that has a value and says how to mount. `false`: it is not such an option.
fn set_value(options: &mut MountOptions, key: &str, value: &str) -> std::result::Result<bool, String> {
    const SECONDS: &str = "expected seconds, 1 to 3600";
    match key {
        "threads" => options.threads = threads(value).ok_or_else(|| format!("expected 1 to {MAX_THREADS}"))?,
        "verify" if value == "put" => options.verify = VerifyMode::Put,
        "verify" if value == "all" => options.verify = VerifyMode::All,
        "verify" => return Err("expected put or all".into()),
        "log" => options.log = Some(std::path::absolute(value).map_err(|e| e.to_string())?),
        "cache" => the_cache(options).dir = value.into(),
        "cache_size" => the_cache(options).size = Some(parse_size(value).map_err(|e| e.message().to_owned())?),
        "io" => options.io = io(value).ok_or("expected auto, no-open or passthrough")?,
        "refresh" => options.refresh = seconds(value).ok_or(SECONDS)?,
        "deadline" => options.deadline = seconds(value).ok_or(SECONDS)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// The staging directory, if all that names one was given.
fn add_stage(
    what: &mut Option<What>,
    stage: Option<ArtifactName>,
    draft: Option<DistributedId>,
    run: Option<RunId>,
) -> Result<()> {
    match (stage, draft, run) {
        (Some(name), Some(id), Some(run)) => set(what, What::Stage(name, id, run)),
        (None, None, None) => Ok(()),
        _ => Err(Error::usage("a staging directory needs stage=NAME, distributed_id=ID and run=R")),
    }
}

/// Sets an option that has no value; false if there is none of that name.
fn set_flag(options: &mut MountOptions, key: &str) -> bool {
    match key {
        // A read-only mount of a whole store has no staging directories.
        "ro" | "nostage" => options.staging = false,
        "allow_other" => options.allow_other = true,
        "warm" => options.warm = true,
        "foreground" => options.run_mode = RunMode::Foreground,
        "noexec" => options.execution = Execution::Refused,
        "exec" => options.execution = Execution::Allowed,
        _ => return false,
    }
    true
}

/// Splits at commas. A backslash escapes the next character, because an alias can contain a comma.
fn split(text: &str) -> Vec<String> {
    let mut options = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ',' => options.push(String::new()),
            '\\' => options.last_mut().expect("begins with one").extend(chars.next()),
            c => options.last_mut().expect("begins with one").push(c),
        }
    }
    options.retain(|w| !w.is_empty());
    options
}

fn io(text: &str) -> Option<Io> {
    Some(match text {
        "auto" => Io::Auto,
        "no-open" => Io::NoOpen,
        "passthrough" => Io::Passthrough,
        _ => return None,
    })
}

fn the_cache(options: &mut MountOptions) -> &mut CacheOptions {
    options.cache.get_or_insert_with(|| CacheOptions::new(""))
}

fn threads(text: &str) -> Option<usize> {
    text.parse().ok().filter(|n| (1..=MAX_THREADS).contains(n))
}

/// A number of seconds, with a fraction.
fn seconds(text: &str) -> Option<Duration> {
    text.parse().ok().filter(|s| (1.0..=3600.0).contains(s)).map(Duration::from_secs_f64)
}

fn set(what: &mut Option<What>, to: What) -> Result<()> {
    match what.replace(to) {
        None => Ok(()),
        Some(_) => Err(Error::usage("the options name more than one thing to mount")),
    }
}

fn bad(option: &str, why: &str) -> Error {
    Error::usage(format!("mount option `{option}`: {why}"))
}

fn not_yet(option: &str) -> Error {
    bad(option, "not available yet").with_hint("this release mounts versions, read-only, and staging directories")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn::error::Kind;

    #[test]
    fn options_of_mount_are_accepted_and_those_of_cairnfs_are_applied() {
        let line = "rw,_netdev,nofail,noauto,user,x-systemd.automount,x-a=b,nodev,nosuid,dev,suid,defaults,relatime,\
                    version=a:v1,allow_other,threads=3,foreground,verify=all";
        let (what, options) = parse(&[line]).unwrap();
        assert_eq!(what, What::Version(VersionSpec::parse("a:v1").unwrap()));
        assert!(options.allow_other);
        assert_eq!((options.threads, options.run_mode, options.verify), (3, RunMode::Foreground, VerifyMode::All));
        assert_eq!(options.execution, Execution::Allowed);
        assert_eq!(
            parse(&["ro,refresh=10,io=passthrough"]).map(|(what, o)| (what, o.refresh.as_secs(), o.io)).unwrap(),
            (What::Store, 10, Io::Passthrough)
        );
        let cached = parse(&["version=a,cache=/scratch/c,cache_size=2G"]).unwrap().1.cache.unwrap();
        assert_eq!((cached.dir.to_str(), cached.size), (Some("/scratch/c"), Some(2 << 30)));
        assert_eq!(parse(&["version=a", "noexec,"]).unwrap().1.execution, Execution::Refused);
        assert_eq!(parse(&["version=a:x\\,y"]).unwrap().0, What::Version(VersionSpec::parse("a:x,y").unwrap()));
    }

    #[test]
    fn unknown_options_and_invalid_values_are_refused() {
        for line in [
            "version=a,version=b",
            "version=a,nonsense",
            "version=a,threads=0",
            "version=a,threads=257",
            "version=a,threads=x",
            "version",
            "tree=12",
            "version=a,verify=some",
            "refresh=0",
            "io=direct",
            "deadline=never",
            "cache_size=1G",
            "cache=/x,cache_size=much",
        ] {
            assert_eq!(parse(&[line]).unwrap_err().kind(), Kind::Usage, "{line}");
        }
        assert!(parse(&["edit=a:v1"]).unwrap_err().message().contains("not available yet"));
    }

    #[test]
    fn a_staging_directory_needs_artifact_draft_and_run() {
        let (what, _) = parse(&["rw,stage=a,distributed_id=x,run=r-3,allow_other"]).unwrap();
        assert_eq!(
            what,
            What::Stage(
                ArtifactName::parse("a").unwrap(),
                DistributedId::parse("x").unwrap(),
                RunId::parse("r-3").unwrap()
            )
        );
        for line in ["stage=a", "stage=a,distributed_id=x", "run=r", "stage=a,distributed_id=x,run=r,version=a:v1"] {
            assert_eq!(parse(&[line]).unwrap_err().kind(), Kind::Usage, "{line}");
        }
        let both = parse(&["version=a:v1,stage=a"]).unwrap_err();
        assert_eq!(both.message(), "version and stage cannot be given together");
        assert!(parse(&["rw"]).unwrap().1.staging);
        assert!(!parse(&["ro"]).unwrap().1.staging);
    }
}
