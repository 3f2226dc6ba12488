//! Bits of `flows.has`: the fields that a row carries. The table in `wit/flow.wit` describes each.

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
