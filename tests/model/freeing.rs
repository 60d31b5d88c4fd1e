//! Freeing beside writers (L14): one blob, garbage at first, that writers find and come to rely on while collectors move it away and decide.
//!
//! No collector is written yet. What is checked here is that what writers do today (FORMAT.md, "The claim") is enough for one that goes so: snapshot of
//! removals; mark; move what is unmarked into its batch of the trash, adopt older batches; wait two cache bounds; list the tokens and wait for each or
//! fence it; wait one bound; mark again, committed records included; then of its own batch put back what is marked and free the rest.
//! Time passes in halves of a cache bound: what is younger than two of them may be unseen.

use crate::search::{Label, Law, Model};

/// What a writer does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Publishes a version with the blob.
    Put,
    /// Contributes it to a draft.
    Upsert,
    /// Finishes that draft.
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
    /// A committed record that is not published yet is no root.
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
    /// Every batch of the trash is freed, not only the own one.
    FreeEverything,
    /// Each mark reads the removals as they stand.
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
enum At {
    #[default]
    Begin,
    /// A patch or a pin looks whether its version is removed.
    LookRemoved,
    Look,
    Write,
    Record,
    Commit,
    Claim,
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
    at: At,
    fate: Fate,
    /// Ages, in halves of a bound: of the token, of what it published, of its removal.
    token_age: u8,
    published: bool,
    published_age: u8,
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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    Snapshot,
    Clear,
    MarkLogsAndPins,
    MarkVersions,
    Move,
    WaitAfterMove,
    List(usize),
    Fence(usize),
    WaitAfterList,
    Decide,
    End,
}

impl Freeing {
    /// What a collector does, in order.
    fn program(&self) -> Vec<Op> {
        let writers = 0..self.writers.len();
        let mark = [Op::Clear, Op::MarkLogsAndPins, Op::MarkVersions];
        let mut all = vec![Op::Snapshot];
        all.extend(mark);
        all.extend([Op::Move, Op::WaitAfterMove]);
        if self.flaw != Flaw::NoFences {
            all.extend(writers.clone().map(Op::List));
            all.extend(writers.map(Op::Fence));
        }
        all.push(Op::WaitAfterList);
        if self.flaw != Flaw::OneMark {
            all.extend(mark);
        }
        all.extend([Op::Decide, Op::End]);
        all
    }

    /// How old what happens now looks.
    fn now(&self) -> u8 {
        if self.stale { 0 } else { HALVES }
    }

    fn finished(&self, s: &State) -> Option<(usize, Writer)> {
        (0..self.writers.len()).find(|i| self.writers[*i] == Role::Finish && s.writers[*i].published).map(|i| (i, s.writers[i]))
    }

    fn write(&self, s: &State, i: usize, out: &mut Vec<(Label, State)>) {
        let (w, role) = (s.writers[i], self.writers[i]);
        let base = s.writers[0];
        let mut go = |what: &'static str, change: &dyn Fn(&mut State)| {
            let mut next = *s;
            change(&mut next);
            out.push((Label(what, i, 0), next));
        };
        let make = |next: &mut State, then: At| {
            let now = self.now();
            let w = &mut next.writers[i];
            (w.fate, w.token_age, w.at) = (Fate::Made, now, then);
        };
        // A removal that is young may be unseen.
        let seems_removed = || if base.removed && base.removed_age < HALVES { vec![false, true] } else { vec![base.removed] };
        let relies = matches!(role, Role::Patch | Role::Pin);
        let relied = if role == Role::Pin { At::Held } else { At::Record };
        match w.at {
            At::Begin if relies && !base.published => {}
            At::Begin if role == Role::Finish && !(0..self.writers.len()).any(|j| self.writers[j] == Role::Upsert && s.writers[j].published) => {}
            At::Begin if relies && self.flaw == Flaw::LookBeforeRelying => {
                for removed in seems_removed() {
                    go("looks whether its version is removed", &|n| n.writers[i].at = if removed { At::Done } else { At::LookRemoved });
                }
            }
            At::LookRemoved if self.flaw == Flaw::LookBeforeRelying => go("makes its token or pin", &|n| make(n, relied)),
            At::Begin if relies => go("makes its token or pin", &|n| make(n, At::LookRemoved)),
            At::LookRemoved => {
                for removed in seems_removed() {
                    go("looks whether its version is removed", &|n| {
                        let w = &mut n.writers[i];
                        if removed { (w.at, w.fate) = (At::Done, Fate::Ended) } else { w.at = relied }
                    });
                }
            }
            At::Begin if role == Role::Finish => go("makes its token", &|n| make(n, At::Record)),
            At::Begin if self.flaw == Flaw::LookBeforeToken => go("begins without a token", &|n| n.writers[i].at = At::Look),
            At::Begin => go("makes its token", &|n| make(n, At::Look)),
            At::Look => {
                if s.in_place || s.moved_age < HALVES {
                    go("finds the blob", &|n| n.writers[i].at = At::Record);
                }
                if !s.in_place || self.stale {
                    go("does not find the blob", &|n| n.writers[i].at = At::Write);
                }
            }
            At::Write => go("stores the blob", &|n| {
                n.in_place = true;
                n.writers[i].at = At::Record;
            }),
            At::Record if w.fate == Fate::None => go("makes its token, late", &|n| make(n, At::Commit)),
            At::Record => go("writes its record", &|n| n.writers[i].at = At::Commit),
            At::Commit if w.fate == Fate::Fenced && self.flaw != Flaw::NoCommit => {
                if !w.again {
                    go("finds itself fenced", &|n| {
                        if self.flaw == Flaw::KeepLooks {
                            make(n, At::Commit);
                        } else {
                            (n.writers[i].at, n.writers[i].fate) = (At::Begin, Fate::None);
                        }
                        n.writers[i].again = true;
                    });
                }
            }
            At::Commit => go("commits", &|n| {
                n.writers[i].fate = Fate::Committed;
                n.writers[i].at = At::Claim;
            }),
            At::Claim => go("claims its number", &|n| {
                self.publish(&mut n.writers[i]);
                n.writers[i].at = At::End;
            }),
            At::End => go("ends its token", &|n| (n.writers[i].at, n.writers[i].fate) = (At::Done, Fate::Ended)),
            At::Held => go("lets go of its pin", &|n| (n.writers[i].at, n.writers[i].fate) = (At::Done, Fate::Ended)),
            At::Done => {}
        }
        if w.fate == Fate::Committed && !w.published {
            go("is helped", &|n| self.publish(&mut n.writers[i]));
        }
        if w.published && !w.removed && !matches!(role, Role::Upsert | Role::Pin) {
            go("has its version removed", &|n| {
                let now = self.now();
                (n.writers[i].removed, n.writers[i].removed_age) = (true, now);
            });
        }
    }

    fn publish(&self, w: &mut Writer) {
        if !w.published {
            (w.published, w.published_age) = (true, self.now());
        }
    }

    /// What one mark may see: whether the blob may be missed, and whether it may be found needed.
    fn seen(&self, s: &State, c: &Collector, logs: bool) -> (bool, bool) {
        let (mut missed, mut needed) = (true, c.committed != 0 && logs);
        if needed {
            missed = false;
        }
        let mut root = |old: bool| {
            needed = true;
            if old {
                missed = false;
            }
        };
        let in_snapshot = |i: usize, w: &Writer| if self.flaw == Flaw::NoSnapshot { w.removed } else { c.removed >> i & 1 == 1 };
        for (i, role) in self.writers.iter().enumerate() {
            let w = &s.writers[i];
            match (role, logs) {
                (Role::Upsert, true) if w.published => match self.finished(s) {
                    None => root(w.published_age == HALVES),
                    // Seen, its version counts, claimed or not (it is helped first); unseen, the contribution does.
                    Some((f, finish)) if !in_snapshot(f, &finish) => root(true),
                    Some((_, finish)) if finish.published_age < HALVES => root(false),
                    Some(_) => {}
                },
                // A token at work names the version that it relies on; so does a pin.
                (Role::Patch | Role::Pin, true) if w.fate == Fate::Made => root(w.token_age == HALVES),
                (Role::Put | Role::Patch | Role::Finish, false) if w.published && !in_snapshot(i, w) => root(w.published_age == HALVES),
                _ => {}
            }
        }
        (missed, needed)
    }

    fn collect(&self, s: &State, g: usize, program: &[Op], out: &mut Vec<(Label, State)>) {
        let c = s.collectors[g];
        let op = program[usize::from(c.step)];
        let mut go = |what: &'static str, n: usize, change: &dyn Fn(&mut State)| {
            let mut next = *s;
            next.collectors[g].step += 1;
            change(&mut next);
            out.push((Label(what, g, n), next));
        };
        match op {
            Op::Snapshot => {
                // Each young removal may be unseen: seen or not, each in turn.
                let mut sets = vec![0u8];
                for (i, w) in s.writers.iter().enumerate().filter(|(_, w)| w.removed) {
                    let with: Vec<u8> = sets.iter().map(|set| set | 1 << i).collect();
                    sets = if w.removed_age < HALVES { [sets, with].concat() } else { with };
                }
                for set in sets {
                    go("collector reads the removals", set.into(), &|n| n.collectors[g].removed = set);
                }
            }
            Op::Clear => go("collector begins a mark", 0, &|n| n.collectors[g].marked = false),
            Op::MarkLogsAndPins | Op::MarkVersions => {
                let (missed, needed) = self.seen(s, &c, op == Op::MarkLogsAndPins);
                if missed {
                    go("collector marks, and sees no need", 0, &|_| {});
                }
                if needed {
                    go("collector marks, and sees that it is needed", 0, &|n| n.collectors[g].marked = true);
                }
            }
            Op::Move => go("collector moves what is unmarked", 0, &|n| {
                if !c.marked && n.in_place {
                    n.in_place = false;
                    n.moved_age = self.now();
                    n.trash[g] = true;
                }
                if self.flaw != Flaw::FreeEverything && n.trash[1 - g] {
                    n.trash[1 - g] = false;
                    n.trash[g] = true;
                }
            }),
            Op::WaitAfterMove => {
                let bound = match self.flaw {
                    Flaw::NoWait => 0,
                    Flaw::ShortWait => HALVES,
                    _ => 2 * HALVES,
                };
                if !self.stale || c.waited >= bound {
                    go("collector has waited after the move", 0, &|n| n.collectors[g].waited = 0);
                }
            }
            Op::WaitAfterList => {
                if !self.stale || c.waited >= HALVES || matches!(self.flaw, Flaw::NoWaitAfterList | Flaw::NoWait) {
                    go("collector has waited after the list", 0, &|n| n.collectors[g].waited = 0);
                }
            }
            Op::List(i) => {
                let w = s.writers[i];
                let at_work = matches!(w.fate, Fate::Made | Fate::Committed) && self.writers[i] != Role::Pin;
                if at_work {
                    go("collector lists the token of", i, &|n| n.collectors[g].listed |= 1 << (2 * i + usize::from(w.again)));
                }
                if !at_work || w.token_age < HALVES {
                    go("collector lists no token of", i, &|_| {});
                }
            }
            Op::Fence(i) => {
                let w = s.writers[i];
                let listed = c.listed >> (2 * i + usize::from(w.again)) & 1 == 1;
                match w.fate {
                    Fate::Made if listed => go("collector fences", i, &|n| n.writers[i].fate = Fate::Fenced),
                    Fate::Committed if listed => go("collector finds committed", i, &|n| {
                        if self.flaw != Flaw::CommittedIsNoRoot {
                            n.collectors[g].committed |= 1 << i;
                        }
                    }),
                    _ => go("collector finds ended", i, &|_| {}),
                }
            }
            Op::Decide => go("collector frees or puts back", c.marked.into(), &|n| {
                for batch in 0..2 {
                    if n.trash[batch] && (batch == g || self.flaw == Flaw::FreeEverything) {
                        n.trash[batch] = false;
                        n.in_place |= c.marked;
                    }
                }
            }),
            Op::End => {
                if c.run + 1 < self.runs {
                    go("collector runs again", 0, &|n| n.collectors[g] = Collector { run: c.run + 1, ..Collector::default() });
                }
            }
        }
    }
}

impl Model for Freeing {
    type State = State;

    fn start(&self) -> State {
        let writer = Writer { token_age: HALVES, published_age: HALVES, removed_age: HALVES, ..Writer::default() };
        State { in_place: true, moved_age: HALVES, trash: [false; 2], writers: [writer; 3], collectors: [Collector::default(); 2] }
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
                Role::Pin => w.at == At::Held,
                Role::Upsert => (w.published || w.fate == Fate::Committed) && self.finished(s).is_none(),
                _ => (w.published || w.fate == Fate::Committed) && !w.removed,
            }
        };
        self.writers.iter().enumerate().any(needs).then_some(Law::Freed)
    }
}
