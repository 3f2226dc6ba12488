//! Subcommands: what the program does besides the classic commands.
//!
//! They exist under any name but `conntrack`, and only as the first word of the command line. The classic program
//! ignores words that are no options, so that only a word which is exactly a subcommand's name counts as one.

use std::ffi::{OsStr, OsString};

use clap::{CommandFactory as _, Parser, error::ErrorKind};

use super::error::CliError;
use super::plugin_command::PluginCommand;
use super::settings::Invocation;

/// The program as clap sees it when the first word is a subcommand. Without documentation, which would become its help.
#[derive(Debug, Parser)]
#[command(about = "The programmable command line of connection tracking; flowgate -h explains the classic commands")]
struct Program {
    #[command(subcommand)]
    subcommand: Subcommand,
}

/// A subcommand. The comments are its help.
#[derive(Debug, Clone, PartialEq, clap::Subcommand)]
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
    /// Write plugins: make a project, test it on fixtures, inspect it, measure it
    #[command(
        after_help = "Ten minutes to a tested filter:\n  flowgate plugin new no-telnet && cd no-telnet\n  make test\n  \
        $EDITOR src/lib.rs flows.txt\n  make bless && git diff\n\ndocs/PLUGINS.md of the source goes through it step by step."
    )]
    Plugin {
        /// What to do
        #[command(subcommand)]
        command: PluginCommand,
    },
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

/// All subcommands but `help`. Those that have subcommands of their own are represented by these.
pub fn synopses() -> Vec<Synopsis> {
    let mut all = Vec::new();
    collect("", &Program::command(), &mut all);
    all
}

/// Adds the subcommands of a command whose name is known by this beginning.
fn collect(beginning: &str, command: &clap::Command, all: &mut Vec<Synopsis>) {
    let text = |styled: Option<&clap::builder::StyledStr>| styled.map(ToString::to_string).unwrap_or_default();
    for command in command.get_subcommands() {
        let name_of_it = format!("{beginning}{}", command.get_name());
        if command.has_subcommands() {
            collect(&format!("{name_of_it} "), command, all);
            continue;
        }
        let arguments: Vec<(String, String)> =
            command.get_arguments().map(|argument| (name(argument), text(argument.get_help()))).collect();
        let usage = command.get_arguments().fold(name_of_it, |usage, argument| {
            let name = name(argument);
            if argument.is_required_set() { format!("{usage} {name}") } else { format!("{usage} [{name}]") }
        });
        all.push(Synopsis { usage, help: text(command.get_about()), arguments });
    }
}

/// `--name NAME`, or for an argument its values, as in `bash|zsh|fish`.
fn name(argument: &clap::Arg) -> String {
    let values = argument.get_possible_values();
    let value = match argument.get_value_names() {
        _ if !values.is_empty() && argument.get_action().takes_values() => {
            values.iter().map(clap::builder::PossibleValue::get_name).collect::<Vec<_>>().join("|")
        }
        Some(names) => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        None => argument.get_id().as_str().to_ascii_uppercase(),
    };
    let takes_value = argument.get_action().takes_values();
    match argument.get_long() {
        Some(long) if !takes_value => format!("--{long}"),
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
    use super::super::plugin_command::Report;
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
        let inspect = PluginCommand::Inspect { file: "a.wasm".into(), output: Report::Json };
        assert_eq!(subcommand("plugin inspect a.wasm -o json"), Subcommand::Plugin { command: inspect });
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
        assert!(error("plugin new x --lang cobol").to_string().contains("[possible values: "));
        assert!(error("plugin bench x,y").to_string().contains("'y' in 'x,y'"));
        assert!(error("plugin bench x --batch 0").to_string().contains("0 is not in 1..=65536"));
    }

    #[test]
    fn subcommands_have_help() {
        assert!(text("completions --help").contains("Usage: flowgate completions [OPTIONS] <SHELL>"));
        assert_eq!(text("help completions"), text("completions --help"));
        assert!(text("man -h").contains("flowgate man | man -l -"));
        let synopses = synopses();
        assert_eq!(synopses[0].usage, "completions bash|zsh|fish [--name NAME]");
        assert_eq!(synopses[1].usage, "man");
        let of = |beginning: &str| {
            synopses.iter().find(|synopsis| synopsis.usage.starts_with(beginning)).expect("it is there")
        };
        assert!(of("plugin test").usage.contains("[--bless] [--output text|json]"), "{}", of("plugin test").usage);
        assert_eq!(of("plugin inspect").usage, "plugin inspect FILE [--output text|json]");
        assert!(synopses.iter().all(|synopsis| !synopsis.help.is_empty()));
    }
}
