//! Requests actions in arbitrary form, as specified by `act=WORD KEY=VALUE ...`, for the first flow that it sees. The
//! results go into the log.
//!
//! WORD is `delete`, `update`, `create`, `create-or-update` or a number. With `shown` the action is on the flow in the
//! batch, otherwise on the flow described by the keys. `log TEXT` only logs the text. `times=N` requests the action N
//! times in one call, `count=N` for N flows with consecutive source ports, `again` in every call and not only in the
//! first; `loop` never returns.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a wrong test is a failed test")]

use std::net::IpAddr;

use flowgate_sdk::{
    Outcome, action,
    bindings::flowgate::conntrack::{
        action::Actions,
        columns::{Addresses, SparseTexts, Texts},
        flow::{Rare, Tcp, Translations, Tuples, Zones},
    },
    prelude::*,
};

struct Attacker {
    act: String,
    done: bool,
}

impl Plugin for Attacker {
    fn describe() -> Description {
        Description::new("attacker", "1.0.0", "Attacks other tenants").option(
            "act",
            "WORDS",
            "what to ask for",
            Some(""),
        )
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        Ok(Attacker { act: setup.text("act").unwrap_or_default().to_string(), done: false })
    }
}

impl FlowStage for Attacker {
    fn process(&mut self, batch: &Flows) -> Outcome {
        services::info(format!("rows {} {:x?}", batch.length, batch.original.source.lo));
        if std::mem::replace(&mut self.done, true) && !self.act.contains(" again") || self.act.is_empty() {
            return Outcome::default();
        }
        if let Some(text) = self.act.strip_prefix("log ") {
            services::warn(text);
            return Outcome::default();
        }
        attack(&self.act)
    }
}

impl ActionResults for Attacker {
    fn learn(&mut self, results: &Results) {
        let count = results.results.len();
        let first = (results.results.first(), results.errors.first());
        services::info(format!("received {count} results: {first:?}"));
    }
}

/// Parses a number, decimal or with `0x`.
fn number(text: &str) -> u64 {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
        None => text.parse().unwrap(),
    }
}

fn address(text: &str) -> (Addresses, u8) {
    let (bits, family) = match text.parse().unwrap() {
        IpAddr::V4(address) => (address.to_ipv6_mapped().to_bits(), 2),
        IpAddr::V6(address) => (address.to_bits(), 10),
    };
    (Addresses { hi: vec![(bits >> 64) as u64], lo: vec![bits as u64] }, family)
}

fn text(bytes: &[u8]) -> SparseTexts {
    SparseTexts { rows: vec![0], texts: Texts { ends: vec![bytes.len() as u32], bytes: bytes.to_vec() } }
}

fn labels(bits: &str) -> SparseTexts {
    let mut all = [0u8; 16];
    for bit in bits.split('|') {
        let bit = number(bit) as usize;
        all[bit / 8] |= 1 << (bit % 8);
    }
    text(&all)
}

fn attack(act: &str) -> Outcome {
    let mut words = act.split(' ');
    let kind = match words.next().unwrap() {
        "loop" => loop {
            std::hint::black_box(());
        },
        "delete" => action::DELETE,
        "update" => action::UPDATE,
        "create" => action::CREATE,
        "create-or-update" => action::CREATE_OR_UPDATE,
        other => number(other) as u8,
    };
    let none = || Addresses { hi: vec![0], lo: vec![0] };
    let tuples = || Tuples { source: none(), destination: none(), source_l4: vec![0], destination_l4: vec![0] };
    let mut flow = Flows {
        length: 1,
        has: vec![0],
        family: vec![2],
        protocol: vec![17],
        original: tuples(),
        reply: tuples(),
        status: vec![0],
        timeout: vec![0],
        mark: vec![0],
        use_count: vec![0],
        id: vec![0],
        state: vec![0],
        ..Flows::default()
    };
    let (mut has, mut shown, mut times, mut count) = (0, false, 1, 1u16);
    let (mut zones, mut rare) = (Zones { zone: vec![0], original: vec![0], reply: vec![0] }, Rare::default());
    rare.secmark = vec![0];
    rare.mark_mask = vec![0];
    let mut nat = Translations::default();
    let mut tcp = Tcp {
        original_window_scale: vec![0],
        reply_window_scale: vec![0],
        original_flags: vec![0],
        reply_flags: vec![0],
    };
    /// Sets a field of the flow, and the bit for its presence.
    macro_rules! set {
        ($place:expr => $value:expr, $fields:expr) => {{
            $place = $value;
            has |= $fields;
        }};
    }
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "shown" => shown = true,
            "times" => times = number(value) as usize,
            "count" => count = number(value) as u16,
            "again" => {}
            "proto" => set!(flow.protocol[0] => number(value) as u8, field::PROTOCOL),
            "src" => set!((flow.original.source, flow.family[0]) => address(value), field::SOURCE | field::PROTOCOL),
            "dst" => set!(flow.original.destination => address(value).0, field::DESTINATION),
            "sport" => set!(flow.original.source_l4[0] => number(value) as u16, field::SOURCE_L4),
            "dport" => set!(flow.original.destination_l4[0] => number(value) as u16, field::DESTINATION_L4),
            "rsrc" => set!(flow.reply.source => address(value).0, field::REPLY_SOURCE | field::REPLY_PROTOCOL),
            "rdst" => set!(flow.reply.destination => address(value).0, field::REPLY_DESTINATION),
            "rsport" => set!(flow.reply.source_l4[0] => number(value) as u16, field::REPLY_SOURCE_L4),
            "rdport" => set!(flow.reply.destination_l4[0] => number(value) as u16, field::REPLY_DESTINATION_L4),
            "zone" => set!(zones.zone[0] => number(value) as u16, field::ZONE),
            "ozone" => set!(zones.original[0] => number(value) as u16, field::ORIGINAL_ZONE),
            "rzone" => set!(zones.reply[0] => number(value) as u16, field::REPLY_ZONE),
            "id" => set!(flow.id[0] => number(value) as u32, field::ID),
            "mark" => set!(flow.mark[0] => number(value) as u32, field::MARK),
            "mask" => set!(rare.mark_mask[0] => number(value) as u32, field::MARK_MASK),
            "timeout" => set!(flow.timeout[0] => number(value) as u32, field::TIMEOUT),
            "status" => set!(flow.status[0] => number(value) as u32, field::STATUS),
            "state" => set!(flow.state[0] => number(value) as u8, field::STATE),
            "labels" => set!(rare.labels => labels(value), field::LABELS),
            "labels-mask" => set!(rare.labels_mask => labels(value), field::LABELS_MASK),
            "labels-bytes" => {
                for set in [&mut rare.labels.texts, &mut rare.labels_mask.texts] {
                    set.bytes.truncate(number(value) as usize);
                    set.ends = vec![set.bytes.len() as u32];
                }
            }
            "helper" => {
                set!(rare.helper => text(value.replace("\\n", "\n").replace("\\e", "\x1b").as_bytes()), field::HELPER)
            }
            // Texts of the given length. With `big` each byte needs six in JSON and the flow has the field; with `bulk`
            // it does not.
            "big" => set!(rare.helper => text(&vec![1; number(value) as usize]), field::HELPER),
            "bulk" => rare.helper = text(&vec![b'x'; number(value) as usize]),
            "scale" => {
                tcp.reply_window_scale[0] = number(value) as u8;
                has |= field::REPLY_WINDOW_SCALE;
            }
            "snat" | "dnat" => {
                let (first, last) = value.split_once('-').unwrap_or((value, value));
                nat.rows.push(0);
                nat.destination.push(u8::from(key == "dnat"));
                for (to, from) in [(&mut nat.first, first), (&mut nat.last, last)] {
                    let from = address(from).0;
                    to.hi.extend(from.hi);
                    to.lo.extend(from.lo);
                }
                nat.first_port.push(0);
                nat.last_port.push(0);
                has |= if key == "snat" { field::SOURCE_NAT } else { field::DESTINATION_NAT };
            }
            "nat-ports" => {
                let (first, last) = value.split_once('-').unwrap();
                (nat.first_port, nat.last_port) = (vec![number(first) as u16], vec![number(last) as u16]);
            }
            "master" => {
                let master = &mut rare.master;
                master.rows.push(0);
                master.protocol.push(17);
                master.tuple = tuples();
                master.tuple.source = address(value).0;
                master.tuple.destination = address("192.0.2.1").0;
                master.tuple.source_l4 = vec![1001];
                master.tuple.destination_l4 = vec![53];
                master.zone.push(8);
                has |= field::MASTER;
            }
            other => services::error(format!("no key {other}")),
        }
    }
    rare.nat = nat;
    flow.has[0] = has;
    flow.zones = Some(zones);
    flow.rare = Some(rare);
    flow.tcp = Some(tcp);
    if count > 1 {
        return many(flow, kind, count);
    }
    let (row, value) = match (shown, has) {
        (true, 0) => (0, action::NO_ROW),
        (true, _) => (0, 0),
        (false, _) => (action::NO_ROW, 0),
    };
    let actions = Actions { kinds: vec![kind; times], rows: vec![row; times], values: vec![value; times] };
    Outcome { actions: Some(actions), values: Some(flow), ..Outcome::default() }
}

/// Returns the same action on flows with consecutive source ports.
fn many(mut flow: Flows, kind: u8, count: u16) -> Outcome {
    fn repeat<T: Copy>(column: &mut Vec<T>, count: u16) {
        if let Some(&first) = column.first() {
            column.resize(count.into(), first);
        }
    }
    let tuples = |tuples: &mut Tuples| {
        for addresses in [&mut tuples.source, &mut tuples.destination] {
            repeat(&mut addresses.hi, count);
            repeat(&mut addresses.lo, count);
        }
        repeat(&mut tuples.source_l4, count);
        repeat(&mut tuples.destination_l4, count);
    };
    tuples(&mut flow.original);
    tuples(&mut flow.reply);
    for row in 0..count {
        flow.original.source_l4[usize::from(row)] += row;
        flow.reply.destination_l4[usize::from(row)] += row;
    }
    repeat(&mut flow.has, count);
    for column in [&mut flow.family, &mut flow.protocol, &mut flow.state] {
        repeat(column, count);
    }
    for column in [&mut flow.status, &mut flow.timeout, &mut flow.mark, &mut flow.use_count, &mut flow.id] {
        repeat(column, count);
    }
    let zones = flow.zones.as_mut().unwrap();
    for column in [&mut zones.zone, &mut zones.original, &mut zones.reply] {
        repeat(column, count);
    }
    (flow.rare, flow.tcp, flow.length) = (None, None, count.into());
    let count = usize::from(count);
    let actions =
        Actions { kinds: vec![kind; count], rows: vec![action::NO_ROW; count], values: (0..count as u32).collect() };
    Outcome { actions: Some(actions), values: Some(flow), ..Outcome::default() }
}

flowgate_sdk::stage!(Attacker, results);
