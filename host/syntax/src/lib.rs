//! The language of conntrack(8): a classic command line becomes settings; nothing below this crate sees an option.
//!
//! [`parse`] reads the classic `conntrack` command line with its exact rules and messages. Under any other name than
//! `conntrack` the program also knows `--plugin`, `--batch`, `-o json` and reads the whole command line
//! strictly (`strict`); its subcommands are not part of the language. Which name it is called by is a [`Name`], made once and handed down.

mod details;
mod environment;
mod error;
mod expectation;
pub mod fragment;
mod getopt;
mod known;
mod labels;
mod legality;
mod name;
pub mod options;
pub mod plugin;
pub mod protocols;
mod request;
mod selection;
mod settings;
mod strict;
mod template;
mod values;
mod wrong_value;
mod zone;

mod load_file;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

pub use environment::{Environment, SystemEnvironment};
pub use error::{CliError, HINT, Word};
pub use getopt::Argument;
pub use labels::{DEFAULT_PATH as DEFAULT_LABEL_MAP, LabelMap};
pub use name::{Name, VARIABLE as NAME_VARIABLE};
pub use request::{EVENT_NAMES, STATUS_NAMES};
pub use settings::{
    Command, CommandLine, DEFAULT_BATCH, EventGroups, HelpProtocol, LoadFile, LoadedCommand, Output, Parsed, Place,
    PluginArgument, Settings, TOLD, Table,
};
pub use values::RECEIVE_BUFFER_MOST;

use labels::LabelSet;
use load_file::Line;
use options::Key;
use protocols::Database;
use request::{LabelUse, Request};
use template::LabelChange;

/// The words of a line as a load file has them (blanks, double quotes, backslashes), without what `-E -o save` writes behind it
/// about a program; none for an empty line or a comment.
///
/// # Errors
/// A word or a line is too long.
pub fn split_line(line: &[u8]) -> Result<Option<Vec<Vec<u8>>>, CliError> {
    let words = load_file::split(b"", line)?;
    Ok(words.map(|words| {
        let mut options: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        load_file::without_suffix(&mut options);
        let count = options.len();
        words.into_iter().take(count).skip(1).collect()
    }))
}

/// Reads a classic command line. `name` is what the program is called by, `arguments` are the words of argv behind it.
pub fn parse(name: &Name, arguments: &[OsString], environment: &dyn Environment) -> Parsed {
    let mut warnings = Vec::new();
    let own = name.has_own_options();
    let mut place = None;
    let program = name.word().as_bytes();
    let result = match arguments {
        [option, file, rest @ ..] if option == "-R" || option == "--load-file" => {
            let mut parser = Parser { own, environment, warnings: &mut warnings };
            parser.behind_file(rest).and_then(|behind| {
                let harmless = behind.explain || behind.dry_run;
                let line = |words: Vec<&[u8]>, warnings: &mut Vec<String>, last: Option<&mut LoadedCommand>| {
                    Parser { own, environment, warnings }.line(words, last, harmless)
                };
                let manner = load_file::Manner { program, own, keep_going: behind.keep_going };
                let loaded = load_file::load(manner, file.as_bytes(), environment, &line, &mut warnings, &mut place)?;
                place = None;
                behind.apply(loaded, &mut place).map(CommandLine::Load)
            })
        }
        _ => {
            let words = std::iter::once(program).chain(arguments.iter().map(|word| word.as_bytes())).collect();
            let mut parser = Parser { own, environment, warnings: &mut warnings };
            parser.command(words, None).map(CommandLine::Run)
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
    name: &Name,
    arguments: &[OsString],
    command: (Command, Table),
    environment: &dyn Environment,
    warnings: &mut Vec<String>,
) -> Result<Box<Settings>, CliError> {
    let own = name.has_own_options();
    let words = std::iter::once(name.word()).chain(arguments.iter().map(OsString::as_os_str));
    let words = words.map(OsStrExt::as_bytes).collect();
    Parser { own, environment, warnings }.command(words, Some(command))
}

/// Options that stand behind the file of `-R` and hold for all of its lines.
const FOR_ALL_LINES: [(Key, &str); 5] = [
    (Key::Netns, "netns"),
    (Key::Explain, "explain"),
    (Key::DryRun, "dry-run"),
    (Key::KeepGoing, "keep-going"),
    (Key::SetZone, "set-zone"),
];
/// Those of them that no line has for itself.
const NOT_IN_LINES: [(Key, &str); 2] = [(Key::Netns, "netns"), (Key::Explain, "explain")];

/// What stands behind the file of `-R`.
#[derive(Default)]
struct Behind {
    netns: Option<OsString>,
    explain: bool,
    dry_run: bool,
    keep_going: bool,
    zone: Option<u16>,
}

impl Behind {
    /// Applies it to all lines. What is wrong is at `place`.
    fn apply(self, mut file: LoadFile, place: &mut Option<Place>) -> Result<LoadFile, CliError> {
        for LoadedCommand { settings, lines } in &mut file.commands {
            *place = lines.first().map(|&line| Place { file: file.name.clone(), line });
            // What cannot be printed instead of being done is refused.
            if self.dry_run && settings.command == Command::Flush {
                return Err(CliError::DryFlush);
            }
            settings.netns.clone_from(&self.netns);
            settings.explain = self.explain;
            settings.dry_run |= self.dry_run;
            if let Some(zone) = self.zone {
                zone::set(settings, zone)?;
            }
        }
        *place = None;
        Ok(file)
    }
}

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
        let place = if default.is_some() { strict::Position::Part } else { strict::Position::Alone };
        strict::check(&request, self.own, place)?;
        self.warnings.extend(strict::warning(&request).filter(|_| self.own));
        let command = *request.command.get_or_insert((Command::Help, Table::Conntrack));
        Ok(self.settings(&request, command, map, labels))
    }

    /// Reads what stands behind the file of `-R`: options of flowgate's own that hold for all lines, and nothing else. `conntrack`
    /// ignores what stands there, and so does flowgate if it is called that; but an option that would be ignored, such as one
    /// that asks for a zone or to do nothing, is refused.
    fn behind_file(&mut self, rest: &[OsString]) -> Result<Behind, CliError> {
        if !self.own {
            return match rest.iter().find(|word| word.len() > 1 && word.as_bytes().starts_with(b"-")) {
                Some(word) => Err(CliError::BehindFile(word.as_bytes().into())),
                None => Ok(Behind::default()),
            };
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
        strict::check(&request, true, strict::Position::Part)?;
        Ok(Behind {
            netns: request.netns.clone().map(OsString::from_vec),
            explain: request.given.contains(Key::Explain),
            dry_run: request.given.contains(Key::DryRun),
            keep_going: request.given.contains(Key::KeepGoing),
            zone: request.given.contains(Key::SetZone).then_some(request.set_zone),
        })
    }

    /// A line of a load file, behind this command. `harmless`: the file is not carried out.
    fn line(
        &mut self,
        mut words: Vec<&[u8]>,
        last: Option<&mut LoadedCommand>,
        harmless: bool,
    ) -> Result<Line, CliError> {
        // What people copy from a shell; `conntrack` passes over it.
        if words.get(1).is_some_and(|word| *word == b"conntrack") {
            words.remove(1);
        }
        load_file::without_suffix(&mut words);
        let request = request::read(words, self.own, self.environment, self.warnings)?;
        if let Some((_, name)) = NOT_IN_LINES.iter().find(|(key, _)| request.given.contains(*key)) {
            return Err(CliError::NotInLine(name));
        }
        let (map, labels) = self.labels(&request)?;
        legality::check(&request)?;
        let Some((command, table)) = request.command else { return Ok(Line::Nothing) };
        // A command that a file cannot contain is told first.
        if load_file::forbidden(command, table).is_none() {
            match strict::check(&request, self.own, strict::Position::Line) {
                Err(CliError::NothingSelected) if harmless => {}
                result => result?,
            }
            self.warnings.extend(strict::warning(&request).filter(|_| self.own));
        }
        let kind = load_file::Kind { command, table, dry_run: request.given.contains(Key::DryRun) };
        if let Some(last) = last.filter(|last| load_file::joins(last, kind, 1)) {
            let (family, change) = (family(request.family, command, table), change(&request, labels));
            template::push(&mut last.settings.template, &request, command, family, change);
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
            Table::Expect => (flowgate_model::Flows::default(), expectation::build(request, command, family)),
            _ => (template::build(request, command, family, change), flowgate_model::Expectations::default()),
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
        given => given.or(Some(flowgate_model::family::IPV4)),
    }
}

#[cfg(test)]
mod tests;
