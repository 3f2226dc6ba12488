//! Actions in the words of conntrack's command line, for people: `conntrack -D -p tcp -s ... -d ...`.
//!
//! Where the command line has no word for a value (TCP flags, window scales, sequence numbers, the SYN proxy, helpers, opaque
//! data), it is named in a comment at the end.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::batch;
use crate::model::{
    Addresses, Expectations, Flows, SparseTexts, Tuples, action, expectation_field, family, field, protocol, state,
    status,
};

/// Values that the command line has no option for.
const WORDLESS: [(u64, &str); 11] = [
    (field::ORIGINAL_WINDOW_SCALE, "window scale"),
    (field::REPLY_WINDOW_SCALE, "window scale of the reply"),
    (field::ORIGINAL_TCP_FLAGS, "TCP flags"),
    (field::REPLY_TCP_FLAGS, "TCP flags of the reply"),
    (field::HELPER, "helper"),
    (field::HELPER_INFO, "helper's data"),
    (field::MASTER, "master"),
    (field::ORIGINAL_SEQUENCE, "sequence adjustment"),
    (field::REPLY_SEQUENCE, "sequence adjustment of the reply"),
    (field::SYNPROXY, "SYN proxy"),
    (field::SECURITY_CONTEXT, "security context"),
];

/// An action on a flow: `target` is the row of the batch, `values` the row that says what is to be set, made or meant.
#[must_use]
pub fn flow(kind: u8, target: Option<(&Flows, usize)>, values: Option<(&Flows, usize)>) -> String {
    let mut line = format!("conntrack {}", letter(kind));
    let meant = target.or(values);
    match kind {
        action::CREATE | action::CREATE_OR_UPDATE => {
            if let Some((flows, row)) = values.or(target) {
                key(&mut line, flows, row, true);
                settings(&mut line, flows, row);
            }
        }
        _ => {
            if let Some((flows, row)) = meant {
                key(&mut line, flows, row, false);
            }
            if let (action::UPDATE, Some((flows, row))) = (kind, values) {
                settings(&mut line, flows, row);
            }
        }
    }
    line
}

/// An action on an expectation, by the same rules.
#[must_use]
pub fn expectation(kind: u8, target: Option<(&Expectations, usize)>, values: Option<(&Expectations, usize)>) -> String {
    let mut line = format!("conntrack {} expect", letter(kind));
    let meant = if kind == action::DELETE { target.or(values) } else { values.or(target) };
    let Some((rows, row)) = meant else { return line };
    let has = rows.has.get(row).copied().unwrap_or_default();
    let of = rows.family.get(row).copied().unwrap_or_default();
    let number = rows.protocol.get(row).copied().unwrap_or_default();
    if has & expectation_field::TIMEOUT != 0 && kind != action::DELETE {
        let _ = write!(line, " -t {}", at(&rows.timeout, row));
    }
    if kind != action::DELETE && has & expectation_field::MASTER != 0 {
        addresses(&mut line, &rows.master, row, of, ["-s", "-d"]);
    }
    let _ = write!(line, " -p {}", protocol_word(number));
    if has & expectation_field::EXPECTED != 0 {
        addresses(&mut line, &rows.expected, row, of, ["--tuple-src", "--tuple-dst"]);
    }
    if kind != action::DELETE && has & expectation_field::MASK != 0 {
        addresses(&mut line, &rows.mask, row, of, ["--mask-src", "--mask-dst"]);
    }
    let l4 = if kind == action::DELETE { expectation_field::EXPECTED_L4 } else { expectation_field::MASTER_L4 };
    if has & l4 != 0 {
        let tuple = if kind == action::DELETE { &rows.expected } else { &rows.master };
        words(&mut line, tuple, row, number, false, [true, true]);
    }
    if has & expectation_field::ZONE != 0 {
        let _ = write!(line, " -w {}", at(&rows.zone, row));
    }
    line
}

fn letter(kind: u8) -> String {
    match kind {
        action::DELETE => "-D".into(),
        action::UPDATE => "-U".into(),
        action::CREATE => "-I".into(),
        action::CREATE_OR_UPDATE => "-A".into(),
        other => format!("(the unknown action {other})"),
    }
}

fn at<T: Copy + Default>(column: &[T], row: usize) -> T {
    column.get(row).copied().unwrap_or_default()
}

fn protocol_word(number: u8) -> String {
    protocol::name(number).map_or_else(|| number.to_string(), str::to_string)
}

fn address(column: &Addresses, row: usize, of: u8) -> String {
    let (hi, lo) = (at(&column.hi, row), at(&column.lo, row));
    if of == family::IPV4 {
        // The lower 32 bits of the mapped form.
        Ipv4Addr::from_bits(lo as u32).to_string()
    } else {
        Ipv6Addr::from_bits(u128::from(hi) << 64 | u128::from(lo)).to_string()
    }
}

fn addresses(line: &mut String, tuples: &Tuples, row: usize, of: u8, [source, destination]: [&str; 2]) {
    let _ = write!(line, " {source} {}", address(&tuples.source, row, of));
    let _ = write!(line, " {destination} {}", address(&tuples.destination, row, of));
}

/// The layer-4 words of a direction, as far as they are there.
fn words(line: &mut String, tuples: &Tuples, row: usize, number: u8, reply: bool, [first, second]: [bool; 2]) {
    let (source, destination) = (at(&tuples.source_l4, row), at(&tuples.destination_l4, row));
    if protocol::is_icmp(number) {
        let name = if number == protocol::ICMP { "icmp" } else { "icmpv6" };
        if !reply && second {
            let _ = write!(line, " --{name}-type {} --{name}-code {}", destination >> 8, destination & 0xff);
        }
        if !reply && first {
            let _ = write!(line, " --{name}-id {source}");
        }
        return;
    }
    let names = match (number, reply) {
        (protocol::GRE, false) => ["--srckey", "--dstkey"],
        (protocol::GRE, true) => ["--reply-key-src", "--reply-key-dst"],
        (_, false) => ["--sport", "--dport"],
        (_, true) => ["--reply-port-src", "--reply-port-dst"],
    };
    for (name, word, there) in [(names[0], source, first), (names[1], destination, second)] {
        if there {
            let _ = write!(line, " {name} {word}");
        }
    }
}

/// Protocol, tuple and zone: the original tuple, or the reply tuple if only that is there; both for a flow that is made.
fn key(line: &mut String, flows: &Flows, row: usize, both: bool) {
    let has = at(&flows.has, row);
    let of = at(&flows.family, row);
    let number = at(&flows.protocol, row);
    if has & (field::PROTOCOL | field::REPLY_PROTOCOL) != 0 {
        let _ = write!(line, " -p {}", protocol_word(number));
    }
    let original = has & field::ORIGINAL_ADDRESSES != 0;
    for (reply, bits, tuples, names, l4) in [
        (false, field::ORIGINAL_ADDRESSES, &flows.original, ["-s", "-d"], [field::SOURCE_L4, field::DESTINATION_L4]),
        (
            true,
            field::REPLY_ADDRESSES,
            &flows.reply,
            ["-r", "-q"],
            [field::REPLY_SOURCE_L4, field::REPLY_DESTINATION_L4],
        ),
    ] {
        if has & bits == 0 || (reply && original && !both) {
            continue;
        }
        addresses(line, tuples, row, of, names);
        words(line, tuples, row, number, reply, l4.map(|bit| has & bit != 0));
    }
    if let Some(zones) = &flows.zones {
        for (bit, name, column) in [
            (field::ZONE, "-w", &zones.zone),
            (field::ORIGINAL_ZONE, "--orig-zone", &zones.original),
            (field::REPLY_ZONE, "--reply-zone", &zones.reply),
        ] {
            if has & bit != 0 {
                let _ = write!(line, " {name} {}", at(column, row));
            }
        }
    }
}

/// What is to be set.
fn settings(line: &mut String, flows: &Flows, row: usize) {
    let has = at(&flows.has, row);
    let number = at(&flows.protocol, row);
    if has & field::TIMEOUT != 0 {
        let _ = write!(line, " -t {}", at(&flows.timeout, row));
    }
    let rare = flows.rare.as_ref();
    if has & field::MARK != 0 {
        let _ = write!(line, " -m {}", at(&flows.mark, row));
        let mask = rare.map_or(u32::MAX, |rare| at(&rare.mark_mask, row));
        if has & field::MARK_MASK != 0 && mask != u32::MAX {
            let _ = write!(line, "/{mask:#x}");
        }
    }
    if has & field::STATUS != 0 {
        let bits = at(&flows.status, row);
        let names: Vec<&str> = status::NAMES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
        let _ = write!(line, " -u {}", if names.is_empty() { "UNSET".to_string() } else { names.join(",") });
    }
    if has & field::STATE != 0 {
        let value = at(&flows.state, row);
        match state::name(number, value).or_else(|| state::name(protocol::TCP, value)) {
            Some(name) => line.push_str(&format!(" --state {name}")),
            None => line.push_str(&format!(" --state {value}")),
        }
    }
    if let Some(sctp) = &flows.sctp {
        for (bit, name, column) in [
            (field::ORIGINAL_VTAG, "--orig-vtag", &sctp.original_vtag),
            (field::REPLY_VTAG, "--reply-vtag", &sctp.reply_vtag),
        ] {
            if has & bit != 0 {
                // conntrack takes the tag with its bytes reversed.
                let _ = write!(line, " {name} {}", at(column, row).swap_bytes());
            }
        }
    }
    if let Some(rare) = rare {
        translations(line, flows, row);
        if has & field::LABELS != 0 {
            labels(line, &rare.labels, &rare.labels_mask, row, has & field::LABELS_MASK != 0);
        }
    }
    let others: Vec<&str> = WORDLESS.iter().filter(|(bit, _)| has & bit != 0).map(|(_, name)| *name).collect();
    if !others.is_empty() {
        let _ = write!(line, " # and: {}", others.join(", "));
    }
}

/// Source and destination translation that a new flow gets.
fn translations(line: &mut String, flows: &Flows, row: usize) {
    let Some(nat) = flows.rare.as_ref().map(|rare| &rare.nat) else { return };
    let of = at(&flows.family, row);
    for (item, _) in nat.rows.iter().enumerate().filter(|(_, of)| **of as usize == row) {
        let option = if at(&nat.destination, item) == 0 { "-n" } else { "-g" };
        let to = address(&nat.first, item, of);
        match (at(&nat.first_port, item), of) {
            (0, _) => line.push_str(&format!(" {option} {to}")),
            (port, family::IPV4) => line.push_str(&format!(" {option} {to}:{port}")),
            (port, _) => line.push_str(&format!(" {option} [{to}]:{port}")),
        }
    }
}

/// Labels by number: those that are added, and of a mask those that are taken away.
fn labels(line: &mut String, labels: &SparseTexts, masks: &SparseTexts, row: usize, masked: bool) {
    let set = |column: &SparseTexts| {
        let item = column.rows.iter().position(|&of| of as usize == row);
        item.map(|item| batch::text(&column.texts, item).to_vec()).unwrap_or_default()
    };
    let (bits, mask) = (set(labels), if masked { set(masks) } else { Vec::new() });
    let is_set = |set: &[u8], bit: usize| set.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 != 0);
    let width = bits.len().max(mask.len()) * 8;
    let list = |wanted: &dyn Fn(usize) -> bool| {
        (0..width).filter(|&bit| wanted(bit)).map(|bit| bit.to_string()).collect::<Vec<_>>().join(",")
    };
    let added = list(&|bit| is_set(&bits, bit));
    let removed = list(&|bit| !is_set(&bits, bit) && is_set(&mask, bit));
    for (option, numbers) in [
        ("-l", if masked { "" } else { &added }),
        ("--label-add", if masked { &added } else { "" }),
        ("--label-del", &removed),
    ] {
        if !numbers.is_empty() {
            let _ = write!(line, " {option} {numbers}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn flows(text: &str) -> Flows {
        fixture::flows("test", text.as_bytes(), &[]).unwrap()
    }

    #[test]
    fn actions_read_like_command_lines() {
        let batch = flows(
            "tcp 6 10 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 src=10.0.0.2 dst=10.0.0.1 sport=2 dport=1 zone=7\n\
             icmp 1 10 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=3 src=10.0.0.2 dst=10.0.0.1 type=0 code=0 id=3\n",
        );
        let row = |row| Some((&batch, row));
        assert_eq!(
            flow(action::DELETE, row(0), None),
            "conntrack -D -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 2 -w 7"
        );
        assert_eq!(
            flow(action::DELETE, row(1), None),
            "conntrack -D -p icmp -s 10.0.0.1 -d 10.0.0.2 --icmp-type 8 --icmp-code 0 --icmp-id 3"
        );
        let mut values =
            Flows { length: 1, has: vec![field::MARK | field::MARK_MASK | field::TIMEOUT], ..Flows::default() };
        values.mark = vec![16];
        values.timeout = vec![30];
        values.rare.get_or_insert_default().mark_mask = vec![0xf0];
        assert_eq!(
            flow(action::UPDATE, row(1), Some((&values, 0))),
            "conntrack -U -p icmp -s 10.0.0.1 -d 10.0.0.2 --icmp-type 8 --icmp-code 0 --icmp-id 3 -t 30 -m 16/0xf0"
        );
        let made = flow(action::CREATE, None, row(0));
        assert!(
            made.starts_with("conntrack -I -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 2 -r 10.0.0.2"),
            "{made}"
        );
        assert!(made.ends_with("-t 10 -u SEEN_REPLY,CONFIRMED --state ESTABLISHED"), "{made}");
        assert_eq!(flow(9, row(5), None), "conntrack (the unknown action 9)");
    }
}
