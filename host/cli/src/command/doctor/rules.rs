//! Rules that enable connection tracking in the network namespace. The kernel tracks only if a rule or address
//! translation requires it: without one the table stays empty, which is the most frequent cause of an empty table.

use std::{collections::BTreeSet, io};

use netlink_packet_core::{NlaBuffer, NlasIterator};

use super::{Finding, Patient};
use flowgate_netlink::{
    Messages, RECEIVE_LENGTH, Socket, SocketError, SocketOptions,
    message::Content,
    wire::{DUMP, MESSAGE_HEADER, REQUEST},
};

/// `NFNL_SUBSYS_HOOK`, and `NFNL_MSG_HOOK_GET` of `linux/netfilter/nfnetlink_hook.h`.
const HOOK_GET: u16 = 12 << 8;
/// `NFNLA_HOOK_HOOKNUM`.
const HOOK_NUMBER: u16 = 1;
/// `NFNLA_HOOK_FUNCTION_NAME`.
const HOOK_FUNCTION: u16 = 4;
/// `NFNL_SUBSYS_NFTABLES`, and `NFT_MSG_GETRULE` of `linux/netfilter/nf_tables.h`.
const RULE_GET: u16 = 10 << 8 | 7;
/// `NFTA_RULE_EXPRESSIONS`.
const EXPRESSIONS: u16 = 4;
/// `NFTA_EXPR_NAME`, and for matches and targets of iptables `NFTA_MATCH_NAME`, `NFTA_TARGET_NAME`.
const NAME: u16 = 1;
/// `NFTA_EXPR_DATA`.
const DATA: u16 = 2;

/// Expressions of nf_tables that enable tracking.
const TRACKING: [&str; 7] = ["ct", "nat", "masq", "redir", "synproxy", "connlimit", "flow_offload"];
/// Matches and targets of iptables that enable tracking.
const EXTENSIONS: [&str; 16] = [
    "conntrack",
    "state",
    "connmark",
    "connlabel",
    "connbytes",
    "connlimit",
    "helper",
    "CT",
    "CONNMARK",
    "CONNSECMARK",
    "MASQUERADE",
    "SNAT",
    "DNAT",
    "REDIRECT",
    "NETMAP",
    "SYNPROXY",
];

/// Checks that something enables tracking. `count` is the number of flows, if known.
pub(super) fn examine(patient: &Patient<'_>, count: Option<u64>) -> Finding {
    let check = "tracking";
    if let Some(hooked) = hooked(patient) {
        return if hooked {
            Finding::ok(check, "connection tracking is on in this network namespace")
        } else {
            off(patient)
        };
    }
    let rules = match ask(patient, RULE_GET, 0, &[]) {
        Ok(rules) => rules,
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)) => {
            return Finding::warning(
                check,
                "whether a rule turns connection tracking on cannot be determined without CAP_NET_ADMIN",
            )
            .mend("sudo flowgate doctor");
        }
        // This kernel has no nf_tables.
        Err(_) => Vec::new(),
    };
    let mut found = BTreeSet::new();
    for rule in &rules {
        expressions(rule, &mut found);
    }
    if !found.is_empty() {
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        return Finding::ok(check, format!("rules turn connection tracking on (nf_tables: {})", found.join(", ")));
    }
    let legacy: Vec<String> = ["ip", "ip6"]
        .iter()
        .filter_map(|family| patient.read(&format!("/proc/thread-self/net/{family}_tables_names")))
        .flat_map(|names| names.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    if !legacy.is_empty() {
        let tables = legacy.join(", ");
        return Finding::ok(
            check,
            format!("there are tables of iptables-legacy ({tables}), whose rules may turn tracking on"),
        );
    }
    match count {
        Some(count) if count > 0 => Finding::ok(
            check,
            format!(
                "no rule of nf_tables turns connection tracking on, and yet there are flows ({count}): made by hand, or by Open vSwitch"
            ),
        ),
        _ => off(patient),
    }
}

/// Returns the finding that nothing enables tracking.
fn off(patient: &Patient<'_>) -> Finding {
    let rules = "add table inet track; add chain inet track arriving { type filter hook prerouting priority 0; }; \
                 add rule inet track arriving ct state new counter";
    Finding::warning(
        "tracking",
        "no rule turns connection tracking on in this network namespace: no flow will be in its table. \
         The kernel tracks where a rule asks for a state (ct state, -m conntrack) or translates addresses",
    )
    .mend(patient.command(&format!("nft '{rules}'")))
}

/// True if conntrack's functions are among the hooks of incoming packets; `None` if the kernel does not list them
/// (before Linux 5.14, or built without `CONFIG_NETFILTER_NETLINK_HOOK`).
fn hooked(patient: &Patient<'_>) -> Option<bool> {
    // Hook 0 is NF_INET_PRE_ROUTING.
    let mut number = 8u16.to_ne_bytes().to_vec();
    number.extend(HOOK_NUMBER.to_ne_bytes());
    number.extend(0u32.to_be_bytes());
    let mut hooks = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        hooks.extend(ask(patient, HOOK_GET, family as u8, &number).ok()?);
    }
    let names: Vec<String> = hooks.iter().filter_map(|hook| text(hook, HOOK_FUNCTION)).collect();
    // Without names the functions are unknown.
    (names.len() == hooks.len()).then(|| names.iter().any(|name| name.contains("conntrack")))
}

/// Adds the names of a rule's expressions that enable tracking.
fn expressions(rule: &[u8], found: &mut BTreeSet<String>) {
    let Some(list) = attribute(rule, EXPRESSIONS) else { return };
    for expression in attributes(list) {
        let expression = expression.value();
        let Some(name) = text(expression, NAME) else { continue };
        if TRACKING.contains(&name.as_str()) {
            found.insert(name);
        } else if matches!(name.as_str(), "match" | "target")
            && let Some(extension) = attribute(expression, DATA).and_then(|data| text(data, NAME))
            && EXTENSIONS.contains(&extension.as_str())
        {
            found.insert(extension);
        }
    }
}

fn attributes(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).map_while(Result::ok)
}

fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|attribute| attribute.kind() == kind).map(|attribute| attribute.into_inner()).and_then(
        |whole| {
            // The header of an attribute has four bytes.
            let length = usize::from(u16::from_ne_bytes(whole.get(..2)?.try_into().ok()?));
            whole.get(4..length)
        },
    )
}

/// Returns a text attribute without its terminating zero byte.
fn text(bytes: &[u8], kind: u16) -> Option<String> {
    let text = attribute(bytes, kind)?;
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    Some(String::from_utf8_lossy(text.get(..end)?).into_owned())
}

/// Returns the attributes of each message of a dump of nfnetlink in the patient's namespace.
fn ask(patient: &Patient<'_>, kind: u16, family: u8, attributes: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let failed = |error: SocketError| io::Error::from_raw_os_error(error.errno());
    let socket = Socket::open(&SocketOptions::in_namespace(patient.namespace)).map_err(failed)?;
    let sequence = socket.next_sequence();
    // `struct nfgenmsg`: family, version, resource.
    let length = MESSAGE_HEADER + 4 + attributes.len();
    let mut request = Vec::with_capacity(length);
    request.extend((length as u32).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend((REQUEST | DUMP).to_ne_bytes());
    request.extend(sequence.to_ne_bytes());
    request.extend(0u32.to_ne_bytes());
    request.extend([family, 0, 0, 0]);
    request.extend(attributes);
    socket.send(&request).map_err(failed)?;
    let mut answers = Vec::new();
    let mut buffer = vec![0; RECEIVE_LENGTH];
    loop {
        let length = socket.receive(&mut buffer).map_err(failed)?.length;
        for message in Messages::new(buffer.get(..length).unwrap_or_default()).map_while(Result::ok) {
            match message.content() {
                Content::Done(outcome) | Content::Result(outcome) => {
                    return if outcome.errno == 0 {
                        Ok(answers)
                    } else {
                        Err(io::Error::from_raw_os_error(outcome.errno))
                    };
                }
                Content::Netfilter(_) => answers.push(message.body.get(4..).unwrap_or_default().to_vec()),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an attribute with padding.
    fn nla(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// Returns a rule with these expressions, each a name and the name of an extension.
    fn rule(names: &[(&str, &str)]) -> Vec<u8> {
        let expressions: Vec<u8> = names
            .iter()
            .flat_map(|(name, extension)| {
                let data = nla(NAME, format!("{extension}\0").as_bytes());
                // The flag marks a nested attribute.
                nla(1, &[nla(NAME, format!("{name}\0").as_bytes()), nla(DATA | 0x8000, &data)].concat())
            })
            .collect();
        [nla(1, b"table\0"), nla(EXPRESSIONS, &expressions)].concat()
    }

    #[test]
    fn rules_that_track_are_told_from_others() {
        let of = |names: &[(&str, &str)]| {
            let mut found = BTreeSet::new();
            expressions(&rule(names), &mut found);
            found.into_iter().collect::<Vec<_>>().join(",")
        };
        assert_eq!(of(&[("payload", ""), ("cmp", ""), ("immediate", "")]), "");
        assert_eq!(of(&[("notrack", "")]), "", "it turns nothing on");
        assert_eq!(of(&[("ct", ""), ("bitwise", ""), ("cmp", "")]), "ct");
        assert_eq!(of(&[("masq", ""), ("counter", "")]), "masq");
        assert_eq!(of(&[("match", "tcp"), ("target", "LOG")]), "");
        assert_eq!(of(&[("match", "tcp"), ("match", "conntrack"), ("target", "MASQUERADE")]), "MASQUERADE,conntrack");
        expressions(&[8, 0, 4], &mut BTreeSet::new());
    }
}
