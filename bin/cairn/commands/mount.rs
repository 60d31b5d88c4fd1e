//! `cairn mount` and `cairn umount`

use crate::args::{Io, Mount, Umount, VerifyMode};
use crate::errors::{Done, Stop};
use crate::output::Context;
use crate::signals;
use cairn::Store;
use cairn::catalog::{Selector, VersionSpec, resolve};
use cairn::error::{Error, show_path};
use cairn::fuse::{self, Ground, MountOptions, VersionView};
use serde_json::json;

/// Mounts a version.
pub fn mount(context: &mut Context, args: Mount) -> Done {
    if args.stage {
        return super::stage::mount(context, args);
    }
    let Some(word) = &args.version else {
        return Err(Error::usage("a mount of the whole store is not available yet").hint("name a version: `cairn mount MNT NAME[:V]`; `cairn list` shows them").into());
    };
    let options = options(&args);
    let version = context.version(word)?;
    let name = version.to_string();
    // The daemon opens the store by itself: what this process has open ends with it.
    let root = version.store().root().to_path_buf();
    let exact = VersionSpec { artifact: version.artifact().clone(), selector: Selector::Number(version.number()) };
    let (artifact, number) = (version.artifact().clone(), version.number());
    drop(version);
    let say = |context: &mut Context| -> std::result::Result<(), Stop> {
        if context.json() {
            context.out.json(&json!({ "artifact": artifact, "version": number, "mountpoint": args.mountpoint.to_string_lossy() }))?;
        } else {
            context.out.line(&name)?;
        }
        context.out.flush()
    };
    if args.foreground {
        say(context)?; // nothing comes after it
    }
    signals::unwatch(); // the library has its own way to end a mount
    fuse::mount_version(|| VersionView::of(&resolve(&Store::open(&root)?, &exact)?), &root, &args.mountpoint, &options)?;
    if !args.foreground {
        say(context)?;
        context.talk(&format!("mounted; `cairn umount {}` ends it", show_path(&args.mountpoint)));
    }
    Ok(0)
}

fn options(args: &Mount) -> MountOptions {
    let mut options = MountOptions {
        ground: if args.foreground { Ground::Foreground } else { Ground::Background },
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
        log: args.log.clone(),
        ..MountOptions::default()
    };
    if let Some(threads) = args.threads {
        options.threads = usize::from(threads);
    }
    options
}

/// Unmounts.
pub fn umount(context: &mut Context, args: Umount) -> Done {
    if !args.no_seal {
        super::stage::seal_before_unmount(context, &args.mountpoint)?;
    }
    fuse::unmount(&args.mountpoint)?;
    if context.json() {
        context.out.json(&json!({ "mountpoint": args.mountpoint.to_string_lossy() }))?;
    }
    Ok(0)
}
