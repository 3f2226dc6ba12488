//! A format: a plugin that renders batches as bytes.

use crate::entries::Entries;
use flowgate_model::Flows;
use flowgate_runtime::{Instance, PluginError};

/// A configured format plugin at the end of a pipeline.
pub struct Format {
    instance: Instance,
    reads: u64,
    hidden: Flows,
}

impl Format {
    /// Returns a format of a configured plugin that reads these fields.
    #[must_use]
    pub fn new(instance: Instance, reads: u64) -> Self {
        Format { instance, reads, hidden: Flows::default() }
    }

    /// Returns the fields that the format reads.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads
    }

    /// Returns the plugin.
    pub fn instance(&mut self) -> &mut Instance {
        &mut self.instance
    }

    /// Returns the output before all rows.
    ///
    /// # Errors
    /// [`PluginError`] if the plugin failed.
    pub fn begin<T: Entries>(&mut self) -> Result<Vec<u8>, PluginError> {
        T::begin_format(&mut self.instance)
    }

    /// Renders a batch.
    ///
    /// # Errors
    /// [`PluginError`] if the plugin failed.
    pub fn render<T: Entries>(&mut self, batch: &mut T) -> Result<Vec<u8>, PluginError> {
        batch.render(&mut self.instance, self.reads, &mut self.hidden)
    }

    /// Returns the output after all rows.
    ///
    /// # Errors
    /// [`PluginError`] if the plugin failed.
    pub fn end<T: Entries>(&mut self) -> Result<Vec<u8>, PluginError> {
        T::end_format(&mut self.instance)
    }
}
