//! Sources that are read once: standard input (`-`), and what a command writes (`--stdin-from-command -- CMD …`).

use super::shared_args::SourceArgs;
use super::sources::unreadable;
use crate::signals;
use cairn::Store;
use cairn::error::{Error, Result, show_bytes};
use cairn::internals::commit::Artifact;
use cairn::internals::disk::users_umask;
use cairn::types::RelPath;
use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Sources, and the command whose output is one more.
pub struct SourceList<'a> {
    /// Directories, files, `-`, URIs.
    pub sources: &'a [OsString],
    /// The command with its arguments; empty when there is none.
    pub command: &'a [OsString],
}

impl<'a> SourceList<'a> {
    /// Tells the command from the sources: it is what comes after `--`.
    pub fn split(sources: &'a [OsString], args: &SourceArgs) -> Result<SourceList<'a>> {
        if !args.stdin_from_command {
            return Ok(SourceList { sources, command: &[] });
        }
        let after = std::env::args_os().skip(1).skip_while(|a| a != "--").skip(1).count();
        let at = sources.len().checked_sub(after).filter(|_| after > 0).ok_or_else(|| {
            Error::usage("--stdin-from-command needs a command after `--`, and everything else before it")
                .with_hint("as in: cairn put shop-db --stdin-filename shop.sql --stdin-from-command -- mysqldump shop")
        })?;
        let (sources, command) = sources.split_at(at);
        Ok(SourceList { sources, command })
    }

    /// Whether anything is read that can be read once only.
    pub fn has_stream(&self) -> bool {
        !self.command.is_empty() || self.sources.iter().any(|s| s == "-")
    }

    /// Whether a person types it.
    pub fn is_typed(&self) -> bool {
        self.sources.iter().any(|s| s == "-") && std::io::stdin().is_terminal()
    }

    /// Only one can be called by the name that is given for it.
    pub fn check(&self) -> Result<()> {
        let streams = self.sources.iter().filter(|s| *s == "-").count() + usize::from(!self.command.is_empty());
        if streams < 2 {
            return Ok(());
        }
        Err(Error::usage("standard input (-) can be read only once, and not together with --stdin-from-command"))
    }
}

/// Adds standard input, or what `command` writes.
pub fn add(
    artifact: &mut Artifact,
    store: &Store,
    args: &SourceArgs,
    prefix: &RelPath,
    command: &[OsString],
) -> Result<()> {
    let at = RelPath::parse(args.stdin_filename.as_bytes())?.below(prefix)?;
    let mut file = artifact.new_file_in(at.as_bytes(), store)?;
    let spool = store.layout().work();
    let (bytes, from) = match command.first() {
        None => (copy(&mut std::io::stdin().lock(), &mut file, "standard input", &spool)?, "standard input".to_owned()),
        Some(program) => {
            let name = format!("`{}`", show_bytes(program.as_bytes()));
            (run(program, &command[1..], &name, &mut file, &spool)?, name)
        }
    };
    if bytes == 0 && !args.allow_empty {
        let what = if command.is_empty() { "had no bytes" } else { "wrote no bytes" };
        return Err(Error::conflict(format!("{from} {what}: nothing was published"))
            .with_hint("if an empty file is right, add --allow-empty"));
    }
    file.finish()
}

/// Copies what a command writes. It counts only if the command succeeds.
fn run(program: &OsStr, args: &[OsString], name: &str, to: &mut impl Write, spool: &Path) -> Result<u64> {
    let umask = users_umask();
    let mut command = Command::new(program);
    command.args(args).stdout(Stdio::piped());
    // SAFETY: umask may be called between fork and exec. This process may have cleared its own.
    unsafe {
        command.pre_exec(move || {
            libc::umask(umask as libc::mode_t);
            Ok(())
        });
    }
    let mut child = command.spawn().map_err(|e| unreadable("run", Path::new(program), e))?;
    let copied = match child.stdout.take() {
        Some(mut output) => copy(&mut output, to, &format!("the output of {name}"), spool),
        None => Err(Error::io_message(format!("{name} has no output"))),
    };
    if copied.is_err() {
        end(&child);
    }
    let status = child.wait().map_err(|e| Error::io("wait for", Path::new(program), e))?;
    let bytes = copied?;
    if !status.success() {
        let why = format!("{name} failed ({status}): nothing was published");
        return Err(
            Error::io_message(why).with_hint("its own messages are above; run the same command again when it succeeds")
        );
    }
    Ok(bytes)
}

/// Asks a command to end whose output is no longer wanted.
fn end(child: &Child) {
    // SAFETY: a signal to a child that was not waited for yet.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
}

/// All of a stream, or up to a signal; how many bytes it had.
fn copy(from: &mut impl Read, to: &mut impl Write, what: &str, spool: &Path) -> Result<u64> {
    let mut buffer = vec![0; 1 << 18];
    let mut bytes = 0;
    loop {
        if signals::received().is_some() {
            return Err(Error::conflict("interrupted"));
        }
        match from.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(n) => {
                to.write_all(&buffer[..n]).map_err(|e| Error::io("write to a temporary file in", spool, e))?;
                bytes += n as u64;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("read", Path::new(what), e)),
        }
    }
}
