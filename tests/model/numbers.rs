//! The claim (FORMAT.md, "The claim", "Drafts", "Finish"): one draft's log and one artifact's versions, taken by tokens with a symlink that refuses to replace.
//!
//! A process that is not scheduled any more has died or stands still. A name younger than the cache bound may be unseen by who looks; the claim itself
//! never is. Faults, a bounded number of them: a fence by a collector that believes a token dead, a claim whose reply is lost, a claim that lands later.

use crate::search::{Label, Law, Model};

/// What a process does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Contributes to the draft.
    Upsert,
    /// Finishes it.
    Finish,
    /// Discards it.
    Discard,
    /// Takes the first run's contributions out.
    Drop,
    /// Publishes a version.
    Put,
    /// Publishes a difference on the version it saw as the newest.
    Patch,
    /// Does the claims of committed tokens, one after the other.
    Help,
    /// Removes versions.
    Remove,
}

/// A step left out or done wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// None: the protocol as it is.
    None,
    /// A writer claims without asking its token's outcome.
    NoCommit,
    /// An unknown reply is answered with a new token, and the old one forgotten.
    NewTokenOnTimeout,
    /// A number that is taken is passed without being read.
    PassUnread,
    /// A helper begins at the first number that it sees free.
    HelpFromTheTop,
    /// The version's `from` may be one too high.
    FromTooHigh,
    /// Each finisher claims a version of its own, not the one in the record that stands.
    OwnVersion,
    /// Each finisher walks from the highest version that it sees, not from the record's `from`.
    OwnStart,
    /// A patch that lost its number takes the next one.
    NoRebase,
    /// A finish that lost its number takes the next one with the same record.
    FinishAgain,
    /// A contribution passes a discard on its walk.
    PassDiscard,
}

const PROCESSES: usize = 5;
const TRIES: usize = 3;
const LOG: usize = 6;
const VERSIONS: usize = 5;

/// A configuration.
#[derive(Clone)]
pub struct Numbers {
    pub roles: Vec<Role>,
    pub faults: u8,
    /// Whether names may be unseen for a while.
    pub stale: bool,
    pub flaw: Flaw,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Fate {
    #[default]
    None,
    Made,
    Committed,
    Fenced,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum At {
    #[default]
    Begin,
    ReadLog,
    Commit,
    ClaimLog,
    LogTaken,
    LogUnknown,
    ClaimVersion,
    VersionTaken,
    VersionUnknown,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Told {
    #[default]
    Nothing,
    /// Acknowledged at this number.
    Yes(u8),
    Refused,
    GaveUp,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Token {
    fate: Fate,
    /// Of a record of the log: from where it walks, or its one number.
    log_from: u8,
    /// Of a version: from where it walks, or its one number.
    version_from: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Process {
    at: At,
    try_: u8,
    log: u8,
    version: u8,
    /// The token whose version a finisher claims: its own, or that of the record it found.
    for_token: u8,
    tokens: [Token; TRIES],
    /// A claim on its way: 1 log, 2 versions; which number, for which token.
    late: (u8, u8, u8),
    told: Told,
}

/// Tokens by number from 1; 0 is a free number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    log: [u8; LOG],
    versions: [u8; VERSIONS],
    /// Names that everybody sees by now.
    log_seen: [bool; LOG],
    versions_seen: [bool; VERSIONS],
    removed: u8,
    faults: u8,
    wrong: Option<u8>,
    processes: [Process; PROCESSES],
}

fn token(process: usize, try_: u8) -> u8 {
    1 + (process * TRIES) as u8 + try_
}

fn owner(token: u8) -> (usize, usize) {
    ((token as usize - 1) / TRIES, (token as usize - 1) % TRIES)
}

const LAWS: [Law; 4] = [Law::FencedPublished, Law::PatchOverUnseen, Law::NotMerged, Law::AfterDiscard];

impl Numbers {
    fn role(&self, token: u8) -> Role {
        self.roles[owner(token).0]
    }

    /// What the server does with a claim: it is the first, or nothing happens. Wrong claims are noted.
    fn claim(&self, state: &mut State, in_log: bool, number: usize, claimed: u8) -> bool {
        let (process, try_) = owner(claimed);
        let Token { fate, log_from, version_from } = state.processes[process].tokens[try_];
        let (slots, seen): (&mut [u8], &mut [bool]) = if in_log { (&mut state.log, &mut state.log_seen) } else { (&mut state.versions, &mut state.versions_seen) };
        if slots[number] != 0 {
            return false;
        }
        slots[number] = claimed;
        seen[number] = !self.stale;
        let role = self.roles[process];
        let between = |from: u8, slots: &[u8], of: Role| slots[usize::from(from)..number].iter().any(|t| *t != 0 && self.role(*t) == of);
        let wrong = match (fate, in_log, role) {
            (Fate::Fenced, ..) => Some(0),
            (_, false, Role::Patch) if (usize::from(version_from)..number).any(|n| state.versions[n] != 0 && state.removed >> n & 1 == 0) => Some(1),
            (_, true, Role::Finish) if between(log_from, &state.log, Role::Upsert) => Some(2),
            (_, true, Role::Upsert) if between(log_from, &state.log, Role::Discard) => Some(3),
            _ => None,
        };
        state.wrong = state.wrong.or(wrong);
        true
    }

    /// How many versions a process may believe there are.
    fn versions_believed(&self, state: &State) -> std::ops::RangeInclusive<u8> {
        let all = state.versions.iter().take_while(|t| **t != 0).count() as u8;
        let sure = (0..VERSIONS).rev().find(|n| state.versions[*n] != 0 && state.versions_seen[*n]).map_or(0, |n| n as u8 + 1);
        sure..=all
    }

    /// A new token; what was looked at is looked at again.
    fn again(process: &mut Process) {
        if usize::from(process.try_) + 1 < TRIES {
            process.try_ += 1;
            process.at = At::Begin;
        } else {
            (process.at, process.told) = (At::Done, Told::GaveUp);
        }
    }

    /// A process reads who stands at the number of the log where it is.
    fn read_log(&self, state: &State, me: usize, out: &mut Vec<(Label, State)>) {
        let process = state.processes[me];
        let there = state.log[usize::from(process.log)];
        let (role, other) = (self.roles[me], self.role(there));
        let looking = process.at == At::ReadLog;
        let mut next = *state;
        let p = &mut next.processes[me];
        let forward = |p: &mut Process, to: At| {
            p.log += 1;
            p.at = if usize::from(p.log) < LOG { to } else { At::Done };
            if p.at == At::Done && p.told == Told::Nothing {
                p.told = Told::GaveUp;
            }
        };
        match (role, other) {
            (Role::Upsert | Role::Drop | Role::Discard, _) if owner(there).0 == me => (p.at, p.told) = (At::Done, Told::Yes(p.log)),
            (Role::Upsert | Role::Drop | Role::Discard, Role::Finish) => (p.at, p.told) = (At::Done, Told::Refused),
            (Role::Upsert, Role::Discard) if !looking && self.flaw != Flaw::PassDiscard => (p.at, p.told) = (At::Done, Told::Refused),
            (Role::Finish, Role::Finish) => {
                let (p_owner, p_try) = owner(there);
                let from = state.processes[p_owner].tokens[p_try].version_from;
                p.version = if self.flaw == Flaw::OwnStart { *self.versions_believed(state).start() } else { from };
                p.for_token = if self.flaw == Flaw::OwnVersion { token(me, p.try_) } else { there };
                p.at = At::ClaimVersion;
            }
            (Role::Finish, _) if !looking && self.flaw == Flaw::FinishAgain => forward(p, At::ClaimLog),
            (Role::Finish | Role::Discard, _) if !looking => Self::again(p),
            _ if looking => forward(p, At::ReadLog),
            _ => forward(p, At::ClaimLog),
        }
        out.push((Label("reads number", me, usize::from(process.log) + 1), next));
    }

    /// A process reads who stands at the version's number where it is.
    fn read_version(&self, state: &State, me: usize, out: &mut Vec<(Label, State)>) {
        let process = state.processes[me];
        let there = state.versions[usize::from(process.version)];
        let own = if self.roles[me] == Role::Finish { there == process.for_token } else { owner(there).0 == me };
        let mut next = *state;
        let p = &mut next.processes[me];
        if own {
            (p.at, p.told) = (At::Done, Told::Yes(p.version));
        } else if self.roles[me] == Role::Patch && self.flaw != Flaw::NoRebase {
            Self::again(p);
        } else {
            p.version += 1;
            p.at = if usize::from(p.version) < VERSIONS { At::ClaimVersion } else { At::Done };
        }
        out.push((Label("reads version", me, usize::from(process.version)), next));
    }

    /// One step of a writer.
    fn write(&self, state: &State, me: usize, out: &mut Vec<(Label, State)>) {
        let process = state.processes[me];
        let role = self.roles[me];
        let try_ = usize::from(process.try_);
        let in_log = matches!(role, Role::Upsert | Role::Finish | Role::Discard | Role::Drop);
        match process.at {
            At::Begin => {
                let mut next = *state;
                let p = &mut next.processes[me];
                p.tokens[try_].fate = Fate::Made;
                p.log = 0;
                p.at = if in_log { At::ReadLog } else { At::Commit };
                if in_log {
                    out.push((Label("begins", me, try_), next));
                    return;
                }
                for n in self.versions_believed(state).filter(|n| usize::from(*n) < VERSIONS) {
                    let mut next = next;
                    let p = &mut next.processes[me];
                    (p.version, p.tokens[try_].version_from) = (n, n);
                    out.push((Label("begins, seeing versions up to", me, usize::from(n)), next));
                }
            }
            At::ReadLog => {
                let number = usize::from(process.log);
                if state.log[number] != 0 {
                    self.read_log(state, me, out);
                }
                let looks_free = state.log[number] == 0 || !state.log_seen[number];
                if looks_free && !(role == Role::Finish && number == 0) {
                    let mut next = *state;
                    let p = &mut next.processes[me];
                    p.tokens[try_].log_from = p.log;
                    p.at = At::Commit;
                    if role != Role::Finish {
                        out.push((Label("sees the log's end at", me, number + 1), next));
                        return;
                    }
                    let believed = self.versions_believed(state);
                    let most = believed.end() + u8::from(self.flaw == Flaw::FromTooHigh);
                    for n in (*believed.start()..=most).filter(|n| usize::from(*n) < VERSIONS) {
                        let mut next = next;
                        next.processes[me].tokens[try_].version_from = n;
                        out.push((Label("merges, its version from", me, usize::from(n)), next));
                    }
                }
            }
            At::Commit => {
                let mut next = *state;
                let p = &mut next.processes[me];
                if p.tokens[try_].fate == Fate::Fenced && self.flaw != Flaw::NoCommit {
                    Self::again(p);
                } else {
                    if p.tokens[try_].fate == Fate::Made {
                        p.tokens[try_].fate = Fate::Committed;
                    }
                    p.at = if in_log { At::ClaimLog } else { At::ClaimVersion };
                }
                out.push((Label("commits", me, try_), next));
            }
            At::ClaimLog | At::ClaimVersion => self.try_claim(state, me, out),
            At::LogTaken => self.read_log(state, me, out),
            At::VersionTaken => self.read_version(state, me, out),
            At::LogUnknown | At::VersionUnknown => {
                let log = process.at == At::LogUnknown;
                let there = if log { state.log[usize::from(process.log)] } else { state.versions[usize::from(process.version)] };
                let mut next = *state;
                if self.flaw == Flaw::NewTokenOnTimeout {
                    Self::again(&mut next.processes[me]);
                } else if there == 0 {
                    next.processes[me].at = if log { At::ClaimLog } else { At::ClaimVersion };
                } else if log {
                    return self.read_log(state, me, out);
                } else {
                    return self.read_version(state, me, out);
                }
                out.push((Label("looks back", me, 0), next));
            }
            At::Done => {}
        }
    }

    fn try_claim(&self, state: &State, me: usize, out: &mut Vec<(Label, State)>) {
        let process = state.processes[me];
        let log = process.at == At::ClaimLog;
        let number = usize::from(if log { process.log } else { process.version });
        let claimed = if !log && self.roles[me] == Role::Finish { process.for_token } else { token(me, process.try_) };
        let label = Label(if log { "claims number" } else { "claims version" }, me, number + usize::from(log));
        let (taken, unknown) = if log { (At::LogTaken, At::LogUnknown) } else { (At::VersionTaken, At::VersionUnknown) };
        let mut next = *state;
        if self.claim(&mut next, log, number, claimed) {
            if state.faults < self.faults {
                let mut lost = next;
                lost.faults += 1;
                lost.processes[me].at = unknown;
                out.push((Label("loses the reply of its claim of", me, number), lost));
            }
            let p = &mut next.processes[me];
            if log && self.roles[me] == Role::Finish {
                p.for_token = claimed;
                p.version = if self.flaw == Flaw::OwnStart { *self.versions_believed(state).start() } else { p.tokens[usize::from(p.try_)].version_from };
                p.at = At::ClaimVersion;
            } else {
                (p.at, p.told) = (At::Done, Told::Yes(number as u8));
            }
        } else if self.flaw == Flaw::PassUnread {
            let p = &mut next.processes[me];
            let (at, most) = if log { (&mut p.log, LOG) } else { (&mut p.version, VERSIONS) };
            *at += 1;
            if usize::from(*at) >= most {
                p.at = At::Done;
            }
        } else {
            next.processes[me].at = taken;
        }
        out.push((label, next));
        if state.faults < self.faults && process.late.0 == 0 {
            let mut late = *state;
            late.faults += 1;
            let p = &mut late.processes[me];
            p.late = (if log { 1 } else { 2 }, number as u8, claimed);
            p.at = unknown;
            out.push((Label("times out, its claim still on its way, for", me, number), late));
        }
    }

    /// A helper does the claim of one committed token: everything that it passes it has read.
    fn help(&self, state: &State, out: &mut Vec<(Label, State)>) {
        for helped in 1..=(self.roles.len() * TRIES) as u8 {
            let (process, try_) = owner(helped);
            let Token { fate, log_from, version_from } = state.processes[process].tokens[try_];
            let role = self.roles[process];
            if fate != Fate::Committed {
                continue;
            }
            if matches!(role, Role::Upsert | Role::Finish | Role::Discard | Role::Drop) {
                let mut number = if self.flaw == Flaw::HelpFromTheTop { state.log.iter().take_while(|t| **t != 0).count() } else { usize::from(log_from) };
                while number < LOG {
                    let there = state.log[number];
                    if there == 0 {
                        let mut next = *state;
                        self.claim(&mut next, true, number, helped);
                        out.push((Label("is helped to number", process, number + 1), next));
                        break;
                    }
                    let ends = matches!(self.role(there), Role::Finish) || matches!(role, Role::Finish | Role::Discard);
                    let refused = self.role(there) == Role::Discard && role == Role::Upsert && self.flaw != Flaw::PassDiscard;
                    if there == helped || ends || refused {
                        break;
                    }
                    number += 1;
                }
            }
            if matches!(role, Role::Put | Role::Patch) || (role == Role::Finish && state.log.contains(&helped)) {
                let mut number = if self.flaw == Flaw::HelpFromTheTop { usize::from(*self.versions_believed(state).end()) } else { usize::from(version_from) };
                while number < VERSIONS {
                    let there = state.versions[number];
                    if there == 0 {
                        let mut next = *state;
                        self.claim(&mut next, false, number, helped);
                        out.push((Label("is helped to version", process, number), next));
                        break;
                    }
                    if there == helped || role == Role::Patch {
                        break;
                    }
                    number += 1;
                }
            }
        }
    }
}

impl Model for Numbers {
    type State = State;

    fn start(&self) -> State {
        State {
            log: [0; LOG],
            versions: [0; VERSIONS],
            log_seen: [true; LOG],
            versions_seen: [true; VERSIONS],
            removed: 0,
            faults: 0,
            wrong: None,
            processes: [Process::default(); PROCESSES],
        }
    }

    fn steps(&self, state: &State, out: &mut Vec<(Label, State)>) {
        if state.log_seen.contains(&false) || state.versions_seen.contains(&false) {
            let mut next = *state;
            (next.log_seen, next.versions_seen) = ([true; LOG], [true; VERSIONS]);
            out.push((Label("time passes", 0, 0), next));
        }
        for (me, role) in self.roles.iter().enumerate() {
            let process = state.processes[me];
            match role {
                Role::Help => self.help(state, out),
                Role::Remove => {
                    for n in (0..VERSIONS).filter(|n| state.versions[*n] != 0 && state.removed >> n & 1 == 0) {
                        let mut next = *state;
                        next.removed |= 1 << n;
                        out.push((Label("removes version", me, n), next));
                    }
                }
                _ => self.write(state, me, out),
            }
            if process.late.0 != 0 {
                let mut next = *state;
                let (area, number, claimed) = process.late;
                next.processes[me].late = (0, 0, 0);
                self.claim(&mut next, area == 1, usize::from(number), claimed);
                out.push((Label("has its late claim land on", me, usize::from(number)), next));
            }
            // A collector believes it dead. Where nobody asks the outcome, it believes so of a committed one too.
            let fate = process.tokens[usize::from(process.try_)].fate;
            let can = fate == Fate::Made || (self.flaw == Flaw::NoCommit && fate == Fate::Committed && process.at != At::Done);
            if state.faults < self.faults && can {
                let mut next = *state;
                next.faults += 1;
                next.processes[me].tokens[usize::from(process.try_)].fate = Fate::Fenced;
                out.push((Label("is fenced", me, 0), next));
            }
        }
    }

    fn broken(&self, state: &State) -> Option<Law> {
        if let Some(wrong) = state.wrong {
            return Some(LAWS[usize::from(wrong)]);
        }
        let gap = |slots: &[u8]| slots.windows(2).any(|w| w[0] == 0 && w[1] != 0);
        if gap(&state.log) || gap(&state.versions) {
            return Some(Law::Gap);
        }
        let twice = |slots: &[u8]| slots.iter().enumerate().any(|(i, t)| *t != 0 && slots[i + 1..].contains(t));
        if twice(&state.log) || twice(&state.versions) {
            return Some(Law::TwoNumbers);
        }
        let finish = state.log.iter().position(|t| *t != 0 && self.role(*t) == Role::Finish);
        if finish.is_some_and(|n| state.log[n + 1..].iter().any(|t| *t != 0)) {
            return Some(Law::AfterFinish);
        }
        if state.versions.iter().filter(|t| **t != 0 && self.role(**t) == Role::Finish).count() > 1 {
            return Some(Law::TwoVersions);
        }
        for (me, role) in self.roles.iter().enumerate() {
            let told = state.processes[me].told;
            let count = |slots: &[u8]| slots.iter().filter(|t| **t != 0 && owner(**t).0 == me).count();
            let (logged, published) = (count(&state.log), count(&state.versions));
            let yes = matches!(told, Told::Yes(_));
            match role {
                Role::Upsert if logged > 1 => return Some(Law::TwoNumbers),
                Role::Upsert if (yes && logged == 0) || (told == Told::Refused && logged > 0) => return Some(Law::ContributionLost),
                Role::Put | Role::Patch if published > 1 => return Some(Law::TwoNumbers),
                Role::Put | Role::Patch if yes && published == 0 => return Some(Law::VersionLost),
                Role::Finish => {
                    if let Told::Yes(n) = told {
                        let there = state.versions[usize::from(n)];
                        if there == 0 || self.role(there) != Role::Finish {
                            return Some(Law::TwoVersions);
                        }
                    }
                }
                _ => {}
            }
        }
        None
    }
}
