//! Names and numbers of connection tracking, shared by the host (which parses them) and the SDK (which prints them).
//!
//! These sets belong to the kernel or to IANA and may grow; they are therefore constants and not enums, and a number
//! without a name is valid too.
#![no_std]

/// Bits of `flows.has`: the fields that a row carries. The table in `wit/flow.wit` describes each.
pub mod field {
    /// Original source address.
    pub const SOURCE: u64 = 1 << 0;
    /// Original destination address.
    pub const DESTINATION: u64 = 1 << 1;
    /// Source address of the reply direction.
    pub const REPLY_SOURCE: u64 = 1 << 2;
    /// Destination address of the reply direction.
    pub const REPLY_DESTINATION: u64 = 1 << 3;
    /// Layer-4 protocol.
    pub const PROTOCOL: u64 = 1 << 4;
    /// Layer-4 protocol, in the reply tuple too.
    pub const REPLY_PROTOCOL: u64 = 1 << 5;
    /// Original source port, key or ICMP identifier.
    pub const SOURCE_L4: u64 = 1 << 6;
    /// Original destination port, key or ICMP type and code.
    pub const DESTINATION_L4: u64 = 1 << 7;
    /// The same as [`SOURCE_L4`] in the reply direction.
    pub const REPLY_SOURCE_L4: u64 = 1 << 8;
    /// The same as [`DESTINATION_L4`] in the reply direction.
    pub const REPLY_DESTINATION_L4: u64 = 1 << 9;
    /// Zone of the original direction alone.
    pub const ORIGINAL_ZONE: u64 = 1 << 10;
    /// Zone of the reply direction alone.
    pub const REPLY_ZONE: u64 = 1 << 11;
    /// Zone of both directions.
    pub const ZONE: u64 = 1 << 12;
    /// Status bits.
    pub const STATUS: u64 = 1 << 13;
    /// Seconds until the entry expires.
    pub const TIMEOUT: u64 = 1 << 14;
    /// Connection mark.
    pub const MARK: u64 = 1 << 15;
    /// Security mark (obsolete).
    pub const SECMARK: u64 = 1 << 16;
    /// Reference count.
    pub const USE: u64 = 1 << 17;
    /// Opaque identifier.
    pub const ID: u64 = 1 << 18;
    /// Packets and bytes of the original direction.
    pub const ORIGINAL_COUNTERS: u64 = 1 << 19;
    /// Packets and bytes of the reply direction.
    pub const REPLY_COUNTERS: u64 = 1 << 20;
    /// When the entry was created.
    pub const START: u64 = 1 << 21;
    /// When the entry ended.
    pub const STOP: u64 = 1 << 22;
    /// When the kernel generated the event.
    pub const EVENT_TIME: u64 = 1 << 23;
    /// Protocol state.
    pub const STATE: u64 = 1 << 24;
    /// TCP window scale of the original direction.
    pub const ORIGINAL_WINDOW_SCALE: u64 = 1 << 25;
    /// TCP window scale of the reply direction.
    pub const REPLY_WINDOW_SCALE: u64 = 1 << 26;
    /// TCP flags and mask of the original direction.
    pub const ORIGINAL_TCP_FLAGS: u64 = 1 << 27;
    /// TCP flags and mask of the reply direction.
    pub const REPLY_TCP_FLAGS: u64 = 1 << 28;
    /// SCTP verification tag of the original direction.
    pub const ORIGINAL_VTAG: u64 = 1 << 29;
    /// SCTP verification tag of the reply direction.
    pub const REPLY_VTAG: u64 = 1 << 30;
    /// Helper's name.
    pub const HELPER: u64 = 1 << 31;
    /// Helper's private data.
    pub const HELPER_INFO: u64 = 1 << 32;
    /// Connection labels.
    pub const LABELS: u64 = 1 << 33;
    /// The labels that an update changes.
    pub const LABELS_MASK: u64 = 1 << 34;
    /// The bits of the mark that an update changes.
    pub const MARK_MASK: u64 = 1 << 35;
    /// Security context.
    pub const SECURITY_CONTEXT: u64 = 1 << 36;
    /// Tuple of the master flow.
    pub const MASTER: u64 = 1 << 37;
    /// Sequence adjustment of the original direction.
    pub const ORIGINAL_SEQUENCE: u64 = 1 << 38;
    /// Sequence adjustment of the reply direction.
    pub const REPLY_SEQUENCE: u64 = 1 << 39;
    /// SYN proxy state.
    pub const SYNPROXY: u64 = 1 << 40;
    /// DCCP role and handshake sequence number.
    pub const DCCP: u64 = 1 << 41;
    /// Source NAT that a create requests.
    pub const SOURCE_NAT: u64 = 1 << 42;
    /// Destination NAT that a create requests.
    pub const DESTINATION_NAT: u64 = 1 << 43;
    /// Attributes without a field of their own.
    pub const UNKNOWN: u64 = 1 << 44;
    /// Annotations of plugins.
    pub const ANNOTATIONS: u64 = 1 << 45;
    /// Netlink port of the process that caused the event.
    pub const PORT_ID: u64 = 1 << 46;
    /// Name of that process.
    pub const PROGRAM: u64 = 1 << 47;
    /// Network namespace of the event.
    pub const NAMESPACE: u64 = 1 << 48;
    /// Name of that namespace.
    pub const NAMESPACE_NAME: u64 = 1 << 49;
    /// Derived by the host from a resync, not sent by the kernel.
    pub const SYNTHETIC: u64 = 1 << 50;

    /// Both addresses of the original direction.
    pub const ORIGINAL_ADDRESSES: u64 = SOURCE | DESTINATION;
    /// Both addresses of the reply direction.
    pub const REPLY_ADDRESSES: u64 = REPLY_SOURCE | REPLY_DESTINATION;
    /// Both layer-4 words of the original direction.
    pub const ORIGINAL_L4: u64 = SOURCE_L4 | DESTINATION_L4;
    /// Both layer-4 words of the reply direction.
    pub const REPLY_L4: u64 = REPLY_SOURCE_L4 | REPLY_DESTINATION_L4;
    /// The original tuple with its protocol.
    pub const ORIGINAL: u64 = ORIGINAL_ADDRESSES | PROTOCOL | ORIGINAL_L4;
    /// The reply tuple with its protocol.
    pub const REPLY: u64 = REPLY_ADDRESSES | REPLY_PROTOCOL | REPLY_L4;
    /// Both tuples.
    pub const TUPLES: u64 = ORIGINAL | REPLY;
    /// The three zones.
    pub const ZONES: u64 = ZONE | ORIGINAL_ZONE | REPLY_ZONE;
    /// Counters of both directions.
    pub const COUNTERS: u64 = ORIGINAL_COUNTERS | REPLY_COUNTERS;
    /// The fields of the group `rare`.
    pub const RARE: u64 = SECMARK
        | HELPER
        | HELPER_INFO
        | LABELS
        | LABELS_MASK
        | MARK_MASK
        | SECURITY_CONTEXT
        | MASTER
        | ORIGINAL_SEQUENCE
        | REPLY_SEQUENCE
        | SYNPROXY
        | DCCP
        | SOURCE_NAT
        | DESTINATION_NAT
        | UNKNOWN
        | ANNOTATIONS;
    /// Every field.
    pub const ALL: u64 = (1 << 51) - 1;
}

/// Bits of `expectations.has`. The table in `wit/expectation.wit` describes each.
pub mod expectation_field {
    /// The expected tuple.
    pub const EXPECTED: u64 = 1 << 0;
    /// Its mask.
    pub const MASK: u64 = 1 << 1;
    /// The master's tuple.
    pub const MASTER: u64 = 1 << 2;
    /// Layer-4 words of the expected tuple.
    pub const EXPECTED_L4: u64 = 1 << 3;
    /// Layer-4 words of the mask.
    pub const MASK_L4: u64 = 1 << 4;
    /// Layer-4 words of the master's tuple.
    pub const MASTER_L4: u64 = 1 << 5;
    /// Seconds until it expires.
    pub const TIMEOUT: u64 = 1 << 6;
    /// Opaque identifier.
    pub const ID: u64 = 1 << 7;
    /// Zone.
    pub const ZONE: u64 = 1 << 8;
    /// NF_CT_EXPECT_* flags.
    pub const FLAGS: u64 = 1 << 9;
    /// Class within the helper.
    pub const CLASS: u64 = 1 << 10;
    /// Helper's name.
    pub const HELPER: u64 = 1 << 11;
    /// Helper's function.
    pub const FUNCTION: u64 = 1 << 12;
    /// NAT of the expected flow.
    pub const NAT: u64 = 1 << 13;
    /// Attributes without a field of their own.
    pub const UNKNOWN: u64 = 1 << 14;
    /// Annotations of plugins.
    pub const ANNOTATIONS: u64 = 1 << 15;
    /// Netlink port of the process that caused the event.
    pub const PORT_ID: u64 = 1 << 16;
    /// Name of that process.
    pub const PROGRAM: u64 = 1 << 17;
}

/// Bits of `expectations.flags`: NF_CT_EXPECT_* of linux/netfilter/nf_conntrack_common.h.
pub mod expectation_flag {
    /// The expectation remains after it was met.
    pub const PERMANENT: u32 = 1 << 0;
    /// The expectation is ignored.
    pub const INACTIVE: u32 = 1 << 1;
    /// A program created the expectation, not a helper of the kernel.
    pub const USERSPACE: u32 = 1 << 2;

    /// Bits and names, ascending.
    pub const NAMES: [(u32, &str); 3] = [(PERMANENT, "PERMANENT"), (INACTIVE, "INACTIVE"), (USERSPACE, "USERSPACE")];
}

/// Layer-3 families: AF_INET and AF_INET6 of Linux.
pub mod family {
    /// AF_INET.
    pub const IPV4: u8 = 2;
    /// AF_INET6.
    pub const IPV6: u8 = 10;

    /// Returns `ipv4`, `ipv6`, or `None` for any other number.
    pub const fn name(family: u8) -> Option<&'static str> {
        match family {
            IPV4 => Some("ipv4"),
            IPV6 => Some("ipv6"),
            _ => None,
        }
    }
}

/// Layer-4 protocols of which connection tracking knows more than the number.
pub mod protocol {
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
}

/// Protocol states, by the kernel's numbers.
pub mod state {
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
}

/// Status bits: `enum ip_conntrack_status` of linux/netfilter/nf_conntrack_common.h.
pub mod status {
    /// The flow was expected by a helper.
    pub const EXPECTED: u32 = 1 << 0;
    /// Packets were seen in both directions.
    pub const SEEN_REPLY: u32 = 1 << 1;
    /// The flow will not be dropped early when the table is full.
    pub const ASSURED: u32 = 1 << 2;
    /// The entry is in the table.
    pub const CONFIRMED: u32 = 1 << 3;
    /// The flow needs source NAT.
    pub const SRC_NAT: u32 = 1 << 4;
    /// The flow needs destination NAT.
    pub const DST_NAT: u32 = 1 << 5;
    /// TCP sequence numbers are adjusted.
    pub const SEQ_ADJUST: u32 = 1 << 6;
    /// Source NAT has been set up, even if it changes nothing.
    pub const SRC_NAT_DONE: u32 = 1 << 7;
    /// Destination NAT has been set up, even if it changes nothing.
    pub const DST_NAT_DONE: u32 = 1 << 8;
    /// The entry is being removed.
    pub const DYING: u32 = 1 << 9;
    /// Packets do not refresh the timeout.
    pub const FIXED_TIMEOUT: u32 = 1 << 10;
    /// A template, not a flow.
    pub const TEMPLATE: u32 = 1 << 11;
    /// The flow is not tracked.
    pub const UNTRACKED: u32 = 1 << 12;
    /// A helper was set by a rule.
    pub const HELPER: u32 = 1 << 13;
    /// The flow is in a software flow table.
    pub const OFFLOAD: u32 = 1 << 14;
    /// The flow is in a flow table of the hardware.
    pub const HW_OFFLOAD: u32 = 1 << 15;

    /// Bits and names, ascending.
    pub const NAMES: [(u32, &str); 16] = [
        (EXPECTED, "EXPECTED"),
        (SEEN_REPLY, "SEEN_REPLY"),
        (ASSURED, "ASSURED"),
        (CONFIRMED, "CONFIRMED"),
        (SRC_NAT, "SRC_NAT"),
        (DST_NAT, "DST_NAT"),
        (SEQ_ADJUST, "SEQ_ADJUST"),
        (SRC_NAT_DONE, "SRC_NAT_DONE"),
        (DST_NAT_DONE, "DST_NAT_DONE"),
        (DYING, "DYING"),
        (FIXED_TIMEOUT, "FIXED_TIMEOUT"),
        (TEMPLATE, "TEMPLATE"),
        (UNTRACKED, "UNTRACKED"),
        (HELPER, "HELPER"),
        (OFFLOAD, "OFFLOAD"),
        (HW_OFFLOAD, "HW_OFFLOAD"),
    ];
}

/// Kinds of event: `events.kind` of flows, `event` of expectations.
pub mod event {
    /// An entry of a dump.
    pub const NONE: u8 = 0;
    /// A new entry.
    pub const NEW: u8 = 1;
    /// A changed entry.
    pub const UPDATE: u8 = 2;
    /// A removed entry.
    pub const DESTROY: u8 = 3;
    /// Events were lost before this row.
    pub const GAP: u8 = 4;
    /// The annotation of such a row with the number of lost events, in decimal, if it is known.
    pub const LOST: &str = "lost";
}

/// Verdicts: `outcome.verdicts`.
pub mod verdict {
    /// Later stages and the format do not see the row.
    pub const DROP: u8 = 0;
    /// The row is passed on.
    pub const KEEP: u8 = 1;
}

/// Kinds of action: `actions.kinds`.
pub mod action {
    /// Deletes the entry.
    pub const DELETE: u8 = 1;
    /// Changes the entry.
    pub const UPDATE: u8 = 2;
    /// Creates an entry; fails if it exists.
    pub const CREATE: u8 = 3;
    /// Creates an entry, or changes it if it exists.
    pub const CREATE_OR_UPDATE: u8 = 4;
    /// No row: in `actions.rows` and `actions.values`.
    pub const NO_ROW: u32 = u32::MAX;
}

/// Results of actions: `results.results`.
pub mod result {
    /// Done.
    pub const DONE: u8 = 0;
    /// The operator did not grant it.
    pub const NOT_GRANTED: u8 = 1;
    /// Skipped: the entry is gone, or has no room for the values.
    pub const GONE: u8 = 2;
    /// The kernel refused it.
    pub const REFUSED: u8 = 3;
    /// Cannot be expressed as a request to the kernel.
    pub const INVALID: u8 = 4;
    /// Printed only: a dry run.
    pub const PRINTED: u8 = 5;
    /// Outside of what the plugin may act on.
    pub const OUTSIDE: u8 = 6;
    /// Above a limit of the plugin.
    pub const OVER_LIMIT: u8 = 7;

    /// Names, by number.
    pub const NAMES: [&str; 8] = [
        "done",
        "not granted",
        "gone",
        "refused by the kernel",
        "invalid",
        "printed",
        "outside its scope",
        "over limit",
    ];
}

/// Levels of log lines.
pub mod level {
    /// Something is broken.
    pub const ERROR: u8 = 1;
    /// Something may be wrong.
    pub const WARNING: u8 = 2;
    /// Informational.
    pub const INFO: u8 = 3;
    /// For the plugin's author.
    pub const DEBUG: u8 = 4;
}

/// Names of the kernel's counters, as `conntrack -S` prints them.
pub mod statistics {
    /// `counts.subject`: per CPU, for flows.
    pub const CPU: u8 = 0;
    /// `counts.subject`: per CPU, for expectations.
    pub const EXPECTATION_CPU: u8 = 1;
    /// `counts.subject`: for the whole table.
    pub const GLOBAL: u8 = 2;

    /// `counts.subject`: per CPU, from procfs, with names of its own.
    pub const PROC: u8 = 3;

    /// CTA_STATS_*: the index is the attribute's number.
    pub const CPU_NAMES: [&str; 20] = [
        "",
        "searched",
        "found",
        "new",
        "invalid",
        "ignore",
        "delete",
        "delete_list",
        "insert",
        "insert_failed",
        "drop",
        "early_drop",
        "error",
        "search_restart",
        "clash_resolve",
        "chaintoolong",
        "unknown1",
        "unknown2",
        "unknown3",
        "unknown4",
    ];
    /// CTA_STATS_EXP_*.
    pub const EXPECTATION_NAMES: [&str; 4] = ["", "expect_new", "expect_create", "expect_delete"];
    /// CTA_STATS_GLOBAL_*.
    pub const GLOBAL_NAMES: [&str; 3] = ["", "entries", "max_entries"];

    /// Returns the counter's name; `None` if the number is not known.
    pub fn name(subject: u8, attribute: u16) -> Option<&'static str> {
        let names: &[&str] = match subject {
            CPU => &CPU_NAMES,
            EXPECTATION_CPU => &EXPECTATION_NAMES,
            GLOBAL => &GLOBAL_NAMES,
            _ => return None,
        };
        names.get(usize::from(attribute)).copied().filter(|name| !name.is_empty())
    }
}
