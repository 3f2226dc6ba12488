//! Rows of flows for the tests: built field by field, created in the table, and dumped again.

use flowgate_model::check;
use flowgate_model::{Address, Flows, field};
use flowgate_netlink::decode::{Arrival, FlowDecoder};
use flowgate_netlink::encode::flows;
use flowgate_netlink::{
    BatchSender, Dump, DumpError, DumpFilter, DumpKind, FlowEntry, RECEIVE_LENGTH, Request, RequestResult, Socket,
    SocketOptions, entries,
};

/// Opens a socket with default options.
pub(crate) fn socket() -> Socket {
    Socket::open(&SocketOptions::default()).unwrap()
}

/// Returns an IPv4 address in the representation of the columns.
pub(crate) fn mapped(address: [u8; 4]) -> Address {
    Address { hi: 0, lo: 0xffff_0000_0000 | u64::from(u32::from_be_bytes(address)) }
}

/// A batch that rows are appended to field by field.
#[derive(Default)]
pub(crate) struct Rows(pub Flows);

impl Rows {
    /// Appends a flow with both tuples (the reply is the reversed original), a timeout and a mark.
    pub(crate) fn add(&mut self, family: u8, protocol: u8, addresses: [Address; 2], l4: [u16; 2], mark: u32) -> usize {
        let flows = &mut self.0;
        let [source, destination] = addresses;
        flows.has.push(field::TUPLES | field::TIMEOUT | field::MARK);
        flows.family.push(family);
        flows.protocol.push(protocol);
        for (column, address) in [
            (&mut flows.original.source, source),
            (&mut flows.original.destination, destination),
            (&mut flows.reply.source, destination),
            (&mut flows.reply.destination, source),
        ] {
            column.hi.push(address.hi);
            column.lo.push(address.lo);
        }
        let icmp = matches!(protocol, 1 | 58);
        flows.original.source_l4.push(l4[0]);
        flows.original.destination_l4.push(l4[1]);
        flows.reply.source_l4.push(if icmp { l4[0] } else { l4[1] });
        let answer = match (protocol, l4[1] >> 8) {
            (1, 8) => 0,
            (1, kind) | (58, kind) if kind % 2 == 1 => (kind + 1) << 8,
            (58, kind) => (kind + 1) << 8,
            _ => l4[0],
        };
        flows.reply.destination_l4.push(answer);
        if !matches!(protocol, 1 | 6 | 17 | 58 | 132 | 136 | 47) {
            *flows.has.last_mut().unwrap() &= !(field::ORIGINAL_L4 | field::REPLY_L4);
        }
        flows.status.push(0);
        flows.timeout.push(1000);
        flows.mark.push(mark);
        flows.state.push(0);
        flows.length += 1;
        flows.length as usize - 1
    }

    /// Sets field bits of a row.
    pub(crate) fn give(&mut self, row: usize, bits: u64) {
        self.0.has[row] |= bits;
    }

    /// Encodes a creation of each row.
    pub(crate) fn requests(&self) -> Vec<Request> {
        (0..self.0.length as usize)
            .map(|row| flows::create(FlowEntry::new(&self.0, row).unwrap(), flows::IfExists::Fail).unwrap())
            .collect()
    }

    /// Creates every row in the table.
    pub(crate) fn create(&self) {
        let mut results = Vec::new();
        BatchSender::new(socket()).submit(&self.requests(), &mut results).unwrap();
        assert!(results.iter().all(|result| *result == RequestResult::Done), "{results:?}");
    }
}

/// Dumps into one batch.
pub(crate) fn dump(request: &Request) -> Result<Flows, DumpError> {
    let mut dump = Dump::start(socket(), request)?;
    let mut buffer = vec![0; RECEIVE_LENGTH];
    let mut decoder = FlowDecoder::new(field::ALL);
    let mut flows = Flows::default();
    while let Some(length) = dump.next(&mut buffer, None)? {
        for message in entries(&buffer[..length], dump.sequence()) {
            decoder.push(&mut flows, &message, Arrival::Entry).unwrap();
        }
    }
    assert_eq!(dump.next(&mut buffer, None).unwrap(), None);
    check::flows(&flows).unwrap();
    Ok(flows)
}

/// Dumps all flows.
pub(crate) fn dump_all() -> Flows {
    dump(&Request::dump(DumpKind::FLOWS, &DumpFilter::all())).unwrap()
}

/// Returns the marks of all rows, ascending.
pub(crate) fn marks(flows: &Flows) -> Vec<u32> {
    let mut marks = flows.mark.clone();
    marks.sort_unstable();
    marks
}

/// Returns the first row with this mark.
pub(crate) fn row_with_mark(flows: &Flows, mark: u32) -> usize {
    flows.mark.iter().position(|other| *other == mark).unwrap()
}

/// Two IPv6 addresses.
pub(crate) const V6: [Address; 2] =
    [Address { hi: 0x2001_0db8 << 32, lo: 1 }, Address { hi: 0x2001_0db8 << 32, lo: 2 }];

/// Returns a flow of each protocol and family; the mark is the row's index plus one.
pub(crate) fn all_protocols() -> Rows {
    let mut rows = Rows::default();
    let v4 = [mapped([10, 0, 0, 1]), mapped([192, 0, 2, 7])];
    for (protocol, l4) in [(6, [1, 2]), (17, [3, 4]), (132, [5, 6]), (1, [77, 8 << 8]), (89, [0, 0]), (6, [1, 9])] {
        let mark = rows.0.length + 1;
        rows.add(2, protocol, v4, l4, mark);
    }
    for (protocol, l4) in [(6, [1, 2]), (17, [3, 4]), (58, [77, 128 << 8]), (89, [0, 0])] {
        let mark = rows.0.length + 1;
        rows.add(10, protocol, V6, l4, mark);
    }
    rows
}
