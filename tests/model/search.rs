//! Breadth-first search of a model's whole reachable space: the first wrong state found is reached by a shortest way.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

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

/// Who did what, and to which number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label(pub &'static str, pub usize, pub usize);

/// What must never be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Law {
    /// F4: a number is missing below another.
    Gap,
    /// F7: a token stands at two numbers.
    TwoNumbers,
    /// F7, L14: a fenced token stands at a number.
    FencedPublished,
    /// L9: a patch stands after a version that it has not seen.
    PatchOverUnseen,
    /// L11: an acknowledged contribution is not in the log, or a refused one is.
    ContributionLost,
    /// L11, F14: a record stands after the finish.
    AfterFinish,
    /// L12: a finish stands after a contribution that it has not merged.
    NotMerged,
    /// L11: a contribution that began before a discard stands after it.
    AfterDiscard,
    /// L12, F14: a draft came to two versions, or to one that it did not tell.
    TwoVersions,
    /// L8: an acknowledged version is not there.
    VersionLost,
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
    let start = model.start();
    let mut seen: HashMap<M::State, u32> = HashMap::from([(start, 0)]);
    let mut order = vec![(start, u32::MAX)];
    let (mut at, mut steps) = (0, 0);
    let mut next = Vec::new();
    while at < order.len() {
        let state = order[at].0;
        if let Some(law) = model.broken(&state) {
            return Outcome { states: order.len(), steps, broken: Some((law, way(model, &order, at))) };
        }
        next.clear();
        model.steps(&state, &mut next);
        steps += next.len();
        for (_, reached) in next.drain(..) {
            let number = order.len() as u32;
            seen.entry(reached).or_insert_with(|| {
                order.push((reached, at as u32));
                number
            });
        }
        at += 1;
        assert!(order.len() <= limit, "more than {limit} states: choose a smaller configuration, or a higher limit");
    }
    Outcome { states: order.len(), steps, broken: None }
}

fn way<M: Model>(model: &M, order: &[(M::State, u32)], end: usize) -> Vec<Label> {
    let mut chain = vec![end];
    while order[chain[chain.len() - 1]].1 != u32::MAX {
        chain.push(order[chain[chain.len() - 1]].1 as usize);
    }
    chain.reverse();
    let mut labels = Vec::new();
    for pair in chain.windows(2) {
        let mut next = Vec::new();
        model.steps(&order[pair[0]].0, &mut next);
        labels.extend(next.into_iter().find(|(_, s)| *s == order[pair[1]].0).map(|(l, _)| l));
    }
    labels
}
