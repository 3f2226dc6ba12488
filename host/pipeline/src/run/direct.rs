//! The loop of a source that waits itself: one thread receives and processes.

use std::time::Duration;

use super::{Pipeline, RunError, Tally};
use crate::{context::Context, entries::Entries, queue};
use flowgate_netlink::source::{Datagram, Source};

impl<T: Entries> Pipeline<'_, T> {
    /// Processes datagrams until the source ends. Events are passed on as soon as no more are waiting.
    pub(super) fn process_directly(
        &mut self,
        source: &mut dyn Source,
        context: &mut Context,
        batch: &mut T,
        tally: &mut Tally,
    ) -> Result<(), RunError> {
        let mut datagram = Datagram::with_capacity(queue::room(source));
        loop {
            let mut received = source.next_within(&mut datagram, Some(Duration::ZERO))?;
            if received.is_none() {
                if context.when_idle() {
                    self.process_batch(batch, context, tally)?;
                }
                self.tick()?;
                received = source.next_within(&mut datagram, self.patience())?;
            }
            match received {
                Some(true) => self.decode(&datagram, self.spec.batch, context, batch, tally)?,
                Some(false) => return Ok(()),
                None => {}
            }
        }
    }
}
