//! `cairn mount` and `cairn umount`

use crate::args::{Io, Mount, Umount, VerifyMode};
use crate::errors::{CommandResult, Failure};
use crate::output::Context;
use crate::signals;
use cairn::Store;
use cairn::catalog::{Selector, VersionSpec, resolve};
use cairn::error::{Result, show_path};
use cairn::fuse::{self, MountOptions, RunMode, VersionView};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// Mounts a version, or the whole store.
pub fn mount(context: &mut Context, args: Mount) -> CommandResult {
    if args.stage {
        return super::stage::mount(context, args);
    }
    match &args.version {
        None => mount_store(context, &args),
        Some(word) => mount_version(context, &args, word),
    }
}

fn mount_store(context: &mut Context, args: &Mount) -> CommandResult {
    let root = context.store()?.root().to_path_buf();
    let document = json!({ "store": root.to_string_lossy(), "mountpoint": absolute(&args.mountpoint) });
    let say = |context: &mut Context| if context.json() { context.out.json(&document) } else { Ok(()) };
    serve(context, args, say, |options| fuse::mount_store(&root, &args.mountpoint, options))
}

fn mount_version(context: &mut Context, args: &Mount, word: &str) -> CommandResult {
    let version = context.version(word)?;
    let name = version.to_string();
    // The daemon opens the store by itself: what this process has open ends with it.
    let root = version.store().root().to_path_buf();
    let exact = VersionSpec { artifact: version.artifact().clone(), selector: Selector::Number(version.number()) };
    let document = json!({ "artifact": version.artifact(), "version": version.number(), "mountpoint": absolute(&args.mountpoint) });
    drop(version);
    let say =
        |context: &mut Context| if context.json() { context.out.json(&document) } else { context.out.line(&name) };
    serve(context, args, say, |options| {
        fuse::mount_version(
            |at| VersionView::of(&resolve(&Store::open(&root)?, &exact)?, at),
            &root,
            &args.mountpoint,
            options,
        )
    })
}

/// Says what is mounted when it is: in the foreground before, since nothing comes after it.
fn serve(
    context: &mut Context,
    args: &Mount,
    say: impl Fn(&mut Context) -> std::result::Result<(), Failure>,
    mount: impl FnOnce(&MountOptions) -> Result<()>,
) -> CommandResult {
    if args.foreground {
        say(context)?;
        context.out.flush()?;
    }
    signals::unwatch(); // the library has its own way to end a mount
    mount(&options(args))?;
    if !args.foreground {
        say(context)?;
        context.out.flush()?;
        context.status(&format!("mounted; `cairn umount {}` ends it", show_path(&args.mountpoint)));
    }
    Ok(0)
}

/// A mount point's path from the root, for programs.
pub fn absolute(path: &Path) -> String {
    path.canonicalize()
        .or_else(|_| std::path::absolute(path))
        .unwrap_or_else(|_| path.to_path_buf())
        .to_string_lossy()
        .into_owned()
}

fn options(args: &Mount) -> MountOptions {
    let mut options = MountOptions {
        ground: if args.foreground { RunMode::Foreground } else { RunMode::Background },
        allow_other: args.allow_other,
        verify: match args.verify {
            VerifyMode::Put => fuse::VerifyMode::Put,
            VerifyMode::All => fuse::VerifyMode::All,
        },
        io: match args.io {
            Io::Auto => fuse::Io::Auto,
            Io::NoOpen => fuse::Io::NoOpen,
            Io::Passthrough => fuse::Io::Passthrough,
        },
        staging: !args.no_stage,
        refresh: Duration::from_secs(args.refresh.into()),
        log: args.log.clone(),
        ..MountOptions::default()
    };
    if let Some(threads) = args.threads {
        options.threads = usize::from(threads);
    }
    options
}

/// Unmounts.
pub fn umount(context: &mut Context, args: Umount) -> CommandResult {
    signals::unwatch(); // the daemon may not answer: a signal must end the wait at once
    let unmounting = super::stage::before_unmount(context, &args.mountpoint, !args.no_seal)?;
    let left = fuse::unmount(&args.mountpoint)?;
    for place in &left.elsewhere {
        context.warn(&format!("it is still mounted at {place}"));
    }
    if let Some(daemon) = left.daemon {
        let what = if left.elsewhere.is_empty() { "still runs" } else { "serves it there" };
        let then = "until it ends, `cairn rm` of what is mounted is refused";
        context.warn(&format!("the daemon, process {daemon}, {what}: {then}"));
    }
    unmounting.end(context, &args.mountpoint)?;
    if context.json() {
        let elsewhere = left.elsewhere.iter().map(|e| {
            let (pid, name) = e.process.as_ref().map(|(pid, name)| (pid, name)).unzip();
            json!({ "mountpoint": e.at.to_string_lossy(), "pid": pid, "process": name })
        });
        context
            .out
            .json(&json!({ "mountpoint": absolute(&args.mountpoint), "elsewhere": elsewhere.collect::<Vec<_>>() }))?;
    }
    Ok(0)
}
