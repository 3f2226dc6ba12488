//! Protocol states, by the kernel's numbers.

/// `enum tcp_conntrack` of linux/netfilter/nf_conntrack_tcp.h.
pub const TCP: [&str; 10] = [
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
];
/// `enum sctp_conntrack` of linux/netfilter/nf_conntrack_sctp.h.
pub const SCTP: [&str; 10] = [
    "NONE",
    "CLOSED",
    "COOKIE_WAIT",
    "COOKIE_ECHOED",
    "ESTABLISHED",
    "SHUTDOWN_SENT",
    "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT",
    "HEARTBEAT_SENT",
    "HEARTBEAT_ACKED",
];
/// `enum ct_dccp_states` of the kernels that tracked DCCP.
pub const DCCP: [&str; 10] =
    ["NONE", "REQUEST", "RESPOND", "PARTOPEN", "OPEN", "CLOSEREQ", "CLOSING", "TIMEWAIT", "IGNORE", "INVALID"];

/// Number of TCP's ESTABLISHED.
pub const TCP_ESTABLISHED: u8 = 3;
/// Number of TCP's TIME_WAIT.
pub const TCP_TIME_WAIT: u8 = 7;

/// Returns the state's name; `None` if the protocol has no states or the number is not known.
pub fn name(protocol: u8, state: u8) -> Option<&'static str> {
    let names = match protocol {
        super::protocol::TCP => &TCP,
        super::protocol::SCTP => &SCTP,
        super::protocol::DCCP => &DCCP,
        _ => return None,
    };
    names.get(usize::from(state)).copied()
}
