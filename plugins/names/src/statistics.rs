//! Names of the kernel's counters, as `conntrack -S` prints them.

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
