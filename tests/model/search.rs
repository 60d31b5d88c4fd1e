//! Breadth-first search of a model's whole reachable space: the first wrong state found is reached by a shortest way.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};

/// A protocol as states and steps.
pub trait Model {
    /// All there is at one moment.
    type State: Copy + Eq + Hash;
    /// Where it begins.
    fn start(&self) -> Self::State;
    /// Every step that anybody may take next, each with what it is called.
    fn steps(&self, state: &Self::State, out: &mut Vec<(Label, Self::State)>);
    /// The law that this state breaks.
    fn broken(&self, state: &Self::State) -> Option<Law>;
}

/// Which process did what, and to which number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label(pub &'static str, pub usize, pub usize);

/// What must never be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Law {
    /// F4: a number is missing below another.
    Gap,
    /// F7: a token has two numbers, or one record is published twice.
    Twice,
    /// F7, L14: a token that was fenced before it committed has a number.
    FencedPublished,
    /// F3: the record behind a number was removed.
    RecordGone,
    /// A put made a version with the same content as the version before it.
    SameAgain,
    /// L9: a patch comes after a version that it has not seen.
    PatchOverUnseen,
    /// L11: an acknowledged contribution is not in the log.
    ContributionLost,
    /// L8: an acknowledged version is not there.
    VersionLost,
    /// L10: what was refused or abandoned is published.
    RefusedButDone,
    /// L11, F14: a record comes after the finish.
    AfterFinish,
    /// L12: a finish comes after a contribution that it has not merged.
    NotMerged,
    /// L11: a contribution that began before a discard comes after it.
    AfterDiscard,
    /// L12, F14: a draft came to two versions, or to one that it did not tell.
    TwoVersions,
    /// L14: what a live record needs is gone.
    Freed,
    /// F10: an alias and a removal were both acknowledged.
    AliasToRemoved,
    /// A reader says that something is missing which is there.
    FalselyMissing,
}

/// What a search came to.
pub struct Outcome {
    /// States reached.
    pub states: usize,
    /// Steps taken.
    pub steps: usize,
    /// The law that was broken, and the shortest way there.
    pub broken: Option<(Law, Vec<Label>)>,
}

/// Searches, up to `limit` states: a model that is larger is an error, not a pass.
pub fn search<M: Model>(model: &M, limit: usize) -> Outcome {
    let mut reached = Reached::new(model.start());
    let (mut at, mut steps) = (0, 0);
    let mut next = Vec::new();
    while at < reached.states.len() {
        let state = reached.states[at];
        if let Some(law) = model.broken(&state) {
            return Outcome { states: reached.states.len(), steps, broken: Some((law, way(model, &reached, at))) };
        }
        next.clear();
        model.steps(&state, &mut next);
        steps += next.len();
        for (_, state) in next.drain(..) {
            reached.add(state, at as u32);
        }
        at += 1;
        assert!(
            reached.states.len() <= limit,
            "more than {limit} states: choose a smaller configuration, or a higher limit"
        );
    }
    Outcome { states: reached.states.len(), steps, broken: None }
}

fn way<M: Model>(model: &M, reached: &Reached<M::State>, end: usize) -> Vec<Label> {
    let mut chain = vec![end];
    while reached.from[chain[chain.len() - 1]] != NONE {
        chain.push(reached.from[chain[chain.len() - 1]] as usize);
    }
    chain.reverse();
    let mut labels = Vec::new();
    for pair in chain.windows(2) {
        let mut next = Vec::new();
        model.steps(&reached.states[pair[0]], &mut next);
        labels.extend(next.into_iter().find(|(_, s)| *s == reached.states[pair[1]]).map(|(l, _)| l));
    }
    labels
}

const NONE: u32 = u32::MAX;

/// States in the order in which they were reached, each once: whole states, no fingerprints, so that none is taken for
/// another.
struct Reached<S> {
    states: Vec<S>,
    /// From which state each was reached first.
    from: Vec<u32>,
    /// An open hash table of numbers of states, at most half full.
    slots: Vec<u32>,
}

impl<S: Copy + Eq + Hash> Reached<S> {
    fn new(start: S) -> Reached<S> {
        let mut reached = Reached { states: Vec::new(), from: Vec::new(), slots: vec![NONE; 1 << 10] };
        reached.add(start, NONE);
        reached
    }

    fn add(&mut self, state: S, from: u32) {
        let slot = self.slot(&state);
        if self.slots[slot] != NONE {
            return;
        }
        self.slots[slot] = self.states.len() as u32;
        self.states.push(state);
        self.from.push(from);
        if self.states.len() * 2 > self.slots.len() {
            self.slots = vec![NONE; self.slots.len() * 4];
            for n in 0..self.states.len() {
                let slot = self.slot(&self.states[n]);
                self.slots[slot] = n as u32;
            }
        }
    }

    /// Where a state is, or would be.
    fn slot(&self, state: &S) -> usize {
        let mut hasher = Mix(0);
        state.hash(&mut hasher);
        let mask = self.slots.len() - 1;
        let mut slot = hasher.finish() as usize & mask;
        while self.slots[slot] != NONE && self.states[self.slots[slot] as usize] != *state {
            slot = (slot + 1) & mask;
        }
        slot
    }
}

/// A hash that is quick on small numbers.
struct Mix(u64);

impl Mix {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            self.mix(u64::from_le_bytes(padded));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.mix(byte.into());
    }

    fn finish(&self) -> u64 {
        let high = self.0 ^ self.0 >> 32;
        high.wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 17
    }
}
