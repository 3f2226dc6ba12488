//! WebAssembly: compiling, limiting and calling plugins.
//!
//! * [`engine`] is what all plugins share, [`flowgate_stock`] the stock plugins; [`execution`] decides how the code of
//!   plugins from files runs, and [`cache`] stores it in compiled form.
//! * `file` reads a plugin, [`outline`] inspects its sections before anything is compiled, and `weight` estimates the
//!   work of the compiler.
//! * [`component`] turns a file into a component that can be instantiated, or explains why it cannot be; [`survey`]
//!   inspects exports and imports.
//! * [`services`] are the host services that a plugin may call, `imports` handles its other imports.
//! * [`instance`] is a running plugin; [`limits`] are its resource limits, [`deadline`] limits the time of its calls;
//!   [`error`] has the ways in which it can fail.

mod bindings;
pub mod cache;
pub mod component;
pub mod deadline;
pub mod engine;
pub mod error;
pub mod execution;
mod file;
mod imports;
pub mod instance;
pub mod limits;
pub mod outline;
pub mod services;
pub mod survey;
mod sys;
mod weight;

pub use cache::Cache;
pub use component::{Capabilities, PluginComponent};
pub use engine::PluginEngine;
pub use error::{Failure, LoadError, PluginError};
pub use execution::Execution;
pub use instance::Instance;
pub use limits::Limits;
pub use services::Services;
pub use survey::{Import, Provision, Survey};
