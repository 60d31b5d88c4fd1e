//! The protocol as an explicit-state model: every interleaving of a few processes, with deaths, pauses, fences, lost
//! and late replies, and caches that show what no longer exists. The protocol keeps every law in the whole reachable
//! space, and each omitted step breaks the law that it is for.
//!
//! `CAIRN_MODEL=all cargo test --release --test model -- --nocapture` searches the larger configurations too (some
//! minutes and GiB).
//!
//! The steps of the model, and the code that takes them:
//!
//! - *Begin, Note*: `mkdir work/T`, `work/T/record`; lookups come after it. `txn::Txn::begin`
//! - *Look*: the versions' numbers or the draft's log are read, revalidated; content is looked up.
//!   `catalog::numbers`, `catalog::draft::Draft::{state, last}`, `objects::ThreadWriter`
//! - *Write*: missing content is stored. `objects::ThreadWriter`
//! - *Record*: the complete record, at its final place. `commit::publication::publish::write_version`,
//!   `commit::publication::draft_log::write`
//! - *LookRemoved*: a revalidated lookup that a version relied on is not removed. `commit::modes::patch::pin_base`,
//!   `commit::publication::newest`, `pins`
//! - *Commit*: `symlink("commit", work/T/outcome)`. `txn::Durable::commit`
//! - *CommitDone, CommitUnknown*: `work/T/record` still exists next to it; an uncertain reply is read back, and if
//!   nothing is there, the commit is tried again. `txn::Durable::commit`
//! - *GiveUp*: `symlink("fenced", work/T/outcome)` for the own token. The `Drop` of `txn::Txn`
//! - *ClaimLog, LogTaken, LogUnknown*: the draft's number is claimed; a token that has it is read.
//!   `txn::Committed::place` over `publication::draft_log::LogNumbers`, `txn::claim::claim`
//! - *ClaimVersion, VersionTaken, VersionUnknown*: the same for the version's number. `txn::Committed::place` over
//!   `publication::version_numbers`, `txn::claim::claim`
//! - *EndNote, EndOutcome, EndDirectory*: `work/T` is removed, in this order. `txn::remove_ended`
//! - *Help*: the claims of committed tokens. `commit::publication::recover`
//! - *Sweep, and the collector*: remove what is fenced, and free space. `gc::collect`

#![allow(clippy::too_many_lines)] // each step of the model is one match over its states

mod freeing;
mod numbers;
mod search;
mod small;

use freeing::Freeing;
use numbers::Numbers;
use search::{Law, Model, Outcome, search};
use small::{AliasAgainstRemoval, Look, Reader, TwoPacks};

/// States of one configuration, at most.
const LIMIT: usize = 60_000_000;

fn all() -> bool {
    std::env::var("CAIRN_MODEL").is_ok_and(|v| v == "all")
}

fn holds(name: &str, model: &impl Model) {
    let Outcome { states, steps, broken } = search(model, LIMIT);
    println!("{name}: {states} states, {steps} steps");
    if let Some((law, way)) = broken {
        panic!(
            "{name}: {law:?} is broken by\n{}",
            way.iter().map(|l| format!("  {l:?}")).collect::<Vec<_>>().join("\n")
        );
    }
    assert!(states > 10, "{name}: nothing happens in it");
}

fn breaks(name: &str, laws: &[Law], model: &impl Model) {
    let Outcome { states, broken, .. } = search(model, LIMIT);
    let (law, way) = broken.unwrap_or_else(|| panic!("{name}: broken on purpose, and not caught in {states} states"));
    println!("{name}: {law:?} after {} steps, {states} states", way.len());
    assert!(laws.contains(&law), "{name}: expected one of {laws:?}, found {law:?} by {way:?}");
}

mod numbers_are_dense_and_nothing_is_lost {
    use super::*;
    use numbers::{Flaw, Role, Role::*};

    fn with(roles: &[Role], faults: u8, stale: bool) -> Numbers {
        Numbers { roles: roles.to_vec(), faults, tries: 2, stale, ends: false, flaw: Flaw::None }
    }

    fn flawed(flaw: Flaw, roles: &[Role], faults: u8) -> Numbers {
        Numbers { flaw, ..with(roles, faults, true) }
    }

    /// Tokens are taken away when they have ended.
    fn ending(roles: &[Role], faults: u8, flaw: Flaw) -> Numbers {
        Numbers { ends: true, stale: false, ..flawed(flaw, roles, faults) }
    }

    #[test]
    fn whatever_the_interleaving() {
        holds("upsert, finish, put, help; 1 fault", &with(&[Upsert, Finish, Put, Help], 1, true));
        holds("upsert, 2 finishes; 1 fault", &with(&[Upsert, Finish, Finish], 1, true));
        holds("upsert, finish, discard; 1 fault", &with(&[Upsert, Finish, Discard], 1, true));
        holds("upsert, drop, finish; 1 fault", &with(&[Upsert, Drop, Finish], 1, true));
        holds("2 patches, put; 1 fault", &with(&[Patch, Patch, Put], 1, true));
        holds("patch, put, help; 1 fault", &with(&[Patch, Put, Help], 1, true));
        holds("2 puts, help, remove; 1 fault", &with(&[Put, Put, Help, Remove], 1, true));
        holds("put, its twin, help; 1 fault", &with(&[Put, Twin, Help], 1, true));
        holds(
            "put, upsert, 2 finishes of the same; no fault",
            &with(&[Put, Upsert, FinishEqual, FinishEqual], 0, true),
        );
        if all() {
            let three = |roles: &[Role]| Numbers { tries: 3, ..with(roles, 1, true) };
            holds("upsert, finish, put; 1 fault; 3 tokens each", &three(&[Upsert, Finish, Put]));
            holds("2 upserts, 2 finishes; 1 fault; 3 tokens each", &three(&[Upsert, Upsert, Finish, Finish]));
            holds("2 patches, put; 1 fault; 3 tokens each", &three(&[Patch, Patch, Put]));
            holds("upsert, finish, put, help; 2 faults", &with(&[Upsert, Finish, Put, Help], 2, true));
            holds("upsert, 2 finishes, put, help; no fault", &with(&[Upsert, Finish, Finish, Put, Help], 0, true));
            holds("upsert, finish, discard, help; 1 fault", &with(&[Upsert, Finish, Discard, Help], 1, true));
            holds("2 upserts, drop, finish; 1 fault", &with(&[Upsert, Upsert, Drop, Finish], 1, true));
            holds("2 upserts, drop, finish, help; no fault", &with(&[Upsert, Upsert, Drop, Finish, Help], 0, true));
            holds("2 patches, put, help; 1 fault", &with(&[Patch, Patch, Put, Help], 1, true));
            holds("2 patches, put, remove; 1 fault", &with(&[Patch, Patch, Put, Remove], 1, true));
            holds("3 puts, remove; 1 fault", &with(&[Put, Put, Put, Remove], 1, true));
            holds("put, its twin, put, help; 1 fault", &with(&[Put, Twin, Put, Help], 1, true));
            holds(
                "put, upsert, 2 finishes of the same, put; 1 fault",
                &with(&[Put, Upsert, FinishEqual, FinishEqual, Put], 1, true),
            );
        }
    }

    #[test]
    fn also_while_tokens_are_taken_away() {
        holds("put, help, sweep; 3 faults", &ending(&[Put, Help, Sweep], 3, Flaw::None));
        holds("upsert, finish, help, sweep; 2 faults", &ending(&[Upsert, Finish, Help, Sweep], 2, Flaw::None));
        if all() {
            holds("2 puts, help, sweep; 2 faults", &ending(&[Put, Put, Help, Sweep], 2, Flaw::None));
        }
    }

    /// One step is not here: a finish that does not see the log's end claims a number that is taken, and reads on. The
    /// exact number is what counts.
    #[test]
    fn and_each_step_left_out_is_caught() {
        breaks("no commit before the claim", &[Law::FencedPublished], &flawed(Flaw::NoCommit, &[Put], 2));
        breaks("a commit in doubt left unfenced", &[Law::Twice], &flawed(Flaw::GiveUpUnfenced, &[Upsert, Help], 1));
        breaks(
            "a commit into a token that is taken away",
            &[Law::FencedPublished],
            &ending(&[Put, Sweep], 1, Flaw::CommitUnchecked),
        );
        breaks(
            "a fence believed that came after the end",
            &[Law::RecordGone],
            &ending(&[Put, Help], 2, Flaw::BelieveFence),
        );
        breaks(
            "a token taken away before it was noted",
            &[Law::FencedPublished, Law::RecordGone],
            &ending(&[Put, Sweep], 2, Flaw::SweepUnnoted),
        );
        breaks("a new token when a reply is unknown", &[Law::Twice], &flawed(Flaw::NewTokenOnTimeout, &[Upsert], 1));
        breaks("a number passed unread", &[Law::Twice], &flawed(Flaw::PassUnread, &[Put, Put, Help], 2));
        breaks("a number passed unread by a helper", &[Law::Twice], &flawed(Flaw::HelpUnread, &[Put, Help], 0));
        breaks("a helper that begins at the top", &[Law::Twice], &flawed(Flaw::HelpFromTheTop, &[Put, Put, Help], 2));
        breaks(
            "a helper that does not compare",
            &[Law::RecordGone, Law::SameAgain],
            &flawed(Flaw::HelpNoCompare, &[Put, Twin, Help], 0),
        );
        breaks("an appender that skips a number", &[Law::Gap], &flawed(Flaw::SkipNumber, &[Upsert, Upsert], 0));
        breaks("a `from` that is too high", &[Law::Gap], &flawed(Flaw::FromTooHigh, &[Upsert, Finish], 0));
        breaks(
            "each finisher's own version",
            &[Law::TwoVersions, Law::RecordGone],
            &flawed(Flaw::OwnVersion, &[Upsert, Finish, Finish], 0),
        );
        breaks(
            "each finisher's own beginning",
            &[Law::Twice, Law::TwoVersions],
            &flawed(Flaw::OwnStart, &[Upsert, Finish, Finish, Put], 0),
        );
        breaks(
            "each finisher's own comparison",
            &[Law::TwoVersions],
            &flawed(Flaw::CompareAgain, &[Put, Upsert, FinishEqual, FinishEqual, Put], 0),
        );
        breaks("a patch that is not rebased", &[Law::PatchOverUnseen], &flawed(Flaw::NoRebase, &[Patch, Put], 0));
        breaks("a put that does not compare on its walk", &[Law::SameAgain], &flawed(Flaw::NoCompare, &[Put, Twin], 0));
        breaks(
            "a finish that takes the next number",
            &[Law::NotMerged],
            &flawed(Flaw::FinishAgain, &[Upsert, Upsert, Finish], 0),
        );
        breaks(
            "a finish that merges a part",
            &[Law::NotMerged],
            &flawed(Flaw::ShortRead, &[Upsert, Upsert, Finish], 0),
        );
        breaks(
            "a contribution that passes a discard",
            &[Law::AfterDiscard],
            &flawed(Flaw::PassDiscard, &[Upsert, Discard], 0),
        );
    }
}

mod what_is_needed_is_never_freed {
    use super::*;
    use freeing::{Flaw, Role::*};

    fn with(writers: &[freeing::Role], collectors: usize, runs: u8, stale: bool) -> Freeing {
        Freeing { writers: writers.to_vec(), collectors, runs, stale, flaw: Flaw::None }
    }

    fn flawed(flaw: Flaw, writers: &[freeing::Role]) -> Freeing {
        Freeing { flaw, ..with(writers, 1, 1, true) }
    }

    #[test]
    fn whatever_the_timing() {
        holds("put, 1 collector twice", &with(&[Put], 1, 2, true));
        holds("put and pin, 1 collector", &with(&[Put, Pin], 1, 1, true));
        holds("upsert and finish, 1 collector", &with(&[Upsert, Finish], 1, 1, true));
        holds("upsert, discard, finish; 1 collector, no stale looks", &with(&[Upsert, Discard, Finish], 1, 1, false));
        holds("put and patch, 1 collector, no stale looks", &with(&[Put, Patch], 1, 1, false));
        holds("put, 2 collectors, no stale looks", &with(&[Put], 2, 1, false));
        if all() {
            holds("put and patch, 1 collector", &with(&[Put, Patch], 1, 1, true));
            holds("2 puts, 1 collector twice", &with(&[Put, Put], 1, 2, true));
            holds("put, upsert, finish; 1 collector", &with(&[Put, Upsert, Finish], 1, 1, true));
            holds("upsert, discard, finish; 1 collector", &with(&[Upsert, Discard, Finish], 1, 1, true));
            holds("put, 2 collectors", &with(&[Put], 2, 1, true));
            holds("upsert and finish, 2 collectors, no stale looks", &with(&[Upsert, Finish], 2, 1, false));
        }
    }

    #[test]
    fn and_each_step_left_out_is_caught() {
        breaks("looks before the token", &[Law::Freed], &flawed(Flaw::LookBeforeToken, &[Put]));
        breaks("a fenced writer that keeps its looks", &[Law::Freed], &flawed(Flaw::KeepLooks, &[Put]));
        breaks("no commit", &[Law::Freed], &flawed(Flaw::NoCommit, &[Put]));
        breaks("a committed record is not a root", &[Law::Freed], &flawed(Flaw::CommittedIsNoRoot, &[Put]));
        breaks("one mark", &[Law::Freed], &flawed(Flaw::OneMark, &[Put]));
        breaks("what is needed not put back", &[Law::Freed], &flawed(Flaw::NoPutBack, &[Put]));
        breaks("no wait", &[Law::Freed], &flawed(Flaw::NoWait, &[Put]));
        breaks("one bound after the move", &[Law::Freed], &flawed(Flaw::ShortWait, &[Put]));
        breaks("no wait after the list of tokens", &[Law::Freed], &flawed(Flaw::NoWaitAfterList, &[Put]));
        breaks("tokens not waited for", &[Law::Freed], &flawed(Flaw::NoFences, &[Put]));
        breaks("a patch that looks before it relies", &[Law::Freed], &flawed(Flaw::LookBeforeRelying, &[Put, Patch]));
        breaks("a pin made after the look", &[Law::Freed], &flawed(Flaw::LookBeforeRelying, &[Put, Pin]));
        breaks(
            "removals as they are at each mark",
            &[Law::Freed],
            &Freeing { flaw: Flaw::NoSnapshot, ..with(&[Put, Patch], 1, 1, false) },
        );
        breaks("all trash freed", &[Law::Freed], &Freeing { flaw: Flaw::FreeEverything, ..with(&[Put], 2, 1, true) });
    }
}

mod small_protocols {
    use super::*;

    #[test]
    fn an_alias_and_a_removal_are_never_both_done() {
        holds("act, look again, FRESH", &AliasAgainstRemoval { second_look: true, look: Look::Fresh });
        breaks(
            "look, then act",
            &[Law::AliasToRemoved],
            &AliasAgainstRemoval { second_look: false, look: Look::Fresh },
        );
        breaks(
            "a second look into a cache",
            &[Law::AliasToRemoved],
            &AliasAgainstRemoval { second_look: true, look: Look::Remembered },
        );
        breaks(
            "a second look that opens the parent alone",
            &[Law::AliasToRemoved],
            &AliasAgainstRemoval { second_look: true, look: Look::ParentOpened },
        );
    }

    #[test]
    fn a_reader_finds_what_collectors_move() {
        holds("1 collector, 2 passes", &Reader { collectors: 1, passes: 2, trash: true });
        holds("2 collectors, 3 passes", &Reader { collectors: 2, passes: 3, trash: true });
        breaks("1 collector, 1 pass", &[Law::FalselyMissing], &Reader { collectors: 1, passes: 1, trash: true });
        breaks("2 collectors, 2 passes", &[Law::FalselyMissing], &Reader { collectors: 2, passes: 2, trash: true });
        breaks("no look into the trash", &[Law::FalselyMissing], &Reader { collectors: 1, passes: 2, trash: false });
    }

    #[test]
    fn two_collectors_never_free_both_copies() {
        let sound = TwoPacks { second_look: true, wait: true, trash_counts: false };
        holds("move, wait, look again", &sound);
        breaks("no second look", &[Law::Freed], &TwoPacks { second_look: false, ..sound });
        breaks("a second look at once", &[Law::Freed], &TwoPacks { wait: false, ..sound });
        breaks("a copy in the trash counts", &[Law::Freed], &TwoPacks { trash_counts: true, ..sound });
    }
}
