//! A writer's steps, as far as freeing is concerned: what it relies on, and when others can see that it does.

use super::{Fate, Flaw, Freeing, HALVES, Role, State, Step, Writer};
use crate::search::Label;

impl Freeing {
    /// One step of a writer, or done to what it published.
    pub(super) fn write(&self, s: &State, i: usize, out: &mut Vec<(Label, State)>) {
        let (w, role) = (s.writers[i], self.writers[i]);
        let base = s.writers[0];
        let mut go = |what: &'static str, change: &dyn Fn(&mut State)| {
            let mut next = *s;
            change(&mut next);
            out.push((Label(what, i, 0), next));
        };
        let make = |next: &mut State, then: Step| {
            let now = self.now();
            let w = &mut next.writers[i];
            (w.fate, w.token_age, w.step) = (Fate::Made, now, then);
        };
        // A removal that is young may be unseen.
        let seems_removed =
            || if base.removed && base.removed_age < HALVES { vec![false, true] } else { vec![base.removed] };
        let of_draft = matches!(role, Role::Finish | Role::Discard);
        let relies = matches!(role, Role::Patch | Role::Pin);
        let relied = if role == Role::Pin { Step::Held } else { Step::Record };
        match w.step {
            Step::Begin if relies && !base.published => {}
            Step::Begin
                if of_draft
                    && (self.discarded(s)
                        || !(0..self.writers.len())
                            .any(|j| self.writers[j] == Role::Upsert && s.writers[j].published)) => {}
            Step::Begin if relies && self.flaw == Flaw::LookBeforeRelying => {
                for removed in seems_removed() {
                    go("looks whether its version is removed", &|n| {
                        n.writers[i].step = if removed { Step::Done } else { Step::LookRemoved }
                    });
                }
            }
            Step::LookRemoved if self.flaw == Flaw::LookBeforeRelying => {
                go("makes its token or pin", &|n| make(n, relied))
            }
            Step::Begin if relies => go("makes its token or pin", &|n| make(n, Step::LookRemoved)),
            Step::LookRemoved => {
                for removed in seems_removed() {
                    go("looks whether its version is removed", &|n| {
                        let w = &mut n.writers[i];
                        if removed { (w.step, w.fate) = (Step::Done, Fate::Ended) } else { w.step = relied }
                    });
                }
            }
            Step::Begin if of_draft => go("makes its token", &|n| make(n, Step::Record)),
            Step::Begin if self.flaw == Flaw::LookBeforeToken => {
                go("begins without a token", &|n| n.writers[i].step = Step::Look)
            }
            Step::Begin => go("makes its token", &|n| make(n, Step::Look)),
            Step::Look => {
                if s.in_place || s.moved_age < HALVES {
                    go("finds the blob", &|n| n.writers[i].step = Step::Record);
                }
                if !s.in_place || self.stale {
                    go("does not find the blob", &|n| n.writers[i].step = Step::Write);
                }
            }
            Step::Write => go("stores the blob", &|n| {
                n.in_place = true;
                n.writers[i].step = Step::Record;
            }),
            Step::Record if w.fate == Fate::None => go("makes its token, late", &|n| make(n, Step::Commit)),
            Step::Record => go("writes its record", &|n| n.writers[i].step = Step::Commit),
            Step::Commit if w.fate == Fate::Fenced && self.flaw != Flaw::NoCommit => {
                if !w.again {
                    go("finds itself fenced", &|n| {
                        if self.flaw == Flaw::KeepLooks {
                            make(n, Step::Commit);
                        } else {
                            (n.writers[i].step, n.writers[i].fate) = (Step::Begin, Fate::None);
                        }
                        n.writers[i].again = true;
                    });
                }
            }
            Step::Commit => go("commits", &|n| {
                n.writers[i].fate = Fate::Committed;
                n.writers[i].step = Step::Claim;
            }),
            // A finish and a discard have one number: the log continues without the second.
            Step::Claim if of_draft && (self.discarded(s) || self.finished(s).is_some()) => {
                go("finds its number taken", &|n| {
                    (n.writers[i].step, n.writers[i].fate) = (Step::Done, Fate::Ended);
                })
            }
            Step::Claim if role == Role::Finish => go("claims its number", &|n| {
                self.publish(&mut n.writers[i]);
                n.writers[i].step = Step::ClaimVersion;
            }),
            Step::ClaimVersion => go("claims its version's number", &|n| {
                n.writers[i].claimed = true;
                n.writers[i].step = Step::End;
            }),
            Step::Claim => go("claims its number", &|n| {
                self.publish(&mut n.writers[i]);
                n.writers[i].step = Step::End;
            }),
            Step::End => go("ends its token", &|n| (n.writers[i].step, n.writers[i].fate) = (Step::Done, Fate::Ended)),
            Step::Held => {
                go("lets go of its pin", &|n| (n.writers[i].step, n.writers[i].fate) = (Step::Done, Fate::Ended))
            }
            Step::Done => {}
        }
        let taken = of_draft && (self.discarded(s) || self.finished(s).is_some());
        if w.fate == Fate::Committed && !w.published && !taken {
            go("is helped", &|n| self.publish(&mut n.writers[i]));
        }
        if role == Role::Finish && w.published && !w.claimed {
            go("is helped to its version", &|n| n.writers[i].claimed = true);
        }
        let version =
            if role == Role::Finish { w.claimed } else { matches!(role, Role::Put | Role::Patch) && w.published };
        if version && !w.removed {
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
}
