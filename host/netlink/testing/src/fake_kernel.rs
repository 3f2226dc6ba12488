//! Fake kernels of other versions: the peer of a socket, with its own tables of flows and expectations.
//!
//! A test passes a [`Namespace`] whose sockets are connected to the fake kernel, and runs a whole command in it. The
//! fake kernel behaves as documented for the kernel's version, and in the worst way if that leaves a choice.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

use flowgate_netlink::{
    Messages, Namespace,
    decode::attribute::Attributes,
    wire::{
        ACK, DUMP, MULTI, NLMSG_DONE, NLMSG_ERROR, SUBSYSTEM_EXPECTATIONS, expectation_message, flow, flow_message,
        tuple as part,
    },
};

use super::{attribute, message, raw_message, tuple};
use flowgate_model::{family, protocol};

/// How a kernel treats CTA_FILTER in a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpFilters {
    /// It ignores the filter: it is older than 5.8.
    Ignored,
    /// It answers with this error number.
    Refused(i32),
    /// It compares family, protocol, ports and mark.
    Applied,
}

/// What a kernel supports.
#[derive(Clone, Copy, Debug)]
pub struct KernelFeatures {
    /// DumpFilters of dumps.
    pub filters: DumpFilters,
    /// The error number with which it answers family 0, if it does not support it.
    pub refuses_both_families: Option<i32>,
    /// True if it has no IPv6 (EAFNOSUPPORT).
    pub without_ipv6: bool,
    /// True if it deletes by filter, as Linux does since 6.12; otherwise a deletion without a tuple flushes the table.
    pub deletes_by_filter: bool,
}

impl KernelFeatures {
    /// Supports everything.
    pub const RECENT: Self = KernelFeatures {
        filters: DumpFilters::Applied,
        refuses_both_families: None,
        without_ipv6: false,
        deletes_by_filter: true,
    };
    /// From 5.8 to 6.11.
    pub const WITHOUT_DELETION_BY_FILTER: Self = KernelFeatures { deletes_by_filter: false, ..Self::RECENT };
    /// Before 5.8.
    pub const OLD: Self = KernelFeatures { filters: DumpFilters::Ignored, ..Self::WITHOUT_DELETION_BY_FILTER };
}

/// An entry of the table of flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeFlow {
    pub family: u8,
    pub protocol: u8,
    pub port: u16,
    pub mark: u32,
    pub zeroed: bool,
}

impl FakeFlow {
    /// Returns a flow between fixed addresses of the family.
    pub fn new(family: u8, protocol: u8, port: u16, mark: u32) -> Self {
        FakeFlow { family, protocol, port, mark, zeroed: false }
    }

    fn addresses(&self) -> [Vec<u8>; 2] {
        match self.family {
            family::IPV4 => [vec![192, 0, 2, 1], vec![198, 51, 100, 1]],
            _ => [1, 2].map(|last| [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[last]].concat()),
        }
    }

    fn id(&self) -> u32 {
        u32::from(self.family) << 24 | u32::from(self.protocol) << 16 | u32::from(self.port) | 0x4000_0000
    }

    fn tuples(&self) -> [Vec<u8>; 2] {
        let [source, destination] = self.addresses();
        [
            tuple(flow::TUPLE_ORIG, [&source, &destination], self.protocol, [self.port, 53]),
            tuple(flow::TUPLE_REPLY, [&destination, &source], self.protocol, [53, self.port]),
        ]
    }

    fn attributes(&self) -> Vec<Vec<u8>> {
        let [original, reply] = self.tuples();
        let number = |kind, value: u32| attribute(kind, &value.to_be_bytes());
        vec![
            original,
            reply,
            number(flow::STATUS, 8),
            number(flow::TIMEOUT, 100),
            number(flow::MARK, self.mark),
            number(flow::ID, self.id()),
            number(flow::USE, 1),
        ]
    }
}

#[derive(Debug)]
struct State {
    flows: Vec<FakeFlow>,
    expectations: usize,
    /// Received requests, by type and family.
    requests: Vec<(u16, u8)>,
}

/// A fake kernel.
#[derive(Debug, Clone)]
pub struct FakeKernel {
    features: KernelFeatures,
    state: Arc<Mutex<State>>,
}

/// Attributes of a request, by type.
struct RequestAttributes<'a>(Vec<(u16, &'a [u8])>);

impl<'a> RequestAttributes<'a> {
    fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.0.iter().find(|(other, _)| *other == kind).map(|(_, value)| *value)
    }

    fn parse(bytes: &'a [u8]) -> Self {
        let mut attributes = Attributes::new(bytes);
        RequestAttributes(std::iter::from_fn(|| attributes.next()).collect())
    }

    fn number(&self, kind: u16) -> Option<u32> {
        self.get(kind).map(|value| u32::from_be_bytes(value.try_into().expect("4 bytes")))
    }

    /// Returns the protocol and the first port of a tuple, if it is complete.
    fn complete_tuple(&self, kind: u16) -> Option<(u8, u16)> {
        let tuple = RequestAttributes::parse(self.get(kind)?);
        let (addresses, protocol) =
            (RequestAttributes::parse(tuple.get(part::IP)?), RequestAttributes::parse(tuple.get(part::PROTO)?));
        let both = [[1, 2], [3, 4]].iter().any(|pair| pair.iter().all(|&kind| addresses.get(kind).is_some()));
        let number = *protocol.get(1)?.first()?;
        let port = match number {
            protocol::TCP | protocol::UDP => {
                protocol.get(3)?;
                u16::from_be_bytes(protocol.get(2)?.try_into().ok()?)
            }
            _ => 0,
        };
        both.then_some((number, port))
    }
}

impl FakeKernel {
    pub fn new(features: KernelFeatures, flows: Vec<FakeFlow>) -> Self {
        FakeKernel { features, state: Arc::new(Mutex::new(State { flows, expectations: 2, requests: Vec::new() })) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the flows that are left.
    pub fn flows(&self) -> Vec<FakeFlow> {
        self.state().flows.clone()
    }

    /// Returns the number of expectations that are left.
    pub fn expectations(&self) -> usize {
        self.state().expectations
    }

    /// Returns the requests received since the last call: message type and family.
    pub fn take_requests(&self) -> Vec<(u16, u8)> {
        std::mem::take(&mut self.state().requests)
    }

    /// Returns a network namespace whose sockets are connected to it.
    pub fn namespace(&self) -> Namespace {
        let kernel = self.clone();
        Namespace::with_opener("fake kernel", move || Ok(kernel.connect())).expect("the own namespace")
    }

    /// Returns a socket that is connected to it.
    fn connect(&self) -> OwnedFd {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .expect("a pair of sockets");
        let kernel = self.clone();
        // The thread ends when the peer is closed.
        thread::spawn(move || kernel.serve(&theirs));
        ours
    }

    fn serve(&self, socket: &OwnedFd) {
        let mut buffer = vec![0; 256 << 10];
        while let Ok(length @ 1..) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            let mut answers = Vec::new();
            for message in Messages::new(&buffer[..length]) {
                let message = message.expect("a whole message");
                let attributes = RequestAttributes::parse(&message.body[4..]);
                let head = (message.message_type, message.flags, message.body[0], message.body[1]);
                self.state().requests.push((message.message_type, message.body[0]));
                let (entries, errno) = self.answer(head, &attributes);
                let dump = message.flags & DUMP == DUMP && message.message_type as u8 != flow_message::DELETE;
                for entry in &entries {
                    answers.push(with_sequence(entry.clone(), message.sequence));
                }
                let result = (-errno).to_ne_bytes();
                if dump && errno == 0 {
                    answers.push(raw_message(NLMSG_DONE, MULTI, message.sequence, 0, &result));
                } else if errno != 0 || message.flags & ACK != 0 {
                    let body = [&result[..], &[0; 16]].concat();
                    answers.push(raw_message(NLMSG_ERROR, 0, message.sequence, 0, &body));
                }
            }
            for answer in answers {
                if send(socket.as_raw_fd(), &answer, MsgFlags::MSG_NOSIGNAL).is_err() {
                    return;
                }
            }
        }
    }

    /// Returns the answers and the error number.
    fn answer(
        &self,
        (kind, flags, family, version): (u16, u16, u8, u8),
        request: &RequestAttributes<'_>,
    ) -> (Vec<Vec<u8>>, i32) {
        let (features, mut state) = (self.features, self.state());
        let (subsystem, number) = ((kind >> 8) as u8, kind as u8);
        let dump = flags & DUMP == DUMP;
        if number == flow_message::GET_STATISTICS && subsystem != SUBSYSTEM_EXPECTATIONS {
            let count = attribute(1, &(state.flows.len() as u32).to_be_bytes());
            return (vec![message(0x0105, MULTI, 0, 0, 0, &[count])], 0);
        }
        let named = request.get(flow::TUPLE_ORIG).or(request.get(flow::TUPLE_REPLY)).is_some();
        if let Some(errno) = features.refuses_both_families.filter(|_| family == 0 && (dump || !named)) {
            return (Vec::new(), errno);
        }
        if features.without_ipv6 && family == family::IPV6 {
            return (Vec::new(), libc::EAFNOSUPPORT);
        }
        if subsystem == SUBSYSTEM_EXPECTATIONS {
            if number == expectation_message::DELETE {
                state.expectations = 0;
            }
            return (Vec::new(), 0);
        }
        let filter = request.get(flow::FILTER);
        let matches = |entry: &FakeFlow| {
            let mask = request.number(flow::MARK_MASK).unwrap_or(u32::MAX);
            let flags = filter
                .and_then(|filter| RequestAttributes::parse(filter).get(1))
                .map_or(0, |flags| u32::from_ne_bytes(flags.try_into().expect("4 bytes")));
            let tuple = request.get(flow::TUPLE_ORIG).map(RequestAttributes::parse);
            let proto = tuple.as_ref().and_then(|tuple| tuple.get(part::PROTO)).map(RequestAttributes::parse);
            let value = |kind| proto.as_ref().and_then(|proto| proto.get(kind)).unwrap_or_default().to_vec();
            (family == 0 || entry.family == family)
                && request.number(flow::MARK).is_none_or(|mark| entry.mark & mask == mark)
                && (flags & 1 << 3 == 0 || value(part::NUM) == [entry.protocol])
                && (flags & 1 << 4 == 0 || value(part::SRC_PORT) == entry.port.to_be_bytes())
                && (flags & 1 << 5 == 0 || value(part::DST_PORT) == 53u16.to_be_bytes())
        };
        match number {
            flow_message::GET | flow_message::GET_AND_ZERO if dump => {
                let narrow = filter.is_some() || request.get(flow::MARK).is_some();
                if let DumpFilters::Refused(errno) = features.filters
                    && narrow
                {
                    return (Vec::new(), errno);
                }
                let applies_filter = features.filters == DumpFilters::Applied;
                let mut entries = Vec::new();
                for entry in state.flows.iter_mut() {
                    if if applies_filter { matches(entry) } else { family == 0 || entry.family == family } {
                        entry.zeroed |= number == flow_message::GET_AND_ZERO;
                        entries.push(message(0x0100, MULTI, 0, 0, entry.family, &entry.attributes()));
                    }
                }
                (entries, 0)
            }
            flow_message::DELETE if features.deletes_by_filter && filter.is_some() => {
                state.flows.retain(|entry| !matches(entry));
                (Vec::new(), 0)
            }
            flow_message::DELETE if request.get(flow::TUPLE_ORIG).is_some() => {
                let Some((protocol, port)) = request.complete_tuple(flow::TUPLE_ORIG) else {
                    return (Vec::new(), libc::EINVAL);
                };
                let is = |entry: &FakeFlow| (entry.family, entry.protocol, entry.port) == (family, protocol, port);
                match state.flows.iter().position(is) {
                    Some(at) if request.number(flow::ID).is_none_or(|id| state.flows[at].id() == id) => {
                        state.flows.remove(at);
                        (Vec::new(), 0)
                    }
                    _ => (Vec::new(), libc::ENOENT),
                }
            }
            flow_message::DELETE => {
                // The worst case: whatever else is in the request, it flushes the table.
                let one = version != 0 && features.deletes_by_filter;
                state.flows.retain(|entry| one && family != 0 && entry.family != family);
                (Vec::new(), 0)
            }
            flow_message::NEW => {
                let Some((protocol, port)) = request.complete_tuple(flow::TUPLE_ORIG) else {
                    return (Vec::new(), libc::EINVAL);
                };
                let is = |entry: &&mut FakeFlow| (entry.family, entry.protocol, entry.port) == (family, protocol, port);
                match (state.flows.iter_mut().find(is), request.number(flow::MARK)) {
                    (Some(entry), Some(mark)) => {
                        entry.mark = mark;
                        (Vec::new(), 0)
                    }
                    _ => (Vec::new(), libc::ENOENT),
                }
            }
            flow_message::GET => {
                let complete = request.complete_tuple(flow::TUPLE_ORIG);
                let found = state
                    .flows
                    .iter()
                    .find(|entry| entry.family == family && complete == Some((entry.protocol, entry.port)));
                match found {
                    Some(entry) => (vec![message(0x0100, 0, 0, 0, entry.family, &entry.attributes())], 0),
                    None => (Vec::new(), libc::ENOENT),
                }
            }
            _ => (Vec::new(), libc::EOPNOTSUPP),
        }
    }
}

/// Returns the message with another sequence number.
fn with_sequence(mut bytes: Vec<u8>, sequence: u32) -> Vec<u8> {
    bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    bytes
}
