//! flowgate: the kernel's connection tracking, streamed through WebAssembly components.
//!
//! * [`cli`]: a command line becomes settings.
//! * [`command`]: settings become a pipeline, and its end an exit status.
//! * [`files`]: files that are opened safely, read within limits, and written to whether they block or not.
//! * [`fixture`]: flows and expectations from text, for tests of plugins.
//! * [`inherited`]: what the process inherited from its parent.
//! * [`pipeline`]: source -> stage* -> executor -> format -> sink.
//! * [`metrics`]: what runs, in numbers, for Prometheus.
//! * [`netlink`]: the kernel's side; decodes into the columns of [`model`].
//! * [`policy`]: tenants, their scopes, and what holds them to these.
//! * [`privileges`]: what a process gives up before it does anything.
//! * [`process`]: how the program starts, what signals do to it, how it ends.
//! * [`recording`]: what the kernel sent, in a file, and from it through a pipeline again.
//! * [`top`]: flows by rate, on a screen.
//! * [`wasm`]: the plugins' side.

pub mod args;
pub mod bounds;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod files;
pub mod fixture;
pub mod inherited;
pub mod io_error;
pub mod metrics;
pub mod model;
pub mod netlink;
pub mod on_error;
pub mod pipeline;
pub mod policy;
pub mod privileges;
pub mod process;
pub mod recording;
pub mod text;
pub mod top;
pub mod wasm;
