//! What is to be set in one flow.

use flowgate_sdk::{AddressRange, Flow, Flows, bindings::flowgate::conntrack::flow::Rare, field, protocol};

/// Values for one flow. What is absent stays as it is.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Values {
    family: u8,
    protocol: u8,
    timeout: Option<u32>,
    status: Option<u32>,
    /// Value and mask: the new mark is `(old & !mask) ^ value`.
    mark: Option<(u32, u32)>,
    state: Option<u8>,
    /// Flags times 256 plus mask, of both directions.
    tcp_flags: Option<u16>,
    vtags: (Option<u32>, Option<u32>),
    /// Bits and mask.
    labels: Option<(Vec<u8>, Vec<u8>)>,
    /// Address and port to translate the source and the destination to.
    nat: (Option<Target>, Option<Target>),
}

/// Where a translation leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    first: u128,
    last: u128,
    ports: (u16, u16),
}

/// The values that the template gives this flow; none if it has them already.
///
/// Labels that are added, and addresses that are translated, are asked for in any case; labels that are removed, only from a
/// flow that has any.
pub fn of(flow: &Flow<'_>, template: &Flow<'_>) -> Option<Values> {
    let mut values = Values { family: flow.family(), protocol: flow.protocol(), ..Values::default() };
    let mut changes = false;

    if let Some(timeout) = template.timeout() {
        values.timeout = Some(timeout);
        changes |= flow.timeout() != Some(timeout);
    }
    if let Some(mark) = template.mark() {
        let mask = template.mark_mask().unwrap_or(u32::MAX);
        let old = flow.mark().unwrap_or(0);
        values.mark = Some((mark, mask));
        changes |= (old & !mask) ^ mark != old;
    }
    if let Some(bits) = template.status() {
        let old = flow.status().unwrap_or(0);
        values.status = Some(old | bits);
        changes |= old | bits != old;
    }
    if let Some(state) = template.state().filter(|_| template.protocol() == flow.protocol()) {
        values.state = Some(state);
        changes |= flow.state() != Some(state);
    }
    if flow.protocol() == protocol::TCP
        && let (Some((flags, mask)), _) = template.tcp_flags()
    {
        // Only heard together with a state, and never a reason to ask.
        values.tcp_flags = values.state.map(|_| u16::from(flags) << 8 | u16::from(mask));
    }
    if flow.protocol() == protocol::SCTP {
        values.vtags = template.vtags();
        changes |= values.vtags != (None, None);
    }
    if let Some(bits) = template.labels() {
        let mask = template.labels_mask().unwrap_or(bits);
        if let Some(labels) = labels(flow.labels(), bits, mask) {
            values.labels = Some(labels);
            changes = true;
        }
    }
    values.nat = (template.source_nat().map(target), template.destination_nat().map(target));
    changes |= values.nat != (None, None);
    changes.then_some(values)
}

/// The labels to send, and their mask, as long as what the flow has. Nothing is to be removed from a flow without labels.
fn labels(old: Option<&[u8]>, bits: &[u8], mask: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let adds = bits.iter().any(|&byte| byte != 0);
    if old.is_none() && !adds {
        return None;
    }
    // Bit sets of the kernel are a whole number of 32-bit words, and 16 bytes at present.
    let length = old.map_or(0, <[u8]>::len).max(16).next_multiple_of(4);
    let long = |bits: &[u8]| {
        let mut bits = bits.to_vec();
        bits.resize(length, 0);
        bits
    };
    // A mask that is all ones means all labels, however many there are.
    let all = !mask.is_empty() && mask.iter().all(|&byte| byte == 0xff);
    Some((long(bits), if all { vec![0xff; length] } else { long(mask) }))
}

fn target(range: AddressRange) -> Target {
    Target { first: range.first, last: range.last, ports: (range.first_port, range.last_port) }
}

impl Values {
    /// Appends the values as a row.
    pub fn append_to(self, table: &mut Flows) {
        let row = table.length;
        let mut has = 0;
        let mut given = |bit: u64, given: bool| {
            if given {
                has |= bit;
            }
        };
        given(field::PROTOCOL, true);
        given(field::TIMEOUT, self.timeout.is_some());
        given(field::STATUS, self.status.is_some());
        given(field::MARK | field::MARK_MASK, self.mark.is_some());
        given(field::STATE, self.state.is_some());
        given(field::ORIGINAL_TCP_FLAGS | field::REPLY_TCP_FLAGS, self.tcp_flags.is_some());
        given(field::ORIGINAL_VTAG, self.vtags.0.is_some());
        given(field::REPLY_VTAG, self.vtags.1.is_some());
        given(field::LABELS | field::LABELS_MASK, self.labels.is_some());
        given(field::SOURCE_NAT, self.nat.0.is_some());
        given(field::DESTINATION_NAT, self.nat.1.is_some());

        table.length += 1;
        table.has.push(has);
        table.family.push(self.family);
        table.protocol.push(self.protocol);
        table.timeout.push(self.timeout.unwrap_or_default());
        table.status.push(self.status.unwrap_or_default());
        table.state.push(self.state.unwrap_or_default());
        let (mark, mask) = self.mark.unwrap_or_default();
        table.mark.push(mark);
        let tcp = table.tcp.get_or_insert_default();
        tcp.original_flags.push(self.tcp_flags.unwrap_or_default());
        tcp.reply_flags.push(self.tcp_flags.unwrap_or_default());
        let sctp = table.sctp.get_or_insert_default();
        sctp.original_vtag.push(self.vtags.0.unwrap_or_default());
        sctp.reply_vtag.push(self.vtags.1.unwrap_or_default());
        let rare = table.rare.get_or_insert_default();
        rare.mark_mask.push(mask);
        if let Some((bits, mask)) = &self.labels {
            rare.labels.push(row as usize, bits);
            rare.labels_mask.push(row as usize, mask);
        }
        for (destination, target) in [(0, self.nat.0), (1, self.nat.1)] {
            if let Some(target) = target {
                translate(rare, row, destination, target);
            }
        }
    }
}

fn translate(rare: &mut Rare, row: u32, destination: u8, target: Target) {
    let nat = &mut rare.nat;
    nat.rows.push(row);
    nat.destination.push(destination);
    for (column, bits) in [(&mut nat.first, target.first), (&mut nat.last, target.last)] {
        column.hi.push((bits >> 64) as u64);
        column.lo.push(bits as u64);
    }
    nat.first_port.push(target.ports.0);
    nat.last_port.push(target.ports.1);
}
