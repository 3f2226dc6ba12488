//! Sets of numbers and of addresses for the rules of a scope: parsed from text, and searched millions of times.

use std::net::IpAddr;

use flowgate_base::text::clean;
use flowgate_model::family;

/// A set of 16-bit numbers: zones or ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NumberSet(Vec<(u16, u16)>);

impl NumberSet {
    /// Adds `7` or `10-20`; returns false if the text is neither.
    pub fn add(&mut self, text: &str) -> bool {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
            (Ok(first), Ok(last)) if first <= last => {
                self.0.push((first, last));
                self.0.sort_unstable();
                true
            }
            _ => false,
        }
    }

    /// Returns true if the number is in the set.
    #[must_use]
    pub fn contains(&self, number: u16) -> bool {
        self.0.iter().any(|&(first, last)| (first..=last).contains(&number))
    }

    /// Returns minimum and maximum; (1, 0) for an empty set.
    #[must_use]
    pub fn bounds(&self) -> (u16, u16) {
        let least = self.0.iter().map(|(first, _)| *first).min();
        let most = self.0.iter().map(|(_, last)| *last).max();
        least.zip(most).unwrap_or((1, 0))
    }

    /// Returns true if the two sets have a number in common.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        self.0.iter().any(|&(first, last)| other.0.iter().any(|&(from, to)| first <= to && from <= last))
    }
}

/// A set of addresses: prefixes of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefixSet {
    /// First and last address of each prefix, disjoint and ascending.
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

/// The reason why a text is not a prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// It has another form.
    #[error("`{}` is no network; write an address, or a prefix such as 10.0.0.0/8 or 2001:db8::/32", clean(.0))]
    Form(String),
    /// The address has bits set beyond the prefix.
    #[error("`{}` has bits set behind its prefix; the network is {}", clean(given), clean(network))]
    HostBits {
        /// The text.
        given: String,
        /// The network that contains the address.
        network: String,
    },
}

impl PrefixSet {
    /// Adds an address or a prefix.
    ///
    /// # Errors
    /// [`PrefixError`].
    pub fn add(&mut self, text: &str) -> Result<(), PrefixError> {
        let form = || PrefixError::Form(text.into());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| form())?;
        let (bits, width) = match address {
            IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        let length: u32 = match length {
            None => width,
            Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => digits.parse().map_err(|_| form())?,
            Some(_) => return Err(form()),
        };
        if length > width {
            return Err(form());
        }
        let behind = width - length;
        let hosts = 1u128.checked_shl(behind).map_or(u128::MAX, |bit| bit - 1);
        if bits & hosts != 0 {
            let network = match address {
                IpAddr::V4(_) => IpAddr::from(std::net::Ipv4Addr::from_bits((bits & !hosts) as u32)),
                IpAddr::V6(_) => IpAddr::from(std::net::Ipv6Addr::from_bits(bits & !hosts)),
            };
            return Err(PrefixError::HostBits { given: text.into(), network: format!("{network}/{length}") });
        }
        let ranges = if width == 32 { &mut self.v4 } else { &mut self.v6 };
        ranges.push((bits, bits | hosts));
        ranges.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for &(first, last) in ranges.iter() {
            match merged.last_mut() {
                Some((_, end)) if first <= *end => *end = (*end).max(last),
                _ => merged.push((first, last)),
            }
        }
        *ranges = merged;
        Ok(())
    }

    /// Returns true if an address of this family (see [`key`]) is in the set.
    #[must_use]
    pub fn contains(&self, of: u8, address: u128) -> bool {
        let ranges = if of == family::IPV4 { &self.v4 } else { &self.v6 };
        let after = ranges.partition_point(|(first, _)| *first <= address);
        after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| address <= *last)
    }

    /// Returns the first and the last address of this family, if there are any.
    #[must_use]
    pub fn bounds(&self, of: u8) -> Option<(u128, u128)> {
        let ranges = if of == family::IPV4 { &self.v4 } else { &self.v6 };
        Some((ranges.first()?.0, ranges.last()?.1))
    }

    /// Returns true if the two sets have an address in common.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let meet = |one: &[(u128, u128)], two: &[(u128, u128)]| {
            one.iter().any(|&(first, last)| two.iter().any(|&(from, to)| first <= to && from <= last))
        };
        meet(&self.v4, &other.v4) || meet(&self.v6, &other.v6)
    }
}

/// Returns an address of a batch as a number: the 32 bits of IPv4, or the 128 bits of IPv6.
#[must_use]
pub fn key(of: u8, hi: u64, lo: u64) -> u128 {
    if of == family::IPV4 { u128::from(lo as u32) } else { u128::from(hi) << 64 | u128::from(lo) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(texts: &[&str]) -> PrefixSet {
        let mut set = PrefixSet::default();
        texts.iter().for_each(|text| set.add(text).unwrap());
        set
    }

    fn contains(set: &PrefixSet, address: &str) -> bool {
        match address.parse().unwrap() {
            IpAddr::V4(address) => set.contains(family::IPV4, u128::from(address.to_bits())),
            IpAddr::V6(address) => set.contains(family::IPV6, address.to_bits()),
        }
    }

    #[test]
    fn prefixes_end_where_they_end() {
        let set = prefixes(&["10.1.0.0/16", "10.1.128.0/17", "192.0.2.1", "2001:db8::/32", "0.0.0.0/32"]);
        for inside in ["10.1.0.0", "10.1.255.255", "192.0.2.1", "2001:db8::", "2001:db8:ffff::1", "0.0.0.0"] {
            assert!(contains(&set, inside), "{inside}");
        }
        for outside in ["10.0.255.255", "10.2.0.0", "192.0.2.0", "192.0.2.2", "2001:db7:ffff::", "2001:db9::", "::"] {
            assert!(!contains(&set, outside), "{outside}");
        }
        assert!(contains(&prefixes(&["0.0.0.0/0"]), "255.255.255.255"));
        assert!(contains(&prefixes(&["::/0"]), "ffff::") && !contains(&prefixes(&["::/0"]), "1.2.3.4"));
        assert!(!contains(&prefixes(&["10.0.0.0/8"]), "::ffff:10.0.0.1"), "a mapped address is one of IPv6");
    }

    #[test]
    fn what_is_no_prefix_is_reported() {
        let wrong = |text: &str| PrefixSet::default().add(text).unwrap_err().to_string();
        assert_eq!(wrong("10.0.0.1/8"), "`10.0.0.1/8` has bits set behind its prefix; the network is 10.0.0.0/8");
        for text in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "x", "::/129", "10.0.0.0/8/8"] {
            assert!(wrong(text).contains("is no network"), "{text}");
        }
    }

    #[test]
    fn numbers_and_sets_meet_at_their_ends() {
        let numbers = |texts: &[&str]| {
            let mut set = NumberSet::default();
            assert!(texts.iter().all(|text| set.add(text)));
            set
        };
        let zones = numbers(&["0", "10-20", "65535"]);
        let inside: Vec<u16> = (0..=u16::MAX).filter(|&zone| zones.contains(zone)).collect();
        assert_eq!(inside, [0, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 65535]);
        assert!(zones.meets(&numbers(&["20-30"])) && !zones.meets(&numbers(&["21-30", "1-9"])));
        for text in ["", "65536", "-1", "9-8", "1-", "0x1"] {
            assert!(!NumberSet::default().add(text), "{text}");
        }
        assert!(prefixes(&["10.0.0.0/8"]).meets(&prefixes(&["10.255.0.0/16"])));
        assert!(!prefixes(&["10.0.0.0/8"]).meets(&prefixes(&["11.0.0.0/8", "::/0"])));
    }
}
