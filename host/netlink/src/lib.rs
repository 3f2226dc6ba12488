//! ctnetlink: sockets, decoding, encoding, filters, and the kernel's dumps and events as [sources](source).

pub mod batch_sender;
pub mod decode;
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
pub mod request;
pub mod socket;
pub mod source;
mod stop;
mod sys;
pub mod wire;

pub use batch_sender::{BatchSender, MAX_REQUESTS, RequestResult};
pub use dump::{Dump, DumpError, entries};
pub use encode::{EncodeError, ExpectationEntry, FlowEntry};
pub use filter::{DumpFilter, FilterPlan};
pub use listing::Listing;
pub use message::{Acknowledgement, Content, Message, MessageError, MessageKind, Messages, Netfilter};
pub use namespace::{Namespace, NamespaceError};
pub use request::{DumpKind, Request};
pub use socket::{RECEIVE_LENGTH, Received, Socket, SocketError, SocketOptions, WakeReason, group};
pub use stop::Stop;
pub use sys::{SocketMemory, poll};
