//! Names of layer-4 protocols.

use std::collections::HashMap;

use flowgate_names::protocol;

use crate::context::database;

/// Protocols (IANA) besides those that connection tracking knows.
const KNOWN: [(&str, u8); 12] = [
    ("igmp", 2),
    ("ipip", 4),
    ("ipv6-icmp", protocol::ICMPV6),
    ("icmp6", protocol::ICMPV6),
    ("esp", 50),
    ("ah", 51),
    ("ospf", 89),
    ("pim", 103),
    ("ipcomp", 108),
    ("vrrp", 112),
    ("l2tp", 115),
    ("udp-lite", protocol::UDPLITE),
];

/// Protocols that connection tracking knows.
const TRACKED: [u8; 8] = [
    protocol::ICMP,
    protocol::TCP,
    protocol::UDP,
    protocol::DCCP,
    protocol::GRE,
    protocol::ICMPV6,
    protocol::SCTP,
    protocol::UDPLITE,
];

/// Returns the number of a common protocol. The case of letters is ignored.
#[must_use]
pub fn known(name: &str) -> Option<u8> {
    all().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, number)| number)
}

fn all() -> impl Iterator<Item = (&'static str, u8)> {
    TRACKED.into_iter().filter_map(|number| Some((protocol::name(number)?, number))).chain(KNOWN)
}

/// Returns the names of the common protocols.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    all().map(|(name, _)| name)
}

/// Reads the names, with aliases, and numbers in the content of `/etc/protocols`. Of several lines with a name, the
/// first one is taken. Lines that are not understood are left out.
#[must_use]
pub fn of_file(text: &str) -> HashMap<String, u8> {
    database(text, |number| number.parse().ok())
}
