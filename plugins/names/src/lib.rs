//! Names and numbers of connection tracking, shared by the host (which parses them) and the SDK (which prints them).
//!
//! These sets belong to the kernel or to IANA and may grow; they are therefore constants and not enums, and a number
//! without a name is valid too.
#![no_std]

pub mod expectation_field;
pub mod field;
pub mod operation;
pub mod protocol;
pub mod query;
pub mod state;
pub mod statistics;
pub mod status;
pub mod table_column;
pub mod text;

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

    /// Returns true if an address, as a number of 128 bits, is one of IPv4 in its mapped form (::ffff:0:0/96).
    pub const fn is_ipv4(address: u128) -> bool {
        address >> 32 == 0xffff
    }

    /// Returns `ipv4`, `ipv6`, or `None` for any other number.
    pub const fn name(family: u8) -> Option<&'static str> {
        match family {
            IPV4 => Some("ipv4"),
            IPV6 => Some("ipv6"),
            _ => None,
        }
    }
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

    /// Returns `new`, `update`, `destroy` or `gap`, or `None` for any other number.
    pub const fn name(kind: u8) -> Option<&'static str> {
        match kind {
            NEW => Some("new"),
            UPDATE => Some("update"),
            DESTROY => Some("destroy"),
            GAP => Some("gap"),
            _ => None,
        }
    }
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
