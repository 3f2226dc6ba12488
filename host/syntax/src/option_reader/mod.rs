//! Reads the words of one command line from left to right into [`ParsedOptions`].

mod addresses;
mod lists;

use super::environment::Environment;
use super::error::{CliError, RawArg};
use super::extra_fields::exact_number;
use super::getopt::{ScannedOption, Scanner};
use super::option_lookup::{OptionId, OptionLookup};
use super::options::{AGGREGATING, COMMANDS, OptionKey};
use super::parsed_options::{LabelUse, ParsedOptions};
use super::protocols::{self, Database, Protocol, ProtocolKey, ProtocolValues};
use super::settings::{ColorChoice, Command, Output, Table};
use super::values::{self, NumberFormat};
use super::wrong_value::WrongValue;
use super::{plugin, strict};
use flowgate_base::{address::ListenAddressError, similar::nearest};
use flowgate_model::table_column;

/// Parses words, the first of which is the program's name. [`strict::check`] decides if values that `conntrack`
/// interprets leniently are errors; but a number that `conntrack` rejects with status 1 is reported together with what
/// would be valid wherever that check would apply.
///
/// `has_command` is true if words without a command belong to a known one.
pub(crate) fn read(
    words: Vec<&[u8]>,
    own_name: bool,
    has_command: bool,
    environment: &dyn Environment,
    warnings: &mut Vec<String>,
) -> Result<ParsedOptions, CliError> {
    let mut reader = OptionReader {
        parsed: ParsedOptions { own_name, ..ParsedOptions::default() },
        lookup: OptionLookup::new(own_name),
        scanner: Scanner::new(words, environment.posixly_correct()),
        own_name,
        has_command,
        environment,
        warnings,
    };
    let mut rejected = None;
    while let Some(found) = reader.scanner.next(&reader.lookup) {
        match reader.take(found) {
            // The words after it decide if the command modifies the table.
            Err(error @ CliError::UnexpectedValue { .. }) if rejected.is_none() => {
                rejected = Some((error, reader.warnings.len()));
            }
            Ok(()) | Err(CliError::UnexpectedValue { .. }) => {}
            Err(error) if rejected.is_none() => return Err(error),
            Err(_) => break,
        }
    }
    if let Some((rejected, warnings)) = rejected {
        // `conntrack` has ended by then.
        reader.warnings.truncate(warnings);
        return Err(reader.rejection(rejected));
    }
    // Only tables have columns and headings, and groups are shown in one if nothing else is asked for.
    let parsed = &mut reader.parsed;
    let columned = [OptionKey::Columns, OptionKey::NoHeader];
    if (parsed.given.contains_any(&columned) || parsed.given.contains_any(&AGGREGATING))
        && Output::FORMS.iter().all(|(form, _)| !parsed.output.contains(*form))
    {
        parsed.output.insert(Output::TABLE);
    }
    reader.parsed.stray_words = reader.scanner.stray_words().iter().map(|word| word.to_vec()).collect();
    Ok(reader.parsed)
}

struct OptionReader<'a> {
    parsed: ParsedOptions,
    lookup: OptionLookup,
    scanner: Scanner<'a>,
    own_name: bool,
    has_command: bool,
    environment: &'a dyn Environment,
    warnings: &'a mut Vec<String>,
}

impl<'a> OptionReader<'a> {
    fn take(&mut self, found: ScannedOption<'a, OptionId>) -> Result<(), CliError> {
        match found {
            // `conntrack` reports the word before the scan position, which for letters is a different one.
            ScannedOption::Unknown(_) if self.own_name => Err(strict::unknown_option(self.scanner.current())),
            ScannedOption::Unknown(word) => Err(CliError::UnknownOption(RawArg(word))),
            ScannedOption::MissingValue(word) => Err(CliError::MissingValue(RawArg(word))),
            ScannedOption::Option { id: OptionId::Command(command), value } => self.command(command, value),
            ScannedOption::Option { id: OptionId::Protocol(key), value } => {
                self.protocol_option(key, value.unwrap_or_default())
            }
            // What abbreviates `--counter` for conntrack is still that where a command is expected.
            ScannedOption::Option { id: OptionId::Option(OptionKey::CountFlows), value }
                if self.parsed.command.is_none() && !self.has_command =>
            {
                self.command(Command::Count, value)
            }
            ScannedOption::Option { id: OptionId::Option(key), value } => self.option(key, value),
        }
    }

    /// Returns the error for a number that `conntrack` rejects, as `conntrack` reports it or as a strict reading does.
    fn rejection(&mut self, rejected: CliError) -> CliError {
        let strict = self.own_name || strict::modifies_table(self.parsed.command, self.parsed.given);
        if strict { self.parsed.flaw.take().unwrap_or(rejected) } else { rejected }
    }

    /// Keeps the first flaw.
    fn report_flaw(&mut self, flaw: impl FnOnce() -> CliError) {
        if self.parsed.flaw.is_none() {
            self.parsed.flaw = Some(flaw());
        }
    }

    fn command(&mut self, command: Command, attached: Option<&'a [u8]>) -> Result<(), CliError> {
        if let Some(value) = attached {
            let name = COMMANDS.iter().find(|spec| spec.command == command).map_or("", |spec| spec.long);
            self.report_flaw(|| strict::attached_value(name, value, true));
        }
        let table = match self.scanner.take_optional(attached) {
            Some(word) => {
                if word.is_empty() {
                    self.report_flaw(|| CliError::EmptyTable);
                }
                table(word)?
            }
            None => Table::Conntrack,
        };
        match (table, command) {
            (Table::Dying | Table::Unconfirmed, command) if command != Command::List => {
                return Err(CliError::ListOnly);
            }
            (Table::Expect, Command::Add) => return Err(CliError::NoAddOnExpectations),
            (Table::Expect, Command::Update) => return Err(CliError::NoUpdateOnExpectations),
            _ => {}
        }
        if self.parsed.command.is_some() {
            return Err(CliError::CommandsCombined);
        }
        self.parsed.command = Some((command, table));
        Ok(())
    }

    /// Parses the number of an option.
    fn number(&mut self, key: OptionKey, text: &[u8], kind: NumberFormat) -> Result<u32, CliError> {
        let reading = kind.read(text);
        if !reading.exact {
            let (letter, name) = strict::option_names(key);
            self.report_flaw(|| strict::wrong_number(letter, name, text, kind).into());
        }
        match kind.reject_letter() {
            Some(option) if reading.rejected => Err(CliError::UnexpectedValue { value: text.into(), option }),
            _ => Ok(reading.value),
        }
    }

    /// Parses a size or a time. `conntrack` accepts numbers only.
    fn quantity(&mut self, key: OptionKey, text: &[u8], kind: NumberFormat) -> Result<u32, CliError> {
        if !self.own_name || kind.read(text).exact {
            return self.number(key, text, kind);
        }
        strict::parse_quantity(key, text, kind, 0).or_else(|wrong| {
            self.report_flaw(|| wrong.into());
            Ok(0)
        })
    }

    fn zone(&mut self, key: OptionKey, text: &[u8], letter: char) -> Result<u16, CliError> {
        self.number(key, text, NumberFormat::zone(letter)).map(|zone| zone as u16)
    }

    fn protocol_option(&mut self, key: ProtocolKey, text: &'a [u8]) -> Result<(), CliError> {
        let number = self.parsed.protocol.map_or(0, |protocol| protocol.number);
        let exact = self.parsed.protocol_values.set(number, key, text)?;
        let options = self.parsed.protocol.and_then(|protocol| protocol.spec).map_or(&[][..], |lookup| lookup.options);
        let name = options.iter().find(|option| option.key == key).map_or("", |option| option.name());
        if !exact {
            self.report_flaw(|| match key {
                ProtocolKey::Role => WrongValue::new(None, name, text, "client or server".to_owned()).into(),
                _ => strict::wrong_number(None, name, text, protocols::number_format(number, key)).into(),
            });
        }
        Ok(())
    }

    fn option(&mut self, key: OptionKey, attached: Option<&'a [u8]>) -> Result<(), CliError> {
        let optional = matches!(
            key,
            OptionKey::SourceNat | OptionKey::DestinationNat | OptionKey::AnyNat | OptionKey::LabelDelete
        );
        let taken = if optional { self.scanner.take_optional(attached) } else { None };
        if let (true, Some(value)) = (optional, attached) {
            self.report_flaw(|| strict::attached_value(strict::option_names(key).1, value, false));
        }
        let value = attached.unwrap_or_default();
        match key {
            OptionKey::Source
            | OptionKey::Destination
            | OptionKey::ReplySource
            | OptionKey::ReplyDestination
            | OptionKey::TupleSource
            | OptionKey::TupleDestination
            | OptionKey::MaskSource
            | OptionKey::MaskDestination => self.address_option(key, value)?,
            OptionKey::Protocol => self.protocol(value)?,
            OptionKey::Timeout => self.parsed.timeout = self.quantity(key, value, NumberFormat::LONG)?,
            OptionKey::Status => self.status(value)?,
            OptionKey::Zero => {}
            OptionKey::EventMask => self.events(value)?,
            OptionKey::Mark => self.mark(value)?,
            OptionKey::Id => self.parsed.id = self.number(key, value, NumberFormat::id('i'))?,
            OptionKey::Family => self.family(value)?,
            OptionKey::SourceNat => self.nat(key, taken, |parsed| &mut parsed.source_nat)?,
            OptionKey::DestinationNat => self.nat(key, taken, |parsed| &mut parsed.destination_nat)?,
            OptionKey::AnyNat => self.nat(key, taken, |parsed| &mut parsed.any_nat)?,
            OptionKey::Output => self.output(value)?,
            OptionKey::Secmark => self.parsed.secmark = self.number(key, value, NumberFormat::id('c'))?,
            OptionKey::BufferSize => self.parsed.buffer_size = self.quantity(key, value, NumberFormat::BUFFER)?,
            OptionKey::Zone => self.parsed.zone = self.zone(key, value, 'w')?,
            OptionKey::OriginalZone => self.parsed.original_zone = self.zone(key, value, '(')?,
            OptionKey::ReplyZone => self.parsed.reply_zone = self.zone(key, value, ')')?,
            OptionKey::Label => self.parsed.labels.push((LabelUse::Match, value.to_vec())),
            OptionKey::LabelAdd => {
                if self.parsed.given.contains(OptionKey::LabelDelete) {
                    return Err(CliError::LabelAddWithDelete);
                }
                self.parsed.labels.push((LabelUse::Add, value.to_vec()));
            }
            OptionKey::LabelDelete => {
                if self.parsed.given.contains(OptionKey::LabelAdd) {
                    return Err(CliError::LabelAddWithDelete);
                }
                self.parsed.labels.extend(taken.map(|list| (LabelUse::Delete, list.to_vec())));
            }
            OptionKey::LabelMap => {
                if value.is_empty() {
                    self.report_flaw(|| {
                        WrongValue::new(None, "labelmap", value, "the name of a file".to_owned()).into()
                    });
                }
                if self.parsed.label_map.replace(value.to_vec()).is_some() {
                    return Err(CliError::LabelMapTwice);
                }
            }
            OptionKey::NatRange => {
                self.warnings.push("WARNING: ignoring -a, deprecated option.".to_owned());
                return Ok(());
            }
            OptionKey::Plugin => self.parsed.plugins.push(plugin::parse(value, self.environment)?),
            OptionKey::Grant => plugin::add_grants(&mut self.parsed.plugins, value)?,
            OptionKey::OnError => plugin::set_on_error(&mut self.parsed.plugins, value)?,
            OptionKey::By
            | OptionKey::CountFlows
            | OptionKey::Sum
            | OptionKey::Min
            | OptionKey::Max
            | OptionKey::Avg
            | OptionKey::Distinct
            | OptionKey::Sort
            | OptionKey::Top
            | OptionKey::Every
            | OptionKey::MaxGroups
            | OptionKey::Approximate => self.parsed.aggregation.set(key, value)?,
            OptionKey::Where => {
                let text = String::from_utf8(value.to_vec()).map_err(|_| CliError::NoUtf8(value.into(), "where"))?;
                if self.parsed.query.replace(text).is_some() {
                    return Err(CliError::WhereTwice);
                }
            }
            // These have no value.
            OptionKey::DryRun
            | OptionKey::Stats
            | OptionKey::Reliable
            | OptionKey::Resync
            | OptionKey::AllNetns
            | OptionKey::Explain
            | OptionKey::Quiet
            | OptionKey::All
            | OptionKey::KeepGoing
            | OptionKey::NoHeader => {}
            OptionKey::Labels
            | OptionKey::Helper
            | OptionKey::OriginalSequence
            | OptionKey::ReplySequence
            | OptionKey::OriginalTcpFlags
            | OptionKey::ReplyTcpFlags
            | OptionKey::OriginalWindowScale
            | OptionKey::ReplyWindowScale
            | OptionKey::Synproxy
            | OptionKey::Master => self.parsed.extra.get_or_insert_default().set(key, value, self.environment)?,
            OptionKey::SetZone => {
                let zone = exact_number(value, u16::MAX.into()).map(|zone| zone as u16);
                let takes = "a zone, which is a number from 0 to 65535";
                let wrong = WrongValue::new(None, "set-zone", value, takes.to_owned());
                self.parsed.set_zone = zone.ok_or(wrong)?;
            }
            OptionKey::Columns => self.parsed.columns = Some(columns(value)?),
            OptionKey::ConfirmAbove => {
                let number = values::digits(value).and_then(|text| text.parse::<u32>().ok());
                let wrong = || WrongValue::new(None, "confirm-above", value, "a number of flows".to_owned());
                self.parsed.confirm_above = Some(number.ok_or_else(wrong)?.into());
            }
            OptionKey::Color => {
                let found = ColorChoice::NAMES.iter().find(|(_, name)| name.as_bytes() == value);
                let takes = || "auto, always or never".to_owned();
                self.parsed.color = found.ok_or_else(|| WrongValue::new(None, "color", value, takes()))?.0;
            }
            OptionKey::BufferMax => {
                self.parsed.buffer_max = strict::parse_quantity(key, value, NumberFormat::BUFFER, 1)?
            }
            OptionKey::Netns if value.is_empty() => return Err(CliError::NoNetns),
            OptionKey::Netns => self.parsed.netns = Some(value.to_vec()),
            OptionKey::Batch => self.parsed.batch = batch(value)?,
            OptionKey::Metrics => {
                let address = String::from_utf8_lossy(value).parse();
                self.parsed.metrics =
                    Some(address.map_err(|error: ListenAddressError| CliError::Metrics(error.to_string()))?);
            }
        }
        self.parsed.given.insert(key);
        Ok(())
    }

    fn mark(&mut self, text: &[u8]) -> Result<(), CliError> {
        let mark = values::mark(text);
        if mark.as_ref().map_or(true, |mark| !mark.exact) {
            self.report_flaw(|| strict::wrong_mark(text).into());
        }
        self.parsed.mark = mark?.masked;
        Ok(())
    }

    fn family(&mut self, text: &[u8]) -> Result<(), CliError> {
        let family = match text {
            [b'i', b'p', b'v', b'4', ..] => flowgate_model::family::IPV4,
            [b'i', b'p', b'v', b'6', ..] => flowgate_model::family::IPV6,
            _ => return Err(CliError::UnsupportedProtocol(text.into())),
        };
        if text.len() > 4 {
            let (letter, name) = strict::option_names(OptionKey::Family);
            self.report_flaw(|| WrongValue::new(letter, name, text, "ipv4 or ipv6".to_owned()).into());
        }
        self.fix_family(family)
    }

    fn fix_family(&mut self, family: u8) -> Result<(), CliError> {
        if *self.parsed.family.get_or_insert(family) != family {
            return Err(CliError::MismatchedFamily);
        }
        Ok(())
    }

    fn protocol(&mut self, text: &[u8]) -> Result<(), CliError> {
        let environment = self.environment;
        let protocol = Protocol::find(text, || Database::load(environment))?;
        if let Some(before) = self.parsed.protocol
            && before.number != protocol.number
        {
            let given = &self.parsed.protocol_values;
            let options = before.spec.map_or(&[][..], |spec| spec.options);
            let stray = options.iter().find(|option| given.has(option.key)).map(|option| option.name());
            self.parsed.discarded_option = self.parsed.discarded_option.or(stray);
            self.parsed.protocol_values = ProtocolValues::default();
        }
        self.parsed.protocol = Some(protocol);
        self.lookup.set_protocol(protocol);
        Ok(())
    }
}

/// Returns the table that a word names or abbreviates: the first match, where `expect` comes first, as in `conntrack`.
fn table(word: &[u8]) -> Result<Table, CliError> {
    let mut tables = [Table::Expect].into_iter().chain(Table::ALL);
    tables.find(|table| table.name().as_bytes().starts_with(word)).ok_or_else(|| CliError::UnknownTable(word.into()))
}

/// Checks the names of columns.
fn columns(text: &[u8]) -> Result<String, CliError> {
    let names = String::from_utf8_lossy(text).into_owned();
    match names.split(',').find(|name| table_column::by_name(name).is_none()) {
        None => Ok(names),
        Some(wrong) => {
            let takes = match nearest(wrong, table_column::names()) {
                Some(near) => format!("names of columns, and there is none `{wrong}`; did you mean `{near}`?"),
                None => format!("names of columns such as src,dport,bytes, and there is none `{wrong}`"),
            };
            Err(WrongValue::new(None, "columns", text, takes).into())
        }
    }
}

fn batch(text: &[u8]) -> Result<u32, CliError> {
    let rows = values::digits(text).and_then(|text| text.parse().ok()).filter(|rows| (1..=65536).contains(rows));
    rows.ok_or_else(|| CliError::BatchRows(text.into()))
}
