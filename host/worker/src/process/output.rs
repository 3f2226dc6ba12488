//! The output of the pipeline, which the owner writes.

use std::sync::Arc;

use flowgate_pipeline::sink::{Sink, SinkError};

use super::owner::Owner;

/// The owner's sinks.
pub(super) struct RemoteOutput(pub Arc<Owner>);

impl Sink for RemoteOutput {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.0.write(bytes);
        Ok(())
    }
}
