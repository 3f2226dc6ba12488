//! The language of conntrack(8): parses a `conntrack` command line into settings. Nothing below this crate knows
//! options.
//!
//! [`parse`] reads the `conntrack` command line with its exact rules and messages. Under any name other than
//! `conntrack`, the program also accepts `--plugin`, `--batch`, `-o json` and so on, and reads the whole command line
//! strictly (`strict`). Subcommands are not part of the language. The name is a [`ProgramName`], which is made once and
//! passed down.

pub mod aggregation;
mod environment;
mod error;
mod expectation;
mod extra_fields;
pub mod fragment;
mod getopt;
mod labels;
mod option_lookup;
mod option_reader;
pub mod options;
mod parsed_options;
pub mod plugin;
mod program_name;
pub mod protocols;
mod query;
mod selection;
mod set_zone;
mod settings;
mod strict;
mod template;
mod validate;
mod values;
mod wrong_value;

mod load_file;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use flowgate_query::Query;
use query::ParsedQuery;

pub use aggregation::{Aggregate, AggregationOptions};
pub use environment::{Environment, SystemEnvironment};
pub use error::{CliError, HINT, RawArg};
pub use getopt::Argument;
pub use labels::{DEFAULT_LABEL_MAP, LabelMap};
pub use parsed_options::{EVENT_NAMES, STATUS_NAMES};
pub use program_name::{NAME_VARIABLE, ProgramName};
pub use settings::{
    ColorChoice, Command, CommandLine, DEFAULT_BATCH, EventGroups, FileLine, HelpProtocol, LoadFile, LoadedCommand,
    MAX_REPORTED_LINES, Output, Parsed, PluginArgument, Settings, Table,
};
pub use values::MAX_RECEIVE_BUFFER;

use labels::LabelSet;
use load_file::LineResult;
use options::OptionKey;
use parsed_options::{LabelUse, ParsedOptions};
use protocols::Database;
use template::LabelChange;

/// Splits a line of a load file into words (blanks, double quotes, backslashes), without the suffix that `-E -o save`
/// writes about a process. Returns `None` for an empty line or a comment.
///
/// # Errors
/// Returns an error if a word or the line is too long.
pub fn split_line(line: &[u8]) -> Result<Option<Vec<Vec<u8>>>, CliError> {
    let words = load_file::split(b"", line)?;
    Ok(words.map(|words| {
        let mut options: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        load_file::strip_process_suffix(&mut options);
        let count = options.len();
        words.into_iter().take(count).skip(1).collect()
    }))
}

/// Parses a `conntrack` command line. `name` is the name that the program was called by, `arguments` are the words of
/// argv after it.
pub fn parse(name: &ProgramName, arguments: &[OsString], environment: &dyn Environment) -> Parsed {
    let mut warnings = Vec::new();
    let own_name = name.has_own_options();
    let mut place = None;
    let program = name.word().as_bytes();
    let result = match arguments {
        [option, file, rest @ ..] if option == "-R" || option == "--load-file" => {
            let mut parser = Parser { own_name, environment, warnings: &mut warnings };
            parser.file_options(rest).and_then(|after_file| {
                let no_effect = after_file.explain || after_file.dry_run;
                let line = |words: Vec<&[u8]>, warnings: &mut Vec<String>, last: Option<&mut LoadedCommand>| {
                    Parser { own_name, environment, warnings }.line(words, last, no_effect)
                };
                let load_options = load_file::LoadOptions { program, own_name, keep_going: after_file.keep_going };
                let loaded =
                    load_file::load(load_options, file.as_bytes(), environment, &line, &mut warnings, &mut place)?;
                place = None;
                after_file.apply(loaded, &mut place).map(CommandLine::Load)
            })
        }
        _ => {
            let words = std::iter::once(program).chain(arguments.iter().map(|word| word.as_bytes())).collect();
            let mut parser = Parser { own_name, environment, warnings: &mut warnings };
            parser.command(words, None).map(CommandLine::Run)
        }
    };
    let place = place.filter(|_| own_name && result.is_err());
    Parsed { warnings, result, place }
}

/// Parses a `conntrack` command line that follows a subcommand. Without a command in it, `command` applies.
///
/// # Errors
/// See [`parse`]. Warnings are added to `warnings`.
pub fn parse_classic(
    name: &ProgramName,
    arguments: &[OsString],
    command: (Command, Table),
    environment: &dyn Environment,
    warnings: &mut Vec<String>,
) -> Result<Box<Settings>, CliError> {
    let own_name = name.has_own_options();
    let words = std::iter::once(name.word()).chain(arguments.iter().map(OsString::as_os_str));
    let words = words.map(OsStrExt::as_bytes).collect();
    Parser { own_name, environment, warnings }.command(words, Some(command))
}

/// Options after the file of `-R`, which apply to all of its lines.
const FILE_OPTIONS: [(OptionKey, &str); 5] = [
    (OptionKey::Netns, "netns"),
    (OptionKey::Explain, "explain"),
    (OptionKey::DryRun, "dry-run"),
    (OptionKey::KeepGoing, "keep-going"),
    (OptionKey::SetZone, "set-zone"),
];
/// Those of them that a line cannot have.
const FILE_ONLY_OPTIONS: [(OptionKey, &str); 2] = [(OptionKey::Netns, "netns"), (OptionKey::Explain, "explain")];

/// The options after the file of `-R`.
#[derive(Default)]
struct FileOptions {
    netns: Option<OsString>,
    explain: bool,
    dry_run: bool,
    keep_going: bool,
    zone: Option<u16>,
}

impl FileOptions {
    /// Applies the options to all lines. `place` is the line of an error.
    fn apply(self, mut file: LoadFile, place: &mut Option<FileLine>) -> Result<LoadFile, CliError> {
        for LoadedCommand { settings, lines } in &mut file.commands {
            *place = lines.first().map(|&line| FileLine { file: file.name.clone(), line });
            // A command that `--dry-run` cannot print is an error.
            if self.dry_run && settings.command == Command::Flush {
                return Err(CliError::DryFlush);
            }
            settings.netns.clone_from(&self.netns);
            settings.explain = self.explain;
            settings.dry_run |= self.dry_run;
            if let Some(zone) = self.zone {
                set_zone::apply(settings, zone)?;
            }
        }
        *place = None;
        Ok(file)
    }
}

/// What the names in a command line stand for.
struct Names {
    /// The label map, if an option or the condition needs it and the file could be read.
    map: Option<LabelMap>,
    /// The sets of labels to match, to add and to remove.
    labels: [LabelSet; 3],
    /// `--where`
    query: Option<Query>,
    /// `--by` and the like
    aggregate: Option<Aggregate>,
}

struct Parser<'a> {
    own_name: bool,
    environment: &'a dyn Environment,
    warnings: &'a mut Vec<String>,
}

impl Parser<'_> {
    /// Parses a command line. Without a command in it, `default` applies, or else, if it has no options either, help is
    /// shown.
    fn command(&mut self, words: Vec<&[u8]>, default: Option<(Command, Table)>) -> Result<Box<Settings>, CliError> {
        let mut parsed = option_reader::read(words, self.own_name, default.is_some(), self.environment, self.warnings)?;
        parsed.command = parsed.command.or(default);
        let names = self.names(&parsed)?;
        validate::check(&parsed)?;
        let place = if default.is_some() { strict::LineContext::Subcommand } else { strict::LineContext::CommandLine };
        strict::check(&parsed, self.own_name, place)?;
        self.warnings.extend(strict::unmatchable_mark_warning(&parsed).filter(|_| self.own_name));
        let command = *parsed.command.get_or_insert((Command::Help, Table::Conntrack));
        Ok(self.settings(&parsed, command, names))
    }

    /// Parses the words after the file of `-R`: flowgate's own options that apply to all lines, and nothing else.
    /// `conntrack` ignores these words, and so does flowgate under that name; but an option that would be ignored, such
    /// as one that selects a zone or prevents changes, is an error.
    fn file_options(&mut self, rest: &[OsString]) -> Result<FileOptions, CliError> {
        if !self.own_name {
            return match rest.iter().find(|word| word.len() > 1 && word.as_bytes().starts_with(b"-")) {
                Some(word) => Err(CliError::AfterFile(word.as_bytes().into())),
                None => Ok(FileOptions::default()),
            };
        }
        let words = std::iter::once(b"".as_slice()).chain(rest.iter().map(|word| word.as_bytes())).collect();
        let parsed = option_reader::read(words, true, true, self.environment, self.warnings)?;
        if parsed.command.is_some() {
            return Err(CliError::CommandsCombined);
        }
        let allowed = |key: OptionKey| FILE_OPTIONS.iter().any(|(allowed, _)| *allowed == key);
        if let Some(spec) = options::OPTIONS.iter().find(|spec| parsed.given.contains(spec.key) && !allowed(spec.key)) {
            return Err(CliError::Illegal(spec.name()));
        }
        strict::check(&parsed, true, strict::LineContext::Subcommand)?;
        Ok(FileOptions {
            netns: parsed.netns.clone().map(OsString::from_vec),
            explain: parsed.given.contains(OptionKey::Explain),
            dry_run: parsed.given.contains(OptionKey::DryRun),
            keep_going: parsed.given.contains(OptionKey::KeepGoing),
            zone: parsed.given.contains(OptionKey::SetZone).then_some(parsed.set_zone),
        })
    }

    /// Parses a line of a load file that follows the command `last`. `no_effect` is true if the file is not executed.
    fn line(
        &mut self,
        mut words: Vec<&[u8]>,
        last: Option<&mut LoadedCommand>,
        no_effect: bool,
    ) -> Result<LineResult, CliError> {
        // Users copy it from a shell; `conntrack` skips it.
        if words.get(1).is_some_and(|word| *word == b"conntrack") {
            words.remove(1);
        }
        load_file::strip_process_suffix(&mut words);
        let parsed = option_reader::read(words, self.own_name, false, self.environment, self.warnings)?;
        if let Some((_, name)) = FILE_ONLY_OPTIONS.iter().find(|(key, _)| parsed.given.contains(*key)) {
            return Err(CliError::NotInLine(name));
        }
        let names = self.names(&parsed)?;
        validate::check(&parsed)?;
        let Some((command, table)) = parsed.command else { return Ok(LineResult::Empty) };
        // A command that load files cannot contain is reported first.
        if load_file::disallowed_name(command, table).is_none() {
            match strict::check(&parsed, self.own_name, strict::LineContext::LoadFile) {
                Err(CliError::NothingSelected) if no_effect => {}
                result => result?,
            }
            self.warnings.extend(strict::unmatchable_mark_warning(&parsed).filter(|_| self.own_name));
        }
        let kind = load_file::MergeKey { command, table, dry_run: parsed.given.contains(OptionKey::DryRun) };
        if let Some(last) = last.filter(|last| load_file::is_mergeable(last, kind, 1)) {
            let (family, change) = (default_family(parsed.family, command, table), label_change(&parsed, names.labels));
            template::push(&mut last.settings.template, &parsed, command, family, change);
            return Ok(LineResult::Merged);
        }
        Ok(LineResult::Command(self.settings(&parsed, (command, table), names)))
    }

    /// Looks up the names of a command line, and parses its condition.
    fn names(&mut self, parsed: &ParsedOptions) -> Result<Names, CliError> {
        let (map, labels) = self.labels(parsed)?;
        let ParsedQuery { query, aggregate, map: query_map } = query::parse(parsed, self.environment, self.warnings)?;
        Ok(Names { map: map.or(query_map), labels, query, aggregate })
    }

    /// Returns the label map, if an option needs it, and the sets of labels to match, to add and to remove.
    fn labels(&mut self, parsed: &ParsedOptions) -> Result<(Option<LabelMap>, [LabelSet; 3]), CliError> {
        let needed = parsed.given.contains_any(&[OptionKey::Label, OptionKey::LabelAdd, OptionKey::LabelDelete])
            || parsed.output.contains(Output::LABELS);
        let mut sets = [LabelSet::default(), LabelSet::default(), LabelSet::default()];
        if !needed {
            return Ok((None, sets));
        }
        let path = parsed.label_map.as_deref().unwrap_or(labels::DEFAULT_LABEL_MAP.as_bytes());
        let map = LabelMap::load(self.environment, path).map_err(|warning| self.warnings.push(warning)).ok();
        let [matched, added, deleted] = &mut sets;
        for (usage, list) in &parsed.labels {
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
        parsed: &ParsedOptions,
        (command, table): (Command, Table),
        Names { map: label_map, mut labels, query, aggregate }: Names,
    ) -> Box<Settings> {
        let given = parsed.given;
        let family = default_family(parsed.family, command, table);
        let matched = std::mem::take(&mut labels[0]);
        let change = label_change(parsed, labels);
        let (template, expectation) = match table {
            Table::Expect => (flowgate_model::Flows::default(), expectation::build(parsed, command, family)),
            _ => (template::build(parsed, command, family, change), flowgate_model::Expectations::default()),
        };
        let help = parsed.protocol.filter(|_| command == Command::Help);
        Box::new(Settings {
            command,
            table,
            family,
            selection: selection::build(parsed, command, table, family, matched),
            query,
            aggregate,
            template,
            expectation,
            output: parsed.output,
            columns: parsed.columns.clone(),
            header: !given.contains(OptionKey::NoHeader),
            color: parsed.color,
            confirm_above: parsed.confirm_above,
            events: parsed.events.unwrap_or(EventGroups::ALL),
            buffer_size: given.contains(OptionKey::BufferSize).then_some(parsed.buffer_size),
            buffer_max: if given.contains(OptionKey::BufferMax) {
                Some(parsed.buffer_max)
            } else {
                (!self.own_name && given.contains(OptionKey::BufferSize)).then_some(0)
            },
            reliable: given.contains(OptionKey::Reliable),
            resync: given.contains(OptionKey::Resync),
            zero: given.contains(OptionKey::Zero) && table == Table::Conntrack,
            label_map,
            help_protocol: help.map(|protocol| HelpProtocol {
                number: protocol.number,
                name: protocol.title(|| Database::load(self.environment)),
                has_options: protocol.spec.is_some(),
            }),
            plugins: parsed.plugins.clone(),
            batch: parsed.batch,
            dry_run: given.contains(OptionKey::DryRun),
            stats: given.contains(OptionKey::Stats),
            metrics: parsed.metrics.clone(),
            netns: parsed.netns.clone().map(OsString::from_vec),
            all_netns: given.contains(OptionKey::AllNetns),
            explain: given.contains(OptionKey::Explain),
            quiet: given.contains(OptionKey::Quiet),
        })
    }
}

/// Returns the change of labels, given the sets of labels to match, to add and to remove.
fn label_change(parsed: &ParsedOptions, [_, added, deleted]: [LabelSet; 3]) -> LabelChange {
    if parsed.given.contains(OptionKey::LabelAdd) {
        LabelChange::Add(added)
    } else if !parsed.given.contains(OptionKey::LabelDelete) {
        LabelChange::Keep
    } else if deleted.is_empty() {
        LabelChange::Clear
    } else {
        LabelChange::Remove(deleted)
    }
}

/// Returns the family of the request. Commands on all flows apply to both families unless one is given; the others
/// default to IPv4.
fn default_family(given: Option<u8>, command: Command, table: Table) -> Option<u8> {
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
