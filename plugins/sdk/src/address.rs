//! Addresses as numbers, and networks in CIDR notation.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// The 96 bits before an IPv4 address in its mapped form.
pub const MAPPED: u128 = 0xffff_0000_0000;

/// Returns an address as a 128-bit number, IPv4 in its mapped form `::ffff:a.b.c.d`.
#[must_use]
pub fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => MAPPED | u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// A network: `10.0.0.0/8`, `2001:db8::/32`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    value: u128,
    mask: u128,
}

impl Cidr {
    /// Returns true if the network holds the address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.contains_bits(bits(address))
    }

    /// Returns true if the network holds the address, as a number (IPv4 in its mapped form).
    #[inline]
    #[must_use]
    pub fn contains_bits(&self, address: u128) -> bool {
        address & self.mask == self.value
    }

    /// Returns the lowest address of the network as a number, IPv4 in its mapped form.
    #[must_use]
    pub fn first(&self) -> u128 {
        self.value
    }

    /// Returns the highest address of the network as a number, IPv4 in its mapped form.
    #[must_use]
    pub fn last(&self) -> u128 {
        self.value | !self.mask
    }

    /// Returns true if it is a network of IPv4 addresses.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.mask >> 32 == u128::MAX >> 32 && self.value >> 32 == MAPPED >> 32
    }
}

/// Why a text is not a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CidrError(String);

impl fmt::Display for CidrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CidrError {}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
        let address: IpAddr = address.parse().map_err(|_| {
            CidrError(format!("{address:?} is no IP address; write a network as 10.0.0.0/8 or 2001:db8::/32"))
        })?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length: u32 = match length {
            None => longest,
            Some(length) => length
                .parse()
                .ok()
                .filter(|&l| l <= longest)
                .ok_or_else(|| CidrError(format!("{length:?} is no prefix length from 0 to {longest}")))?,
        };
        let mask = u128::MAX.checked_shl(longest - length).unwrap_or(0);
        Ok(Cidr { value: bits(address) & mask, mask })
    }
}

/// Returns true if an address is for private or local use: RFC 1918, RFC 4193, loopback, link-local, or unspecified.
#[must_use]
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(a) => v4_is_private(a),
        IpAddr::V6(a) => v6_is_private(a),
    }
}

fn v4_is_private(address: Ipv4Addr) -> bool {
    address.is_private() || address.is_loopback() || address.is_link_local() || address.is_unspecified()
}

fn v6_is_private(address: Ipv6Addr) -> bool {
    address.is_unique_local() || address.is_loopback() || address.is_unicast_link_local() || address.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_they_should() {
        let ten: Cidr = "10.1.2.3/8".parse().unwrap();
        assert!(ten.contains("10.255.0.1".parse().unwrap()));
        assert!(!ten.contains("11.0.0.1".parse().unwrap()));
        assert!(!ten.contains("a00::1".parse().unwrap()));
        let all4: Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(all4.contains("255.255.255.255".parse().unwrap()));
        assert!(!all4.contains("2001:db8::1".parse().unwrap()));
        let all6: Cidr = "::/0".parse().unwrap();
        assert!(all6.contains("2001:db8::1".parse().unwrap()));
        let one: Cidr = "2001:db8::1".parse().unwrap();
        assert!(one.contains("2001:db8::1".parse().unwrap()));
        assert!(!one.contains("2001:db8::2".parse().unwrap()));
    }

    #[test]
    fn networks_have_ends() {
        let net: Cidr = "192.0.2.0/24".parse().unwrap();
        assert_eq!(net.first(), bits("192.0.2.0".parse().unwrap()));
        assert_eq!(net.last(), bits("192.0.2.255".parse().unwrap()));
        let all4: Cidr = "0.0.0.0/0".parse().unwrap();
        let all6: Cidr = "::/0".parse().unwrap();
        assert!(net.is_ipv4() && all4.is_ipv4() && !all6.is_ipv4());
        assert_eq!((all6.first(), all6.last()), (0, u128::MAX));
    }

    #[test]
    fn bad_networks_are_named() {
        assert!("10.0.0.0/33".parse::<Cidr>().unwrap_err().to_string().contains("33"));
        assert!("nonsense".parse::<Cidr>().unwrap_err().to_string().contains("nonsense"));
        assert!("::/129".parse::<Cidr>().is_err());
        assert!("10.0.0.0/".parse::<Cidr>().is_err());
    }
}
