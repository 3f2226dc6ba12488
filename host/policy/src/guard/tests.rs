//! Tests of the guard's rules, in both families: for each reason of refusal an action that is refused for it, and
//! beside it one that is like it and allowed. The kernel's entries are given, so that nothing is asked of a kernel.
#![allow(clippy::unwrap_used, clippy::panic)]

use flowgate_base::clock::thread_time;
use flowgate_test_support::Random;
use serde_json::Value;

use super::{
    judge::{Approval, Authority, KernelEntry, Proposal},
    mark_changes::MarkChanges,
    review::rendered,
    *,
};
use crate::Policy;
use flowgate_config::SourceText;
use flowgate_model::{Actions, Setup, Tuples, UtcOffset, action, batch, field, grants::Grants, status};
use flowgate_netlink::decode::{Arrival, FlowDecoder};
use flowgate_pipeline::{
    entries::Entries as _,
    executor::{Asker, Guard as _, Judgement},
    format::Format,
    outcome::Requests,
    sink::file::{FileOptions, Rotation},
};
use flowgate_runtime::{Instance, Limits, PluginComponent, PluginEngine};
use flowgate_syntax::LabelMap;

/// A row in the making: a flow of a kernel, or what a plugin says.
#[derive(Clone)]
struct Row(Flows);

/// A flow that the kernel has, as `conntrack -L -o id` prints it.
fn kernel(line: &str) -> Row {
    Row(flowgate_fixture::flows("guard", line.as_bytes(), &[]).unwrap())
}

/// The name of a flow and no more: tuples and zones, and the id where there is one.
fn named(line: &str) -> Row {
    let Row(mut flows) = kernel(line);
    flows.has[0] &= field::TUPLES | field::ZONES | field::ID;
    Row(flows)
}

/// As [`named`], by the original tuple alone.
fn original(line: &str) -> Row {
    named(line).lacks(REPLIES)
}

const REPLIES: u64 = field::REPLY_ADDRESSES
    | field::REPLY_PROTOCOL
    | field::REPLY_SOURCE_L4
    | field::REPLY_DESTINATION_L4
    | field::REPLY_ZONE;

impl Row {
    fn has(mut self, fields: u64) -> Self {
        self.0.has[0] |= fields;
        self
    }

    fn lacks(mut self, fields: u64) -> Self {
        self.0.has[0] &= !fields;
        self
    }

    fn mark(mut self, mark: u32, mask: Option<u32>) -> Self {
        self.0.mark = vec![mark];
        self.0.rare.get_or_insert_default().mark_mask = vec![mask.unwrap_or_default()];
        self.has(field::MARK | if mask.is_some() { field::MARK_MASK } else { 0 })
    }

    fn timeout(mut self, seconds: u32) -> Self {
        self.0.timeout = vec![seconds];
        self.has(field::TIMEOUT)
    }

    fn status(mut self, bits: u32) -> Self {
        self.0.status = vec![bits];
        self.has(field::STATUS)
    }

    fn state(mut self, state: u8) -> Self {
        self.0.state = vec![state];
        self.has(field::STATE)
    }

    fn labels(mut self, set: u128, mask: Option<u128>, bytes: usize) -> Self {
        let rare = self.0.rare.get_or_insert_default();
        (rare.labels, rare.labels_mask) = Default::default();
        batch::push_sparse(&mut rare.labels, 0, &set.to_le_bytes()[..bytes]);
        if let Some(mask) = mask {
            batch::push_sparse(&mut rare.labels_mask, 0, &mask.to_le_bytes()[..bytes]);
        }
        self.has(field::LABELS | if mask.is_some() { field::LABELS_MASK } else { 0 })
    }

    fn helper(mut self, name: &str) -> Self {
        batch::push_sparse(&mut self.0.rare.get_or_insert_default().helper, 0, name.as_bytes());
        self.has(field::HELPER)
    }

    fn master(mut self) -> Self {
        let master = &mut self.0.rare.get_or_insert_default().master;
        master.rows.push(0);
        master.protocol.push(17);
        master.tuple = Tuples::default();
        self.has(field::MASTER)
    }

    /// Another translation: which end, to which addresses, and to which ports.
    fn nat(mut self, destination: bool, [first, last]: [&str; 2], ports: (u16, u16)) -> Self {
        let nat = &mut self.0.rare.get_or_insert_default().nat;
        nat.rows.push(0);
        nat.destination.push(destination.into());
        for (to, text) in [(&mut nat.first, first), (&mut nat.last, last)] {
            let bits = match text.parse() {
                Ok(std::net::IpAddr::V4(address)) => address.to_ipv6_mapped().to_bits(),
                Ok(std::net::IpAddr::V6(address)) => address.to_bits(),
                Err(_) => 0,
            };
            to.hi.push((bits >> 64) as u64);
            to.lo.push(bits as u64);
        }
        nat.first_port.push(ports.0);
        nat.last_port.push(ports.1);
        self.has(if destination { field::DESTINATION_NAT } else { field::SOURCE_NAT })
    }
}

/// A tenant with this scope, these keys and grants.
fn tenant(scope: &str, keys: &str, grants: &str) -> Tenant {
    let (file, digest) = ("a.wasm", "0".repeat(64));
    let text = format!(
        "[[tenant]]\nname = \"blue\"\n{keys}\n{scope}\n[[tenant.plugin]]\nfile = \"{file}\"\nsha256 = \"{digest}\"\n\
         grants = [{grants}]\n"
    );
    let (mut policy, diagnostics, _) = Policy::parse(SourceText { path: "p.toml".into(), text }, LabelMap::default());
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    policy.tenants.remove(0)
}

/// What a tenant of these tests has unless a test says otherwise.
const SCOPE: &str = "[[tenant.scope]]\nzones = 7\nsource = \"NET\"";
const KEYS: &str = "mark-mask = \"0xff00\"\ntimeouts = \"10..600\"\nlabels = [3, 127]";
const GRANTS: &str = r#""delete", "create", "update.mark", "update.timeout", "update.labels", "update.status=ASSURED""#;

/// What is asked for, and what the kernel has.
#[derive(Clone)]
struct Attempt {
    kind: u8,
    shown: Option<Row>,
    values: Option<Row>,
    /// What the kernel has under the original tuple, and under the reply tuple of what is to be made.
    found: [Result<Option<Row>, i32>; 2],
}

impl Attempt {
    /// On a flow that the plugin is shown, which is as the kernel has it.
    fn shown(kind: u8, flow: Row, values: Option<Row>) -> Self {
        Attempt { kind, shown: Some(flow.clone()), values, found: [Ok(Some(flow)), Ok(None)] }
    }

    /// On a flow that the plugin names; the kernel has this.
    fn named(kind: u8, values: Row, found: Option<Row>) -> Self {
        Attempt { kind, shown: None, values: Some(values), found: [Ok(found), Ok(None)] }
    }

    fn create(values: Row) -> Self {
        Self::named(action::CREATE, values, None)
    }

    fn ruling(&self, tenant: &Tenant, grants: Option<&Grants>) -> Result<Approval, Refusal> {
        fn row(row: &Option<Row>) -> Option<(&Flows, usize)> {
            row.as_ref().map(|row| (&row.0, 0))
        }
        let grants = grants.unwrap_or(&tenant.plugins[0].plugin.grants.value);
        let authority = Authority { scope: &tenant.scope, grants, bounds: &tenant.bounds };
        let case = Proposal::new(authority, self.kind, row(&self.shown), row(&self.values))?;
        let (_, reply) = case.lookups()?;
        let [original, second] = [&self.found[0], &self.found[1]].map(|found| match found {
            Ok(Some(row)) => KernelEntry::Present(&row.0, 0),
            Ok(None) => KernelEntry::Absent,
            Err(errno) => KernelEntry::Unknown(*errno),
        });
        case.judge(authority, original, reply.map_or(KernelEntry::NotQueried, |_| second))
    }

    fn word(&self, tenant: &Tenant) -> &'static str {
        self.ruling(tenant, None).map_or_else(|refusal| refusal.reason.word(), |_| "")
    }
}

/// Both families: a text with names in place of addresses becomes one of each.
const FAMILIES: [[(&str, &str); 9]; 2] = [
    [
        ("PUBNET", "203.0.113.0/24"),
        ("OWN", "10.1.0.5"),
        ("FIRST", "10.1.0.0"),
        ("BEYOND", "10.2.0.0"),
        ("FOREIGN", "10.2.0.9"),
        ("NET", "10.1.0.0/16"),
        ("PEER", "192.0.2.1"),
        ("INNER", "10.9.0.9"),
        ("PUBLIC", "203.0.113.1"),
    ],
    [
        ("PUBNET", "2001:db8:cb::/48"),
        ("OWN", "2001:db8:1::5"),
        ("FIRST", "2001:db8:1::"),
        ("BEYOND", "2001:db8:2::"),
        ("FOREIGN", "2001:db8:2::9"),
        ("NET", "2001:db8:1::/48"),
        ("PEER", "2001:db8:ff::1"),
        ("INNER", "2001:db8:9::9"),
        ("PUBLIC", "2001:db8:cb::1"),
    ],
];

fn filled(text: &str, family: &[(&str, &str)]) -> String {
    family.iter().fold(text.to_string(), |text, (name, address)| text.replace(name, address))
}

/// A flow of UDP between two, with more words behind its tuples.
fn udp(from: &str, to: &str, more: &str) -> String {
    format!("udp 17 100 src={from} dst={to} sport=4000 dport=53 src={to} dst={from} sport=53 dport=4000 {more} use=1")
}

/// A test of the table: what it is, the refusal (none if it is allowed), the scope, the attempt.
type Entry = (&'static str, &'static str, &'static str, Attempt);

fn run(tests: Vec<Entry>, family: &[(&str, &str)]) {
    for (name, word, scope, attempt) in tests {
        let tenant = tenant(&filled(scope, family), KEYS, GRANTS);
        assert_eq!(attempt.word(&tenant), word, "{name}, {}", family[0].1);
    }
}

#[test]
fn which_flows_may_be_acted_on() {
    for family in &FAMILIES {
        let flow = |from: &str, to: &str, more: &str| kernel(&filled(&udp(from, to, more), family));
        let whole = |line: &str| kernel(&filled(line, family));
        let delete = |flow: Row| Attempt::shown(action::DELETE, flow, None);
        let zones = |words: [&str; 2]| {
            whole(&format!(
                "udp 17 100 src=OWN dst=PEER sport=1 dport=2 {} src=PEER dst=OWN sport=2 dport=1 {} use=1",
                words[0], words[1]
            ))
        };
        let snat =
            whole("udp 17 100 src=OWN dst=PEER sport=1 dport=2 src=PEER dst=PUBLIC sport=2 dport=9 zone=7 use=1");
        let dnat = whole("udp 17 100 src=OWN dst=PEER sport=1 dport=2 src=INNER dst=OWN sport=2 dport=1 zone=7 use=1");
        let both =
            whole("udp 17 100 src=OWN dst=PEER sport=1 dport=2 src=INNER dst=PUBLIC sport=2 dport=9 zone=7 use=1");
        let ports =
            whole("udp 17 100 src=OWN dst=PEER sport=1 dport=2 src=PEER dst=OWN sport=77 dport=78 zone=7 use=1");
        let rule = |more: &'static str| more;
        let act = rule("[[tenant.scope]]\nzones = 7\nsource = \"NET\"\ntranslated = \"act\"");
        let see = rule("[[tenant.scope]]\nzones = 7\nsource = \"NET\"\ntranslated = \"see\"");
        let public = rule("[[tenant.scope]]\nzones = 7\nsource = \"NET\"\nreply-destination = \"PUBNET\"");
        let inner = rule("[[tenant.scope]]\nzones = 7\nsource = \"NET\"\nreply-source = \"INNER\"");
        let ends = rule(
            "[[tenant.scope]]\nzones = 7\nsource = \"NET\"\nreply-source = \"INNER\"\nreply-destination = \"PUBNET\"",
        );
        let zone = rule("[[tenant.scope]]\nzones = 7");
        let one_way = rule("[[tenant.scope]]\noriginal-zones = 7");
        let other_way = rule("[[tenant.scope]]\nreply-zones = 7");
        let two = rule("[[tenant.scope]]\nzones = 8\n[[tenant.scope]]\nzones = 7\nsource = \"NET\"");
        run(
            vec![
                ("its own", "", SCOPE, delete(flow("OWN", "PEER", "zone=7"))),
                ("by the second rule", "", two, delete(flow("OWN", "PEER", "zone=7"))),
                ("the first address", "", SCOPE, delete(flow("FIRST", "PEER", "zone=7"))),
                ("the address behind the last", "out-of-scope", SCOPE, delete(flow("BEYOND", "PEER", "zone=7"))),
                ("a neighbour", "out-of-scope", SCOPE, delete(flow("FOREIGN", "PEER", "zone=7"))),
                ("the other direction", "out-of-scope", SCOPE, delete(flow("PEER", "OWN", "zone=7"))),
                ("another zone", "out-of-scope", SCOPE, delete(flow("OWN", "PEER", "zone=8"))),
                ("no zone", "out-of-scope", SCOPE, delete(flow("OWN", "PEER", ""))),
                ("both zones alike", "", SCOPE, delete(zones(["zone-orig=7", "zone-reply=7"]))),
                ("one zone only", "out-of-scope", SCOPE, delete(zones(["zone-orig=7", ""]))),
                ("the other zone only", "out-of-scope", SCOPE, delete(zones(["", "zone-reply=7"]))),
                ("two zones", "out-of-scope", SCOPE, delete(zones(["zone-orig=7", "zone-reply=8"]))),
                ("the original zone", "", one_way, delete(zones(["zone-orig=7", ""]))),
                ("not the reply zone", "out-of-scope", one_way, delete(zones(["", "zone-reply=7"]))),
                ("the reply zone", "", other_way, delete(zones(["zone-orig=8", "zone-reply=7"]))),
                ("not the original zone", "out-of-scope", other_way, delete(zones(["zone-orig=7", ""]))),
                ("source translated", "translated-peer", SCOPE, delete(snat.clone())),
                ("destination translated", "translated-peer", SCOPE, delete(dnat.clone())),
                ("said to be seen only", "translated-peer", see, delete(dnat.clone())),
                ("both translated", "translated-peer", SCOPE, delete(both.clone())),
                ("only ports translated", "", SCOPE, delete(ports)),
                ("translated, to be acted on", "", act, delete(both.clone())),
                ("source covered", "", public, delete(snat.clone())),
                ("source covered, destination not", "translated-peer", public, delete(both.clone())),
                ("destination covered", "", inner, delete(dnat.clone())),
                ("destination covered, source not", "translated-peer", inner, delete(both.clone())),
                ("both covered", "", ends, delete(both.clone())),
                ("a whole zone covers both", "", zone, delete(both.clone())),
                (
                    "the zone of a direction does not",
                    "translated-peer",
                    one_way,
                    delete(zones(["zone-orig=7", ""]).nated()),
                ),
            ],
            family,
        );
    }
}

impl Row {
    /// Labels that are longer than the kernel has.
    fn long_labels(mut self) -> Self {
        let labels = &mut self.0.rare.as_mut().unwrap().labels;
        labels.texts.bytes.push(0);
        labels.texts.ends = vec![17];
        self
    }

    /// Zones of each direction.
    fn zones(mut self, original: u16, reply: u16) -> Self {
        let zones = self.0.zones.get_or_insert_default();
        (zones.zone, zones.original, zones.reply) = (vec![0], vec![original], vec![reply]);
        self.has(field::ORIGINAL_ZONE | field::REPLY_ZONE)
    }

    /// As if replies went elsewhere.
    fn nated(mut self) -> Self {
        self.0.reply.destination.lo[0] += 1;
        self
    }
}

#[test]
fn which_flow_is_meant() {
    for family in &FAMILIES {
        let line = |words: &str| filled(&udp("OWN", "PEER", words), family);
        let reversed = |words: &str| {
            filled(&udp("PEER", "OWN", words).replace("sport=4000 dport=53 ", "sport=53 dport=4000 "), family)
        };
        let (own, foreign) =
            (kernel(&line("zone=7 id=5")), kernel(&filled(&udp("FOREIGN", "PEER", "zone=7 id=5"), family)));
        let delete = |name: Row, found: Option<Row>| Attempt::named(action::DELETE, name, found);
        let shown = |row: Row, found: Option<Row>| Attempt {
            found: [Ok(found), Ok(None)],
            ..Attempt::shown(action::DELETE, row, None)
        };
        let mark = |row: Row| row.mark(0x100, Some(0xff00));
        let bare = original(&line("zone=7"));
        run(
            vec![
                ("by its original tuple", "", SCOPE, delete(bare.clone(), Some(own.clone()))),
                ("by its reply tuple as a name", "", SCOPE, delete(original(&reversed("zone=7")), Some(own.clone()))),
                (
                    "a flow that is shown, found by its reply",
                    "named-by-reply",
                    SCOPE,
                    shown(kernel(&reversed("zone=7")), Some(own.clone())),
                ),
                ("the reply of a neighbour", "out-of-scope", SCOPE, delete(bare.clone(), Some(foreign.clone()))),
                ("with its id", "", SCOPE, delete(original(&line("zone=7 id=5")), Some(own.clone()))),
                ("with another id", "replaced", SCOPE, delete(original(&line("zone=7 id=6")), Some(own.clone()))),
                (
                    "shown before it was replaced",
                    "replaced",
                    SCOPE,
                    shown(kernel(&line("zone=7 id=6")), Some(own.clone())),
                ),
                ("gone", "gone", SCOPE, delete(bare.clone(), None)),
                ("shown, and gone", "gone", SCOPE, shown(own.clone(), None)),
                ("updated and gone", "gone", SCOPE, Attempt::named(action::UPDATE, mark(bare.clone()), None)),
                (
                    "the kernel does not say",
                    "unknown",
                    SCOPE,
                    Attempt { found: [Err(22), Ok(None)], ..delete(bare.clone(), None) },
                ),
                ("nothing is named", "nameless", SCOPE, Attempt { values: None, ..delete(bare.clone(), None) }),
                ("no source", "nameless", SCOPE, delete(bare.clone().lacks(field::SOURCE), Some(own.clone()))),
                (
                    "no destination",
                    "nameless",
                    SCOPE,
                    delete(bare.clone().lacks(field::DESTINATION), Some(own.clone())),
                ),
                ("no protocol", "nameless", SCOPE, delete(bare.clone().lacks(field::PROTOCOL), Some(own.clone()))),
                ("no source port", "nameless", SCOPE, delete(bare.clone().lacks(field::SOURCE_L4), Some(own.clone()))),
                (
                    "no destination port",
                    "nameless",
                    SCOPE,
                    delete(bare.clone().lacks(field::DESTINATION_L4), Some(own.clone())),
                ),
                (
                    "the reply alone",
                    "nameless",
                    SCOPE,
                    delete(named(&line("zone=7")).lacks(field::SOURCE), Some(own.clone())),
                ),
                ("an update by name", "", SCOPE, Attempt::named(action::UPDATE, mark(bare.clone()), Some(own.clone()))),
                (
                    "an update that sets nothing",
                    "not-granted",
                    SCOPE,
                    Attempt::shown(action::UPDATE, own.clone(), None),
                ),
                (
                    "of a neighbour",
                    "out-of-scope",
                    SCOPE,
                    Attempt::named(action::UPDATE, mark(bare.clone()), Some(foreign.clone())),
                ),
                (
                    "create-or-update of its own",
                    "",
                    SCOPE,
                    Attempt::named(action::CREATE_OR_UPDATE, mark(named(&line("zone=7"))), Some(own.clone())),
                ),
                (
                    "create-or-update of a neighbour",
                    "out-of-scope",
                    SCOPE,
                    Attempt::named(action::CREATE_OR_UPDATE, mark(named(&line("zone=7"))), Some(foreign.clone())),
                ),
                (
                    "create-or-update, replaced",
                    "replaced",
                    SCOPE,
                    Attempt::named(action::CREATE_OR_UPDATE, mark(named(&line("zone=7 id=9"))), Some(own.clone())),
                ),
                ("no such action", "not-granted", SCOPE, Attempt::shown(99, own.clone(), None)),
            ],
            family,
        );
    }
    // A family that there is not, and names that are told nothing of.
    let mut strange = original(&udp("10.1.0.5", "192.0.2.1", "zone=7"));
    strange.0.family[0] = 7;
    let tenant = tenant(&filled(SCOPE, &FAMILIES[0]), KEYS, GRANTS);
    assert_eq!(Attempt::named(action::DELETE, strange, None).word(&tenant), "invalid");
}

#[test]
fn protocols_without_ports_are_named_by_their_addresses() {
    let tenant = tenant("[[tenant.scope]]\nzones = 0", KEYS, GRANTS);
    for (line, words) in [
        (
            "icmp 1 20 src=10.1.0.5 dst=192.0.2.1 type=8 code=0 id=7 src=192.0.2.1 dst=10.1.0.5 type=0 code=0 id=7 use=1",
            true,
        ),
        (
            "icmpv6 58 20 src=2001:db8::5 dst=2001:db8::6 type=128 code=0 id=7 src=2001:db8::6 dst=2001:db8::5 type=129 code=0 id=7 use=1",
            true,
        ),
        (
            "sctp 132 20 ESTABLISHED src=10.1.0.5 dst=192.0.2.1 sport=1 dport=2 src=192.0.2.1 dst=10.1.0.5 sport=2 dport=1 use=1",
            true,
        ),
        (
            "gre 47 20 src=10.1.0.5 dst=192.0.2.1 srckey=0x1 dstkey=0x2 src=192.0.2.1 dst=10.1.0.5 srckey=0x2 dstkey=0x1 use=1",
            false,
        ),
        ("unknown 50 20 src=10.1.0.5 dst=192.0.2.1 src=192.0.2.1 dst=10.1.0.5 use=1", false),
    ] {
        let flow = kernel(line);
        assert_eq!(Attempt::named(action::DELETE, original(line), Some(flow.clone())).word(&tenant), "", "{line}");
        let bare = original(line).lacks(field::SOURCE_L4 | field::DESTINATION_L4);
        // Where the kernel needs them and does not get them, it finds nothing; where it does not need them, it does.
        let word = if words { "nameless" } else { "" };
        assert_eq!(Attempt::named(action::DELETE, bare, Some(flow)).word(&tenant), word, "{line}");
        assert_eq!(Attempt::create(named(line).timeout(60)).word(&tenant), "", "{line}");
    }
}

/// What may be set, at its bounds: mark bits, timeouts, labels, status, and what nobody is granted.
#[test]
fn what_may_be_written() {
    for family in &FAMILIES {
        let own = kernel(&filled(&udp("OWN", "PEER", "zone=7 mark=305419896"), family));
        let created = || named(&filled(&udp("OWN", "PEER", "zone=7"), family)).timeout(60);
        let values = || named(&filled(&udp("OWN", "PEER", "zone=7"), family)).lacks(field::TUPLES | field::ZONES);
        let (owned, one) = ((1 << 3) | (1 << 127), 1 << 3);
        let cases: Vec<(&str, Row, &str, Option<&str>)> = vec![
            // Of an update, and where it is another one, of a creation.
            ("all bits of its mark", values().mark(0xff00, Some(0xff00)), "", None),
            ("the lowest bit of them", values().mark(0x100, Some(0x100)), "", None),
            ("the highest bit of them", values().mark(0x8000, Some(0x8000)), "", None),
            ("the bit below", values().mark(0x80, Some(0x80)), "not-granted", Some("bounds")),
            ("the bit above", values().mark(0x10000, Some(0x10000)), "not-granted", Some("bounds")),
            ("the highest bit of all", values().mark(1 << 31, Some(1 << 31)), "not-granted", Some("bounds")),
            ("no bit at all", values().mark(0, Some(0)), "", None),
            ("to clear its bits", values().mark(0, Some(0xff00)), "", None),
            ("to flip its bits", values().mark(0xff00, Some(0)), "", None),
            ("to flip others", values().mark(0x1ff00, Some(0)), "not-granted", Some("bounds")),
            ("to clear others", values().mark(0, Some(0xffff_ffff)), "not-granted", Some("")),
            ("the whole mark", values().mark(0x100, None), "not-granted", Some("")),
            ("the whole mark, 0", values().mark(0, None), "not-granted", Some("")),
            ("a mask without a mark", values().has(field::MARK_MASK), "", None),
            ("the least timeout", values().timeout(10), "", None),
            ("the most", values().timeout(600), "", None),
            ("less", values().timeout(9), "not-granted", Some("bounds")),
            ("more", values().timeout(601), "not-granted", Some("bounds")),
            ("none", values().timeout(0), "not-granted", Some("bounds")),
            ("the longest of all", values().timeout(u32::MAX), "not-granted", Some("bounds")),
            ("its labels", values().labels(owned, Some(owned), 16), "", None),
            ("to clear one", values().labels(0, Some(one), 16), "", None),
            ("no label", values().labels(0, Some(0), 16), "", None),
            ("another label", values().labels(one << 1, Some(one << 1), 16), "not-granted", Some("bounds")),
            ("to clear another", values().labels(0, Some(one << 1), 16), "not-granted", Some("bounds")),
            ("to flip another", values().labels(one << 1, Some(0), 16), "not-granted", Some("bounds")),
            ("all labels", values().labels(one, None, 16), "not-granted", Some("bounds")),
            ("a short set, which clears the rest", values().labels(one, Some(one), 4), "not-granted", Some("bounds")),
            ("the status that it is granted", values().status(status::ASSURED), "", None),
            ("replied to, as the flow is that there is", values().status(status::SEEN_REPLY), "", Some("bounds")),
            ("flags of TCP", values().has(field::ORIGINAL_TCP_FLAGS), "not-granted", Some("bounds")),
            ("window scales", values().has(field::REPLY_WINDOW_SCALE), "not-granted", Some("bounds")),
            ("tags of SCTP", values().has(field::ORIGINAL_VTAG), "not-granted", Some("bounds")),
            ("labels that are too long", values().labels(owned, Some(owned), 16).long_labels(), "invalid", None),
            ("another one", values().status(status::FIXED_TIMEOUT), "not-granted", Some("bounds")),
            ("translated", values().status(status::SRC_NAT), "not-granted", Some("bounds")),
            ("a helper", values().helper("ftp"), "not-granted", Some("bounds")),
            ("a state, which UDP has none of", values().state(3), "not-granted", Some("")),
            ("sequence numbers", values().has(field::ORIGINAL_SEQUENCE), "not-granted", Some("bounds")),
            ("a SYN proxy", values().has(field::SYNPROXY), "not-granted", Some("bounds")),
        ];
        let tenant = tenant(&filled(SCOPE, family), KEYS, GRANTS);
        for (name, values, word, of_creation) in cases {
            let update = Attempt::shown(action::UPDATE, own.clone(), Some(values.clone()));
            assert_eq!(update.word(&tenant), word, "{name}");
            let mut made = values.clone();
            let base = created();
            let fields = base.0.has[0] & !(if made.0.has[0] & field::TIMEOUT != 0 { field::TIMEOUT } else { 0 });
            if fields & field::TIMEOUT != 0 {
                made = made.timeout(60);
            }
            let made = made.has(fields);
            let word = of_creation.unwrap_or(word);
            assert_eq!(Attempt::create(made.clone()).word(&tenant), word, "create: {name}");
            // Whoever may not write it into a flow may not do it by another action either.
            let both = Attempt::named(action::CREATE_OR_UPDATE, made, Some(own.clone())).word(&tenant);
            assert!(both.is_empty() == (word.is_empty() && update.word(&tenant).is_empty()), "{name}: {both}");
        }
        // Nothing at all without the grant.
        let none = super::tests::tenant(&filled(SCOPE, family), KEYS, "");
        for attempt in [
            Attempt::shown(action::DELETE, own.clone(), None),
            Attempt::shown(action::UPDATE, own.clone(), Some(values().timeout(60))),
            Attempt::create(created()),
            Attempt::named(action::CREATE_OR_UPDATE, created(), Some(own.clone())),
        ] {
            assert_eq!(attempt.word(&none), "not-granted");
        }
    }
    // The whole range of marks.
    let all = tenant("[[tenant.scope]]\nzones = 0", "mark-mask = \"0xffffffff\"", r#""update.mark""#);
    let nothing = tenant("[[tenant.scope]]\nzones = 0", "", r#""update.timeout""#);
    let own = kernel(&udp("10.1.0.5", "192.0.2.1", "mark=1"));
    for (mark, mask) in [(u32::MAX, None), (0, None), (1 << 31, Some(1 << 31)), (1, Some(1)), (0, Some(0))] {
        let values = named(&udp("10.1.0.5", "192.0.2.1", "")).lacks(u64::MAX).mark(mark, mask);
        let attempt = Attempt::shown(action::UPDATE, own.clone(), Some(values));
        assert_eq!(attempt.word(&all), "");
        assert_eq!(attempt.word(&nothing), "not-granted", "{mark} {mask:?}");
    }
}

/// Status bits that a flow has need no grant. Which these are the kernel says, and not what the plugin was shown or
/// names besides.
#[test]
fn the_status_that_counts_is_that_of_the_kernel() {
    let line = udp("10.1.0.5", "192.0.2.1", "");
    let tenant = tenant("[[tenant.scope]]\nzones = 0", "", r#""create", "update.status=ASSURED""#);
    let (fixed, plain) = (kernel(&line).status(0x40e), kernel(&line).status(0xe));
    let update = |shown: &Row, found: &Row| Attempt {
        found: [Ok(Some(found.clone())), Ok(None)],
        ..Attempt::shown(action::UPDATE, shown.clone(), Some(named(&line).lacks(u64::MAX).status(0x40e)))
    };
    assert_eq!(update(&fixed, &fixed).word(&tenant), "");
    assert_eq!(update(&fixed, &plain).word(&tenant), "not-granted", "shown otherwise than it is");
    // Two flows in one action: the row that is shown has the bit, the one that is named has not.
    let both = Attempt {
        shown: Some(fixed),
        ..Attempt::named(action::CREATE_OR_UPDATE, named(&line).status(0x40e), Some(plain))
    };
    let word = both.word(&tenant);
    assert!(matches!(word, "not-granted" | "bounds"), "{word}");
}

#[test]
fn what_may_be_made() {
    for family in &FAMILIES {
        let line = |from: &str, to: &str, more: &str| filled(&udp(from, to, more), family);
        let make = |from: &str, to: &str, more: &str| named(&line(from, to, more)).timeout(60);
        let line_of = |from: &str, to: &str, (sport, dport): (u16, u16), (reply_sport, reply_dport): (u16, u16)| {
            let text = format!(
                "udp 17 9 src={from} dst={to} sport={sport} dport={dport} \
                 src={to} dst={from} sport={reply_sport} dport={reply_dport} zone=7 use=1"
            );
            named(&filled(&text, family)).timeout(60)
        };
        let own = || make("OWN", "PEER", "zone=7");
        let to = |name: &str| filled(name, family);
        let nat = |destination: bool, first: &str, last: &str, ports: (u16, u16)| {
            own().nat(destination, [&to(first), &to(last)], ports)
        };
        let forged = named(&filled(
            "udp 17 9 src=OWN dst=PEER sport=1 dport=2 src=PEER dst=FOREIGN sport=2 dport=1 zone=7 use=1",
            family,
        ));
        let there = |row: Row, found: [Option<Row>; 2]| Attempt { found: found.map(Ok), ..Attempt::create(row) };
        let (mine, foreign) = (kernel(&line("OWN", "PEER", "zone=7")), kernel(&line("FOREIGN", "OWN", "zone=7")));
        let public = "[[tenant.scope]]\nzones = 7\nsource = \"NET\"\nreply-destination = \"PUBNET\"";
        let none = "";
        run(
            vec![
                ("of its own", "", SCOPE, Attempt::create(own())),
                ("from elsewhere", "would-be-out-of-scope", SCOPE, Attempt::create(make("FOREIGN", "PEER", "zone=7"))),
                ("behind the last address", "would-be-out-of-scope", SCOPE, Attempt::create(make("BEYOND", "PEER", "zone=7"))),
                ("in another zone", "would-be-out-of-scope", SCOPE, Attempt::create(make("OWN", "PEER", "zone=8"))),
                ("in no zone", "would-be-out-of-scope", SCOPE, Attempt::create(make("OWN", "PEER", ""))),
                ("in a zone in one direction", "would-be-out-of-scope", SCOPE, Attempt::create(named(&filled(
                    "udp 17 9 src=OWN dst=PEER sport=1 dport=2 zone-orig=7 src=PEER dst=OWN sport=2 dport=1 use=1", family)).timeout(60))),
                ("with a forged reply", "translated-peer", SCOPE, Attempt::create(forged.clone().timeout(60))),
                ("without a reply", "nameless", SCOPE, Attempt::create(own().lacks(field::REPLY_SOURCE))),
                ("without the port of the reply", "nameless", SCOPE, Attempt::create(own().lacks(field::REPLY_SOURCE_L4))),
                ("of nothing", "nameless", SCOPE, Attempt { values: None, ..Attempt::create(own()) }),
                ("with a master", "master", SCOPE, Attempt::create(own().master())),
                ("over one's own", "exists", SCOPE, there(own(), [Some(mine.clone()), None])),
                ("whose reply is one's own", "exists", SCOPE, there(own(), [None, Some(mine.clone())])),
                ("over a neighbour's", "collision", SCOPE, there(own(), [Some(foreign.clone()), None])),
                ("whose reply is a neighbour's", "collision", SCOPE, there(own(), [None, Some(foreign.clone())])),
                ("which the kernel cannot say", "unknown", SCOPE, Attempt { found: [Ok(None), Err(105)], ..Attempt::create(own()) }),
                ("create or update of nothing", "not-granted", SCOPE, Attempt::named(action::CREATE_OR_UPDATE, own().helper("x"), None)),
                ("create or update where there is none", "", SCOPE, Attempt::named(action::CREATE_OR_UPDATE, own(), None)),
                ("create or update into the way", "collision", SCOPE, Attempt { found: [Ok(None), Ok(Some(foreign.clone()))], ..Attempt::named(action::CREATE_OR_UPDATE, own(), None) }),
                ("translated to itself, where the kernel may choose a port", "translated-peer", SCOPE, Attempt::create(nat(false, "OWN", "OWN", (0, 0)))),
                ("source translated", "translated-peer", SCOPE, Attempt::create(nat(false, "FOREIGN", "FOREIGN", (0, 0)))),
                ("source translated, the last address not said", "translated-peer", SCOPE, Attempt::create(nat(false, "FOREIGN", none, (0, 0)))),
                ("source translated to what is covered", "translated-peer", public, Attempt::create(nat(false, "PUBLIC", "PUBLIC", (0, 0)))),
                ("source not translated, which this rule demands", "would-be-out-of-scope", public, Attempt::create(own())),
                ("source port translated", "translated-peer", SCOPE, Attempt::create(nat(false, none, none, (9, 9)))),
                ("destination translated", "translated-peer", SCOPE, Attempt::create(nat(true, "FOREIGN", "FOREIGN", (0, 0)))),
                ("destination port translated", "translated-peer", SCOPE, Attempt::create(nat(true, none, none, (9, 9)))),
                ("with a reply from another port", "translated-peer", SCOPE, Attempt::create(line_of("OWN", "PEER", (1, 2), (3, 1)))),
                ("with a reply to another port", "translated-peer", SCOPE, Attempt::create(line_of("OWN", "PEER", (1, 2), (2, 3)))),
                ("whose replies are in another zone", "would-be-out-of-scope", "[[tenant.scope]]\noriginal-zones = 7", Attempt::create(own().lacks(field::ZONE).zones(7, 8))),
                ("whose replies are in the same zone", "", "[[tenant.scope]]\noriginal-zones = 7", Attempt::create(own())),
                ("whose replies are in a zone of its own", "", "[[tenant.scope]]\noriginal-zones = 7\nreply-zones = 8", Attempt::create(own().lacks(field::ZONE).zones(7, 8))),
                ("a range of addresses", "translation-range", SCOPE, Attempt::create(nat(false, "OWN", "FOREIGN", (0, 0)))),
                ("a range from nothing", "translation-range", SCOPE, Attempt::create(nat(false, none, "FOREIGN", (0, 0)))),
                ("a range of ports", "translation-range", SCOPE, Attempt::create(nat(false, "OWN", "OWN", (1, 9)))),
                ("a range of ports that ends at 0", "translation-range", SCOPE, Attempt::create(nat(false, "OWN", "OWN", (9, 0)))),
                ("a range of ports from 0", "translation-range", SCOPE, Attempt::create(nat(true, "PEER", "PEER", (0, 9)))),
                // Of two translations of one end the kernel takes the last one alone.
                ("translated twice", "translation-range", SCOPE, Attempt::create(
                    forged.clone().timeout(60).nat(false, [&to("OWN"), ""], (0, 0)).nat(false, ["", ""], (9, 9)))),
                ("translated at both ends", "translated-peer", SCOPE, Attempt::create(
                    nat(false, "OWN", "OWN", (0, 0)).nat(true, [&to("INNER"), ""], (0, 0)))),
                // A translation of which the columns say less than their rows.
                ("translated by a column that is short", "translated-peer", SCOPE, Attempt::create({
                    let mut row = nat(false, "FOREIGN", "FOREIGN", (0, 0));
                    row.0.rare.as_mut().unwrap().nat.destination.clear();
                    row
                })),
            ],
            family,
        );
        // What nobody can be granted by a policy is refused all the same.
        let tenant = tenant(&filled(SCOPE, family), KEYS, GRANTS);
        let all = |attempt: Attempt| {
            attempt.ruling(&tenant, Some(&Grants::ALL)).map_or_else(|refusal| refusal.reason.word(), |_| "")
        };
        let bare = own().lacks(field::TIMEOUT);
        let found = kernel(&line("OWN", "PEER", "zone=7"));
        for (word, row) in [
            ("translation", bare.clone().nat(false, [&to("OWN"), ""], (0, 0))),
            ("translation", bare.clone().nat(true, [&to("PEER"), ""], (0, 0))),
            ("master", bare.clone().master()),
            ("invalid", bare.clone().helper("a name that is longer than the kernel's")),
            ("", bare.helper("ftp")),
        ] {
            assert_eq!(all(Attempt::named(action::UPDATE, row.clone(), Some(found.clone()))), word);
            assert_eq!(all(Attempt::shown(action::UPDATE, found.clone(), Some(row))), word);
        }
        for bits in [status::SRC_NAT, status::DST_NAT, status::SRC_NAT_DONE, status::DST_NAT_DONE, status::SEQ_ADJUST] {
            assert_eq!(all(Attempt::create(own().status(0xe | bits))), "bounds");
        }
        assert_eq!(all(Attempt::create(own().status(0xe))), "");
    }
}

/// With the grant `create.translated` both ends must be covered as they are after the translation, ports included.
#[test]
fn a_new_flow_may_be_translated_within_the_scope_by_a_grant() {
    let grants = r#""create", "create.translated""#;
    for family in &FAMILIES {
        let own = || named(&filled(&udp("OWN", "PEER", "zone=7"), family)).timeout(60);
        let to = |name: &str| filled(name, family);
        let port = |destination: bool, port: u16| own().nat(destination, ["", ""], (port, port));
        let plain = "[[tenant.scope]]\nzones = 7\nsource = \"NET\"";
        let public = "[[tenant.scope]]\nzones = 7\nsource = \"NET\"\nreply-destination = \"PUBNET\"";
        let service = "[[tenant.scope]]\nzones = 7\nsource = \"NET\"\nports = [53, 5353]";
        let client = "[[tenant.scope]]\nzones = 7\nsource = \"NET\"\nsource-ports = \"4000-4999\"";
        let act = "[[tenant.scope]]\nzones = 7\nsource = \"NET\"\nports = 53\ntranslated = \"act\"";
        for (name, word, scope, row) in [
            ("to itself", "", plain, own().nat(false, [&to("OWN"), ""], (0, 0))),
            ("to a neighbour", "translated-peer", plain, own().nat(false, [&to("FOREIGN"), ""], (0, 0))),
            ("to what is covered", "", public, own().nat(false, [&to("PUBLIC"), ""], (0, 0))),
            ("the port of a rule without ports", "", plain, port(true, 22)),
            ("the port of the far end to one of the rule", "", service, port(true, 5353)),
            ("the port of the far end to another one", "translated-peer", service, port(true, 22)),
            ("the port of the near end of such a rule", "", service, port(false, 22)),
            ("the port of the near end to one of the rule", "", client, port(false, 4999)),
            ("the port of the near end to another one", "translated-peer", client, port(false, 5000)),
            ("wherever the rule lets it", "", act, port(true, 22)),
            ("into a range", "translation-range", plain, own().nat(true, ["", ""], (1, 9))),
        ] {
            let with = tenant(&filled(scope, family), KEYS, grants);
            assert_eq!(Attempt::create(row.clone()).word(&with), word, "{name}");
            let without = tenant(&filled(scope, family), KEYS, r#""create", "create.established""#);
            assert_ne!(Attempt::create(row).word(&without), "", "{name}");
        }
    }
}

/// What a stateful filter takes for an established connection is made by the grant `create.established` alone, or by
/// that of the update which would come to the same.
#[test]
fn a_new_flow_looks_established_by_a_grant() {
    let line = |protocol: &str, number: u8| {
        format!(
            "{protocol} {number} 60 src=10.1.0.5 dst=192.0.2.1 sport=1 dport=2 \
             src=192.0.2.1 dst=10.1.0.5 sport=2 dport=1 use=1"
        )
    };
    let rows = |protocol: &str, number: u8| {
        let row = || named(&line(protocol, number)).timeout(60);
        let bits = status::SEEN_REPLY | status::ASSURED;
        vec![
            row().status(status::SEEN_REPLY),
            row().status(status::ASSURED),
            row().status(status::CONFIRMED | bits),
            row().state(3),
            row().state(4),
            row().state(9),
            row().has(field::ORIGINAL_TCP_FLAGS),
            row().has(field::REPLY_TCP_FLAGS),
            row().has(field::ORIGINAL_WINDOW_SCALE),
            row().has(field::REPLY_WINDOW_SCALE),
            row().has(field::ORIGINAL_VTAG),
            row().has(field::REPLY_VTAG),
            row().has(field::DCCP),
        ]
    };
    let scope = "[[tenant.scope]]\nzones = 0";
    let with = |grants: &str| tenant(scope, "", grants);
    let plain = with(r#""create", "create.translated", "update.timeout""#);
    let established = with(r#""create.established""#);
    let by_updates = with(r#""create", "update.status=SEEN_REPLY|ASSURED", "update.state""#);
    for (protocol, number) in [("tcp", 6), ("sctp", 132), ("dccp", 33)] {
        for (at, row) in rows(protocol, number).into_iter().enumerate() {
            assert_eq!(Attempt::create(row.clone()).word(&plain), "bounds", "{protocol} {at}");
            assert_eq!(Attempt::create(row.clone()).word(&established), "", "{protocol} {at}");
            assert_eq!(Attempt::create(row.clone()).word(&by_updates), "", "{protocol} {at}");
            let both = Attempt::named(action::CREATE_OR_UPDATE, row, None).word(&plain);
            assert_eq!(both, "not-granted", "{protocol} {at}");
        }
        for state in 0..=1 {
            let row = named(&line(protocol, number)).timeout(60).state(state).status(status::CONFIRMED);
            assert_eq!(Attempt::create(row).word(&plain), "");
        }
    }
    // Nobody is granted what the kernel alone says.
    let all = with(r#""create.established", "update.status", "update.state""#);
    for bit in [status::SRC_NAT_DONE, status::DST_NAT] {
        assert_eq!(Attempt::create(named(&line("tcp", 6)).timeout(60).status(bit)).word(&all), "bounds");
    }
}

/// Whatever a plugin asks for: what is made without `create.translated` is, in both directions, what the rule says,
/// ports included.
#[test]
fn whatever_is_made_answers_from_where_it_was_sent_to() {
    let scopes = [
        "zones = 7",
        "zones = 7\nsource = \"NET\"\nports = [53]",
        "source = \"NET\"\nsource-ports = \"1-4000\"",
        "destination = \"NET\"\nports = [\"1-100\"]\nprotocols = [\"udp\", \"tcp\"]",
        "original-zones = 7\nports = 53",
        "reply-source = \"PEER\"\nreply-destination = \"NET\"",
        "everything = true",
        "source = \"NET\"\nports = 53\ntranslated = \"act\"",
    ];
    let mut random = Random::new(4);
    let (mut made, mut translated) = (0, 0);
    for round in 0..8000 {
        let family = &FAMILIES[random.below(2)];
        let rule = filled(scopes[random.below(scopes.len())], family);
        let granted = random.chance(1, 2);
        let grants = if granted { r#""create.translated""# } else { r#""create""# };
        let tenant = tenant(&format!("[[tenant.scope]]\n{rule}"), "", grants);
        let ends = ["OWN", "FIRST", "FOREIGN", "PEER"];
        let (from, to) = (random.pick(&ends), random.pick(&ends));
        let port = |random: &mut Random| [53, 22, 4000, 1, 0][random.below(5)];
        let (sport, dport) = (port(&mut random), port(&mut random));
        let plain = random.chance(1, 2);
        let reply = if plain {
            (to, from, dport, sport)
        } else {
            (random.pick(&ends), random.pick(&ends), port(&mut random), port(&mut random))
        };
        let (protocol, number) = [("udp", 17), ("tcp", 6), ("sctp", 132), ("udplite", 136)][random.below(4)];
        let zone = ["zone=7", "", "zone=8"][random.below(3)];
        let line = filled(
            &format!(
                "{protocol} {number} 9 src={from} dst={to} sport={sport} dport={dport} \
                 src={} dst={} sport={} dport={} {zone} use=1",
                reply.0, reply.1, reply.2, reply.3
            ),
            family,
        );
        let mut row = named(&line).timeout(60);
        for _ in 0..random.below(3) {
            let (address, port) = (filled(random.pick(&ends), family), port(&mut random));
            let address = if random.chance(1, 2) { address } else { String::new() };
            row = row.nat(random.chance(1, 2), [&address, &address], (port, port));
        }
        let Ok(ruling) = Attempt::create(row).ruling(&tenant, None) else { continue };
        let after = ScopeView::of(ruling.after.as_ref().unwrap(), 0);
        assert!(ruling.makes && tenant.scope.contains(&after), "round {round}: {line}");
        let reversed = after.reply_source == after.destination
            && after.reply_destination == after.source
            && after.reply_ports == (after.ports.1, after.ports.0);
        made += usize::from(!granted);
        translated += usize::from(!reversed);
        assert!(granted || reversed, "round {round}: {line} {after:x?}");
        if rule.contains("act") {
            continue;
        }
        let rule = &tenant.scope.rules()[0];
        let covers = |set: &Option<crate::sets::NumberSet>, port| set.as_ref().is_none_or(|set| set.contains(port));
        assert!(covers(&rule.ports, after.reply_ports.0), "round {round}: the far port of {line}");
        assert!(covers(&rule.source_ports, after.reply_ports.1), "round {round}: the near port of {line}");
    }
    assert!(made > 200 && translated > 100, "{made} made, {translated} translated");
}

/// A flow neither leaves the scope, nor is moved within it twice in one call.
#[test]
fn a_mark_that_the_scope_looks_at() {
    let scope = "[[tenant.scope]]\nmarks = [\"0x100/0x300\", \"0x200/0x300\"]";
    let tenant = tenant(scope, "mark-mask = \"0xf00\"", r#""update.mark", "delete""#);
    for family in &FAMILIES {
        let line = filled(&udp("OWN", "PEER", "mark=256 zone=7"), family);
        let own = kernel(&line);
        let ruling = |mark, mask| {
            let values = named(&line).lacks(u64::MAX).mark(mark, Some(mask));
            Attempt::shown(action::UPDATE, own.clone(), Some(values)).ruling(&tenant, None)
        };
        for (mark, mask, word) in [
            (0x200, 0x300, ""),
            (0x300, 0, ""),
            (0x800, 0x800, ""),
            (0, 0x100, "would-leave-scope"),
            (0x100, 0, "would-leave-scope"),
            (0x300, 0x300, "would-leave-scope"),
            (0x200, 0, "would-leave-scope"),
        ] {
            let told = ruling(mark, mask).map_or_else(|refusal| refusal.reason.word(), |_| "");
            assert_eq!(told, word, "{mark:#x}/{mask:#x}");
        }
        // Each by itself is within the scope, one after the other they are not: 01 becomes 10 and then 11.
        let view = ScopeView::of(&own.0, 0);
        let mut moves = MarkChanges::default();
        moves.note(&tenant.scope, ruling(0x800, 0x800).unwrap(), &view).unwrap();
        moves.note(&tenant.scope, ruling(0x300, 0).unwrap(), &view).unwrap();
        let again = moves.note(&tenant.scope, ruling(0x100, 0x100).unwrap(), &view).unwrap_err();
        assert_eq!((again.reason.word(), again.result), ("mark-twice", result::OUTSIDE));
        // Other bits may change as often as one likes, and another flow is another matter.
        moves.note(&tenant.scope, ruling(0x400, 0x400).unwrap(), &view).unwrap();
        let other = ScopeView { ports: (1, 2), ..view };
        moves.note(&tenant.scope, ruling(0x300, 0).unwrap(), &other).unwrap();
        let gone = Attempt::shown(action::DELETE, own.clone(), None).ruling(&tenant, None).unwrap();
        moves.note(&tenant.scope, gone, &view).unwrap();
    }
}

/// What a plugin is told, and with what error number.
#[test]
fn who_may_not_see_a_flow_is_told_that_there_is_none() {
    let tenant = tenant(&filled(SCOPE, &FAMILIES[0]), KEYS, GRANTS);
    let line = udp("10.2.0.9", "192.0.2.1", "zone=7");
    let told = |attempt: Attempt| {
        let refusal = attempt.ruling(&tenant, None).unwrap_err();
        (refusal.result, refusal.errno)
    };
    let none = told(Attempt::named(action::DELETE, original(&line), None));
    assert_eq!(none, (result::GONE, libc::ENOENT as u32));
    for kind in [action::DELETE, action::UPDATE, action::CREATE_OR_UPDATE] {
        assert_eq!(told(Attempt::named(kind, named(&line), Some(kernel(&line)))), none);
    }
    // To whom it was shown, it is outside by now.
    assert_eq!(told(Attempt::shown(action::DELETE, kernel(&line), None)), (result::OUTSIDE, 0));
    let unknown = Attempt { found: [Err(105), Ok(None)], ..Attempt::named(action::DELETE, original(&line), None) };
    assert_eq!(told(unknown), (result::REFUSED, 105));
}

/// The kernel's part: what an entry is after this request.
fn carried_out(entry: &Flows, request: &Request) -> (u32, u32) {
    let message = flowgate_netlink::Messages::new(request.as_bytes()).next().unwrap().unwrap();
    let mut asked = Flows::default();
    let mut decoder = FlowDecoder::new(field::ALL);
    asked.push(&mut decoder, &message, Arrival::Entry).unwrap();
    let (name, of) = (ScopeView::of(&asked, 0), ScopeView::of(entry, 0));
    assert_eq!(
        (name.family, name.protocol, name.source, name.destination, name.ports, name.zones.0),
        (of.family, of.protocol, of.source, of.destination, of.ports, of.zones.0),
        "it is about another flow"
    );
    let has = asked.has[0];
    assert_eq!(has & (field::SOURCE_NAT | field::DESTINATION_NAT | field::MASTER), 0);
    let mask = if has & field::MARK_MASK != 0 { asked.rare.as_ref().unwrap().mark_mask[0] } else { u32::MAX };
    let mark = if has & field::MARK != 0 { (of.mark & !mask) ^ asked.mark[0] } else { of.mark };
    (mark, if has & field::TIMEOUT != 0 { asked.timeout[0] } else { 60 })
}

/// Whatever a plugin asks for: if it is allowed, the flow stays in the scope, and nothing changes that is not the
/// tenant's.
#[test]
fn whatever_is_allowed_stays_within_the_scope_and_the_bounds() {
    let scopes = [
        "zones = 7",
        "zones = \"6-8\"\nsource = \"NET\"",
        "destination = \"NET\"\nprotocols = [\"udp\"]",
        "source = \"NET\"\nmarks = [\"0x100/0x300\", \"0x200/0x300\"]",
        "original-zones = 7\nmarks = \"0x80000000/0x80000000\"",
        "marks = [\"0/0xff\", \"5\"]\nports = \"53\"\nfamily = \"ipv4\"",
        "reply-destination = \"NET\"\ntranslated = \"act\"",
    ];
    let masks = [0u32, 0x300, 0xff00, 0x8000_0000, u32::MAX];
    let mut random = Random::new(20);
    let mut allowed = 0;
    for round in 0..6000 {
        let family = &FAMILIES[random.below(2)];
        let rule = filled(scopes[random.below(scopes.len())], family);
        let owned = masks[random.below(masks.len())];
        let grants = if owned == 0 { r#""update.timeout""# } else { r#""update.mark", "update.timeout""# };
        let keys = format!("mark-mask = \"{owned:#x}\"\ntimeouts = \"10..600\"");
        let tenant = tenant(&format!("[[tenant.scope]]\n{rule}"), &keys, grants);
        let any = |random: &mut Random| match random.below(5) {
            0 => 0,
            1 => 0x100,
            2 => masks[random.below(masks.len())] & (random.bits() as u32),
            3 => owned & (random.bits() as u32),
            _ => random.bits() as u32,
        };
        let ends = ["OWN", "FIRST", "BEYOND", "FOREIGN", "PEER"];
        let zone = ["zone=7", "zone=8", "", "zone=6"][random.below(4)];
        let words = format!("{zone} mark={} id=5", any(&mut random));
        let line = filled(&udp(random.pick(&ends), random.pick(&ends), &words), family);
        let entry = kernel(&line);
        let mut values = named(&line);
        if random.chance(1, 2) {
            values = values.lacks(REPLIES);
        }
        if random.chance(3, 4) {
            let mask = any(&mut random);
            values = values.mark(any(&mut random), random.chance(3, 4).then_some(mask));
        }
        if random.chance(1, 2) {
            values = values.timeout([0, 9, 10, 60, 600, 601, u32::MAX][random.below(7)]);
        }
        let attempt = if random.chance(1, 2) {
            Attempt::named(action::UPDATE, values, Some(entry.clone()))
        } else {
            Attempt::shown(action::UPDATE, entry.clone(), Some(values))
        };
        let Ok(ruling) = attempt.ruling(&tenant, None) else { continue };
        allowed += 1;
        let before = ScopeView::of(&entry.0, 0);
        let (mark, timeout) = carried_out(&entry.0, &ruling.request);
        assert!(tenant.scope.contains(&before), "round {round}: it was outside: {line}");
        assert!(tenant.scope.contains(&ScopeView { mark, ..before }), "round {round}: it has left: {line} {mark:#x}");
        assert_eq!((mark ^ before.mark) & !owned, 0, "round {round}: {line} {mark:#x}");
        assert!((10..=600).contains(&timeout), "round {round}: {timeout}");
        assert_eq!(ScopeView::of(ruling.after.as_ref().unwrap(), 0).mark, mark, "what is recorded is what is done");
    }
    assert!(allowed > 200, "only {allowed} were allowed, so that little was tested");
}

/// A guard whose audit is in this directory.
fn guard(tenant: &Tenant, directory: &std::path::Path, halted: bool) -> TenantGuard {
    TenantGuard::new(tenant, 1, None, audit(directory, 1 << 20), recorder(None), Arc::new(move || halted))
}

/// An audit of two files of so many bytes.
fn audit(directory: &std::path::Path, size: u64) -> Arc<Audit> {
    let rotation = Rotation { size: Some(size), interval: None, keep: 1, keep_time: None, compress: false };
    let options = FileOptions { path: directory.join("audit"), append: true, mode: None, rotation: Some(rotation) };
    Arc::new(Audit::open(options, Duration::from_secs(3600), flowgate_base::Warnings::ignored()).unwrap())
}

fn json() -> Format {
    let engine = PluginEngine::new(None).unwrap();
    let component = PluginComponent::stock(&engine, "json").unwrap();
    let mut instance = Instance::new(&component, Limits::default()).unwrap();
    let reads = instance.describe().unwrap().reads;
    let setup = Setup { offsets: vec![UtcOffset { since: 0, offset: 0 }], ..Setup::default() };
    instance.configure(&setup).unwrap();
    instance.end_start_up();
    Format::new(instance, reads)
}

/// What writes flows; with a number, new instances are to be had so often.
fn recorder(times: Option<usize>) -> Recorder {
    let left = std::cell::Cell::new(times.unwrap_or(usize::MAX));
    let make = move || {
        left.set(left.get().checked_sub(1)?);
        Some(json())
    };
    Recorder::new(json(), Box::new(make))
}

/// Limits are refusals as well, before the kernel is asked for anything.
#[test]
fn what_is_over_a_limit_is_refused_and_counted() {
    let grants: Grants = "delete".parse().unwrap();
    let shown = kernel(&udp("10.1.0.5", "192.0.2.1", "zone=7")).0;
    for (limits, halted, superseded, word) in [
        ("limits = { actions-in-flight = 0 }", false, false, "in-flight"),
        ("limits = { actions-per-second = 0 }", false, false, "rate"),
        ("", true, false, "paused"),
        ("", false, true, "superseded"),
        ("", true, true, "superseded"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let tenant = tenant(&filled(SCOPE, &FAMILIES[0]), limits, r#""delete""#);
        let mut guard = guard(&tenant, directory.path(), halted).until(Arc::new(move || superseded));
        let times = TOLD + 10;
        let requests = Requests {
            actions: Actions {
                kinds: vec![action::DELETE; times],
                rows: vec![0; times],
                values: vec![action::NO_ROW; times],
            },
            values: Flows::default(),
        };
        let asker = Asker { plugin: "blue:a", grants: &grants, strict: false };
        let judgements = guard.review(&mut Watch::unlimited(), asker, &shown, &requests);
        assert_eq!(judgements.len(), times);
        for judgement in judgements {
            let Judgement::Refuse(result, 0) = judgement else { panic!("{word}: {judgement:?}") };
            assert_eq!(result, result::OVER_LIMIT, "{word}");
        }
        drop(guard);
        // All of them are accounted for, and nobody fills the audit: what is beyond some is summed up.
        let text = std::fs::read_to_string(directory.path().join("audit")).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let count: u64 = lines.iter().map(|line| line["count"].as_u64().unwrap_or(1)).sum();
        assert_eq!(count, times as u64, "{text}");
        assert!(lines.len() <= TOLD + 1 && lines.iter().all(|line| line["code"] == word), "{text}");
    }
}

/// A call whose time is over is done in no part, and accounted for as a whole.
#[test]
fn without_time_left_nothing_of_a_call_is_done() {
    let grants: Grants = "delete".parse().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let limits = "limits = { actions-per-second = 1000000, actions-in-flight = 60000 }";
    let tenant = tenant(&filled(SCOPE, &FAMILIES[0]), limits, r#""delete""#);
    let mut guard = guard(&tenant, directory.path(), false);
    let asker = Asker { plugin: "blue:a", grants: &grants, strict: false };
    let times = 60_000;
    let requests = bulky(10, times);
    for limit in [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(50)] {
        let before = thread_time();
        let mut watch = Watch::begin(limit, Some(before));
        let judgements = guard.review(&mut watch, asker, &Flows::default(), &requests);
        let used = thread_time() - before;
        assert!(used < limit + limit / 2 + Duration::from_millis(20), "{used:?} of {limit:?}");
        assert_eq!(judgements.len(), times);
        assert!(judgements.iter().all(|judgement| matches!(judgement, Judgement::Refuse(result::OVER_LIMIT, 0))));
        assert!(watch.check().is_err());
    }
    drop(guard);
    let count: u64 = lines(directory.path())
        .iter()
        .map(|line| {
            assert_eq!((&line["code"], &line["stage"]), (&"time".into(), &"refused".into()), "{line}");
            line["count"].as_u64().unwrap()
        })
        .sum();
    assert_eq!(count, 3 * times as u64);
}

/// The time may be over once all actions have been judged: none of them is recorded as one that will be done from then on.
#[test]
fn recording_ends_with_the_time_of_the_call() {
    flowgate_test_support::Namespace::run(|namespace| {
        let flow = "-t 600 -w 7 -p udp -s 10.1.0.5 -d 192.0.2.1 --sport 4000 --dport 53";
        flowgate_test_support::entries::insert(namespace, flow);
        let directory = tempfile::tempdir().unwrap();
        let limits = "limits = { actions-per-second = 1000000, actions-in-flight = 60000 }";
        let tenant = tenant(&filled(SCOPE, &FAMILIES[0]), limits, r#""delete""#);
        let mut guard = guard(&tenant, directory.path(), false);
        let grants: Grants = "delete".parse().unwrap();
        // With such a name to be written into each record, recording takes far longer than judging.
        let plugin = "\u{1}".repeat(LONGEST / 8);
        let asker = Asker { plugin: &plugin, grants: &grants, strict: false };
        let Row(values) = named(&udp("10.1.0.5", "192.0.2.1", "zone=7"));
        let times = 5000;
        let actions =
            Actions { kinds: vec![action::DELETE; times], rows: vec![action::NO_ROW; times], values: vec![0; times] };
        let requests = Requests { actions, values };
        let before = thread_time();
        let judgements = guard.review(&mut Watch::unlimited(), asker, &Flows::default(), &requests);
        let all = thread_time() - before;
        assert!(matches!(judgements[0], Judgement::Send(_)), "{:?}", judgements[0]);
        let (limit, before) = (all / 2, thread_time());
        let mut watch = Watch::begin(limit, Some(before));
        let judgements = guard.review(&mut watch, asker, &Flows::default(), &requests);
        let used = thread_time() - before;
        assert!(used < all * 3 / 4, "{used:?} of {limit:?}; {all:?} if there is no limit");
        assert!(judgements.iter().all(|judgement| matches!(judgement, Judgement::Refuse(result::OVER_LIMIT, 0))));
    });
}

/// One that names a flow with a helper of many bytes, so often.
fn bulky(bytes: usize, times: usize) -> Requests<Flows> {
    let Row(mut values) = original(&udp("10.1.0.5", "192.0.2.1", "zone=7"));
    batch::push_sparse(&mut values.rare.get_or_insert_default().helper, 0, &vec![1; bytes]);
    values.has[0] |= field::HELPER;
    Requests {
        actions: Actions {
            kinds: vec![action::DELETE; times],
            rows: vec![action::NO_ROW; times],
            values: vec![0; times],
        },
        values,
    }
}

fn lines(directory: &std::path::Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(directory.join("audit")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What is recorded has a bound whatever a plugin writes into its row, and does not make the format fail.
#[test]
fn what_a_plugin_writes_neither_blinds_the_audit_nor_fills_it() {
    let directory = tempfile::tempdir().unwrap();
    let tenant = tenant(&filled(SCOPE, &FAMILIES[0]), "", r#""delete""#);
    let mut guard = guard(&tenant, directory.path(), false);
    let grants: Grants = "delete".parse().unwrap();
    let asker = Asker { plugin: "blue:a", grants: &grants, strict: false };
    for times in [1, 100] {
        let judgements = guard.review(&mut Watch::unlimited(), asker, &Flows::default(), &bulky(15_000_000, times));
        assert_eq!(judgements.len(), times);
    }
    drop(guard);
    let lines = lines(directory.path());
    assert!(lines.len() > 60, "{lines:#?}");
    for line in lines.iter().filter(|line| line["count"].is_null()) {
        assert!(line["after"]["original"].is_object() && line.to_string().len() < 2000, "{line}");
    }
}

/// What is recorded of a refused action is what could have been sent of it.
#[test]
fn what_no_request_has_is_in_no_record() {
    let all = field::ALL | field::SECURITY_CONTEXT | field::HELPER;
    let row = named(&udp("10.1.0.5", "192.0.2.1", "zone=7")).has(all);
    let has = requested::recorded(&row.0, 0).has[0];
    assert_eq!(has & field::TUPLES, field::TUPLES);
    assert_eq!(has & (field::SECURITY_CONTEXT | field::ANNOTATIONS | field::MASTER), 0);
    assert_eq!(has & (field::HELPER | field::LABELS), 0, "there is no text that could be recorded");
}

/// A line has a limit whatever is in it: what would be longer is neither done nor recorded by itself.
#[test]
fn no_line_is_longer_than_a_line_may_be() {
    flowgate_test_support::Namespace::run(|_| {
        let directory = tempfile::tempdir().unwrap();
        let tenant = tenant(&filled(SCOPE, &FAMILIES[0]), "", r#""create""#);
        let grants: Grants = "create".parse().unwrap();
        for (length, sent) in [(10, true), (LONGEST, false)] {
            let mut guard = guard(&tenant, directory.path(), false);
            let plugin = "x".repeat(length);
            let asker = Asker { plugin: &plugin, grants: &grants, strict: false };
            let judgements = guard.review(&mut Watch::unlimited(), asker, &Flows::default(), &creation());
            assert!(matches!(judgements[..], [Judgement::Send(_)]) == sent, "{judgements:?}");
            if !sent {
                assert!(
                    matches!(judgements[..], [Judgement::Refuse(result::REFUSED, errno)] if errno == libc::EIO as u32)
                );
            }
            drop(guard);
            let long = lines(directory.path()).into_iter().filter(|line| line.to_string().len() > LONGEST);
            assert!(long.into_iter().all(|line| line["count"] == 1), "but for the sum");
        }
    });
}

/// Asks for a flow of its own.
fn creation() -> Requests<Flows> {
    let Row(values) = named(&udp("10.1.0.5", "192.0.2.1", "zone=7")).timeout(60);
    let actions = Actions { kinds: vec![action::CREATE], rows: vec![action::NO_ROW], values: vec![0] };
    Requests { actions, values }
}

/// An entry whose end nobody has told counts until it is looked up, which happens when there is no room for another
/// one.
#[test]
fn what_has_ended_unnoticed_makes_room() {
    flowgate_test_support::Namespace::run(|_| {
        let directory = tempfile::tempdir().unwrap();
        let tenant = tenant(&filled(SCOPE, &FAMILIES[0]), "limits = { entries = 1 }", r#""create""#);
        let grants: Grants = "create".parse().unwrap();
        let asker = Asker { plugin: "blue:a", grants: &grants, strict: false };
        let ledger = Arc::new(Ledger::default());
        let gone = named(&udp("10.1.0.6", "192.0.2.1", "zone=7"));
        let name = EntryKey::of(&ScopeView::of(&gone.0, 0));
        let entry = flowgate_netlink::FlowEntry::new(&gone.0, 0).unwrap();
        let lookup = flowgate_netlink::encode::flows::get(entry).unwrap();
        ledger.reserve("blue", name, &lookup, (1, 1)).unwrap();
        ledger.settle(&name, Some(7));
        let mut guard = guard(&tenant, directory.path(), false).counting(ledger.clone(), 100);
        let judgements = guard.review(&mut Watch::unlimited(), asker, &Flows::default(), &creation());
        assert!(matches!(judgements[..], [Judgement::Send(_)]), "{judgements:?}");
        assert_eq!(ledger.count("blue"), 1, "the one that is being made");
    });
}

/// A format that has failed is replaced; while none is to be had nothing is done, and the records after that are whole
/// again.
#[test]
fn what_cannot_be_rendered_is_refused_and_the_next_record_is_whole() {
    let mut dead = json();
    let Row(mut huge) = kernel(&udp("10.1.0.5", "192.0.2.1", "zone=7")).helper("");
    huge.rare.as_mut().unwrap().helper.texts = flowgate_model::Texts { ends: vec![30 << 20], bytes: vec![1; 30 << 20] };
    assert!(dead.render(&mut huge).is_err(), "the format has failed");
    let mut flows = Flows::default();
    for port in 1..4 {
        let line = udp("10.1.0.5", "192.0.2.1", "zone=7").replace("4000", &port.to_string());
        batch::append(&mut flows, &kernel(&line).0);
    }
    let available = std::rc::Rc::new(std::cell::Cell::new(false));
    let is = available.clone();
    let mut recorder = Recorder::new(dead, Box::new(move || is.get().then(json)));
    assert_eq!(recorder.render(&mut Watch::unlimited(), &flows), [None, None, None]);
    available.set(true);
    let whole = |values: Vec<Option<Value>>| values.iter().flatten().filter(|value| value["zone"] == 7).count();
    assert_eq!(whole(recorder.render(&mut Watch::unlimited(), &flows)), 3);
    // One row that makes it fail costs no other row its record.
    batch::append(&mut flows, &huge);
    batch::append(&mut flows, &kernel(&udp("10.1.0.6", "192.0.2.1", "zone=7")).0);
    let values = recorder.render(&mut Watch::unlimited(), &flows);
    assert!(values[3].is_none());
    // What would be done and cannot be shown is not done; the others are.
    let tenant = tenant(&filled(SCOPE, &FAMILIES[0]), "", r#""delete""#);
    let shown = kernel(&udp("10.1.0.5", "192.0.2.1", "zone=7"));
    let delete = || Attempt::shown(action::DELETE, shown.clone(), None).ruling(&tenant, None);
    let refusal = rendered(delete(), (Some(3), None), &values, &[]).0.unwrap_err();
    assert_eq!((refusal.reason.word(), refusal.result), ("unrendered", result::REFUSED));
    let (ruling, before, after) = rendered(delete(), (Some(2), None), &values, &[]);
    assert!(ruling.is_ok() && before.is_some() && after.is_none());
    assert_eq!(whole(values), 4);
}

/// A tenant that has used up its share of the audit does nothing more; another one goes on.
#[test]
fn a_share_of_the_audit_is_a_tenants_own() {
    let directory = tempfile::tempdir().unwrap();
    let audit = audit(directory.path(), 64 << 10);
    audit.shares().divide(2);
    let grants: Grants = "delete".parse().unwrap();
    let of = |name: &str| {
        let mut tenant = tenant(&filled(SCOPE, &FAMILIES[0]), "limits = { actions-per-second = 10000 }", r#""delete""#);
        tenant.name = name.into();
        TenantGuard::new(&tenant, 1, None, audit.clone(), recorder(None), Arc::new(|| false))
    };
    let (mut blue, mut red) = (of("blue"), of("red"));
    let asker = |plugin| Asker { plugin, grants: &grants, strict: false };
    for _ in 0..50 {
        blue.review(&mut Watch::unlimited(), asker("blue:a"), &Flows::default(), &bulky(10, 64));
    }
    red.review(&mut Watch::unlimited(), asker("red:a"), &Flows::default(), &bulky(10, 1));
    let text = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap_or_default();
    let all = text("audit.1") + &text("audit");
    let written = |tenant: &str| all.lines().filter(|line| line.contains(&format!("\"tenant\":\"{tenant}\""))).count();
    assert!(written("blue") > 10 && written("red") == 1, "{} {}", written("blue"), written("red"));
    assert!(all.len() < 64 << 10, "refusals have filled it: {}", all.len());
    // What may still be recorded of an action is less than that.
    assert!(audit.shares().take("red", 1000, Use::Intent));
    while audit.shares().take("blue", 1000, Use::Intent) {}
    assert!(audit.shares().take("red", 1000, Use::Intent));
}

/// Labels that an update sets are in the record, as the kernel makes them of those that the flow has.
#[test]
fn labels_are_recorded_as_they_will_be() {
    let tenant = tenant(&filled(SCOPE, &FAMILIES[0]), "labels = [0, 1, 2, 3, 64]", r#""update.labels""#);
    let line = udp("10.1.0.5", "192.0.2.1", "zone=7");
    let found = kernel(&line).labels(0b1010 | 1 << 100, None, 16);
    for (set, mask, result) in [
        (0b0001, 0b0001, 0b1011 | 1 << 100),
        (0b0000, 0b1000, 0b0010 | 1 << 100),
        (0b0010, 0b0000, 0b1000 | 1 << 100),
        (1 << 64, 1 << 64, 0b1010 | 1 << 64 | 1 << 100),
    ] {
        let values = named(&line).lacks(u64::MAX).labels(set, Some(mask), 16);
        let ruling = Attempt::shown(action::UPDATE, found.clone(), Some(values)).ruling(&tenant, None).unwrap();
        let after = ruling.after.unwrap();
        let labels = batch::text(&after.rare.as_ref().unwrap().labels.texts, 0).to_vec();
        assert_eq!(u128::from_le_bytes(labels.try_into().unwrap()), result, "{set:#x}/{mask:#x}");
    }
    // Without a mask, and with fewer words than there are, the rest is cleared.
    let all: Grants = "update.labels".parse().unwrap();
    for (set, mask, bytes, result) in [(0b1u128, None, 16, 0b1u128), (0b100, Some(0b110), 4, 0b1100)] {
        let values = named(&line).lacks(u64::MAX).labels(set, mask, bytes);
        let wide = super::tests::tenant(&filled(SCOPE, &FAMILIES[0]), "", "");
        let attempt = Attempt::shown(action::UPDATE, found.clone(), Some(values));
        let after = attempt.ruling(&wide, Some(&all)).unwrap().after.unwrap();
        let labels = batch::text(&after.rare.as_ref().unwrap().labels.texts, 0).to_vec();
        assert_eq!(u128::from_le_bytes(labels.try_into().unwrap()), result, "{bytes}");
    }
}

/// Every reason has a test above or, where it takes a kernel or a disk that is full, in `tests/it/policy`.
#[test]
fn every_reason_has_a_word_of_its_own() {
    use crate::scope::Outside;
    let all = [
        Reason::NotGranted,
        Reason::Bounds,
        Reason::Nameless,
        Reason::Unspeakable(flowgate_netlink::EncodeError::Family { family: 7 }),
        Reason::Outside(Outside::Scope),
        Reason::Outside(Outside::Peer("source")),
        Reason::WouldLeave,
        Reason::WouldBeOutside,
        Reason::ByReply,
        Reason::Gone,
        Reason::Replaced,
        Reason::Exists,
        Reason::Collision,
        Reason::Master,
        Reason::Translation,
        Reason::Range,
        Reason::Again,
        Reason::InFlight,
        Reason::Rate,
        Reason::Entries(1),
        Reason::TableShare(1),
        Reason::Time,
        Reason::Paused,
        Reason::Superseded,
        Reason::Unrecorded,
        Reason::AuditShare,
        Reason::Unrendered,
        Reason::Unknown(22),
    ];
    // A translation that the plugin was not granted is, to a program, one that the scope does not cover.
    assert_eq!(Reason::Reply("source").word(), Reason::Outside(Outside::Peer("source")).word());
    let words: std::collections::BTreeSet<&str> = all.iter().map(Reason::word).collect();
    assert_eq!(words.len(), all.len());
    let tests = concat!(
        include_str!("tests.rs"),
        include_str!("../../../../tests/it/policy/attacks.toml"),
        include_str!("../../../../tests/it/policy/attacks.rs"),
        include_str!("../../../../tests/it/policy/hostile.rs")
    );
    for word in words {
        assert!(tests.contains(&format!("\"{word}\"")), "no test is refused for `{word}`");
    }
}
