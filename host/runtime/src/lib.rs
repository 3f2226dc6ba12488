//! WebAssembly: compiling, limiting and calling plugins.
//!
//! * [`engine`] has what all plugins share, [`flowgate_stock`] the plugins that the program carries; [`execution`] decides how the code of
//!   others runs, and [`cache`] keeps it in compiled form.
//! * `file` reads a plugin, [`outline`] finds out what it has before anything is compiled, and `weight` how much work its code is for a
//!   compiler.
//! * [`component`] turns a file into something that can be run, and says in words why it cannot; [`survey`] looks at
//!   exports and imports.
//! * [`services`] are what a plugin may call, `imports` everything else that it imports.
//! * [`instance`] is a running plugin; [`limits`] is what it may use up, [`deadline`] the time of its calls; [`error`] is how it can fail.

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
