//! Bits of `expectations.has`. The table in `wit/expectation.wit` describes each.

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
