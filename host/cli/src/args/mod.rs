//! The whole command line: subcommands, which clap parses, and the classic command line, which the
//! [language](flowgate_syntax) parses.
//!
//! Under any name other than `conntrack` the program has [subcommands](subcommand). Their descriptions for help, manual
//! and completions are in `definition` and [`usage`].

mod bash;
mod completions;
mod definition;
#[cfg(feature = "fleet")]
pub mod fleet_command;
#[cfg(test)]
mod measures;
pub mod plugin_command;
pub mod policy_command;
#[cfg(feature = "fleet")]
pub mod rollout_command;
pub mod subcommand;
mod synopsis;
pub mod usage;
pub mod word;

use std::{ffi::OsString, io::IsTerminal as _};

pub use completions::script as completion_script;
pub use definition::{OUTPUTS, STATUSES, tables};
pub use plugin_command::{PluginCommand, Report};
pub use policy_command::PolicyCommand;
pub use subcommand::{RunOptions, Shell, Subcommand};
pub use synopsis::{Synopsis, synopses};

use flowgate_syntax::{CommandLine, Environment, LoadFile, Output, Parsed, ProgramName, Settings};

/// A parsed command line.
#[derive(Debug, Clone)]
pub enum Invocation {
    /// One command.
    Run(Box<Settings>),
    /// `-R FILE`
    Load(LoadFile),
    /// A subcommand; never under the name `conntrack`.
    Subcommand(Box<Subcommand>),
    /// Help of a subcommand: text for standard output.
    Text(String),
}

impl From<CommandLine> for Invocation {
    fn from(line: CommandLine) -> Self {
        match line {
            CommandLine::Run(settings) => Self::Run(settings),
            CommandLine::Load(file) => Self::Load(file),
        }
    }
}

/// Parses a command line. `name` is the name by which the program was called, `arguments` are the words of argv after
/// it.
pub fn parse(name: &ProgramName, arguments: &[OsString], environment: &dyn Environment) -> Parsed<Invocation> {
    let mut arguments = arguments;
    if name.has_own_options() {
        let alone = |result| Parsed { warnings: Vec::new(), result, place: None };
        if let Some(text) = help(arguments) {
            return alone(Ok(Invocation::Text(text)));
        }
        if let Some(word) = word::find(arguments) {
            return with_word(name, word, arguments, environment);
        }
        if let Some(result) = subcommand::parse(name.word(), arguments) {
            return alone(result);
        }
        if subcommand::is_help(arguments) {
            arguments = &[];
        }
        if let Some(error) = subcommand::unknown(arguments) {
            return alone(Err(error));
        }
    }
    let Parsed { warnings, result, place } = flowgate_syntax::parse(name, arguments, environment);
    Parsed { warnings, result: result.map(Invocation::from), place }
}

/// Returns the help that a command line asks for, except that of subcommands: `-h` alone, `list -h`, `help list`,
/// `help all`.
fn help(arguments: &[OsString]) -> Option<String> {
    match arguments {
        [] => Some(usage::screen()),
        [only] if only == "-h" || only == "--help" || only == "help" => Some(usage::screen()),
        [first, all] if first == "help" && all == "all" => Some(usage::text("flowgate", true, None)),
        [first, rest @ ..] if first == "help" => word::find(rest).map(word::Word::text),
        _ => word::find(arguments).filter(|word| word.is_help(arguments)).map(word::Word::text),
    }
}

/// Parses a classic command line that begins with a word instead of the option.
fn with_word(
    name: &ProgramName,
    word: &word::Word,
    arguments: &[OsString],
    environment: &dyn Environment,
) -> Parsed<Invocation> {
    let Parsed { warnings, mut result, place } = flowgate_syntax::parse(name, &word.classic(arguments), environment);
    if let Ok(CommandLine::Run(settings)) = &mut result
        && word.tables
        && settings.output.is_empty()
        && !settings.explain
        && std::io::stdout().is_terminal()
    {
        settings.output.insert(Output::TABLE);
    }
    Parsed { warnings, result: result.map(Invocation::from), place }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;
    use flowgate_syntax::{CliError, Command, SystemEnvironment};

    fn parse_as(program: &str, line: &str) -> Parsed<Invocation> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        parse(&ProgramName::of(OsStr::new(program)), &words, &SystemEnvironment)
    }

    #[test]
    fn subcommands_are_unknown_to_the_classic_name() {
        for line in ["man", "completions bash", "help", "help man"] {
            // The classic program ignores these words, because they are not options.
            match parse_as("/usr/sbin/conntrack", line).result {
                Ok(Invocation::Run(settings)) => assert_eq!(settings.command, Command::Help, "{line}"),
                other => panic!("{line}: {other:?}"),
            }
        }
        match parse_as("conntrack", "man -L").result {
            Ok(Invocation::Run(settings)) => assert_eq!(settings.command, Command::List),
            other => panic!("{other:?}"),
        }
        let own = |line| parse_as("flowgate", line).result;
        assert!(matches!(own("man"), Ok(Invocation::Subcommand(given)) if *given == Subcommand::Man));
        let screen = usage::screen();
        assert!(matches!(own("help"), Ok(Invocation::Text(text)) if text == screen));
        assert!(matches!(own("help list"), Ok(Invocation::Text(text)) if text.starts_with("List the entries")));
        assert!(matches!(own("help man"), Ok(Invocation::Text(_))));
        assert!(matches!(own("man -L"), Err(CliError::Subcommand(_))));
        assert!(matches!(own("foo -L"), Err(CliError::NoSubcommand(_))));
    }
}
