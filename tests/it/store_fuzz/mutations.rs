//! Damage that needs no knowledge of a file: cut, doubled, exchanged, replaced by a link or a FIFO.

use super::*;

pub(super) fn remove(path: &Path) {
    match std::fs::symlink_metadata(path) {
        Ok(m) if m.is_dir() => std::fs::remove_dir_all(path).unwrap(),
        Ok(_) => std::fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

fn fifo(path: &Path) {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a C string.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o644) }, 0);
}

/// Somewhere for a symlink to lead.
fn lead(dir: &Path, dice: &mut Dice, of: &Path) -> PathBuf {
    match dice.roll(9) {
        0 => dir.join("sentinel"),
        1 => dir.join("sentinel/file"),
        2 => dir.join("sentinel").join("0".repeat(64)),
        3 => of.file_name().unwrap().into(),
        4 => "..".into(),
        5 => "/dev/zero".into(),
        6 => format!(".{}", "1".repeat(32)).into(),
        7 => "x".repeat(3000).into(),
        _ => "../../../sentinel/packs".into(),
    }
}

/// Damages one thing; what was done, for people.
pub(super) fn mutate(dir: &Path, dice: &mut Dice, effects: &mut Effects) {
    let store = dir.join("store");
    let all = targets(&store);
    if all.is_empty() {
        return;
    }
    // Of each kind alike, else the many files of one kind would take all.
    let kind = dice.roll(10);
    let chosen: Vec<&Target> = match kind {
        0..=1 => all.iter().filter(|t| t.meta.is_dir()).collect(),
        2..=3 => all.iter().filter(|t| t.meta.is_symlink()).collect(),
        4 => all.iter().filter(|t| t.meta.is_file() && t.at.starts_with("packs/")).collect(),
        5 => all
            .iter()
            .filter(|t| t.meta.is_file() && (t.at.starts_with("objects/") || t.at.starts_with("index/")))
            .collect(),
        6 => all.iter().filter(|t| t.meta.is_file() && t.at.ends_with("/manifest")).collect(),
        _ => all.iter().filter(|t| t.meta.is_file()).collect(),
    };
    let Some(target) = chosen.get(dice.pick(chosen.len().max(1))) else { return };
    let before = effects.done.len();
    if target.meta.is_dir() {
        mutate_dir(dir, target, dice, effects, &chosen);
    } else if target.meta.is_symlink() {
        mutate_link(dir, target, dice, effects, &chosen);
    } else if target.meta.is_file() {
        match dice.roll(3) {
            0 => craft_file(&store, target, dice, effects),
            _ => mutate_file(dir, target, dice, effects, &chosen),
        }
    }
    if effects.done.len() == before {
        effects.done.push(format!("nothing to {}", target.at));
    }
}

fn mutate_dir(dir: &Path, target: &Target, dice: &mut Dice, effects: &mut Effects, others: &[&Target]) {
    effects.names = true;
    let path = &target.path;
    let done = match dice.roll(9) {
        0 => {
            remove(path);
            "is removed".to_owned()
        }
        1 => {
            remove(path);
            std::fs::write(path, b"a file").unwrap();
            "is a file".into()
        }
        2 => {
            remove(path);
            fifo(path);
            "is a FIFO".into()
        }
        3 => {
            let to = lead(dir, dice, path);
            remove(path);
            symlink(&to, path).unwrap();
            format!("is a symlink to {:.60}", to.display().to_string())
        }
        4 => {
            let aside = dir.join("sentinel-moved");
            remove(&aside);
            std::fs::rename(path, &aside).unwrap();
            symlink(&aside, path).unwrap();
            "is moved aside, with a symlink to it".into()
        }
        5 => {
            let other = others[dice.pick(others.len())];
            let aside = dir.join("store/aside");
            if other.path.starts_with(path) || path.starts_with(&other.path) {
                return;
            }
            std::fs::rename(path, &aside).unwrap();
            std::fs::rename(&other.path, path).unwrap();
            std::fs::rename(&aside, &other.path).unwrap();
            format!("is exchanged with {}", other.at)
        }
        6 => {
            let name = match dice.roll(6) {
                0 => ".nfs0000000000c0ffee".to_owned(),
                1 => "0".repeat(64),
                2 => "1".repeat(32),
                3 => "v99".into(),
                4 => "000099".into(),
                _ => "s".repeat(255),
            };
            let at = path.join(&name);
            if std::fs::symlink_metadata(&at).is_ok() {
                return;
            }
            match dice.roll(4) {
                0 => std::fs::write(&at, random_bytes(dice.roll(1000), 300)).unwrap(),
                1 => fifo(&at),
                2 => symlink(lead(dir, dice, &at), &at).unwrap(),
                _ => std::fs::create_dir(&at).unwrap(),
            }
            format!("gets a stranger {name}")
        }
        7 => {
            let mode = [0o000, 0o500, 0o777][dice.pick(3)];
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
            format!("has mode {mode:o}")
        }
        _ => {
            for entry in std::fs::read_dir(path).unwrap().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    remove(&entry.path())
                } else {
                    std::fs::remove_file(entry.path()).unwrap()
                }
            }
            "is emptied".into()
        }
    };
    effects.done.push(format!("{} {done}", target.at));
}

fn mutate_link(dir: &Path, target: &Target, dice: &mut Dice, effects: &mut Effects, others: &[&Target]) {
    effects.names = true;
    let path = &target.path;
    let text = std::fs::read_link(path).unwrap();
    let done = match dice.roll(7) {
        0 => {
            remove(path);
            "is removed".to_owned()
        }
        1 => {
            remove(path);
            std::fs::write(path, text.as_os_str().as_bytes()).unwrap();
            "is a file".into()
        }
        2 => {
            remove(path);
            if dice.roll(2) == 0 {
                std::fs::create_dir(path).unwrap()
            } else {
                fifo(path)
            }
            "is a directory or a FIFO".into()
        }
        3 => {
            let to = lead(dir, dice, path);
            remove(path);
            symlink(&to, path).unwrap();
            format!("leads to {:.60}", to.display().to_string())
        }
        4 => {
            let other = others[dice.pick(others.len())];
            let theirs = std::fs::read_link(&other.path).unwrap();
            remove(path);
            symlink(&theirs, path).unwrap();
            remove(&other.path);
            symlink(&text, &other.path).unwrap();
            format!("is exchanged with {}", other.at)
        }
        5 => {
            let other = others[dice.pick(others.len())];
            let theirs = std::fs::read_link(&other.path).unwrap();
            remove(path);
            symlink(theirs, path).unwrap();
            format!("leads where {} leads", other.at)
        }
        _ => {
            let name = ["v7", "v6", "v99", "000002", "000003", "000099"][dice.pick(6)];
            let at = path.with_file_name(name);
            if std::fs::symlink_metadata(&at).is_ok() {
                return;
            }
            symlink(&text, &at).unwrap();
            format!("is at {name} too")
        }
    };
    effects.done.push(format!("{} {done}", target.at));
}

/// Writes bytes in the place of a file; with the old time if `quietly`.
pub(super) fn replace(target: &Target, bytes: &[u8], quietly: bool) {
    crafted_stores::write(&target.path, bytes);
    let file = std::fs::File::open(&target.path).unwrap();
    if quietly {
        file.set_modified(target.meta.modified().unwrap()).unwrap();
    }
    std::fs::set_permissions(&target.path, target.meta.permissions()).unwrap();
}

fn mutate_file(dir: &Path, target: &Target, dice: &mut Dice, effects: &mut Effects, others: &[&Target]) {
    let path = &target.path;
    let mut bytes = std::fs::read(path).unwrap();
    let len = bytes.len();
    let quietly = dice.roll(2) == 0;
    let object = target.at.starts_with("objects/");
    effects.names |= !object && !target.at.starts_with("packs/") && !target.at.starts_with("index/");
    // Beginnings and ends are where the structure is.
    let position = |dice: &mut Dice| -> usize {
        match dice.roll(3) {
            0 => dice.pick(len.clamp(1, 64)),
            1 => len - 1 - dice.pick(len.clamp(1, 160)),
            _ => dice.pick(len),
        }
    };
    let done = match dice.roll(16) {
        0..=3 if len > 0 => {
            let n = 1 + dice.roll(3);
            let mut at = Vec::new();
            for _ in 0..n {
                let i = position(dice);
                bytes[i] ^= 1 << dice.roll(8);
                at.push(i);
            }
            replace(target, &bytes, quietly);
            effects.rot |= object && quietly || target.at.starts_with("packs/");
            format!("has bits flipped at {at:?} of {len}, quietly: {quietly}")
        }
        4 => {
            let to = if len == 0 { 0 } else { dice.pick(len) };
            replace(target, &bytes[..to], quietly);
            format!("is cut from {len} to {to}")
        }
        5 => {
            replace(target, &[bytes.clone(), bytes].concat(), quietly);
            "is doubled".into()
        }
        6 => {
            let more = dice.roll(5000) as usize;
            replace(target, &[bytes, random_bytes(more as u64, more)].concat(), quietly);
            format!("has {more} bytes more")
        }
        7 if len >= 8 => {
            let at = position(dice).min(len - 8);
            let value = [u64::MAX, 0x7fff_ffff_ffff_ffff, 0xffff_ffff, 0x7fff_ffff, 0, 1 << 40][dice.pick(6)];
            let width = if dice.roll(2) == 0 { 8 } else { 4 };
            bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
            replace(target, &bytes, quietly);
            effects.rot |= object && quietly || target.at.starts_with("packs/");
            format!("has {value:x} at {at} of {len}, {width} bytes, quietly: {quietly}")
        }
        8 => {
            let other = others[dice.pick(others.len())];
            let theirs = std::fs::read(&other.path).unwrap();
            replace(target, &theirs, quietly);
            replace(other, &bytes, quietly);
            effects.names = true;
            effects.rot |= object && theirs.len() == len;
            format!("is exchanged with {}", other.at)
        }
        9 => {
            remove(path);
            "is removed".into()
        }
        10 => {
            remove(path);
            std::fs::create_dir(path).unwrap();
            "is a directory".into()
        }
        11 => {
            remove(path);
            fifo(path);
            "is a FIFO".into()
        }
        12 => {
            let to = lead(dir, dice, path);
            remove(path);
            symlink(&to, path).unwrap();
            format!("is a symlink to {:.60}", to.display().to_string())
        }
        13 => {
            let aside = dir.join("sentinel-copy");
            crafted_stores::write(&aside, &bytes);
            remove(path);
            symlink(&aside, path).unwrap();
            "is a symlink to a copy of itself".into()
        }
        14 => {
            let mode = [0o000, 0o777, 0o644][dice.pick(3)];
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
            format!("has mode {mode:o}")
        }
        _ => {
            let n = len.max(10);
            replace(target, &random_bytes(dice.roll(1000), n), quietly);
            effects.rot |= object && quietly;
            format!("is random_bytes, quietly: {quietly}")
        }
    };
    effects.done.push(format!("{} {done}", target.at));
}
