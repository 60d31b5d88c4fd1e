//! Three small protocols: an alias against a removal, a reader during collections, two packs that hold the same and two
//! collectors.

use crate::search::{Label, Law, Model};

/// An alias setter and a remover of the same version: each acts, then looks again (FORMAT.md, "Removal"). Each makes
/// the directory that its entry goes to (`aliases/`, `removed/`), and the other's host may remember that this directory
/// was not there.
pub struct AliasAgainstRemoval {
    /// Whether each looks again after it acted.
    pub second_look: bool,
    /// What a look believes.
    pub look: Look,
}

/// What a look at a name believes of what the host remembers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Everything.
    Remembered,
    /// The directory that holds the name is opened before, if it is there: that it is missing is believed.
    ParentOpened,
    /// Where that directory seems to be missing, those above it are opened, from the last one that is there down
    /// (FRESH).
    Fresh,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pair {
    named: bool,
    named_seen: bool,
    removed: bool,
    removed_seen: bool,
    /// The remover's host remembers that `aliases/` is missing; the setter's, that `removed/` is.
    no_aliases: bool,
    no_removed: bool,
    setter: u8,
    remover: u8,
}

const ACTED: u8 = 1;
const ANSWERED_DONE: u8 = 2;
const ANSWERED_NO: u8 = 3;
const LOOKED: u8 = 4;

impl AliasAgainstRemoval {
    /// What a look may see of an entry that is there or not, that was seen to be so, and whose directory is remembered
    /// to be missing.
    fn looks(&self, is: bool, seen: bool, no_directory: bool) -> Vec<bool> {
        match self.look {
            Look::Fresh => vec![is],
            Look::ParentOpened => vec![is && !no_directory],
            Look::Remembered if is == seen => vec![is],
            Look::Remembered => vec![is, seen],
        }
    }
}

impl Model for AliasAgainstRemoval {
    type State = Pair;

    /// Both have looked at this artifact before, when it had neither directory.
    fn start(&self) -> Pair {
        Pair {
            named: false,
            named_seen: false,
            removed: false,
            removed_seen: false,
            no_aliases: true,
            no_removed: true,
            setter: 0,
            remover: 0,
        }
    }

    fn steps(&self, s: &Pair, out: &mut Vec<(Label, Pair)>) {
        let later = Pair { named_seen: s.named, removed_seen: s.removed, no_aliases: false, no_removed: false, ..*s };
        if later != *s {
            out.push((Label("time passes", 0, 0), later));
        }
        let done = if self.second_look { ACTED } else { ANSWERED_DONE };
        match s.setter {
            0 => {
                for removed in self.looks(s.removed, s.removed_seen, s.no_removed) {
                    let next = if removed {
                        Pair { setter: ANSWERED_NO, ..*s }
                    } else {
                        Pair { setter: done, named: true, ..*s }
                    };
                    out.push((Label("setter: looks, and names it", 0, removed.into()), next));
                }
            }
            ACTED => {
                for removed in self.looks(s.removed, s.removed_seen, s.no_removed) {
                    let next = if removed {
                        Pair { setter: ANSWERED_NO, named: false, ..*s }
                    } else {
                        Pair { setter: ANSWERED_DONE, ..*s }
                    };
                    out.push((Label("setter: looks again", 0, removed.into()), next));
                }
            }
            _ => {}
        }
        match s.remover {
            0 => {
                for named in self.looks(s.named, s.named_seen, s.no_aliases) {
                    out.push((
                        Label("remover: looks", 0, named.into()),
                        Pair { remover: if named { ANSWERED_NO } else { LOOKED }, ..*s },
                    ));
                }
            }
            LOOKED => out.push((Label("remover: marks it removed", 0, 0), Pair { remover: done, removed: true, ..*s })),
            ACTED => {
                for named in self.looks(s.named, s.named_seen, s.no_aliases) {
                    out.push((
                        Label("remover: looks again", 0, named.into()),
                        Pair { remover: if named { ANSWERED_NO } else { ANSWERED_DONE }, ..*s },
                    ));
                }
            }
            _ => {}
        }
    }

    fn broken(&self, s: &Pair) -> Option<Law> {
        (s.setter == ANSWERED_DONE && s.remover == ANSWERED_DONE && s.named).then_some(Law::AliasToRemoved)
    }
}

/// A reader that looks in place, then in each batch of the trash, several times, while collectors move what is live to
/// and fro (FORMAT.md, "Readers").
pub struct Reader {
    /// Collectors, one batch each.
    pub collectors: u8,
    /// How often it looks everywhere before it says that something is missing.
    pub passes: u8,
    /// Whether it looks in the trash at all.
    pub trash: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Moving {
    /// 0 in place, else in the batch of a collector.
    place: u8,
    collectors: [u8; 2],
    /// Where the reader looks next, and how often it looked everywhere.
    looks: u8,
    passes: u8,
    found: bool,
    missing: bool,
}

impl Model for Reader {
    type State = Moving;

    fn start(&self) -> Moving {
        Moving::default()
    }

    fn steps(&self, s: &Moving, out: &mut Vec<(Label, Moving)>) {
        for c in 0..self.collectors {
            let mut next = *s;
            let step = &mut next.collectors[usize::from(c)];
            *step += 1;
            match s.collectors[usize::from(c)] {
                0 if s.place == 0 => next.place = c + 1,
                1 if s.place != 0 => next.place = c + 1, // adopts what an older batch holds
                2 if s.place == c + 1 => next.place = 0, // the second mark: it is live
                0..=2 => {}
                _ => continue,
            }
            out.push((
                Label("collector moves, adopts, puts back", usize::from(c), usize::from(s.collectors[usize::from(c)])),
                next,
            ));
        }
        if s.found || s.missing {
            return;
        }
        let mut next = *s;
        if s.place == s.looks {
            next.found = true;
        } else {
            let last = if self.trash { self.collectors } else { 0 };
            if s.looks < last {
                next.looks += 1;
            } else {
                (next.looks, next.passes) = (0, s.passes + 1);
                next.missing = next.passes >= self.passes;
            }
        }
        out.push((Label("reader looks in", 0, usize::from(s.looks)), next));
    }

    fn broken(&self, s: &Moving) -> Option<Law> {
        s.missing.then_some(Law::FalselyMissing)
    }
}

/// One blob in two packs, and two collectors: each finds one of the packs needless because of the other.
pub struct TwoPacks {
    /// Whether the other pack is looked at again before the pack is freed.
    pub second_look: bool,
    /// Whether the collector waits until a pack that was moved is seen to be gone.
    pub wait: bool,
    /// Whether a copy in somebody's trash counts as one.
    pub trash_counts: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Packs {
    /// 0 in place, 1 or 2 in a collector's trash, 3 freed.
    at: [u8; 2],
    moved_seen: [bool; 2],
    step: [u8; 2],
    victim: [u8; 2],
    waited: [bool; 2],
    runs: [u8; 2],
}

const FREED: u8 = 3;

impl Model for TwoPacks {
    type State = Packs;

    fn start(&self) -> Packs {
        Packs { at: [0; 2], moved_seen: [true; 2], step: [0; 2], victim: [0; 2], waited: [false; 2], runs: [0; 2] }
    }

    fn steps(&self, s: &Packs, out: &mut Vec<(Label, Packs)>) {
        // Two bounds: a stale look of one collector, and of the other who relied on it.
        let waiting = Packs { moved_seen: [true; 2], waited: [s.step[0] == 2, s.step[1] == 2], ..*s };
        if waiting != *s {
            out.push((Label("time passes", 0, 0), waiting));
        }
        for c in 0..2 {
            let looks = |pack: usize| -> Vec<bool> {
                let there = s.at[pack] == 0 || (self.trash_counts && s.at[pack] != FREED);
                if !there && !s.moved_seen[pack] { vec![true, false] } else { vec![there] }
            };
            let victim = usize::from(s.victim[c]);
            let mut next = *s;
            match s.step[c] {
                0 => {
                    for pack in (0..2).filter(|p| s.at[*p] == 0) {
                        if looks(1 - pack).contains(&true) {
                            let mut next = *s;
                            (next.step[c], next.victim[c]) = (1, pack as u8);
                            out.push((Label("collector finds needless pack", c, pack), next));
                        }
                    }
                }
                1 => {
                    if s.at[victim] == 0 {
                        next.at[victim] = c as u8 + 1;
                        next.moved_seen[victim] = false;
                    }
                    (next.step[c], next.waited[c]) = (2, false);
                    out.push((Label("collector moves pack", c, victim), next));
                }
                2 if !self.wait || s.waited[c] => {
                    for other in if self.second_look { looks(1 - victim) } else { vec![true] } {
                        let mut next = *s;
                        next.step[c] = if other { 4 } else { 5 };
                        out.push((Label("collector looks for the other pack", c, other.into()), next));
                    }
                }
                4 | 5 => {
                    if s.at[victim] == c as u8 + 1 {
                        next.at[victim] = if s.step[c] == 4 { FREED } else { 0 };
                    }
                    next.step[c] = 3;
                    out.push((Label("collector frees or puts back pack", c, victim), next));
                }
                3 if s.runs[c] < 2 => {
                    next.step[c] = 0;
                    next.runs[c] += 1;
                    out.push((Label("collector runs again", c, 0), next));
                }
                _ => {}
            }
        }
    }

    fn broken(&self, s: &Packs) -> Option<Law> {
        (s.at == [FREED; 2]).then_some(Law::Freed)
    }
}
