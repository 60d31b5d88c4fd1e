//! `cairn alias` and `cairn unalias`

use crate::args::{Alias, Unalias};
use crate::errors::CommandResult;
use crate::output::Context;
use cairn::catalog::alias::{self as aliases, Expected};
use cairn::catalog::artifact;
use cairn::error::{Error, Result};
use cairn::types::{AliasName, ArtifactName, VersionNumber};
use serde_json::json;

/// Moves aliases to a version.
pub fn alias(context: &mut Context, args: Alias) -> CommandResult {
    let names = parse(&args.aliases)?;
    let expected = args.expect.as_deref().map_or(Ok(Expected::Any), expected)?;
    let version = context.version(&args.version)?;
    for name in &names {
        aliases::set(version.store(), version.artifact(), name, expected, Some(version.number()))?;
    }
    if context.json() {
        context.out.json(&json!({ "artifact": version.artifact(), "version": version.number(), "aliases": names }))?;
    } else {
        for name in &names {
            context.out.line(&format!("{}:{name} -> {}", version.artifact(), version.number()))?;
        }
    }
    Ok(0)
}

/// Takes aliases away.
pub fn unalias(context: &mut Context, args: Unalias) -> CommandResult {
    let artifact = ArtifactName::parse(&args.name)?;
    let names = parse(&args.aliases)?;
    let store = context.store()?;
    if artifact::find(&store, &artifact)?.is_none() {
        cairn::catalog::version::versions(&store, &artifact)?; // says that there is none, with the nearest names
    }
    for name in &names {
        if aliases::get(&store, &artifact, name)?.is_none() {
            return Err(Error::not_found(format!("there is no alias {name} of {artifact}"))
                .with_hint(format!("`cairn list {artifact}` shows them; nothing was changed"))
                .into());
        }
    }
    for name in &names {
        aliases::set(&store, &artifact, name, Expected::Any, None)?;
    }
    if context.json() {
        context.out.json(&json!({ "artifact": artifact, "aliases": names }))?;
    } else {
        for name in &names {
            context.out.line(&format!("{artifact}:{name}"))?;
        }
    }
    Ok(0)
}

fn parse(words: &[String]) -> Result<Vec<AliasName>> {
    words.iter().map(|w| AliasName::parse(w)).collect()
}

fn expected(word: &str) -> Result<Expected> {
    if word == "none" {
        return Ok(Expected::Exactly(None));
    }
    VersionNumber::from_text(word).map(|n| Expected::Exactly(Some(n))).ok_or_else(|| {
        Error::usage(format!("--expect `{word}` is neither a version number nor none"))
            .with_hint("for example --expect v6")
    })
}
