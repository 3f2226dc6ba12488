//! ctnetlink: sockets, decoding, encoding, filters.

pub mod batch;
pub mod decode;
pub mod dump;
pub mod encode;
pub mod filter;
pub mod listing;
pub mod message;
pub mod namespace;
#[cfg(test)]
pub(crate) mod played;
pub mod request;
pub mod socket;
mod stop;
mod sys;
#[cfg(test)]
pub(crate) mod testing;
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
pub use sys::Memory;
pub(crate) use sys::poll;
