//! ctnetlink: the connection-tracking table of Linux over netlink, without a C library. Dumps and events are decoded
//! into the columns of [`flowgate_model`].
//!
//! * [`Socket`] sends and receives datagrams, in the network namespace of the process or in [another one](Namespace);
//!   [`Messages`] are what a datagram consists of.
//! * [`Dump`] receives what a [`Request`] asks for, behind the kernel's own [filter](DumpFilter).
//! * [`decode`] turns messages into rows, [`encode`] rows into requests, which [`BatchSender`] sends, many at a time.
//! * [`proposal`] reads requests that a process proposes which is not trusted.
//! * [`source`] is a stream of datagrams: a [dump](kernel_dump::KernelDump), or the [events](listener::Listener) of the
//!   kernel, with a receive buffer that grows and gaps where events were lost.
//! * [`process_names`] and [`namespace_names`] find the names behind the numbers in events.
//!
//! The kernel wants CAP_NET_ADMIN of the network namespace for all of it. No bytes make this crate panic.
//!
//! # Examples
//!
//! The whole table, as columns:
//!
//! ```no_run
//! use flowgate_model::{Flows, Table, field, protocol};
//! use flowgate_netlink::{
//!     Dump, DumpFilter, DumpKind, RECEIVE_LENGTH, Request, Socket, SocketOptions,
//!     decode::{Arrival, FlowDecoder},
//!     entries,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let request = Request::dump(DumpKind::Table(Table::Conntrack), &DumpFilter::all());
//! let mut dump = Dump::start(Socket::open(&SocketOptions::default())?, &request)?;
//! // Only the requested fields are decoded.
//! let mut decoder = FlowDecoder::new(field::PROTOCOL | field::COUNTERS);
//! let mut flows = Flows::default();
//! let mut buffer = vec![0; RECEIVE_LENGTH];
//! while let Some(length) = dump.next(&mut buffer, None)? {
//!     for message in entries(&buffer[..length], dump.sequence()) {
//!         decoder.push(&mut flows, &message, Arrival::Entry)?;
//!     }
//! }
//! let tcp = flows.protocol.iter().filter(|&&number| number == protocol::TCP).count();
//! println!("{} flows, {tcp} of TCP", flows.length);
//! # Ok(())
//! # }
//! ```
//!
//! Events, until the stop signal is given:
//!
//! ```no_run
//! use flowgate_model::{Flows, event, field};
//! use flowgate_netlink::{
//!     Messages, Stop,
//!     decode::FlowDecoder,
//!     group,
//!     listener::{Listener, ListenerOptions},
//!     source::{Datagram, EVENT_BUFFER_LENGTH, Source as _},
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let stop = Stop::new()?;
//! let options = ListenerOptions { groups: group::NEW | group::DESTROY, ..ListenerOptions::default() };
//! let mut events = Listener::open(&options, &stop)?;
//! let mut datagram = Datagram::with_capacity(EVENT_BUFFER_LENGTH);
//! let mut decoder = FlowDecoder::new(field::TUPLES);
//! while events.next(&mut datagram)? {
//!     if datagram.gap {
//!         println!("events were lost here: {:?}", datagram.lost);
//!         continue;
//!     }
//!     let mut flows = Flows::default();
//!     decoder.clear(&mut flows);
//!     for (number, message) in Messages::new(datagram.bytes()).enumerate() {
//!         decoder.push(&mut flows, &message?, datagram.arrival(true, number))?;
//!     }
//!     let kinds = flows.events.as_ref().map(|events| &events.kind[..]).unwrap_or_default();
//!     println!("{} began", kinds.iter().filter(|&&kind| kind == event::NEW).count());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The request that creates a flow, and its content:
//!
//! ```
//! use flowgate_model::{Addresses, Flows, Tuples, family, field, protocol};
//! use flowgate_netlink::{
//!     FlowEntry, Messages,
//!     decode::{Arrival, FlowDecoder},
//!     encode::flows::{IfExists, create},
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! /// 10.0.0.`host`, in the mapped form of IPv6.
//! fn address(host: u64) -> Addresses {
//!     Addresses { hi: vec![0], lo: vec![0xffff_0a00_0000 | host] }
//! }
//! fn tuple(from: (u64, u16), to: (u64, u16)) -> Tuples {
//!     let (source_l4, destination_l4) = (vec![from.1], vec![to.1]);
//!     Tuples { source: address(from.0), destination: address(to.0), source_l4, destination_l4 }
//! }
//! let flows = Flows {
//!     length: 1,
//!     has: vec![field::TUPLES | field::TIMEOUT],
//!     family: vec![family::IPV4],
//!     protocol: vec![protocol::UDP],
//!     original: tuple((1, 5000), (2, 53)),
//!     reply: tuple((2, 53), (1, 5000)),
//!     timeout: vec![30],
//!     ..Flows::default()
//! };
//! let request = create(FlowEntry::new(&flows, 0)?, IfExists::Fail)?;
//!
//! let mut read = Flows::default();
//! let mut decoder = FlowDecoder::new(field::TUPLES | field::TIMEOUT);
//! for message in Messages::new(request.as_bytes()) {
//!     decoder.push(&mut read, &message?, Arrival::Entry)?;
//! }
//! assert_eq!(read.has, flows.has);
//! assert_eq!((read.original, read.reply, read.timeout), (flows.original, flows.reply, flows.timeout));
//! # Ok(())
//! # }
//! ```

pub mod batch_sender;
pub mod decode;
pub mod deletion;
pub mod dump;
pub mod encode;
pub mod filter;
pub mod kernel_dump;
pub mod listener;
pub mod listing;
pub mod message;
pub mod namespace;
pub mod namespace_names;
pub mod process_names;
pub mod proposal;
pub mod request;
pub mod socket;
pub mod source;
pub mod statistics;
mod stop;
mod sys;
mod tuple;
pub mod wire;

pub use batch_sender::{BatchSender, MAX_REQUESTS, RequestResult};
pub use deletion::{Deleted, Deletion};
pub use dump::{Dump, DumpError, entries};
pub use encode::{EncodeError, ExpectationEntry, FlowEntry};
pub use filter::{DumpFilter, FilterPlan};
pub use listing::Listing;
pub use message::{Acknowledgement, Content, Message, MessageError, MessageKind, Messages, Netfilter};
pub use namespace::{Namespace, NamespaceError};
pub use request::{DumpKind, Request};
pub use socket::{RECEIVE_LENGTH, Received, Socket, SocketError, SocketOptions, WakeReason, group};
pub use statistics::Statistics;
pub use stop::Stop;
pub use sys::{SocketMemory, poll};
