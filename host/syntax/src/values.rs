//! Values of options: numbers, addresses, networks, marks, translations.
//!
//! Numbers are read as strtol(3) and its kin read them, because scripts rely on octal, hexadecimal and worse.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::error::{CliError, Word};

/// What strtoul(3) makes of the start of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    /// The digits' value, u64::MAX if they are too many.
    pub magnitude: u64,
    /// Whether a minus stood before them.
    pub negative: bool,
    /// How many bytes belong to the number, 0 if there is none.
    pub length: usize,
}

impl Number {
    /// As an `unsigned long`: a minus wraps around, except that what is too large stays the largest.
    pub(crate) fn wrapping(self) -> u64 {
        if self.negative && self.magnitude != u64::MAX { self.magnitude.wrapping_neg() } else { self.magnitude }
    }

    /// As a `long`: what is too large or too small is the largest or smallest.
    fn saturating(self) -> i64 {
        let magnitude = i64::try_from(self.magnitude).unwrap_or(i64::MAX);
        match self.negative {
            true if self.magnitude > i64::MAX as u64 => i64::MIN,
            true => -magnitude,
            false => magnitude,
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// Reads a number in base 10, or for base 0 in the base that its prefix says (`0x` hexadecimal, `0` octal). Blanks and a
/// sign may stand before it, anything after it.
pub(crate) fn number(text: &[u8], base: u32) -> Number {
    let blanks = text.iter().take_while(|byte| is_space(**byte)).count();
    let signed = text.get(blanks..).unwrap_or_default();
    let negative = signed.first() == Some(&b'-');
    let sign = usize::from(matches!(signed.first(), Some(b'-' | b'+')));
    let digits = signed.get(sign..).unwrap_or_default();
    let digit = |byte: &u8, base: u32| char::from(*byte).to_digit(base);
    let (base, prefix) = match (base, digits) {
        (0, [b'0', b'x' | b'X', first, ..]) if digit(first, 16).is_some() => (16, 2),
        (0, [b'0', ..]) => (8, 0),
        (0, _) => (10, 0),
        (base, _) => (base, 0),
    };
    let mut magnitude: u64 = 0;
    let mut count = 0;
    for value in digits.get(prefix..).unwrap_or_default().iter().map_while(|byte| digit(byte, base)) {
        magnitude = magnitude.saturating_mul(u64::from(base)).saturating_add(u64::from(value));
        count += 1;
    }
    let length = if count == 0 { 0 } else { blanks + sign + prefix + count };
    Number { magnitude, negative, length }
}

/// The largest receive buffer in bytes: the kernel doubles it and keeps it as an int.
pub const RECEIVE_BUFFER_MOST: u32 = (1 << 30) - 1;

/// A number that an option takes: how it is written, and how large it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numeric {
    /// 10, or 0 for the base that the number's prefix says.
    base: u32,
    /// The largest value.
    maximum: u32,
    /// The bits that `conntrack` keeps of a number that is too large.
    kept: u32,
    /// The letter in the message of `conntrack`, for the options of which it refuses what is no such number.
    refuses: Option<char>,
}

/// What stands in the place of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// What `conntrack` makes of it.
    pub value: u32,
    /// Whether it is a number of this kind: the whole text, not negative, in range.
    pub exact: bool,
    /// Whether `conntrack` refuses it.
    pub refused: bool,
}

impl Numeric {
    /// A port or an ICMP identifier: decimal.
    pub const WORD: Self = Self::loose(10, 0xffff);
    /// A GRE key: decimal, octal or hexadecimal.
    pub const KEY: Self = Self::loose(0, 0xffff);
    /// An ICMP type or code: decimal.
    pub const BYTE: Self = Self::loose(10, 0xff);
    /// A timeout in seconds, or a verification tag: decimal.
    pub const LONG: Self = Self::loose(10, u32::MAX);
    /// A size of a receive buffer in bytes: decimal.
    pub const BUFFER: Self = Self { base: 10, maximum: RECEIVE_BUFFER_MOST, kept: u32::MAX, refuses: None };

    const fn loose(base: u32, maximum: u32) -> Self {
        Self { base, maximum, kept: maximum, refuses: None }
    }

    /// A zone, for the option of this letter: decimal, octal or hexadecimal.
    pub const fn zone(letter: char) -> Self {
        Self { base: 0, maximum: 0xffff, kept: 0xffff, refuses: Some(letter) }
    }

    /// An id or a security mark, for the option of this letter: decimal, octal or hexadecimal.
    pub const fn id(letter: char) -> Self {
        Self { base: 0, maximum: u32::MAX, kept: u32::MAX, refuses: Some(letter) }
    }

    /// Whether it is written in decimal only.
    pub fn is_decimal(self) -> bool {
        self.base == 10
    }

    /// The largest value.
    pub fn maximum(self) -> u32 {
        self.maximum
    }

    /// The letter in the message of `conntrack`, if it refuses what is no such number.
    pub fn refuses(self) -> Option<char> {
        self.refuses
    }

    /// Reads a text of any kind: the one place where an option's text becomes a number.
    pub fn read(self, text: &[u8]) -> Reading {
        let number = number(text, self.base);
        let whole = number.length != 0 && number.length == text.len() && number.magnitude <= u64::from(self.maximum);
        let exact = whole && !number.negative;
        let refused = self.refuses.is_some() && !(exact || whole && number.magnitude == 0);
        // atol(3) for decimal numbers, strtoul(3) for the others.
        let value = if self.base == 10 { number.saturating() as u32 } else { number.wrapping() as u32 };
        Reading { value: value & self.kept, exact, refused }
    }
}

/// A mark and its mask.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Mark {
    /// What `conntrack` makes of the text.
    pub masked: flowgate_model::Masked,
    /// Whether both are whole numbers from 0 to 4294967295.
    pub exact: bool,
}

/// `MARK[/MASK]`. The mark must be a number of 32 bits; `conntrack` cuts the mask to 32 bits, and takes an empty one for 0.
pub(crate) fn mark(text: &[u8]) -> Result<Mark, CliError> {
    let wrong = || CliError::UnexpectedValue { value: text.into(), option: 'm' };
    let first = number(text, 0);
    if first.length == 0 {
        return Err(wrong());
    }
    let value = u32::try_from(first.wrapping()).map_err(|_| wrong())?;
    match text.get(first.length..).unwrap_or_default() {
        [] => Ok(Mark { masked: flowgate_model::Masked { value, mask: u32::MAX }, exact: !first.negative }),
        [b'/', rest @ ..] => {
            let mask = number(rest, 0);
            if mask.length != rest.len() {
                return Err(wrong());
            }
            let exact = !first.negative && Numeric::id('m').read(rest).exact;
            Ok(Mark { masked: flowgate_model::Masked { value, mask: mask.wrapping() as u32 }, exact })
        }
        _ => Err(wrong()),
    }
}

/// A layer-4 protocol by number: base 0, the whole text, at most 255.
pub(crate) fn protocol_number(text: &[u8]) -> Option<u8> {
    let number = number(text, 0);
    (number.length != 0 && number.length == text.len()).then(|| u8::try_from(number.wrapping()).ok()).flatten()
}

/// inet_aton(3): one to four parts in base 0, of which the last fills the bytes that are left; blanks and anything
/// behind them may follow.
fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut rest = text;
    let mut address: u32 = 0;
    for part in 0..4u32 {
        if !rest.first().is_some_and(u8::is_ascii_digit) {
            return None;
        }
        let number = number(rest, 0);
        let value = u32::try_from(number.magnitude).ok()?;
        rest = rest.get(number.length..)?;
        match rest.first() {
            Some(b'.') if part < 3 => {
                address |= u32::from(u8::try_from(value).ok()?) << (24 - 8 * part);
                rest = rest.get(1..)?;
            }
            None => return finish_ipv4(address, part, value),
            Some(byte) if is_space(*byte) => return finish_ipv4(address, part, value),
            Some(_) => return None,
        }
    }
    None
}

fn finish_ipv4(address: u32, part: u32, value: u32) -> Option<Ipv4Addr> {
    let room = u32::MAX >> (8 * part);
    (value <= room).then_some(Ipv4Addr::from(address | value))
}

/// An IP address: what inet_aton takes, or else an IPv6 address.
pub(crate) fn address(text: &[u8]) -> Option<IpAddr> {
    if let Some(address) = ipv4(text) {
        return Some(IpAddr::V4(address));
    }
    std::str::from_utf8(text).ok()?.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// An address as it was typed, and what stood behind a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Network {
    /// The address, with host bits.
    pub address: IpAddr,
    /// Text of the prefix length.
    pub prefix: Option<Vec<u8>>,
}

/// How much of an address counts: INET6_ADDRSTRLEN without the NUL.
const LONGEST_ADDRESS: usize = 45;

/// `ADDRESS[/PREFIX]`, of which the prefix is not looked at yet.
pub(crate) fn network(text: &[u8]) -> Result<Network, CliError> {
    let start = text.get(..LONGEST_ADDRESS).unwrap_or(text);
    let (host, prefix) = match start.iter().position(|byte| *byte == b'/') {
        Some(slash) => (start.get(..slash).unwrap_or_default(), start.get(slash + 1..)),
        None => (start, None),
    };
    let address = address(host).ok_or_else(|| CliError::InvalidAddress(text.into()))?;
    Ok(Network { address, prefix: prefix.map(<[u8]>::to_vec) })
}

/// Why an address that `conntrack` takes is none in a careful reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddressFlaw {
    /// Text stands behind it, which `conntrack` ignores.
    Trailing,
    /// An IPv4 address with fewer than four parts: `10.1` is 10.0.0.1, `10/8` is 0.0.0.10/8, and the mask `24` is 0.0.0.24.
    Abbreviated,
    /// A part with a leading zero, which makes it octal: `192.0.2.010` is 192.0.2.8.
    Octal,
    /// Nothing behind the slash, which `conntrack` takes for 0: every address.
    EmptyPrefix,
    /// The address has bits, and a prefix or mask of 0 leaves none of them: every address.
    NothingCompared,
    /// Its prefix says something else than the mask that is given by itself.
    TwoMasks,
}

/// What is wrong with the text of an address that [`network`] takes; `mask` is what [`netmask`] makes of its prefix.
pub(crate) fn address_flaw(text: &[u8], network: &Network, mask: Option<&IpAddr>) -> Option<AddressFlaw> {
    let host = text.split(|byte| *byte == b'/').next().unwrap_or_default();
    if text.len() > LONGEST_ADDRESS || host.iter().any(|byte| is_space(*byte)) {
        return Some(AddressFlaw::Trailing);
    }
    if let IpAddr::V4(address) = network.address {
        let dots = host.iter().filter(|byte| **byte == b'.').count();
        // A whole address as one number is taken, but not a number that is no address of anybody.
        if dots < 3 && (dots > 0 || network.prefix.is_some() || address.octets()[0] == 0) {
            return Some(AddressFlaw::Abbreviated);
        }
        if host.split(|byte| *byte == b'.').any(is_octal) {
            return Some(AddressFlaw::Octal);
        }
    }
    if network.prefix.as_ref().is_some_and(Vec::is_empty) {
        return Some(AddressFlaw::EmptyPrefix);
    }
    nothing_compared(&network.address, mask).then_some(AddressFlaw::NothingCompared)
}

/// The mask of all bits of an address.
pub(crate) fn whole(address: &IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::BROADCAST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(u128::MAX)),
    }
}

/// Whether a leading zero makes a number another one than its digits say.
fn is_octal(part: &[u8]) -> bool {
    part.len() > 1 && part.iter().all(u8::is_ascii_digit) && number(part, 0).magnitude != number(part, 10).magnitude
}

/// Whether a mask leaves nothing of an address that has bits.
pub(crate) fn nothing_compared(address: &IpAddr, mask: Option<&IpAddr>) -> bool {
    mask.is_some_and(IpAddr::is_unspecified) && !address.is_unspecified()
}

/// The mask of a prefix length for addresses like `address`; none where it is the full length. An empty length is 0.
pub(crate) fn netmask(prefix: &[u8], address: &IpAddr) -> Result<Option<IpAddr>, CliError> {
    let number = number(prefix, 10);
    if number.length != prefix.len() || (number.negative && number.magnitude != 0) {
        return Err(CliError::InvalidNetmask);
    }
    let length = u32::try_from(number.magnitude).map_err(|_| CliError::InvalidNetmask)?;
    match address {
        IpAddr::V4(_) => match length {
            32 => Ok(None),
            0..32 => Ok(Some(IpAddr::V4(Ipv4Addr::from(!u32::MAX.checked_shr(length).unwrap_or(0))))),
            _ => Err(CliError::InvalidNetmask),
        },
        IpAddr::V6(_) => match length {
            128 => Ok(None),
            0..128 => Ok(Some(IpAddr::V6(Ipv6Addr::from(!u128::MAX.checked_shr(length).unwrap_or(0))))),
            _ => Err(CliError::InvalidNetmask),
        },
    }
}

/// The address part and the port of `ADDR[:PORT]`.
pub(crate) fn split_port(text: &[u8]) -> Result<(&[u8], Option<u16>), CliError> {
    let (host, port) = if let Some(open) = text.iter().position(|byte| *byte == b'[') {
        let inside = text.get(open + 1..).unwrap_or_default();
        let close = inside.iter().position(|byte| *byte == b']').ok_or(CliError::NoClosingBracket)?;
        if close == 0 {
            return Err(CliError::NoIpv6Address);
        }
        let behind = inside.get(close..).unwrap_or_default();
        match behind.iter().position(|byte| *byte == b':') {
            Some(colon) => (inside.get(..close).unwrap_or_default(), behind.get(colon + 1..)),
            // Without a port the brackets stay, and the address will not be recognised.
            None => (text, None),
        }
    } else {
        let mut colons = text.iter().enumerate().filter(|(_, byte)| **byte == b':').map(|(index, _)| index);
        match (colons.next(), colons.next()) {
            (Some(colon), None) => (text.get(..colon).unwrap_or_default(), text.get(colon + 1..)),
            _ => (text, None),
        }
    };
    let Some(port) = port else {
        return Ok((host, None));
    };
    if port.is_empty() {
        return Err(CliError::NoPort);
    }
    let digits = std::str::from_utf8(port).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let value = digits.and_then(|text| text.parse::<u16>().ok());
    value.map(|port| (host, Some(port))).ok_or_else(|| CliError::InvalidPort(port.into()))
}

/// Whether text stands around the brackets of `[ADDR]:PORT`, which `conntrack` ignores.
pub(crate) fn has_text_around_brackets(text: &[u8]) -> bool {
    let open = text.iter().position(|byte| *byte == b'[');
    let close = text.iter().position(|byte| *byte == b']');
    match (open, close) {
        (Some(open), Some(close)) => open != 0 || text.get(close + 1) != Some(&b':'),
        _ => false,
    }
}

/// AF_INET or AF_INET6.
pub(crate) fn family(address: &IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => flowgate_model::family::IPV4,
        IpAddr::V6(_) => flowgate_model::family::IPV6,
    }
}

/// An address in the two halves of the model, IPv4 in its mapped form.
pub(crate) fn halves(address: &IpAddr) -> flowgate_model::Address {
    let bits = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    };
    flowgate_model::Address { hi: (bits >> 64) as u64, lo: bits as u64 }
}

/// A mask in the two halves of the model; an IPv4 mask also covers the 96 bits of the mapping.
pub(crate) fn mask_halves(mask: &IpAddr) -> flowgate_model::Address {
    match mask {
        IpAddr::V4(mask) => {
            flowgate_model::Address { hi: u64::MAX, lo: 0xffff_ffff_0000_0000 | u64::from(mask.to_bits()) }
        }
        IpAddr::V6(_) => halves(mask),
    }
}

/// Whether `word` is a prefix of `name`, without regard to case. The empty word is one.
pub(crate) fn abbreviates(word: &[u8], name: &str) -> bool {
    name.as_bytes().get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// What is ignored in lists, with a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ignored {
    /// `SRC_NAT`.
    SourceNat,
    /// `DST_NAT`.
    DestinationNat,
}

impl Ignored {
    /// The warning.
    pub(crate) fn warning(self) -> &'static str {
        match self {
            Self::SourceNat => "WARNING: ignoring SRC_NAT, use --src-nat instead",
            Self::DestinationNat => "WARNING: ignoring DST_NAT, use --dst-nat instead",
        }
    }

    /// Translation can be asked for in every list, and is ignored in each.
    pub(crate) fn of(element: &[u8]) -> Option<Self> {
        if element.is_empty() {
            None
        } else if abbreviates(element, "SRC_NAT") {
            Some(Self::SourceNat)
        } else if abbreviates(element, "DST_NAT") {
            Some(Self::DestinationNat)
        } else {
            None
        }
    }
}

/// The elements of a comma list, each with the rest of the list from it on. The empty list has one empty element.
pub(crate) fn elements(list: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let from = rest?;
        let element = from.split(|byte| *byte == b',').next().unwrap_or_default();
        rest = from.get(element.len() + 1..);
        Some((element, from))
    })
}

/// An error about an element of a list.
pub(crate) fn bad_parameter(rest: &[u8]) -> CliError {
    CliError::BadParameter(Word::from(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_strtoul_reads_them() {
        let read = |text: &str| {
            let number = number(text.as_bytes(), 0);
            (number.wrapping(), number.length)
        };
        assert_eq!(read("0x1Fz"), (31, 4));
        assert_eq!(read("0x"), (0, 1));
        assert_eq!(read("0755"), (493, 4));
        assert_eq!(read("09"), (0, 1));
        assert_eq!(read(" \t+7 "), (7, 4));
        assert_eq!(read("-1"), (u64::MAX, 2));
        assert_eq!(read("99999999999999999999999"), (u64::MAX, 23));
        assert_eq!(read("-99999999999999999999999"), (u64::MAX, 24));
        assert_eq!(read("abc"), (0, 0));
        assert_eq!(read("-"), (0, 0));
        assert_eq!(read(""), (0, 0));
    }

    #[test]
    fn loose_numbers_never_fail() {
        let loose = |text: &[u8]| Numeric::LONG.read(text).value;
        assert_eq!(loose(b"abc"), 0);
        assert_eq!(loose(b"-1"), u32::MAX);
        assert_eq!(loose(b"5x"), 5);
        assert_eq!(loose(b"010"), 10);
        assert_eq!(loose(b"4294967296"), 0);
        assert_eq!(loose(b"99999999999999999999"), u32::MAX);
        assert_eq!(loose(b"-99999999999999999999"), 0);
        assert_eq!(Numeric::WORD.read(b"70000").value, 4464);
        assert_eq!(Numeric::KEY.read(b"0x12345").value, 0x2345);
        assert_eq!(Numeric::BYTE.read(b"264").value, 8);
    }

    #[test]
    fn exact_numbers_take_the_whole_word_and_are_in_range() {
        let exact = |kind: Numeric, text: &str| {
            let reading = kind.read(text.as_bytes());
            reading.exact.then_some(reading.value)
        };
        assert_eq!(exact(Numeric::id('i'), "0x10"), Some(16));
        assert_eq!(exact(Numeric::id('i'), " 7"), Some(7));
        assert_eq!(exact(Numeric::zone('w'), "65535"), Some(65535));
        assert_eq!(exact(Numeric::WORD, "010"), Some(10));
        assert_eq!(exact(Numeric::KEY, "010"), Some(8));
        assert_eq!(exact(Numeric::LONG, "4294967295"), Some(u32::MAX));
        assert_eq!(exact(Numeric::BUFFER, "1073741824"), None);
        for wrong in
            ["", "abc", "5x", "-1", "-0", "65536", "99999999999999999999", "5 ", "8000-8999", "80,443", "0x10 "]
        {
            for kind in [Numeric::WORD, Numeric::KEY, Numeric::BYTE, Numeric::zone('w')] {
                assert_eq!(exact(kind, wrong), None, "{wrong}");
            }
        }
        assert_eq!(exact(Numeric::WORD, "0x10"), None);
    }

    #[test]
    fn marks_have_masks() {
        let masked = |value, mask, exact| Ok(Mark { masked: flowgate_model::Masked { value, mask }, exact });
        assert_eq!(mark(b"5"), masked(5, u32::MAX, true));
        assert_eq!(mark(b"0x10/0xf0"), masked(16, 0xf0, true));
        assert_eq!(mark(b"5/"), masked(5, 0, false));
        assert_eq!(mark(b"5/-1"), masked(5, u32::MAX, false));
        assert_eq!(mark(b"5/0x100000001"), masked(5, 1, false));
        for wrong in ["", "x", "5x", "-1", "4294967296", "5/x", "5/1x", "/5"] {
            assert!(mark(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_have_all_classic_forms() {
        let read = |text: &str| address(text.as_bytes()).map(|address| address.to_string());
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(read("1.2.3.4"), some("1.2.3.4"));
        assert_eq!(read("1.2.3"), some("1.2.0.3"));
        assert_eq!(read("1.2"), some("1.0.0.2"));
        assert_eq!(read("0x7f000001"), some("127.0.0.1"));
        assert_eq!(read("0x7f.1"), some("127.0.0.1"));
        assert_eq!(read("010.1.1.1"), some("8.1.1.1"));
        assert_eq!(read("1.2.3.4 anything"), some("1.2.3.4"));
        assert_eq!(read("1.65536"), some("1.1.0.0"));
        assert_eq!(read("::ffff:1.2.3.4"), some("::ffff:1.2.3.4"));
        assert_eq!(read("fe80::1"), some("fe80::1"));
        for wrong in [
            "",
            "foo",
            "1.2.3.256",
            "1.2.3.4.5",
            "1.2.3.4x",
            "1..2",
            "09",
            "0x",
            "1.",
            ".1",
            "-1",
            " 1.2.3.4",
            "256.1",
            "1.2.65536",
            "4294967296",
            "fe80::1%lo",
            "1::2::3",
            "[::1]",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn prefixes_become_masks() {
        let read = |text: &str| {
            let network = network(text.as_bytes())?;
            netmask(&network.prefix.unwrap_or(b"128".to_vec()), &network.address)
        };
        let mask = |text: &str| Ok(Some(text.parse().expect("a mask")));
        assert_eq!(read("10.0.0.0/8"), mask("255.0.0.0"));
        assert_eq!(read("10.0.0.0/"), mask("0.0.0.0"));
        assert_eq!(read("10.0.0.0/ +08"), mask("255.0.0.0"));
        assert_eq!(read("10.0.0.0/32"), Ok(None));
        assert_eq!(read("fe80::/10"), mask("ffc0::"));
        assert_eq!(read("::/0"), mask("::"));
        assert_eq!(read("::/128"), Ok(None));
        for wrong in ["1.2.3.4/33", "1.2.3.4/-1", "1.2.3.4/x", "1.2.3.4/8x", "1.2.3.4/8/8", "::/129"] {
            assert_eq!(read(wrong), Err(CliError::InvalidNetmask), "{wrong}");
        }
        assert_eq!(read("foo/8"), Err(CliError::InvalidAddress("foo/8".into())));
        assert_eq!(read("/8"), Err(CliError::InvalidAddress("/8".into())));
    }

    #[test]
    fn flaws_of_addresses_are_found() {
        let flaw = |text: &str| {
            let network = network(text.as_bytes()).expect("an address");
            let mask = network.prefix.as_ref().map(|prefix| netmask(prefix, &network.address).expect("a prefix"));
            address_flaw(text.as_bytes(), &network, mask.flatten().as_ref())
        };
        for right in ["10.1.2.3", "10.1.2.3/8", "0.0.0.0/0", "::/0", "::1", "0x7f000001", "1.2.3.4/32", "fe80::1/10"] {
            assert_eq!(flaw(right), None, "{right}");
        }
        assert_eq!(flaw("10.1.2.3 x"), Some(AddressFlaw::Trailing));
        assert_eq!(flaw("10.1.2.3                                            /8"), Some(AddressFlaw::Trailing));
        assert_eq!(flaw("10.1/16"), Some(AddressFlaw::Abbreviated));
        assert_eq!(flaw("10/8"), Some(AddressFlaw::Abbreviated));
        assert_eq!(flaw("10.1"), Some(AddressFlaw::Abbreviated));
        for number in ["24", "255", "0", "0x0", "16777215"] {
            assert_eq!(flaw(number), Some(AddressFlaw::Abbreviated), "{number}");
        }
        for octal in ["010.1.1.1", "192.168.001.010", "10.0.0.0377", "010.0.0.0/8"] {
            assert_eq!(flaw(octal), Some(AddressFlaw::Octal), "{octal}");
        }
        assert_eq!((flaw("192.168.001.007"), flaw("0xa.0.0.1"), flaw("16777216")), (None, None, None));
        assert_eq!(flaw("10.0.0.0/"), Some(AddressFlaw::EmptyPrefix));
        assert_eq!(flaw("::1/"), Some(AddressFlaw::EmptyPrefix));
        assert_eq!(flaw("10.0.0.0/0"), Some(AddressFlaw::NothingCompared));
    }

    #[test]
    fn what_is_behind_the_longest_address_does_not_count() {
        let longest = "0000:0000:0000:0000:0000:ffff:255.255.255.255";
        assert_eq!(network(format!("{longest}/8x").as_bytes()).expect("an address").prefix, None);
    }

    #[test]
    fn translations_split_into_address_and_port() {
        let read = |text: &'static str| match split_port(text.as_bytes()) {
            Ok((host, port)) => format!("{} {port:?}", String::from_utf8_lossy(host)),
            Err(error) => error.to_string(),
        };
        assert_eq!(read("1.2.3.4"), "1.2.3.4 None");
        assert_eq!(read("1.2.3.4:80"), "1.2.3.4 Some(80)");
        assert_eq!(read("::1"), "::1 None");
        assert_eq!(read("[::1]:80"), "::1 Some(80)");
        assert_eq!(read("[::1]"), "[::1] None");
        assert_eq!(read("x[1.2.3.4]y:5"), "1.2.3.4 Some(5)");
        assert_eq!(read(":5000"), " Some(5000)");
        assert_eq!(read("[]:5"), "No IPv6 address specified");
        assert_eq!(read("[1"), "No closing ']' around IPv6 address");
        assert_eq!(read("1.2.3.4:"), "No port specified after `:'");
        assert_eq!(read("[::1]:5:6"), "Invalid port `5:6'");
        assert_eq!(read("1.2.3.4:65536"), "Invalid port `65536'");
        assert_eq!(read("1.2.3.4:+5"), "Invalid port `+5'");
    }

    #[test]
    fn lists_know_what_is_left() {
        let split = |text: &'static str| -> Vec<(String, String)> {
            let text_of = |bytes| String::from_utf8_lossy(bytes).into_owned();
            elements(text.as_bytes()).map(|(element, rest)| (text_of(element), text_of(rest))).collect()
        };
        let pair = |element: &str, rest: &str| (element.to_owned(), rest.to_owned());
        assert_eq!(split("a,b"), [pair("a", "a,b"), pair("b", "b")]);
        assert_eq!(split("a,"), [pair("a", "a,"), pair("", "")]);
        assert_eq!(split(""), [pair("", "")]);
    }

    #[test]
    fn ipv4_masks_cover_the_mapping() {
        let mask = mask_halves(&"255.0.0.0".parse().expect("a mask"));
        assert_eq!((mask.hi, mask.lo), (u64::MAX, 0xffff_ffff_ff00_0000));
        let address = halves(&"1.2.3.4".parse().expect("an address"));
        assert_eq!((address.hi, address.lo), (0, 0xffff_0102_0304));
    }
}
