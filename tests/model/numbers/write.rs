//! A writer's steps up to its claim: token, looks, commit.

use super::{Answer, Flaw, LOG, Late, Numbers, Outcome, Role, State, Step, VERSIONS, token};
use crate::search::Label;

impl Numbers {
    /// One step of a writer.
    pub(super) fn write(&self, state: &State, me: usize, out: &mut Vec<(Label, State)>) {
        let process = state.processes[me];
        match process.step {
            Step::Begin => {
                let mut next = *state;
                let p = &mut next.processes[me];
                let own = &mut p.tokens[usize::from(p.tries)];
                (own.directory, own.fate) = (true, super::Fate::Made);
                (p.token, p.log, p.version) = (token(me, p.tries), 0, 0);
                p.step = Step::Note;
                out.push((Label("begins", me, process.tries.into()), next));
            }
            Step::Note => {
                let mut next = *state;
                let p = &mut next.processes[me];
                let own = &mut p.tokens[usize::from(p.tries)];
                // Without a directory it fails, and the token is left.
                own.noted = own.directory;
                if own.directory {
                    p.step = Step::Look
                } else {
                    p.again(self.tries)
                }
                out.push((Label("notes where its record will be", me, 0), next));
            }
            Step::Look if Self::in_log(self.roles[me]) => self.look_at_log(state, me, out),
            Step::Look => self.look_at_versions(state, me, out),
            Step::Commit => self.commit(state, me, out),
            Step::CommitDone | Step::CommitUnknown => self.read_outcome(state, me, out),
            Step::GiveUp => self.discard(state, me, out),
            Step::ClaimLog | Step::ClaimVersion => self.try_claim(state, me, out),
            Step::LogTaken | Step::LogUnknown | Step::VersionTaken | Step::VersionUnknown => {
                self.read_back(state, me, out)
            }
            Step::EndNote | Step::EndOutcome | Step::EndDirectory => self.end_step(state, me, Step::Done, out),
            Step::Done => {}
        }
    }

    /// An appender reads the log's end, a finisher all of it; records never change, so it is as if at once.
    fn look_at_log(&self, state: &State, me: usize, out: &mut Vec<(Label, State)>) {
        let finishes = Self::finishes(self.roles[me]);
        for end in state.log_believed() {
            let last = end.checked_sub(1).map_or(0, |n| state.log[usize::from(n)]);
            let mut next = *state;
            let label = Label("looks, and sees the log's end at", me, end.into());
            if last != 0 && Self::finishes(self.role(last)) {
                if finishes {
                    self.finished(&mut next, me, end - 1);
                } else {
                    (next.processes[me].step, next.processes[me].answer) = (Step::Done, Answer::Refused);
                }
                out.push((label, next));
                continue;
            }
            let skip = u8::from(self.flaw == Flaw::SkipNumber && end > 0);
            if usize::from(end + skip) >= LOG || (finishes && end == 0) {
                continue; // no room in the model; nothing to finish
            }
            next.processes[me].log = end + skip;
            if !finishes {
                self.write_record(&mut next, me, end + skip, None);
                out.push((label, next));
                continue;
            }
            let merged = if self.flaw == Flaw::ShortRead { 1..=end } else { end..=end };
            for read in merged {
                self.look_before_finish(&next, me, read, label, out);
            }
        }
    }

    /// The number first, then the newest: a version published in between is passed on the walk.
    fn look_before_finish(&self, state: &State, me: usize, read: u8, label: Label, out: &mut Vec<(Label, State)>) {
        let believed = state.versions_believed();
        let most = believed.end() + u8::from(self.flaw == Flaw::FromTooHigh);
        for from in (*believed.start()..=most).filter(|n| usize::from(*n) < VERSIONS) {
            let mut next = *state;
            let equal =
                |n: &u8| self.roles[me] == Role::FinishEqual && self.content(state.versions[usize::from(*n)]) == 0;
            let same_as = state.newest(from.min(*believed.end())).filter(equal);
            self.write_record(&mut next, me, read, same_as);
            let p = &mut next.processes[me];
            p.tokens[usize::from(p.tries)].version_from = from;
            out.push((label, next));
        }
    }

    fn look_at_versions(&self, state: &State, me: usize, out: &mut Vec<(Label, State)>) {
        let own = token(me, state.processes[me].tries);
        for from in state.versions_believed().filter(|n| usize::from(*n) < VERSIONS) {
            let mut next = *state;
            let newest =
                state.newest(from).filter(|n| self.content(state.versions[usize::from(*n)]) == self.content(own));
            match newest {
                Some(same) if self.roles[me] != Role::Patch => {
                    (next.processes[me].step, next.processes[me].answer) = (Step::Done, Answer::Same(same))
                }
                _ => {
                    self.write_record(&mut next, me, 0, None);
                    let p = &mut next.processes[me];
                    p.tokens[usize::from(p.tries)].version_from = from;
                    p.version = from;
                }
            }
            out.push((Label("counts the versions that it sees", me, from.into()), next));
        }
    }

    /// The record is written, where it was noted.
    fn write_record(&self, next: &mut State, me: usize, log_from: u8, same_as: Option<u8>) {
        let p = &mut next.processes[me];
        let own = &mut p.tokens[usize::from(p.tries)];
        (own.log_from, own.same_as) = (log_from, same_as);
        p.step = Step::Commit;
    }

    /// Where the walk begins.
    fn walk(&self, me: usize) -> Step {
        if Self::in_log(self.roles[me]) { Step::ClaimLog } else { Step::ClaimVersion }
    }

    /// The commit; its reply may be lost, or it may land later.
    fn commit(&self, state: &State, me: usize, out: &mut Vec<(Label, State)>) {
        let own = token(me, state.processes[me].tries);
        let mut next = *state;
        if self.flaw == Flaw::NoCommit {
            next.processes[me].step = self.walk(me);
            out.push((Label("does not commit", me, 0), next));
            return;
        }
        let made = next.decide(own, Outcome::Commit);
        next.processes[me].step = match made {
            true if self.flaw == Flaw::CommitUnchecked => self.walk(me),
            true => Step::CommitDone,
            false => Step::CommitUnknown,
        };
        out.push((Label("commits", me, made.into()), next));
        if state.faults < self.faults && made {
            next.faults += 1;
            next.processes[me].step = Step::CommitUnknown;
            out.push((Label("loses the reply of its commit", me, 0), next));
            let mut late = *state;
            late.faults += 1;
            (late.processes[me].step, late.processes[me].late) = (Step::CommitUnknown, Late::Commit(own));
            out.push((Label("times out, its commit still on its way", me, 0), late));
        }
    }

    /// The outcome, and whether it counts: only if the record is noted.
    fn read_outcome(&self, state: &State, me: usize, out: &mut Vec<(Label, State)>) {
        let own = token(me, state.processes[me].tries);
        let found = *state.token(own);
        let mut next = *state;
        let believes = found.outcome == Outcome::Fenced && self.flaw == Flaw::BelieveFence;
        if found.noted || believes {
            match (state.processes[me].step, found.outcome) {
                (Step::CommitDone, _) | (_, Outcome::Commit) => next.processes[me].step = self.walk(me),
                (_, Outcome::Fenced) => {
                    next.token_mut(own).dropped = true;
                    next.processes[me].again(self.tries);
                }
                (_, Outcome::None) => {
                    next.processes[me].step = Step::Commit; // message to be there, and is not: it is tried again
                    out.push((Label("reads no outcome, and tries again", me, 0), next));
                    next.processes[me].step = Step::GiveUp;
                }
            }
        } else if state.is_claimed(own) {
            next.processes[me].step = self.walk(me);
        } else {
            next.processes[me].again(self.tries); // taken away: its record is left to a collector
        }
        out.push((Label("reads its outcome", me, found.noted.into()), next));
    }

    /// If it does not know whether it has committed, it fences itself. If that comes too late, the outcome is unknown,
    /// and the process that runs the command again finds it.
    fn discard(&self, state: &State, me: usize, out: &mut Vec<(Label, State)>) {
        let own = token(me, state.processes[me].tries);
        let mut next = *state;
        if self.flaw == Flaw::GiveUpUnfenced {
            next.processes[me].again(self.tries);
        } else {
            next.decide(own, Outcome::Fenced);
            let now = *next.token(own);
            let surely = now.noted && now.outcome == Outcome::Fenced;
            (next.processes[me].step, next.processes[me].answer) =
                (Step::Done, if surely { Answer::GaveUp } else { Answer::Unknown });
        }
        out.push((Label("abandons", me, 0), next));
    }
}
