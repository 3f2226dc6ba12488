//! Consumers: what takes the rows at a pipeline's end. A format that writes into the sink is one, a screen another.

use super::{format::Format, run::RunError, sink::Sink, table::Table};

/// Takes the rows that come out of a pipeline.
pub trait Consumer<T> {
    /// The stream begins.
    ///
    /// # Errors
    /// What cannot go on.
    fn begin(&mut self, sink: &mut dyn Sink) -> Result<(), RunError> {
        let _ = sink;
        Ok(())
    }

    /// Takes a batch, which has rows. The batch may be borrowed from, not emptied.
    ///
    /// # Errors
    /// What cannot go on.
    fn take(&mut self, batch: &mut T, sink: &mut dyn Sink) -> Result<(), RunError>;

    /// The source said that this was all for the moment ([`super::source::Datagram::pause`]); everything before has been taken.
    fn pause(&mut self) {}

    /// The stream has ended.
    ///
    /// # Errors
    /// What cannot go on.
    fn end(&mut self, sink: &mut dyn Sink) -> Result<(), RunError> {
        let _ = sink;
        Ok(())
    }
}

impl<T: Table> Consumer<T> for Format {
    fn begin(&mut self, sink: &mut dyn Sink) -> Result<(), RunError> {
        write(sink, &T::begin(self)?)
    }

    fn take(&mut self, batch: &mut T, sink: &mut dyn Sink) -> Result<(), RunError> {
        write(sink, &batch.render(self)?)
    }

    fn end(&mut self, sink: &mut dyn Sink) -> Result<(), RunError> {
        write(sink, &T::end(self)?)
    }
}

/// Writes, if there is something to be written.
fn write(sink: &mut dyn Sink, bytes: &[u8]) -> Result<(), RunError> {
    if bytes.is_empty() { Ok(()) } else { Ok(sink.write(bytes)?) }
}
