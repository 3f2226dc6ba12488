//! The whole command line as a clap command, built from the tables of the parser. Shell completions are generated from
//! it. It is never used for parsing, because the classic rules differ from clap's.
//!
//! Options whose letter is punctuation or has another meaning in a shell are without letter here, and options without
//! effect are left out.

use std::ffi::OsStr;

use clap::builder::PossibleValue;
use clap::{Arg, ArgAction, ValueHint};

use super::subcommand;
use super::word::{WORDS, Word};
use flowgate_model::OnError;
use flowgate_syntax::Argument;
use flowgate_syntax::EVENT_NAMES;
use flowgate_syntax::options::{self, COMMANDS, CommandSpec, HelpSection, OPTIONS, OptionKey, OptionSpec};
use flowgate_syntax::protocols::{PROTOCOLS, ProtocolKey, state_names};
use flowgate_syntax::{ColorChoice, Command, Output, Table};

/// Values of `-o` and their effect. The last five are not in the classic program.
pub const OUTPUTS: [(&str, &str); 13] = [
    ("xml", "as XML"),
    ("extended", "with the layer-3 protocol"),
    ("timestamp", "with the time at which an event was seen"),
    ("id", "with the entry's id"),
    ("ktimestamp", "with the times at which a flow began and ended, by the kernel's clock"),
    ("labels", "with the names of labels"),
    ("userspace", "accepted; changes nothing"),
    ("save", "as lines for -R"),
    ("json", "as JSON, one object a line"),
    ("complete", "with save: everything that can be loaded, in options of flowgate's own"),
    ("table", "as a table for people"),
    ("csv", "as comma-separated values, with headings"),
    ("tsv", "as values separated by tabulators, with headings"),
];

/// Values of `-u` and their meaning. UNREPLIED is short for `!SEEN_REPLY`.
pub const STATUSES: [(&str, &str); 8] = [
    ("ASSURED", "has seen enough traffic not to be dropped early"),
    ("SEEN_REPLY", "has seen packets in both directions"),
    ("UNREPLIED", "has seen packets in one direction only"),
    ("UNSET", "has none of EXPECTED, SEEN_REPLY, ASSURED, FIXED_TIMEOUT"),
    ("FIXED_TIMEOUT", "has a timeout that packets do not renew"),
    ("EXPECTED", "was expected by another flow"),
    ("OFFLOAD", "is forwarded by a flow table"),
    ("HW_OFFLOAD", "is forwarded by hardware"),
];

/// Returns the command line of a program of this name.
pub(super) fn command_line(program: &str) -> clap::Command {
    let own = flowgate_syntax::ProgramName::of(OsStr::new(program)).has_own_options();
    let mut command = clap::Command::new("flowgate").disable_help_flag(true).disable_version_flag(true);
    for spec in &COMMANDS {
        command = command.arg(command_argument(spec, own));
    }
    let others = COMMANDS.iter().map(|spec| spec.long);
    command = command.arg(
        Arg::new("load-file")
            .short('R')
            .long("load-file")
            .help("execute the -I, -A, -U, -D and -F lines of a file, - for standard input")
            .value_name("file")
            .value_hint(ValueHint::FilePath)
            .conflicts_with_all(others),
    );
    for spec in offered(own) {
        command = command.arg(option_argument(spec, own));
    }
    command = command.args(protocol_arguments());
    if own { subcommand::add_to(command.subcommands(WORDS.iter().map(word_command))) } else { command }
}

/// Returns the command line after the `--` of a subcommand: `-L` and `-E` with their options.
pub(super) fn listing() -> clap::Command {
    let shows = |command: Command| matches!(command, Command::List | Command::Events);
    let commands = COMMANDS.iter().filter(|spec| shows(spec.command)).map(|spec| command_argument(spec, true));
    let legal = |spec: &&OptionSpec| [Command::List, Command::Events].iter().any(|command| !excluded(*command, spec));
    let options = offered(true).filter(legal).map(|spec| option_argument(spec, true));
    // The arguments with which they conflict are not among them.
    let alone = |argument: Arg| argument.conflicts_with(clap::builder::Resettable::Reset);
    clap::Command::new("--")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(commands.chain(options).chain(protocol_arguments()).map(alone))
}

/// Returns the command line after a word for a command.
fn word_command(word: &'static Word) -> clap::Command {
    let command = clap::Command::new(word.name).about(word.help).disable_help_flag(true).disable_version_flag(true);
    let alone = |argument: Arg| argument.conflicts_with(clap::builder::Resettable::Reset);
    let Some(classic) = word.command else {
        let keys = [OptionKey::Netns, OptionKey::Explain, OptionKey::DryRun, OptionKey::KeepGoing, OptionKey::SetZone];
        let options = OPTIONS.iter().filter(|spec| keys.contains(&spec.key));
        let file = Arg::new("file").value_hint(ValueHint::FilePath).required(true);
        return command.arg(file).args(options.map(|spec| alone(option_argument(spec, true))));
    };
    let table = Arg::new("table").value_parser(values(tables(classic)));
    let protocols = takes_protocol(classic).then(protocol_arguments).unwrap_or_default();
    command.arg(table).args(word.options().map(|spec| option_argument(spec, true)).chain(protocols).map(alone))
}

/// Returns true if a command takes the options of protocols.
fn takes_protocol(command: Command) -> bool {
    OPTIONS.iter().any(|spec| spec.key == OptionKey::Protocol && !excluded(command, spec))
}

/// Returns the options that are offered.
pub(super) fn offered(own: bool) -> impl Iterator<Item = &'static OptionSpec> {
    OPTIONS
        .iter()
        .filter(move |spec| spec.section != HelpSection::Hidden && (own || spec.section != HelpSection::Flowgate))
}

/// Returns the tables of a command; the first one is its default.
pub fn tables(command: Command) -> Vec<&'static str> {
    let works = |table: Table| match command {
        Command::List => true,
        Command::Version | Command::Help => false,
        Command::Add | Command::Update => table == Table::Conntrack,
        _ => table.has_events(),
    };
    Table::ALL.into_iter().filter(|table| works(*table)).map(Table::name).collect()
}

/// True if no table of a command takes an option.
fn excluded(command: Command, spec: &OptionSpec) -> bool {
    [Table::Conntrack, Table::Expect].iter().all(|table| options::legality(spec, Some((command, *table))) == b'.')
}

fn command_argument(spec: &CommandSpec, own: bool) -> Arg {
    let others = COMMANDS.iter().filter(|other| other.command != spec.command).map(|other| other.long);
    let illegal = offered(own).filter(|option| excluded(spec.command, option)).map(OptionSpec::name);
    let argument = Arg::new(spec.long)
        .short(char::from(spec.short))
        .long(spec.long)
        .help(spec.help)
        .conflicts_with_all(others.chain(["load-file"]).chain(illegal));
    let tables = tables(spec.command);
    if tables.is_empty() {
        return argument.action(ArgAction::SetTrue);
    }
    argument.value_name("table").num_args(0..=1).value_parser(values(tables))
}

fn option_argument(spec: &OptionSpec, own: bool) -> Arg {
    let mut aliases = spec.long.iter().copied();
    let name = aliases.next().unwrap_or_default();
    let illegal = COMMANDS.iter().filter(|command| excluded(command.command, spec)).map(|command| command.long);
    let repeated = matches!(
        spec.key,
        OptionKey::Status
            | OptionKey::EventMask
            | OptionKey::Output
            | OptionKey::Label
            | OptionKey::LabelAdd
            | OptionKey::LabelDelete
            | OptionKey::Plugin
            | OptionKey::Grant
            | OptionKey::OnError
    );
    let argument = Arg::new(name).long(name).visible_aliases(aliases).help(spec.help).conflicts_with_all(illegal);
    let argument = match spec.letter() {
        Some(letter) => argument.short(letter),
        None => argument,
    };
    let argument = match spec.argument {
        Argument::None => return argument.action(ArgAction::SetTrue),
        Argument::Required => argument.num_args(1),
        Argument::Optional => argument.num_args(0..=1),
    };
    let argument = argument.value_name(spec.placeholder).value_hint(ValueHint::Other).action(if repeated {
        ArgAction::Append
    } else {
        ArgAction::Set
    });
    match spec.key {
        OptionKey::Protocol => argument.value_parser(values(PROTOCOLS.iter().map(|spec| spec.name))),
        OptionKey::Status => argument.value_parser(described(&STATUSES)),
        OptionKey::EventMask => argument.value_parser(values(EVENT_NAMES.iter().map(|(name, _)| *name))),
        OptionKey::Family => argument.value_parser(values(["ipv4", "ipv6"])),
        OptionKey::Output => {
            let classic = OUTPUTS.get(..OUTPUTS.len() - Output::OWN_NAMES.len()).unwrap_or_default();
            argument.value_parser(described(if own { &OUTPUTS } else { classic }))
        }
        OptionKey::Color => argument.value_parser(values(ColorChoice::NAMES.map(|(_, name)| name))),
        OptionKey::OnError => argument.value_parser(values(OnError::NAMES.map(|(name, _)| name))),
        OptionKey::LabelMap | OptionKey::Plugin => argument.value_hint(ValueHint::FilePath),
        _ => argument,
    }
}

fn values(names: impl IntoIterator<Item = &'static str>) -> Vec<PossibleValue> {
    names.into_iter().map(PossibleValue::new).collect()
}

fn described(names: &[(&'static str, &'static str)]) -> Vec<PossibleValue> {
    names.iter().map(|(name, help)| PossibleValue::new(*name).help(*help)).collect()
}

/// Returns the options of all protocols. An option that several protocols have occurs once, with their names.
fn protocol_arguments() -> Vec<Arg> {
    let mut seen: Vec<&str> = Vec::new();
    let mut arguments = Vec::new();
    for option in PROTOCOLS.iter().flat_map(|spec| spec.options) {
        if seen.contains(&option.name()) {
            continue;
        }
        seen.push(option.name());
        let owners: Vec<_> =
            PROTOCOLS.iter().filter(|spec| spec.options.iter().any(|other| other.name() == option.name())).collect();
        let names: Vec<&str> = owners.iter().map(|spec| spec.name).collect();
        let help = if option.key == ProtocolKey::State { "state of the connection" } else { option.help };
        let argument = Arg::new(option.name())
            .long(option.name())
            .visible_aliases(option.long.iter().copied().skip(1))
            .help(format!("with -p {}: {help}", names.join(", ")))
            .value_name(option.placeholder)
            .value_hint(ValueHint::Other)
            .num_args(1);
        arguments.push(match option.key {
            ProtocolKey::State => {
                let mut states: Vec<&str> = Vec::new();
                for name in owners.iter().flat_map(|spec| state_names(spec.number)) {
                    if !states.contains(&name) {
                        states.push(name);
                    }
                }
                argument.value_parser(values(states))
            }
            ProtocolKey::Role => argument.value_parser(values(["client", "server"])),
            _ => argument,
        });
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowgate_syntax::STATUS_NAMES;

    #[test]
    fn words_with_help_are_those_that_the_parser_takes() {
        let words: Vec<&str> = OUTPUTS.iter().map(|(name, _)| *name).collect();
        let known: Vec<&str> = Output::NAMES.iter().chain(&Output::OWN_NAMES).map(|(_, name)| *name).collect();
        assert_eq!(words, known);
        let words: Vec<&str> = STATUSES.iter().map(|(name, _)| *name).filter(|name| *name != "UNREPLIED").collect();
        let known: Vec<&str> = STATUS_NAMES.iter().map(|(name, _)| *name).collect();
        assert_eq!(words, known);
    }
}
