//! What of connection tracking the kernel has, as a module or built in.

use std::{fs, path::Path};

use super::{Finding, Patient};
use crate::netlink::{Dump, DumpError, Options, RECEIVE_LENGTH, Request, Socket, SocketError, Stop};

/// Modules of helpers, without `nf_conntrack_`: protocols that expect flows.
const HELPERS: [&str; 10] = ["ftp", "tftp", "sip", "irc", "h323", "amanda", "netbios_ns", "pptp", "sane", "snmp"];

/// Protocols that are tracked, each with a sysctl that is there if it is.
const TRACKED: [(&str, &str); 6] = [
    ("TCP", "nf_conntrack_tcp_timeout_established"),
    ("UDP", "nf_conntrack_udp_timeout"),
    ("ICMP", "nf_conntrack_icmp_timeout"),
    ("ICMPv6", "nf_conntrack_icmpv6_timeout"),
    ("SCTP", "nf_conntrack_sctp_timeout_established"),
    ("GRE", "nf_conntrack_gre_timeout"),
];

/// Looks for what is needed.
pub(super) fn examine(patient: &Patient<'_>) -> Vec<Finding> {
    let mut findings = vec![tracking(patient)];
    findings.extend(interface(patient));
    findings.push(tracked(patient));
    findings.push(helpers());
    findings
}

fn tracking(patient: &Patient<'_>) -> Finding {
    let check = "module.nf_conntrack";
    if patient.sysctl("net.netfilter.nf_conntrack_max").is_some() {
        Finding::ok(check, format!("nf_conntrack is {}", how("nf_conntrack")))
    } else {
        Finding::problem(check, "nf_conntrack is not there: the kernel tracks no connections")
            .mend("modprobe nf_conntrack")
    }
}

/// nfnetlink and nf_conntrack_netlink: whether the kernel answers.
fn interface(patient: &Patient<'_>) -> [Finding; 2] {
    let (transport, tables) = ("module.nfnetlink", "module.nf_conntrack_netlink");
    let answer = answer(patient);
    let transport = match &answer {
        Err(DumpError::Socket(SocketError::Open(error))) => {
            Finding::problem(transport, format!("nfnetlink does not answer: {error}")).mend("modprobe nfnetlink")
        }
        _ => Finding::ok(transport, format!("nfnetlink is {}", how("nfnetlink"))),
    };
    let tables = match &answer {
        Ok(()) => Finding::ok(tables, format!("nf_conntrack_netlink is {}", how("nf_conntrack_netlink"))),
        Err(error) if error.errno() == libc::EPERM => {
            Finding::warning(tables, "whether nf_conntrack_netlink is there cannot be told without CAP_NET_ADMIN")
                .mend("sudo flowgate doctor")
        }
        Err(error) => Finding::problem(tables, format!("nf_conntrack_netlink does not answer: {error}"))
            .mend("modprobe nf_conntrack_netlink"),
    };
    [transport, tables]
}

/// Asks for the statistics of the table, which costs nothing.
fn answer(patient: &Patient<'_>) -> Result<(), DumpError> {
    let mut dump = Dump::start(Socket::open(&Options::within(patient.namespace))?, &Request::global_statistics())?;
    let mut buffer = vec![0; RECEIVE_LENGTH];
    let stop: Option<&Stop> = None;
    while dump.next(&mut buffer, stop)?.is_some() {}
    Ok(())
}

fn tracked(patient: &Patient<'_>) -> Finding {
    let check = "protocols";
    let there = |sysctl: &str| patient.sysctl(&format!("net.netfilter.{sysctl}")).is_some();
    let (known, others): (Vec<_>, Vec<_>) = TRACKED.iter().partition(|(_, sysctl)| there(sysctl));
    let names = |list: &[&(&str, &str)]| list.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    if known.is_empty() {
        return Finding::warning(check, "no protocol is tracked");
    }
    let text = format!("protocols tracked with states or timeouts of their own: {}", names(&known));
    if others.is_empty() {
        return Finding::ok(check, text);
    }
    Finding::ok(check, format!("{text}; not {}, which this kernel was built without", names(&others)))
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

/// Whether a module is there, loaded or built in with parameters.
fn is_there(module: &str) -> bool {
    Path::new("/sys/module").join(module).exists() || built_in(module)
}

/// How something came that is there.
fn how(module: &str) -> &'static str {
    let loaded = fs::read_to_string("/proc/modules")
        .is_ok_and(|text| text.lines().any(|line| line.split(' ').next() == Some(module)));
    if loaded { "loaded" } else { "built in" }
}

/// Whether the list of what is built in, if there is one, has it.
fn built_in(module: &str) -> bool {
    let Ok(release) = fs::read_to_string("/proc/sys/kernel/osrelease") else { return false };
    let list = Path::new("/lib/modules").join(release.trim()).join("modules.builtin");
    let file = format!("{module}.ko");
    fs::read_to_string(list).is_ok_and(|text| text.lines().any(|line| line.rsplit('/').next() == Some(&file)))
}
