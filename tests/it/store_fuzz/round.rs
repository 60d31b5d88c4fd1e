//! One round: a store is damaged, commands run on it, and what they do is checked.

use super::*;

/// The result of a command.
struct CommandOutcome {
    status: i32,
    out: Vec<u8>,
    err: String,
}

/// One round: a copy of the template, damaged, and what was found wrong.
struct Round<'a> {
    template: &'a Template,
    dir: tempfile::TempDir,
    dice: Dice,
    effects: Effects,
    faults: Vec<String>,
    commands: u64,
}

impl Round<'_> {
    /// Runs one command under its limits; `None` when it is a fault already.
    fn run(&mut self, args: &[&str]) -> Option<CommandOutcome> {
        self.commands += 1;
        let label = format!("cairn {}", args.join(" "));
        let (out, err) = (self.dir.path().join(".out"), self.dir.path().join(".err"));
        let mut command = cairn(self.dir.path(), args);
        command.stdout(std::fs::File::create(&out).unwrap()).stderr(std::fs::File::create(&err).unwrap());
        // SAFETY: only async-signal-safe calls between fork and exec.
        unsafe {
            command.pre_exec(|| {
                for (what, most) in [(libc::RLIMIT_AS, MEMORY), (libc::RLIMIT_FSIZE, FILE), (libc::RLIMIT_CORE, 0)] {
                    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
                    if libc::setrlimit(what, &limit) != 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let mut child = command.spawn().unwrap();
        let until = Instant::now() + TIME;
        let mut pause = Duration::from_millis(1);
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > until {
                child.kill().unwrap();
                child.wait().unwrap();
                self.faults.push(format!("{label}: hangs"));
                return None;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        let message = text(&std::fs::read(&err).unwrap());
        let short: String = message.chars().take(1500).collect();
        if let Some(signal) = status.signal() {
            self.faults.push(format!("{label}: dies of signal {signal}: {short}"));
            return None;
        }
        let status = status.code().unwrap();
        if message.contains("panicked at") || message.contains("internal error") || status == 101 {
            self.faults.push(format!("{label}: panics: {short}"));
        } else if !(0..=6).contains(&status) {
            self.faults.push(format!("{label}: exit status {status}: {short}"));
        } else if status > 1 && !message.contains("error") {
            self.faults.push(format!("{label}: exit status {status} without an error: {short}"));
        }
        if message.len() > 16 << 10 {
            self.faults.push(format!("{label}: {} bytes on stderr", message.len()));
        }
        Some(CommandOutcome { status, out: std::fs::read(&out).unwrap(), err: message })
    }

    fn fault(&mut self, what: String) {
        self.faults.push(what);
    }

    /// Whether `tree` may be what `version` gives.
    fn may_be(&self, version: &str, tree: &Snapshot) -> bool {
        let known = &self.template.versions;
        if self.effects.crafted {
            return true; // what was signed anew is believed
        }
        match known.get(version) {
            Some(wanted) if wanted == tree => true,
            // Two numbers, two manifests with their records, or two artifacts were exchanged. A number may have been
            // lost, and be another version's now: then each file is one that was put.
            _ if self.effects.names => {
                let put = |value: &Vec<u8>| known.values().any(|k| k.values().any(|v| v == value));
                tree.values().all(put)
            }
            _ => false,
        }
    }

    /// Reads a version whole, and compares.
    fn get(&mut self, version: &str, sound: bool) {
        let link = ["copy", "auto", "hardlink"][self.dice.pick(3)];
        let Some(ended) = self.run(&["get", version, "out", "--link", link]) else { return };
        let out = self.dir.path().join("out");
        if ended.status == 0 {
            let tree = snapshot(&out);
            // What looks untouched is believed by all but verify.
            if !self.effects.rot && !self.may_be(version, &tree) {
                self.fault(format!(
                    "get {version}: wrong content: {}",
                    difference(self.template.versions.get(version), &tree)
                ));
            } else if sound && !self.may_be(version, &tree) {
                self.fault(format!("get {version} after a clean verify: wrong content"));
            }
        } else if sound && !(ended.status == 6 && self.effects.names) && !self.effects.crafted {
            self.fault(format!("get {version} after a clean verify: exit {}: {}", ended.status, ended.err));
        }
        remove(&out);
    }

    fn cat(&mut self, version: &str, path: &str) {
        let Some(ended) = self.run(&["cat", version, path]) else { return };
        let wanted: Vec<&[u8]> =
            self.template.versions.values().filter_map(|t| t.get(path.as_bytes())).map(|v| &v[2..]).collect();
        let right = self.template.versions[version].get(path.as_bytes()).map(|v| &v[2..]) == Some(&ended.out);
        // Another version's bytes are right where names were exchanged; any bytes are where content was.
        let known = self.effects.names && wanted.contains(&ended.out.as_slice());
        if ended.status == 0 && !right && !known && !self.effects.rot && !self.effects.crafted {
            self.fault(format!("cat {version} {path}: {} wrong bytes", ended.out.len()));
        }
    }

    /// A put that is acknowledged can be read.
    fn put(&mut self, name: &str, source: &str, healed: bool) {
        let Some(ended) = self.run(&["put", name, source, "--json"]) else { return };
        if ended.status != 0 {
            return;
        }
        let Ok(message) = serde_json::from_slice::<Value>(&ended.out) else {
            self.fault(format!("put {name} {source}: its JSON: {}", text(&ended.out)));
            return;
        };
        let version = format!("{name}:{}", message["version"].as_str().unwrap_or("?"));
        let Some(got) = self.run(&["get", &version, "out"]) else { return };
        let out = self.dir.path().join("out");
        let must_be_right = healed || !self.effects.rot;
        if got.status == 0 {
            if must_be_right && snapshot(&out) != snapshot(&self.dir.path().join(source)) {
                let tree = snapshot(&out);
                self.fault(format!(
                    "put {name} {source} is acknowledged as {version}, and get gives something else: {}",
                    difference(Some(&snapshot(&self.dir.path().join(source))), &tree)
                ));
            }
        } else if must_be_right {
            // Rot inside packs and objects that was not read yet is not known to a writer.
            self.fault(format!(
                "put {name} {source} is acknowledged as {version}, which cannot be read: exit {}: {}",
                got.status, got.err
            ));
        }
        remove(&out);
    }

    /// Reads a mount.
    fn mount(&mut self) {
        let dir = self.dir.path().to_path_buf();
        let at = dir.join("mnt");
        std::fs::create_dir_all(&at).unwrap();
        let versions = ["a:v0", "a:v1", "a:v4", "c:v0", "g:v1", "g:v2"];
        let version = versions[self.dice.pick(if self.template.has_parts { 6 } else { 4 })];
        let whole = self.dice.roll(3) == 0;
        let args: Vec<&str> = if whole { vec!["mount", "mnt", "--no-stage"] } else { vec!["mount", "mnt", version] };
        let ended = self.run(&args);
        if ended.as_ref().is_some_and(|e| e.status == 0) {
            let root = if whole { at.join(version.replace(':', "/")) } else { at.clone() };
            let (send, receive) = std::sync::mpsc::channel();
            // A read that hangs must not take the test with it.
            let reader = std::thread::spawn(move || send.send(read_tree(&root)));
            match receive.recv_timeout(TIME) {
                Ok(Some(tree)) => {
                    if !self.effects.rot && !self.may_be(version, &tree) {
                        self.fault(format!(
                            "mount {version}: wrong content: {}",
                            difference(self.template.versions.get(version), &tree)
                        ));
                    }
                }
                Ok(None) => {}
                Err(_) => self.fault(format!("mount {version}: a read hangs")),
            }
            let mut ended = self.run(&["umount", "mnt"]);
            // A child that another thread forks holds the reader's descriptors until its exec.
            for _ in 0..20 {
                if ended.as_ref().is_none_or(|e| e.status != 3) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
                ended = self.run(&["umount", "mnt"]);
            }
            if let Some(ended) = ended
                && ended.status != 0
            {
                self.fault(format!("umount: exit {}: {}", ended.status, ended.err));
            }
            drop(reader);
        }
        let path = std::ffi::CString::new(at.as_os_str().as_bytes()).unwrap();
        // SAFETY: the path is a C string; what is not mounted is an error.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }

    /// One command of those that read or write, chosen at random.
    fn any(&mut self) {
        let versions: Vec<String> = self.template.versions.keys().cloned().collect();
        let version = versions[self.dice.pick(versions.len())].clone();
        let v = version.as_str();
        let grown = if self.template.has_parts { ["g:v0", "g:v1", "g:v2"][self.dice.pick(3)] } else { "" };
        // A third of the commands concern composed files, if there are any.
        match self.dice.roll(if self.template.has_parts { 45 } else { 30 }) {
            30..=32 => self.cat(grown, "g"),
            33..=35 => self.get(grown, false),
            36 => drop(self.run(&["put", "g", "grown3"])),
            37 => drop(self.run(&["put", "g", "grown0", "--new-version"])),
            38 => drop(self.run(&["patch", "g", "grown3"])),
            39 => drop(self.run(&["rm", "g:v0", "--force"])),
            40 => drop(self.run(&["gc", "--min-age", "0"])),
            41 => drop(self.run(&["copy", "g:v2", "copied"])),
            42 => drop(self.run(&["verify", "g:v2"])),
            43 => drop(self.run(&["du", "g"])),
            44 => drop(self.run(&["verify", "--repair"])),
            0 => drop(self.run(&["list"])),
            1 => drop(self.run(&["list", "a"])),
            2 => drop(self.run(&["show", v])),
            3 => drop(self.run(&["ls", v, "-R"])),
            4 => drop(self.run(&["ls", v, "-l", "--json"])),
            5 => drop(self.run(&["diff", "a:v0", "a:v1"])),
            6 => drop(self.run(&["diff", v, "./two"])),
            7 => drop(self.run(&["drafts", "--json"])),
            8 => drop(self.run(&["draft", "a", "open"])),
            9 => drop(self.run(&["locks"])),
            10 => drop(self.run(&["verify", "--quick"])),
            11 => drop(self.run(&["verify", "a"])),
            12 => drop(self.run(&["verify", v])),
            13 => {
                let path = ["x.txt", "d/large.bin", "big", "only.txt"][self.dice.pick(4)];
                self.cat(v, path);
            }
            14..=15 => self.get(v, false),
            16 => drop(self.run(&["alias", v, "prod"])),
            17 => drop(self.run(&["unalias", "a", "prod"])),
            18 => drop(self.run(&["copy", v, "copied"])),
            19 => drop(self.run(&["patch", "a", "four/part", "--at", "by-patch"])),
            20 => drop(self.run(&["upsert", "a", "two", "--distributed-id", "open", "--run", "r3"])),
            21 => drop(self.run(&["finish", "a", "--distributed-id", "open", "--on-conflict", "latest"])),
            22 => drop(self.run(&["draft", "a", "open", "--drop-run", "r1"])),
            23 => drop(self.run(&["rm", "c:v0", "--force"])),
            24 => drop(self.run(&["put", "a", "four", "--tag", "t", "--alias", "prod"])),
            25 => drop(self.run(&["upsert", "c", "one", "--distributed-id", "other", "--run", "r3"])),
            26 => drop(self.run(&["show", v, "--json"])),
            27 => drop(self.run(&["put", "b", "three"])),
            28 => drop(self.run(&["init", "store"])),
            _ => self.mount(),
        }
    }

    fn play(&mut self) {
        for _ in 0..1 + self.dice.roll(3) {
            mutate(self.dir.path(), &mut self.dice, &mut self.effects);
        }
        if self.dice.roll(2) == 0 {
            self.effects.cache = true;
        } else {
            remove(&self.dir.path().join("cache"));
        }
        let before = self.dice.roll(4);
        for _ in 0..before {
            self.any();
        }
        let verified = self.run(&["verify"]);
        let sound = verified.as_ref().is_some_and(|v| v.status == 0);
        // Commands that ran before may have removed versions or aliases.
        if sound && before == 0 {
            let versions: Vec<String> = self.template.versions.keys().cloned().collect();
            for version in &versions {
                self.get(version, true);
            }
        }
        let put = ["one", "two", "four"][self.dice.pick(3)];
        self.put("a", put, HEALS);
        self.put("fresh", put, HEALS);
        if self.template.has_parts {
            let put = ["grown1", "grown2", "grown3"][self.dice.pick(3)];
            self.put("g", put, HEALS);
            self.put("fresh", put, HEALS);
        }
        for _ in 0..2 + self.dice.roll(3) {
            self.any();
        }
        let outside = outside(self.dir.path());
        if outside != self.template.outside {
            self.fault(format!(
                "something outside the store changed: {}",
                difference(Some(&self.template.outside), &outside)
            ));
        }
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let known = ["store", "cache", "sentinel", "sentinel-moved", "sentinel-copy", "mnt", ".out", ".err"];
            // What a failed get has written is kept for its repetition.
            if !known.contains(&name.as_str()) && !SOURCES.contains(&name.as_str()) && !name.starts_with(".out.cairn-")
            {
                self.fault(format!("{name} is left next to the store"));
            }
        }
    }
}

/// Whether a writer stores again what verify found damaged before.
const HEALS: bool = true;

/// A tree through a mount; `None` when something in it is an error.
pub(super) fn read_tree(root: &Path) -> Option<Snapshot> {
    let mut out = Snapshot::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1) {
        let entry = entry.ok()?;
        let path = entry.path().strip_prefix(root).ok()?.as_os_str().as_bytes().to_vec();
        let kind = entry.file_type();
        let value = if kind.is_dir() {
            b"dir".to_vec()
        } else if kind.is_symlink() {
            [b"link ", std::fs::read_link(entry.path()).ok()?.as_os_str().as_bytes()].concat()
        } else if kind.is_fifo() {
            return None;
        } else {
            let exec = entry.metadata().ok()?.permissions().mode() & 0o111 != 0;
            [if exec { b"x ".as_slice() } else { b"- ".as_slice() }, &std::fs::read(entry.path()).ok()?].concat()
        };
        out.insert(path, value);
    }
    Some(out)
}

/// The first thing that differs.
pub(super) fn difference(wanted: Option<&Snapshot>, found: &Snapshot) -> String {
    let Some(wanted) = wanted else { return "nothing was expected".into() };
    let show = |v: Option<&Vec<u8>>| {
        v.map_or("nothing".to_owned(), |v| {
            format!("{} bytes: {:.80}", v.len(), String::from_utf8_lossy(&v[..v.len().min(80)]))
        })
    };
    let path = wanted.keys().chain(found.keys()).find(|k| wanted.get(*k) != found.get(*k));
    path.map_or("nothing differs".into(), |p| {
        format!("{}: expected {}, found {}", String::from_utf8_lossy(p), show(wanted.get(p)), show(found.get(p)))
    })
}

/// One round; its faults, what was done, and how many commands ran.
pub(super) fn round(template: &Template, seed: u64) -> (Vec<String>, Effects, u64) {
    let dir = memory_dir();
    for name in ["store", "cache", "sentinel"].into_iter().chain(SOURCES) {
        let from = template.dir.path().join(name);
        // Where files' times prove nothing, as in memory, there is no stat cache.
        if from.exists() {
            copy_tree(&from, &dir.path().join(name));
        }
    }
    let mut round = Round {
        template,
        dir,
        dice: Dice(seed.wrapping_mul(2) + 1),
        effects: Effects::default(),
        faults: Vec::new(),
        commands: 0,
    };
    round.play();
    if !round.faults.is_empty()
        && let Some(keep) = std::env::var_os("CAIRN_FUZZ_KEEP")
    {
        copy_tree(round.dir.path(), &Path::new(&keep).join(format!("seed-{seed}")));
    }
    (round.faults, round.effects, round.commands)
}
