//! Command names that people know from other tools, and cairn's command for each; and the answer to a mistyped name.

use cairn::internals::catalog::similar::distance;
use clap::Command;

/// The names, with one hint for each group.
const SYNONYMS: [(&[&str], &str); 22] = [
    (
        &["add", "commit", "push", "upload", "save", "log-artifact", "import", "backup", "track"],
        "`cairn put NAME DIR` makes a version from a directory",
    ),
    (&["pull", "checkout", "download", "clone", "export"], "`cairn get NAME[:V] DIR` writes a version out"),
    (&["status", "st"], "`cairn diff NAME ./DIR` shows how a directory differs from the newest version"),
    (
        &["history", "reflog", "events"],
        "`cairn log NAME` shows what happened to an artifact; `cairn list NAME` its versions",
    ),
    (&["versions", "snapshots", "artifacts", "ls-remote"], "`cairn list NAME` shows the versions of an artifact"),
    (&["provenance", "graph", "dag", "ancestry"], "`cairn lineage NAME[:V]` shows which runs made and used a version"),
    (&["undelete", "unremove", "undo", "recover"], "`cairn restore NAME:vN` brings a removed version back"),
    (&["remove", "delete", "del", "forget"], "`cairn rm NAME:vN` removes a version; `cairn gc` then frees its space"),
    (&["prune", "clean", "vacuum", "collect"], "`cairn gc` frees the space of removed versions"),
    (&["check", "fsck", "scrub", "audit"], "`cairn verify` reads and hashes the whole store"),
    (&["unmount", "fusermount", "detach"], "`cairn umount DIR` unmounts"),
    (&["tree", "files", "ls-files"], "`cairn ls NAME[:V]` lists the files of a version"),
    (&["dump", "print"], "`cairn cat NAME[:V] PATH` prints a file"),
    (&["inspect", "describe", "stat"], "`cairn show NAME[:V]` prints what is recorded about a version"),
    (
        &["mv", "move", "rename"],
        "`cairn copy NAME NEWNAME` copies a version to another name; `cairn patch NAME --rename OLD NEW` renames a \
         path in it",
    ),
    (&["cp", "rollback", "revert", "reset"], "`cairn copy NAME:vN NAME` makes that content the newest version again"),
    (
        &["promote", "branch"],
        "`cairn alias NAME:vN ALIAS` moves an alias, such as prod; `cairn copy NAME:vN NAME` makes that content the \
         newest version again",
    ),
    (&["tags"], "`cairn list NAME --tag TAG` lists the versions with a tag; `cairn show NAME` prints all tags"),
    (&["edit", "update", "append", "apply"], "`cairn patch NAME FILE...` makes the next version from changes"),
    (&["unlock", "who", "ps"], "`cairn locks` shows which processes are at work"),
    (
        &["discard", "drop", "abort"],
        "`cairn draft discard NAME ID` discards a collaborative version that is not finished",
    ),
    (&["merge", "complete"], "`cairn finish NAME --distributed-id ID` merges the contributions of many runs"),
];

/// The same for the commands below `cairn draft`.
const OF_DRAFTS: [(&[&str], &str); 3] = [
    (&["list", "ls"], "`cairn drafts` lists the drafts"),
    (&["finish", "complete", "merge", "publish", "commit"], "`cairn finish NAME --distributed-id ID` finishes a draft"),
    (
        &["remove", "rm", "delete", "abort", "cancel"],
        "`cairn draft discard NAME ID` discards a draft; `cairn draft drop NAME ID --run R` removes one run's part",
    ),
];

/// Commands of which one does the opposite of the other: a mistyped name of one is never answered with the other.
const OPPOSITES: [(&[&str], &[&str]); 5] = [
    (&["put", "upsert", "patch", "finish", "seal", "commit"], &["get", "cat", "archive", "fetch"]),
    (&["put", "upsert", "patch", "finish", "restore", "copy"], &["rm", "gc"]),
    (&["mount"], &["umount"]),
    (&["alias"], &["unalias"]),
    (&["tag"], &["untag"]),
];

/// The hint for the unknown command `name`, if another tool has a command of that name.
fn hint(name: &str) -> Option<&'static str> {
    hint_in(&SYNONYMS, name)
}

fn hint_in(table: &[(&[&str], &'static str)], name: &str) -> Option<&'static str> {
    table.iter().find(|(names, _)| names.contains(&name)).map(|(_, hint)| *hint)
}

/// The command that a hint names first.
fn command_of(hint: &str) -> Option<&str> {
    let rest = hint.strip_prefix('`')?.strip_prefix("cairn ")?;
    Some(rest.split([' ', '`']).next().unwrap_or(rest))
}

fn are_opposite(a: &str, b: &str) -> bool {
    let both = |(these, those): &(&[&str], &[&str])| {
        these.contains(&a) && those.contains(&b) || these.contains(&b) && those.contains(&a)
    };
    OPPOSITES.iter().any(both)
}

/// The hint for the unknown command `name` below `parent` (`None`: of cairn itself): what another tool's command of
/// that name is called here, or commands with similar names. `None` if there is nothing alike, or if what is alike are
/// opposites.
pub fn advice(cli: &Command, parent: Option<&str>, name: &str) -> Option<String> {
    if let Some(parent) = parent {
        let known = hint_in(&OF_DRAFTS, name).filter(|_| parent == "draft");
        return known.map(str::to_owned);
    }
    if let Some(hint) = hint(name) {
        return Some(hint.to_owned());
    }
    let commands = cli.get_subcommands().map(|command| (command.get_name(), command.get_name(), None));
    let synonyms = SYNONYMS
        .iter()
        .flat_map(|(names, hint)| names.iter().filter_map(move |name| Some((*name, command_of(hint)?, Some(*hint)))));
    let bound = name.chars().count() / 3 + 1;
    let mut near: Vec<_> = commands
        .chain(synonyms)
        .map(|(like, command, hint)| (distance(name, like), like, command, hint))
        .filter(|(distance, ..)| *distance <= bound)
        .collect();
    near.sort();
    let nearest = near.first()?.0;
    near.retain(|near| near.0 == nearest);
    let targets: Vec<&str> = near.iter().map(|near| near.2).collect();
    if targets.iter().any(|a| targets.iter().any(|b| are_opposite(a, b))) {
        return None;
    }
    if let [(_, like, _, Some(hint))] = near.as_slice() {
        return Some(format!("if you mean `{like}`: {hint}"));
    }
    let mut names: Vec<String> = near.iter().map(|near| format!("`cairn {}`", near.2)).collect();
    names.dedup();
    Some(match names.as_slice() {
        [one] => format!("a command with a similar name is {one}"),
        several => format!("commands with similar names are {}", several.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;

    #[test]
    fn no_synonym_is_a_command_and_each_hint_names_one() {
        let cli = Cli::command();
        for (names, hint) in SYNONYMS.iter().chain(&OF_DRAFTS) {
            assert!(command_of(hint).is_some_and(|c| cli.find_subcommand(c).is_some()), "{hint}");
            for name in *names {
                let is_of_drafts = OF_DRAFTS.iter().any(|(names, _)| names.contains(name));
                assert!(is_of_drafts || cli.find_subcommand(name).is_none(), "{name} is a command");
            }
        }
    }

    /// What words of other tools mean, and the commands that may be proposed for them. Independent of the table.
    const MEANINGS: [(&str, &str); 15] = [
        ("add commit push upload save log-artifact import backup track", "put"),
        ("pull checkout download clone export", "get"),
        ("status st", "diff"),
        (
            "history reflog events versions snapshots artifacts ls-remote provenance graph dag ancestry",
            "log list lineage",
        ),
        ("undelete unremove undo recover", "restore"),
        ("remove delete del forget prune clean vacuum collect", "rm gc"),
        ("check fsck scrub audit unlock who ps", "verify locks"),
        ("unmount fusermount detach", "umount"),
        ("tree files ls-files dump print inspect describe stat", "ls cat show"),
        ("mv move rename cp rollback revert reset", "copy patch"),
        ("promote branch", "alias copy"),
        ("tags", "list show"),
        ("edit update append apply", "patch"),
        ("discard drop abort", "draft"),
        ("merge complete", "finish"),
    ];

    #[test]
    fn what_a_synonym_is_answered_with_does_what_it_means() {
        for name in SYNONYMS.iter().flat_map(|(names, _)| *names) {
            let meaning = MEANINGS.iter().find(|(names, _)| names.split(' ').any(|n| n == *name));
            let (_, allowed) = meaning.unwrap_or_else(|| panic!("MEANINGS lacks {name}"));
            let proposed = command_of(hint(name).unwrap()).unwrap();
            assert!(allowed.split(' ').any(|command| command == proposed), "{name}: {proposed}");
        }
    }

    /// `word` with one letter left out, doubled, or exchanged with the next, and with a letter more.
    fn mistyped(word: &str) -> Vec<String> {
        let chars: Vec<char> = word.chars().collect();
        let mut all = Vec::new();
        for i in 0..chars.len() {
            let (before, after): (String, String) = (chars[..i].iter().collect(), chars[i + 1..].iter().collect());
            all.push(format!("{before}{after}"));
            all.push(format!("{before}{0}{0}{after}", chars[i]));
            for letter in 'a'..='z' {
                all.push(format!("{before}{letter}{after}"));
                all.push(format!("{before}{letter}{}{after}", chars[i]));
            }
            if i + 1 < chars.len() {
                let mut swapped = chars.clone();
                swapped.swap(i, i + 1);
                all.push(swapped.into_iter().collect());
            }
        }
        all.retain(|typed| !typed.is_empty());
        all
    }

    /// All commands that a hint names.
    fn named(hint: &str) -> Vec<&str> {
        hint.split("`cairn ").skip(1).map(|rest| rest.split([' ', '`']).next().unwrap_or(rest)).collect()
    }

    #[test]
    fn no_hint_proposes_the_opposite_of_what_was_meant() {
        let cli = Cli::command();
        let commands = cli.get_subcommands().map(|command| (command.get_name(), command.get_name()));
        let synonyms = SYNONYMS.iter().flat_map(|(names, hint)| names.iter().map(|n| (*n, command_of(hint).unwrap())));
        let (mut tried, mut answered) = (0, 0);
        for (word, meant) in commands.chain(synonyms).collect::<Vec<_>>() {
            for typed in mistyped(word) {
                let is_word = cli.find_subcommand(&typed).is_some() || hint(&typed).is_some();
                if is_word {
                    continue; // it has a meaning of its own
                }
                tried += 1;
                let Some(advice) = advice(&cli, None, &typed) else { continue };
                answered += 1;
                for proposed in named(&advice) {
                    assert!(!are_opposite(meant, proposed), "`{typed}` for `{word}` is answered with: {advice}");
                }
            }
        }
        assert!(tried > 5_000 && answered > tried / 2, "{tried} tried, {answered} answered");
        assert_eq!(advice(&cli, None, "pul"), None, "put and pull are equally near");
        assert!(advice(&cli, None, "lits").unwrap().contains("`cairn list`"));
        assert!(advice(&cli, Some("draft"), "delete").unwrap().starts_with("`cairn draft discard"));
        assert_eq!(advice(&cli, Some("draft"), "push"), None);
    }
}
