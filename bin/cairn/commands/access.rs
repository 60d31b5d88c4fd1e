//! `cairn access`

use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::Context;
use cairn::Store;
use cairn::error::show_path;
use cairn::internals::access::{AccessReport, StoreRights, Walk, correct, rights, share};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;

/// `cairn access`
#[derive(Args, Debug)]
pub struct AccessArgs {
    /// Let every member of this group of users write to everything in the store, now and later
    #[arg(long, value_name = "GROUP", conflicts_with_all = ["check", "fix"])]
    pub group: Option<String>,
    /// List files whose owner, group or mode does not match the store's directory; change nothing
    #[arg(long, conflicts_with = "fix")]
    pub check: bool,
    /// Give them the owner, group and mode that match the store's directory
    #[arg(long)]
    pub fix: bool,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "Without options, prints who may read and write the store. The owner, group and mode of the store's directory \
         decide; new files in the store get matching ones, whatever the umask of the user who makes them.",
        "Files that were made otherwise (by an earlier release, a copying tool, a chmod) are found with --check and \
         corrected with --fix. To change who may use a store without a group, chmod its directory, then use --fix. \
         Staging directories belong to the users of their runs and are left alone.",
        "--group and --fix need the owner of the files, or root. If they are interrupted, run the command again: it \
         changes only what is still to be changed.",
    ],
    examples: &[
        ("cairn access", "who may use the store"),
        ("cairn access --group lab", "every member of group lab may write"),
        ("cairn access --fix", "after a chmod of the store's directory"),
    ],
    exit: &[(1, "--check found something, or this user may not correct all of it")],
    json: "{\"owner\", \"group\", \"mode\", \"shared_with\", \"may_read\", \"may_write\"}; after a walk also \
           {\"checked\", \"wrong\", \"examples\", \"refused\", \"refused_examples\", \"refused_owners\", \"at_work\"}",
    list: None,
};

/// Shows or changes who may use the store.
pub fn run(context: &mut Context, args: AccessArgs) -> CommandResult {
    let mut store = context.store()?;
    if let Some(group) = &args.group {
        share(&store, group)?;
        store = Store::open(store.root())?;
    }
    let walk = match (args.check, args.fix || args.group.is_some()) {
        (_, true) => Some(Walk::Fix),
        (true, false) => Some(Walk::Check),
        (false, false) => None,
    };
    let found = match walk {
        Some(walk) => {
            let bar = context.bar("access");
            context.if_interrupted("run the command again: it continues with what is still to be changed");
            Some((walk, correct(&store, walk, &bar.progress())?))
        }
        None => None,
    };
    let rights = rights(&store)?;
    if context.json() {
        context.out.json(&as_json(&rights, found.as_ref().map(|(_, report)| report)))?;
    } else {
        for line in rights_lines(&store, &rights) {
            context.out.line(&line)?;
        }
        for line in found.iter().flat_map(|(walk, report)| report_lines(*walk, report)) {
            context.out.line(&line)?;
        }
    }
    let Some((walk, report)) = found else { return Ok(0) };
    warn(context, &report);
    Ok(u8::from(report.refused > 0 || walk == Walk::Check && report.wrong > 0))
}

fn warn(context: &mut Context, report: &AccessReport) {
    if report.refused > 0 {
        let owners: Vec<_> = report.refused_owners.iter().map(String::as_str).collect();
        let names = paths(&report.refused_examples).join(", ");
        context.warn(&format!(
            "{} files or directories of {} could not be corrected: {names}; their owners or root must run \
             `cairn access --fix`",
            report.refused,
            owners.join(", ")
        ));
    }
    if !report.at_work.is_empty() {
        context.warn(&format!(
            "{} processes use the store and may still make files by the earlier rules; run the command again when they \
             have ended (`cairn locks` lists them)",
            report.at_work.len()
        ));
    }
}

fn rights_lines(store: &Store, rights: &StoreRights) -> Vec<String> {
    let StoreRights { owner, group, mode, .. } = rights;
    let who = |bit: u32| match (mode & bit, mode & bit >> 3) {
        (_, 1..) => "every user".to_owned(),
        (1.., 0) => format!("{owner}, members of {group}"),
        (0, 0) => owner.clone(),
    };
    let you = match (rights.may_read, rights.may_write) {
        (_, true) => "may read and write",
        (true, false) => "may read",
        (false, false) => "may neither read nor write",
    };
    vec![
        format!("store  {}", show_path(store.root())),
        format!("owner  {owner}"),
        format!("group  {group}"),
        format!("mode   {mode:04o}"),
        format!("read   {}", who(0o040)),
        format!("write  {}", who(0o020)),
        format!("you    {you}"),
    ]
}

fn report_lines(walk: Walk, report: &AccessReport) -> Vec<String> {
    let AccessReport { checked, wrong, refused, .. } = report;
    match walk {
        Walk::Check => {
            let mut lines = vec![format!(
                "{wrong} of {checked} files and directories have an owner, group or mode other than the store's \
                 directory asks for"
            )];
            lines.extend(paths(&report.examples).into_iter().map(|path| format!("  {path}")));
            if *wrong > report.examples.len() as u64 {
                lines.push(format!("  and {} more", wrong - report.examples.len() as u64));
            }
            lines
        }
        Walk::Fix => {
            vec![format!("{} of {checked} files and directories were corrected", wrong.saturating_sub(*refused))]
        }
    }
}

fn paths(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| show_path(path)).collect()
}

fn as_json(rights: &StoreRights, report: Option<&AccessReport>) -> Value {
    let mut out = json!({
        "owner": rights.owner,
        "group": rights.group,
        "mode": format!("{:04o}", rights.mode),
        "shared_with": rights.shared_with,
        "may_read": rights.may_read,
        "may_write": rights.may_write,
    });
    if let (Some(report), Some(fields)) = (report, out.as_object_mut()) {
        fields.insert("checked".into(), report.checked.into());
        fields.insert("wrong".into(), report.wrong.into());
        fields.insert("examples".into(), paths(&report.examples).into());
        fields.insert("refused".into(), report.refused.into());
        fields.insert("refused_examples".into(), paths(&report.refused_examples).into());
        fields.insert("refused_owners".into(), report.refused_owners.iter().cloned().collect::<Vec<_>>().into());
        fields.insert("at_work".into(), json!(report.at_work));
    }
    out
}
