//! WebAssembly: compiling, limiting and calling plugins.
//!
//! * [`engine`] compiles and keeps what all plugins share; `stock` holds the plugins that the binary carries.
//! * [`component`] turns a file into something that can be run, and says in words why it cannot; [`survey`] looks at
//!   exports and imports.
//! * [`services`] are what a plugin may call, `imports` everything else that it imports.
//! * [`instance`] is a running plugin; [`limits`] is what it may use up, [`deadline`] the time of its calls; [`error`] is how it can fail.

pub mod component;
mod config;
pub mod deadline;
pub mod engine;
pub mod error;
mod imports;
pub mod instance;
pub mod limits;
pub mod services;
mod stock;
pub mod survey;

pub use component::{Capabilities, PluginComponent};
pub use engine::PluginEngine;
pub use error::{Failure, LoadError, PluginError};
pub use instance::Instance;
pub use limits::Limits;
pub use services::Services;
pub use survey::{Import, Provision, Survey};
