//! Processes that compute for another one and have nothing but a channel to it.
//!
//! * [`frame`] is the format of what crosses the channel: records with a kind, a sequence number and bounded fields.
//! * [`Channel`] is a socket of type `SOCK_SEQPACKET`, which keeps records apart.
//! * [`Spawner`] is a process of one thread that starts and ends the others, so that a process which has given up
//!   `fork`, `execve` and `kill` can still have them. It is forked before anything is given up, and never sees what the
//!   others compute.
//! * [`Child`] is such a process as its owner sees it. It ends with the [`Child`], with the owner, and with the spawner.
//! * [`Limits`] are resource limits that the kernel enforces.
//!
//! What a process gives up by itself once it runs is in [`flowgate_privileges::sandbox`].

mod channel;
mod child;
pub mod frame;
mod limits;
mod spawner;
mod sys;

pub use channel::Channel;
pub use child::{Child, Ending};
pub use frame::{Body, Frame, Record, Violation};
pub use limits::Limits;
pub use spawner::{Entry, Order, Role, Spawner};
