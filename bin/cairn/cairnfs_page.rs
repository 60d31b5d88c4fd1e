//! The manual page of cairnfs(8): what a system administrator writes into fstab.

use crate::cairnfs_texts::HELP;
use crate::manpages::{paragraphs, sections, title};
use clap_mangen::roff::{Roff, bold, italic, roman};
use std::io::Result;

/// The page.
///
/// # Errors
/// None in practice: it is written to memory.
pub fn render() -> Result<Vec<u8>> {
    let mut page = Vec::new();
    let mut roff = Roff::new();
    title("cairnfs", 8, &mut page)?;
    roff.control("SH", ["NAME"]);
    roff.text([roman("cairnfs - mount a cairn store, a version or a run's staging directory")]);
    roff.control("SH", ["SYNOPSIS"]);
    let (store, mnt, options) = (italic("STORE"), italic("MNT"), italic("OPTIONS"));
    let line = [bold("cairnfs"), roman(" "), store, roman(" "), mnt, roman(" ["), bold("-o"), roman(" "), options];
    roff.text(line.into_iter().chain([roman("]...")]).collect::<Vec<_>>());
    roff.extend([paragraphs("DESCRIPTION", HELP.description)]);
    roff.extend([sections(&HELP)]);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("cairn(1), cairn-mount(1), mount(8), fstab(5)")]);
    roff.to_writer(&mut page)?;
    Ok(page)
}
