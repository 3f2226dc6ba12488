//! Merging of a flow that exists with the requested one: determines which of the requested values can still be set.
//!
//! The kernel sets no translation, helper or master on a flow that is in its table, and clears no bit of its status
//! (`ctnetlink_change_conntrack`).

use std::net::IpAddr;

use flowgate_model::batch;
use flowgate_model::{Addresses, Flows, at, field, protocol, status};
use flowgate_netlink::{
    Request,
    encode::{
        FlowEntry,
        flows::{self, IfExists},
    },
};

/// A request with fewer values than wanted.
#[derive(Debug)]
pub struct Reduced {
    /// The request; `None` if nothing is left to request.
    pub request: Option<Request>,
    /// The omitted values with the reasons, as texts; empty if the flow already has all requested values.
    pub kept: Vec<String>,
}

/// Bits of the status that an update can set.
const SETTABLE: u32 = status::SEEN_REPLY | status::ASSURED | status::FIXED_TIMEOUT;
/// Fields that an update sends.
const SENT: u64 = field::TIMEOUT
    | field::STATUS
    | field::STATE
    | field::MARK
    | field::LABELS
    | field::ORIGINAL_TCP_FLAGS
    | field::REPLY_TCP_FLAGS
    | field::ORIGINAL_WINDOW_SCALE
    | field::REPLY_WINDOW_SCALE
    | field::ORIGINAL_VTAG
    | field::REPLY_VTAG
    | field::ORIGINAL_SEQUENCE
    | field::REPLY_SEQUENCE
    | field::SYNPROXY
    | field::DCCP;

/// Returns a request that gives the flow in `existing`, a table of one row, the values of a row of `wanted`; `None` if
/// it cannot be built.
pub(crate) fn merge(wanted: &Flows, row: usize, existing: &Flows) -> Option<Reduced> {
    let mut values = batch::copy_row(wanted, row);
    let mut kept = Vec::new();
    let has = *values.has.first()?;
    let mut left = has & SENT;
    translations(&values, existing, &mut kept);
    if has & field::HELPER != 0 && text(&values, Column::Helper) != text(existing, Column::Helper) {
        kept.push(format!(
            "helper {}: the kernel gives helpers to new flows only",
            flowgate_base::text::clean(&String::from_utf8_lossy(&text(&values, Column::Helper)))
        ));
    }
    if has & field::MASTER != 0 && at(&existing.has, 0) & field::MASTER == 0 {
        kept.push("its master: the kernel gives masters to new flows only".into());
    }
    let (asked, there) = (at(&values.status, 0), at(&existing.status, 0));
    if has & field::STATUS != 0 {
        let stay = names(there & !asked & SETTABLE);
        if !stay.is_empty() {
            kept.push(format!("status {stay}: the kernel clears no status of a flow"));
        }
        if asked & !there & status::EXPECTED != 0 && has & field::MASTER == 0 {
            kept.push("status EXPECTED: only a flow with a master has it".into());
        }
        values.status = vec![there | asked & SETTABLE];
    }
    if there & status::FIXED_TIMEOUT != 0 && left & field::TIMEOUT != 0 {
        left &= !field::TIMEOUT;
        // A flow that is saved and restored with a timeout that expires is unchanged.
        if has & field::STATUS == 0 || asked & status::FIXED_TIMEOUT == 0 {
            kept.push("timeout: it is fixed".into());
        }
    }
    if left & field::LABELS != 0 && labels_after(&values, existing) == wide(&text(existing, Column::Labels)) {
        left &= !field::LABELS;
    }
    if left & !field::LABELS_MASK == 0 {
        return Some(Reduced { request: None, kept });
    }
    let masks = field::LABELS_MASK & if left & field::LABELS != 0 { u64::MAX } else { 0 };
    values.has = vec![left | has & (masks | field::PROTOCOL)];
    let request = flows::update(FlowEntry::new(existing, 0).ok()?, FlowEntry::new(&values, 0).ok()?).ok()?;
    Some(Reduced { request: Some(request), kept })
}

/// Returns a request that creates a row of `wanted` without the value that the kernel refused with this error number;
/// `None` if that value cannot be omitted. `orphans`: the master can be omitted.
pub(crate) fn without(wanted: &Flows, row: usize, errno: i32, orphans: bool) -> Option<Reduced> {
    let has = at(&wanted.has, row);
    let (field, kept) = match errno {
        libc::EOPNOTSUPP if has & field::HELPER != 0 => (field::HELPER, "its helper, which this kernel does not know"),
        libc::ENOENT if has & field::MASTER != 0 && orphans => {
            (field::MASTER, "its master, which does not exist, and the status EXPECTED")
        }
        _ => return None,
    };
    let mut wanted = batch::copy_row(wanted, row);
    if let (field::MASTER, Some(status)) = (field, wanted.status.first_mut()) {
        *status &= !status::EXPECTED;
    }
    let entry = FlowEntry::new(&wanted, 0).ok()?.without(field);
    Some(Reduced { request: Some(flows::create(entry, IfExists::Fail).ok()?), kept: vec![kept.to_owned()] })
}

/// Returns the value that an update omits if it fails with this error, all others having been set.
pub(crate) fn left_out(wanted: &Flows, row: usize, errno: i32) -> Option<String> {
    // Labels are set last.
    (errno == libc::ENOSPC && at(&wanted.has, row) & field::LABELS != 0)
        .then(|| "labels: the flow is older than the first rule about labels, and has no room for any".to_owned())
}

/// Adds the translations that differ from those of the existing flow to `kept`.
fn translations(values: &Flows, existing: &Flows, kept: &mut Vec<String>) {
    let of = at(&values.protocol, 0);
    let family = at(&existing.family, 0);
    let has = at(&values.has, 0);
    let nat = values.rare.as_ref().map(|rare| &rare.nat);
    let asked = |destination: u8| {
        let nat = nat?;
        let item = nat.destination.iter().position(|kind| *kind == destination)?;
        Some(((at(&nat.first.hi, item), at(&nat.first.lo, item)), at(&nat.first_port, item)))
    };
    for (destination, bit, name, addresses, words) in [
        (0, field::SOURCE_NAT, "source", &existing.reply.destination, &existing.reply.destination_l4),
        (1, field::DESTINATION_NAT, "destination", &existing.reply.source, &existing.reply.source_l4),
    ] {
        let there = (at(&addresses.hi, 0), at(&addresses.lo, 0));
        // The ICMP identifier is the same in both directions.
        let word = if protocol::is_icmp(of) { at(&existing.reply.source_l4, 0) } else { at(words, 0) };
        if has & bit != 0
            && let Some((address, port)) = asked(destination)
            && (address != there || port != 0 && port != word)
        {
            kept.push(format!(
                "{name} translation: it stays {}, since the kernel translates new flows only",
                shown(there, word, of, family)
            ));
        }
    }
    if has & (field::SOURCE_NAT | field::DESTINATION_NAT) == 0 && has & field::REPLY_ADDRESSES == field::REPLY_ADDRESSES
    {
        let pair = |addresses: &Addresses| (at(&addresses.hi, 0), at(&addresses.lo, 0));
        let reply = |flows: &Flows| {
            let words = [at(&flows.reply.source_l4, 0), at(&flows.reply.destination_l4, 0)];
            (pair(&flows.reply.source), pair(&flows.reply.destination), words)
        };
        let reversed = {
            let words = [at(&values.original.destination_l4, 0), at(&values.original.source_l4, 0)];
            (pair(&values.original.destination), pair(&values.original.source), words)
        };
        // Without a requested reply tuple, it is the reverse of the original tuple.
        let asked = reply(values);
        let words = protocol::has_ports(of) || of == protocol::GRE;
        let same = |a: ((u64, u64), (u64, u64), [u16; 2]), b: ((u64, u64), (u64, u64), [u16; 2])| {
            (a.0, a.1) == (b.0, b.1) && (!words || a.2 == b.2)
        };
        if !same(asked, reversed) && !same(asked, reply(existing)) {
            let (source, destination, [first, second]) = reply(existing);
            kept.push(format!(
                "reply direction: it stays {} to {}",
                shown(source, first, of, family),
                shown(destination, second, of, family)
            ));
        }
    }
}

/// Returns an address with the port or key, for protocols that have one.
fn shown((hi, lo): (u64, u64), word: u16, of: u8, family: u8) -> String {
    let address = match family {
        flowgate_model::family::IPV4 => IpAddr::V4((lo as u32).into()),
        _ => IpAddr::V6((u128::from(hi) << 64 | u128::from(lo)).into()),
    };
    match (address, protocol::has_ports(of) || of == protocol::GRE || protocol::is_icmp(of)) {
        (address, false) => address.to_string(),
        (IpAddr::V4(address), true) => format!("{address}:{word}"),
        (IpAddr::V6(address), true) => format!("[{address}]:{word}"),
    }
}

/// A column of texts.
#[derive(Clone, Copy)]
enum Column {
    Helper,
    Labels,
    LabelsMask,
}

/// Returns the text of the only row.
fn text(flows: &Flows, column: Column) -> Vec<u8> {
    let (bit, column) = match (column, &flows.rare) {
        (_, None) => return Vec::new(),
        (Column::Helper, Some(rare)) => (field::HELPER, &rare.helper),
        (Column::Labels, Some(rare)) => (field::LABELS, &rare.labels),
        (Column::LabelsMask, Some(rare)) => (field::LABELS_MASK, &rare.labels_mask),
    };
    if at(&flows.has, 0) & bit == 0 { Vec::new() } else { batch::text(&column.texts, 0).to_vec() }
}

/// Returns labels as a number.
fn wide(bytes: &[u8]) -> u128 {
    bytes.iter().take(16).enumerate().fold(0, |all, (index, byte)| all | u128::from(*byte) << (8 * index))
}

/// Returns the labels that the flow would have.
fn labels_after(values: &Flows, existing: &Flows) -> u128 {
    let mask = match at(&values.has, 0) & field::LABELS_MASK {
        0 => u128::MAX,
        _ => wide(&text(values, Column::LabelsMask)),
    };
    wide(&text(existing, Column::Labels)) & !mask ^ wide(&text(values, Column::Labels))
}

/// Returns the names of status bits.
fn names(bits: u32) -> String {
    let all =
        [(status::SEEN_REPLY, "SEEN_REPLY"), (status::ASSURED, "ASSURED"), (status::FIXED_TIMEOUT, "FIXED_TIMEOUT")];
    let names: Vec<&str> = all.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowgate_model::{Tuples, put};

    fn flow(bits: u32, reply: u64) -> Flows {
        let one = |lo| Addresses { hi: vec![0], lo: vec![0xffff_0000_0000 | lo] };
        Flows {
            length: 1,
            has: vec![field::TUPLES | field::STATUS | field::TIMEOUT],
            family: vec![2],
            protocol: vec![protocol::UDP],
            status: vec![bits | status::CONFIRMED],
            timeout: vec![60],
            original: Tuples { source: one(1), destination: one(2), source_l4: vec![10], destination_l4: vec![20] },
            reply: Tuples { source: one(2), destination: one(reply), source_l4: vec![20], destination_l4: vec![10] },
            ..Flows::default()
        }
    }

    fn asks_for_source_nat(flows: &mut Flows, lo: u64, port: u16) {
        let nat = &mut flows.rare.get_or_insert_default().nat;
        nat.rows.push(0);
        nat.destination.push(0);
        for addresses in [&mut nat.first, &mut nat.last] {
            addresses.hi.push(0);
            addresses.lo.push(0xffff_0000_0000 | lo);
        }
        nat.first_port.push(port);
        nat.last_port.push(port);
        flows.has[0] |= field::SOURCE_NAT;
    }

    #[test]
    fn what_is_so_already_is_not_reported() {
        let there = flow(status::SEEN_REPLY | status::SRC_NAT, 9);
        let mut wanted = flow(status::SEEN_REPLY, 1);
        asks_for_source_nat(&mut wanted, 9, 10);
        let merged = merge(&wanted, 0, &there).unwrap();
        assert!(merged.kept.is_empty() && merged.request.is_some(), "{:?}", merged.kept);
        // A fixed timeout that expires.
        let fixed = flow(status::FIXED_TIMEOUT, 1);
        let merged = merge(&fixed, 0, &fixed).unwrap();
        assert!(merged.kept.is_empty(), "{:?}", merged.kept);
    }

    #[test]
    fn what_the_kernel_does_not_change_is_reported() {
        let there = flow(status::SEEN_REPLY | status::ASSURED | status::FIXED_TIMEOUT, 9);
        let mut wanted = flow(status::EXPECTED, 1);
        asks_for_source_nat(&mut wanted, 8, 0);
        batch::push_sparse(&mut wanted.rare.get_or_insert_default().helper, 0, b"ftp");
        wanted.has[0] |= field::HELPER;
        let kept = merge(&wanted, 0, &there).unwrap().kept;
        let starts: Vec<&str> = kept.iter().filter_map(|text| text.split(':').next()).collect();
        let status = "status SEEN_REPLY,ASSURED,FIXED_TIMEOUT";
        assert_eq!(starts, ["source translation", "helper ftp", status, "status EXPECTED", "timeout"]);
        assert!(kept[0].contains("0.0.0.9:10"), "{kept:?}");
        // A requested reply tuple that differs from the existing one.
        let mut wanted = flow(0, 7);
        wanted.has[0] &= !(field::STATUS | field::TIMEOUT);
        let merged = merge(&wanted, 0, &flow(0, 9)).unwrap();
        assert!(merged.request.is_none() && merged.kept[0].starts_with("reply direction"), "{:?}", merged.kept);
    }

    #[test]
    fn labels_are_sent_where_they_differ() {
        let labelled = |labels: u128, mask: Option<u128>| {
            let mut flows = flow(0, 1);
            flows.has[0] = field::TUPLES | field::LABELS;
            let rare = flows.rare.get_or_insert_default();
            batch::push_sparse(&mut rare.labels, 0, &labels.to_le_bytes());
            if let Some(mask) = mask {
                batch::push_sparse(&mut rare.labels_mask, 0, &mask.to_le_bytes());
                flows.has[0] |= field::LABELS_MASK;
            }
            flows
        };
        let sends = |wanted: &Flows, there: &Flows| merge(wanted, 0, there).unwrap().request.is_some();
        assert!(!sends(&labelled(5, None), &labelled(5, None)));
        assert!(sends(&labelled(1, None), &labelled(5, None)));
        assert!(!sends(&labelled(1, Some(1)), &labelled(5, None)));
        assert!(sends(&labelled(2, Some(2)), &labelled(5, None)));
        assert!(left_out(&labelled(1, None), 0, libc::ENOSPC).is_some());
        assert!(left_out(&flow(0, 1), 0, libc::ENOSPC).is_none());
    }

    #[test]
    fn a_flow_is_made_without_what_there_is_not() {
        let mut wanted = flow(status::EXPECTED, 1);
        batch::push_sparse(&mut wanted.rare.get_or_insert_default().helper, 0, b"ftp");
        let masters = &mut wanted.rare.get_or_insert_default().master;
        masters.rows.push(0);
        put(&mut masters.protocol, 0, protocol::TCP);
        wanted.has[0] |= field::HELPER | field::MASTER;
        assert!(without(&wanted, 0, libc::EOPNOTSUPP, false).is_some());
        assert!(without(&wanted, 0, libc::ENOENT, false).is_none());
        assert!(without(&wanted, 0, libc::ENOENT, true).is_some());
        assert!(without(&flow(0, 1), 0, libc::EOPNOTSUPP, true).is_none());
    }
}
