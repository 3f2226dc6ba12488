//! The process that runs the plugins of a tenant, and its protocol with the process that owns it.
//!
//! A worker runs a tenant's pipeline: it decodes events, calls plugins, formats rows and makes up for lost events. It
//! has two channels to its owner and nothing else. Whatever takes it over is native code of the tenant's author, so the
//! owner believes nothing that it sends: actions are proposals, which the owner reads strictly, judges and sends in its
//! own encoding.
//!
//! * [`setup`] is what a worker is given at its start.
//! * [`protocol`] is what crosses the channels; a [`Link`] is one end of a channel with its sequence numbers.
//! * [`serve`] is the worker itself. It also tries plugins for commands: it only starts them, or does a job with them.

mod link;
mod process;
pub mod protocol;
pub mod setup;

pub use link::{Link, LinkError};
pub use process::{DoJob, serve};
