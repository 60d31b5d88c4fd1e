//! `cairn init`

use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::Context;
use cairn::error::show_path;
use cairn::{Compression, InitOptions, Store};
use clap::Args;
use serde_json::json;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// `cairn init`
#[derive(Args, Debug)]
pub struct InitArgs {
    /// A new or empty directory [default: --store or CAIRN_STORE, else .cairn]
    pub dir: Option<PathBuf>,
    /// Let every member of this group of users write, whatever their umasks are
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// The longest time that a host of a shared disk may cache directory entries [default: 120]
    #[arg(long, value_name = "SECONDS", value_parser = super::shared_args::whole::<u64>(0..=u64::MAX))]
    pub cache_bound: Option<u64>,
    /// Which files are compressed, if they get smaller by it
    #[arg(long, value_enum, default_value = "auto")]
    pub compression: CompressionArg,
}

/// The values of `--compression`.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
pub enum CompressionArg {
    /// Files shorter than 128 KiB, and what is new in a changed large file: programs read other large files directly
    Auto,
    /// Files of any size: large ones take less space, and programs read them through cairn
    All,
    /// None
    None,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &["Prints the path of the new store. Commands find a store in ./.cairn or in a .cairn of a \
         directory above; for another place, set CAIRN_STORE or use --store."],
    examples: &[
        ("cairn init", "make ./.cairn"),
        ("cairn init --compression all /data/store", "for text and tables that are read seldom"),
        ("cairn init /data/store --group lab", "every member of group lab may write"),
        ("export CAIRN_STORE=/data/store", "use that store from anywhere"),
    ],
    exit: &[(3, "the directory is a store already, or is not empty; nothing was changed")],
    json: "{\"path\"}",
    list: None,
};

/// Makes a store.
pub fn run(context: &mut Context, args: InitArgs) -> CommandResult {
    let is_default_place = args.dir.is_none() && context.global.store.is_none();
    let dir = args.dir.or(context.global.store.clone()).unwrap_or_else(|| PathBuf::from(".cairn"));
    let mut options = InitOptions::default();
    (options.group, options.cache_bound_seconds) = (args.group, args.cache_bound);
    options.compression = match args.compression {
        CompressionArg::Auto => Compression::Auto,
        CompressionArg::All => Compression::All,
        CompressionArg::None => Compression::None,
    };
    let store = Store::init(&dir, &options)?;
    if context.json() {
        context.out.json(&json!({ "path": store.root().to_string_lossy() }))?;
    } else {
        context.out.name(store.root().as_os_str().as_bytes())?;
        context.out.bytes(b"\n")?;
    }
    if !is_default_place
        && store.root().file_name() != Some(Path::new(".cairn").as_os_str())
        && std::env::var_os("CAIRN_STORE").is_none()
    {
        context.status(&format!("to use it: export CAIRN_STORE={}", show_path(store.root())));
    }
    Ok(0)
}
