//! The identity of a flow as an owned value: one of its tuples, with family, protocol and zone.
//!
//! A [`Flow`] lives as long as its batch. A [`Key`] can be stored: in a table of flows that a plugin has seen, for an
//! action on a flow that is not in the batch, or for a flow to create.

use std::net::{IpAddr, SocketAddr};

use crate::{Direction, Flow, address, family, protocol};

/// One direction of a flow, its protocol and its zone, by which the kernel finds a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Layer-4 protocol number, see [`protocol`].
    pub protocol: u8,
    /// Source address. Source and destination must be of one family; requests with any other key are refused.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source port, key (GRE) or ICMP identifier; 0 for protocols without them.
    pub source_l4: u16,
    /// Destination port or key, or for ICMP the type times 256 plus the code; 0 for protocols without them.
    pub destination_l4: u16,
    /// Zone; 0 is the default zone.
    pub zone: u16,
}

impl Key {
    /// Makes the key of a flow of a protocol with ports, in the default zone.
    #[must_use]
    pub fn new(protocol: u8, source: SocketAddr, destination: SocketAddr) -> Self {
        Key {
            protocol,
            source: source.ip(),
            destination: destination.ip(),
            source_l4: source.port(),
            destination_l4: destination.port(),
            zone: 0,
        }
    }

    /// Makes the key of a flow of ICMP or, with addresses of IPv6, of ICMPv6, in the default zone.
    #[must_use]
    pub fn icmp(source: IpAddr, destination: IpAddr, identifier: u16, kind: u8, code: u8) -> Self {
        let protocol = if source.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 };
        let destination_l4 = u16::from_be_bytes([kind, code]);
        Key { protocol, source, destination, source_l4: identifier, destination_l4, zone: 0 }
    }

    /// Makes the key of a flow of a protocol of which connection tracking knows only the number, in the default zone.
    #[must_use]
    pub fn bare(protocol: u8, source: IpAddr, destination: IpAddr) -> Self {
        Key { protocol, source, destination, source_l4: 0, destination_l4: 0, zone: 0 }
    }

    /// Returns the same key in a zone.
    #[must_use]
    pub fn in_zone(mut self, zone: u16) -> Self {
        self.zone = zone;
        self
    }

    /// Returns the layer-3 family: [`family::IPV4`] or [`family::IPV6`]. If the addresses differ in family, that of the
    /// source.
    #[must_use]
    pub fn family(&self) -> u8 {
        if self.source.is_ipv4() { family::IPV4 } else { family::IPV6 }
    }

    /// Returns the reply direction without NAT: addresses and ports are swapped, an ICMP type is replaced by the type
    /// that answers it. `None` for an ICMP type without an answer; the kernel does not track such a flow.
    #[must_use]
    pub fn reversed(&self) -> Option<Self> {
        let (source_l4, destination_l4) = if protocol::is_icmp(self.protocol) {
            let [kind, code] = self.destination_l4.to_be_bytes();
            (self.source_l4, u16::from_be_bytes([answer(self.protocol, kind)?, code]))
        } else {
            (self.destination_l4, self.source_l4)
        };
        Some(Key { source: self.destination, destination: self.source, source_l4, destination_l4, ..*self })
    }

    /// Returns true if both addresses are of one family, as for every flow.
    pub(crate) fn is_sound(&self) -> bool {
        self.source.is_ipv4() == self.destination.is_ipv4()
    }

    /// Returns true if the protocol has layer-4 words, which are then part of the key.
    pub(crate) fn has_l4(&self) -> bool {
        let number = self.protocol;
        protocol::has_ports(number) || protocol::is_icmp(number) || number == protocol::GRE
    }

    /// Returns both addresses as 128-bit numbers.
    pub(crate) fn bits(&self) -> [u128; 2] {
        [address::bits(self.source), address::bits(self.destination)]
    }
}

/// Returns the type of the message that answers one of these types: RFC 792 and RFC 950, RFC 4443 and RFC 4620.
fn answer(number: u8, kind: u8) -> Option<u8> {
    let pairs: &[(u8, u8)] = match number {
        protocol::ICMPV6 => &[(128, 129), (139, 140)],
        _ => &[(8, 0), (13, 14), (15, 16), (17, 18)],
    };
    pairs.iter().find_map(|&(ask, answer)| match kind {
        kind if kind == ask => Some(answer),
        kind if kind == answer => Some(ask),
        _ => None,
    })
}

impl Flow<'_> {
    /// Returns the key of the flow's original direction, for later use. The plugin must read [`crate::field::ORIGINAL`]
    /// and [`crate::field::ZONES`].
    #[must_use]
    pub fn key(&self) -> Key {
        let zone = self.zone().or(self.original_zone());
        self.original().key(self.protocol(), zone.unwrap_or(0))
    }

    /// Returns the key of the flow's reply direction; with NAT it differs from [`Key::reversed`]. The plugin must read
    /// [`crate::field::REPLY`], [`crate::field::PROTOCOL`] and [`crate::field::ZONES`].
    #[must_use]
    pub fn reply_key(&self) -> Key {
        let zone = self.zone().or(self.reply_zone());
        self.reply().key(self.protocol(), zone.unwrap_or(0))
    }
}

impl Direction<'_> {
    fn key(&self, protocol: u8, zone: u16) -> Key {
        Key {
            protocol,
            source: self.source(),
            destination: self.destination(),
            source_l4: self.source_l4(),
            destination_l4: self.destination_l4(),
            zone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        field,
        testing::{Row, batch},
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn answers() {
        let tcp = Key::new(protocol::TCP, "10.0.0.1:1000".parse().unwrap(), "10.0.0.2:80".parse().unwrap()).in_zone(3);
        let reply = tcp.reversed().unwrap();
        assert_eq!((reply.source, reply.source_l4, reply.destination_l4, reply.zone), (ip("10.0.0.2"), 80, 1000, 3));
        assert_eq!(reply.reversed(), Some(tcp));

        let [v4, v6] = [[ip("1.1.1.1"), ip("2.2.2.2")], [ip("::1"), ip("::2")]];
        for (addresses, number, pairs) in [
            (v4, protocol::ICMP, &[(8, 0), (13, 14), (15, 16), (17, 18)][..]),
            (v6, protocol::ICMPV6, &[(128, 129), (139, 140)]),
        ] {
            for &(ask, answer) in pairs {
                for (ask, answer) in [(ask, answer), (answer, ask)] {
                    let key = Key::icmp(addresses[0], addresses[1], 7, ask, 5);
                    assert_eq!(key.protocol, number);
                    assert_eq!(key.reversed(), Some(Key::icmp(addresses[1], addresses[0], 7, answer, 5)));
                }
            }
            // Port unreachable, packet too big.
            assert_eq!(Key::icmp(addresses[0], addresses[1], 7, 3, 0).reversed(), None);
        }
        let esp = Key::bare(50, v6[0], v6[1]);
        assert_eq!(esp.reversed(), Some(Key::bare(50, v6[1], v6[0])));
        assert!(!esp.has_l4() && tcp.has_l4());
    }

    #[test]
    fn of_flows() {
        let flows = batch([
            Row::ipv4(protocol::UDP).original("10.0.0.1", "10.0.0.2", 1, 2).reply("10.0.0.2", "9.9.9.9", 2, 77),
            Row::ipv6(protocol::TCP).original("::1", "::2", 3, 4).set(field::ZONE, |row| row.zone = 5),
            Row::ipv4(50).original("10.0.0.1", "10.0.0.2", 0, 0).set(field::ORIGINAL_ZONE, |row| row.original_zone = 6),
        ]);
        let key = |row| flows.flow(row).unwrap().key();
        let udp = |source: &str, destination: &str| {
            Key::new(protocol::UDP, source.parse().unwrap(), destination.parse().unwrap())
        };
        assert_eq!(key(0), udp("10.0.0.1:1", "10.0.0.2:2"));
        assert_eq!(flows.flow(0).unwrap().reply_key(), udp("10.0.0.2:2", "9.9.9.9:77"));
        assert_eq!((key(1).family(), key(1).zone), (family::IPV6, 5));
        assert_eq!((key(2).family(), key(2).zone), (family::IPV4, 6));
        assert_eq!(flows.flow(2).unwrap().reply_key().zone, 0);
    }
}
