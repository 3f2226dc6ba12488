//! A handle for warnings: what is wrong, or worth knowing, and no reason to stop.

use std::{fmt, sync::Arc};

/// Receives warnings, one line of text each. Clones share the receiver.
#[derive(Clone)]
pub struct Warnings(Arc<dyn Fn(&str) + Send + Sync>);

impl Warnings {
    /// Returns a handle that calls `receive` with each warning. The text has no newline at its end.
    #[must_use]
    pub fn new(receive: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Warnings(Arc::new(receive))
    }

    /// Returns a handle that drops all warnings.
    #[must_use]
    pub fn ignored() -> Self {
        Warnings::new(|_| {})
    }

    /// Passes a warning on, cleaned as [`crate::text::line`] does.
    pub fn line(&self, text: &str) {
        (self.0)(&crate::text::line(text.as_bytes()));
    }
}

impl fmt::Debug for Warnings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Warnings")
    }
}
