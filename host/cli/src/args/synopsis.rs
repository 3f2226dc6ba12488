//! The subcommands with their arguments, for help and manual.

use clap::CommandFactory as _;

use super::subcommand::Program;

/// A subcommand, for help and manual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synopsis {
    /// Name, arguments and options, as in `man`.
    pub usage: String,
    /// Help in one line.
    pub help: String,
    /// Arguments and options, each with its help.
    pub arguments: Vec<(String, String)>,
}

/// Returns all subcommands except `help`. Subcommands with subcommands of their own are replaced by these, unless they
/// do something without one.
pub fn synopses() -> Vec<Synopsis> {
    let mut all = Vec::new();
    collect("", &Program::command(), &mut all);
    all
}

/// Adds the subcommands of a command; `beginning` is the beginning of their names.
fn collect(beginning: &str, command: &clap::Command, all: &mut Vec<Synopsis>) {
    let text = |styled: Option<&clap::builder::StyledStr>| styled.map(ToString::to_string).unwrap_or_default();
    for command in command.get_subcommands() {
        let name_of_it = format!("{beginning}{}", command.get_name());
        let below = format!("{name_of_it} ");
        if command.has_subcommands() && command.get_positionals().next().is_none() {
            collect(&below, command, all);
            continue;
        }
        let arguments: Vec<(String, String)> =
            command.get_arguments().map(|argument| (name(argument), text(argument.get_help()))).collect();
        let usage = command.get_arguments().fold(name_of_it, |usage, argument| {
            let name = name(argument);
            match (argument.is_required_set(), argument.is_last_set()) {
                (true, _) => format!("{usage} {name}"),
                (false, true) => format!("{usage} [-- {name}...]"),
                (false, false) => format!("{usage} [{name}]"),
            }
        });
        all.push(Synopsis { usage, help: text(command.get_about()), arguments });
        collect(&below, command, all);
    }
}

/// Returns `--name NAME`, or the values of an argument, as in `bash|zsh|fish`.
fn name(argument: &clap::Arg) -> String {
    let values = argument.get_possible_values();
    let value = match argument.get_value_names() {
        _ if !values.is_empty() && argument.get_action().takes_values() => {
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
