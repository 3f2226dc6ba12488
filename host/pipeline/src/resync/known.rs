//! The state of the table according to the events of a stream. Each flow takes 80 bytes, so that a map of them takes 93
//! to 185 bytes per flow, and 48 more for a flow with translated addresses.

use std::collections::HashMap;

use flowgate_model::{Addresses, Events, Flows, Zones, at, batch, event, field};

/// The presence bits that are kept unchanged: those of the tuples and zones.
const KEPT: u64 = field::TUPLES | field::ZONES;
/// Represents [`field::STATE`] among the kept bits.
const STATE: u16 = 1 << 13;
/// Set if all values are known, from a NEW event or from the table. The first event of a flow may be an UPDATE, which
/// contains only changes.
const WHOLE: u16 = 1 << 14;
/// Set if the flow was taken from the table at the start, and the stream may since have lost its events.
const ASSUMED: u16 = 1 << 15;

/// An address, most significant byte first.
type Address = [u8; 16];

/// The identity of a flow during its lifetime. An id alone may recur.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    source: Address,
    destination: Address,
    id: u32,
    source_l4: u16,
    destination_l4: u16,
    zone: u16,
    original_zone: u16,
    reply_zone: u16,
    family: u8,
    protocol: u8,
}

/// The known values of a flow.
#[derive(Debug)]
struct KnownFlow {
    /// The addresses of the reply, unless they are those of the original direction reversed.
    reply: Option<Box<[Address; 2]>>,
    reply_l4: [u16; 2],
    status: u32,
    mark: u32,
    /// A hash of the labels; 0 without labels.
    labels: u32,
    /// The number of the resync in which the flow was last seen alive.
    seen: u32,
    /// Bits of [`KEPT`], [`STATE`], [`WHOLE`] and [`ASSUMED`].
    has: u16,
    state: u8,
}

/// The difference between a flow in a listing and its known values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// None.
    None,
    /// The flow is not known.
    New,
    /// The flow has other values.
    Changed,
}

/// The flows that are alive according to the stream.
#[derive(Debug, Default)]
pub(super) struct KnownFlows(HashMap<Key, KnownFlow>);

/// The fields that must be decoded.
pub(super) const READS: u64 =
    KEPT | field::ID | field::STATUS | field::MARK | field::STATE | field::LABELS | field::NAMESPACE | field::PORT_ID;

fn address(column: &Addresses, row: usize) -> Address {
    (u128::from(at(&column.hi, row)) << 64 | u128::from(at(&column.lo, row))).to_be_bytes()
}

fn push_address(column: &mut Addresses, address: Address) {
    let bits = u128::from_be_bytes(address);
    column.hi.push((bits >> 64) as u64);
    column.lo.push(bits as u64);
}

/// Returns a hash of labels, which does not depend on trailing bytes without labels.
fn labels(flows: &Flows, row: usize) -> u32 {
    let Some(column) = flows.rare.as_ref().map(|rare| &rare.labels) else { return 0 };
    let Ok(item) = column.rows.binary_search(&(row as u32)) else { return 0 };
    let bits = batch::text(&column.texts, item);
    let length = bits.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let bits = bits.get(..length).unwrap_or_default();
    if bits.is_empty() {
        return 0;
    }
    // FNV-1a, which suffices to distinguish such short strings.
    bits.iter().fold(0x811c_9dc5_u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)).max(1)
}

impl Key {
    /// Returns the key of the flow in a row.
    pub(super) fn of(flows: &Flows, row: usize) -> Self {
        let zones = flows.zones.as_ref();
        let zone = |column: fn(&Zones) -> &Vec<u16>| zones.map_or(0, |zones| at(column(zones), row));
        Key {
            source: address(&flows.original.source, row),
            destination: address(&flows.original.destination, row),
            id: at(&flows.id, row),
            source_l4: at(&flows.original.source_l4, row),
            destination_l4: at(&flows.original.destination_l4, row),
            zone: zone(|zones| &zones.zone),
            original_zone: zone(|zones| &zones.original),
            reply_zone: zone(|zones| &zones.reply),
            family: at(&flows.family, row),
            protocol: at(&flows.protocol, row),
        }
    }
}

impl KnownFlow {
    /// Returns the values of a flow from a row that contains all of them.
    fn of(flows: &Flows, row: usize, key: &Key, seen: u32) -> Self {
        let has = at(&flows.has, row);
        let reply = [address(&flows.reply.source, row), address(&flows.reply.destination, row)];
        let kept = (has & KEPT) as u16 | if has & field::STATE != 0 { STATE } else { 0 };
        KnownFlow {
            reply: (reply != [key.destination, key.source]).then(|| Box::new(reply)),
            reply_l4: [at(&flows.reply.source_l4, row), at(&flows.reply.destination_l4, row)],
            status: at(&flows.status, row),
            mark: if has & field::MARK != 0 { at(&flows.mark, row) } else { 0 },
            labels: labels(flows, row),
            seen,
            has: kept | WHOLE,
            state: at(&flows.state, row),
        }
    }
}

impl KnownFlows {
    /// Returns the number of known flows.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Applies an event: a row of kind NEW, UPDATE or DESTROY. `seen`: the number of the current resync.
    pub(super) fn event(&mut self, flows: &Flows, row: usize, key: &Key, kind: u8, seen: u32) {
        if kind == event::DESTROY {
            self.0.remove(key);
            return;
        }
        let synthetic = at(&flows.has, row) & field::SYNTHETIC != 0;
        let mut flow = KnownFlow::of(flows, row, key, seen);
        // An UPDATE omits values that did not change, but also a mark of 0; it always contains the status.
        if kind == event::UPDATE && !synthetic {
            match self.0.get(key) {
                Some(before) => {
                    if flow.has & STATE == 0 {
                        flow.has |= before.has & STATE;
                        flow.state = before.state;
                    }
                    if at(&flows.has, row) & field::LABELS == 0 {
                        flow.labels = before.labels;
                    }
                    flow.has &= before.has | !WHOLE;
                }
                None => flow.has &= !WHOLE,
            }
        }
        self.0.insert(*key, flow);
    }

    /// Takes over a row of the listing at the start, for which the stream need not have events.
    pub(super) fn assume(&mut self, flows: &Flows, row: usize, key: &Key, seen: u32) {
        match self.0.get_mut(key) {
            Some(flow) => flow.seen = seen,
            None => {
                let flow = KnownFlow::of(flows, row, key, seen);
                self.0.insert(*key, KnownFlow { has: flow.has | ASSUMED, ..flow });
            }
        }
    }

    /// Confirms the flows of the listing at the start, once the stream has reached its end without a gap.
    pub(super) fn settle(&mut self) {
        for flow in self.0.values_mut() {
            flow.has &= !ASSUMED;
        }
    }

    /// Compares a row of a listing with the known values. A known flow is marked as alive.
    pub(super) fn compare(&mut self, flows: &Flows, row: usize, key: &Key, seen: u32) -> Difference {
        let Some(flow) = self.0.get_mut(key) else { return Difference::New };
        flow.seen = seen;
        if flow.has & ASSUMED != 0 {
            return Difference::New;
        }
        let now = KnownFlow::of(flows, row, key, seen);
        let both_have_states = flow.has & now.has & STATE != 0;
        // Offloaded flows are listed without their state.
        let state = if both_have_states { flow.state == now.state } else { now.has & STATE == 0 };
        let same = state
            && flow.has & WHOLE != 0
            && (flow.status, flow.mark, flow.labels) == (now.status, now.mark, now.labels);
        if same { Difference::None } else { Difference::Changed }
    }

    /// Clears the record that a flow was seen alive.
    pub(super) fn doubt(&mut self, key: &Key) {
        if let Some(flow) = self.0.get_mut(key) {
            flow.seen = 0;
        }
    }

    /// Returns true if a flow is known and was not seen alive in this resync.
    pub(super) fn is_unseen(&self, key: &Key, seen: u32) -> bool {
        self.0.get(key).is_some_and(|flow| flow.seen != seen)
    }

    /// Returns the flows that were not seen alive in this resync.
    pub(super) fn unseen(&self, seen: u32) -> Vec<Key> {
        self.0.iter().filter(|(_, flow)| flow.seen != seen).map(|(key, _)| *key).collect()
    }

    /// Releases memory that a much larger table needed.
    pub(super) fn shrink(&mut self) {
        if self.0.capacity() > 1024 && self.0.capacity() / 8 > self.0.len() {
            self.0.shrink_to(self.0.len() * 2);
        }
    }

    /// Adds the row of a DESTROY event with the values of a flow, if it is known. The batch contains only such rows.
    pub(super) fn push_destroyed(&self, flows: &mut Flows, key: &Key, received: u64) {
        let Some(flow) = self.0.get(key) else { return };
        let kept = u64::from(flow.has) & KEPT;
        let state = if flow.has & STATE != 0 { field::STATE } else { 0 };
        let mark = if flow.mark != 0 { field::MARK } else { 0 };
        flows.has.push(kept | state | mark | field::STATUS | field::ID | field::SYNTHETIC);
        flows.family.push(key.family);
        flows.protocol.push(key.protocol);
        let swapped = [key.destination, key.source];
        let [reply_source, reply_destination] = flow.reply.as_deref().copied().unwrap_or(swapped);
        push_address(&mut flows.original.source, key.source);
        push_address(&mut flows.original.destination, key.destination);
        push_address(&mut flows.reply.source, reply_source);
        push_address(&mut flows.reply.destination, reply_destination);
        flows.original.source_l4.push(key.source_l4);
        flows.original.destination_l4.push(key.destination_l4);
        let [source_l4, destination_l4] = flow.reply_l4;
        flows.reply.source_l4.push(source_l4);
        flows.reply.destination_l4.push(destination_l4);
        flows.status.push(flow.status);
        flows.mark.push(flow.mark);
        flows.id.push(key.id);
        flows.state.push(flow.state);
        let zones = flows.zones.get_or_insert_with(Zones::default);
        zones.zone.push(key.zone);
        zones.original.push(key.original_zone);
        zones.reply.push(key.reply_zone);
        let events = flows.events.get_or_insert_with(Events::default);
        events.kind.push(event::DESTROY);
        events.received.push(received);
        flows.length = flows.length.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_takes_80_bytes() {
        assert_eq!(size_of::<(Key, KnownFlow)>(), 80);
    }
}
