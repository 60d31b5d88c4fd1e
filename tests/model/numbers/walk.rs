//! The walk up the numbers: the claim, who is met, and by which rule a number is passed. Writers and helpers go the
//! same way.

use super::{
    Answer, Fate, Flaw, LOG, Late, Numbers, Outcome, Process, Role, State, Step, VERSIONS, Wrong, owner, token,
};
use crate::search::Label;

/// What the record at a number means for the token that comes to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    Own,
    /// Another's, and its number may be higher.
    Pass,
    /// Its one number is another's.
    Taken,
    /// The finish: no higher number is claimed.
    Finished,
    /// A discard that it did not know of.
    Discarded,
    /// A version of the same content.
    Same,
}

impl Numbers {
    /// What the server does with a claim: it is the first, or nothing happens. Wrong claims are noted.
    pub(super) fn claim(&self, state: &mut State, in_log: bool, number: u8, claimed: u8) -> bool {
        let n = usize::from(number);
        let (slots, seen): (&mut [u8], &mut u8) = if in_log {
            (&mut state.log, &mut state.log_seen)
        } else {
            (&mut state.versions, &mut state.versions_seen)
        };
        if slots[n] != 0 {
            return false;
        }
        slots[n] = claimed;
        if self.stale {
            *seen &= !(1 << n);
        }
        let of = *state.token(claimed);
        let role = self.role(claimed);
        let between =
            |of: Role, from: u8| state.log[..n].iter().skip(from.into()).any(|t| *t != 0 && self.role(*t) == of);
        let unseen = |from: u8| (usize::from(from)..n).any(|n| state.versions[n] != 0 && state.removed >> n & 1 == 0);
        let wrong = match (in_log, role) {
            _ if of.fate == Fate::Fenced => Some(Wrong::Fenced),
            (false, Role::Patch) if unseen(of.version_from) => Some(Wrong::Unseen),
            (true, Role::Finish | Role::FinishEqual) if between(Role::Upsert, of.log_from) => Some(Wrong::NotMerged),
            (true, Role::Upsert | Role::Drop) if between(Role::Discard, of.log_from) => Some(Wrong::AfterDiscard),
            _ => None,
        };
        state.wrong = state.wrong.or(wrong);
        true
    }

    /// The rule: a function of the two records alone. `helper` is for flaws.
    fn meets(&self, state: &State, in_log: bool, number: u8, coming: u8, helper: bool) -> Met {
        let there = if in_log { state.log[usize::from(number)] } else { state.versions[usize::from(number)] };
        let role = self.role(coming);
        if there == coming {
            return Met::Own;
        }
        if !in_log {
            return match role {
                Role::Patch if self.flaw != Flaw::NoRebase => Met::Taken,
                Role::Put | Role::Twin if self.content(there) == self.content(coming) => {
                    let compares = self.flaw != Flaw::NoCompare && !(helper && self.flaw == Flaw::HelpNoCompare);
                    if compares { Met::Same } else { Met::Pass }
                }
                _ => Met::Pass,
            };
        }
        match role {
            _ if Self::finishes(self.role(there)) => Met::Finished,
            Role::Finish | Role::FinishEqual if matches!(self.flaw, Flaw::FinishAgain | Flaw::ShortRead) => Met::Pass,
            Role::Finish | Role::FinishEqual | Role::Discard => Met::Taken,
            _ if self.role(there) == Role::Discard && self.flaw != Flaw::PassDiscard => Met::Discarded,
            _ => Met::Pass,
        }
    }

    /// ClaimLog or ClaimVersion; its reply may be lost, or it may land later.
    pub(super) fn try_claim(&self, state: &State, me: usize, out: &mut Vec<(Label, State)>) {
        let process = state.processes[me];
        let in_log = process.step == Step::ClaimLog;
        let number = if in_log { process.log } else { process.version };
        let (taken, unknown) =
            if in_log { (Step::LogTaken, Step::LogUnknown) } else { (Step::VersionTaken, Step::VersionUnknown) };
        let helper = self.roles[me] == Role::Help;
        let label = Label(if in_log { "claims number" } else { "claims version" }, me, number.into());
        let mut next = *state;
        if self.claim(&mut next, in_log, number, process.token) {
            if state.faults < self.faults {
                let mut lost = next;
                lost.faults += 1;
                lost.processes[me].step = unknown;
                out.push((Label("loses the reply of its claim of", me, number.into()), lost));
            }
            self.placed(&mut next, me, in_log, Met::Own);
        } else if self.flaw == Flaw::PassUnread && !helper || self.flaw == Flaw::HelpUnread && helper {
            next.processes[me].forward(in_log);
        } else {
            next.processes[me].step = taken;
        }
        out.push((label, next));
        if state.faults < self.faults && process.late == Late::Nothing {
            let mut late = *state;
            late.faults += 1;
            let p = &mut late.processes[me];
            p.late = if in_log { Late::Log(number, process.token) } else { Late::Version(number, process.token) };
            p.step = unknown;
            out.push((Label("times out, its claim still on its way, for", me, number.into()), late));
        }
    }

    /// LogTaken, VersionTaken, and what is read back in LogUnknown, VersionUnknown.
    pub(super) fn read_back(&self, state: &State, me: usize, out: &mut Vec<(Label, State)>) {
        let process = state.processes[me];
        let in_log = matches!(process.step, Step::LogTaken | Step::LogUnknown);
        let unknown = matches!(process.step, Step::LogUnknown | Step::VersionUnknown);
        let number = if in_log { process.log } else { process.version };
        let free = if in_log { state.log[usize::from(number)] } else { state.versions[usize::from(number)] } == 0;
        let mut next = *state;
        if unknown && self.flaw == Flaw::NewTokenOnTimeout {
            next.processes[me].again(self.tries);
        } else if unknown && free {
            next.processes[me].step = if in_log { Step::ClaimLog } else { Step::ClaimVersion };
        } else {
            let met = self.meets(state, in_log, number, process.token, self.roles[me] == Role::Help);
            self.placed(&mut next, me, in_log, met);
        }
        out.push((Label(if in_log { "reads number" } else { "reads version" }, me, number.into()), next));
    }

    /// What a process does when it knows the token at its number.
    pub(super) fn placed(&self, next: &mut State, me: usize, in_log: bool, met: Met) {
        if met == Met::Pass {
            return next.processes[me].forward(in_log);
        }
        if self.roles[me] == Role::Help {
            return self.helped(next, me, in_log, met);
        }
        let process = &mut next.processes[me];
        let number = if in_log { process.log } else { process.version };
        if in_log && Self::finishes(self.roles[me]) && matches!(met, Met::Own | Met::Finished) {
            return self.finished(next, me, number);
        }
        if met != Met::Own {
            // It can never be published: its owner drops its record.
            process.tokens[usize::from(process.tries)].dropped = true;
        }
        match met {
            Met::Own => {
                process.answer = Answer::Yes(number);
                process.step = self.end();
            }
            Met::Same => (process.step, process.answer) = (Step::Done, Answer::Same(number)),
            Met::Finished | Met::Discarded => (process.step, process.answer) = (Step::Done, Answer::Refused),
            Met::Taken => process.again(self.tries),
            Met::Pass => {}
        }
    }

    /// A finish, of any process, has `number` of the log: its version is claimed.
    pub(super) fn finished(&self, next: &mut State, me: usize, number: u8) {
        let there = next.log[usize::from(number)];
        let own = token(me, next.processes[me].tries);
        let claimed = if self.flaw == Flaw::OwnVersion { own } else { there };
        if claimed != own {
            next.token_mut(own).dropped = true;
        }
        let from = if self.flaw == Flaw::OwnStart {
            *next.versions_believed().start()
        } else {
            next.token(there).version_from
        };
        let same_as = self.same_as(next, there);
        let end = self.end();
        let process = &mut next.processes[me];
        process.token = claimed;
        match same_as {
            Some(version) => (process.step, process.answer) = (end, Answer::Same(version)),
            None => (process.step, process.version) = (Step::ClaimVersion, from),
        }
    }

    /// The version that a finish names instead of one of its own.
    pub(super) fn same_as(&self, state: &State, finish: u8) -> Option<u8> {
        if self.flaw == Flaw::CompareAgain && self.role(finish) == Role::FinishEqual {
            let newest = state.newest(*state.versions_believed().end());
            return newest.filter(|n| self.content(state.versions[usize::from(*n)]) == 0);
        }
        state.token(finish).same_as
    }

    /// What comes after a token has its number.
    pub(super) fn end(&self) -> Step {
        if self.ends { Step::EndNote } else { Step::Done }
    }

    /// EndNote, EndOutcome, EndDirectory: a token's directory is removed, in this order; `then` comes after.
    pub(super) fn end_step(&self, state: &State, me: usize, then: Step, out: &mut Vec<(Label, State)>) {
        let process = state.processes[me];
        let mut next = *state;
        let token = next.token_mut(process.token);
        let (label, step) = match process.step {
            Step::EndNote => {
                token.noted = false;
                ("removes the record's note of", Step::EndOutcome)
            }
            Step::EndOutcome => {
                token.outcome = Outcome::None;
                ("removes the outcome of", Step::EndDirectory)
            }
            // Somebody made an outcome in between: it is removed too.
            _ if token.outcome != Outcome::None => ("cannot remove the directory of", Step::EndOutcome),
            _ => {
                token.directory = false;
                ("removes the directory of", then)
            }
        };
        next.processes[me].step = step;
        out.push((Label(label, me, owner(process.token).0), next));
    }
}

impl Process {
    /// A new token; what was looked at is looked at again.
    pub(super) fn again(&mut self, tries: u8) {
        if self.tries + 1 < tries {
            self.tries += 1;
            self.step = Step::Begin;
        } else {
            (self.step, self.answer) = (Step::Done, Answer::GaveUp);
        }
    }

    /// To the next number. The model's rows end somewhere: a process that would continue is not followed.
    pub(super) fn forward(&mut self, in_log: bool) {
        let (number, room) = if in_log { (&mut self.log, LOG) } else { (&mut self.version, VERSIONS) };
        *number += 1;
        self.step = match (usize::from(*number) < room, in_log) {
            (false, _) => Step::Done,
            (true, true) => Step::ClaimLog,
            (true, false) => Step::ClaimVersion,
        };
    }
}
