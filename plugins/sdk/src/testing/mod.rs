//! Batches and setups for tests of plugins.
//!
//! ```
//! use flowgate_sdk::{field, protocol, testing::{Row, batch}};
//!
//! let row = Row::ipv4(protocol::UDP).original("10.0.0.1", "10.0.0.2", 1000, 53);
//! let flows = batch([row.set(field::MARK, |row| row.mark = 7)]);
//! assert_eq!(flows.flow(0).and_then(|flow| flow.mark()), Some(7));
//! ```

mod expectation;
mod flow;

pub use expectation::{Expected, expectations};
pub use flow::{Row, Tuple, batch, push};

use crate::bindings::flowgate::conntrack::setup::{OptionValue, Setup};

/// Returns the setup of a plugin with these options.
#[must_use]
pub fn setup(options: &[(&str, &str)]) -> Setup {
    let options = options.iter().map(|(name, value)| OptionValue { name: (*name).into(), value: (*value).into() });
    Setup { options: options.collect(), host: "flowgate 0.1.0".into(), ..Setup::default() }
}
