//! Tests of the guard's rules, in both address families: for each reason of refusal an action that is refused for it,
//! and beside it a similar one that is allowed. The kernel's entries are given; no kernel is queried.
//!
//! * `targets`: which flows a plugin may act on, and how it names them.
//! * `updates` and `creations`: what an action may change and create.
//! * `limits`: limits of rate, time, entries and the audit.
//! * `records`: what the audit has of an action.
//! * `reasons`: all reasons have a test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod creations;
mod limits;
mod proposals;
mod reasons;
mod records;
mod targets;
mod updates;

use flowgate_base::clock::thread_time;
use flowgate_test_support::Random;

use super::{
    judge::{Approval, Authority, KernelEntry, Proposal},
    mark_changes::MarkChanges,
    *,
};
use crate::Policy;
use flowgate_config::SourceText;
use flowgate_model::{Actions, Tuples, action, batch, field, grants::Grants, status};
use flowgate_netlink::decode::{Arrival, FlowDecoder};
use flowgate_pipeline::{
    entries::Entries as _,
    executor::{Guard as _, Judgement, Requester},
    outcome::Requests,
    sink::file::{FileOptions, Rotation},
};
use flowgate_syntax::LabelMap;

/// A batch of one row: an entry of the kernel, or values that a plugin returns.
#[derive(Clone, Debug)]
struct Row(Flows);

/// Returns an entry of the kernel, from a line of `conntrack -L -o id`.
fn kernel(line: &str) -> Row {
    Row(flowgate_fixture::flows("guard", line.as_bytes(), &[]).unwrap())
}

/// Returns what identifies a flow: its tuples, zones and, if the line has one, its id.
fn named(line: &str) -> Row {
    let Row(mut flows) = kernel(line);
    flows.has[0] &= field::TUPLES | field::ZONES | field::ID;
    Row(flows)
}

/// Returns the same as [`named`] without the reply tuple.
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

    /// Adds a translation of the source or the destination to a range of addresses and a range of ports.
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

    /// Makes the labels longer than those of the kernel.
    fn long_labels(mut self) -> Self {
        let labels = &mut self.0.rare.as_mut().unwrap().labels;
        labels.texts.bytes.push(0);
        labels.texts.ends = vec![17];
        self
    }

    /// Sets the zones of both directions.
    fn zones(mut self, original: u16, reply: u16) -> Self {
        let zones = self.0.zones.get_or_insert_default();
        (zones.zone, zones.original, zones.reply) = (vec![0], vec![original], vec![reply]);
        self.has(field::ORIGINAL_ZONE | field::REPLY_ZONE)
    }

    /// Makes replies go to another address.
    fn nated(mut self) -> Self {
        self.0.reply.destination.lo[0] += 1;
        self
    }
}

/// Returns a tenant with this scope, these keys and grants.
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

/// The default scope, keys and grants of a tenant in these tests.
const SCOPE: &str = "[[tenant.scope]]\nzones = 7\nsource = \"NET\"";
const KEYS: &str = "mark-mask = \"0xff00\"\ntimeouts = \"10..600\"\nlabels = [3, 127]";
const GRANTS: &str = r#""delete", "create", "update.mark", "update.timeout", "update.labels", "update.status=ASSURED""#;

/// An action, and the entries of the kernel that it concerns.
#[derive(Clone, Debug)]
struct Attempt {
    kind: u8,
    shown: Option<Row>,
    values: Option<Row>,
    /// The entries, or error numbers, that the kernel returns for the original tuple, and for the reply tuple of an
    /// entry to be created.
    found: [Result<Option<Row>, i32>; 2],
}

impl Attempt {
    /// Returns an action on a row of the batch, whose entry has not changed since.
    fn shown(kind: u8, flow: Row, values: Option<Row>) -> Self {
        Attempt { kind, shown: Some(flow.clone()), values, found: [Ok(Some(flow)), Ok(None)] }
    }

    /// Returns an action on a flow that the plugin identifies by values, and its entry.
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
        let ruling = self.judged(tenant, grants, row(&self.shown), row(&self.values));
        self.assert_proposed(tenant, grants, &ruling);
        ruling
    }

    fn judged(
        &self,
        tenant: &Tenant,
        grants: &Grants,
        target: Option<(&Flows, usize)>,
        values: Option<(&Flows, usize)>,
    ) -> Result<Approval, Refusal> {
        let authority = Authority { scope: &tenant.scope, grants, bounds: &tenant.bounds };
        let case = Proposal::new(authority, self.kind, target, values)?;
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

/// Placeholders for addresses and networks, with their values in IPv4 and IPv6.
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

/// Returns the line of a UDP flow, with more words after its tuples.
fn udp(from: &str, to: &str, more: &str) -> String {
    format!("udp 17 100 src={from} dst={to} sport=4000 dport=53 src={to} dst={from} sport=53 dport=4000 {more} use=1")
}

/// A case: its description, the reason of the refusal (empty if it is allowed), the scope and the attempt.
type Case = (&'static str, &'static str, &'static str, Attempt);

fn run(cases: Vec<Case>, family: &[(&str, &str)]) {
    for (name, word, scope, attempt) in cases {
        let tenant = tenant(&filled(scope, family), KEYS, GRANTS);
        assert_eq!(attempt.word(&tenant), word, "{name}, {}", family[0].1);
    }
}

/// Returns a guard with an audit in this directory.
fn guard(tenant: &Tenant, directory: &std::path::Path, halted: bool) -> TenantGuard {
    TenantGuard::new(tenant, 1, None, audit(directory, 1 << 20), &[], Arc::new(move || halted))
}

/// Returns an audit of two files with a maximum size in bytes.
fn audit(directory: &std::path::Path, size: u64) -> Arc<Audit> {
    let rotation = Rotation { size: Some(size), interval: None, keep: 1, keep_time: None, compress: false };
    let options = FileOptions {
        path: directory.join("audit"),
        append: true,
        mode: None,
        rotation: Some(rotation),
        trust: flowgate_base::files::Trust::Exclusive,
    };
    Arc::new(Audit::open(options, Duration::from_secs(3600), flowgate_base::Warnings::ignored()).unwrap())
}

/// Returns a number of deletions of a flow whose values have a helper of this length.
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

/// Returns a creation in scope.
fn creation() -> Requests<Flows> {
    let Row(values) = named(&udp("10.1.0.5", "192.0.2.1", "zone=7")).timeout(60);
    let actions = Actions { kinds: vec![action::CREATE], rows: vec![action::NO_ROW], values: vec![0] };
    Requests { actions, values }
}
