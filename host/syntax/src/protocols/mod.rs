//! The options of layer-4 protocols: names, the commands that accept them, and values.
//!
//! They exist only after `-p`. Protocols of which connection tracking knows only the number have none.

mod database;
mod table;

pub use database::{DATABASE_PATH, Database};
pub use table::PROTOCOLS;

use super::error::CliError;
use super::settings::{Command, Table};
use super::values::{self, NumberFormat};

/// Identifies an option of a protocol. Ports and GRE keys are the same words of the tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolKey {
    /// First word of the original tuple.
    Source,
    /// Second word of the original tuple.
    Destination,
    /// First word of the reply tuple.
    ReplySource,
    /// Second word of the reply tuple.
    ReplyDestination,
    /// First word of an expectation's mask.
    MaskSource,
    /// Second word of an expectation's mask.
    MaskDestination,
    /// State.
    State,
    /// First word of an expectation's tuple.
    TupleSource,
    /// Second word of an expectation's tuple.
    TupleDestination,
    /// Verification tag of SCTP, original direction.
    OriginalVtag,
    /// Verification tag of SCTP, reply direction.
    ReplyVtag,
    /// Role of DCCP.
    Role,
    /// ICMP type.
    IcmpType,
    /// ICMP code.
    IcmpCode,
    /// ICMP identifier.
    IcmpId,
}

/// An option of a protocol. All take a value.
#[derive(Debug, Clone, Copy)]
pub struct ProtocolOption {
    /// Identifies the option.
    pub key: ProtocolKey,
    /// Its names. Messages use the first.
    pub long: &'static [&'static str],
    /// Placeholder of the value in help.
    pub placeholder: &'static str,
    /// How each command treats it: `R` required, `o` optional, `.` illegal, `T` one of a pair. The columns are L D E,
    /// U, I A, G, then for expectations I, D G.
    pub legality: &'static str,
    /// One line of help.
    pub help: &'static str,
}

impl ProtocolOption {
    /// Returns the name used in messages.
    pub fn name(&self) -> &'static str {
        self.long.first().copied().unwrap_or_default()
    }

    /// Returns how a command treats the option.
    pub fn legality(&self, command: Command, table: Table) -> u8 {
        let column = match (table, command) {
            (Table::Expect, Command::Create) => 4,
            (Table::Expect, _) => 5,
            (_, Command::Update) => 1,
            (_, Command::Create | Command::Add) => 2,
            (_, Command::Get) => 3,
            _ => 0,
        };
        self.legality.as_bytes().get(column).copied().unwrap_or(b'.')
    }
}

/// A protocol with options of its own.
#[derive(Debug)]
pub struct ProtocolSpec {
    /// Its name, which `-p` accepts in any case.
    pub name: &'static str,
    /// Its number.
    pub number: u8,
    /// Its options, in the order in which errors in them are reported.
    pub options: &'static [ProtocolOption],
    /// The pairs of which one must be complete, by their names in messages (which are not always those of the options):
    /// of the original direction, of the reply.
    pub pairs: [(&'static str, &'static str); 2],
}

impl ProtocolSpec {
    /// Returns the protocol with options that has this number.
    pub fn of(number: u8) -> Option<&'static Self> {
        PROTOCOLS.iter().find(|spec| spec.number == number)
    }
}

/// The layer-4 protocol that `-p` selected.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// Its number.
    pub number: u8,
    /// Its options, if it has any.
    pub spec: Option<&'static ProtocolSpec>,
}

impl Protocol {
    /// Finds the protocol that `-p` names. Protocols with options are found by name in any case; others by their name
    /// in the protocols database; all by number.
    pub fn find(text: &[u8], database: impl FnOnce() -> Database) -> Result<Self, CliError> {
        if let Some(spec) = PROTOCOLS.iter().find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(text)) {
            return Ok(Self { number: spec.number, spec: Some(spec) });
        }
        if let Some(number) = database().number(text) {
            return Ok(Self { number, spec: None });
        }
        let number = values::protocol_number(text).ok_or_else(|| CliError::UnsupportedProtocol(text.into()))?;
        Ok(Self { number, spec: ProtocolSpec::of(number) })
    }

    /// Returns its name in the heading of its help.
    pub fn title(&self, database: impl FnOnce() -> Database) -> String {
        match self.spec {
            Some(spec) => spec.name.to_owned(),
            None => match database().name(self.number) {
                Some(name) => String::from_utf8_lossy(name).into_owned(),
                None => "unknown".to_owned(),
            },
        }
    }
}

/// The values of the options of a protocol.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProtocolValues {
    given: u32,
    /// Ports or keys of the original direction.
    pub original: [u16; 2],
    /// Ports or keys of the reply direction.
    pub reply: [u16; 2],
    /// Ports or keys of an expectation's mask.
    pub mask: [u16; 2],
    /// Ports or keys of an expectation's tuple.
    pub tuple: [u16; 2],
    /// State, by number.
    pub state: u8,
    /// Verification tags of SCTP.
    pub vtags: [u32; 2],
    /// Role of DCCP: 0 client, 1 server.
    pub role: u8,
    /// ICMP type.
    pub icmp_type: u8,
    /// ICMP code.
    pub icmp_code: u8,
    /// ICMP identifier.
    pub icmp_id: u16,
}

impl ProtocolValues {
    /// Returns true if the option was given.
    pub fn has(&self, key: ProtocolKey) -> bool {
        self.given & (1 << key as u32) != 0
    }

    /// Returns the value if the option was given.
    pub fn if_given<T>(&self, key: ProtocolKey, value: T) -> Option<T> {
        self.has(key).then_some(value)
    }

    /// Parses the value of an option. Returns false for a number that `conntrack` would interpret as a different one,
    /// and for an empty role.
    pub fn set(&mut self, protocol: u8, key: ProtocolKey, text: &[u8]) -> Result<bool, CliError> {
        let mut exact = true;
        let mut number = || {
            let reading = number_format(protocol, key).read(text);
            exact = reading.exact;
            reading.value
        };
        match key {
            ProtocolKey::Source => self.original[0] = number() as u16,
            ProtocolKey::Destination => self.original[1] = number() as u16,
            ProtocolKey::ReplySource => self.reply[0] = number() as u16,
            ProtocolKey::ReplyDestination => self.reply[1] = number() as u16,
            ProtocolKey::MaskSource => self.mask[0] = number() as u16,
            ProtocolKey::MaskDestination => self.mask[1] = number() as u16,
            ProtocolKey::TupleSource => self.tuple[0] = number() as u16,
            ProtocolKey::TupleDestination => self.tuple[1] = number() as u16,
            ProtocolKey::State => self.state = state(protocol, text)?,
            ProtocolKey::OriginalVtag => self.vtags[0] = number(),
            ProtocolKey::ReplyVtag => self.vtags[1] = number(),
            ProtocolKey::Role => {
                self.role = role(text)?;
                exact = !text.is_empty();
            }
            ProtocolKey::IcmpType => self.icmp_type = number() as u8,
            ProtocolKey::IcmpCode => self.icmp_code = number() as u8,
            ProtocolKey::IcmpId => self.icmp_id = number() as u16,
        }
        self.given |= 1 << key as u32;
        Ok(exact)
    }
}

/// Returns the format of the numbers that an option of a protocol takes; meaningless for options that take names.
pub fn number_format(protocol: u8, key: ProtocolKey) -> NumberFormat {
    match key {
        ProtocolKey::OriginalVtag | ProtocolKey::ReplyVtag => NumberFormat::LONG,
        ProtocolKey::IcmpType | ProtocolKey::IcmpCode => NumberFormat::BYTE,
        _ if protocol == flowgate_model::protocol::GRE => NumberFormat::KEY,
        _ => NumberFormat::WORD,
    }
}

/// Returns the names of states, indexed by number; none for protocols without states. Those of TCP end with LISTEN, an
/// alias of SYN_SENT2, which has the number of the former LISTEN in the kernel.
pub fn state_names(protocol: u8) -> Vec<&'static str> {
    match protocol {
        flowgate_model::protocol::TCP => flowgate_model::state::TCP.into_iter().chain(["LISTEN"]).collect(),
        // The kernel reports the HEARTBEAT states but does not accept them.
        flowgate_model::protocol::SCTP => flowgate_model::state::SCTP.into_iter().take(8).collect(),
        flowgate_model::protocol::DCCP => flowgate_model::state::DCCP.to_vec(),
        _ => Vec::new(),
    }
}

/// Returns the number of a state's name, which is exact and in capitals.
fn state(protocol: u8, text: &[u8]) -> Result<u8, CliError> {
    let error: fn(_) -> _ = match protocol {
        flowgate_model::protocol::TCP => CliError::UnknownTcpState,
        flowgate_model::protocol::SCTP => CliError::UnknownSctpState,
        _ => CliError::UnknownDccpState,
    };
    let text = if protocol == flowgate_model::protocol::TCP && text == b"LISTEN" { b"SYN_SENT2" } else { text };
    let found = state_names(protocol).iter().position(|name| name.as_bytes() == text);
    found.and_then(|index| u8::try_from(index).ok()).ok_or_else(|| error(text.into()))
}

/// Returns the number of a role's name, which may be abbreviated to the empty word.
fn role(text: &[u8]) -> Result<u8, CliError> {
    match text {
        _ if values::abbreviates(text, "client") => Ok(0),
        _ if values::abbreviates(text, "server") => Ok(1),
        _ => Err(CliError::UnknownDccpRole(text.into())),
    }
}

/// Checks the options of the protocol against the command, and the rule of pairs.
pub fn check(spec: &ProtocolSpec, given: &ProtocolValues, command: Command, table: Table) -> Result<(), CliError> {
    let mut pairs = false;
    for option in spec.options {
        match (option.legality(command, table), given.has(option.key)) {
            (b'R', false) => return Err(CliError::Missing(option.name())),
            (b'.', true) => return Err(CliError::Illegal(option.name())),
            (b'T', _) => pairs = true,
            _ => {}
        }
    }
    let has = |keys: [ProtocolKey; 2]| keys.map(|key| given.has(key));
    let original = has([ProtocolKey::Source, ProtocolKey::Destination]);
    let reply = has([ProtocolKey::ReplySource, ProtocolKey::ReplyDestination]);
    if !pairs || original == [true; 2] || reply == [true; 2] {
        return Ok(());
    }
    let [(first, second), (reply_first, reply_second)] = spec.pairs;
    if original != [false; 2] || reply == [false; 2] {
        Err(CliError::IncompletePair(first, second))
    } else {
        Err(CliError::IncompletePair(reply_first, reply_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str) -> Result<(u8, bool), CliError> {
        let protocol = Protocol::find(text.as_bytes(), Database::built_in)?;
        Ok((protocol.number, protocol.spec.is_some()))
    }

    #[test]
    fn protocols_are_found_by_name_and_number() {
        assert_eq!(find("TcP"), Ok((6, true)));
        assert_eq!(find("ICMPV6"), Ok((58, true)));
        assert_eq!(find("ipv6-icmp"), Ok((58, false)));
        assert_eq!(find("esp"), Ok((50, false)));
        assert_eq!(find("ESP"), Ok((50, false)));
        assert_eq!(find("Esp"), Err(CliError::UnsupportedProtocol("Esp".into())));
        assert_eq!(find(" 0x6"), Ok((6, true)));
        assert_eq!(find("06"), Ok((6, true)));
        assert_eq!(find("99"), Ok((99, false)));
        for wrong in ["", "256", "-1", "6x", "99999999999999999999999"] {
            assert_eq!(find(wrong), Err(CliError::UnsupportedProtocol(wrong.into())));
        }
    }

    #[test]
    fn states_and_roles_have_names() {
        let mut given = ProtocolValues::default();
        let mut set = |protocol, key, text: &str| given.set(protocol, key, text.as_bytes()).map(|_| given);
        use ProtocolKey::{Role, State};
        assert_eq!(set(6, State, "LISTEN").map(|given| given.state), Ok(9));
        assert_eq!(set(6, State, "TIME_WAIT").map(|given| given.state), Ok(7));
        assert_eq!(set(6, State, "x").map(|given| given.state), Err(CliError::UnknownTcpState("x".into())));
        assert_eq!(set(132, State, "SHUTDOWN_ACK_SENT").map(|given| given.state), Ok(7));
        let error = set(132, State, "HEARTBEAT_SENT").map(|given| given.state);
        assert_eq!(error, Err(CliError::UnknownSctpState("HEARTBEAT_SENT".into())));
        assert_eq!(set(33, State, "INVALID").map(|given| given.state), Ok(9));
        assert_eq!(set(33, State, "").map(|given| given.state), Err(CliError::UnknownDccpState("".into())));
        assert_eq!(set(33, Role, "S").map(|given| given.role), Ok(1));
        assert_eq!(set(33, Role, "").map(|given| given.role), Ok(0));
        assert_eq!(set(33, Role, "servers").map(|given| given.role), Err(CliError::UnknownDccpRole("servers".into())));
    }

    #[test]
    fn keys_may_be_hexadecimal_and_ports_not() {
        let mut given = ProtocolValues::default();
        given.set(47, ProtocolKey::Source, b"0x10").expect("a key");
        given.set(17, ProtocolKey::Destination, b"0x10").expect("a port");
        assert_eq!(given.original, [16, 0]);
    }

    #[test]
    fn one_pair_must_be_complete() {
        let tcp = PROTOCOLS.iter().find(|spec| spec.name == "udp").expect("udp");
        let check = |keys: &[ProtocolKey]| {
            let mut given = ProtocolValues::default();
            for key in keys {
                given.set(17, *key, b"1").expect("a port");
            }
            check(tcp, &given, Command::Create, Table::Conntrack)
        };
        use ProtocolKey::{Destination, MaskSource, ReplyDestination, ReplySource, Source};
        assert_eq!(check(&[Source, Destination]), Ok(()));
        assert_eq!(check(&[ReplySource, ReplyDestination]), Ok(()));
        assert_eq!(check(&[]), Err(CliError::IncompletePair("sport", "dport")));
        assert_eq!(check(&[Source, ReplySource]), Err(CliError::IncompletePair("sport", "dport")));
        assert_eq!(check(&[ReplySource]), Err(CliError::IncompletePair("reply-src-port", "reply-dst-port")));
        assert_eq!(check(&[Source, Destination, MaskSource]), Err(CliError::Illegal("mask-port-src")));
    }

    #[test]
    fn every_row_has_six_columns() {
        for option in PROTOCOLS.iter().flat_map(|spec| spec.options) {
            assert_eq!(option.legality.len(), 6, "{}", option.name());
        }
    }
}
