//! Prefilters of rules: bounds that are compared without searching any list.
//!
//! Most rules of most tenants are about other flows than the one at hand. A prefilter rejects these for a fraction of
//! the cost of checking each criterion. It never rejects a flow that the rule matches: for each criterion it has the
//! minimum and maximum of the matching values, and the whole range where the rule has no criterion.

use super::scope::{Rule, ScopeView};
use super::sets::NumberSet;
use flowgate_model::family;

/// An inclusive range; (1, 0) is empty.
type Bounds<T> = (T, T);

/// The bounds of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefilter {
    /// Ranges for the original and the reply direction.
    zones: [Bounds<u16>; 2],
    /// Layer-4 protocols, a bit for each.
    protocols: [u64; 4],
    /// Addresses of IPv4, and of all other families: see [`PrefilterKey`].
    addresses: [[Bounds<u64>; 4]; 2],
    /// Ports of the source and the destination of the original direction.
    ports: [Bounds<u16>; 2],
    /// A mask, and the masked value of the mark.
    mark: (u32, u32),
}

/// The properties of a flow that prefilters check.
#[derive(Clone, Copy, Debug)]
pub struct PrefilterKey {
    family: usize,
    /// Source and destination of the original and the reply direction: an IPv4 address, or the upper half of an IPv6
    /// address.
    addresses: [u64; 4],
}

impl PrefilterKey {
    /// Returns those of a flow.
    #[must_use]
    #[inline]
    pub fn at(view: &ScopeView) -> Self {
        let family = usize::from(view.family != family::IPV4);
        let shift = if family == 0 { 0 } else { 64 };
        let addresses = [view.source, view.destination, view.reply_source, view.reply_destination];
        PrefilterKey { family, addresses: addresses.map(|address| (address >> shift) as u64) }
    }
}

#[inline]
fn within<T: PartialOrd + Copy>((least, most): Bounds<T>, value: T) -> bool {
    // Both are always compared: no branch can be mispredicted.
    (least <= value) & (value <= most)
}

impl Prefilter {
    /// Returns the prefilter of a rule.
    #[must_use]
    pub fn of(rule: &Rule) -> Self {
        let numbers = |sets: [&Option<NumberSet>; 2]| {
            sets.into_iter()
                .flatten()
                .map(NumberSet::bounds)
                .fold((0, u16::MAX), |one, two| (one.0.max(two.0), one.1.min(two.1)))
        };
        let mut protocols = [if rule.protocols.is_empty() { u64::MAX } else { 0 }; 4];
        for &number in &rule.protocols {
            if let Some(word) = protocols.get_mut(usize::from(number >> 6)) {
                *word |= 1 << (number & 63);
            }
        }
        let sets = [&rule.source, &rule.destination, &rule.reply_source, &rule.reply_destination];
        let addresses = [family::IPV4, family::IPV6].map(|of| {
            let shift = if of == family::IPV4 { 0 } else { 64 };
            sets.map(|set| match set {
                // The range of a family that the rule excludes is empty.
                _ if rule.family.is_some_and(|wanted| (wanted == family::IPV4) != (of == family::IPV4)) => (1, 0),
                None => (0, u64::MAX),
                Some(set) => {
                    set.bounds(of).map_or((1, 0), |(first, last)| ((first >> shift) as u64, (last >> shift) as u64))
                }
            })
        });
        Prefilter {
            zones: [numbers([&rule.zones, &rule.original_zones]), numbers([&rule.zones, &rule.reply_zones])],
            protocols,
            addresses,
            ports: [numbers([&rule.source_ports, &None]), numbers([&rule.ports, &None])],
            mark: match rule.marks.as_slice() {
                [(value, mask)] => (*mask, *value),
                _ => (0, 0),
            },
        }
    }

    /// Returns false if the rule cannot match the flow.
    #[must_use]
    #[inline]
    pub fn admits(&self, view: &ScopeView, prefilter_key: &PrefilterKey) -> bool {
        let bounds = &self.addresses[prefilter_key.family & 1];
        (within(self.zones[0], view.zones.0) & within(self.zones[1], view.zones.1))
            && within(bounds[0], prefilter_key.addresses[0]) & within(bounds[1], prefilter_key.addresses[1])
            && self.protocols[usize::from(view.protocol >> 6)] >> (view.protocol & 63) & 1 != 0
            && view.mark & self.mark.0 == self.mark.1
            && within(self.ports[0], view.ports.0) & within(self.ports[1], view.ports.1)
            && within(bounds[2], prefilter_key.addresses[2]) & within(bounds[3], prefilter_key.addresses[3])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{scope::Scope, sets::PrefixSet};
    use flowgate_model::field;
    use flowgate_test_support::Random;

    const NETWORKS: [&str; 10] = [
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.255.255",
        "0.0.0.0/0",
        "255.255.255.255",
        "2001:db8::/32",
        "2001:db8:0:1::/64",
        "2001:db8:0:1::5",
        "::/0",
        "::ffff:10.1.0.0/112",
    ];
    const NUMBERS: [&str; 6] = ["0", "7", "7-9", "1000-65535", "65535", "0-65535"];

    fn rule(random: &mut Random) -> Rule {
        fn maybe<T>(random: &mut Random, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
            random.chance(1, 4).then(|| make(random))
        }
        fn numbers(random: &mut Random) -> NumberSet {
            let mut set = NumberSet::default();
            (0..=random.below(3)).for_each(|_| assert!(set.add(NUMBERS[random.below(NUMBERS.len())])));
            set
        }
        fn prefixes(random: &mut Random) -> PrefixSet {
            let mut set = PrefixSet::default();
            (0..=random.below(3)).for_each(|_| set.add(NETWORKS[random.below(NETWORKS.len())]).unwrap());
            set
        }
        fn few<T>(random: &mut Random, mut make: impl FnMut(&mut Random) -> T) -> Vec<T> {
            let count = if random.chance(1, 4) { 1 + random.below(3) } else { 0 };
            (0..count).map(|_| make(random)).collect()
        }
        Rule {
            family: maybe(random, |random| [2, 10][random.below(2)]),
            protocols: few(random, |random| [6, 17, 0, 58, 64, 255][random.below(6)]),
            zones: maybe(random, numbers),
            original_zones: maybe(random, numbers),
            reply_zones: maybe(random, numbers),
            source: maybe(random, prefixes),
            destination: maybe(random, prefixes),
            reply_source: maybe(random, prefixes),
            reply_destination: maybe(random, prefixes),
            marks: few(random, |random| {
                let mask = [0, 0xff, 0xff00, u32::MAX, 1 << 31][random.below(5)];
                ([0, 7, 0x700, 1 << 31][random.below(4)] & mask, mask)
            }),
            source_ports: maybe(random, numbers),
            ports: maybe(random, numbers),
            ..Rule::default()
        }
    }

    fn view(random: &mut Random) -> ScopeView {
        let family = [2, 2, 10, 10, 7][random.below(5)];
        let address = |random: &mut Random| -> u128 {
            match (family, random.below(5)) {
                (_, 0) => 0,
                (2, 1) => u128::from(u32::MAX),
                (2, 2) => 0x0a01_0000 + u128::from(random.bits() as u16),
                (2, 3) => 0x0a00_0000 + u128::from(random.bits() as u32 & 0xff_ffff),
                (2, _) => u128::from(random.bits() as u32),
                (_, 1) => u128::MAX,
                (_, 2) => 0x2001_0db8_0000_0001 << 64 | u128::from(random.below(8) as u64),
                (_, 3) => 0xffff_0a01_0000 + u128::from(random.bits() as u16),
                _ => 0x2001_0db8 << 96 | u128::from(random.bits()),
            }
        };
        let number = |random: &mut Random| [0, 6, 7, 9, 10, 999, 1000, 65535][random.below(8)];
        ScopeView {
            family,
            protocol: [6, 17, 0, 1, 58, 64, 255][random.below(7)],
            has: if random.chance(3, 4) { field::TUPLES } else { field::TUPLES & random.bits() },
            source: address(random),
            destination: address(random),
            reply_source: address(random),
            reply_destination: address(random),
            ports: (number(random), number(random)),
            reply_ports: (number(random), number(random)),
            zones: (number(random), number(random)),
            mark: [0, 7, 0x700, 1 << 31, u32::MAX, 0x1234_5678][random.below(6)],
        }
    }

    /// A prefilter changes no decision of the criteria themselves.
    #[test]
    fn a_gate_turns_away_nobody_who_is_in_the_rule() {
        let mut random = Random::new(2);
        let mut inside = 0;
        let mut turned_away = 0;
        for _ in 0..20_000 {
            let scope = Scope::new((0..random.below(4)).map(|_| rule(&mut random)).collect());
            for _ in 0..10 {
                let view = view(&mut random);
                let first = scope.rules().iter().position(|rule| rule.first_mismatch(&view).is_none());
                assert_eq!(scope.rule(&view), first, "{view:x?} {scope:x?}");
                inside += usize::from(first.is_some());
                let prefilter_key = PrefilterKey::at(&view);
                turned_away +=
                    scope.rules().iter().filter(|rule| !Prefilter::of(rule).admits(&view, &prefilter_key)).count();
            }
        }
        assert!(inside > 10_000 && turned_away > 10_000, "{inside} {turned_away}");
    }
}
