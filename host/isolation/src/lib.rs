//! Child processes that compute on behalf of their owner and have access to nothing but a channel to it.
//!
//! * [`frame`] is the format of what crosses the channel: records with a kind, a sequence number and bounded fields.
//! * [`Channel`] is a socket of type `SOCK_SEQPACKET`, which preserves record boundaries.
//! * [`Spawner`] is a single-threaded process that starts and ends the others, so that a process that has given up
//!   `fork`, `execve` and `kill` can still have child processes. It is forked before any privilege is dropped, and
//!   never sees the data that the others process.
//! * [`Child`] is the owner's handle on such a process. The process ends when the [`Child`] is dropped, when the owner
//!   ends, and when the spawner ends.
//! * [`cgroup`] has the control groups of these processes, where they can be had.
//! * [`UserRange`] has the users of these processes, where each may have one of its own.
//! * [`Limits`] are resource limits that the kernel enforces.
//!
//! The privileges that such a process drops by itself once it runs are described in [`flowgate_privileges::sandbox`].

pub mod cgroup;
mod channel;
mod child;
pub mod frame;
mod limits;
mod spawner;
mod sys;
mod users;

pub use channel::Channel;
pub use child::{Child, Ending};
pub use frame::{Body, Frame, Record, Violation};
pub use limits::Limits;
pub use spawner::{Entry, Order, Role, Separation, Spawner};
pub use users::UserRange;
