//! Addresses, networks, masks, and NAT with a port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::error::CliError;
use super::number::{is_space, number};

/// Parses an IPv4 address as inet_aton(3) does: one to four parts in base 0, the last of which fills the remaining
/// bytes. Blanks, and anything after them, may follow.
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

/// Parses an IPv4 address as inet_aton(3) does, or else an IPv6 address.
pub(crate) fn address(text: &[u8]) -> Option<IpAddr> {
    if let Some(address) = ipv4(text) {
        return Some(IpAddr::V4(address));
    }
    std::str::from_utf8(text).ok()?.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// An address, and the text after a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetworkValue {
    /// The address, with host bits.
    pub address: IpAddr,
    /// Text of the prefix length.
    pub prefix: Option<Vec<u8>>,
}

/// Number of bytes of an address that are significant: INET6_ADDRSTRLEN without the NUL.
const MAX_ADDRESS_LENGTH: usize = 45;

/// Parses `ADDRESS[/PREFIX]`, without interpreting the prefix.
pub(crate) fn network(text: &[u8]) -> Result<NetworkValue, CliError> {
    let start = text.get(..MAX_ADDRESS_LENGTH).unwrap_or(text);
    let (host, prefix) = match start.iter().position(|byte| *byte == b'/') {
        Some(slash) => (start.get(..slash).unwrap_or_default(), start.get(slash + 1..)),
        None => (start, None),
    };
    let address = address(host).ok_or_else(|| CliError::InvalidAddress(text.into()))?;
    Ok(NetworkValue { address, prefix: prefix.map(<[u8]>::to_vec) })
}

/// Why a strict reading rejects an address that `conntrack` accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddressFlaw {
    /// Text follows it, which `conntrack` ignores.
    Trailing,
    /// An IPv4 address with fewer than four parts: `10.1` is 10.0.0.1, `10/8` is 0.0.0.10/8, and the mask `24` is
    /// 0.0.0.24.
    Abbreviated,
    /// A part with a leading zero, which makes it octal: `192.0.2.010` is 192.0.2.8.
    Octal,
    /// Nothing follows the slash, which `conntrack` takes for 0: every address.
    EmptyPrefix,
    /// The address is not 0, and a prefix or mask of 0 erases it: every address.
    NothingCompared,
    /// Its prefix contradicts its mask option.
    TwoMasks,
}

/// Returns the flaw of an address that [`network`] accepts; `mask` is the result of [`netmask`] for its prefix.
pub(crate) fn address_flaw(text: &[u8], network: &NetworkValue, mask: Option<&IpAddr>) -> Option<AddressFlaw> {
    let host = text.split(|byte| *byte == b'/').next().unwrap_or_default();
    if text.len() > MAX_ADDRESS_LENGTH || host.iter().any(|byte| is_space(*byte)) {
        return Some(AddressFlaw::Trailing);
    }
    if let IpAddr::V4(address) = network.address {
        let dots = host.iter().filter(|byte| **byte == b'.').count();
        // A whole address as one number is accepted, unless it is one that nobody has.
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
    erases(&network.address, mask).then_some(AddressFlaw::NothingCompared)
}

/// Returns the mask of all bits of an address.
pub(crate) fn full_mask(address: &IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::BROADCAST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(u128::MAX)),
    }
}

/// Returns true if a leading zero changes the value of a number.
fn is_octal(part: &[u8]) -> bool {
    part.len() > 1 && part.iter().all(u8::is_ascii_digit) && number(part, 0).magnitude != number(part, 10).magnitude
}

/// Returns true if a mask leaves nothing of an address that is not 0.
pub(crate) fn erases(address: &IpAddr, mask: Option<&IpAddr>) -> bool {
    mask.is_some_and(IpAddr::is_unspecified) && !address.is_unspecified()
}

/// Returns the mask of a prefix length for addresses like `address`, `None` for the full length. An empty prefix length
/// is 0.
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

/// Splits `ADDR[:PORT]` into the address and the port.
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
            // Without a port the brackets stay, so that the address is rejected.
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
    let value = super::digits(port).and_then(|text| text.parse::<u16>().ok());
    value.map(|port| (host, Some(port))).ok_or_else(|| CliError::InvalidPort(port.into()))
}

/// Returns true if there is text around the brackets of `[ADDR]:PORT`, which `conntrack` ignores.
pub(crate) fn has_text_around_brackets(text: &[u8]) -> bool {
    let open = text.iter().position(|byte| *byte == b'[');
    let close = text.iter().position(|byte| *byte == b']');
    match (open, close) {
        (Some(open), Some(close)) => open != 0 || text.get(close + 1) != Some(&b':'),
        _ => false,
    }
}

/// Returns AF_INET or AF_INET6.
pub(crate) fn family(address: &IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => flowgate_model::family::IPV4,
        IpAddr::V6(_) => flowgate_model::family::IPV6,
    }
}

/// Returns the model's form of an address; IPv4 addresses are mapped to IPv6.
pub(crate) fn to_model_address(address: &IpAddr) -> flowgate_model::Address {
    let bits = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    };
    flowgate_model::Address { hi: (bits >> 64) as u64, lo: bits as u64 }
}

/// Returns the model's form of a mask; an IPv4 mask also covers the 96 bits of the mapping.
pub(crate) fn to_model_mask(mask: &IpAddr) -> flowgate_model::Address {
    match mask {
        IpAddr::V4(mask) => {
            flowgate_model::Address { hi: u64::MAX, lo: 0xffff_ffff_0000_0000 | u64::from(mask.to_bits()) }
        }
        IpAddr::V6(_) => to_model_address(mask),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn ipv4_masks_cover_the_mapping() {
        let mask = to_model_mask(&"255.0.0.0".parse().expect("a mask"));
        assert_eq!((mask.hi, mask.lo), (u64::MAX, 0xffff_ffff_ff00_0000));
        let address = to_model_address(&"1.2.3.4".parse().expect("an address"));
        assert_eq!((address.hi, address.lo), (0, 0xffff_0102_0304));
    }
}
