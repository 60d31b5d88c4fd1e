//! `cairn alias` and `cairn unalias`

use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::Context;
use cairn::catalog::alias::{self as aliases, Expected};
use cairn::error::{Error, Result};
use cairn::internals::catalog::artifact;
use cairn::types::{AliasName, ArtifactName, VersionNumber};
use clap::Args;
use serde_json::json;

/// `cairn alias`
#[derive(Args, Debug)]
pub struct AliasArgs {
    /// The version
    #[arg(value_name = "NAME[:V]")]
    pub version: String,
    /// The aliases to point at it
    #[arg(required = true, value_name = "ALIAS")]
    pub aliases: Vec<String>,
    /// Move the alias only if it points at this version; none: only if it does not exist
    #[arg(long, value_name = "vN|none")]
    pub expect: Option<String>,
}

/// The text of `--help`.
pub const ALIAS_HELP: Help = Help {
    description: &["An alias is a name for one version of an artifact. It can be moved to another version at any \
         time. `latest` always names the newest version and cannot be moved. An alias has 1 to 128 bytes, no / and \
         no :, does not begin with . or -, and does not look like a version number. Tags (`cairn tag`) do not name a \
         version."],
    examples: &[
        ("cairn alias model:v7 prod", "prod now names v7"),
        ("cairn alias model prod best", "the newest version"),
        ("cairn alias model:v7 prod --expect v6", "only if prod names v6"),
        ("cairn alias model:v7 prod --expect none", "only if there is no prod"),
    ],
    exit: &[(3, "the alias does not point at the version of --expect, or it was moved at the same time")],
    json: "{\"artifact\", \"version\", \"aliases\", \"from\"}\nfrom has where each alias pointed before, or null.",
    list: None,
};

/// `cairn unalias`
#[derive(Args, Debug)]
pub struct UnaliasArgs {
    /// The artifact
    pub name: String,
    /// The aliases to remove
    #[arg(required = true, value_name = "ALIAS")]
    pub aliases: Vec<String>,
}

/// The text of `--help`.
pub const UNALIAS_HELP: Help = Help {
    description: &["The versions themselves are not touched. If one of the aliases does not exist, none is removed."],
    examples: &[("cairn unalias model prod", ""), ("cairn unalias model prod best", "")],
    exit: &[],
    json: "{\"artifact\", \"aliases\"}",
    list: None,
};

/// Moves aliases to a version.
pub fn alias(context: &mut Context, args: AliasArgs) -> CommandResult {
    let names = parse(&args.aliases)?;
    let expected = args.expect.as_deref().map_or(Ok(Expected::Any), expected)?;
    let version = context.version(&args.version)?;
    let mut from = Vec::new();
    for name in &names {
        from.push(aliases::set(version.store(), version.artifact(), name, expected, Some(version.number()))?);
    }
    if context.json() {
        context.out.json(&json!({
            "artifact": version.artifact(), "version": version.number(), "aliases": names, "from": from,
        }))?;
        return Ok(0);
    }
    for name in &names {
        context.out.line(&format!("{}:{name} -> {}", version.artifact(), version.number()))?;
    }
    context.out.flush()?;
    for (name, from) in names.iter().zip(from).filter_map(|(name, from)| Some((name, from?))) {
        let kept = if from == version.number() { "points there already" } else { "pointed" };
        let at = if from == version.number() { String::new() } else { format!(" at {from} before") };
        context.status(&format!("{name} {kept}{at}"));
    }
    Ok(0)
}

/// Removes aliases.
pub fn unalias(context: &mut Context, args: UnaliasArgs) -> CommandResult {
    let artifact = ArtifactName::parse(&args.name)?;
    let names = parse(&args.aliases)?;
    let store = context.store()?;
    if artifact::find(&store, &artifact)?.is_none() {
        store.versions(artifact.as_str())?; // the error for an artifact that does not exist
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

fn parse(names: &[String]) -> Result<Vec<AliasName>> {
    names.iter().map(|name| AliasName::parse(name)).collect()
}

fn expected(text: &str) -> Result<Expected> {
    if text == "none" {
        return Ok(Expected::Exactly(None));
    }
    VersionNumber::parse(text).map(|n| Expected::Exactly(Some(n))).map_err(|_| {
        Error::usage(format!("--expect `{text}` is neither a version number nor none"))
            .with_hint("for example --expect v6")
    })
}
