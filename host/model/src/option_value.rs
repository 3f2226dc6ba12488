//! The constructor of options of plugins.

use crate::OptionValue;

impl OptionValue {
    /// Returns the option `name` with this value.
    #[must_use]
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}
