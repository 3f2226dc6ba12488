//! Receives from the source: on the thread of the pipeline, or on one of its own.

use std::{sync::mpsc::RecvTimeoutError, thread, time::Duration};

use super::{Pipeline, RunError, Tally};
use crate::{
    context::Context,
    entries::Entries,
    queue::{self, Draining, Filling},
    resync::Resync,
    stage::Stage,
};
use flowgate_netlink::source::{Datagram, Source};

/// Number of datagrams of a dump that are processed before a second thread is started: about a thousand flows, which
/// take no longer than starting and waking a thread.
const SINGLE_THREAD_DATAGRAMS: usize = 8;

impl<T: Entries> Pipeline<'_, T> {
    /// Processes the source to its end: the beginning of a dump on one thread, the rest with a reader.
    pub(super) fn take_all(
        &mut self,
        source: &mut dyn Source,
        context: &mut Context,
        batch: &mut T,
        tally: &mut Tally,
    ) -> Result<(), RunError> {
        if !context.events() && self.take(source, Some(SINGLE_THREAD_DATAGRAMS), context, batch, tally)? {
            return Ok(());
        }
        self.start_clock();
        if source.is_timed() {
            return self.process_directly(source, context, batch, tally);
        }
        let (filling, mut draining) = queue::queue(source, &self.counters);
        let waker = source.barriers();
        let worked = thread::scope(|scope| {
            let reader = &mut *source;
            thread::Builder::new().name("reader".into()).spawn_scoped(scope, move || read(reader, filling)).ok()?;
            let worked = self.drain(&mut draining, context, batch, tally);
            // Dropping its end of the queue stops the reader, also after a failure.
            drop(draining);
            if let (Err(_), Some(mut waker)) = (&worked, waker) {
                // A reader that waits for events would notice that only at the next event. If it cannot be woken,
                // nothing else can be done.
                let _ = waker.insert();
            }
            Some(worked)
        });
        match worked {
            Some(worked) => worked,
            // No other thread can be started.
            None => self.take(source, None, context, batch, tally).map(|_| ()),
        }
    }

    /// Processes datagrams on this thread, all or at most this many; returns true if the source has ended. Events are
    /// passed on with each datagram, since it is unknown if more are waiting.
    fn take(
        &mut self,
        source: &mut dyn Source,
        most: Option<usize>,
        context: &mut Context,
        batch: &mut T,
        tally: &mut Tally,
    ) -> Result<bool, RunError> {
        let mut datagram = Datagram::with_capacity(queue::room(source));
        let mut taken = 0;
        while most.is_none_or(|most| taken < most) {
            if !source.next(&mut datagram)? {
                return Ok(true);
            }
            taken += 1;
            let rows = if most.is_some() { self.early_rows } else { self.spec.batch };
            self.decode(&datagram, rows, context, batch, tally)?;
            if context.when_idle() {
                self.process_batch(batch, context, tally)?;
                self.tick()?;
            }
        }
        Ok(false)
    }

    /// Returns the time until something is due without a datagram; `None` if nothing is.
    pub(super) fn patience(&self) -> Option<Duration> {
        let resync = self.resync.as_ref().and_then(Resync::patience);
        let consumer = self.consumer.as_ref().and_then(|consumer| consumer.patience());
        self.stages.iter().filter_map(Stage::patience).chain(resync).chain(consumer).min()
    }

    /// Processes datagrams of the reader until there are no more.
    fn drain(
        &mut self,
        queue: &mut Draining,
        context: &mut Context,
        batch: &mut T,
        tally: &mut Tally,
    ) -> Result<(), RunError> {
        loop {
            let datagram = match queue.ready() {
                Ok(datagram) => datagram?,
                Err(_) => {
                    // Events are passed on as soon as no more are waiting.
                    if context.when_idle() {
                        self.process_batch(batch, context, tally)?;
                    }
                    self.tick()?;
                    match queue.wait(self.patience()) {
                        Ok(datagram) => datagram?,
                        Err(RecvTimeoutError::Timeout) => continue,
                        Err(RecvTimeoutError::Disconnected) => return Ok(()),
                    }
                }
            };
            self.decode(&datagram, self.spec.batch, context, batch, tally)?;
            queue.give_back(datagram);
        }
    }
}

/// The reader: receives until the source or the worker ends.
fn read(source: &mut dyn Source, mut queue: Filling) {
    while let Some(mut datagram) = queue.buffer(source) {
        let goes_on = match source.next(&mut datagram) {
            Ok(true) => queue.hand(Ok(datagram)),
            Ok(false) => false,
            Err(error) => {
                queue.hand(Err(error));
                false
            }
        };
        if !goes_on {
            break;
        }
    }
    queue.hand_over();
}
