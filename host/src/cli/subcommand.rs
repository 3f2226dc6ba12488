//! Subcommands: what the program does besides the classic commands.
//!
//! They exist under any name but `conntrack`, and only as the first word of the command line. The classic program
//! ignores words that are no options, so that only a word which is exactly a subcommand's name counts as one.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{CommandFactory as _, Parser, error::ErrorKind};

use super::error::CliError;
use super::settings::Invocation;

/// The program as clap sees it when the first word is a subcommand. Without documentation, which would become its help.
#[derive(Debug, Parser)]
#[command(about = "The programmable command line of connection tracking; flowgate -h explains the classic commands")]
struct Program {
    #[command(subcommand)]
    subcommand: Subcommand,
}

/// A subcommand. The comments are its help.
#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand)]
pub enum Subcommand {
    /// Print the script that completes command lines in a shell
    #[command(after_help = "Examples:\n  source <(flowgate completions bash)\n  \
        flowgate completions zsh > /usr/local/share/zsh/site-functions/_flowgate\n  \
        flowgate completions fish > ~/.config/fish/completions/flowgate.fish\n  \
        flowgate completions bash --name conntrack")]
    Completions {
        /// The shell
        shell: Shell,
        /// The name that the program is called by; for conntrack the script has the classic options only
        #[arg(long, default_value = "flowgate", value_parser = program_name, value_hint = clap::ValueHint::Other)]
        name: String,
    },
    /// Print the manual page, in roff
    #[command(after_help = "Example:\n  flowgate man | man -l -")]
    Man,
    /// Run the pipeline that a file describes
    #[command(after_help = "Examples:\n  flowgate run heavy.toml\n  flowgate run heavy.toml --check\n  \
        flowgate run heavy.toml --explain -o json")]
    Run(RunOptions),
}

/// What `run` is told. The comments are its help.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct RunOptions {
    /// The pipeline file
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
    /// Look for mistakes, all of them, and run nothing
    #[arg(long)]
    pub check: bool,
    /// Tell what would run, and run nothing
    #[arg(long, conflicts_with = "check")]
    pub explain: bool,
    /// The form of --explain
    #[arg(short = 'o', long, requires = "explain", default_value = "text")]
    pub output: Form,
    /// Print what would be done to the table as command lines, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// At the end tell what each component did; SIGUSR1 tells it at any time
    #[arg(long)]
    pub plugin_stats: bool,
}

/// A form of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// For people
    Text,
    /// For programs
    Json,
}

/// A shell that command lines can be completed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// GNU bash, 4 or later is best
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// A subcommand, for help and manual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synopsis {
    /// Name, arguments and options, as in `man`.
    pub usage: String,
    /// One line for people.
    pub help: String,
    /// Arguments and options, each with its help.
    pub arguments: Vec<(String, String)>,
}

/// All subcommands but `help`.
pub fn synopses() -> Vec<Synopsis> {
    let text = |styled: Option<&clap::builder::StyledStr>| styled.map(ToString::to_string).unwrap_or_default();
    let synopsis = |command: &clap::Command| {
        let arguments: Vec<(String, String)> =
            command.get_arguments().map(|argument| (name(argument), text(argument.get_help()))).collect();
        let usage = command.get_arguments().fold(command.get_name().to_owned(), |usage, argument| {
            let name = name(argument);
            if argument.is_required_set() { format!("{usage} {name}") } else { format!("{usage} [{name}]") }
        });
        Synopsis { usage, help: text(command.get_about()), arguments }
    };
    Program::command().get_subcommands().map(synopsis).collect()
}

/// `--name NAME`, or for an argument its values, as in `bash|zsh|fish`.
fn name(argument: &clap::Arg) -> String {
    let values = argument.get_possible_values();
    let value = match argument.get_value_names() {
        _ if !values.is_empty() => {
            values.iter().map(clap::builder::PossibleValue::get_name).collect::<Vec<_>>().join("|")
        }
        Some(names) => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        None => argument.get_id().as_str().to_ascii_uppercase(),
    };
    match argument.get_long() {
        Some(long) if !argument.get_action().takes_values() => format!("--{long}"),
        Some(long) => format!("--{long} {value}"),
        None => value,
    }
}

/// Adds the subcommands to a definition of the command line.
pub fn add_to(command: clap::Command) -> clap::Command {
    <Subcommand as clap::Subcommand>::augment_subcommands(command)
}

/// Whether a word is a subcommand's name.
fn is_subcommand(word: &OsStr) -> bool {
    word == "help" || Program::command().find_subcommand(word).is_some()
}

/// Reads a command line whose first word is a subcommand; `None` for any other. `help` alone is left to the caller too:
/// it means `-h`.
pub fn parse(program: &OsStr, arguments: &[OsString]) -> Option<Result<Invocation, CliError>> {
    let first = arguments.first()?;
    if first.as_encoded_bytes().starts_with(b"-") || !is_subcommand(first) || is_help(arguments) {
        return None;
    }
    let words = std::iter::once(program.to_os_string()).chain(arguments.iter().cloned());
    Some(match Program::try_parse_from(words) {
        Ok(program) => Ok(Invocation::Subcommand(program.subcommand)),
        Err(error) => {
            let text = error.render().to_string();
            let help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            if help { Ok(Invocation::Text(text)) } else { Err(CliError::Subcommand(text)) }
        }
    })
}

/// Whether the command line is the word `help` alone.
pub fn is_help(arguments: &[OsString]) -> bool {
    matches!(arguments, [word] if word == "help")
}

/// A name that can stand in a script as it is.
fn program_name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if text.is_empty() || text.starts_with('-') || !text.bytes().all(plain) {
        return Err("a name consists of letters, digits, '-', '_' and '.'".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Result<Invocation, CliError>> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        parse(OsStr::new("/usr/bin/flowgate"), &words)
    }

    fn subcommand(line: &str) -> Subcommand {
        match read(line) {
            Some(Ok(Invocation::Subcommand(subcommand))) => subcommand,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn error(line: &str) -> CliError {
        match read(line) {
            Some(Err(error)) => error,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn text(line: &str) -> String {
        match read(line) {
            Some(Ok(Invocation::Text(text))) => text,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn subcommands_are_typed() {
        let name = || "flowgate".to_owned();
        assert_eq!(subcommand("completions zsh"), Subcommand::Completions { shell: Shell::Zsh, name: name() });
        let classic = Subcommand::Completions { shell: Shell::Bash, name: "conntrack".to_owned() };
        assert_eq!(subcommand("completions --name conntrack bash"), classic);
        assert_eq!(subcommand("man"), Subcommand::Man);
    }

    #[test]
    fn only_a_whole_name_at_the_front_counts() {
        for line in ["", "-L", "-L man", "ma", "mans", "complet bash", "foo man", "help", "--help"] {
            assert!(read(line).is_none(), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_by_name() {
        let wrong = error("completions nonsense");
        assert_eq!(wrong.status(), 2);
        let message = wrong.to_string();
        assert!(message.contains("invalid value 'nonsense' for '<SHELL>'"), "{message}");
        assert!(message.contains("[possible values: bash, zsh, fish]"), "{message}");
        assert!(error("completions").to_string().contains("<SHELL>"));
        assert!(error("completions bash --name a;b").to_string().contains("a;b"));
        assert!(error("man page").to_string().contains("'page'"));
    }

    #[test]
    fn subcommands_have_help() {
        assert!(text("completions --help").contains("Usage: flowgate completions [OPTIONS] <SHELL>"));
        assert_eq!(text("help completions"), text("completions --help"));
        assert!(text("man -h").contains("flowgate man | man -l -"));
        let synopses = synopses();
        assert_eq!(synopses[0].usage, "completions bash|zsh|fish [--name NAME]");
        assert_eq!(synopses[1].usage, "man");
        let run = "run FILE [--check] [--explain] [--output text|json] [--dry-run] [--plugin-stats]";
        assert_eq!(synopses[2].usage, run);
        assert!(synopses.iter().all(|synopsis| !synopsis.help.is_empty()));
    }
}
