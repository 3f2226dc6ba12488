//! Decodes datagrams into batches, and notices gaps.

use super::{GAP_WARNING, Pipeline, RunError, Tally};
use crate::{context::Context, entries::Entries, stage::Reason};
use flowgate_netlink::{
    decode::DecodeError,
    message::{MessageError, Messages},
    source::Datagram,
    wire::NLMSG_ERROR,
};

/// A message, or the rest of a datagram, that could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// The messages cannot be separated.
    #[error(transparent)]
    Datagram(#[from] MessageError),
    /// The attributes of a message are malformed.
    #[error(transparent)]
    Message(#[from] DecodeError),
}

/// Returns the warning of a message that could not be decoded; the stream continues.
pub(super) fn skipped(malformed: &Malformed) -> String {
    format!("WARNING: {malformed}; skipped.")
}

impl<T: Entries> Pipeline<'_, T> {
    /// Decodes a datagram, and passes the batch on whenever it has this many rows.
    pub(super) fn decode(
        &mut self,
        datagram: &Datagram,
        rows: usize,
        context: &mut Context,
        batch: &mut T,
        tally: &mut Tally,
    ) -> Result<(), RunError> {
        if datagram.flush {
            self.process_batch(batch, context, tally)?;
            if let Some(consumer) = &mut self.consumer {
                consumer.pause()?;
            }
            return Ok(());
        }
        if context.turns(datagram) {
            self.process_batch(batch, context, tally)?;
        }
        context.meet(datagram);
        if datagram.gap {
            self.counters.gap(datagram.lost.unwrap_or(0));
            if self.warns_of_gaps {
                GAP_WARNING.iter().for_each(|line| self.warnings.line(line));
            }
            tally.gaps += 1;
            tally.lost += u64::from(datagram.lost.unwrap_or(0));
            if let Err(error) = batch.push_gap(&mut self.decoder, datagram.received, datagram.lost) {
                self.warnings.line(&skipped(&error.into()));
            }
            self.process_batch(batch, context, tally)?;
            if self.resync.is_some() {
                return self.resync(false);
            }
            return self.look_back(Some(Reason::Gap));
        }
        self.counters.datagrams(datagram.times.len().max(1), datagram.length);
        for (number, message) in Messages::new(datagram.bytes()).enumerate() {
            tally.messages += 1;
            if let Ok(message) = &message
                && message.message_type == NLMSG_ERROR
                && self.resync.as_mut().is_some_and(|resync| resync.reached(message.sequence))
            {
                self.process_batch(batch, context, tally)?;
                self.make_up(batch, context, tally)?;
                continue;
            }
            let arrival = datagram.arrival(context.events(), number);
            let pushed = message
                .map_err(Malformed::from)
                .and_then(|message| Ok(batch.push(&mut self.decoder, &message, arrival)?));
            if let Err(malformed) = pushed {
                tally.malformed += 1;
                self.counters.malformed();
                self.warnings.line(&skipped(&malformed));
            }
            if batch.rows() >= rows {
                self.process_batch(batch, context, tally)?;
            }
        }
        Ok(())
    }
}
