//! Parts of connection tracking that the kernel has, loaded or built in.

use std::{fs, path::Path};

use super::{Finding, Patient};
use flowgate_base::io_error::error_text;
use flowgate_netlink::{DumpError, SocketError, Statistics};

/// Modules of helpers, without `nf_conntrack_`: protocols with expectations.
const HELPERS: [&str; 10] = ["ftp", "tftp", "sip", "irc", "h323", "amanda", "netbios_ns", "pptp", "sane", "snmp"];

/// Tracked protocols, each with a sysctl that exists if the kernel has the protocol.
const TRACKED: [(&str, &str); 6] = [
    ("TCP", "nf_conntrack_tcp_timeout_established"),
    ("UDP", "nf_conntrack_udp_timeout"),
    ("ICMP", "nf_conntrack_icmp_timeout"),
    ("ICMPv6", "nf_conntrack_icmpv6_timeout"),
    ("SCTP", "nf_conntrack_sctp_timeout_established"),
    ("GRE", "nf_conntrack_gre_timeout"),
];

/// Counts of the table as a whole, from netlink.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// Number of flows; `None` if the kernel does not report it.
    pub flows: Option<u64>,
    /// Maximum number of flows; Linux 4.18 and later.
    pub most: Option<u64>,
}

impl Counts {
    /// Requests the statistics of the table, which is cheap.
    pub(super) fn of(patient: &Patient<'_>) -> Result<Self, DumpError> {
        let counts = Statistics::FlowCount.read(patient.namespace)?;
        let of = |wanted: u16| {
            let found = counts.attributes.iter().zip(&counts.values).find(|(attribute, _)| **attribute == wanted);
            found.map(|(_, value)| *value)
        };
        Ok(Counts { flows: of(ENTRIES), most: of(MOST_ENTRIES) })
    }
}

/// `CTA_STATS_GLOBAL_ENTRIES` and `CTA_STATS_GLOBAL_MAX_ENTRIES`.
const ENTRIES: u16 = 1;
const MOST_ENTRIES: u16 = 2;

/// Checks modules, protocols and helpers.
pub(super) fn examine(patient: &Patient<'_>, counts: &Result<Counts, DumpError>) -> Vec<Finding> {
    let mut findings = vec![tracking(patient, counts)];
    findings.extend(interface(counts));
    findings.extend(tracked(patient, counts.is_ok()));
    findings.push(helpers());
    findings
}

fn tracking(patient: &Patient<'_>, counts: &Result<Counts, DumpError>) -> Finding {
    let check = "module.nf_conntrack";
    if patient.sysctl("net.netfilter.nf_conntrack_max").is_some() {
        return Finding::ok(check, format!("nf_conntrack is {}", how("nf_conntrack")));
    }
    let settings = patient.within(|| Path::new("/proc/sys/net").is_dir()).unwrap_or(false);
    match counts {
        Ok(_) => Finding::ok(check, "nf_conntrack is there: the kernel answers, though its settings are hidden"),
        // The settings are hidden, and netlink refuses an answer.
        Err(error) if error.errno() == libc::EPERM && !settings => Finding::warning(
            check,
            "whether nf_conntrack is there cannot be determined without CAP_NET_ADMIN: /proc/sys/net is hidden",
        )
        .mend("sudo flowgate doctor"),
        Err(_) => Finding::problem(check, "nf_conntrack is not there: the kernel tracks no connections")
            .mend("modprobe nf_conntrack"),
    }
}

/// Checks that the kernel answers to nfnetlink and nf_conntrack_netlink.
fn interface(counts: &Result<Counts, DumpError>) -> [Finding; 2] {
    let (transport, tables) = ("module.nfnetlink", "module.nf_conntrack_netlink");
    let transport = match counts {
        Err(DumpError::Socket(SocketError::Open(error))) => {
            Finding::problem(transport, format!("nfnetlink does not answer: {}", error_text(error)))
                .mend("modprobe nfnetlink")
        }
        _ => Finding::ok(transport, format!("nfnetlink is {}", how("nfnetlink"))),
    };
    let tables = match counts {
        Ok(_) => Finding::ok(tables, format!("nf_conntrack_netlink is {}", how("nf_conntrack_netlink"))),
        Err(error) if error.errno() == libc::EPERM => {
            Finding::warning(tables, "whether nf_conntrack_netlink is there cannot be determined without CAP_NET_ADMIN")
                .mend("sudo flowgate doctor")
        }
        Err(error) => Finding::problem(tables, format!("nf_conntrack_netlink does not answer: {error}"))
            .mend("modprobe nf_conntrack_netlink"),
    };
    [transport, tables]
}

/// Returns a finding about the tracked protocols; `None` if their settings are hidden.
fn tracked(patient: &Patient<'_>, answers: bool) -> Option<Finding> {
    let check = "protocols";
    let there = |sysctl: &str| patient.sysctl(&format!("net.netfilter.{sysctl}")).is_some();
    let (known, others): (Vec<_>, Vec<_>) = TRACKED.iter().partition(|(_, sysctl)| there(sysctl));
    let names = |list: &[&(&str, &str)]| list.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    if known.is_empty() {
        return (!answers).then(|| Finding::warning(check, "no protocol is tracked"));
    }
    let text = format!("protocols tracked with states or timeouts of their own: {}", names(&known));
    if others.is_empty() {
        return Some(Finding::ok(check, text));
    }
    Some(Finding::ok(check, format!("{text}; not {}, which this kernel was built without", names(&others))))
}

fn helpers() -> Finding {
    let loaded: Vec<&str> = HELPERS.into_iter().filter(|name| is_there(&format!("nf_conntrack_{name}"))).collect();
    let text = if loaded.is_empty() {
        "no helper is there, so that no flow is expected; a rule that uses one loads it, and so does modprobe nf_conntrack_ftp"
            .to_string()
    } else {
        format!("helpers: {}; without a rule that assigns them they do nothing", loaded.join(", "))
    };
    Finding::ok("helpers", text)
}

/// True if a module is loaded, or built in with parameters.
fn is_there(module: &str) -> bool {
    Path::new("/sys/module").join(module).exists() || built_in(module)
}

/// Returns `loaded` or `built in` for a module that exists.
fn how(module: &str) -> &'static str {
    let loaded = fs::read_to_string("/proc/modules")
        .is_ok_and(|text| text.lines().any(|line| line.split(' ').next() == Some(module)));
    if loaded { "loaded" } else { "built in" }
}

/// True if the list of built-in modules exists and contains this one.
fn built_in(module: &str) -> bool {
    let Ok(release) = fs::read_to_string("/proc/sys/kernel/osrelease") else { return false };
    let list = Path::new("/lib/modules").join(release.trim()).join("modules.builtin");
    let file = format!("{module}.ko");
    fs::read_to_string(list).is_ok_and(|text| text.lines().any(|line| line.rsplit('/').next() == Some(&file)))
}
