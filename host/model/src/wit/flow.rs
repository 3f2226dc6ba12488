//! Flows: what the kernel calls conntrack entries (`struct nf_conn`), as the ctnetlink attributes `CTA_*` of
//! `linux/netfilter/nfnetlink_conntrack.h` describe them.
//!
//! # Presence
//!
//! The number `flows.has` of a row has a bit for each field that the row carries:
//!
//! | bit | name                   | field                                  | attribute                          |
//! |-----|------------------------|----------------------------------------|------------------------------------|
//! |  0  | source                 | `original.source`                      | CTA_TUPLE_ORIG / CTA_TUPLE_IP      |
//! |  1  | destination            | `original.destination`                 | CTA_TUPLE_ORIG / CTA_TUPLE_IP      |
//! |  2  | reply-source           | `reply.source`                         | CTA_TUPLE_REPLY / CTA_TUPLE_IP     |
//! |  3  | reply-destination      | `reply.destination`                    | CTA_TUPLE_REPLY / CTA_TUPLE_IP     |
//! |  4  | protocol               | `protocol`                             | CTA_TUPLE_ORIG / CTA_PROTO_NUM     |
//! |  5  | reply-protocol         | `protocol`, also in the reply tuple    | CTA_TUPLE_REPLY / CTA_PROTO_NUM    |
//! |  6  | source-l4              | `original.source-l4`                   | CTA_PROTO_SRC_PORT, _ICMP_ID, ...  |
//! |  7  | destination-l4         | `original.destination-l4`              | CTA_PROTO_DST_PORT, _ICMP_TYPE ... |
//! |  8  | reply-source-l4        | `reply.source-l4`                      |                                    |
//! |  9  | reply-destination-l4   | `reply.destination-l4`                 |                                    |
//! | 10  | original-zone          | `zones.original`                       | CTA_TUPLE_ORIG / CTA_TUPLE_ZONE    |
//! | 11  | reply-zone             | `zones.reply`                          | CTA_TUPLE_REPLY / CTA_TUPLE_ZONE   |
//! | 12  | zone                   | `zones.zone`                           | CTA_ZONE                           |
//! | 13  | status                 | `status`                               | CTA_STATUS                         |
//! | 14  | timeout                | `timeout`                              | CTA_TIMEOUT                        |
//! | 15  | mark                   | `mark`                                 | CTA_MARK                           |
//! | 16  | secmark                | `rare.secmark`                         | CTA_SECMARK                        |
//! | 17  | use                    | `use-count`                            | CTA_USE                            |
//! | 18  | id                     | `id`                                   | CTA_ID                             |
//! | 19  | original-counters      | `counters.original-*`                  | CTA_COUNTERS_ORIG                  |
//! | 20  | reply-counters         | `counters.reply-*`                     | CTA_COUNTERS_REPLY                 |
//! | 21  | start                  | `times.start`                          | CTA_TIMESTAMP_START                |
//! | 22  | stop                   | `times.stop`                           | CTA_TIMESTAMP_STOP                 |
//! | 23  | event-time             | `events.time`                          | CTA_TIMESTAMP_EVENT                |
//! | 24  | state                  | `state`                                | CTA_PROTOINFO_{TCP,SCTP,DCCP}_STATE |
//! | 25  | original-window-scale  | `tcp.original-window-scale`            | CTA_PROTOINFO_TCP_WSCALE_ORIGINAL  |
//! | 26  | reply-window-scale     | `tcp.reply-window-scale`               | CTA_PROTOINFO_TCP_WSCALE_REPLY     |
//! | 27  | original-tcp-flags     | `tcp.original-flags`                   | CTA_PROTOINFO_TCP_FLAGS_ORIGINAL   |
//! | 28  | reply-tcp-flags        | `tcp.reply-flags`                      | CTA_PROTOINFO_TCP_FLAGS_REPLY      |
//! | 29  | original-vtag          | `sctp.original-vtag`                   | CTA_PROTOINFO_SCTP_VTAG_ORIGINAL   |
//! | 30  | reply-vtag             | `sctp.reply-vtag`                      | CTA_PROTOINFO_SCTP_VTAG_REPLY      |
//! | 31  | helper                 | `rare.helper`                          | CTA_HELP_NAME                      |
//! | 32  | helper-info            | `rare.helper-info`                     | CTA_HELP_INFO                      |
//! | 33  | labels                 | `rare.labels`                          | CTA_LABELS                         |
//! | 34  | labels-mask            | `rare.labels-mask`                     | CTA_LABELS_MASK (values only)      |
//! | 35  | mark-mask              | `rare.mark-mask`                       | CTA_MARK_MASK (values only)        |
//! | 36  | security-context       | `rare.security-context`                | CTA_SECCTX_NAME                    |
//! | 37  | master                 | `rare.master`                          | CTA_TUPLE_MASTER                   |
//! | 38  | original-sequence      | `rare.sequence`, reply = 0             | CTA_SEQ_ADJ_ORIG                   |
//! | 39  | reply-sequence         | `rare.sequence`, reply = 1             | CTA_SEQ_ADJ_REPLY                  |
//! | 40  | synproxy               | `rare.synproxy`                        | CTA_SYNPROXY                       |
//! | 41  | dccp                   | `rare.dccp`                            | CTA_PROTOINFO_DCCP_*               |
//! | 42  | source-nat             | `rare.nat`, destination = 0            | CTA_NAT_SRC (values only)          |
//! | 43  | destination-nat        | `rare.nat`, destination = 1            | CTA_NAT_DST (values only)          |
//! | 44  | unknown                | `rare.unknown`                         | any other                          |
//! | 45  | annotations            | `rare.annotations`                     | none: from plugins                 |
//! | 46  | port-id                | `events.port-id`                       | none: nlmsg_pid                    |
//! | 47  | program                | `events.program`                       | none: from /proc                   |
//! | 48  | namespace              | `events.namespace-id`                  | none: NETLINK_LISTEN_ALL_NSID      |
//! | 49  | namespace-name         | `events.namespace-name`                | none                               |
//! | 50  | synthetic              | (a mark, no field)                     | none: see `events.kind`            |
//!
//! Bits 51-63 are reserved and are 0. `setup.description.reads` uses the same numbering. A field marked "values only"
//! never comes from the kernel; it occurs in the values of actions.
//!
//! # Sets that the kernel owns
//!
//! Protocol numbers, states, status bits and address families are plain numbers: the kernel may add one any day, and
//! a closed `enum` would then break every compiled plugin. The SDK has names for those that are known.

// Written from wit/ by tests/wit.rs: change it there, and set BLESS=1 when that test is run.

#[cfg(feature = "component")]
use wasmtime::component::{ComponentType, Lift, Lower};

use super::columns::{Addresses, Annotations, Column, RawAttributes, SparseTexts};

/// One direction of each row: who talks to whom. CTA_TUPLE_ORIG or CTA_TUPLE_REPLY.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Tuples {
    /// Source address. CTA_IP_V4_SRC or CTA_IP_V6_SRC.
    pub source: Addresses,
    /// Destination address. CTA_IP_V4_DST or CTA_IP_V6_DST.
    pub destination: Addresses,
    /// First word of the layer-4 key: the source port (TCP, UDP, UDP-Lite, SCTP, DCCP; CTA_PROTO_SRC_PORT), the
    /// source key (GRE), or the identifier (ICMP, ICMPv6; CTA_PROTO_ICMP_ID, CTA_PROTO_ICMPV6_ID). 0 for others.
    #[cfg_attr(feature = "component", component(name = "source-l4"))]
    pub source_l4: Vec<u16>,
    /// Second word of the layer-4 key: the destination port or key (CTA_PROTO_DST_PORT), or for ICMP and ICMPv6
    /// the type times 256 plus the code (CTA_PROTO_ICMP_TYPE, CTA_PROTO_ICMP_CODE). 0 for others.
    #[cfg_attr(feature = "component", component(name = "destination-l4"))]
    pub destination_l4: Vec<u16>,
}

/// Connection-tracking zones (CONFIG_NF_CONNTRACK_ZONES). 0 is the default zone, which the kernel does not send.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Zones {
    /// CTA_ZONE: the zone of both directions.
    pub zone: Vec<u16>,
    /// CTA_TUPLE_ZONE in the original tuple: the zone of that direction alone.
    pub original: Vec<u16>,
    /// CTA_TUPLE_ZONE in the reply tuple.
    pub reply: Vec<u16>,
}

/// Accounting (sysctl nf_conntrack_acct at the time when the entry was created). Absent from NEW and UPDATE events.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Counters {
    /// CTA_COUNTERS_PACKETS, packets in the original direction.
    #[cfg_attr(feature = "component", component(name = "original-packets"))]
    pub original_packets: Vec<u64>,
    /// CTA_COUNTERS_BYTES, bytes at layer 3 in the original direction.
    #[cfg_attr(feature = "component", component(name = "original-bytes"))]
    pub original_bytes: Vec<u64>,
    /// CTA_COUNTERS_PACKETS, packets in the reply direction.
    #[cfg_attr(feature = "component", component(name = "reply-packets"))]
    pub reply_packets: Vec<u64>,
    /// CTA_COUNTERS_BYTES, bytes at layer 3 in the reply direction.
    #[cfg_attr(feature = "component", component(name = "reply-bytes"))]
    pub reply_bytes: Vec<u64>,
}

/// Life time of the entry (sysctl nf_conntrack_timestamp), in nanoseconds of wall clock since 1970.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Times {
    /// CTA_TIMESTAMP_START.
    pub start: Vec<u64>,
    /// CTA_TIMESTAMP_STOP; carried once the entry has ended.
    pub stop: Vec<u64>,
}

/// Details of TCP beyond the state. Absent on DESTROY and on offloaded flows.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Tcp {
    /// Window scale of RFC 7323, 0-14. CTA_PROTOINFO_TCP_WSCALE_ORIGINAL.
    #[cfg_attr(feature = "component", component(name = "original-window-scale"))]
    pub original_window_scale: Vec<u8>,
    /// CTA_PROTOINFO_TCP_WSCALE_REPLY, as `original-window-scale`.
    #[cfg_attr(feature = "component", component(name = "reply-window-scale"))]
    pub reply_window_scale: Vec<u8>,
    /// CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, `struct nf_ct_tcp_flags`: the flags (IP_CT_TCP_FLAG_*) times 256 plus the mask
    /// of the flags that an update changes (0 when read).
    #[cfg_attr(feature = "component", component(name = "original-flags"))]
    pub original_flags: Vec<u16>,
    /// CTA_PROTOINFO_TCP_FLAGS_REPLY, as `original-flags`.
    #[cfg_attr(feature = "component", component(name = "reply-flags"))]
    pub reply_flags: Vec<u16>,
}

/// Details of SCTP beyond the state. Absent on DESTROY and on offloaded flows.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Sctp {
    /// Verification tag of RFC 9260. CTA_PROTOINFO_SCTP_VTAG_ORIGINAL, big-endian on the wire.
    #[cfg_attr(feature = "component", component(name = "original-vtag"))]
    pub original_vtag: Vec<u32>,
    /// CTA_PROTOINFO_SCTP_VTAG_REPLY, as `original-vtag`.
    #[cfg_attr(feature = "component", component(name = "reply-vtag"))]
    pub reply_vtag: Vec<u32>,
}

/// Fields of rows that are events. The whole group is absent in dumps.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Events {
    /// The event: 0 none (an entry of a dump), 1 NEW, 2 UPDATE, 3 DESTROY, 4 a gap (events were lost before this row,
    /// which carries no flow; the annotation `lost` has their number if the kernel reports it). Other numbers may be
    /// added. With the bit `synthetic` in `has`, the host derived the event after a gap, from the difference between
    /// the table and the preceding events.
    pub kind: Vec<u8>,
    /// CTA_TIMESTAMP_EVENT, nanoseconds since 1970: when the kernel generated the event.
    pub time: Vec<u64>,
    /// Nanoseconds since 1970: when the host read the event. Always present in this group.
    pub received: Vec<u64>,
    /// nlmsg_pid: netlink port of the process that caused the event, 0 for packets and timeouts.
    #[cfg_attr(feature = "component", component(name = "port-id"))]
    pub port_id: Vec<u32>,
    /// Name of that process, where it could be found.
    pub program: SparseTexts,
    /// Id of the network namespace (nsid) of the event as seen from the host's; without the bit: the host's own.
    #[cfg_attr(feature = "component", component(name = "namespace-id"))]
    pub namespace_id: Vec<u32>,
    /// Name of that namespace, where it could be found.
    #[cfg_attr(feature = "component", component(name = "namespace-name"))]
    pub namespace_name: SparseTexts,
}

/// The tuple of the flow that a related flow belongs to (status EXPECTED). CTA_TUPLE_MASTER. Sparse.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Masters {
    /// The rows that have a master.
    pub rows: Vec<u32>,
    /// Layer-4 protocol number of the master. CTA_PROTO_NUM.
    pub protocol: Vec<u8>,
    /// The original direction of the master.
    pub tuple: Tuples,
    /// CTA_TUPLE_ZONE in it, 0 if there is none.
    pub zone: Vec<u16>,
}

/// TCP sequence adjustment made by a NAT helper. Sparse, a row up to twice.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Sequences {
    /// The row of each adjustment.
    pub rows: Vec<u32>,
    /// 0 CTA_SEQ_ADJ_ORIG, 1 CTA_SEQ_ADJ_REPLY.
    pub reply: Vec<u8>,
    /// CTA_SEQADJ_CORRECTION_POS: the sequence number of the last correction.
    pub position: Vec<u32>,
    /// CTA_SEQADJ_OFFSET_BEFORE, two's complement: what is added up to the position.
    pub before: Vec<u32>,
    /// CTA_SEQADJ_OFFSET_AFTER, two's complement: what is added after it.
    pub after: Vec<u32>,
}

/// State of the SYN proxy. CTA_SYNPROXY, sparse. All zero on TCP entries made through ctnetlink.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Synproxies {
    /// The rows that carry the state.
    pub rows: Vec<u32>,
    /// CTA_SYNPROXY_ISN: initial sequence number.
    pub isn: Vec<u32>,
    /// CTA_SYNPROXY_ITS: initial timestamp.
    pub its: Vec<u32>,
    /// CTA_SYNPROXY_TSOFF: timestamp offset.
    pub tsoff: Vec<u32>,
}

/// Details of DCCP beyond the state, on kernels that track it. CTA_PROTOINFO_DCCP, sparse.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Dccps {
    /// The rows that carry the details.
    pub rows: Vec<u32>,
    /// CTA_PROTOINFO_DCCP_ROLE: 0 client, 1 server.
    pub role: Vec<u8>,
    /// CTA_PROTOINFO_DCCP_HANDSHAKE_SEQ.
    pub handshake: Vec<u64>,
}

/// NAT that a create requests. Sparse, a row up to twice. The kernel accepts it at creation only and never sends it:
/// on an existing flow, NAT shows in the difference of its two tuples.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Translations {
    /// The row of each translation.
    pub rows: Vec<u32>,
    /// 0 CTA_NAT_SRC, 1 CTA_NAT_DST.
    pub destination: Vec<u8>,
    /// CTA_NAT_V4_MINIP or CTA_NAT_V6_MINIP.
    pub first: Addresses,
    /// CTA_NAT_V4_MAXIP or CTA_NAT_V6_MAXIP; the same as `first` for one address.
    pub last: Addresses,
    /// CTA_PROTONAT_PORT_MIN; 0 with `last-port` 0 where the port is left alone.
    #[cfg_attr(feature = "component", component(name = "first-port"))]
    pub first_port: Vec<u16>,
    /// CTA_PROTONAT_PORT_MAX.
    #[cfg_attr(feature = "component", component(name = "last-port"))]
    pub last_port: Vec<u16>,
}

/// Fields that few flows carry. The whole group is absent while no row of the batch carries any of them.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Rare {
    /// CTA_HELP_NAME, at most 15 bytes, without the NUL.
    pub helper: SparseTexts,
    /// CTA_HELP_INFO, opaque.
    #[cfg_attr(feature = "component", component(name = "helper-info"))]
    pub helper_info: SparseTexts,
    /// CTA_LABELS: a bit set, at present 16 bytes; label `n` is bit `n % 8` of byte `n / 8` on every machine.
    pub labels: SparseTexts,
    /// CTA_LABELS_MASK: which labels an update changes; as long as the labels beside it.
    #[cfg_attr(feature = "component", component(name = "labels-mask"))]
    pub labels_mask: SparseTexts,
    /// CTA_SECCTX_NAME: the context of the security module (SELinux, Smack).
    #[cfg_attr(feature = "component", component(name = "security-context"))]
    pub security_context: SparseTexts,
    /// CTA_SECMARK, obsolete: no kernel since 2.6.37 sends it. Dense.
    pub secmark: Vec<u32>,
    /// CTA_MARK_MASK: which bits of the mark an update changes. Dense.
    #[cfg_attr(feature = "component", component(name = "mark-mask"))]
    pub mark_mask: Vec<u32>,
    /// CTA_TUPLE_MASTER.
    pub master: Masters,
    /// CTA_SEQ_ADJ_ORIG and CTA_SEQ_ADJ_REPLY.
    pub sequence: Sequences,
    /// CTA_SYNPROXY.
    pub synproxy: Synproxies,
    /// CTA_PROTOINFO_DCCP.
    pub dccp: Dccps,
    /// CTA_NAT_SRC and CTA_NAT_DST.
    pub nat: Translations,
    /// Attributes without a field of their own.
    pub unknown: RawAttributes,
    /// Notes of plugins.
    pub annotations: Annotations,
}

/// A batch of flows.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Flows {
    /// Number of rows. Dense columns that are not empty have as many elements.
    pub length: u32,
    /// Wall clock in nanoseconds since 1970, as the host read it when it handed the batch over.
    pub time: u64,
    /// The fields that each row carries: see the table above. Always given.
    pub has: Vec<u64>,
    /// Layer-3 family, the kernel's AF_ number: 2 IPv4, 10 IPv6. nfgen_family. Always given.
    pub family: Vec<u8>,
    /// Layer-4 protocol number of IANA (IPPROTO_*). CTA_PROTO_NUM.
    pub protocol: Vec<u8>,
    /// The tuple of the first packet.
    pub original: Tuples,
    /// The tuple of the answers; other than the original one reversed if there is NAT.
    pub reply: Tuples,
    /// CTA_STATUS: IPS_* bits of `linux/netfilter/nf_conntrack_common.h`: 1 EXPECTED, 2 SEEN_REPLY, 4 ASSURED,
    /// 8 CONFIRMED, 0x10 SRC_NAT, 0x20 DST_NAT, 0x40 SEQ_ADJUST, 0x80 SRC_NAT_DONE, 0x100 DST_NAT_DONE, 0x200 DYING,
    /// 0x400 FIXED_TIMEOUT, 0x800 TEMPLATE, 0x1000 UNTRACKED, 0x2000 HELPER, 0x4000 OFFLOAD, 0x8000 HW_OFFLOAD.
    pub status: Vec<u32>,
    /// CTA_TIMEOUT: seconds until the entry expires. Absent on offloaded flows and on DESTROY of expired entries.
    pub timeout: Vec<u32>,
    /// CTA_MARK. Absent in an event means 0.
    pub mark: Vec<u32>,
    /// CTA_USE: reference count. Absent in events.
    #[cfg_attr(feature = "component", component(name = "use-count"))]
    pub use_count: Vec<u32>,
    /// CTA_ID: an opaque number that stays the same for the life of the entry; compare for equality only.
    pub id: Vec<u32>,
    /// Protocol state by the kernel's number. TCP: 0 NONE 1 SYN_SENT 2 SYN_RECV 3 ESTABLISHED 4 FIN_WAIT 5 CLOSE_WAIT
    /// 6 LAST_ACK 7 TIME_WAIT 8 CLOSE 9 SYN_SENT2. SCTP: 0 NONE 1 CLOSED 2 COOKIE_WAIT 3 COOKIE_ECHOED 4 ESTABLISHED
    /// 5 SHUTDOWN_SENT 6 SHUTDOWN_RECD 7 SHUTDOWN_ACK_SENT 8 HEARTBEAT_SENT 9 HEARTBEAT_ACKED. DCCP: 0 NONE 1 REQUEST
    /// 2 RESPOND 3 PARTOPEN 4 OPEN 5 CLOSEREQ 6 CLOSING 7 TIMEWAIT 8 IGNORE 9 INVALID.
    pub state: Vec<u8>,
    /// Zones other than 0.
    pub zones: Option<Zones>,
    /// Packets and bytes.
    pub counters: Option<Counters>,
    /// When the entry was created, and when it ended.
    pub times: Option<Times>,
    /// Details of TCP.
    pub tcp: Option<Tcp>,
    /// Details of SCTP.
    pub sctp: Option<Sctp>,
    /// Fields of events.
    pub events: Option<Events>,
    /// Fields that few flows carry.
    pub rare: Option<Rare>,
    /// Columns of later versions that the plugin asked for.
    pub more: Vec<Column>,
}
