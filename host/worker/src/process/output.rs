//! The output of the pipeline, which the owner writes.

use std::sync::Arc;

use flowgate_pipeline::sink::{Sink, SinkError};

use super::owner::Owner;
use crate::protocol::{BYTES, Report};

/// The owner's sinks.
pub(super) struct RemoteOutput(pub Arc<Owner>);

impl Sink for RemoteOutput {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let most = rest.get(..BYTES).unwrap_or(rest);
            // Whole lines, so that the owner drops whole ones.
            let length = match most.iter().rposition(|&byte| byte == b'\n') {
                Some(last) if most.len() < rest.len() => last + 1,
                _ => most.len(),
            };
            let (part, left) = rest.split_at(length);
            self.0.report(&Report::Output(part));
            rest = left;
        }
        Ok(())
    }
}
