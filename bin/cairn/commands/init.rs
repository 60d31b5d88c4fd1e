//! `cairn init`

use crate::args::Init;
use crate::errors::CommandResult;
use crate::output::Context;
use cairn::Store;
use cairn::error::show_path;
use cairn::store::InitOptions;
use serde_json::json;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Makes a store.
pub fn run(context: &mut Context, args: Init) -> CommandResult {
    let found_by_itself = args.dir.is_none() && context.global.store.is_none();
    let dir = args.dir.or(context.global.store.clone()).unwrap_or_else(|| PathBuf::from(".cairn"));
    let options = InitOptions { group: args.group, cache_bound_seconds: args.cache_bound };
    let store = Store::init(&dir, &options)?;
    if context.json() {
        context.out.json(&json!({ "path": store.root().to_string_lossy() }))?;
    } else {
        context.out.name(store.root().as_os_str().as_bytes())?;
        context.out.bytes(b"\n")?;
    }
    if !found_by_itself
        && store.root().file_name() != Some(Path::new(".cairn").as_os_str())
        && std::env::var_os("CAIRN_STORE").is_none()
    {
        context.status(&format!("to use it: export CAIRN_STORE={}", show_path(store.root())));
    }
    Ok(0)
}
