//! The stream of events, as the owner sends it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use flowgate_isolation::{Body, Frame, Violation};
use flowgate_netlink::source::{Barriers, Datagram, Source, SourceError};
use flowgate_pipeline::{counters::Counters, stats::SharedStageStats};

use super::{owner::Owner, table::RemoteBarriers};
use crate::{
    Link, LinkError,
    protocol::{kind, statistics},
};

/// Number of frames after which a worker that is never idle says that it has processed them.
const REPORT_EVERY: u64 = 8;
/// Minimum interval between two reports of statistics.
const STATISTICS: Duration = Duration::from_millis(200);

/// The owner's stream of events.
pub(super) struct RemoteEvents {
    events: Link,
    owner: Arc<Owner>,
    /// Number of frames received, and of those that have been reported as processed.
    received: u64,
    done: u64,
    /// Minimum interval between two reports of what has been processed, unless there is much of it, and when the last
    /// one was made: the first one after a pause is made at once.
    interval: Duration,
    flushed: Option<Instant>,
    /// True if the owner has not gathered what has been received last, so that what it causes is not gathered either.
    prompt: bool,
    /// Statistics of the plugins, in order, and when they are to be reported next; `None` if they have not changed.
    stats: Vec<SharedStageStats>,
    counters: Counters,
    changed: bool,
    reported: Option<Instant>,
}

impl RemoteEvents {
    pub(super) fn new(
        events: Link,
        owner: Arc<Owner>,
        interval: Duration,
        stats: Vec<SharedStageStats>,
        counters: Counters,
    ) -> Self {
        RemoteEvents {
            events,
            owner,
            received: 0,
            done: 0,
            interval,
            flushed: None,
            prompt: false,
            stats,
            counters,
            changed: true,
            reported: None,
        }
    }

    /// Reports how far the stream has been processed, and sends the output.
    fn flush(&mut self) {
        if self.done < self.received {
            self.done = self.received;
            let counts = self.counters.read();
            self.owner.report_done(self.done, counts.resyncs, counts.shown);
        } else {
            self.owner.flush();
        }
        (self.flushed, self.prompt) = (Some(Instant::now()), false);
    }

    /// Does so if there is something to report and it is due. Returns the time until it is.
    fn flush_if_due(&mut self) -> Option<Duration> {
        if self.done == self.received && !self.owner.has_output() {
            return None;
        }
        let left = self.flushed.and_then(|flushed| self.interval.checked_sub(flushed.elapsed()));
        if self.prompt || self.received - self.done >= REPORT_EVERY || left.is_none_or(|left| left.is_zero()) {
            self.flush();
            return None;
        }
        left
    }

    /// Reports what has not been reported yet.
    pub(super) fn finish(&mut self) {
        self.flush();
        self.report_statistics();
    }

    /// Reports the statistics of all plugins.
    fn report_statistics(&mut self) {
        for (index, stats) in self.stats.iter().enumerate() {
            let index = u16::try_from(index).unwrap_or(u16::MAX);
            // If the owner has ended, the end of the stream of events says so.
            let _ = self.owner.send(|link| statistics(|kind| link.frame(kind), index, &stats.lock()));
        }
        (self.changed, self.reported) = (false, Some(Instant::now()));
    }

    /// Reports the statistics if they have changed and that is due. Returns the time until it is.
    fn report_statistics_if_due(&mut self) -> Option<Duration> {
        if !self.changed {
            return None;
        }
        let elapsed = self.reported.map_or(STATISTICS, |reported| reported.elapsed());
        match STATISTICS.checked_sub(elapsed).filter(|left| !left.is_zero()) {
            Some(left) => Some(left),
            None => {
                self.report_statistics();
                None
            }
        }
    }

    /// Receives a frame if one waits; returns false at the end.
    fn receive(&mut self, datagram: &mut Datagram) -> Result<Option<bool>, SourceError> {
        let failed = |error: LinkError| SourceError::Other { errno: libc::EPIPE, error: Box::new(error) };
        datagram.clear();
        match self.events.try_receive() {
            Ok(Some(frame)) => {
                let prompt = read(frame, datagram).map_err(|violation| failed(violation.into()))?;
                self.prompt |= prompt;
            }
            Ok(None) => return Ok(None),
            Err(LinkError::Ended) => return Ok(Some(false)),
            Err(error) => return Err(failed(error)),
        }
        self.received += 1;
        self.changed = true;
        Ok(Some(true))
    }
}

/// Reads a frame of the stream. Returns true if it has not been gathered.
fn read(frame: Frame<'_>, datagram: &mut Datagram) -> Result<bool, Violation> {
    let mut body: Body<'_> = frame.body;
    datagram.received = body.u64()?;
    match frame.kind {
        kind::EVENTS => {
            let prompt = body.bool()?;
            for _ in 0..body.u16()? {
                datagram.times.push(body.u64()?);
            }
            for _ in 0..body.u16()? {
                let (port, name) = (body.u32()?, body.bytes(64)?);
                datagram.process_names.push((port, name.to_vec()));
            }
            datagram.fill(body.rest());
            Ok(prompt)
        }
        kind::GAP => {
            datagram.gap = true;
            datagram.lost = if body.bool()? { Some(body.u32()?) } else { None };
            body.end().map(|()| true)
        }
        other => Err(Violation::Kind(other)),
    }
}

impl Source for RemoteEvents {
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        loop {
            if let Some(more) = self.next_within(datagram, None)? {
                return Ok(more);
            }
        }
    }

    fn next_within(
        &mut self,
        datagram: &mut Datagram,
        patience: Option<Duration>,
    ) -> Result<Option<bool>, SourceError> {
        // What has been received before has been processed, or the batch is not full yet.
        if patience == Some(Duration::ZERO) {
            if self.received - self.done >= REPORT_EVERY {
                self.flush();
            }
            return self.receive(datagram);
        }
        let due = [patience, self.flush_if_due(), self.report_statistics_if_due()].into_iter().flatten().min();
        let time = due.unwrap_or(Duration::from_secs(3600));
        let ready = self.events.is_readable(time).map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            SourceError::Other { errno, error: Box::new(error) }
        })?;
        if ready { self.receive(datagram) } else { Ok(None) }
    }

    fn is_timed(&self) -> bool {
        true
    }

    fn is_live(&self) -> bool {
        true
    }

    fn has_process_names(&self) -> bool {
        true
    }

    fn barriers(&self) -> Option<Box<dyn Barriers>> {
        Some(Box::new(RemoteBarriers(self.owner.clone())))
    }
}
