//! Values of options: numbers, addresses, networks, marks, translations.
//!
//! Numbers are read as strtol(3) and its kin read them, because scripts rely on octal, hexadecimal and worse.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::error::{CliError, Word};
use crate::model;

/// What strtoul(3) makes of the start of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// The digits' value, u64::MAX if they are too many.
    pub magnitude: u64,
    /// Whether a minus stood before them.
    pub negative: bool,
    /// How many bytes belong to the number, 0 if there is none.
    pub length: usize,
}

impl Number {
    /// As an `unsigned long`: a minus wraps around, except that what is too large stays the largest.
    pub fn wrapping(self) -> u64 {
        if self.negative && self.magnitude != u64::MAX { self.magnitude.wrapping_neg() } else { self.magnitude }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// Reads a number in base 10, or for base 0 in the base that its prefix says (`0x` hexadecimal, `0` octal). Blanks and a
/// sign may stand before it, anything after it.
pub fn number(text: &[u8], base: u32) -> Number {
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

/// atol(3) and atoi(3): base 10, whatever follows; 0 if there is no number; the lowest 32 bits.
pub fn loose(text: &[u8]) -> u32 {
    let number = number(text, 10);
    let magnitude = i64::try_from(number.magnitude).unwrap_or(i64::MAX);
    let value = match (number.negative, number.magnitude) {
        (true, magnitude) if magnitude > i64::MAX as u64 => i64::MIN,
        (true, _) => -magnitude,
        (false, _) => magnitude,
    };
    value as u32
}

/// A port, an ICMP identifier and the like: [`loose`], of which the lowest 16 bits.
pub fn loose_word(text: &[u8]) -> u16 {
    loose(text) as u16
}

/// A GRE key: base 0, whatever follows, of which the lowest 16 bits.
pub fn key(text: &[u8]) -> u16 {
    number(text, 0).wrapping() as u16
}

/// A number of base 0 that is the whole text, is not negative and not above `maximum`. `option` is the letter that the
/// message names.
pub fn exact(text: &[u8], maximum: u32, option: char) -> Result<u32, CliError> {
    let number = number(text, 0);
    let wrong = || CliError::UnexpectedValue { value: text.into(), option };
    if number.length == 0 || number.length != text.len() || (number.negative && number.magnitude != 0) {
        return Err(wrong());
    }
    u32::try_from(number.magnitude).ok().filter(|value| *value <= maximum).ok_or_else(wrong)
}

/// A zone.
pub fn zone(text: &[u8], option: char) -> Result<u16, CliError> {
    exact(text, u32::from(u16::MAX), option).map(|zone| zone as u16)
}

/// `MARK[/MASK]`. The mark must be a number of 32 bits; the mask is cut to 32 bits, and an empty one is 0.
pub fn mark(text: &[u8]) -> Result<model::Masked, CliError> {
    let wrong = || CliError::UnexpectedValue { value: text.into(), option: 'm' };
    let first = number(text, 0);
    if first.length == 0 {
        return Err(wrong());
    }
    let value = u32::try_from(first.wrapping()).map_err(|_| wrong())?;
    match text.get(first.length..).unwrap_or_default() {
        [] => Ok(model::Masked { value, mask: u32::MAX }),
        [b'/', rest @ ..] => {
            let mask = number(rest, 0);
            if mask.length != rest.len() {
                return Err(wrong());
            }
            Ok(model::Masked { value, mask: mask.wrapping() as u32 })
        }
        _ => Err(wrong()),
    }
}

/// A layer-4 protocol by number: base 0, the whole text, at most 255.
pub fn protocol_number(text: &[u8]) -> Option<u8> {
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
pub fn address(text: &[u8]) -> Option<IpAddr> {
    if let Some(address) = ipv4(text) {
        return Some(IpAddr::V4(address));
    }
    std::str::from_utf8(text).ok()?.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// An address as it was typed, and what stood behind a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The address, with host bits.
    pub address: IpAddr,
    /// Text of the prefix length.
    pub prefix: Option<Vec<u8>>,
}

/// How much of an address counts: INET6_ADDRSTRLEN without the NUL.
const LONGEST_ADDRESS: usize = 45;

/// `ADDRESS[/PREFIX]`, of which the prefix is not looked at yet.
pub fn network(text: &[u8]) -> Result<Network, CliError> {
    let start = text.get(..LONGEST_ADDRESS).unwrap_or(text);
    let (host, prefix) = match start.iter().position(|byte| *byte == b'/') {
        Some(slash) => (start.get(..slash).unwrap_or_default(), start.get(slash + 1..)),
        None => (start, None),
    };
    let address = address(host).ok_or_else(|| CliError::InvalidAddress(text.into()))?;
    Ok(Network { address, prefix: prefix.map(<[u8]>::to_vec) })
}

/// The mask of a prefix length for addresses like `address`; none where it is the full length. An empty length is 0.
pub fn netmask(prefix: &[u8], address: &IpAddr) -> Result<Option<IpAddr>, CliError> {
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
pub fn split_port(text: &[u8]) -> Result<(&[u8], Option<u16>), CliError> {
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

/// AF_INET or AF_INET6.
pub fn family(address: &IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => model::family::IPV4,
        IpAddr::V6(_) => model::family::IPV6,
    }
}

/// An address in the two halves of the model, IPv4 in its mapped form.
pub fn halves(address: &IpAddr) -> model::Address {
    let bits = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    };
    model::Address { hi: (bits >> 64) as u64, lo: bits as u64 }
}

/// A mask in the two halves of the model; an IPv4 mask also covers the 96 bits of the mapping.
pub fn mask_halves(mask: &IpAddr) -> model::Address {
    match mask {
        IpAddr::V4(mask) => model::Address { hi: u64::MAX, lo: 0xffff_ffff_0000_0000 | u64::from(mask.to_bits()) },
        IpAddr::V6(_) => halves(mask),
    }
}

/// Whether `word` is a prefix of `name`, without regard to case. The empty word is one.
pub fn abbreviates(word: &[u8], name: &str) -> bool {
    name.as_bytes().get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// What is ignored in lists, with a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// `SRC_NAT`.
    SourceNat,
    /// `DST_NAT`.
    DestinationNat,
}

impl Ignored {
    /// The warning.
    pub fn warning(self) -> &'static str {
        match self {
            Self::SourceNat => "WARNING: ignoring SRC_NAT, use --src-nat instead",
            Self::DestinationNat => "WARNING: ignoring DST_NAT, use --dst-nat instead",
        }
    }

    /// Translation can be asked for in every list, and is ignored in each.
    pub fn of(element: &[u8]) -> Option<Self> {
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
pub fn elements(list: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let from = rest?;
        let element = from.split(|byte| *byte == b',').next().unwrap_or_default();
        rest = from.get(element.len() + 1..);
        Some((element, from))
    })
}

/// An error about an element of a list.
pub fn bad_parameter(rest: &[u8]) -> CliError {
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
        assert_eq!(loose(b"abc"), 0);
        assert_eq!(loose(b"-1"), u32::MAX);
        assert_eq!(loose(b"5x"), 5);
        assert_eq!(loose(b"010"), 10);
        assert_eq!(loose(b"4294967296"), 0);
        assert_eq!(loose(b"99999999999999999999"), u32::MAX);
        assert_eq!(loose(b"-99999999999999999999"), 0);
        assert_eq!(loose_word(b"70000"), 4464);
        assert_eq!(key(b"0x12345"), 0x2345);
    }

    #[test]
    fn exact_numbers_take_the_whole_word() {
        assert_eq!(exact(b"0x10", u32::MAX, 'i'), Ok(16));
        assert_eq!(exact(b" 7", u32::MAX, 'i'), Ok(7));
        assert_eq!(zone(b"65535", 'w'), Ok(65535));
        for wrong in ["", "abc", "5x", "-1", "65536", "99999999999999999999", "5 "] {
            let error = zone(wrong.as_bytes(), '(').expect_err("is no zone");
            assert_eq!(error.to_string(), format!("unexpected value '{wrong}' with -( option"));
        }
    }

    #[test]
    fn marks_have_masks() {
        let masked = |value, mask| Ok(model::Masked { value, mask });
        assert_eq!(mark(b"5"), masked(5, u32::MAX));
        assert_eq!(mark(b"0x10/0xf0"), masked(16, 0xf0));
        assert_eq!(mark(b"5/"), masked(5, 0));
        assert_eq!(mark(b"5/-1"), masked(5, u32::MAX));
        assert_eq!(mark(b"5/0x100000001"), masked(5, 1));
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
