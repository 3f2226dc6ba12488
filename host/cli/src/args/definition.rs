//! The whole command line as a clap command, built from the tables of the parser. Shell completions are generated from
//! it. It is never used for parsing, because the classic rules differ from clap's.
//!
//! Options whose letter is punctuation or has another meaning in a shell are without letter here, and options without
//! effect are left out.

use std::ffi::OsStr;
use std::io;

use clap::builder::PossibleValue;
use clap::{Arg, ArgAction, ValueHint};
use clap_complete::Generator;

use super::bash;
use super::subcommand::{self, Shell};
use flowgate_model::OnError;
use flowgate_syntax::Argument;
use flowgate_syntax::EVENT_NAMES;
use flowgate_syntax::options::{self, COMMANDS, CommandSpec, HelpSection, OPTIONS, OptionKey, OptionSpec};
use flowgate_syntax::protocols::{PROTOCOLS, ProtocolKey, state_names};
use flowgate_syntax::{Command, Output, Table};

/// Values of `-o` and their effect. The last two are not in the classic program.
pub const OUTPUTS: [(&str, &str); 10] = [
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

/// Returns the script that completes command lines of a program of this name in a shell.
///
/// # Errors
///
/// Errors of writing, which do not occur in memory.
pub fn script(shell: Shell, program: &str) -> io::Result<String> {
    let mut command = command_line(program);
    if shell == Shell::Bash {
        command = bash::with_listings(command, &listing());
    }
    command.set_bin_name(program);
    command.build();
    let mut script = Vec::new();
    match shell {
        Shell::Bash => clap_complete::aot::Bash.try_generate(&command, &mut script)?,
        Shell::Zsh => clap_complete::aot::Zsh.try_generate(&command, &mut script)?,
        Shell::Fish => clap_complete::aot::Fish.try_generate(&command, &mut script)?,
    }
    let script = String::from_utf8(script).map_err(io::Error::other)?;
    let subcommands = command.has_subcommands();
    Ok(match shell {
        Shell::Zsh if subcommands => zsh_subcommands_first(&detach_optional_values(&script), program),
        Shell::Zsh => detach_optional_values(&script),
        Shell::Fish if subcommands => fish_subcommands_first(&script, program, &command),
        Shell::Bash => bash::with_files(&script, &command),
        Shell::Fish => script,
    })
}

/// Subcommands can only be the first word: zsh must not offer them elsewhere. The function that offers them does not
/// see the words before the current one, so the completing function checks the position.
fn zsh_subcommands_first(script: &str, program: &str) -> String {
    let begins = "    local context curcontext=\"$curcontext\" state line\n";
    let offers = format!("\n_{program}_commands() {{\n");
    script.replacen(begins, &format!("{begins}    local -i at_first_word=$(( CURRENT == 2 ))\n"), 1).replacen(
        &offers,
        &format!("{offers}    (( at_first_word )) || return 1\n"),
        1,
    )
}

/// Does the same as [`zsh_subcommands_first`] for fish. The generated functions search for a subcommand at any
/// position, and take the word after a command as its value even if it is an option. The values of subcommands'
/// arguments are added.
fn fish_subcommands_first(script: &str, program: &str, command: &clap::Command) -> String {
    let function = program.replace('-', "_");
    let words: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    let others: Vec<&str> = words.iter().copied().filter(|word| *word != "help").collect();
    let (words, others) = (words.join(" "), others.join(" "));
    let mut text = format!(
        "# A subcommand is the first word or none.
function __fish_{function}_at_first_word
    test (count (commandline -opc)) -eq 1
end

function __fish_{function}_needs_command
    set -l words (commandline -opc)
    test (count $words) -eq 1; or not contains -- $words[2] {words}
end

function __fish_{function}_using_subcommand
    set -l words (commandline -opc)
    test (count $words) -gt 1; and contains -- $words[2] $argv
end

"
    );
    let start = script.find("\ncomplete ").map_or(0, |at| at + 1);
    let needs = format!("\"__fish_{function}_needs_command\" -f -a ");
    let first = format!("\"__fish_{function}_at_first_word\" -f -a ");
    // After `help` the generated condition matches `help` itself, and nothing is offered.
    let (seen, unseen) = (format!("subcommand_from {words}\""), format!("subcommand_from {others}\""));
    text += &script.get(start..).unwrap_or_default().replace(&needs, &first).replace(&seen, &unseen);
    for subcommand in command.get_subcommands() {
        for value in subcommand.get_positionals().flat_map(Arg::get_possible_values) {
            let help = value.get_help().map(ToString::to_string).unwrap_or_default().replace(['\\', '\''], "");
            text += &format!(
                "complete -c {program} -n \"__fish_{function}_using_subcommand {}\" -f -a \"{}\" -d '{help}'\n",
                subcommand.get_name(),
                value.get_name(),
            );
        }
    }
    text
}

/// Optional values are taken from the next word only, and ignored if attached (`--dump=expect` lists flows): zsh must
/// not offer them there. Two colons after the help mark them in its script.
fn detach_optional_values(script: &str) -> String {
    let line = |line: &str| match line.contains("]::") {
        true if line.contains("=[") => line.replacen("=[", "[", 1),
        true => line.replacen("+[", "[", 1),
        false => line.to_owned(),
    };
    script.lines().map(|text| line(text) + "\n").collect()
}

/// Returns the command line of a program of this name.
fn command_line(program: &str) -> clap::Command {
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
    if own { subcommand::add_to(command) } else { command }
}

/// Returns the command line after the `--` of a subcommand: `-L` and `-E` with their options.
fn listing() -> clap::Command {
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

/// Returns the options that are offered.
fn offered(own: bool) -> impl Iterator<Item = &'static OptionSpec> {
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

    const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

    /// True if a script contains a long option in the syntax of the shell, and not as a part of another option.
    fn offers(shell: Shell, script: &str, name: &str) -> bool {
        let (before, name) = match shell {
            Shell::Fish => ("-l ", name.to_owned()),
            _ => ("", format!("--{name}")),
        };
        let ends = |rest: &str| !rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '-');
        let found = format!("{before}{name}");
        script.match_indices(&found).any(|(at, text)| script.get(at + text.len()..).is_some_and(ends))
    }

    #[test]
    fn every_script_offers_every_option() {
        for shell in SHELLS {
            let script = script(shell, "flowgate").expect("a script");
            let commands = COMMANDS.iter().map(|spec| spec.long).chain(["load-file"]);
            let options = offered(true).flat_map(|spec| spec.long.iter().copied());
            let protocols = PROTOCOLS.iter().flat_map(|spec| spec.options).flat_map(|spec| spec.long);
            for name in commands.chain(options).chain(protocols.copied()) {
                assert!(offers(shell, &script, name), "{shell:?} --{name}");
            }
            for word in ["completions", "man", "help", "json", "ESTABLISHED", "SHUTDOWN_ACK_SENT", "PARTOPEN", "icmpv6"]
            {
                assert!(script.contains(word), "{shell:?} {word}");
            }
            assert!(!offers(shell, &script, "nat-range"));
        }
    }

    #[test]
    fn the_classic_name_has_classic_completions() {
        for shell in SHELLS {
            let script = script(shell, "conntrack").expect("a script");
            for spec in offered(false) {
                assert!(offers(shell, &script, spec.name()), "{shell:?} --{}", spec.name());
            }
            for spec in OPTIONS.iter().filter(|spec| spec.section == HelpSection::Flowgate) {
                assert!(!offers(shell, &script, spec.name()), "{shell:?} --{}", spec.name());
            }
            for word in ["completions", "json", "flowgate"] {
                assert!(!script.contains(word), "{shell:?} {word}");
            }
        }
    }

    /// Returns the words that bash offers for the last word of a command line, in a directory with the file `a file`
    /// and the folder `folder`.
    fn bash_offers(words: &[&str]) -> Vec<String> {
        let directory = std::env::temp_dir().join(format!(
            "flowgate-bash-{}-{}",
            std::process::id(),
            words.concat().replace('/', "")
        ));
        std::fs::create_dir_all(directory.join("folder")).expect("a directory");
        std::fs::write(directory.join("a file"), "").expect("a file");
        let script = script(Shell::Bash, "flowgate").expect("a script");
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let (last, before) = (words.last().expect("a word"), words.get(words.len() - 2).expect("two words"));
        let program = format!(
            "complete() {{ :; }}\ncompopt() {{ :; }}\n{script}\nCOMP_WORDS=({}); COMP_CWORD={}\n\
             _flowgate flowgate '{last}' '{before}'\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
            quoted.join(" "),
            words.len() - 1,
        );
        // The program is too long for an argument.
        let file = directory.with_extension("sh");
        std::fs::write(&file, program).expect("a file");
        let output = std::process::Command::new("bash").arg(&file).current_dir(&directory).output();
        let output = output.expect("bash runs");
        std::fs::remove_file(file).expect("the file goes away");
        std::fs::remove_dir_all(directory).expect("the directory goes away");
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut offered: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        offered.sort();
        offered
    }

    #[test]
    fn bash_offers_files_where_a_subcommand_takes_one() {
        for words in [
            &["flowgate", "run", ""][..],
            &["flowgate", "run", "--check", ""],
            &["flowgate", "record", ""],
            &["flowgate", "replay", "--speed", "real", ""],
            &["flowgate", "top", ""],
            &["flowgate", "policy", "check", ""],
            &["flowgate", "plugin", "inspect", ""],
            &["flowgate", "audit", ""],
        ] {
            assert_eq!(bash_offers(words), ["a file", "folder"], "{words:?}");
        }
        assert_eq!(bash_offers(&["flowgate", "run", "a"]), ["a file"]);
        assert_eq!(bash_offers(&["flowgate", "plugin", "test", ""]), ["folder"]);
        assert!(bash_offers(&["flowgate", "run", "--ch"]).contains(&"--check".to_owned()));
        assert_eq!(bash_offers(&["flowgate", "po"]), ["policy"]);
    }

    #[test]
    fn behind_two_hyphens_bash_offers_the_options_of_listings() {
        for subcommand in [&["record"][..], &["replay"], &["top"], &["plugin", "run", "x.wasm"]] {
            let line = |last: &[&'static str]| {
                let words: Vec<&str> = [&["flowgate"], subcommand, &["x", "--"], last].concat();
                bash_offers(&words)
            };
            let offered = line(&["--"]);
            for option in ["--dump", "--event", "--src", "--protonum", "--plugin", "--sport", "--state"] {
                assert!(offered.contains(&option.to_owned()), "{subcommand:?} {option}: {offered:?}");
            }
            for option in ["--delete", "--flush", "--label-add", "--all", "--show", "--quiet"] {
                assert!(!offered.contains(&option.to_owned()), "{subcommand:?} {option}");
            }
            assert!(line(&["-p", "udp"]).contains(&"udplite".to_owned()));
            assert!(line(&["-o", "x"]).contains(&"xml".to_owned()));
        }
    }

    #[test]
    fn zsh_takes_optional_values_from_the_next_word() {
        let script = script(Shell::Zsh, "flowgate").expect("a script");
        let dump = script.lines().find(|line| line.contains("--dump[")).expect("the option");
        assert!(dump.contains("]::table:(conntrack expect dying unconfirmed)"), "{dump}");
        assert!(script.contains("--src-nat["));
        assert!(script.contains("--src=["));
    }

    #[test]
    fn subcommands_are_offered_as_the_first_word_only() {
        let zsh = script(Shell::Zsh, "flowgate").expect("a script");
        assert_eq!(zsh.matches("local -i at_first_word=$(( CURRENT == 2 ))\n").count(), 1);
        assert_eq!(zsh.matches("_flowgate_commands() {\n    (( at_first_word )) || return 1\n").count(), 1);
        let fish = script(Shell::Fish, "flow-gate").expect("a script");
        assert!(fish.contains("-n \"__fish_flow_gate_at_first_word\" -f -a \"man\""));
        assert!(fish.contains("-n \"__fish_flow_gate_needs_command\" -s L -l dump "));
        assert!(fish.contains(
            "help; and not __fish_seen_subcommand_from completions record replay top doctor man run plugin audit policy\" -f -a \"man\""
        ));
        assert!(fish.contains("-n \"__fish_flow_gate_using_subcommand completions\" -f -a \"zsh\""));
        // No generated function is left, and every function that is used exists.
        assert!(!fish.contains("argparse"));
        for used in fish.split("__fish_flow_gate_").skip(1) {
            let known = ["at_first_word", "needs_command", "using_subcommand"];
            assert!(known.iter().any(|name| used.starts_with(name)), "{used}");
        }
    }

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
