//! stdout is data: lines, tables, JSON. Talk goes to stderr.

use crate::cli::GlobalArgs;
use crate::errors::Failure;
use crate::progress::Bar;
use crate::signals;
use crate::times::Times;
use crate::usage_errors::is_coloured;
use cairn::Store;
use cairn::catalog::{Version, VersionSpec, resolve};
use cairn::error::{Error, Result, show_bytes};
use cairn::progress::Progress;
use cairn::types::RunId;
use serde::Serialize;
use std::io::{BufWriter, ErrorKind, IsTerminal, Stdout, Write};
use std::path::Path;
use std::sync::Arc;

/// What every command gets.
pub struct Context {
    /// The global options.
    pub global: GlobalArgs,
    /// stdout.
    pub out: Out,
}

impl Context {
    /// From the global options. An empty `CAIRN_STORE` counts as none.
    pub fn new(mut global: GlobalArgs) -> Context {
        global.store = global.store.filter(|s| !s.as_os_str().is_empty());
        let (to, terminal) = (std::io::stdout(), std::io::stdout().is_terminal());
        let out =
            Out { to: BufWriter::with_capacity(1 << 16, to), terminal, coloured: is_coloured(terminal), header: false };
        Context { global, out }
    }

    /// The store that these options and the working directory lead to.
    pub fn store(&self) -> Result<Store> {
        let store = Store::open(Store::find(self.global.store.as_deref())?)?;
        // What is removed or moved is recorded as done for this run, if its id is allowed.
        let run = std::env::var("CAIRN_RUN").ok().and_then(|id| RunId::parse(&id).ok());
        Ok(run.map_or(store.clone(), |run| store.for_run(run)))
    }

    /// The version that `text` names, in the store.
    pub fn version(&self, text: &str) -> Result<Version> {
        let spec = VersionSpec::parse(text)?; // a mistyped name is refused before the store is opened
        resolve(&self.store()?, &spec)
    }

    /// How times are shown.
    pub fn times(&self, relative: bool) -> Times {
        Times::new(relative, self.out.terminal)
    }

    /// Whether JSON is wanted.
    pub fn json(&self) -> bool {
        self.global.json
    }

    /// Prints a status message on stderr, unless --quiet was given.
    pub fn status(&self, text: &str) {
        if !self.global.quiet {
            // a status message that cannot be printed is not an error
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }

    /// A warning, on stderr, also with --quiet.
    pub fn warn(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "warning: {text}"); // there is no other place to report it
    }

    /// A bar for long work.
    pub fn bar(&self, what: &'static str) -> Bar {
        self.bar_of(what, Arc::default())
    }

    /// A bar for long work that counts with `progress`.
    pub fn bar_of(&self, what: &'static str, progress: Arc<Progress>) -> Bar {
        Bar::start(what, self.global.quiet, progress)
    }

    /// A bar for work that may wait for others.
    pub fn bar_with_waits(&self, command: &'static str) -> Bar {
        Bar::start_with_waits(command, self.global.quiet, Arc::default())
    }

    /// Sets what an interrupted command prints: what was kept.
    pub fn if_interrupted(&self, kept: &str) {
        signals::set_message(kept, self.global.json);
    }
}

/// How the parts of a table are laid out that were written.
#[derive(Default)]
pub struct Layout {
    /// The columns that are shown.
    kept: Option<Vec<usize>>,
    widths: Vec<usize>,
}

/// Buffered stdout.
pub struct Out {
    to: BufWriter<Stdout>,
    /// Whether a person reads it.
    pub terminal: bool,
    /// Whether colours are wanted.
    pub coloured: bool,
    /// Whether tables get headings, also where no person reads them.
    pub header: bool,
}

/// The numbers of colours.
pub mod colour {
    /// What is gone, and errors.
    pub const RED: u8 = 31;
    /// What is new.
    pub const GREEN: u8 = 32;
    /// What changed.
    pub const YELLOW: u8 = 33;
    /// Hints and renames.
    pub const CYAN: u8 = 36;
}

impl Out {
    /// Begins a colour, if colours are wanted.
    pub fn begin_colour(&mut self, colour: u8) -> std::result::Result<(), Failure> {
        if self.coloured { self.bytes(format!("\x1b[{colour}m").as_bytes()) } else { Ok(()) }
    }

    /// Ends a colour.
    pub fn end_colour(&mut self) -> std::result::Result<(), Failure> {
        if self.coloured { self.bytes(b"\x1b[0m") } else { Ok(()) }
    }

    /// Writes a line.
    pub fn line(&mut self, text: &str) -> std::result::Result<(), Failure> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> std::result::Result<(), Failure> {
        self.to.write_all(bytes).map_err(stopped)
    }

    /// Writes a name: its raw bytes, but escaped where a terminal would obey them.
    pub fn name(&mut self, name: &[u8]) -> std::result::Result<(), Failure> {
        if self.terminal { self.bytes(show_bytes(name).as_bytes()) } else { self.bytes(name) }
    }

    /// Writes one JSON document on one line.
    pub fn json(&mut self, value: &impl Serialize) -> std::result::Result<(), Failure> {
        serde_json::to_writer(&mut self.to, value).map_err(|e| stopped(e.into()))?;
        self.bytes(b"\n")
    }

    /// Writes a JSON value without ending the line.
    pub fn json_part(&mut self, value: &impl Serialize) -> std::result::Result<(), Failure> {
        serde_json::to_writer(&mut self.to, value).map_err(|e| stopped(e.into()))
    }

    /// Writes one element of a JSON array; `first`: nothing was written of it before.
    pub fn json_element(&mut self, value: &impl Serialize, first: bool) -> std::result::Result<(), Failure> {
        self.bytes(if first { b"[" } else { b"," })?;
        self.json_part(value)
    }

    /// Ends a JSON array.
    pub fn end_json_array(&mut self, empty: bool) -> std::result::Result<(), Failure> {
        self.bytes(if empty { b"[]\n" } else { b"]\n" })
    }

    /// Writes an aligned table; `heads` are shown to people only, or with --header. A column whose head begins with `>`
    /// is right-aligned. On a terminal, columns that say nothing are left out.
    pub fn table(&mut self, heads: &[&str], rows: &[Vec<String>]) -> std::result::Result<(), Failure> {
        self.table_part(&mut Layout::default(), heads, rows, true)
    }

    /// Writes a part of a table. If the first part `is_all`, the columns are those of [`Out::table`], else all of them.
    pub fn table_part(
        &mut self,
        layout: &mut Layout,
        heads: &[&str],
        rows: &[Vec<String>],
        is_all: bool,
    ) -> std::result::Result<(), Failure> {
        let is_first = layout.kept.is_none();
        let says = |i: &usize| !self.terminal || !is_all || rows.iter().any(|row| row[*i] != "-");
        let kept = layout.kept.take().unwrap_or_else(|| (0..heads.len()).filter(says).collect());
        let heads: Vec<&str> = kept.iter().map(|i| heads[*i]).collect();
        let rows: Vec<Vec<String>> = rows.iter().map(|row| kept.iter().map(|i| row[*i].clone()).collect()).collect();
        layout.kept = Some(kept);
        let show_heads = is_first && if self.terminal { !rows.is_empty() } else { self.header };
        self.aligned(&mut layout.widths, &heads, &rows, show_heads)
    }

    /// [`Out::table`] with heads for all users, also without rows.
    pub fn table_with_heads(&mut self, heads: &[&str], rows: &[Vec<String>]) -> std::result::Result<(), Failure> {
        self.aligned(&mut Vec::new(), heads, rows, true)
    }

    /// Writes rows with columns of at least these widths.
    fn aligned(
        &mut self,
        widths: &mut Vec<usize>,
        heads: &[&str],
        rows: &[Vec<String>],
        show_heads: bool,
    ) -> std::result::Result<(), Failure> {
        let right: Vec<bool> = heads.iter().map(|h| h.starts_with('>')).collect();
        let heads: Vec<String> = heads.iter().map(|h| h.strip_prefix('>').unwrap_or(h).to_owned()).collect();
        let shown = show_heads.then_some(&heads);
        widths.resize(heads.len(), 0);
        for row in shown.into_iter().chain(rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in shown.into_iter().chain(rows) {
            let mut line = String::new();
            for (i, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths[i].saturating_sub(cell.chars().count()));
                let gap = if i == 0 { "" } else { "  " };
                line += &if right[i] { format!("{gap}{pad}{cell}") } else { format!("{gap}{cell}{pad}") };
            }
            self.line(line.trim_end())?;
        }
        Ok(())
    }

    /// Writes a line for each field that has a value. What a terminal would obey is escaped there.
    pub fn fields(&mut self, fields: Vec<(&str, String)>) -> std::result::Result<(), Failure> {
        for (key, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            let escape = self.terminal;
            let shown = |line: &str| match escape && !line.is_empty() {
                true => show_bytes(line.as_bytes()),
                false => line.to_owned(),
            };
            let value = value.split('\n').map(shown).collect::<Vec<_>>().join("\n               ");
            self.line(&format!("{:<15}{value}", format!("{key}:")))?;
        }
        Ok(())
    }

    /// Writes lines of comma-separated values.
    pub fn csv(&mut self, lines: impl Iterator<Item = Vec<String>>) -> std::result::Result<(), Failure> {
        let mut writer = csv::Writer::from_writer(&mut self.to);
        for line in lines {
            writer.write_record(line).map_err(|e| stopped(e.into()))?;
        }
        writer.flush().map_err(stopped)
    }

    /// Hands on what is buffered.
    pub fn flush(&mut self) -> std::result::Result<(), Failure> {
        self.to.flush().map_err(stopped)
    }

    /// Copies all of `from`.
    pub fn copy(&mut self, from: &mut impl std::io::Read, what: &str) -> std::result::Result<(), Failure> {
        let mut buffer = vec![0; 1 << 18];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => self.bytes(&buffer[..n])?,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => {
                    return Err(e.downcast::<Error>().unwrap_or_else(|e| Error::io("read", Path::new(what), e)).into());
                }
            }
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.to.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

fn stopped(e: std::io::Error) -> Failure {
    if e.kind() == ErrorKind::BrokenPipe {
        Failure::PipeClosed
    } else {
        Error::io("write to", Path::new("standard output"), e).into()
    }
}

/// `-` for nothing.
pub fn dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// `1 file`, `2 files`, `2 entries`.
pub fn count(n: u64, noun: &str) -> String {
    format!("{} {}", indicatif::HumanCount(n), plural(n, noun))
}

/// `file` for one, else `files`.
pub fn plural(n: u64, noun: &str) -> String {
    match noun.strip_suffix('y').filter(|_| n != 1) {
        Some(stem) => format!("{stem}ies"),
        None if n == 1 => noun.to_owned(),
        None => format!("{noun}s"),
    }
}
