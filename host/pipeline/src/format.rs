//! A format: a plugin that turns batches into bytes.

use flowgate_model::{Expectations, Flows, batch};
use flowgate_runtime::{Instance, PluginError};

/// A configured format plugin at the pipeline's end.
pub struct Format {
    instance: Instance,
    reads: u64,
    hidden: Flows,
}

impl Format {
    /// A format of a configured plugin that reads these fields.
    #[must_use]
    pub fn new(instance: Instance, reads: u64) -> Self {
        Format { instance, reads, hidden: Flows::default() }
    }

    /// The fields that the format reads.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads
    }

    /// The plugin.
    pub fn instance(&mut self) -> &mut Instance {
        &mut self.instance
    }

    /// A batch of flows as bytes.
    ///
    /// # Errors
    /// The plugin failed.
    pub fn flows(&mut self, flows: &mut Flows) -> Result<Vec<u8>, PluginError> {
        let instance = &mut self.instance;
        batch::shown(flows, self.reads, &mut self.hidden, |shown| instance.render_flows(shown))
    }

    /// A batch of expectations as bytes.
    ///
    /// # Errors
    /// The plugin failed.
    pub fn expectations(&mut self, rows: &Expectations) -> Result<Vec<u8>, PluginError> {
        self.instance.render_expectations(rows)
    }
}
