//! The datasets of issue 4, made once from a fixed seed and used again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A dataset's shape: `dirs` directories (0: one flat directory) with `files` files of `bytes` bytes in all.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub name: &'static str,
    pub files: u64,
    pub dirs: u64,
    pub bytes: u64,
}

pub const S: Shape = Shape { name: "S", files: 100_000, dirs: 1_000, bytes: 4 << 10 };
pub const L: Shape = Shape { name: "L", files: 4, dirs: 0, bytes: 512 << 20 };
pub const M: Shape = Shape { name: "M", files: 1_000_000, dirs: 1_000, bytes: 100 };
pub const F: Shape = Shape { name: "F", files: 1_000_000, dirs: 0, bytes: 100 };

impl Shape {
    /// Smaller or larger: by the number of files, or, of a few large ones, by their length.
    pub fn scaled(self, by: f64) -> Shape {
        let times = |n: u64| ((n as f64 * by) as u64).max(1);
        if self.files <= 16 {
            Shape { bytes: times(self.bytes), ..self }
        } else {
            Shape { files: times(self.files), dirs: self.dirs.min(times(self.dirs)), ..self }
        }
    }

    /// File `i` in the dataset, as a path in it.
    pub fn path(&self, i: u64) -> String {
        if self.dirs == 0 {
            format!("file-{i:07}")
        } else {
            format!("dir-{:04}/file-{:04}", i % self.dirs, i / self.dirs)
        }
    }

    /// The dataset below `dir`, made if it is not there yet.
    pub fn at(&self, dir: &Path) -> io::Result<PathBuf> {
        let path = dir.join(format!("{}-{}x{}", self.name, self.files, self.bytes));
        if path.is_dir() {
            return Ok(path);
        }
        eprintln!("making {}", path.display());
        let part = dir.join(format!(".{}", path.file_name().expect("it has a name").to_string_lossy()));
        if part.exists() {
            fs::remove_dir_all(&part)?;
        }
        fs::create_dir_all(&part)?;
        for d in 0..self.dirs {
            fs::create_dir(part.join(format!("dir-{d:04}")))?;
        }
        let mut noise = Noise(u64::from(self.name.as_bytes()[0]));
        let mut chunk = vec![0; self.bytes.min(1 << 20) as usize];
        // In the order of paths: a directory's files lie together, as when somebody unpacked them.
        let mut order: Vec<String> = (0..self.files).map(|i| self.path(i)).collect();
        order.sort();
        for name in order {
            let mut file = File::create(part.join(name))?;
            let mut left = self.bytes;
            while left > 0 {
                let n = left.min(chunk.len() as u64) as usize;
                noise.fill(&mut chunk[..n]);
                file.write_all(&chunk[..n])?;
                left -= n as u64;
            }
        }
        fs::rename(&part, &path)?;
        super::process::sync(dir)?;
        Ok(path)
    }
}

/// Bytes that nothing compresses (splitmix64).
pub struct Noise(pub u64);

impl Noise {
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
        }
    }
}
