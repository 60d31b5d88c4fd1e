//! The claim (FORMAT.md, "The claim", "Drafts", "Finish"): one draft's log and one artifact's versions, taken by tokens
//! with a symlink that refuses to replace.
//!
//! A process that is not scheduled any more has died or is stopped. A name younger than the cache bound may be unseen
//! by who looks; the claim itself never is. Faults, a bounded number of them: a fence by a collector that believes a
//! token dead; a commit or a claim whose reply is lost, or that lands later.

mod help;
mod laws;
mod walk;
mod write;

use crate::search::{Label, Law, Model};
use std::ops::RangeInclusive;

/// What a process does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Contributes to the draft.
    Upsert,
    /// Finishes it.
    Finish,
    /// Finishes it, and what it merges has the content of the first process.
    FinishEqual,
    /// Discards it.
    Discard,
    /// Takes the first run's contributions out.
    Drop,
    /// Publishes a version with content of its own.
    Put,
    /// Publishes a version with the content of the first process.
    Twin,
    /// Publishes a difference on the version it saw as the newest.
    Patch,
    /// Does the claims of committed tokens, one after the other.
    Help,
    /// Takes away what fenced tokens left.
    Sweep,
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
    /// A writer whose commit is in doubt begins again without fencing the token it leaves.
    GiveUpUnfenced,
    /// A writer that made `commit` does not look whether its token is being taken away.
    CommitUnchecked,
    /// A writer that finds `fenced` does not look whether its token has ended as committed.
    BelieveFence,
    /// A collector takes away fenced tokens that have not noted their record yet.
    SweepUnnoted,
    /// An unknown reply is answered with a new token, and the old one forgotten.
    NewTokenOnTimeout,
    /// A number that is taken is passed without being read.
    PassUnread,
    /// A helper does so.
    HelpUnread,
    /// A helper begins at the first number that it sees free.
    HelpFromTheTop,
    /// A helper does not compare contents on its walk.
    HelpNoCompare,
    /// An appender claims the number after the one it sees free.
    SkipNumber,
    /// The version's `from` may be one too high.
    FromTooHigh,
    /// Each finisher claims a version of its own, not the one in the record that was claimed.
    OwnVersion,
    /// Each finisher walks from the highest version that it sees, not from the record's `from`.
    OwnStart,
    /// Each finisher compares with the newest version itself, whatever the record says.
    CompareAgain,
    /// A patch that lost its number takes the next one.
    NoRebase,
    /// A put does not compare with the versions that it passes.
    NoCompare,
    /// A finish that lost its number takes the next one with the same record.
    FinishAgain,
    /// A finish merges a part of the log, and claims the number at its end.
    ShortRead,
    /// A contribution passes a discard on its walk.
    PassDiscard,
}

const PROCESSES: usize = 5;
/// Tokens of a process, at most.
pub const TRIES: usize = 3;
const LOG: usize = 5;
const VERSIONS: usize = 5;

/// A configuration.
#[derive(Clone)]
pub struct Numbers {
    pub roles: Vec<Role>,
    pub faults: u8,
    /// How many tokens a process may use up.
    pub tries: u8,
    /// Whether names may be unseen for a while.
    pub stale: bool,
    /// Whether tokens are removed when they have ended. Else their directories stay, and other processes may help them
    /// at any later time.
    pub ends: bool,
    pub flaw: Flaw,
}

/// The next step of a process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Step {
    #[default]
    Begin,
    Note,
    Look,
    Commit,
    CommitDone,
    CommitUnknown,
    GiveUp,
    ClaimLog,
    LogTaken,
    LogUnknown,
    ClaimVersion,
    VersionTaken,
    VersionUnknown,
    EndNote,
    EndOutcome,
    EndDirectory,
    Done,
}

/// What became of a token, in truth: the first symlink that stood as its outcome.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Fate {
    #[default]
    None,
    Made,
    Committed,
    Fenced,
}

/// The outcome of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Outcome {
    #[default]
    None,
    Commit,
    Fenced,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Answer {
    #[default]
    Nothing,
    /// Published, at this number.
    Yes(u8),
    /// This version has the content.
    Same(u8),
    Refused,
    GaveUp,
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Token {
    fate: Fate,
    outcome: Outcome,
    /// Whether `work/T` is there, and `record` in it.
    directory: bool,
    noted: bool,
    /// Whether its owner or a collector removed its record.
    dropped: bool,
    /// Of a record of the log: from where it walks, or its one number.
    log_from: u8,
    /// Of a version: from where it walks, or its one number.
    version_from: u8,
    /// Of a finish: the version that has its content already.
    same_as: Option<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Late {
    #[default]
    Nothing,
    Commit(u8),
    Log(u8, u8),
    Version(u8, u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Process {
    step: Step,
    tries: u8,
    log: u8,
    version: u8,
    /// The token that is placed or ended: the own one, or one that is helped.
    token: u8,
    tokens: [Token; TRIES],
    /// A symlink on its way, and for which token.
    late: Late,
    answer: Answer,
}

/// Tokens by number from 1; 0 is a free number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    log: [u8; LOG],
    versions: [u8; VERSIONS],
    /// Names that all processes see by now, a bit each.
    log_seen: u8,
    versions_seen: u8,
    removed: u8,
    faults: u8,
    wrong: Option<Wrong>,
    processes: [Process; PROCESSES],
}

/// A claim that should not have been.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wrong {
    Fenced,
    Unseen,
    NotMerged,
    AfterDiscard,
}

const ALL_SEEN: u8 = u8::MAX;

fn token(process: usize, tries: u8) -> u8 {
    1 + (process * TRIES) as u8 + tries
}

/// Whose token it is, and the which of his.
fn owner(token: u8) -> (usize, usize) {
    ((token as usize - 1) / TRIES, (token as usize - 1) % TRIES)
}

fn all_tokens(roles: &[Role]) -> impl Iterator<Item = u8> {
    1..=(roles.len() * TRIES) as u8
}

impl State {
    fn token(&self, token: u8) -> &Token {
        let (process, tries) = owner(token);
        &self.processes[process].tokens[tries]
    }

    fn token_mut(&mut self, token: u8) -> &mut Token {
        let (process, tries) = owner(token);
        &mut self.processes[process].tokens[tries]
    }

    /// Whether a token has a number of either row.
    fn is_claimed(&self, token: u8) -> bool {
        self.log.contains(&token) || self.versions.contains(&token)
    }

    /// The newest version below `end` that is not removed.
    fn newest(&self, end: u8) -> Option<u8> {
        (0..end).rev().find(|n| self.removed >> n & 1 == 0)
    }

    fn log_believed(&self) -> RangeInclusive<u8> {
        believed(&self.log, self.log_seen)
    }

    fn versions_believed(&self) -> RangeInclusive<u8> {
        believed(&self.versions, self.versions_seen)
    }

    /// A symlink as the outcome of a token: the first one counts.
    fn decide(&mut self, token: u8, outcome: Outcome) -> bool {
        let token = self.token_mut(token);
        let first = token.directory && token.outcome == Outcome::None;
        if first {
            token.outcome = outcome;
            if token.fate == Fate::Made {
                token.fate = if outcome == Outcome::Commit { Fate::Committed } else { Fate::Fenced };
            }
        }
        first
    }
}

/// How many numbers a process may believe to be taken: all below the first that is free, or that it cannot see yet.
fn believed(slots: &[u8], seen: u8) -> RangeInclusive<u8> {
    let taken = slots.iter().take_while(|t| **t != 0).count() as u8;
    let sure = (0..taken).find(|n| seen >> n & 1 == 0).unwrap_or(taken);
    sure..=taken
}

impl Numbers {
    fn role(&self, token: u8) -> Role {
        self.roles[owner(token).0]
    }

    fn in_log(role: Role) -> bool {
        matches!(role, Role::Upsert | Role::Drop | Role::Discard) || Self::finishes(role)
    }

    fn finishes(role: Role) -> bool {
        matches!(role, Role::Finish | Role::FinishEqual)
    }

    /// What a version of a token holds: a number for each content.
    fn content(&self, token: u8) -> usize {
        if matches!(self.role(token), Role::Twin | Role::FinishEqual) { 0 } else { owner(token).0 }
    }

    /// What a server or a collector may do to a process from outside.
    fn outside(&self, state: &State, me: usize, out: &mut Vec<(Label, State)>) {
        let mut next = *state;
        match std::mem::take(&mut next.processes[me].late) {
            Late::Nothing => {}
            Late::Commit(token) => {
                next.decide(token, Outcome::Commit);
                out.push((Label("has its late commit land", me, 0), next));
            }
            Late::Log(number, token) | Late::Version(number, token) => {
                self.claim(&mut next, matches!(state.processes[me].late, Late::Log(..)), number, token);
                out.push((Label("has its late claim land on", me, number.into()), next));
            }
        }
        if state.faults == self.faults {
            return;
        }
        for tries in 0..=state.processes[me].tries {
            let mut next = *state;
            next.faults += 1;
            if next.decide(token(me, tries), Outcome::Fenced) {
                out.push((Label("is fenced", me, tries.into()), next));
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
            log_seen: ALL_SEEN,
            versions_seen: ALL_SEEN,
            removed: 0,
            faults: 0,
            wrong: None,
            processes: [Process::default(); PROCESSES],
        }
    }

    fn steps(&self, state: &State, out: &mut Vec<(Label, State)>) {
        if (state.log_seen, state.versions_seen) != (ALL_SEEN, ALL_SEEN) {
            out.push((Label("time passes", 0, 0), State { log_seen: ALL_SEEN, versions_seen: ALL_SEEN, ..*state }));
        }
        for (me, role) in self.roles.iter().enumerate() {
            match role {
                Role::Help | Role::Sweep => self.help(state, me, out),
                Role::Remove => {
                    for n in (0..VERSIONS).filter(|n| state.versions[*n] != 0 && state.removed >> n & 1 == 0) {
                        out.push((
                            Label("removes version", me, n),
                            State { removed: state.removed | 1 << n, ..*state },
                        ));
                    }
                }
                _ => self.write(state, me, out),
            }
            self.outside(state, me, out);
        }
    }

    fn broken(&self, state: &State) -> Option<Law> {
        self.law_broken(state)
    }
}
