//! Only the system calls of a small commit: what FORMAT.md's protocol costs on a file system, without cairn.
//!
//! The order is the protocol's: a token and its record, the files made and written out together, all files durable
//! (synced at the same time, for one commit of the journal), the pack visible, the commit, the claim, the claim
//! durable, the token removed. Left out is what is not needed for durability or for the one number: the lock file, the
//! index run, looking at what is there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The bytes of a pack with one small file, of version.json, of a manifest, and of a contribution's record.
const PACK: usize = 1300;
const VERSION: usize = 485;
const MANIFEST: usize = 189;
const CONTRIBUTION: usize = 834;

/// A directory in which small commits are made.
pub struct Protocol(PathBuf);

impl Protocol {
    pub fn at(root: &Path) -> io::Result<Protocol> {
        for dir in ["work", "packs", "versions", "log"] {
            fs::create_dir_all(root.join(dir))?;
        }
        Ok(Protocol(root.to_owned()))
    }

    /// A put: a pack and a version's two files.
    pub fn commit(&self, i: usize) -> io::Result<()> {
        let record = self.0.join(format!("versions/.{i}"));
        let files = || {
            fs::create_dir(&record)?;
            Ok(vec![written(&record.join("version.json"), VERSION)?, written(&record.join("manifest"), MANIFEST)?])
        };
        self.publish(i, "versions", files)
    }

    /// An upsert: a pack and a record.
    pub fn contribute(&self, i: usize) -> io::Result<()> {
        self.publish(i, "log", || Ok(vec![written(&self.0.join(format!("log/.{i}")), CONTRIBUTION)?]))
    }

    fn publish(&self, i: usize, numbers: &str, files: impl FnOnce() -> io::Result<Vec<File>>) -> io::Result<()> {
        let (token, numbers) = (self.0.join(format!("work/{i}")), self.0.join(numbers));
        fs::create_dir(&token)?;
        symlink(numbers.join(format!(".{i}")), token.join("record"))?;
        let mut all = vec![written(&token.join("p0"), PACK)?];
        all.extend(files()?);
        all.iter().for_each(|file| write_out(file, libc::SYNC_FILE_RANGE_WRITE));
        let wait = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        all.iter().for_each(|file| write_out(file, wait));
        std::thread::scope(|s| {
            let others: Vec<_> = all[1..].iter().map(|file| s.spawn(|| file.sync_all())).collect();
            let own = all[0].sync_all();
            others.into_iter().fold(own, |synced, other| synced.and(other.join().expect("no panic")))
        })?;
        fs::rename(token.join("p0"), self.0.join(format!("packs/{i}")))?;
        symlink("commit", token.join("outcome"))?;
        symlink(format!(".{i}"), numbers.join(format!("{i}")))?;
        File::open(&numbers)?.sync_all()?;
        fs::remove_file(token.join("record"))?;
        fs::remove_file(token.join("outcome"))?;
        fs::remove_dir(&token)
    }
}

fn written(path: &Path, bytes: usize) -> io::Result<File> {
    let mut file = File::create_new(path)?;
    file.write_all(&vec![b'x'; bytes])?;
    Ok(file)
}

fn write_out(file: &File, how: libc::c_uint) {
    // SAFETY: an open descriptor. What fails here makes the fsync fail.
    unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, how) };
}
