//! The fields of queries: `operation.field` of the WIT interface `query`, whose table has their meaning.

use crate::field::{self, TUPLES};

/// Kinds of value: `cells.kind` of the WIT interface `query`.
pub mod kind {
    /// A text.
    pub const TEXT: u8 = 0;
    /// An address.
    pub const ADDRESS: u8 = 1;
    /// An address and a prefix length.
    pub const NETWORK: u8 = 2;
    /// A number.
    pub const PLAIN: u8 = 3;
    /// A number of bytes.
    pub const BYTES: u8 = 4;
    /// A number of seconds.
    pub const SECONDS: u8 = 5;
    /// Nanoseconds since 1970.
    pub const TIME: u8 = 6;
    /// A layer-4 protocol.
    pub const PROTOCOL: u8 = 7;
    /// A layer-3 family.
    pub const FAMILY: u8 = 8;
    /// A kind of event.
    pub const EVENT: u8 = 9;
    /// Bits, printed in hexadecimal.
    pub const BITS: u8 = 10;
    /// Status bits.
    pub const STATUS: u8 = 11;
    /// The state of a protocol, printed as TCP's.
    pub const STATE: u8 = 12;
    /// A port.
    pub const PORT: u8 = 13;
    /// A number of nanoseconds.
    pub const NANOSECONDS: u8 = 14;
    /// A mean.
    pub const MEAN: u8 = 15;
    /// A mean of bytes.
    pub const MEAN_BYTES: u8 = 16;
    /// A number per second.
    pub const RATE: u8 = 17;
    /// Bytes per second.
    pub const BYTE_RATE: u8 = 18;
}

/// A field of queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryField {
    /// Its number.
    pub number: u32,
    /// Its name: the path of the member in the JSON output.
    pub name: &'static str,
    /// Other names.
    pub aliases: &'static [&'static str],
    /// The kind of its values ([`kind`]).
    pub kind: u8,
    /// The bits of [`crate::field`] that it is read from.
    pub reads: u64,
}

/// `event`
pub const EVENT: u32 = 1;
/// `family`
pub const FAMILY: u32 = 2;
/// `protocol`
pub const PROTOCOL: u32 = 3;
/// `state`
pub const STATE: u32 = 4;
/// `timeout`
pub const TIMEOUT: u32 = 5;
/// `original.source`
pub const ORIGINAL_SOURCE: u32 = 6;
/// `original.destination`
pub const ORIGINAL_DESTINATION: u32 = 7;
/// `reply.source`
pub const REPLY_SOURCE: u32 = 8;
/// `reply.destination`
pub const REPLY_DESTINATION: u32 = 9;
/// `original.source_port`
pub const ORIGINAL_SOURCE_PORT: u32 = 10;
/// `original.destination_port`
pub const ORIGINAL_DESTINATION_PORT: u32 = 11;
/// `reply.source_port`
pub const REPLY_SOURCE_PORT: u32 = 12;
/// `reply.destination_port`
pub const REPLY_DESTINATION_PORT: u32 = 13;
/// `original.icmp_id`
pub const ORIGINAL_ICMP_ID: u32 = 14;
/// `original.icmp_type`
pub const ORIGINAL_ICMP_TYPE: u32 = 15;
/// `original.icmp_code`
pub const ORIGINAL_ICMP_CODE: u32 = 16;
/// `reply.icmp_id`
pub const REPLY_ICMP_ID: u32 = 17;
/// `reply.icmp_type`
pub const REPLY_ICMP_TYPE: u32 = 18;
/// `reply.icmp_code`
pub const REPLY_ICMP_CODE: u32 = 19;
/// `original.source_key`
pub const ORIGINAL_SOURCE_KEY: u32 = 20;
/// `original.destination_key`
pub const ORIGINAL_DESTINATION_KEY: u32 = 21;
/// `reply.source_key`
pub const REPLY_SOURCE_KEY: u32 = 22;
/// `reply.destination_key`
pub const REPLY_DESTINATION_KEY: u32 = 23;
/// `original.packets`
pub const ORIGINAL_PACKETS: u32 = 24;
/// `original.bytes`
pub const ORIGINAL_BYTES: u32 = 25;
/// `reply.packets`
pub const REPLY_PACKETS: u32 = 26;
/// `reply.bytes`
pub const REPLY_BYTES: u32 = 27;
/// `packets`
pub const PACKETS: u32 = 28;
/// `bytes`
pub const BYTES: u32 = 29;
/// `nat.source.address`
pub const NAT_SOURCE_ADDRESS: u32 = 30;
/// `nat.source.port`
pub const NAT_SOURCE_PORT: u32 = 31;
/// `nat.source.icmp_id`
pub const NAT_SOURCE_ICMP_ID: u32 = 32;
/// `nat.destination.address`
pub const NAT_DESTINATION_ADDRESS: u32 = 33;
/// `nat.destination.port`
pub const NAT_DESTINATION_PORT: u32 = 34;
/// `nat.destination.icmp_id`
pub const NAT_DESTINATION_ICMP_ID: u32 = 35;
/// `status`
pub const STATUS: u32 = 36;
/// `mark`
pub const MARK: u32 = 37;
/// `zone`
pub const ZONE: u32 = 38;
/// `original.zone`
pub const ORIGINAL_ZONE: u32 = 39;
/// `reply.zone`
pub const REPLY_ZONE: u32 = 40;
/// `use`
pub const USE: u32 = 41;
/// `id`
pub const ID: u32 = 42;
/// `start`
pub const START: u32 = 43;
/// `stop`
pub const STOP: u32 = 44;
/// `age`
pub const AGE: u32 = 45;
/// `time`
pub const TIME: u32 = 46;
/// `secmark`
pub const SECMARK: u32 = 47;
/// `security_context`
pub const SECURITY_CONTEXT: u32 = 48;
/// `helper`
pub const HELPER: u32 = 49;
/// `labels`
pub const LABELS: u32 = 50;
/// `event_time`
pub const EVENT_TIME: u32 = 51;
/// `received`
pub const RECEIVED: u32 = 52;
/// `port_id`
pub const PORT_ID: u32 = 53;
/// `program`
pub const PROGRAM: u32 = 54;
/// `namespace_id`
pub const NAMESPACE_ID: u32 = 55;
/// `namespace_name`
pub const NAMESPACE_NAME: u32 = 56;
/// `synthetic`
pub const SYNTHETIC: u32 = 57;
/// `original.window_scale`
pub const ORIGINAL_WINDOW_SCALE: u32 = 58;
/// `reply.window_scale`
pub const REPLY_WINDOW_SCALE: u32 = 59;
/// `original.tcp_flags`
pub const ORIGINAL_TCP_FLAGS: u32 = 60;
/// `reply.tcp_flags`
pub const REPLY_TCP_FLAGS: u32 = 61;
/// `original.vtag`
pub const ORIGINAL_VTAG: u32 = 62;
/// `reply.vtag`
pub const REPLY_VTAG: u32 = 63;
/// `original.sequence.position`
pub const ORIGINAL_SEQUENCE_POSITION: u32 = 64;
/// `original.sequence.before`
pub const ORIGINAL_SEQUENCE_BEFORE: u32 = 65;
/// `original.sequence.after`
pub const ORIGINAL_SEQUENCE_AFTER: u32 = 66;
/// `reply.sequence.position`
pub const REPLY_SEQUENCE_POSITION: u32 = 67;
/// `reply.sequence.before`
pub const REPLY_SEQUENCE_BEFORE: u32 = 68;
/// `reply.sequence.after`
pub const REPLY_SEQUENCE_AFTER: u32 = 69;
/// `synproxy.isn`
pub const SYNPROXY_ISN: u32 = 70;
/// `synproxy.its`
pub const SYNPROXY_ITS: u32 = 71;
/// `synproxy.tsoff`
pub const SYNPROXY_TSOFF: u32 = 72;
/// `dccp.role`
pub const DCCP_ROLE: u32 = 73;
/// `dccp.handshake_sequence`
pub const DCCP_HANDSHAKE_SEQUENCE: u32 = 74;
/// `master.protocol`
pub const MASTER_PROTOCOL: u32 = 75;
/// `master.source`
pub const MASTER_SOURCE: u32 = 76;
/// `master.destination`
pub const MASTER_DESTINATION: u32 = 77;
/// `master.source_port`
pub const MASTER_SOURCE_PORT: u32 = 78;
/// `master.destination_port`
pub const MASTER_DESTINATION_PORT: u32 = 79;
/// `master.zone`
pub const MASTER_ZONE: u32 = 80;
/// `state_name`
pub const STATE_NAME: u32 = 81;
/// `protocol_name`
pub const PROTOCOL_NAME: u32 = 82;
/// `family_name`
pub const FAMILY_NAME: u32 = 83;
/// `event_name`
pub const EVENT_NAME: u32 = 84;
/// `helper_info`
pub const HELPER_INFO: u32 = 85;

/// All fields, ascending by number, from 1 on.
pub const ALL: [QueryField; 85] = [
    row(EVENT, "event", &[], kind::EVENT, 0),
    row(FAMILY, "family", &[], kind::FAMILY, 0),
    row(PROTOCOL, "protocol", &["proto"], kind::PROTOCOL, field::PROTOCOL),
    row(STATE, "state", &[], kind::STATE, field::STATE),
    row(TIMEOUT, "timeout", &[], kind::SECONDS, field::TIMEOUT),
    row(ORIGINAL_SOURCE, "original.source", &["src", "source"], kind::ADDRESS, field::SOURCE),
    row(ORIGINAL_DESTINATION, "original.destination", &["dst", "destination"], kind::ADDRESS, field::DESTINATION),
    row(REPLY_SOURCE, "reply.source", &["reply.src"], kind::ADDRESS, field::REPLY_SOURCE),
    row(REPLY_DESTINATION, "reply.destination", &["reply.dst"], kind::ADDRESS, field::REPLY_DESTINATION),
    row(
        ORIGINAL_SOURCE_PORT,
        "original.source_port",
        &["sport", "source_port"],
        kind::PORT,
        field::SOURCE_L4 | field::PROTOCOL,
    ),
    row(
        ORIGINAL_DESTINATION_PORT,
        "original.destination_port",
        &["dport", "destination_port"],
        kind::PORT,
        field::DESTINATION_L4 | field::PROTOCOL,
    ),
    row(REPLY_SOURCE_PORT, "reply.source_port", &["reply.sport"], kind::PORT, field::REPLY_SOURCE_L4 | field::PROTOCOL),
    row(
        REPLY_DESTINATION_PORT,
        "reply.destination_port",
        &["reply.dport"],
        kind::PORT,
        field::REPLY_DESTINATION_L4 | field::PROTOCOL,
    ),
    row(ORIGINAL_ICMP_ID, "original.icmp_id", &["icmp_id"], kind::PLAIN, field::SOURCE_L4 | field::PROTOCOL),
    row(ORIGINAL_ICMP_TYPE, "original.icmp_type", &["icmp_type"], kind::PLAIN, field::DESTINATION_L4 | field::PROTOCOL),
    row(ORIGINAL_ICMP_CODE, "original.icmp_code", &["icmp_code"], kind::PLAIN, field::DESTINATION_L4 | field::PROTOCOL),
    row(REPLY_ICMP_ID, "reply.icmp_id", &[], kind::PLAIN, field::REPLY_SOURCE_L4 | field::PROTOCOL),
    row(REPLY_ICMP_TYPE, "reply.icmp_type", &[], kind::PLAIN, field::REPLY_DESTINATION_L4 | field::PROTOCOL),
    row(REPLY_ICMP_CODE, "reply.icmp_code", &[], kind::PLAIN, field::REPLY_DESTINATION_L4 | field::PROTOCOL),
    row(ORIGINAL_SOURCE_KEY, "original.source_key", &["source_key"], kind::PLAIN, field::SOURCE_L4 | field::PROTOCOL),
    row(
        ORIGINAL_DESTINATION_KEY,
        "original.destination_key",
        &["destination_key"],
        kind::PLAIN,
        field::DESTINATION_L4 | field::PROTOCOL,
    ),
    row(REPLY_SOURCE_KEY, "reply.source_key", &[], kind::PLAIN, field::REPLY_SOURCE_L4 | field::PROTOCOL),
    row(
        REPLY_DESTINATION_KEY,
        "reply.destination_key",
        &[],
        kind::PLAIN,
        field::REPLY_DESTINATION_L4 | field::PROTOCOL,
    ),
    row(ORIGINAL_PACKETS, "original.packets", &[], kind::PLAIN, field::ORIGINAL_COUNTERS),
    row(ORIGINAL_BYTES, "original.bytes", &[], kind::BYTES, field::ORIGINAL_COUNTERS),
    row(REPLY_PACKETS, "reply.packets", &[], kind::PLAIN, field::REPLY_COUNTERS),
    row(REPLY_BYTES, "reply.bytes", &[], kind::BYTES, field::REPLY_COUNTERS),
    row(PACKETS, "packets", &[], kind::PLAIN, field::ORIGINAL_COUNTERS | field::REPLY_COUNTERS),
    row(BYTES, "bytes", &[], kind::BYTES, field::ORIGINAL_COUNTERS | field::REPLY_COUNTERS),
    row(NAT_SOURCE_ADDRESS, "nat.source.address", &["snat"], kind::ADDRESS, TUPLES | field::STATUS),
    row(NAT_SOURCE_PORT, "nat.source.port", &["snat.port"], kind::PLAIN, TUPLES | field::STATUS),
    row(NAT_SOURCE_ICMP_ID, "nat.source.icmp_id", &["snat.icmp_id"], kind::PLAIN, TUPLES | field::STATUS),
    row(NAT_DESTINATION_ADDRESS, "nat.destination.address", &["dnat"], kind::ADDRESS, TUPLES | field::STATUS),
    row(NAT_DESTINATION_PORT, "nat.destination.port", &["dnat.port"], kind::PLAIN, TUPLES | field::STATUS),
    row(NAT_DESTINATION_ICMP_ID, "nat.destination.icmp_id", &["dnat.icmp_id"], kind::PLAIN, TUPLES | field::STATUS),
    row(STATUS, "status", &[], kind::STATUS, field::STATUS),
    row(MARK, "mark", &[], kind::BITS, field::MARK),
    row(ZONE, "zone", &[], kind::PLAIN, field::ZONE),
    row(ORIGINAL_ZONE, "original.zone", &[], kind::PLAIN, field::ORIGINAL_ZONE),
    row(REPLY_ZONE, "reply.zone", &[], kind::PLAIN, field::REPLY_ZONE),
    row(USE, "use", &[], kind::PLAIN, field::USE),
    row(ID, "id", &[], kind::PLAIN, field::ID),
    row(START, "start", &[], kind::TIME, field::START),
    row(STOP, "stop", &[], kind::TIME, field::STOP),
    row(AGE, "age", &[], kind::SECONDS, field::START | field::STOP),
    row(TIME, "time", &[], kind::TIME, 0),
    row(SECMARK, "secmark", &[], kind::BITS, field::SECMARK),
    row(SECURITY_CONTEXT, "security_context", &[], kind::TEXT, field::SECURITY_CONTEXT),
    row(HELPER, "helper", &[], kind::TEXT, field::HELPER),
    row(LABELS, "labels", &[], kind::TEXT, field::LABELS),
    row(EVENT_TIME, "event_time", &[], kind::TIME, field::EVENT_TIME),
    row(RECEIVED, "received", &[], kind::TIME, 0),
    row(PORT_ID, "port_id", &[], kind::PLAIN, field::PORT_ID),
    row(PROGRAM, "program", &[], kind::TEXT, field::PROGRAM),
    row(NAMESPACE_ID, "namespace_id", &[], kind::PLAIN, field::NAMESPACE),
    row(NAMESPACE_NAME, "namespace_name", &[], kind::TEXT, field::NAMESPACE_NAME),
    row(SYNTHETIC, "synthetic", &[], kind::PLAIN, field::SYNTHETIC),
    row(ORIGINAL_WINDOW_SCALE, "original.window_scale", &[], kind::PLAIN, field::ORIGINAL_WINDOW_SCALE),
    row(REPLY_WINDOW_SCALE, "reply.window_scale", &[], kind::PLAIN, field::REPLY_WINDOW_SCALE),
    row(ORIGINAL_TCP_FLAGS, "original.tcp_flags", &[], kind::PLAIN, field::ORIGINAL_TCP_FLAGS),
    row(REPLY_TCP_FLAGS, "reply.tcp_flags", &[], kind::PLAIN, field::REPLY_TCP_FLAGS),
    row(ORIGINAL_VTAG, "original.vtag", &[], kind::PLAIN, field::ORIGINAL_VTAG),
    row(REPLY_VTAG, "reply.vtag", &[], kind::PLAIN, field::REPLY_VTAG),
    row(ORIGINAL_SEQUENCE_POSITION, "original.sequence.position", &[], kind::PLAIN, field::ORIGINAL_SEQUENCE),
    row(ORIGINAL_SEQUENCE_BEFORE, "original.sequence.before", &[], kind::PLAIN, field::ORIGINAL_SEQUENCE),
    row(ORIGINAL_SEQUENCE_AFTER, "original.sequence.after", &[], kind::PLAIN, field::ORIGINAL_SEQUENCE),
    row(REPLY_SEQUENCE_POSITION, "reply.sequence.position", &[], kind::PLAIN, field::REPLY_SEQUENCE),
    row(REPLY_SEQUENCE_BEFORE, "reply.sequence.before", &[], kind::PLAIN, field::REPLY_SEQUENCE),
    row(REPLY_SEQUENCE_AFTER, "reply.sequence.after", &[], kind::PLAIN, field::REPLY_SEQUENCE),
    row(SYNPROXY_ISN, "synproxy.isn", &[], kind::PLAIN, field::SYNPROXY),
    row(SYNPROXY_ITS, "synproxy.its", &[], kind::PLAIN, field::SYNPROXY),
    row(SYNPROXY_TSOFF, "synproxy.tsoff", &[], kind::PLAIN, field::SYNPROXY),
    row(DCCP_ROLE, "dccp.role", &[], kind::PLAIN, field::DCCP),
    row(DCCP_HANDSHAKE_SEQUENCE, "dccp.handshake_sequence", &[], kind::PLAIN, field::DCCP),
    row(MASTER_PROTOCOL, "master.protocol", &["master.proto"], kind::PROTOCOL, field::MASTER),
    row(MASTER_SOURCE, "master.source", &["master.src"], kind::ADDRESS, field::MASTER),
    row(MASTER_DESTINATION, "master.destination", &["master.dst"], kind::ADDRESS, field::MASTER),
    row(MASTER_SOURCE_PORT, "master.source_port", &["master.sport"], kind::PORT, field::MASTER),
    row(MASTER_DESTINATION_PORT, "master.destination_port", &["master.dport"], kind::PORT, field::MASTER),
    row(MASTER_ZONE, "master.zone", &[], kind::PLAIN, field::MASTER),
    row(STATE_NAME, "state_name", &[], kind::TEXT, field::STATE | field::PROTOCOL),
    row(PROTOCOL_NAME, "protocol_name", &[], kind::TEXT, field::PROTOCOL),
    row(FAMILY_NAME, "family_name", &[], kind::TEXT, 0),
    row(EVENT_NAME, "event_name", &[], kind::TEXT, 0),
    row(HELPER_INFO, "helper_info", &[], kind::TEXT, field::HELPER_INFO),
];

const fn row(number: u32, name: &'static str, aliases: &'static [&'static str], kind: u8, reads: u64) -> QueryField {
    QueryField { number, name, aliases, kind, reads }
}

/// Returns a field by its number.
#[must_use]
pub fn by_number(number: u32) -> Option<&'static QueryField> {
    ALL.get((number as usize).checked_sub(1)?)
}

/// Returns a field by its name or an alias.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static QueryField> {
    ALL.iter().find(|field| field.name == name || field.aliases.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_from_1_and_names_are_unique() {
        for (index, field) in ALL.iter().enumerate() {
            assert_eq!(field.number as usize, index + 1);
            assert_eq!(by_number(field.number), Some(field));
            for name in field.aliases.iter().chain([&field.name]) {
                assert_eq!(by_name(name), Some(field), "{name}");
            }
        }
        assert_eq!((by_number(0), by_number(1000), by_name("sauce")), (None, None, None));
    }
}
