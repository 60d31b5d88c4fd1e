//! A collector's steps: snapshot, mark, move, wait, fence, mark again, put back or free.

use super::{Collector, Fate, Flaw, Freeing, HALVES, Role, State, Writer};
use crate::search::Label;

/// What a collector does in one step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Op {
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
    pub(super) fn program(&self) -> Vec<Op> {
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
        let in_snapshot =
            |i: usize, w: &Writer| if self.flaw == Flaw::NoSnapshot { w.removed } else { c.removed >> i & 1 == 1 };
        for (i, role) in self.writers.iter().enumerate() {
            let w = &s.writers[i];
            match (role, logs) {
                (Role::Upsert, true) if w.published && !self.discarded(s) => match self.finished(s) {
                    None => root(w.published_age == HALVES),
                    // Seen, its version counts, claimed or not (it is helped first); unseen, the contribution does.
                    Some((f, finish)) if !in_snapshot(f, &finish) => root(true),
                    Some((_, finish)) if finish.published_age < HALVES => root(false),
                    Some(_) => {}
                },
                // A token at work names the version that it relies on; so does a pin.
                (Role::Patch | Role::Pin, true) if w.fate == Fate::Made => root(w.token_age == HALVES),
                (Role::Put | Role::Patch | Role::Finish, false)
                    if w.published && (w.claimed || *role != Role::Finish) && !in_snapshot(i, w) =>
                {
                    root(w.published_age == HALVES)
                }
                _ => {}
            }
        }
        (missed, needed)
    }

    pub(super) fn collect(&self, s: &State, g: usize, program: &[Op], out: &mut Vec<(Label, State)>) {
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
                    go("collector marks, and sees that it is needed", 0, &|n| {
                        n.collectors[g].marked = true;
                        // A finish whose version is not claimed yet is helped first.
                        if let (Some((f, _)), Op::MarkLogsAndPins) = (self.finished(n), op) {
                            n.writers[f].claimed = true;
                        }
                    });
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
                    go("collector lists the token of", i, &|n| {
                        n.collectors[g].listed |= 1 << (2 * i + usize::from(w.again))
                    });
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
                        n.in_place |= c.marked && self.flaw != Flaw::NoPutBack;
                    }
                }
            }),
            Op::End => {
                if c.run + 1 < self.runs {
                    go("collector runs again", 0, &|n| {
                        n.collectors[g] = Collector { run: c.run + 1, ..Collector::default() }
                    });
                }
            }
        }
    }
}
