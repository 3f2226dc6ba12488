//! Status bits: `enum ip_conntrack_status` of linux/netfilter/nf_conntrack_common.h.

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
