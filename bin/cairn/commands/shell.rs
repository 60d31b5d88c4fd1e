//! `cairn completions`, `cairn manpages` and `cairn version`

use crate::args::{Cli, Completions, Manpages};
use crate::errors::CommandResult;
use crate::output::Context;
use cairn::error::Error;
use clap::CommandFactory;
use serde_json::json;
use std::os::unix::ffi::OsStrExt;

/// Prints a shell's completions.
pub fn completions(context: &mut Context, args: Completions) -> CommandResult {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "cairn", &mut text);
    context.out.bytes(&text)?;
    Ok(0)
}

/// Prints the version of this program.
pub fn version(context: &mut Context) -> CommandResult {
    let version = env!("CARGO_PKG_VERSION");
    if context.json() {
        context.out.json(&json!({ "version": version }))?
    } else {
        context.out.line(&format!("cairn {version}"))?
    }
    Ok(0)
}

/// Writes the manual pages: `cairn.1` and one for each command.
pub fn manpages(context: &mut Context, args: Manpages) -> CommandResult {
    std::fs::create_dir_all(&args.dir).map_err(|e| Error::io("create directory", &args.dir, e))?;
    clap_mangen::generate_to(Cli::command(), &args.dir)
        .map_err(|e| Error::io("write manual pages to", &args.dir, e))?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&args.dir).map_err(|e| Error::io("list", &args.dir, e))? {
        let name = entry.map_err(|e| Error::io("list", &args.dir, e))?.file_name();
        if name.as_bytes().starts_with(b"cairn") && name.as_bytes().ends_with(b".1") {
            files.push(args.dir.join(name));
        }
    }
    files.sort();
    if context.json() {
        context.out.json(&json!({ "files": files.iter().map(|f| f.to_string_lossy()).collect::<Vec<_>>() }))?;
    } else {
        for file in &files {
            context.out.bytes(file.as_os_str().as_bytes())?;
            context.out.bytes(b"\n")?;
        }
    }
    Ok(0)
}
