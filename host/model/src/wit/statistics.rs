//! The kernel's counters of connection tracking.

// Written from wit/ by tests/wit.rs: change it there, and set BLESS=1 when that test is run.

#[cfg(feature = "component")]
use wasmtime::component::{ComponentType, Lift, Lower};

use super::columns::Texts;

/// A table of counters.
///
/// `subject` defines what is counted, and the meaning of the numbers in `attributes`:
///
/// * 0: of each CPU, for flows (IPCTNL_MSG_CT_GET_STATS_CPU, `CTA_STATS_*`: 1 searched, 2 found, 3 new, 4 invalid,
///   5 ignore, 6 delete, 7 delete_list, 8 insert, 9 insert_failed, 10 drop, 11 early_drop, 12 error,
///   13 search_restart, 14 clash_resolve, 15 chain_toolong)
/// * 1: of each CPU, for expectations (IPCTNL_MSG_EXP_GET_STATS_CPU, `CTA_STATS_EXP_*`: 1 new, 2 create, 3 delete)
/// * 3: of each CPU, from /proc/net/stat/nf_conntrack where netlink is out of reach: numbers count from 0 and lead to
///   `names`
/// * 2: of the table as a whole (IPCTNL_MSG_CT_GET_STATS, `CTA_STATS_GLOBAL_*`: 1 entries, 2 max_entries)
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Counts {
    /// What is counted: see above.
    pub subject: u8,
    /// The CPU of each row; empty for the table as a whole, which is one row.
    pub cpus: Vec<u32>,
    /// The row that each value belongs to, in ascending order.
    pub rows: Vec<u32>,
    /// The attribute's number.
    pub attributes: Vec<u16>,
    /// The counter.
    pub values: Vec<u64>,
    /// Names of the attributes, for subjects that need them.
    pub names: Texts,
}
