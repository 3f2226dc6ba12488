//! The words of one command line, read from left to right into what was typed. What belongs together, and what it means,
//! is for others to say.

use std::net::IpAddr;

use super::details::{Details, whole};
use super::environment::Environment;
use super::error::{CliError, Word};
use super::getopt::{Found, Scanner};
use super::known::{Id, Known};
use super::options::{COMMANDS, Key, KeySet};
use super::protocols::{self, Database, Protocol, ProtocolKey, ProtocolValues};
use super::settings::{Command, DEFAULT_BATCH, EventGroups, Output, PluginArgument, Table};
use super::values::{self, AddressFlaw, Numeric};
use super::wrong_value::WrongValue;
use super::{plugin, strict};
use flowgate_base::address::{Address, AddressError};

/// What `-u` takes, in the order in which abbreviations are looked up, with bits of [`flowgate_model::status`]. UNREPLIED, which
/// stands for `!SEEN_REPLY`, is apart: it has no abbreviation.
pub const STATUS_NAMES: [(&str, u32); 7] = [
    ("ASSURED", flowgate_model::status::ASSURED),
    ("SEEN_REPLY", flowgate_model::status::SEEN_REPLY),
    ("UNSET", 0),
    ("FIXED_TIMEOUT", flowgate_model::status::FIXED_TIMEOUT),
    ("EXPECTED", flowgate_model::status::EXPECTED),
    ("OFFLOAD", flowgate_model::status::OFFLOAD),
    ("HW_OFFLOAD", flowgate_model::status::HW_OFFLOAD),
];

/// What `-e` takes, in the order in which abbreviations are looked up.
pub const EVENT_NAMES: [(&str, EventGroups); 4] = [
    ("ALL", EventGroups::ALL),
    ("NEW", EventGroups { new: true, ..EventGroups::NONE }),
    ("UPDATES", EventGroups { update: true, ..EventGroups::NONE }),
    ("DESTROY", EventGroups { destroy: true, ..EventGroups::NONE }),
];

/// What is kept of `-u`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Bits named plainly.
    pub set: u32,
    /// Bits named with `!`.
    pub clear: u32,
    /// Whether UNSET was named plainly.
    pub unset: bool,
}

/// A translation as given with `-n`, `-g` or `-j`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Nat {
    /// The address, if one was given.
    pub address: Option<IpAddr>,
    /// The port, if one was given.
    pub port: Option<u16>,
}

/// Which labels an option is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LabelUse {
    /// `-l`
    Match,
    /// `--label-add`
    Add,
    /// `--label-del`
    Delete,
}

/// What was typed.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Whether the program is called by a name of its own, and not `conntrack`.
    pub own: bool,
    /// The command and its table.
    pub command: Option<(Command, Table)>,
    /// Which options were given. A prefix length counts as a mask.
    pub given: KeySet,
    /// What `-f` or the first address says.
    pub family: Option<u8>,
    /// `-s`
    pub source: Option<IpAddr>,
    /// `-d`
    pub destination: Option<IpAddr>,
    /// `-r`
    pub reply_source: Option<IpAddr>,
    /// `-q`
    pub reply_destination: Option<IpAddr>,
    /// `--tuple-src`
    pub tuple_source: Option<IpAddr>,
    /// `--tuple-dst`
    pub tuple_destination: Option<IpAddr>,
    /// `--mask-src`, or the prefix length of `-s` or `--tuple-src`
    pub mask_source: Option<IpAddr>,
    /// `--mask-dst`, or the prefix length of `-d` or `--tuple-dst`
    pub mask_destination: Option<IpAddr>,
    /// `-p`
    pub protocol: Option<Protocol>,
    /// The options of the protocol.
    pub protocol_values: ProtocolValues,
    /// An option of a protocol that a later `-p` gave up.
    pub stray: Option<&'static str>,
    /// `-t`
    pub timeout: u32,
    /// `-u`
    pub status: Status,
    /// The last `-u` as typed.
    pub status_text: Word,
    /// `-e`
    pub events: Option<EventGroups>,
    /// `-m`
    pub mark: flowgate_model::Masked,
    /// `-i`
    pub id: u32,
    /// `-n`
    pub source_nat: Nat,
    /// `-g`
    pub destination_nat: Nat,
    /// `-j`
    pub any_nat: Nat,
    /// `-o`
    pub output: Output,
    /// `-c`
    pub secmark: u32,
    /// `-b`
    pub buffer_size: u32,
    /// `-w`
    pub zone: u16,
    /// `--orig-zone`
    pub original_zone: u16,
    /// `--reply-zone`
    pub reply_zone: u16,
    /// The lists of `-l`, `--label-add` and `--label-del`, in order.
    pub labels: Vec<(LabelUse, Vec<u8>)>,
    /// `--labelmap`
    pub label_map: Option<Vec<u8>>,
    /// `--plugin`
    pub plugins: Vec<PluginArgument>,
    /// `--batch`
    pub batch: u32,
    /// `--metrics`
    pub metrics: Option<Address>,
    /// Words that belong to no option; `conntrack` takes no notice of them.
    pub passed_over: Vec<Vec<u8>>,
    /// The first value that `conntrack` reads loosely, as the problem that it is in a [strict] reading.
    pub flaw: Option<CliError>,
    /// An address that was given with a prefix and then without, which leaves the mask of the first for the second.
    pub masked_by_another: Option<&'static str>,
    /// What prefixes say of source and destination, and then what masks do.
    masks: [[Option<IpAddr>; 2]; 2],
    /// Whether `-u` has a name that is ignored with a warning.
    pub status_ignored: bool,
    /// `--buffer-max`
    pub buffer_max: u32,
    /// `--netns`
    pub netns: Option<Vec<u8>>,
    /// What else is said of the flow.
    pub details: Option<Box<Details>>,
    /// `--set-zone`
    pub set_zone: u16,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            own: false,
            command: None,
            given: KeySet::default(),
            family: None,
            source: None,
            destination: None,
            reply_source: None,
            reply_destination: None,
            tuple_source: None,
            tuple_destination: None,
            mask_source: None,
            mask_destination: None,
            protocol: None,
            protocol_values: ProtocolValues::default(),
            stray: None,
            timeout: 0,
            status: Status::default(),
            status_text: Word::default(),
            events: None,
            mark: flowgate_model::Masked { value: 0, mask: u32::MAX },
            id: 0,
            source_nat: Nat::default(),
            destination_nat: Nat::default(),
            any_nat: Nat::default(),
            output: Output::default(),
            secmark: 0,
            buffer_size: 0,
            zone: 0,
            original_zone: 0,
            reply_zone: 0,
            labels: Vec::new(),
            label_map: None,
            plugins: Vec::new(),
            batch: DEFAULT_BATCH,
            metrics: None,
            passed_over: Vec::new(),
            flaw: None,
            masked_by_another: None,
            masks: [[None; 2]; 2],
            status_ignored: false,
            buffer_max: 0,
            netns: None,
            details: None,
            set_zone: 0,
        }
    }
}

/// Reads words, of which the first is the program's name. Whether what `conntrack` reads loosely is refused is for
/// [`strict::check`] to say; but a number that `conntrack` refuses with status 1 is refused with what would be right where such
/// a check would find it.
pub(crate) fn read(
    words: Vec<&[u8]>,
    own: bool,
    environment: &dyn Environment,
    warnings: &mut Vec<String>,
) -> Result<Request, CliError> {
    let mut reader = Reader {
        request: Request { own, ..Request::default() },
        known: Known::new(own),
        scanner: Scanner::new(words, environment.posixly_correct()),
        own,
        environment,
        warnings,
    };
    let mut refused = None;
    while let Some(found) = reader.scanner.next(&reader.known) {
        match reader.take(found) {
            // Words behind it say whether the command is one that changes something.
            Err(error @ CliError::UnexpectedValue { .. }) if refused.is_none() => {
                refused = Some((error, reader.warnings.len()));
            }
            Ok(()) | Err(CliError::UnexpectedValue { .. }) => {}
            Err(error) if refused.is_none() => return Err(error),
            Err(_) => break,
        }
    }
    if let Some((refused, warnings)) = refused {
        // `conntrack` has ended by then.
        reader.warnings.truncate(warnings);
        return Err(reader.refusal(refused));
    }
    reader.request.passed_over = reader.scanner.passed_over().iter().map(|word| word.to_vec()).collect();
    Ok(reader.request)
}

struct Reader<'a> {
    request: Request,
    known: Known,
    scanner: Scanner<'a>,
    own: bool,
    environment: &'a dyn Environment,
    warnings: &'a mut Vec<String>,
}

impl<'a> Reader<'a> {
    fn take(&mut self, found: Found<'a, Id>) -> Result<(), CliError> {
        match found {
            // `conntrack` tells the word before the one that it stopped at, which for letters is another one.
            Found::Unknown(_) if self.own => Err(strict::unknown(self.scanner.current())),
            Found::Unknown(word) => Err(CliError::UnknownOption(Word(word))),
            Found::MissingValue(word) => Err(CliError::MissingValue(Word(word))),
            Found::Option { id: Id::Command(command), value } => self.command(command, value),
            Found::Option { id: Id::Protocol(key), value } => self.protocol_option(key, value.unwrap_or_default()),
            Found::Option { id: Id::Option(key), value } => self.option(key, value),
        }
    }

    /// A number that `conntrack` refuses, in its words or in those of a strict reading.
    fn refusal(&mut self, refused: CliError) -> CliError {
        let strict = self.own || strict::changes(self.request.command, self.request.given);
        if strict { self.request.flaw.take().unwrap_or(refused) } else { refused }
    }

    /// Keeps the first flaw.
    fn flaw(&mut self, flaw: impl FnOnce() -> CliError) {
        if self.request.flaw.is_none() {
            self.request.flaw = Some(flaw());
        }
    }

    fn command(&mut self, command: Command, attached: Option<&'a [u8]>) -> Result<(), CliError> {
        if let Some(value) = attached {
            let name = COMMANDS.iter().find(|spec| spec.command == command).map_or("", |spec| spec.long);
            self.flaw(|| strict::attached(name, value, true));
        }
        let table = match self.scanner.take_optional(attached) {
            Some(word) => {
                if word.is_empty() {
                    self.flaw(|| CliError::EmptyTable);
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
        if self.request.command.is_some() {
            return Err(CliError::CommandsCombined);
        }
        self.request.command = Some((command, table));
        Ok(())
    }

    /// The number of an option.
    fn number(&mut self, key: Key, text: &[u8], kind: Numeric) -> Result<u32, CliError> {
        let reading = kind.read(text);
        if !reading.exact {
            let (letter, name) = strict::names(key);
            self.flaw(|| strict::wrong_number(letter, name, text, kind).into());
        }
        match kind.refuses() {
            Some(option) if reading.refused => Err(CliError::UnexpectedValue { value: text.into(), option }),
            _ => Ok(reading.value),
        }
    }

    /// A size or a time. `conntrack` takes numbers alone.
    fn measure(&mut self, key: Key, text: &[u8], kind: Numeric) -> Result<u32, CliError> {
        if !self.own || kind.read(text).exact {
            return self.number(key, text, kind);
        }
        strict::measured(key, text, kind, 0).or_else(|wrong| {
            self.flaw(|| wrong.into());
            Ok(0)
        })
    }

    fn zone(&mut self, key: Key, text: &[u8], letter: char) -> Result<u16, CliError> {
        self.number(key, text, Numeric::zone(letter)).map(|zone| zone as u16)
    }

    fn protocol_option(&mut self, key: ProtocolKey, text: &'a [u8]) -> Result<(), CliError> {
        let number = self.request.protocol.map_or(0, |protocol| protocol.number);
        let exact = self.request.protocol_values.set(number, key, text)?;
        let options =
            self.request.protocol.and_then(|protocol| protocol.handler).map_or(&[][..], |known| known.options);
        let name = options.iter().find(|option| option.key == key).map_or("", |option| option.name());
        if !exact {
            self.flaw(|| match key {
                ProtocolKey::Role => WrongValue::new(None, name, text, "client or server".to_owned()).into(),
                _ => strict::wrong_number(None, name, text, protocols::numeric(number, key)).into(),
            });
        }
        Ok(())
    }

    fn option(&mut self, key: Key, attached: Option<&'a [u8]>) -> Result<(), CliError> {
        let optional = matches!(key, Key::SourceNat | Key::DestinationNat | Key::AnyNat | Key::LabelDelete);
        let taken = if optional { self.scanner.take_optional(attached) } else { None };
        if let (true, Some(value)) = (optional, attached) {
            self.flaw(|| strict::attached(strict::names(key).1, value, false));
        }
        let value = attached.unwrap_or_default();
        match key {
            Key::Source
            | Key::Destination
            | Key::ReplySource
            | Key::ReplyDestination
            | Key::TupleSource
            | Key::TupleDestination
            | Key::MaskSource
            | Key::MaskDestination => self.address_option(key, value)?,
            Key::Protocol => self.protocol(value)?,
            Key::Timeout => self.request.timeout = self.measure(key, value, Numeric::LONG)?,
            Key::Status => self.status(value)?,
            Key::Zero => {}
            Key::EventMask => self.events(value)?,
            Key::Mark => self.mark(value)?,
            Key::Id => self.request.id = self.number(key, value, Numeric::id('i'))?,
            Key::Family => self.family(value)?,
            Key::SourceNat => self.nat(key, taken, |request| &mut request.source_nat)?,
            Key::DestinationNat => self.nat(key, taken, |request| &mut request.destination_nat)?,
            Key::AnyNat => self.nat(key, taken, |request| &mut request.any_nat)?,
            Key::Output => self.output(value)?,
            Key::Secmark => self.request.secmark = self.number(key, value, Numeric::id('c'))?,
            Key::BufferSize => self.request.buffer_size = self.measure(key, value, Numeric::BUFFER)?,
            Key::Zone => self.request.zone = self.zone(key, value, 'w')?,
            Key::OriginalZone => self.request.original_zone = self.zone(key, value, '(')?,
            Key::ReplyZone => self.request.reply_zone = self.zone(key, value, ')')?,
            Key::Label => self.request.labels.push((LabelUse::Match, value.to_vec())),
            Key::LabelAdd => {
                if self.request.given.contains(Key::LabelDelete) {
                    return Err(CliError::LabelAddWithDelete);
                }
                self.request.labels.push((LabelUse::Add, value.to_vec()));
            }
            Key::LabelDelete => {
                if self.request.given.contains(Key::LabelAdd) {
                    return Err(CliError::LabelAddWithDelete);
                }
                self.request.labels.extend(taken.map(|list| (LabelUse::Delete, list.to_vec())));
            }
            Key::LabelMap => {
                if value.is_empty() {
                    self.flaw(|| WrongValue::new(None, "labelmap", value, "the name of a file".to_owned()).into());
                }
                if self.request.label_map.replace(value.to_vec()).is_some() {
                    return Err(CliError::LabelMapTwice);
                }
            }
            Key::NatRange => {
                self.warnings.push("WARNING: ignoring -a, deprecated option.".to_owned());
                return Ok(());
            }
            Key::Plugin => self.request.plugins.push(plugin::parse(value, self.environment)?),
            Key::Grant => plugin::grant(&mut self.request.plugins, value)?,
            Key::OnError => plugin::on_error(&mut self.request.plugins, value)?,
            // That they were given is all there is to know.
            Key::DryRun
            | Key::Stats
            | Key::Reliable
            | Key::Resync
            | Key::AllNetns
            | Key::Explain
            | Key::Quiet
            | Key::All
            | Key::KeepGoing => {}
            Key::Labels
            | Key::Helper
            | Key::OriginalSequence
            | Key::ReplySequence
            | Key::OriginalTcpFlags
            | Key::ReplyTcpFlags
            | Key::OriginalWindowScale
            | Key::ReplyWindowScale
            | Key::Synproxy
            | Key::Master => self.request.details.get_or_insert_default().set(key, value, self.environment)?,
            Key::SetZone => {
                let zone = whole(value, u16::MAX.into()).map(|zone| zone as u16);
                let takes = "a zone, which is a number from 0 to 65535";
                let wrong = WrongValue::new(None, "set-zone", value, takes.to_owned());
                self.request.set_zone = zone.ok_or(wrong)?;
            }
            Key::BufferMax => self.request.buffer_max = strict::measured(key, value, Numeric::BUFFER, 1)?,
            Key::Netns if value.is_empty() => return Err(CliError::NoNetns),
            Key::Netns => self.request.netns = Some(value.to_vec()),
            Key::Batch => self.request.batch = batch(value)?,
            Key::Metrics => {
                let address = String::from_utf8_lossy(value).parse();
                self.request.metrics =
                    Some(address.map_err(|error: AddressError| CliError::Metrics(error.to_string()))?);
            }
        }
        self.request.given.insert(key);
        Ok(())
    }

    fn mark(&mut self, text: &[u8]) -> Result<(), CliError> {
        let mark = values::mark(text);
        if mark.as_ref().map_or(true, |mark| !mark.exact) {
            self.flaw(|| strict::wrong_mark(text).into());
        }
        self.request.mark = mark?.masked;
        Ok(())
    }

    fn family(&mut self, text: &[u8]) -> Result<(), CliError> {
        let family = match text {
            [b'i', b'p', b'v', b'4', ..] => flowgate_model::family::IPV4,
            [b'i', b'p', b'v', b'6', ..] => flowgate_model::family::IPV6,
            _ => return Err(CliError::UnsupportedProtocol(text.into())),
        };
        if text.len() > 4 {
            let (letter, name) = strict::names(Key::Family);
            self.flaw(|| WrongValue::new(letter, name, text, "ipv4 or ipv6".to_owned()).into());
        }
        self.fix_family(family)
    }

    fn fix_family(&mut self, family: u8) -> Result<(), CliError> {
        if *self.request.family.get_or_insert(family) != family {
            return Err(CliError::MismatchedFamily);
        }
        Ok(())
    }

    /// An address and, where one is taken, the mask of its prefix length.
    fn address(&mut self, key: Key, text: &[u8]) -> Result<(IpAddr, Option<IpAddr>), CliError> {
        let name = strict::names(key).1;
        let explained = |own: bool, error, is_ipv4| match own {
            true => strict::explained(error, name, text, is_ipv4),
            false => error,
        };
        let network = values::network(text).map_err(|error| explained(self.own, error, true))?;
        self.fix_family(values::family(&network.address))?;
        let mask = match &network.prefix {
            None => None,
            Some(_) if !matches!(key, Key::Source | Key::Destination | Key::TupleSource | Key::TupleDestination) => {
                return Err(CliError::NoPrefixHere(name));
            }
            Some(prefix) => values::netmask(prefix, &network.address)
                .map_err(|error| explained(self.own, error, network.address.is_ipv4()))?,
        };
        if let Some(flaw) = values::address_flaw(text, &network, mask.as_ref()) {
            self.flaw(|| strict::wrong_address(key, text, flaw).into());
        }
        Ok((network.address, mask))
    }

    /// Keeps what a prefix or a mask says of an address; the two must not say different things.
    fn keep_mask(&mut self, key: Key, text: &[u8], address: IpAddr, mask: Option<IpAddr>) {
        let [prefixes, masks] = &mut self.request.masks;
        let ([source, destination], said) = match key {
            Key::MaskSource | Key::MaskDestination => (masks, Some(address)),
            _ => (prefixes, text.contains(&b'/').then(|| mask.unwrap_or(values::whole(&address)))),
        };
        match key {
            Key::Source | Key::TupleSource | Key::MaskSource => *source = said.or(*source),
            Key::Destination | Key::TupleDestination | Key::MaskDestination => *destination = said.or(*destination),
            _ => return,
        }
        let [prefixes, masks] = self.request.masks;
        if prefixes
            .iter()
            .zip(masks)
            .any(|(prefix, mask)| prefix.is_some_and(|prefix| mask.is_some_and(|mask| mask != prefix)))
        {
            self.flaw(|| strict::wrong_address(key, text, AddressFlaw::TwoMasks).into());
        }
    }

    fn address_option(&mut self, key: Key, text: &[u8]) -> Result<(), CliError> {
        let (address, mask) = self.address(key, text)?;
        self.keep_mask(key, text, address, mask);
        let request = &mut self.request;
        let place = match key {
            Key::Source => &mut request.source,
            Key::Destination => &mut request.destination,
            Key::ReplySource => &mut request.reply_source,
            Key::ReplyDestination => &mut request.reply_destination,
            Key::TupleSource => &mut request.tuple_source,
            Key::TupleDestination => &mut request.tuple_destination,
            Key::MaskSource => &mut request.mask_source,
            _ => &mut request.mask_destination,
        };
        let before = place.replace(address);
        let (masks, left) = match key {
            Key::Source | Key::TupleSource => (Key::MaskSource, request.mask_source),
            Key::Destination | Key::TupleDestination => (Key::MaskDestination, request.mask_destination),
            _ => (key, None),
        };
        if before.is_some_and(|before| before != address)
            && mask.is_none()
            && left.is_some()
            && request.given.contains(masks)
        {
            request.masked_by_another.get_or_insert(strict::names(key).1);
        }
        if mask.is_some() {
            if matches!(key, Key::Source | Key::TupleSource) {
                request.mask_source = mask;
                request.given.insert(Key::MaskSource);
            } else {
                request.mask_destination = mask;
                request.given.insert(Key::MaskDestination);
            }
        }
        Ok(())
    }

    fn nat(
        &mut self,
        key: Key,
        text: Option<&[u8]>,
        place: impl FnOnce(&mut Request) -> &mut Nat,
    ) -> Result<(), CliError> {
        let Some(text) = text else {
            return Ok(());
        };
        let (host, port) = values::split_port(text)?;
        let (address, _) = self.address(key, host)?;
        if values::has_text_around_brackets(text) {
            let (letter, name) = strict::names(key);
            self.flaw(|| {
                WrongValue::new(letter, name, text, "ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT".to_owned()).into()
            });
        }
        *place(&mut self.request) = Nat { address: Some(address), port };
        Ok(())
    }

    fn protocol(&mut self, text: &[u8]) -> Result<(), CliError> {
        let environment = self.environment;
        let protocol = Protocol::find(text, || Database::load(environment))?;
        if let Some(before) = self.request.protocol
            && before.number != protocol.number
        {
            let given = &self.request.protocol_values;
            let options = before.handler.map_or(&[][..], |handler| handler.options);
            let stray = options.iter().find(|option| given.has(option.key)).map(|option| option.name());
            self.request.stray = self.request.stray.or(stray);
            self.request.protocol_values = ProtocolValues::default();
        }
        self.request.protocol = Some(protocol);
        self.known.set_protocol(protocol);
        Ok(())
    }

    /// Whether an element of a list asks for translation, which is ignored with a warning.
    fn ignored(&mut self, element: &[u8]) -> bool {
        let ignored = values::Ignored::of(element);
        self.warnings.extend(ignored.map(|ignored| ignored.warning().to_owned()));
        ignored.is_some()
    }

    fn status(&mut self, list: &[u8]) -> Result<(), CliError> {
        self.request.status_text = list.into();
        for (element, rest) in values::elements(list) {
            if element.starts_with(b"UNREPLIED") {
                if element.len() > b"UNREPLIED".len() {
                    let (letter, name) = strict::names(Key::Status);
                    self.flaw(|| WrongValue::new(letter, name, element, "names such as UNREPLIED".to_owned()).into());
                }
                self.request.status.clear |= flowgate_model::status::SEEN_REPLY;
                continue;
            }
            let (negated, name, rest) = match element {
                [b'!', name @ ..] => (true, name, rest.get(1..).unwrap_or_default()),
                name => (false, name, rest),
            };
            if self.ignored(name) {
                self.request.status_ignored = true;
                continue;
            }
            let found = STATUS_NAMES.iter().find(|(full, _)| !name.is_empty() && values::abbreviates(name, full));
            let (full, bit) = found.ok_or_else(|| values::bad_parameter(rest))?;
            if *full == "UNSET" && values::abbreviates(name, "UNREPLIED") {
                let (letter, option) = strict::names(Key::Status);
                self.flaw(|| {
                    WrongValue::new(letter, option, name, "UNSET or UNREPLIED, written out".to_owned()).into()
                });
            }
            self.request.status.unset |= !negated && *full == "UNSET";
            let set = if negated { &mut self.request.status.clear } else { &mut self.request.status.set };
            *set |= bit;
        }
        Ok(())
    }

    fn events(&mut self, list: &[u8]) -> Result<(), CliError> {
        for (name, rest) in values::elements(list) {
            if self.ignored(name) {
                self.request.events.get_or_insert(EventGroups::NONE);
                continue;
            }
            let groups = self.request.events.get_or_insert(EventGroups::NONE);
            let found = EVENT_NAMES.iter().find(|(full, _)| !name.is_empty() && values::abbreviates(name, full));
            let (_, more) = found.ok_or_else(|| values::bad_parameter(rest))?;
            groups.new |= more.new;
            groups.update |= more.update;
            groups.destroy |= more.destroy;
        }
        Ok(())
    }

    fn output(&mut self, list: &[u8]) -> Result<(), CliError> {
        for (name, rest) in values::elements(list) {
            if self.ignored(name) {
                continue;
            }
            let found = Output::NAMES.iter().find(|(_, full)| !name.is_empty() && values::abbreviates(name, full));
            let own = Output::OWN_NAMES.iter().find(|(_, full)| self.own && name.eq_ignore_ascii_case(full.as_bytes()));
            let bit = found.or(own).map(|(bit, _)| *bit);
            self.request.output.insert(bit.ok_or_else(|| values::bad_parameter(rest))?);
        }
        let output = self.request.output;
        let with_save =
            [Output::XML, Output::EXTENDED, Output::TIMESTAMP, Output::ID, Output::KERNEL_TIMESTAMP, Output::LABELS];
        if output.contains(Output::JSON) {
            for (other, name) in [(Output::XML, "xml"), (Output::SAVE, "save")] {
                if output.contains(other) {
                    return Err(CliError::JsonWithOther(name));
                }
            }
        }
        if output.contains(Output::SAVE) && with_save.iter().any(|other| output.contains(*other)) {
            return Err(CliError::SaveWithOther);
        }
        Ok(())
    }
}

/// The table that a word names: the first of which it is the beginning. To `conntrack`, `expect` comes first.
fn table(word: &[u8]) -> Result<Table, CliError> {
    let mut tables = [Table::Expect].into_iter().chain(Table::ALL);
    tables.find(|table| table.name().as_bytes().starts_with(word)).ok_or_else(|| CliError::UnknownTable(word.into()))
}

fn batch(text: &[u8]) -> Result<u32, CliError> {
    let digits = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let rows = digits.and_then(|text| text.parse().ok()).filter(|rows| (1..=65536).contains(rows));
    rows.ok_or_else(|| CliError::BatchRows(text.into()))
}
