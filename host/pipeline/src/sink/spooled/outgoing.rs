//! What is to be delivered, as a shipper sees it.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use super::shared::{Inner, Shared};
use crate::spool::{Entry, Gap, Record, SpoolError};

/// The batches of a spool, in their order.
pub struct Outgoing {
    shared: Arc<Shared>,
    turn: u64,
}

/// Something to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// Its number, by which it is acknowledged.
    pub number: u64,
    /// With the number, it is the same whenever this is delivered, and different from everything else of the spool.
    pub epoch: u64,
    /// What it is.
    pub content: Content,
}

/// What is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Whole lines.
    Lines(Vec<u8>),
    /// Lines are missing here.
    Gap(Gap),
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// There is something to deliver.
    More,
    /// Nothing is to be delivered any more.
    Over,
}

impl Outgoing {
    pub(super) fn new(shared: Arc<Shared>, turn: u64) -> Self {
        Outgoing { shared, turn }
    }

    fn is_over(&self, inner: &Inner) -> bool {
        inner.turn != self.turn || inner.abandoned || inner.writers == 0 && inner.spool.waiting() == 0
    }

    /// Returns what is next; `None` if there is nothing yet, or nothing is to be delivered any more.
    ///
    /// # Errors
    /// [`SpoolError`] if the spool cannot be read.
    pub fn next_parcel(&mut self) -> Result<Option<Parcel>, SpoolError> {
        loop {
            let mut inner = self.shared.lock();
            if self.is_over(&inner) {
                return Ok(None);
            }
            let Some(place) = inner.spool.next_place()? else { return Ok(None) };
            drop(inner);
            // Who writes does not wait until it is read.
            let found = place.read();
            let found = found.map_err(|source| SpoolError::File { path: self.shared.path.clone(), source })?;
            let mut inner = self.shared.lock();
            if self.is_over(&inner) {
                return Ok(None);
            }
            if let Some(Entry { number, epoch, record }) = inner.spool.take(found) {
                let content = match record {
                    Record::Batch(lines) => Content::Lines(lines),
                    Record::Gap(gap) => Content::Gap(gap),
                };
                return Ok(Some(Parcel { number, epoch, content }));
            }
        }
    }

    /// Removes everything up to this number.
    ///
    /// # Errors
    /// [`SpoolError`] if the spool cannot be written.
    pub fn acknowledge(&mut self, number: u64) -> Result<(), SpoolError> {
        let mut inner = self.shared.lock();
        if inner.turn == self.turn {
            inner.spool.acknowledge(number)?;
            self.shared.changed.notify_all();
        }
        Ok(())
    }

    /// Begins anew with what is not acknowledged.
    pub fn rewind(&mut self) {
        let mut inner = self.shared.lock();
        if inner.turn == self.turn {
            inner.spool.rewind();
        }
    }

    /// Waits until there is something to deliver, if `more` is true, or until it is over.
    pub fn poll_change(&mut self, context: &mut Context<'_>, more: bool) -> Poll<Change> {
        let mut inner = self.shared.lock();
        if self.is_over(&inner) {
            return Poll::Ready(Change::Over);
        }
        if more && inner.spool.has_unread() {
            return Poll::Ready(Change::More);
        }
        inner.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
