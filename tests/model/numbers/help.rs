//! Those who act for others: helpers do the claims of committed tokens, a collector takes away what fenced ones left.
//! Their steps are as a writer's, and they may stop between any two.

use super::walk::Met;
use super::{Flaw, LOG, Numbers, Outcome, Process, Role, State, Step, VERSIONS, all_tokens, owner};
use crate::search::Label;

impl Numbers {
    /// One step of a helper or of the collector.
    pub(super) fn help(&self, state: &State, me: usize, out: &mut Vec<(Label, State)>) {
        match state.processes[me].step {
            Step::Begin if self.roles[me] == Role::Help => self.pick_committed(state, me, out),
            Step::Begin => self.pick_fenced(state, me, out),
            Step::ClaimLog | Step::ClaimVersion => self.try_claim(state, me, out),
            Step::LogTaken | Step::LogUnknown | Step::VersionTaken | Step::VersionUnknown => {
                self.read_back(state, me, out)
            }
            Step::EndNote | Step::EndOutcome | Step::EndDirectory => self.end_step(state, me, Step::Done, out),
            // It begins anew.
            _ => {
                let mut next = *state;
                let late = state.processes[me].late;
                next.processes[me] = Process { late, ..Process::default() };
                out.push((Label("looks for others", me, 0), next));
            }
        }
    }

    fn pick_committed(&self, state: &State, me: usize, out: &mut Vec<(Label, State)>) {
        for token in all_tokens(&self.roles) {
            let of = *state.token(token);
            if !of.directory || !of.noted || of.outcome != Outcome::Commit || of.dropped {
                continue;
            }
            let role = self.role(token);
            let done = if Self::finishes(role) {
                state.versions.contains(&token) || of.same_as.is_some() && state.log.contains(&token)
            } else {
                state.is_claimed(token)
            };
            if done && !self.ends && self.flaw != Flaw::HelpFromTheTop {
                continue; // it would find it so, and do nothing
            }
            let mut next = *state;
            let p = &mut next.processes[me];
            (p.token, p.log, p.version) = (token, of.log_from, of.version_from);
            p.step = if Self::in_log(role) { Step::ClaimLog } else { Step::ClaimVersion };
            if self.flaw == Flaw::HelpFromTheTop {
                (p.log, p.version) = (*state.log_believed().end(), *state.versions_believed().end());
            }
            if usize::from(p.log) < LOG && usize::from(p.version) < VERSIONS {
                out.push((Label("helps", me, owner(token).0), next));
            }
        }
    }

    /// A token that reads as fenced and has its note: without a note it may have ended just before, or may not find out
    /// that it is taken away.
    fn pick_fenced(&self, state: &State, me: usize, out: &mut Vec<(Label, State)>) {
        for token in all_tokens(&self.roles) {
            let of = *state.token(token);
            if !of.directory || of.outcome != Outcome::Fenced || !(of.noted || self.flaw == Flaw::SweepUnnoted) {
                continue;
            }
            let mut next = *state;
            next.token_mut(token).dropped = true;
            (next.processes[me].token, next.processes[me].step) = (token, Step::EndNote);
            out.push((Label("takes away what is left of", me, owner(token).0), next));
        }
    }

    /// A helper's claim is decided: a finish has a version to claim, a token with a number is ended, the rest is left
    /// to its owner.
    pub(super) fn helped(&self, next: &mut State, me: usize, in_log: bool, met: Met) {
        let token = next.processes[me].token;
        let same_as = self.same_as(next, token);
        let p = &mut next.processes[me];
        p.step = match met {
            Met::Own if in_log && Self::finishes(self.role(token)) && same_as.is_none() => Step::ClaimVersion,
            Met::Own => self.end(),
            _ => Step::Done,
        };
    }
}
