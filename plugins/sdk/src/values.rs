//! Rows of values, which actions refer to, written into columns.

use crate::{
    AddressRange, Flows, Key, Sequence, Synproxy,
    bindings::flowgate::conntrack::{
        columns::Addresses,
        flow::{Rare, Tuples},
    },
    field,
};

/// Number of bytes of labels that the kernel keeps: NF_CT_LABELS_MAX_SIZE.
pub(crate) const LABEL_BYTES: usize = 16;

/// The values of a flow besides its tuples. Absent values are not changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Values {
    pub timeout: Option<u32>,
    pub mark: Option<u32>,
    pub mark_mask: Option<u32>,
    pub status: Option<u32>,
    pub state: Option<u8>,
    pub window_scales: (Option<u8>, Option<u8>),
    /// Flags times 256 plus mask.
    pub tcp_flags: (Option<u16>, Option<u16>),
    pub vtags: (Option<u32>, Option<u32>),
    pub labels: Option<Vec<u8>>,
    pub labels_mask: Option<Vec<u8>>,
    pub helper: Option<Vec<u8>>,
    pub helper_info: Option<Vec<u8>>,
    pub master: Option<Key>,
    /// Of the original direction and of the reply.
    pub sequences: [Option<Sequence>; 2],
    pub synproxy: Option<Synproxy>,
    /// Role and handshake sequence number.
    pub dccp: Option<(u8, u64)>,
    /// Of the source and of the destination.
    pub nat: [Option<AddressRange>; 2],
}

/// The zones of a flow; 0 is the default zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Zones {
    pub both: u16,
    pub original: u16,
    pub reply: u16,
}

/// A table of values under construction. Columns without a value stay empty.
#[derive(Default)]
pub(crate) struct Table(Flows);

/// The last row of a table, to be filled.
pub(crate) struct LastRow<'a> {
    flows: &'a mut Flows,
    row: usize,
}

impl Table {
    /// Starts a row. `protocol` is that of the flow, if known; it defines the meaning of a state.
    pub(crate) fn begin(&mut self, family: u8, protocol: Option<u8>) -> LastRow<'_> {
        let flows = &mut self.0;
        let row = flows.length as usize;
        flows.length += 1;
        flows.has.push(0);
        flows.family.push(family);
        let mut last = LastRow { flows, row };
        if let Some(protocol) = protocol {
            last.has(field::PROTOCOL);
            put(&mut last.flows.protocol, row, protocol);
        }
        last
    }

    /// Returns the table; `None` if it has no rows.
    pub(crate) fn finish(self) -> Option<Flows> {
        let mut flows = self.0;
        let rows = flows.length as usize;
        for tuples in [&mut flows.original, &mut flows.reply] {
            let Tuples { source, destination, source_l4, destination_l4 } = tuples;
            for Addresses { hi, lo } in [source, destination] {
                fill(hi, rows);
                fill(lo, rows);
            }
            fill(source_l4, rows);
            fill(destination_l4, rows);
        }
        for column in [&mut flows.status, &mut flows.timeout, &mut flows.mark] {
            fill(column, rows);
        }
        for column in [&mut flows.protocol, &mut flows.state] {
            fill(column, rows);
        }
        if let Some(zones) = &mut flows.zones {
            for column in [&mut zones.zone, &mut zones.original, &mut zones.reply] {
                fill(column, rows);
            }
        }
        if let Some(tcp) = &mut flows.tcp {
            fill(&mut tcp.original_window_scale, rows);
            fill(&mut tcp.reply_window_scale, rows);
            fill(&mut tcp.original_flags, rows);
            fill(&mut tcp.reply_flags, rows);
        }
        if let Some(sctp) = &mut flows.sctp {
            fill(&mut sctp.original_vtag, rows);
            fill(&mut sctp.reply_vtag, rows);
        }
        if let Some(rare) = &mut flows.rare {
            fill(&mut rare.mark_mask, rows);
        }
        (rows > 0).then_some(flows)
    }
}

/// Sets a value of a row in a dense column, after rows that may have none.
fn put<T: Clone + Default>(column: &mut Vec<T>, row: usize, value: T) {
    column.resize(row, T::default());
    column.push(value);
}

/// Extends a dense column that is not empty to the length of its table.
fn fill<T: Clone + Default>(column: &mut Vec<T>, rows: usize) {
    if !column.is_empty() {
        column.resize(rows, T::default());
    }
}

fn put_address(column: &mut Addresses, row: usize, bits: u128) {
    put(&mut column.hi, row, (bits >> 64) as u64);
    put(&mut column.lo, row, bits as u64);
}

pub(crate) fn put_tuple(tuples: &mut Tuples, row: usize, key: &Key) {
    let [source, destination] = key.bits();
    put_address(&mut tuples.source, row, source);
    put_address(&mut tuples.destination, row, destination);
    put(&mut tuples.source_l4, row, key.source_l4);
    put(&mut tuples.destination_l4, row, key.destination_l4);
}

impl LastRow<'_> {
    /// Returns the number of the row.
    pub(crate) fn number(&self) -> u32 {
        self.row as u32
    }

    fn has(&mut self, fields: u64) {
        if let Some(has) = self.flows.has.get_mut(self.row) {
            *has |= fields;
        }
    }

    fn rare(&mut self, fields: u64) -> &mut Rare {
        self.has(fields);
        self.flows.rare.get_or_insert_default()
    }

    /// Sets the original tuple.
    pub(crate) fn original(&mut self, key: &Key) {
        self.has(field::ORIGINAL_ADDRESSES | if key.has_l4() { field::ORIGINAL_L4 } else { 0 });
        put_tuple(&mut self.flows.original, self.row, key);
    }

    /// Sets the reply tuple.
    pub(crate) fn reply(&mut self, key: &Key) {
        let l4 = if key.has_l4() { field::REPLY_L4 } else { 0 };
        self.has(field::REPLY_ADDRESSES | field::REPLY_PROTOCOL | l4);
        put_tuple(&mut self.flows.reply, self.row, key);
    }

    /// Sets the zones that are not the default zone.
    pub(crate) fn zones(&mut self, zones: Zones) {
        if zones == Zones::default() {
            return;
        }
        for (bit, zone) in
            [(field::ZONE, zones.both), (field::ORIGINAL_ZONE, zones.original), (field::REPLY_ZONE, zones.reply)]
        {
            self.has(if zone != 0 { bit } else { 0 });
        }
        let columns = self.flows.zones.get_or_insert_default();
        put(&mut columns.zone, self.row, zones.both);
        put(&mut columns.original, self.row, zones.original);
        put(&mut columns.reply, self.row, zones.reply);
    }

    /// Sets those of the values that are given.
    pub(crate) fn values(&mut self, values: &Values) {
        let row = self.row;
        self.numbers(values);
        self.transport(values);
        if let Some(mask) = values.mark_mask {
            put(&mut self.rare(field::MARK_MASK).mark_mask, row, mask);
        }
        if let Some(bits) = &values.labels {
            self.rare(field::LABELS).labels.push(row, bits);
        }
        if let Some(mask) = &values.labels_mask {
            self.rare(field::LABELS_MASK).labels_mask.push(row, mask);
        }
        if let Some(helper) = &values.helper {
            self.rare(field::HELPER).helper.push(row, helper);
        }
        if let Some(info) = &values.helper_info {
            self.rare(field::HELPER_INFO).helper_info.push(row, info);
        }
        if let Some(key) = &values.master {
            let master = &mut self.rare(field::MASTER).master;
            put_tuple(&mut master.tuple, master.rows.len(), key);
            master.rows.push(row as u32);
            master.protocol.push(key.protocol);
            master.zone.push(key.zone);
        }
        for (reply, bit) in [(0, field::ORIGINAL_SEQUENCE), (1, field::REPLY_SEQUENCE)] {
            if let Some(sequence) = values.sequences.get(usize::from(reply)).copied().flatten() {
                let all = &mut self.rare(bit).sequence;
                all.rows.push(row as u32);
                all.reply.push(reply);
                all.position.push(sequence.position);
                all.before.push(sequence.before.cast_unsigned());
                all.after.push(sequence.after.cast_unsigned());
            }
        }
        if let Some(proxy) = values.synproxy {
            let all = &mut self.rare(field::SYNPROXY).synproxy;
            all.rows.push(row as u32);
            all.isn.push(proxy.isn);
            all.its.push(proxy.its);
            all.tsoff.push(proxy.tsoff);
        }
        if let Some((role, handshake)) = values.dccp {
            let all = &mut self.rare(field::DCCP).dccp;
            all.rows.push(row as u32);
            all.role.push(role);
            all.handshake.push(handshake);
        }
        for (destination, bit) in [(0, field::SOURCE_NAT), (1, field::DESTINATION_NAT)] {
            if let Some(range) = values.nat.get(usize::from(destination)).copied().flatten() {
                let all = &mut self.rare(bit).nat;
                put_address(&mut all.first, all.rows.len(), range.first);
                put_address(&mut all.last, all.rows.len(), range.last);
                all.rows.push(row as u32);
                all.destination.push(destination);
                all.first_port.push(range.first_port);
                all.last_port.push(range.last_port);
            }
        }
    }

    /// Sets timeout, mark, status and state.
    fn numbers(&mut self, values: &Values) {
        let row = self.row;
        for (bit, value) in
            [(field::TIMEOUT, values.timeout), (field::MARK, values.mark), (field::STATUS, values.status)]
        {
            let Some(value) = value else { continue };
            self.has(bit);
            let column = match bit {
                field::TIMEOUT => &mut self.flows.timeout,
                field::MARK => &mut self.flows.mark,
                _ => &mut self.flows.status,
            };
            put(column, row, value);
        }
        if let Some(state) = values.state {
            self.has(field::STATE);
            put(&mut self.flows.state, row, state);
        }
    }

    /// Sets the fields of TCP and SCTP besides their state.
    fn transport(&mut self, values: &Values) {
        let row = self.row;
        for (bit, scale) in [
            (field::ORIGINAL_WINDOW_SCALE, values.window_scales.0),
            (field::REPLY_WINDOW_SCALE, values.window_scales.1),
        ] {
            let Some(scale) = scale else { continue };
            self.has(bit);
            let tcp = self.flows.tcp.get_or_insert_default();
            let reply = bit == field::REPLY_WINDOW_SCALE;
            put(if reply { &mut tcp.reply_window_scale } else { &mut tcp.original_window_scale }, row, scale);
        }
        for (bit, flags) in
            [(field::ORIGINAL_TCP_FLAGS, values.tcp_flags.0), (field::REPLY_TCP_FLAGS, values.tcp_flags.1)]
        {
            let Some(flags) = flags else { continue };
            self.has(bit);
            let tcp = self.flows.tcp.get_or_insert_default();
            let reply = bit == field::REPLY_TCP_FLAGS;
            put(if reply { &mut tcp.reply_flags } else { &mut tcp.original_flags }, row, flags);
        }
        for (bit, tag) in [(field::ORIGINAL_VTAG, values.vtags.0), (field::REPLY_VTAG, values.vtags.1)] {
            let Some(tag) = tag else { continue };
            self.has(bit);
            let sctp = self.flows.sctp.get_or_insert_default();
            put(if bit == field::REPLY_VTAG { &mut sctp.reply_vtag } else { &mut sctp.original_vtag }, row, tag);
        }
    }
}
