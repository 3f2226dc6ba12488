//! Command lines: argv becomes settings; nothing below this module sees an option.
//!
//! [`parse`] reads the classic `conntrack` command line with its exact rules and messages. Under any other name than
//! `conntrack` the program also knows `--plugin`, `--batch`, `-o json` and the [subcommands](subcommand).

mod definition;
mod environment;
mod error;
mod expectation;
pub mod fragment;
mod getopt;
mod known;
mod labels;
mod legality;
pub mod options;
mod plugin;
pub mod plugin_command;
pub mod policy_command;
pub mod protocols;
mod request;
mod selection;
mod settings;
pub mod subcommand;
mod template;
pub mod usage;
mod values;

mod load_file;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

pub use definition::{OUTPUTS, STATUSES, script as completion_script, tables};
pub use environment::{Environment, SystemEnvironment, error_text};
pub use error::{CliError, HINT, Word};
pub use getopt::Argument;
pub use labels::{DEFAULT_PATH as DEFAULT_LABEL_MAP, LabelMap};
pub use settings::{
    Command, DEFAULT_BATCH, EventGroups, HelpProtocol, Invocation, LoadFile, LoadedCommand, Output, Parsed, Place,
    PluginSpec, Settings, Table,
};

pub use plugin_command::{PluginCommand, Report};
pub use policy_command::PolicyCommand;
pub use subcommand::{RunOptions, Shell, Subcommand};

use labels::LabelSet;
use load_file::Line;
use options::Key;
use protocols::Database;
use request::{LabelUse, Request};
use template::LabelChange;

use crate::{model, pipeline::batch};

/// The words of a line as a load file has them (blanks, double quotes, backslashes); none for an empty line or a comment.
///
/// # Errors
/// A word or a line is too long.
pub fn split_line(line: &[u8]) -> Result<Option<Vec<Vec<u8>>>, CliError> {
    let words = load_file::split(b"", line)?;
    Ok(words.map(|words| words.into_iter().skip(1).collect()))
}

/// Whether a program of this name accepts more than the classic command line: any name but `conntrack`, whatever
/// directory is before it.
pub fn has_own_options(program: &OsStr) -> bool {
    program.as_bytes().rsplit(|byte| *byte == b'/').next() != Some(b"conntrack")
}

/// Reads a command line. `program` is the first word of argv as typed, `arguments` are the others.
pub fn parse(program: &OsStr, arguments: &[OsString], environment: &dyn Environment) -> Parsed {
    let mut warnings = Vec::new();
    let own = has_own_options(program);
    let mut arguments = arguments;
    if own {
        if let Some(result) = subcommand::parse(program, arguments) {
            return Parsed { warnings, result, place: None };
        }
        if subcommand::is_help(arguments) {
            arguments = &[];
        }
    }
    let mut place = None;
    let result = match arguments {
        [option, file, rest @ ..] if option == "-R" || option == "--load-file" => {
            let program = program.as_bytes();
            let line = |words: Vec<&[u8]>, warnings: &mut Vec<String>, last: Option<&mut LoadedCommand>| {
                Parser { own, environment, warnings }.line(words, last)
            };
            let file = file.as_bytes();
            let loaded = load_file::load(program, file, environment, &line, &mut warnings, &mut place);
            loaded.and_then(|file| {
                place = None;
                let mut parser = Parser { own, environment, warnings: &mut warnings };
                parser.behind_file(file, rest).map(Invocation::Load)
            })
        }
        _ => {
            let words = std::iter::once(program).chain(arguments.iter().map(OsString::as_os_str)).map(OsStr::as_bytes);
            let words = words.collect();
            let mut parser = Parser { own, environment, warnings: &mut warnings };
            parser.command(words, None).map(Invocation::Run)
        }
    };
    let place = place.filter(|_| own && result.is_err());
    Parsed { warnings, result, place }
}

/// Reads a classic command line that stands behind a subcommand: without command it is about `command`.
///
/// # Errors
/// As [`parse`]; warnings are added to `warnings`.
pub fn parse_classic(
    program: &OsStr,
    arguments: &[OsString],
    command: (Command, Table),
    environment: &dyn Environment,
    warnings: &mut Vec<String>,
) -> Result<Box<Settings>, CliError> {
    let own = has_own_options(program);
    let words = std::iter::once(program).chain(arguments.iter().map(OsString::as_os_str));
    let words = words.map(OsStr::as_bytes).collect();
    Parser { own, environment, warnings }.command(words, Some(command))
}

/// Options that stand behind the file of `-R` and hold for all of its lines.
const FOR_ALL_LINES: [(Key, &str); 3] = [(Key::Netns, "netns"), (Key::Explain, "explain"), (Key::DryRun, "dry-run")];
/// Those of them that no line has for itself.
const NOT_IN_LINES: [(Key, &str); 2] = [(Key::Netns, "netns"), (Key::Explain, "explain")];

struct Parser<'a> {
    own: bool,
    environment: &'a dyn Environment,
    warnings: &'a mut Vec<String>,
}

impl Parser<'_> {
    /// A command line of its own: without command it is about `default`, or else, if it has no options either, asks for
    /// help.
    fn command(&mut self, words: Vec<&[u8]>, default: Option<(Command, Table)>) -> Result<Box<Settings>, CliError> {
        let mut request = request::read(words, self.own, self.environment, self.warnings)?;
        request.command = request.command.or(default);
        let (map, labels) = self.labels(&request)?;
        legality::check(&request)?;
        let command = *request.command.get_or_insert((Command::Help, Table::Conntrack));
        Ok(self.settings(&request, command, map, labels))
    }

    /// Applies what stands behind the file of `-R`. The classic program ignores it; flowgate's own options that hold for all
    /// lines are heeded, and if there is one of them, nothing else may stand there.
    fn behind_file(&mut self, mut file: LoadFile, rest: &[OsString]) -> Result<LoadFile, CliError> {
        let heeded = |word: &OsString| {
            let word = word.as_bytes();
            FOR_ALL_LINES.iter().any(|(_, name)| {
                word.strip_prefix(b"--")
                    .and_then(|word| word.strip_prefix(name.as_bytes()))
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"="))
            })
        };
        if !self.own || !rest.iter().any(heeded) {
            return Ok(file);
        }
        let words = std::iter::once(b"".as_slice()).chain(rest.iter().map(|word| word.as_bytes())).collect();
        let request = request::read(words, true, self.environment, self.warnings)?;
        if request.command.is_some() {
            return Err(CliError::CommandsCombined);
        }
        let allowed = |key: Key| FOR_ALL_LINES.iter().any(|(allowed, _)| *allowed == key);
        if let Some(spec) = options::OPTIONS.iter().find(|spec| request.given.contains(spec.key) && !allowed(spec.key))
        {
            return Err(CliError::Illegal(spec.name()));
        }
        let (explain, dry_run) = (request.given.contains(Key::Explain), request.given.contains(Key::DryRun));
        for LoadedCommand { settings, .. } in &mut file.commands {
            // What cannot be printed instead of being done is refused.
            if dry_run && settings.command == Command::Flush {
                return Err(CliError::DryFlush);
            }
            settings.netns = request.netns.clone().map(OsString::from_vec);
            settings.explain = explain;
            settings.dry_run |= dry_run;
        }
        Ok(file)
    }

    /// A line of a load file, behind this command.
    fn line(&mut self, words: Vec<&[u8]>, last: Option<&mut LoadedCommand>) -> Result<Line, CliError> {
        let request = request::read(words, self.own, self.environment, self.warnings)?;
        if let Some((_, name)) = NOT_IN_LINES.iter().find(|(key, _)| request.given.contains(*key)) {
            return Err(CliError::NotInLine(name));
        }
        let (map, labels) = self.labels(&request)?;
        legality::check(&request)?;
        let Some((command, table)) = request.command else { return Ok(Line::Nothing) };
        let kind = load_file::Kind { command, table, dry_run: request.given.contains(Key::DryRun) };
        if let Some(last) = last.filter(|last| load_file::joins(last, kind, 1)) {
            let row =
                template::build(&request, command, family(request.family, command, table), change(&request, labels));
            batch::append(&mut last.settings.template, &row);
            return Ok(Line::Joined);
        }
        Ok(Line::Command(self.settings(&request, (command, table), map, labels)))
    }

    /// The label map, if something needs it, and the sets of labels that are matched, added and removed.
    fn labels(&mut self, request: &Request) -> Result<(Option<LabelMap>, [LabelSet; 3]), CliError> {
        let needed = request.given.contains_any(&[Key::Label, Key::LabelAdd, Key::LabelDelete])
            || request.output.contains(Output::LABELS);
        let mut sets = [LabelSet::default(), LabelSet::default(), LabelSet::default()];
        if !needed {
            return Ok((None, sets));
        }
        let path = request.label_map.as_deref().unwrap_or(labels::DEFAULT_PATH.as_bytes());
        let map = LabelMap::load(self.environment, path).map_err(|warning| self.warnings.push(warning)).ok();
        let [matched, added, deleted] = &mut sets;
        for (usage, list) in &request.labels {
            let set = match usage {
                LabelUse::Match => &mut *matched,
                LabelUse::Add => &mut *added,
                LabelUse::Delete => &mut *deleted,
            };
            labels::resolve(map.as_ref(), list, set)?;
        }
        Ok((map, sets))
    }

    fn settings(
        &self,
        request: &Request,
        (command, table): (Command, Table),
        label_map: Option<LabelMap>,
        mut labels: [LabelSet; 3],
    ) -> Box<Settings> {
        let given = request.given;
        let family = family(request.family, command, table);
        let matched = std::mem::take(&mut labels[0]);
        let change = change(request, labels);
        let (template, expectation) = match table {
            Table::Expect => (model::Flows::default(), expectation::build(request, command, family)),
            _ => (template::build(request, command, family, change), model::Expectations::default()),
        };
        let help = request.protocol.filter(|_| command == Command::Help);
        Box::new(Settings {
            command,
            table,
            family,
            selection: selection::build(request, command, table, family, matched),
            compares: legality::compares(request),
            template,
            expectation,
            output: request.output,
            events: request.events.unwrap_or(EventGroups::ALL),
            buffer_size: given.contains(Key::BufferSize).then_some(request.buffer_size),
            buffer_max: if given.contains(Key::BufferMax) {
                Some(request.buffer_max)
            } else {
                (!self.own && given.contains(Key::BufferSize)).then_some(0)
            },
            reliable: given.contains(Key::Reliable),
            resync: given.contains(Key::Resync),
            zero: given.contains(Key::Zero) && table == Table::Conntrack,
            label_map,
            help_protocol: help.map(|protocol| HelpProtocol {
                number: protocol.number,
                name: protocol.title(|| Database::load(self.environment)),
                has_options: protocol.handler.is_some(),
            }),
            plugins: request.plugins.clone(),
            batch: request.batch,
            dry_run: given.contains(Key::DryRun),
            stats: given.contains(Key::Stats),
            metrics: request.metrics.clone(),
            netns: request.netns.clone().map(OsString::from_vec),
            all_netns: given.contains(Key::AllNetns),
            explain: given.contains(Key::Explain),
            quiet: given.contains(Key::Quiet),
        })
    }
}

/// What is to be done with labels, of those that are matched, added and removed.
fn change(request: &Request, [_, added, deleted]: [LabelSet; 3]) -> LabelChange {
    if request.given.contains(Key::LabelAdd) {
        LabelChange::Add(added)
    } else if !request.given.contains(Key::LabelDelete) {
        LabelChange::Keep
    } else if deleted.is_empty() {
        LabelChange::Clear
    } else {
        LabelChange::Remove(deleted)
    }
}

/// The family of the request: the commands that work on all flows do so for both families unless one is given; for the
/// others it is IPv4 then.
fn family(given: Option<u8>, command: Command, table: Table) -> Option<u8> {
    let both = matches!(
        command,
        Command::List | Command::Update | Command::Delete | Command::Get | Command::Flush | Command::Events
    );
    match given {
        None if both && table != Table::Expect => None,
        given => given.or(Some(model::family::IPV4)),
    }
}

#[cfg(test)]
mod tests;
