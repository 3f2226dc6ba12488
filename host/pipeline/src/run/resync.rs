//! Makes up for lost events.

use super::{Pipeline, RunError, Tally};
use crate::{context::Context, entries::Entries, resync::Resync, stage::Reason};
use flowgate_netlink::source::SourceError;

impl<T: Entries> Pipeline<'_, T> {
    /// Begins to make up for lost events, or takes over the table at the start.
    pub(super) fn resync(&mut self, start: bool) -> Result<(), RunError> {
        let Some(resync) = &mut self.resync else { return Ok(()) };
        if let Err(error) = resync.begin(start) {
            self.warnings.line(&cannot_resync(&error));
        }
        Ok(())
    }

    /// Reports the events that a part of the table has shown to be lost, and reads the next part.
    pub(super) fn make_up(&mut self, batch: &mut T, context: &mut Context, tally: &mut Tally) -> Result<(), RunError> {
        while let Some(resync) = &mut self.resync
            && batch.make_up(&mut self.decoder, resync, self.spec.batch)
        {
            self.process_batch(batch, context, tally)?;
        }
        match self.resync.as_mut().map(Resync::advance) {
            Some(Ok(true)) if self.resync.as_ref().is_some_and(Resync::was_silent) => Ok(()),
            // A stage looks back when the stream is complete again, and starts over from there.
            Some(Ok(true)) => {
                self.counters.resync();
                self.look_back(Some(Reason::Gap))
            }
            Some(Err(error)) => {
                self.warnings.line(&cannot_resync(&error));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn cannot_resync(error: &SourceError) -> String {
    format!("WARNING: the table cannot be read to make up for lost events: {error}; trying again in a second.")
}
