//! Freeing while writers work (L14): one blob, garbage at first, that writers find and come to rely on while collectors
//! move it away and decide.
//!
//! Writers take the steps of FORMAT.md, "The claim". Collectors take those of "Freeing" (`gc::collect`): read the
//! removals; mark; move what is unmarked into a batch of the trash, take over older batches; wait two cache bounds;
//! list the tokens and wait for each or fence it; wait one bound; mark again, committed records included; then put back
//! what is marked of the own batch, and free the rest. Time passes in halves of a cache bound: what is younger than two
//! of them may be unseen.

mod collect;
mod write;

use crate::search::{Label, Law, Model};
use collect::Op;

/// What a writer does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Publishes a version with the blob.
    Put,
    /// Contributes it to a draft.
    Upsert,
    /// Discards that draft.
    Discard,
    /// Finishes it.
    Finish,
    /// Patches the first writer's version.
    Patch,
    /// Pins the first writer's version.
    Pin,
}

/// A step left out or done wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// None: the protocol as it is.
    None,
    /// A writer looks for blobs before it has a token.
    LookBeforeToken,
    /// A fenced writer begins again without looking again.
    KeepLooks,
    /// A writer publishes without asking its token's outcome.
    NoCommit,
    /// A patch or a pin looks whether its version is removed before others can see that it relies on it.
    LookBeforeRelying,
    /// A committed record that is not published yet is not a root.
    CommittedIsNoRoot,
    /// There is no second mark.
    OneMark,
    /// Nothing is waited for after the move.
    NoWait,
    /// One cache bound is waited for after the move, not two.
    ShortWait,
    /// Nothing is waited for between the list of tokens and the mark.
    NoWaitAfterList,
    /// Tokens at work are neither waited for nor fenced.
    NoFences,
    /// What the second mark finds needed is not put back.
    NoPutBack,
    /// Every batch of the trash is freed, not only the own one.
    FreeEverything,
    /// Each mark reads the removals as they are at that moment.
    NoSnapshot,
}

const HALVES: u8 = 2;

/// A configuration.
#[derive(Clone)]
pub struct Freeing {
    pub writers: Vec<Role>,
    pub collectors: usize,
    /// How often each collector runs.
    pub runs: u8,
    /// Whether names may be unseen for a while.
    pub stale: bool,
    pub flaw: Flaw,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Step {
    #[default]
    Begin,
    /// A patch or a pin looks whether its version is removed.
    LookRemoved,
    Look,
    Write,
    Record,
    Commit,
    /// Its number in a row of versions or in the draft's log.
    Claim,
    /// After a finish is claimed: its version's number.
    ClaimVersion,
    End,
    Held,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Fate {
    #[default]
    None,
    Made,
    Committed,
    Fenced,
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Writer {
    step: Step,
    fate: Fate,
    /// Ages, in halves of a bound: of the token, of what it published, of its removal.
    token_age: u8,
    published: bool,
    published_age: u8,
    /// Of a finish: its version is claimed too.
    claimed: bool,
    removed: bool,
    removed_age: u8,
    again: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Collector {
    step: u8,
    marked: bool,
    waited: u8,
    /// Tokens listed, removals in the snapshot, committed records: a bit for each writer.
    listed: u8,
    removed: u8,
    committed: u8,
    run: u8,
}

/// Everything.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    in_place: bool,
    moved_age: u8,
    trash: [bool; 2],
    writers: [Writer; 3],
    collectors: [Collector; 2],
}

impl Freeing {
    /// How old what happens now looks.
    fn now(&self) -> u8 {
        if self.stale { 0 } else { HALVES }
    }

    /// Whether the draft was discarded.
    fn discarded(&self, s: &State) -> bool {
        (0..self.writers.len()).any(|i| self.writers[i] == Role::Discard && s.writers[i].published)
    }

    /// The finish in the log.
    fn finished(&self, s: &State) -> Option<(usize, Writer)> {
        (0..self.writers.len())
            .find(|i| self.writers[*i] == Role::Finish && s.writers[*i].published)
            .map(|i| (i, s.writers[i]))
    }
}

impl Model for Freeing {
    type State = State;

    fn start(&self) -> State {
        let writer = Writer { token_age: HALVES, published_age: HALVES, removed_age: HALVES, ..Writer::default() };
        State {
            in_place: true,
            moved_age: HALVES,
            trash: [false; 2],
            writers: [writer; 3],
            collectors: [Collector::default(); 2],
        }
    }

    fn steps(&self, s: &State, out: &mut Vec<(Label, State)>) {
        let program = self.program();
        if self.stale {
            let mut next = *s;
            let older = |age: &mut u8| *age = (*age + 1).min(HALVES);
            older(&mut next.moved_age);
            for w in &mut next.writers {
                older(&mut w.token_age);
                older(&mut w.published_age);
                older(&mut w.removed_age);
            }
            for c in &mut next.collectors {
                match program[usize::from(c.step)] {
                    Op::WaitAfterMove => c.waited = (c.waited + 1).min(2 * HALVES),
                    Op::WaitAfterList => c.waited = (c.waited + 1).min(HALVES),
                    _ => {}
                }
            }
            if next != *s {
                out.push((Label("half a cache bound passes", 0, 0), next));
            }
        }
        for i in 0..self.writers.len() {
            self.write(s, i, out);
        }
        for g in 0..self.collectors {
            self.collect(s, g, &program, out);
        }
    }

    fn broken(&self, s: &State) -> Option<Law> {
        if s.in_place || s.trash != [false; 2] {
            return None;
        }
        let needs = |(i, role): (usize, &Role)| {
            let w = &s.writers[i];
            match role {
                Role::Pin => w.step == Step::Held,
                Role::Upsert => {
                    (w.published || w.fate == Fate::Committed) && self.finished(s).is_none() && !self.discarded(s)
                }
                Role::Discard => false,
                Role::Finish => w.published && !w.removed,
                _ => (w.published || w.fate == Fate::Committed) && !w.removed,
            }
        };
        self.writers.iter().enumerate().any(needs).then_some(Law::Freed)
    }
}
