//! Records and packs with right checksums that say what is wrong.

use super::*;

/// Another value for a field of a record.
fn other_value(value: &Value, dice: &mut Dice) -> Value {
    let texts = [
        "",
        "v0",
        "v1",
        "v99",
        "v18446744073709551615",
        "a",
        "../../sentinel",
        "\u{1b}[31m\n",
        "simple",
        "collaborative",
        "patch",
        "2026-01-01T00:00:00Z",
        "99999-13-41",
    ];
    match dice.roll(8) {
        0 => Value::Null,
        1 => json!(u64::MAX),
        2 => json!(dice.roll(100)),
        3 => json!(-1),
        4 => json!(texts[dice.pick(texts.len())]),
        5 => json!("x".repeat(70_000)),
        6 => match value {
            Value::Array(list) => json!([list.as_slice(), list.as_slice()].concat()),
            Value::String(text) if text.len() == 64 => json!(Digest::of(text.as_bytes()).hex()),
            Value::Number(n) => json!(n.as_u64().unwrap_or(0).wrapping_add(1)),
            _ => json!([[[[{"a": [1, 2, 3]}]]]]),
        },
        _ => json!({"id": "r1", "group": null, "job_type": null}),
    }
}

/// Remakes a file so that every checksum is right.
pub(super) fn craft_file(store: &Path, target: &Target, dice: &mut Dice, effects: &mut Effects) {
    let bytes = std::fs::read(&target.path).unwrap();
    if let Some(mut fields) = crafted_stores::fields(&target.path) {
        let keys: Vec<String> = fields.keys().cloned().collect();
        if keys.is_empty() {
            return;
        }
        let key = &keys[dice.pick(keys.len())];
        let done = match dice.roll(6) {
            0 => {
                fields.shift_remove(key);
                format!("{key} is left out")
            }
            1 => {
                fields.insert("unknown".into(), json!({"a": 1}));
                "a field is added".into()
            }
            _ => {
                let inner = fields.get_mut(key).and_then(|v| v.as_object_mut()).filter(|o| !o.is_empty());
                match inner {
                    Some(object) if dice.roll(2) == 0 => {
                        let keys: Vec<String> = object.keys().cloned().collect();
                        let inside = &keys[dice.pick(keys.len())];
                        let value = other_value(&object[inside], dice);
                        let done = format!("{key}.{inside} is {:.60}", value.to_string());
                        object.insert(inside.clone(), value);
                        done
                    }
                    _ => {
                        let value = other_value(&fields[key], dice);
                        let done = format!("{key} is {:.60}", value.to_string());
                        fields.insert(key.clone(), value);
                        done
                    }
                }
            }
        };
        replace(target, &crafted_stores::record(&fields), false);
        (effects.crafted, effects.names) = (true, true);
        effects.done.push(format!("{} is signed again: {done}", target.at));
        return;
    }
    if target.at.ends_with("/manifest") && bytes.len() > 80 {
        effects.crafted = true;
        craft_manifest(target, bytes, dice, effects);
    } else if target.at.starts_with("packs/") && bytes.len() > 100 {
        effects.crafted = true;
        craft_pack(store, target, bytes, dice, effects);
    } else if target.at.starts_with("index/") && bytes.len() > 90 {
        craft_run(target, bytes, dice, effects);
    }
}

/// A number or a byte of `bytes[from..to]` becomes another.
fn poke(bytes: &mut [u8], from: usize, to: usize, dice: &mut Dice) -> usize {
    let at = from + dice.pick((to - from).max(1));
    let value = [u64::MAX, 0x7fff_ffff_ffff_ffff, 0xffff_ffff, 0x7fff, 0, 1, 2][dice.pick(7)];
    match dice.roll(4) {
        0 if at + 8 <= to => bytes[at..at + 8].copy_from_slice(&value.to_le_bytes()),
        1 if at + 4 <= to => bytes[at..at + 4].copy_from_slice(&value.to_le_bytes()[..4]),
        2 if at + 2 <= to => bytes[at..at + 2].copy_from_slice(&value.to_le_bytes()[..2]),
        _ => bytes[at] ^= 1 << dice.roll(8),
    }
    at
}

/// A version's root node becomes another, with its digest, its place in `version.json`, and the file's sum.
fn craft_manifest(target: &Target, mut bytes: Vec<u8>, dice: &mut Dice, effects: &mut Effects) {
    // An earlier mutation of this round may have hit the same file.
    let number_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().unwrap()) as usize);
    let Some(packs) = number_at(8).map(|n| n & 0xffff) else { return };
    let node = 12 + 32 * packs;
    let Some((len, end)) = number_at(node).zip(bytes.len().checked_sub(32)) else { return };
    if node + 4 + len > end {
        return;
    }
    let (from, to, what) = match dice.roll(4) {
        0 => (8, node, "table of packs"),
        1 => (node, node + 4, "length of its node"),
        2 => (node + 4, node + 4 + len, "node"),
        _ => (node + 4 + len, end, "hints"),
    };
    let at = poke(&mut bytes, from, to, dice);
    let sum = Digest::of(&bytes[..end]);
    bytes[end..].copy_from_slice(&sum.0);
    let digest = Digest::of(&[b"cairn-node-1\n", &bytes[node + 4..node + 4 + len]].concat());
    let record = target.path.with_file_name("version.json");
    if dice.roll(4) > 0 && crafted_stores::fields(&record).is_some() {
        crafted_stores::resign(&record, |r| drop(r.insert("digest".into(), json!(digest.hex()))));
        effects.names = true;
    }
    replace(target, &bytes, false);
    effects.done.push(format!("{} is made anew: its {what} at {at} of {end}", target.at));
}

/// A pack's footer, or the bytes and the digest of a blob; under the name that is right then, also in the manifests
/// that list it.
fn craft_pack(store: &Path, target: &Target, mut bytes: Vec<u8>, dice: &mut Dice, effects: &mut Effects) {
    let Some(trailer) = bytes.len().checked_sub(24) else { return };
    let start = u64::from_le_bytes(bytes[trailer..trailer + 8].try_into().unwrap()) as usize;
    let count = u32::from_le_bytes(bytes[trailer + 8..trailer + 12].try_into().unwrap()) as usize;
    if start > trailer || count == 0 || start + 44 * count != trailer {
        return;
    }
    let entry = start + 44 * dice.pick(count);
    let offset = u32::from_le_bytes(bytes[entry + 32..entry + 36].try_into().unwrap()) as usize;
    let len = u32::from_le_bytes(bytes[entry + 36..entry + 40].try_into().unwrap()) as usize;
    if offset + 40 + len > start {
        return; // an earlier mutation of this round hit the same file
    }
    let done = match dice.roll(4) {
        0 => format!("an entry at {}", poke(&mut bytes, entry + 32, entry + 44, dice)),
        1 => {
            let end = bytes.len();
            format!("the trailer at {}", poke(&mut bytes, trailer, end, dice))
        }
        2 => {
            poke(&mut bytes, offset + 32, offset + 40, dice);
            bytes.copy_within(offset + 32..offset + 36, entry + 36);
            format!("the header at {offset}, and its entry")
        }
        _ if len > 0 => {
            let at = poke(&mut bytes, offset + 40, offset + 40 + len, dice);
            let body = &bytes[offset + 40..offset + 40 + len];
            let (kind, codec) = (bytes[entry + 40], bytes[entry + 41]);
            let hashed = match (kind, codec) {
                (2, _) => {
                    let n = (u32::from_le_bytes(body[..4].try_into().unwrap()) as usize).min(len - 4);
                    Digest::of(&[b"cairn-node-1\n", &body[4..4 + n]].concat())
                }
                _ => Digest::of(body),
            };
            let is_signed_inside = sign_inside(&mut bytes, offset, len, (kind, codec));
            if !is_signed_inside && dice.roll(2) == 0 {
                bytes[offset..offset + 32].copy_from_slice(&hashed.0);
                bytes[entry..entry + 32].copy_from_slice(&hashed.0);
            }
            format!("a blob at {at}")
        }
        _ => return,
    };
    let name = Digest::of(&bytes[start..]);
    let old = target.path.file_name().unwrap().to_str().and_then(|hex| Digest::parse(hex).ok());
    remove(&target.path);
    crafted_stores::write(&target.path.with_file_name(name.hex()), &bytes);
    if let (Some(old), true) = (old, dice.roll(4) > 0) {
        for other in targets(store).into_iter().filter(|t| t.meta.is_file() && t.at.ends_with("/manifest")) {
            let mut bytes = std::fs::read(&other.path).unwrap();
            let end = bytes.len().saturating_sub(32);
            let Some(at) = bytes[..end].windows(32).position(|w| w == old.0) else { continue };
            bytes[at..at + 32].copy_from_slice(&name.0);
            let sum = Digest::of(&bytes[..end]);
            bytes[end..].copy_from_slice(&sum.0);
            replace(&other, &bytes, false);
        }
    }
    effects.done.push(format!("{} is made anew: {done} of {}", target.at, bytes.len()));
}

/// Gives a recipe, or a table of compressed frames, the checksum that is right for it now.
fn sign_inside(bytes: &mut [u8], offset: usize, len: usize, (kind, codec): (u8, u8)) -> bool {
    let digest = bytes[offset..offset + 32].to_vec();
    let body = &mut bytes[offset + 40..offset + 40 + len];
    match (kind, codec) {
        (3, 0) if len > 32 => {
            let sum = Digest::of(&[b"cairn-recipe-1\n", &digest[..], &body[..len - 32]].concat());
            body[len - 32..].copy_from_slice(&sum.0);
            true
        }
        (1, 2) if len > 20 => {
            let end = u32::from_le_bytes(body[4..8].try_into().unwrap()) as usize;
            if (12..=len).contains(&end) {
                let sum = Digest::of(&body[..end]);
                body[end..(end + 8).min(len)].copy_from_slice(&sum.0[..8.min(len - end)]);
            }
            true
        }
        _ => false,
    }
}

/// An index run, with a right header and name.
fn craft_run(target: &Target, mut bytes: Vec<u8>, dice: &mut Dice, effects: &mut Effects) {
    let end = bytes.len();
    if end < 80 {
        return;
    }
    let at = poke(&mut bytes, 8, end, dice);
    let blocks = (u32::from_le_bytes(bytes[20..24].try_into().unwrap()) as usize).min(4);
    let packs = (u32::from_le_bytes(bytes[16..20].try_into().unwrap()) as usize).min(64);
    let header = 24 + 16 * blocks + 32;
    if header + 32 + 32 * packs <= end {
        let names = Digest::of(&bytes[header + 32..header + 32 + 32 * packs]);
        bytes[header - 32..header].copy_from_slice(&names.0);
        let mut from = header + 32 + 32 * packs;
        for i in 0..blocks {
            let to = (from + 4092).min(end);
            let sum = Digest::of(&bytes[from..to]);
            bytes[24 + 16 * i + 8..24 + 16 * i + 16].copy_from_slice(&sum.0[..8]);
            from = to;
        }
    }
    if header + 32 > end {
        return;
    }
    let name = Digest::of(&bytes[..header]);
    bytes[header..header + 32].copy_from_slice(&name.0);
    remove(&target.path);
    crafted_stores::write(&target.path.with_file_name(name.hex()), &bytes);
    effects.done.push(format!("{} is made anew, at {at} of {end}", target.at));
}
