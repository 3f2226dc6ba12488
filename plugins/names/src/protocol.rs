//! Layer-4 protocols of which connection tracking knows more than the number.

/// ICMP for IPv4.
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// DCCP.
pub const DCCP: u8 = 33;
/// GRE.
pub const GRE: u8 = 47;
/// ICMP for IPv6.
pub const ICMPV6: u8 = 58;
/// SCTP.
pub const SCTP: u8 = 132;
/// UDP-Lite.
pub const UDPLITE: u8 = 136;

/// Returns the name that `conntrack` prints; `None` for a number that it prints as `unknown`.
pub const fn name(protocol: u8) -> Option<&'static str> {
    match protocol {
        ICMP => Some("icmp"),
        TCP => Some("tcp"),
        UDP => Some("udp"),
        DCCP => Some("dccp"),
        GRE => Some("gre"),
        ICMPV6 => Some("icmpv6"),
        SCTP => Some("sctp"),
        UDPLITE => Some("udplite"),
        _ => None,
    }
}

/// Returns true if the layer-4 words are ports.
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | UDPLITE | SCTP | DCCP)
}

/// Returns true if the layer-4 words are an identifier, a type and a code.
pub const fn is_icmp(protocol: u8) -> bool {
    matches!(protocol, ICMP | ICMPV6)
}
