//! Command names that people know from other tools, and cairn's command for each.

/// The names, with one hint for each group.
const SYNONYMS: [(&[&str], &str); 20] = [
    (
        &["add", "commit", "push", "upload", "save", "log-artifact", "import", "backup", "track"],
        "`cairn put NAME DIR` makes a version from a directory",
    ),
    (&["pull", "checkout", "download", "clone", "export", "fetch"], "`cairn get NAME[:V] DIR` writes a version out"),
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
    (
        &["cp", "promote", "rollback", "revert", "reset"],
        "`cairn copy NAME:vN NAME` makes that content the newest version again",
    ),
    (&["edit", "update", "append", "apply"], "`cairn patch NAME FILE...` makes the next version from changes"),
    (&["unlock", "who", "ps"], "`cairn locks` shows which processes are at work"),
    (
        &["discard", "drop", "abort"],
        "`cairn draft discard NAME ID` discards a collaborative version that is not finished",
    ),
    (&["merge", "complete"], "`cairn finish NAME --distributed-id ID` merges the contributions of many runs"),
];

/// The hint for the unknown command `name`, if another tool has a command of that name.
pub fn hint(name: &str) -> Option<&'static str> {
    SYNONYMS.iter().find(|(names, _)| names.contains(&name)).map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn no_synonym_is_a_command_and_each_hint_names_one() {
        let cli = crate::cli::Cli::command();
        for (names, hint) in SYNONYMS {
            let named =
                hint.strip_prefix("`cairn ").and_then(|h| h.split_once(' ')).map(|(c, _)| c.trim_end_matches('`'));
            assert!(named.is_some_and(|c| cli.find_subcommand(c).is_some()), "{hint}");
            for name in names {
                assert!(cli.find_subcommand(name).is_none(), "{name} is a command");
            }
        }
    }
}
