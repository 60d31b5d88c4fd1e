//! How `cairn.Version` finds and reads its files.

use crate::error::of_io;
use crate::read::Which;
use crate::version::PyVersion;
use cairn::Kind;
use cairn::Version;
use cairn::manifest::{Entry, Tree, Visit};
use cairn::types::RelPath;
use cairn::view::FileReader;
use std::io::Read;

impl PyVersion {
    pub fn tree(&self) -> cairn::Result<&Tree> {
        self.tree.get(|| self.version.tree())
    }

    pub fn find(&self, path: &RelPath) -> cairn::Result<Entry> {
        match self.tree()?.lookup(path)? {
            Some(found) => Ok(found.entry),
            None => self.version.entry(path), // it has the right error
        }
    }

    pub fn reader(&self, which: &Which) -> cairn::Result<FileReader> {
        match which {
            Which::Path(path) => {
                let path = RelPath::parse(&path.0)?;
                self.version.open_entry(&path, &self.find(&path)?)
            }
            Which::Number(n) => {
                let visit = self.file_at_number(*n)?;
                self.version.open_entry(&visit.path, &visit.entry)
            }
        }
    }

    pub fn file_at_number(&self, n: u64) -> cairn::Result<Visit> {
        self.tree()?.file_at(n)?.ok_or_else(|| no_file(&self.version, n))
    }

    pub fn read(&self, which: &Which) -> cairn::Result<Vec<u8>> {
        self.read_whole(self.reader(which)?)
    }

    pub fn read_entry(&self, path: &RelPath, entry: &Entry) -> cairn::Result<Vec<u8>> {
        self.read_whole(self.version.open_entry(path, entry)?)
    }

    fn read_whole(&self, mut reader: FileReader) -> cairn::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(reader.size()).unwrap_or(0));
        reader.read_to_end(&mut bytes).map_err(|e| of_io(&self.version.to_string(), e))?;
        Ok(bytes)
    }
}

fn no_file(version: &Version, n: u64) -> cairn::Error {
    cairn::Error::new(Kind::NotFound, format!("there is no file number {n} in {version}"))
        .with_hint(format!("it has {} files, numbered from 0", version.file_count()))
}
