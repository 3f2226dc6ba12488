//! ctnetlink: sockets, decoding, encoding, filters, and the kernel's dumps and events as [sources](source).

pub mod batch;
pub mod decode;
pub mod dump;
pub mod encode;
pub mod filter;
pub mod kernel_dump;
pub mod listener;
pub mod listing;
pub mod message;
pub mod namespace;
pub mod namespaces;
pub mod programs;
pub mod request;
pub mod socket;
pub mod source;
mod stop;
mod sys;
pub mod wire;

pub use batch::{Batches, Fate, MOST as MOST_REQUESTS};
pub use dump::{Dump, DumpError, entries};
pub use encode::{EncodeError, Entry, ExpectationEntry};
pub use filter::{DumpFilter, Plan};
pub use listing::Listing;
pub use message::{Content, Message, MessageError, Messages, Netfilter, Outcome, Subject};
pub use namespace::{Namespace, NamespaceError};
pub use request::{Request, Table};
pub use socket::{Options, RECEIVE_LENGTH, Received, Socket, SocketError, Woken, group};
pub use stop::Stop;
pub use sys::{Memory, poll};
