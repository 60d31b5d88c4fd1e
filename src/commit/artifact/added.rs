//! What an artifact has at a path before it is saved.

use super::builder::{Add, Artifact};
use crate::error::{Error, Result};
use crate::ingest::{Body, FileBody};
use crate::types::RelPath;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

impl Artifact {
    /// Whether the file that was added at `at` last has the bytes of the file `source`. `None`: no single file was
    /// added there.
    ///
    /// # Errors
    /// Usage: a path that is not allowed; I/O.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # std::env::set_current_dir(&dir).unwrap();
    /// std::fs::write("a.txt", "one").unwrap();
    /// let mut artifact = cairn::Artifact::new("notes", None)?;
    /// artifact.add_bytes("a.txt", "one")?;
    /// assert_eq!(artifact.has_bytes_of("a.txt", "a.txt")?, Some(true));
    /// assert_eq!(artifact.has_bytes_of("b.txt", "a.txt")?, None);
    /// # Ok::<(), cairn::Error>(())
    /// ```
    pub fn has_bytes_of(&self, at: impl AsRef<[u8]>, source: impl AsRef<Path>) -> Result<Option<bool>> {
        let (at, source) = (RelPath::parse(at.as_ref())?, source.as_ref());
        for add in self.adds.iter().rev() {
            match add {
                Add::Remove { at: removed } if at == *removed || at.is_inside(removed) => return Ok(None),
                Add::Entry { at: added, body: Body::File { body, .. }, .. } if at == *added => {
                    return same_bytes(body, source).transpose();
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

/// Whether what was added has the bytes of a file. `None`: it is not on this disk.
fn same_bytes(body: &FileBody, source: &Path) -> Option<Result<bool>> {
    let failed = |e| Error::io("compare", source, e);
    let open = |path: &Path| File::open(path).map(|file| BufReader::with_capacity(1 << 18, file));
    let compared = match body {
        FileBody::Bytes(bytes) => open(source).and_then(|file| equal(&**bytes, file)),
        FileBody::Disk(path, _) => open(path).and_then(|added| equal(added, open(source)?)),
        _ => return None,
    };
    Some(compared.map_err(failed))
}

/// Whether two readers give the same bytes.
fn equal(mut a: impl BufRead, mut b: impl BufRead) -> std::io::Result<bool> {
    loop {
        let (from_a, from_b) = (a.fill_buf()?, b.fill_buf()?);
        let common = from_a.len().min(from_b.len());
        if from_a[..common] != from_b[..common] {
            return Ok(false);
        }
        if common == 0 {
            return Ok(from_a.is_empty() && from_b.is_empty());
        }
        a.consume(common);
        b.consume(common);
    }
}
