//! `cairn restore`

use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::Context;
use cairn::Store;
use cairn::catalog::history::{self, Happening};
use cairn::catalog::{Selector, VersionSpec, alias};
use cairn::error::{Error, Kind, Result, shell_word, show_list};
use cairn::internals::catalog::removal;
use cairn::types::VersionNumber;
use clap::Args;
use serde_json::json;

/// `cairn restore`
#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// The removed version, by its number
    #[arg(value_name = "NAME:vN")]
    pub version: String,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "Brings back one version that `cairn rm` removed, with its annotations. That is possible until `cairn gc` has \
         freed content of it: by default 24 hours after the first gc that follows the removal, or later. Content that \
         is in the trash is put back into its place.",
        "If content was freed, nothing is changed, and the command lists the files that are lost. Aliases that \
         `cairn rm --force` removed are not set again. A version that is not removed stays as it is.",
        "Builds of cairn from before release 0.1.0 may not know this command. They show restored versions as removed, \
         and refuse to collect garbage in a store that has one. If such a build runs `cairn gc` on another host, end \
         it before the first restore in a store.",
    ],
    examples: &[("cairn restore images:v3", "after `cairn rm images:v3`")],
    exit: &[
        (3, "refused: the first restore in this store, and a garbage collection is at work"),
        (6, "there is no such version, or content of it was freed"),
    ],
    json: "{\"artifact\", \"version\", \"restored\"}\nrestored is false if the version was not removed.",
    list: None,
};

/// Brings a version back.
pub fn run(context: &mut Context, args: RestoreArgs) -> CommandResult {
    let spec = VersionSpec::parse(&args.version)?;
    let number = number(&spec)?;
    let store = context.store()?;
    let removed_at = removal::last_removal(&store, &spec.artifact, number).ok().flatten().map(|(at, _)| at);
    context.if_interrupted("the version is either restored or removed; run the command again");
    let (version, restored) = store.restore(spec.artifact.as_str(), number)?;
    if context.json() {
        let document = json!({ "artifact": version.artifact(), "version": number, "restored": restored });
        context.out.json(&document)?;
    } else {
        context.out.line(&version.to_string())?;
        context.out.flush()?;
    }
    if !restored {
        context.status("it is not removed; nothing was changed");
        return Ok(0);
    }
    let gone = removed_at.map(|at| removed_aliases(&store, &spec, number, &at)).transpose()?.unwrap_or_default();
    context.status(&if gone.is_empty() {
        "restored".to_owned()
    } else {
        format!(
            "restored; aliases that were removed with it are not set again: {} (`cairn alias {version} {}`)",
            show_list(&gone),
            gone.iter().map(shell_word).collect::<Vec<_>>().join(" ")
        )
    });
    Ok(0)
}

/// Aliases that pointed at the version, were removed when it was or later, and point at nothing now.
fn removed_aliases(store: &Store, spec: &VersionSpec, number: VersionNumber, since: &str) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for event in history::of(store, &spec.artifact, None)? {
        let event = match event {
            Err(e) if e.kind() == Kind::Damaged => continue,
            event => event?,
        };
        if event.at.as_str() < since {
            break;
        }
        let Happening::Alias { alias, from: Some(from), to: None } = event.what else { continue };
        if from == number && alias::get(store, &spec.artifact, &alias)?.is_none() {
            out.push(alias.to_string());
        }
    }
    out.sort();
    out.dedup();
    Ok(out)
}

fn number(spec: &VersionSpec) -> Result<VersionNumber> {
    match &spec.selector {
        Selector::Number(number) => Ok(*number),
        _ => Err(Error::usage(format!("`{spec}` does not name a removed version: that is named by its number"))
            .with_hint(format!("`cairn restore {0}:vN`; `cairn log {0}` lists what was removed", spec.artifact))),
    }
}
