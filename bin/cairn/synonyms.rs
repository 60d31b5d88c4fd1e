//! Commands that people type by habit from other tools, and the command here that does it.

/// The words, and the hint for each.
const HABITS: [(&[&str], &str); 16] = [
    (
        &["add", "commit", "push", "upload", "save", "log-artifact", "import", "backup"],
        "`cairn put NAME DIR` makes a version of a directory",
    ),
    (&["pull", "checkout", "download", "clone", "export", "restore"], "`cairn get NAME[:V] DIR` writes a version out"),
    (&["status", "st"], "`cairn diff NAME ./DIR` shows how a directory differs from the newest version"),
    (
        &["history", "log", "versions", "snapshots", "artifacts", "ls-remote"],
        "`cairn list NAME` shows the versions of an artifact",
    ),
    (
        &["remove", "delete", "del", "forget", "prune"],
        "`cairn rm NAME:vN` removes a version (its space is not freed yet)",
    ),
    (&["check", "fsck", "scrub", "audit"], "`cairn verify` reads and hashes the whole store"),
    (&["unmount", "fusermount", "detach"], "`cairn umount DIR` unmounts"),
    (&["tree", "files", "ls-files"], "`cairn ls NAME[:V]` lists the files of a version"),
    (&["dump", "print"], "`cairn cat NAME[:V] PATH` prints a file"),
    (&["info", "inspect", "describe", "stat"], "`cairn show NAME[:V]` prints what is recorded of a version"),
    (
        &["mv", "move", "rename"],
        "`cairn copy NAME NEWNAME` gives a version another name; `cairn patch NAME --rename OLD NEW` renames a path \
         in it",
    ),
    (
        &["cp", "promote", "rollback", "revert", "reset"],
        "`cairn copy NAME:vN NAME` makes that content the newest version again",
    ),
    (&["edit", "update", "append", "apply"], "`cairn patch NAME FILE...` makes the next version from changes"),
    (&["unlock", "who", "ps"], "`cairn locks` shows who is at work"),
    (
        &["discard", "drop", "abort"],
        "`cairn draft discard NAME ID` discards a collaborative version that is not finished",
    ),
    (&["merge", "complete"], "`cairn finish NAME --distributed-id ID` merges the contributions of many runs"),
];

/// What to do instead of the command `word`, if it is one of the habits.
pub fn hint(word: &str) -> Option<&'static str> {
    HABITS.iter().find(|(words, _)| words.contains(&word)).map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn no_habit_is_a_command_and_each_hint_names_one() {
        let cli = crate::cli::Cli::command();
        for (words, hint) in HABITS {
            let named =
                hint.strip_prefix("`cairn ").and_then(|h| h.split_once(' ')).map(|(c, _)| c.trim_end_matches('`'));
            assert!(named.is_some_and(|c| cli.find_subcommand(c).is_some()), "{hint}");
            for word in words {
                assert!(cli.find_subcommand(word).is_none(), "{word} is a command");
            }
        }
    }
}
