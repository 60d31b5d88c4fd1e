//! `cairn demo`: runs the real commands on a real directory, each with an explanation.

use crate::errors::{CommandResult, Failure};
use crate::help::Help;
use crate::output::Context;
use crate::signals;
use cairn::error::{Error, Result, shell_path, show_path};
use clap::Args;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// `cairn demo`
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// The directory to work on; it is only read [default: cairn's own source tree]
    pub dir: Option<PathBuf>,
    /// Keep the store and the copies, and print where they are
    #[arg(long)]
    pub keep: bool,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &["Runs cairn's commands one after the other, with an explanation of each. Your directory is only \
         read. The store and all copies are in a temporary directory."],
    examples: &[
        ("cairn demo", "on cairn's own source tree"),
        ("cairn demo ~/photos --keep", "on this directory; the store is kept"),
    ],
    exit: &[],
    json: "",
    list: None,
};

/// The demo's files if there is no source tree.
const SAMPLE: [(&str, &str); 4] = [
    ("README.md", "# A sample\n\nMade by `cairn demo`.\n"),
    ("data/numbers.csv", "n,square\n1,1\n2,4\n3,9\n"),
    ("data/words.txt", "cairn\nstone\npath\n"),
    ("src/main.py", "print('hello')\n"),
];

/// A running demo.
struct Demo {
    program: PathBuf,
    store: PathBuf,
    mounted: Option<PathBuf>,
    quiet: bool,
}

/// Runs the demo.
pub fn run(context: &mut Context, args: DemoArgs) -> CommandResult {
    if context.json() {
        return Err(Error::usage("the demo has no JSON output").with_hint("omit --json").into());
    }
    let program = std::env::current_exe().map_err(|e| Error::io("find", Path::new("cairn's own program"), e))?;
    signals::install_handlers(); // so that it can unmount and clean up
    let scratch = tempfile::Builder::new()
        .prefix("cairn-demo-")
        .tempdir()
        .map_err(|e| Error::io("make a directory in", &std::env::temp_dir(), e))?;
    let mut demo = Demo { program, store: scratch.path().join("store"), mounted: None, quiet: context.global.quiet };
    let result = play(context, &mut demo, &args, scratch.path());
    if let Some(mnt) = demo.mounted.take() {
        let _ = demo.command(&[&"umount", &mnt]).stdout(Stdio::null()).status(); // it may be unmounted already
    }
    if args.keep {
        let kept = scratch.keep();
        context.status(&format!("\nKept: {} (try: export CAIRN_STORE={}/store)", show_path(&kept), show_path(&kept)));
    }
    match (result, signals::received()) {
        (Err(Failure::Failed(_)), Some(status)) => {
            context.status("\ninterrupted: everything of the demo was cleaned up");
            Ok(status)
        }
        (other, _) => other,
    }
}

fn play(context: &mut Context, demo: &mut Demo, args: &DemoArgs, scratch: &Path) -> CommandResult {
    let source = source(args, scratch)?;
    let (copy, mnt, out) = (scratch.join("work"), scratch.join("mnt"), scratch.join("out"));
    let then = if args.keep { "kept" } else { "removed afterwards" };
    explain(
        context,
        &format!("This is cairn, on {} (only read) and in {} ({then}).", show_path(&source), show_path(scratch)),
    )?;

    explain(context, "1. A store is a directory. `init` makes one; CAIRN_STORE says where it is from now on.")?;
    let store = demo.store.clone();
    demo.run(context, &[&"init", &store])?;

    explain(context, "2. `put` makes a version of a directory: each file is read once, hashed, and stored once.")?;
    demo.run(context, &[&"put", &"demo", &source, &"--skip-special", &"--description", &"as found"])?;

    explain(
        context,
        "3. Put the same directory again: nothing has changed, so no version is made. Files that look unchanged are \
         not read again.",
    )?;
    demo.run(context, &[&"put", &"demo", &source, &"--skip-special"])?;

    explain(context, "4. List what is in the store now.")?;
    demo.run(context, &[&"list"])?;
    demo.run(context, &[&"ls", &"demo"])?;

    explain(
        context,
        "5. In a copy of it, one file is added, one is removed and one is changed. `diff` shows what a put of the \
         copy would change.",
    )?;
    demo.run(context, &[&"get", &"demo", &copy])?;
    change(context, &copy)?;
    demo.run_differing(context, &[&"diff", &"demo", &copy])?;

    explain(context, "6. The next version. What it shares with the first is not stored again.")?;
    demo.run(context, &[&"put", &"demo", &copy, &"--alias", &"best", &"--tag", &"changed"])?;
    demo.run(context, &[&"list", &"demo"])?;

    explain(
        context,
        "7. `patch` makes the next version from the changes alone; its cost does not depend on the size of the \
         version. Here two patches are based on the same version: the second is rebased on the first.",
    )?;
    patch_twice(context, demo, scratch)?;

    explain(
        context,
        "8. Several runs make one version together. Three contribute their files under one id: two at the same time, \
         the third by copying files into a staging directory. A fourth finishes the draft; then its id is closed.",
    )?;
    together(context, demo, scratch)?;

    explain(context, "9. A version can be mounted as a directory: nothing is copied, and it is read-only.")?;
    mount(context, demo, &mnt, &copy)?;

    explain(context, "10. `verify` reads and hashes the whole store again.")?;
    demo.run(context, &[&"verify"])?;

    explain(context, "11. The first version is unchanged. `get` writes it out, and `diff` finds nothing.")?;
    demo.run(context, &[&"get", &"demo:v0", &out])?;
    demo.run(context, &[&"diff", &"demo:v0", &out, &"--stat"])?;
    explain(
        context,
        "That is the end of the demo. To begin, run `cairn init` and `cairn put NAME DIR`; the --help of each command \
         has examples.",
    )?;
    Ok(0)
}

/// Two patches of one version, each from a file of its own.
fn patch_twice(context: &mut Context, demo: &mut Demo, scratch: &Path) -> std::result::Result<(), Failure> {
    let (one, two) = (scratch.join("monday.log"), scratch.join("tuesday.log"));
    shell(context, &format!("echo monday > {}; echo tuesday > {}", quoted(&one), quoted(&two)))?;
    demo.run(context, &[&"patch", &"demo:v1", &one, &"--at", &"log"])?;
    demo.run(context, &[&"patch", &"demo:v1", &two, &"--at", &"log"])?;
    demo.run_differing(context, &[&"diff", &"demo:v1", &"demo"])
}

/// Three processes contribute at once, one finishes; a late one is refused.
fn together(context: &mut Context, demo: &mut Demo, scratch: &Path) -> std::result::Result<(), Failure> {
    let mut parts = Vec::new();
    for n in 1..=3 {
        let file = scratch.join(format!("image{n}.png"));
        write(&file, &format!("pixels of image {n}\n"))?;
        parts.push((file, format!("run-{n}")));
    }
    let mut children = Vec::new();
    let by_copying = can_mount().is_ok();
    for (file, run) in &parts[..if by_copying { 2 } else { 3 }] {
        let arguments: [&dyn AsRef<OsStr>; 7] =
            [&"upsert", &"gallery", file, &"--run", run, &"--distributed-id", &"my_dist_artifact"];
        context.out.line(&format!("   $ {} &", line(&arguments)))?;
        context.out.flush()?;
        children.push((
            arguments,
            demo.command(&arguments)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .map_err(|e| Error::io("run", &demo.program, e))?,
        ));
    }
    // The output of each process is shown as a whole.
    for (arguments, child) in children {
        let output = child.wait_with_output().map_err(|e| Error::io("wait for", &demo.program, e))?;
        context.out.bytes(&output.stdout)?;
        context.out.flush()?;
        context.status(String::from_utf8_lossy(&output.stderr).trim_end());
        if !output.status.success() {
            return Err(failed(&arguments, output.status.code().unwrap_or(130)));
        }
    }
    if by_copying {
        let (file, run) = &parts[2];
        copy_in(context, demo, &scratch.join("staging"), file, run)?;
    }
    demo.run(context, &[&"drafts"])?;
    demo.run(context, &[&"finish", &"gallery", &"--distributed-id", &"my_dist_artifact", &"--expect", &"3"])?;
    demo.run(context, &[&"ls", &"gallery"])?;
    let (late, run) = &parts[0];
    match demo
        .try_run(context, &[&"upsert", &"gallery", late, &"--run", run, &"--distributed-id", &"my_dist_artifact"])?
    {
        3 => Ok(()),
        status => Err(failed(&[&"upsert", &"gallery"], status)),
    }
}

/// A run that uses no cairn command copies its files into a staging directory.
fn copy_in(
    context: &mut Context,
    demo: &mut Demo,
    mnt: &Path,
    file: &Path,
    run: &str,
) -> std::result::Result<(), Failure> {
    std::fs::create_dir(mnt).map_err(|e| Error::io("create directory", mnt, e))?;
    demo.mounted = Some(mnt.to_path_buf());
    demo.run(
        context,
        &[&"mount", &mnt, &"gallery", &"--stage", &"--distributed-id", &"my_dist_artifact", &"--run", &run],
    )?;
    shell(context, &format!("cp {} {}", quoted(file), quoted(mnt)))?;
    demo.run(context, &[&"umount", &mnt])?;
    demo.mounted = None;
    Ok(())
}

/// Checks that this machine lets us mount at all.
fn can_mount() -> std::io::Result<()> {
    std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").map(drop)
}

/// Mounts the newest version, reads it through the mount, compares, unmounts.
fn mount(context: &mut Context, demo: &mut Demo, mnt: &Path, copy: &Path) -> std::result::Result<(), Failure> {
    let quoted_mnt = quoted(mnt);
    if let Err(e) = can_mount() {
        return explain(
            context,
            &format!(
                "   Not here: /dev/fuse cannot be used: {e}. On a machine where it can: cairn mount {quoted_mnt} \
                 demo:best"
            ),
        );
    }
    std::fs::create_dir(mnt).map_err(|e| Error::io("create directory", mnt, e))?;
    demo.mounted = Some(mnt.to_path_buf());
    if demo.try_run(context, &[&"mount", &mnt, &"demo:best"])? != 0 {
        demo.mounted = None;
        return explain(context, "   Mounting is not possible here (see above); the demo continues without it.");
    }
    shell(context, &format!("ls {quoted_mnt}"))?;
    shell(
        context,
        &format!(
            "diff -r --no-dereference {} {quoted_mnt} && echo 'the mount shows exactly what was put'",
            quoted(copy)
        ),
    )?;
    demo.run(context, &[&"umount", &mnt])?;
    demo.mounted = None;
    Ok(())
}

/// The directory to work on: the given one, else cairn's sources above the current directory, else the sources it was
/// built from, else a sample.
fn source(args: &DemoArgs, scratch: &Path) -> Result<PathBuf> {
    if let Some(dir) = &args.dir {
        if !dir.is_dir() {
            return Err(Error::not_found(format!("{} is not a directory", show_path(dir))));
        }
        return std::path::absolute(dir).map_err(|e| Error::io("find", dir, e));
    }
    let here = std::env::current_dir().unwrap_or_default();
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_ours =
        |dir: &Path| std::fs::read_to_string(dir.join("Cargo.toml")).is_ok_and(|t| t.contains("name = \"cairn\""));
    if let Some(root) = here.ancestors().chain([built_from]).find(|d| is_ours(d)) {
        return Ok(root.join("src"));
    }
    let sample = scratch.join("sample");
    for (path, text) in SAMPLE {
        write(&sample.join(path), text)?;
    }
    Ok(sample)
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|e| Error::io("create directory", parent, e))?;
    }
    std::fs::write(path, text).map_err(|e| Error::io("write", path, e))
}

/// Three changes to the copy, each as a shell would make it.
fn change(context: &mut Context, copy: &Path) -> std::result::Result<(), Failure> {
    let mut files: Vec<PathBuf> = Vec::new();
    let entries = std::fs::read_dir(copy).map_err(|e| Error::io("list", copy, e))?;
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_file())) {
        files.push(entry.path());
    }
    files.sort();
    shell(context, &format!("echo 'a new file' > {}", quoted(copy.join("NEW.txt"))))?;
    if let Some(file) = files.first() {
        shell(context, &format!("echo '# one line more' >> {}", quoted(file)))?;
    }
    if let Some(file) = files.get(1) {
        shell(context, &format!("rm {}", quoted(file)))?;
    }
    Ok(())
}

fn explain(context: &mut Context, text: &str) -> std::result::Result<(), Failure> {
    if !context.global.quiet {
        context.out.line(&format!("\n{text}"))?;
    }
    context.out.flush()
}

/// An argument, quoted for a shell.
fn quoted(text: impl AsRef<OsStr>) -> String {
    shell_path(Path::new(text.as_ref()))
}

/// Shows and runs a line of shell.
fn shell(context: &mut Context, line: &str) -> std::result::Result<(), Failure> {
    context.out.line(&format!("   $ {line}"))?;
    context.out.flush()?;
    let status = Command::new("sh").args(["-c", line]).status().map_err(|e| Error::io("run", Path::new("sh"), e))?;
    if status.success() { Ok(()) } else { Err(Error::io_message(format!("`{line}` failed")).into()) }
}

impl Demo {
    fn command(&self, arguments: &[&dyn AsRef<OsStr>]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments.iter().map(|w| w.as_ref())).env("CAIRN_STORE", &self.store);
        for variable in ["CAIRN_RUN", "CAIRN_RUN_GROUP", "CAIRN_JOB_TYPE"] {
            command.env_remove(variable);
        }
        if self.quiet {
            command.arg("--quiet");
        }
        command
    }

    /// Shows and runs a command; its exit status.
    fn try_run(&self, context: &mut Context, arguments: &[&dyn AsRef<OsStr>]) -> std::result::Result<i32, Failure> {
        if signals::received().is_some() {
            return Err(Error::io_message("interrupted").into());
        }
        context.out.line(&format!("   $ {}", line(arguments)))?;
        context.out.flush()?;
        let status = self.command(arguments).status().map_err(|e| Error::io("run", &self.program, e))?;
        Ok(status.code().unwrap_or(130))
    }

    fn run(&self, context: &mut Context, arguments: &[&dyn AsRef<OsStr>]) -> std::result::Result<(), Failure> {
        match self.try_run(context, arguments)? {
            0 => Ok(()),
            status => Err(failed(arguments, status)),
        }
    }

    /// Runs `diff`, which may exit with 1 ("they differ").
    fn run_differing(
        &self,
        context: &mut Context,
        arguments: &[&dyn AsRef<OsStr>],
    ) -> std::result::Result<(), Failure> {
        match self.try_run(context, arguments)? {
            0 | 1 => Ok(()),
            status => Err(failed(arguments, status)),
        }
    }
}

fn line(arguments: &[&dyn AsRef<OsStr>]) -> String {
    let arguments: Vec<String> = arguments.iter().map(quoted).collect();
    format!("cairn {}", arguments.join(" "))
}

fn failed(arguments: &[&dyn AsRef<OsStr>], status: i32) -> Failure {
    Error::io_message(format!("`{}` ended with status {status}", line(arguments)))
        .with_hint("its messages are above; the demo needs a readable directory, and space for two copies of it")
        .into()
}
