//! `cairn mount` and `cairn umount`

use crate::args::{Mount, Umount};
use crate::errors::Done;
use crate::output::Context;
use cairn::error::Error;
use serde_json::json;

/// Mounts a version.
pub fn mount(context: &mut Context, args: Mount) -> Done {
    let Some(spec) = &args.version else {
        return Err(Error::usage("a mount of the whole store is not available yet").hint("name a version: `cairn mount MNT NAME[:V]`; `cairn list` shows them").into());
    };
    let _ = (context, spec);
    todo!()
}

/// Unmounts.
pub fn umount(context: &mut Context, args: Umount) -> Done {
    let _ = (context, args, json!({}));
    todo!()
}
