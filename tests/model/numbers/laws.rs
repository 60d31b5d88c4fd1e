//! What must hold of every state.

use super::{Answer, Numbers, Role, State, Wrong, owner};
use crate::search::Law;

impl Numbers {
    pub(super) fn law_broken(&self, state: &State) -> Option<Law> {
        if let Some(wrong) = state.wrong {
            return Some(match wrong {
                Wrong::Fenced => Law::FencedPublished,
                Wrong::Unseen => Law::PatchOverUnseen,
                Wrong::NotMerged => Law::NotMerged,
                Wrong::AfterDiscard => Law::AfterDiscard,
            });
        }
        let rows: [&[u8]; 2] = [&state.log, &state.versions];
        if rows.iter().any(|row| row.windows(2).any(|w| w[0] == 0 && w[1] != 0)) {
            return Some(Law::Gap);
        }
        if rows.iter().any(|row| row.iter().enumerate().any(|(i, t)| *t != 0 && row[i + 1..].contains(t))) {
            return Some(Law::Twice);
        }
        if rows.iter().any(|row| row.iter().any(|t| *t != 0 && state.token(*t).dropped)) {
            return Some(Law::RecordGone);
        }
        let finish = state.log.iter().position(|t| *t != 0 && Self::finishes(self.role(*t)));
        if finish.is_some_and(|n| state.log[n + 1..].iter().any(|t| *t != 0)) {
            return Some(Law::AfterFinish);
        }
        self.draft_broken(state)
            .or_else(|| self.content_broken(state))
            .or_else(|| (0..self.roles.len()).find_map(|me| self.answer_broken(state, me)))
    }

    /// One version of a draft, and each finisher gets that one.
    fn draft_broken(&self, state: &State) -> Option<Law> {
        if state.versions.iter().filter(|t| **t != 0 && Self::finishes(self.role(**t))).count() > 1 {
            return Some(Law::TwoVersions);
        }
        let mut answer = None;
        for me in (0..self.roles.len()).filter(|me| Self::finishes(self.roles[*me])) {
            let number = match state.processes[me].answer {
                Answer::Yes(number) if !Self::finishes(self.role_at(state, number)?) => return Some(Law::TwoVersions),
                Answer::Same(number)
                    if self.roles[me] != Role::FinishEqual
                        || self.content(state.versions[usize::from(number)]) != 0 =>
                {
                    return Some(Law::TwoVersions);
                }
                Answer::Yes(number) | Answer::Same(number) => number,
                _ => continue,
            };
            if *answer.get_or_insert(number) != number {
                return Some(Law::TwoVersions);
            }
        }
        None
    }

    fn role_at(&self, state: &State, version: u8) -> Option<Role> {
        let there = state.versions[usize::from(version)];
        (there != 0).then(|| self.role(there))
    }

    /// No put makes a version of what the one before holds.
    fn content_broken(&self, state: &State) -> Option<Law> {
        let mut pairs = state.versions.windows(2).zip(0..).filter(|(w, _)| w[1] != 0);
        let again = pairs.any(|(w, n)| {
            let simple = matches!(self.role(w[1]), Role::Put | Role::Twin);
            simple && state.removed >> n & 1 == 0 && self.content(w[0]) == self.content(w[1])
        });
        again.then_some(Law::SameAgain)
    }

    /// The answer that a process got is true.
    fn answer_broken(&self, state: &State, me: usize) -> Option<Law> {
        let role = self.roles[me];
        let in_log = Self::in_log(role);
        if Self::finishes(role) {
            return None;
        }
        let row: &[u8] = if in_log { &state.log } else { &state.versions };
        let count = row.iter().filter(|t| **t != 0 && owner(**t).0 == me).count();
        match state.processes[me].answer {
            _ if count > 1 => Some(Law::Twice),
            Answer::Yes(n) if row[usize::from(n)] == 0 || owner(row[usize::from(n)]).0 != me => {
                Some(if in_log { Law::ContributionLost } else { Law::VersionLost })
            }
            Answer::Same(n)
                if state.versions[usize::from(n)] == 0
                    || self.content(state.versions[usize::from(n)]) != self.content(super::token(me, 0)) =>
            {
                Some(Law::VersionLost)
            }
            Answer::Refused | Answer::GaveUp | Answer::Same(_) if count > 0 => Some(Law::RefusedButDone),
            _ => None,
        }
    }
}
