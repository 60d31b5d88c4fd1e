//! The form of help: `-h` is one screen; `--help` adds a description, examples, exit statuses and JSON. Each command
//! keeps its texts next to its arguments; the manual pages are made of the same texts. cairnfs uses this module too.

use clap::Command;

/// What `--help` and the manual page say beyond the list of arguments.
#[derive(Clone, Copy, Debug)]
pub struct Help {
    /// Paragraphs; each is wrapped as a whole.
    pub description: &'static [&'static str],
    /// Commands, and what each one does. They are never wrapped.
    pub examples: &'static [(&'static str, &'static str)],
    /// What an exit status means for this command, where that is more than the general meaning.
    pub exit: &'static [(u8, &'static str)],
    /// What `--json` prints; empty if the command has no JSON output.
    pub json: &'static str,
    /// A section of its own: its title, and terms with their meaning.
    pub list: Option<(&'static str, &'static [(&'static str, &'static str)])>,
}

/// Commands that belong together: a title, and their names.
pub type Group = (&'static str, &'static [&'static str]);

/// The general meaning of each exit status, except 1, which only some commands have.
const EXIT: [(u8, &str); 6] = [
    (0, "done"),
    (2, "wrong usage or bad input"),
    (3, "refused: something is in the way, such as a conflict, a lock, an alias or a file; the error names it"),
    (4, "the store is damaged: `cairn verify` lists what is damaged"),
    (5, "a read or a write failed, permission is missing, or a source changed while it was read"),
    (6, "not found: an artifact, a version, a path or a source"),
];

/// A blank inside an example: nothing breaks a line there. [`finish`] makes it a common blank again.
const NO_BREAK: &str = "\u{a0}";

impl Help {
    /// The exit statuses with their meaning here.
    pub fn exit_statuses(&self) -> Vec<(u8, &'static str)> {
        let mut all: Vec<_> =
            EXIT.into_iter().filter(|(code, _)| self.exit.iter().all(|(own, _)| own != code)).collect();
        all.extend(self.exit);
        all.sort_by_key(|(code, _)| *code);
        all
    }

    /// Gives `command`, called by `name`, its long help, for a terminal with `width` columns.
    pub fn dress(&self, command: Command, name: &str, width: usize) -> Command {
        let example = self.examples.first().map_or("", |(example, _)| example);
        let short = format!("Example:\n  {}\n\n`{name} --help` says more.", unbroken(example));
        let long_about = self.long_about(&command);
        command.long_about(long_about).after_help(short).after_long_help(self.after(width))
    }

    fn long_about(&self, command: &Command) -> String {
        let summary = command.get_about().map(ToString::to_string).unwrap_or_default();
        self.description.iter().fold(summary, |text, paragraph| text + "\n\n" + paragraph)
    }

    fn after(&self, width: usize) -> String {
        let mut text = String::new();
        if let Some((title, list)) = self.list {
            let list = list.iter().map(|(term, meaning)| ((*term).to_owned(), *meaning));
            text += &format!("{title}:\n{}\n", terms(list, width));
        }
        text += &format!("Examples:\n{}\nExit status:\n", examples(self.examples, width));
        let statuses = self.exit_statuses();
        text += &terms(statuses.iter().map(|(code, meaning)| (code.to_string(), *meaning)), width);
        if !self.json.is_empty() {
            text += "\nJSON:\n";
            self.json.lines().for_each(|line| text += &format!("  {line}\n"));
        }
        text
    }
}

/// Terms longer than this leave too little room for a second column.
const LONGEST_TERM: usize = 20;

/// Terms in a column, and their meanings wrapped in another; long terms on lines of their own above their meanings.
fn terms<'a>(all: impl Iterator<Item = (String, &'a str)>, width: usize) -> String {
    let all: Vec<_> = all.collect();
    let longest = all.iter().map(|(term, _)| term.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (term, meaning) in all {
        let mut line = format!("  {term:<longest$}  ");
        if longest > LONGEST_TERM {
            text += &unbroken(&format!("  {term}\n"));
            line = " ".repeat(6);
        }
        let indent = line.len();
        for word in meaning.split(' ') {
            if line.len() + word.len() > width && line.trim_end().len() > indent {
                text += &unbroken(line.trim_end());
                text.push('\n');
                line = " ".repeat(indent);
            }
            line += word;
            line.push(' ');
        }
        text += &unbroken(line.trim_end());
        text.push('\n');
    }
    text
}

/// A command and its comment on one line if all of them fit, else the comment above its command.
fn examples(all: &[(&str, &str)], width: usize) -> String {
    let chars = |text: &str| text.chars().count();
    let longest = all.iter().filter(|(_, does)| !does.is_empty()).map(|(command, _)| chars(command)).max().unwrap_or(0);
    let fits = all.iter().all(|(_, does)| 2 + longest + 4 + chars(does) <= width);
    let mut text = String::new();
    for (command, does) in all {
        let shown = unbroken(command);
        text += &match (does.is_empty(), fits) {
            (true, _) => format!("  {shown}\n"),
            (false, true) => {
                format!("  {shown}{}{}\n", NO_BREAK.repeat(longest - chars(command)), unbroken(&format!("  # {does}")))
            }
            (false, false) => format!("  #{NO_BREAK}{does}\n  {shown}\n"),
        };
    }
    text
}

fn unbroken(text: &str) -> String {
    text.replace(' ', NO_BREAK)
}

/// A help text as it is printed: without what only kept clap from breaking lines.
pub fn finish(text: &str) -> String {
    let text = text.replace(NO_BREAK, " ");
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Gives the command line and each command below it their help.
pub fn dress(mut cli: Command, own: &Help, groups: &[Group], help_of: fn(&str) -> Option<&'static Help>) -> Command {
    let width = width();
    let after = Help { list: None, ..*own }.after(width);
    let begin = format!("{after}\n`cairn COMMAND --help` describes a command and shows examples.");
    let about = own.long_about(&cli);
    let page = front_page(&cli, own, groups, width);
    cli = cli.term_width(width).help_template(page).after_help(begin).after_long_help(after).long_about(about);
    let names: Vec<String> = cli.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    for name in names {
        cli = cli.mut_subcommand(&name, |sub| dress_below(sub, &name, width, help_of));
    }
    cli
}

/// The template of `cairn --help`: the terms, then the commands by groups. clap knows no groups of commands.
fn front_page(cli: &Command, own: &Help, groups: &[Group], width: usize) -> String {
    let header = *cli.get_styles().get_header();
    let heading = |title: &str| format!("\n{header}{title}:{header:#}\n");
    let mut page = "{about-with-newline}\n{usage-heading} {usage}\n".to_owned();
    if let Some((title, list)) = own.list {
        page += &heading(title);
        page += &terms(list.iter().map(|(term, meaning)| ((*term).to_owned(), *meaning)), width);
    }
    let longest = groups.iter().flat_map(|(_, names)| *names).map(|name| name.len()).max().unwrap_or(0);
    for (title, names) in groups {
        page += &heading(title);
        let about = |name: &str| cli.find_subcommand(name).and_then(Command::get_about).map(ToString::to_string);
        let all: Vec<_> = names.iter().map(|name| (format!("{name:<longest$}"), about(name))).collect();
        page += &terms(all.iter().map(|(name, about)| (name.clone(), about.as_deref().unwrap_or(HELP_ABOUT))), width);
    }
    page + &heading("Options") + "{options}{after-help}"
}

/// What the command `help` does, which clap makes.
const HELP_ABOUT: &str = "Print the help of a command";

fn dress_below(mut command: Command, path: &str, width: usize, help_of: fn(&str) -> Option<&'static Help>) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    for name in names {
        command = command.mut_subcommand(&name, |sub| dress_below(sub, &format!("{path} {name}"), width, help_of));
    }
    match help_of(path) {
        Some(help) => help.dress(command, &format!("cairn {path}"), width),
        None => command,
    }
}

/// Lines longer than this are hard to read.
const MAX_WIDTH: usize = 100;

/// The columns of the terminal, else of `COLUMNS`, at most [`MAX_WIDTH`].
pub fn width() -> usize {
    let from_environment = || std::env::var("COLUMNS").ok()?.parse::<usize>().ok();
    let columns = terminal_columns().or_else(from_environment).filter(|columns| *columns > 0);
    columns.unwrap_or(MAX_WIDTH).min(MAX_WIDTH)
}

fn terminal_columns() -> Option<usize> {
    [libc::STDOUT_FILENO, libc::STDERR_FILENO].into_iter().find_map(|fd| {
        // SAFETY: all zeroes is a valid winsize.
        let mut size: libc::winsize = unsafe { std::mem::zeroed() };
        // SAFETY: the call fills `size`, which outlives it.
        let result = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &mut size) };
        (result == 0).then_some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_on_the_line_of_its_example_only_if_all_fit() {
        let all = [("cairn a", "does a"), ("cairn long --option", "does more")];
        let wide = "  cairn a              # does a\n  cairn long --option  # does more\n";
        assert_eq!(finish(&examples(&all, 80)), wide);
        let narrow = "  # does a\n  cairn a\n  # does more\n  cairn long --option\n";
        assert_eq!(finish(&examples(&all, 30)), narrow);
    }
}
