//! Numbers of the protocol: message types, flags and attribute types of `linux/netlink.h`,
//! `linux/netfilter/nfnetlink.h` and `linux/netfilter/nfnetlink_conntrack.h`.

/// Netlink protocol of netfilter, `NETLINK_NETFILTER`.
pub const NETLINK_NETFILTER: isize = 12;
/// Length of `struct nlmsghdr`.
pub const MESSAGE_HEADER: usize = 16;
/// Length of `struct nfgenmsg`, which begins the body of every netfilter message.
pub const NETFILTER_HEADER: usize = 4;
/// Length of `struct nlattr`.
pub const ATTRIBUTE_HEADER: usize = 4;

/// Message types below this one belong to netlink itself, not to netfilter.
pub const FIRST_SUBSYSTEM_TYPE: u16 = 0x10;
/// `NLMSG_NOOP`
pub const NLMSG_NOOP: u16 = 1;
/// `NLMSG_ERROR`, also the acknowledgement.
pub const NLMSG_ERROR: u16 = 2;
/// `NLMSG_DONE`
pub const NLMSG_DONE: u16 = 3;
/// `NLMSG_OVERRUN`
pub const NLMSG_OVERRUN: u16 = 4;

/// `NLM_F_REQUEST`
pub const REQUEST: u16 = 0x1;
/// `NLM_F_MULTI`
pub const MULTI: u16 = 0x2;
/// `NLM_F_ACK`
pub const ACK: u16 = 0x4;
/// `NLM_F_DUMP_INTR`: the table changed under the dump in a way that made it inconsistent.
pub const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLM_F_DUMP` of a request.
pub const DUMP: u16 = 0x300;
/// `NLM_F_EXCL` of a request and of a NEW event.
pub const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE` of a request and of a NEW event.
pub const CREATE: u16 = 0x400;
/// `NLM_F_CAPPED` of an error: the request is not echoed beyond its header.
pub const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS` of an error: extended acknowledgement attributes follow.
pub const ACK_ATTRIBUTES: u16 = 0x200;

/// `NLMSGERR_ATTR_MSG`
pub const ERROR_TEXT: u16 = 1;
/// `NLMSGERR_ATTR_OFFS`
pub const ERROR_OFFSET: u16 = 2;

/// `NLA_F_NESTED`
pub const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`: an attribute's type without its flags.
pub const TYPE_MASK: u16 = 0x3fff;

/// `NFNL_SUBSYS_CTNETLINK`
pub const SUBSYSTEM_FLOWS: u8 = 1;
/// `NFNL_SUBSYS_CTNETLINK_EXP`
pub const SUBSYSTEM_EXPECTATIONS: u8 = 2;

/// Messages of the flow subsystem, `enum cntl_msg_types`.
pub mod flow_message {
    /// `IPCTNL_MSG_CT_NEW`: create or update; also every entry that the kernel sends.
    pub const NEW: u8 = 0;
    /// `IPCTNL_MSG_CT_GET`
    pub const GET: u8 = 1;
    /// `IPCTNL_MSG_CT_DELETE`: also the DESTROY event.
    pub const DELETE: u8 = 2;
    /// `IPCTNL_MSG_CT_GET_CTRZERO`: like GET, and sets the counters to zero.
    pub const GET_AND_ZERO: u8 = 3;
    /// `IPCTNL_MSG_CT_GET_STATS_CPU`
    pub const GET_CPU_STATISTICS: u8 = 4;
    /// `IPCTNL_MSG_CT_GET_STATS`
    pub const GET_STATISTICS: u8 = 5;
    /// `IPCTNL_MSG_CT_GET_DYING`
    pub const GET_DYING: u8 = 6;
    /// `IPCTNL_MSG_CT_GET_UNCONFIRMED`
    pub const GET_UNCONFIRMED: u8 = 7;
}

/// Messages of the expectation subsystem, `enum ctnl_exp_msg_types`.
pub mod expectation_message {
    /// `IPCTNL_MSG_EXP_NEW`
    pub const NEW: u8 = 0;
    /// `IPCTNL_MSG_EXP_GET`
    pub const GET: u8 = 1;
    /// `IPCTNL_MSG_EXP_DELETE`
    pub const DELETE: u8 = 2;
    /// `IPCTNL_MSG_EXP_GET_STATS_CPU`; the kernel answers it with message 3 of the *flow* subsystem.
    pub const GET_CPU_STATISTICS: u8 = 3;
}

/// `enum ctattr_type`: attributes of a flow.
#[allow(missing_docs)]
pub mod flow {
    pub const TUPLE_ORIG: u16 = 1;
    pub const TUPLE_REPLY: u16 = 2;
    pub const STATUS: u16 = 3;
    pub const PROTOINFO: u16 = 4;
    pub const HELP: u16 = 5;
    pub const NAT_SRC: u16 = 6;
    pub const TIMEOUT: u16 = 7;
    pub const MARK: u16 = 8;
    pub const COUNTERS_ORIG: u16 = 9;
    pub const COUNTERS_REPLY: u16 = 10;
    pub const USE: u16 = 11;
    pub const ID: u16 = 12;
    pub const NAT_DST: u16 = 13;
    pub const TUPLE_MASTER: u16 = 14;
    pub const SEQ_ADJ_ORIG: u16 = 15;
    pub const SEQ_ADJ_REPLY: u16 = 16;
    pub const SECMARK: u16 = 17;
    pub const ZONE: u16 = 18;
    pub const SECCTX: u16 = 19;
    pub const TIMESTAMP: u16 = 20;
    pub const MARK_MASK: u16 = 21;
    pub const LABELS: u16 = 22;
    pub const LABELS_MASK: u16 = 23;
    pub const SYNPROXY: u16 = 24;
    pub const FILTER: u16 = 25;
    pub const STATUS_MASK: u16 = 26;
    pub const TIMESTAMP_EVENT: u16 = 27;
}

/// `enum ctattr_tuple`, `enum ctattr_ip`, `enum ctattr_l4proto`: attributes of one direction.
#[allow(missing_docs)]
pub mod tuple {
    pub const IP: u16 = 1;
    pub const PROTO: u16 = 2;
    pub const ZONE: u16 = 3;

    pub const V4_SRC: u16 = 1;
    pub const V4_DST: u16 = 2;
    pub const V6_SRC: u16 = 3;
    pub const V6_DST: u16 = 4;

    pub const NUM: u16 = 1;
    pub const SRC_PORT: u16 = 2;
    pub const DST_PORT: u16 = 3;
    pub const ICMP_ID: u16 = 4;
    pub const ICMP_TYPE: u16 = 5;
    pub const ICMP_CODE: u16 = 6;
    pub const ICMPV6_ID: u16 = 7;
    pub const ICMPV6_TYPE: u16 = 8;
    pub const ICMPV6_CODE: u16 = 9;
}

/// `enum ctattr_protoinfo` and the attributes of each protocol in it.
#[allow(missing_docs)]
pub mod protoinfo {
    pub const TCP: u16 = 1;
    pub const DCCP: u16 = 2;
    pub const SCTP: u16 = 3;

    pub const TCP_STATE: u16 = 1;
    pub const TCP_WSCALE_ORIGINAL: u16 = 2;
    pub const TCP_WSCALE_REPLY: u16 = 3;
    pub const TCP_FLAGS_ORIGINAL: u16 = 4;
    pub const TCP_FLAGS_REPLY: u16 = 5;

    pub const DCCP_STATE: u16 = 1;
    pub const DCCP_ROLE: u16 = 2;
    pub const DCCP_HANDSHAKE_SEQ: u16 = 3;
    pub const DCCP_PAD: u16 = 4;

    pub const SCTP_STATE: u16 = 1;
    pub const SCTP_VTAG_ORIGINAL: u16 = 2;
    pub const SCTP_VTAG_REPLY: u16 = 3;
}

/// Attributes inside the smaller nests of a flow.
#[allow(missing_docs)]
pub mod part {
    pub const HELP_NAME: u16 = 1;
    pub const HELP_INFO: u16 = 2;

    pub const COUNTERS_PACKETS: u16 = 1;
    pub const COUNTERS_BYTES: u16 = 2;
    pub const COUNTERS_PAD: u16 = 5;

    pub const TIMESTAMP_START: u16 = 1;
    pub const TIMESTAMP_STOP: u16 = 2;
    pub const TIMESTAMP_PAD: u16 = 3;

    pub const SECCTX_NAME: u16 = 1;

    pub const SEQADJ_CORRECTION_POS: u16 = 1;
    pub const SEQADJ_OFFSET_BEFORE: u16 = 2;
    pub const SEQADJ_OFFSET_AFTER: u16 = 3;

    pub const SYNPROXY_ISN: u16 = 1;
    pub const SYNPROXY_ITS: u16 = 2;
    pub const SYNPROXY_TSOFF: u16 = 3;

    pub const NAT_V4_MINIP: u16 = 1;
    pub const NAT_V4_MAXIP: u16 = 2;
    pub const NAT_PROTO: u16 = 3;
    pub const NAT_V6_MINIP: u16 = 4;
    pub const NAT_V6_MAXIP: u16 = 5;
    pub const PROTONAT_PORT_MIN: u16 = 1;
    pub const PROTONAT_PORT_MAX: u16 = 2;

    pub const FILTER_ORIG_FLAGS: u16 = 1;
    pub const FILTER_REPLY_FLAGS: u16 = 2;
}

/// `enum ctattr_expect`: attributes of an expectation.
#[allow(missing_docs)]
pub mod expectation {
    pub const MASTER: u16 = 1;
    pub const TUPLE: u16 = 2;
    pub const MASK: u16 = 3;
    pub const TIMEOUT: u16 = 4;
    pub const ID: u16 = 5;
    pub const HELP_NAME: u16 = 6;
    pub const ZONE: u16 = 7;
    pub const FLAGS: u16 = 8;
    pub const CLASS: u16 = 9;
    pub const NAT: u16 = 10;
    pub const FN: u16 = 11;

    pub const NAT_DIR: u16 = 1;
    pub const NAT_TUPLE: u16 = 2;
}

/// A length with its padding: netlink aligns messages and attributes to four bytes.
pub const fn align(length: usize) -> usize {
    length.saturating_add(3) & !3
}
