//! WebAssembly: compiling, limiting and calling plugins.
//!
//! * [`engine`] is what all plugins share, [`flowgate_stock`] the stock plugins; [`execution`] decides how the code of
//!   plugins from files runs, and [`cache`] stores it in compiled form.
//! * `file` reads a plugin, [`outline`] inspects its sections before anything is compiled, and `weight` estimates the
//!   work of the compiler; [`memory_file`] makes the files in memory that other processes are given.
//! * [`compiler`] has each plugin compiled in a process of its own; a program that embeds the crate compiles in its own
//!   process unless it asks for that.
//! * [`component`] turns a file into a component that can be instantiated, or explains why it cannot be; [`inspect`]
//!   inspects exports and imports.
//! * [`services`] are the host services that a plugin may call, `linker` handles its other imports.
//! * [`instance`] is a running plugin; [`limits`] are its resource limits, [`deadline`] limits the time of its calls;
//!   [`error`] has the ways in which it can fail.
//!
//! ```
//! use flowgate_model::{Flows, Setup, family, field, protocol};
//! use flowgate_runtime::{Instance, Limits, PluginComponent, PluginEngine};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = PluginEngine::new(None)?;
//! // A stock plugin; `PluginComponent::open` reads a file.
//! let component = PluginComponent::stock(&engine, "json")?;
//! let mut instance = Instance::new(&component, Limits::default())?;
//! assert_eq!(instance.describe()?.name, "json");
//! instance.configure(&Setup::default())?;
//! instance.end_start_up();
//!
//! let flows = Flows {
//!     length: 1,
//!     has: vec![field::PROTOCOL | field::MARK],
//!     family: vec![family::IPV4],
//!     protocol: vec![protocol::TCP],
//!     mark: vec![7],
//!     ..Flows::default()
//! };
//! let line = String::from_utf8(instance.render_flows(&flows)?)?;
//! assert!(line.contains(r#""protocol_name":"tcp""#) && line.contains(r#""mark":7"#), "{line}");
//! # Ok(())
//! # }
//! ```

mod bindings;
pub mod cache;
pub mod compiler;
pub mod component;
pub mod deadline;
pub mod engine;
pub mod error;
pub mod execution;
mod file;
pub mod inspect;
pub mod instance;
pub mod limits;
mod linker;
pub mod memory_file;
pub mod outline;
pub mod services;
mod sys;
mod weight;

pub use cache::Cache;
pub use compiler::{CompileLimits, Compiler};
pub use component::{Capabilities, PluginComponent};
pub use engine::{PluginCode, PluginEngine};
pub use error::{Failure, LoadError, PluginError};
pub use execution::Execution;
pub use file::PluginFile;
pub use inspect::{ComponentInfo, Import, ImportKind};
pub use instance::Instance;
pub use limits::Limits;
pub use services::Services;
