//! The loop that joins source, stages, executor, format and sink.
//!
//! The first datagrams of a dump are received and dealt with in turn, which is all that there is to most commands. What goes on, and
//! what does not end by itself, has two threads: the reader only receives, so that the kernel's work on the next datagram overlaps
//! with everything else; the worker decodes, runs the plugins and writes. Between them a fixed number of buffers goes round, so
//! the memory is the same whatever the table's size. Where no second thread can be had, one does all.

use std::{sync::mpsc::RecvTimeoutError, thread};

use super::{
    consumer::Consumer,
    context::Context,
    counters::Counters,
    executor::{Actionable, Executor, ExecutorError},
    queue::{self, Draining, Filling},
    resync::Resync,
    sink::{Sink, SinkError},
    stage::{Part, Reason, Stage, Staged},
    tell::Tell,
};
use flowgate_base::clock::now;
use flowgate_netlink::source::{Datagram, Source, SourceError};
use flowgate_netlink::{
    decode::DecodeError,
    message::{MessageError, Messages},
    wire::NLMSG_ERROR,
};
use flowgate_runtime::{PluginEngine, PluginError};

/// How many datagrams of a dump are dealt with before there is a second thread: about a thousand flows, which take no longer than
/// it takes to start one and to wake it.
const ALONE: usize = 8;
/// [`Pipeline::early_rows`] of what is not handed to plugins of users: to go on with memory that has been used costs less than the
/// further calls.
pub const EARLY_ROWS: usize = 256;

/// Why a pipeline ended before its source did.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A plugin failed.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The sink failed.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The executor will not go on.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows that reached the format.
    pub shown: u64,
    /// Messages of the kernel.
    pub messages: u64,
    /// Those of them that could not be read.
    pub malformed: u64,
    /// Gaps in a stream of events.
    pub gaps: u64,
    /// Events that are known to be lost in them.
    pub lost: u64,
}

/// A pipeline without its source: what happens to the rows.
pub struct Pipeline<'a, T: Actionable> {
    /// Rows of a batch.
    pub batch_rows: usize,
    /// Rows of a batch as long as there is no second thread: smaller batches use the same memory again, where a large one is all that
    /// there is to a short command, and would take new memory for everything.
    pub early_rows: usize,
    /// Decodes what the source yields.
    pub decoder: T::Decoder,
    /// The stages, in order.
    pub stages: Vec<Stage>,
    /// Deals with what the stages ask for.
    pub executor: Executor<T>,
    /// Takes the rows at the end; none if nothing is shown.
    pub consumer: Option<Box<dyn Consumer<T> + 'a>>,
    /// Where bytes go: those of a format, and those of a dry run.
    pub sink: &'a mut dyn Sink,
    /// Told of what is wrong but no reason to stop.
    pub on_warning: Tell,
    /// Told of gaps in a stream of events; the stream goes on.
    pub on_gap: fn(),
    /// Dumps the table, for stages that want to look back; none where that is of no use.
    pub look_back: Option<LookBack<'a>>,
    /// What has been received.
    pub counters: Counters,
    /// Makes up for events that were lost; none if that is not wanted.
    pub resync: Option<Resync<'a>>,
    /// The engine of its plugins, whose clock is started when the pipeline runs for long; none where it runs already.
    pub engine: Option<PluginEngine>,
}

/// Begins a dump of the table.
pub type LookBack<'a> = Box<dyn FnMut() -> Result<Box<dyn Source>, SourceError> + 'a>;

/// A message, or the rest of a datagram, that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Not even the messages could be told apart.
    #[error(transparent)]
    Datagram(#[from] MessageError),
    /// A message's attributes make no sense.
    #[error(transparent)]
    Message(#[from] DecodeError),
}

/// Says that something could not be read; the stream goes on.
fn skipped(malformed: &Malformed) -> String {
    format!("WARNING: {malformed}; skipped.")
}

impl<T: Actionable + Staged> Pipeline<'_, T> {
    /// Runs the source to its end. The tally also counts when the run fails.
    ///
    /// # Errors
    /// [`RunError`]; what was shown until then has been written.
    pub fn run(&mut self, source: &mut dyn Source, tally: &mut Tally) -> Result<(), RunError> {
        let mut context = Context::of(source);
        if let Some(resync) = &mut self.resync {
            resync.set_barriers(source.barriers());
        }
        self.begin()?;
        let mut batch = T::default();
        if context.events() {
            self.start_clock();
            self.resync(true)?;
            self.look_back(Some(Reason::Start))?;
        }
        let ended = self.take_all(source, &mut context, &mut batch, tally);
        // What came before an error of the source is still shown.
        if matches!(ended, Ok(()) | Err(RunError::Source(_))) {
            self.hand_on(&mut batch, &mut context, tally)?;
        }
        ended?;
        self.finish()
    }

    /// Takes what the source yields, to its end: the beginning of a dump alone, the rest with a reader beside.
    fn take_all(
        &mut self,
        source: &mut dyn Source,
        context: &mut Context,
        batch: &mut T,
        tally: &mut Tally,
    ) -> Result<(), RunError> {
        if !context.events() && self.take(source, Some(ALONE), context, batch, tally)? {
            return Ok(());
        }
        self.start_clock();
        let (filling, mut draining) = queue::queue(source, &self.counters);
        let waker = source.barriers();
        let worked = thread::scope(|scope| {
            let reader = &mut *source;
            thread::Builder::new().name("reader".into()).spawn_scoped(scope, move || read(reader, filling)).ok()?;
            let worked = self.drain(&mut draining, context, batch, tally);
            // Without its end of the queue, also when this failed, the reader stops.
            drop(draining);
            if let (Err(_), Some(mut waker)) = (&worked, waker) {
                // One that waits for events would notice only when there is one. If it cannot be woken, it is left at that.
                let _ = waker.insert();
            }
            Some(worked)
        });
        match worked {
            Some(worked) => worked,
            // There is no other thread to be had.
            None => self.take(source, None, context, batch, tally).map(|_| ()),
        }
    }

    /// Takes datagrams on this thread, all or so many; whether the source has ended. Events are handed on with each, since nothing
    /// tells whether there are more.
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
            let rows = if most.is_some() { self.early_rows } else { self.batch_rows };
            self.decode(&datagram, rows, context, batch, tally)?;
            if context.when_idle() {
                self.hand_on(batch, context, tally)?;
                self.tick()?;
            }
        }
        Ok(false)
    }

    /// Calls of plugins end at their deadlines from now on. Without another thread they do not: stock plugins need no deadline, and
    /// one of the user has had its clock before, or was not started.
    fn start_clock(&mut self) {
        if let Some(engine) = self.engine.take() {
            let _ = engine.start_clock();
        }
    }

    /// Runs rows that are at hand already, instead of a source.
    ///
    /// # Errors
    /// As [`Pipeline::run`].
    pub fn feed(&mut self, mut rows: T, tally: &mut Tally) -> Result<(), RunError> {
        self.begin()?;
        self.hand_on(&mut rows, &mut Context::default(), tally)?;
        self.finish()
    }

    /// The stream has ended.
    fn finish(&mut self) -> Result<(), RunError> {
        for stage in &mut self.stages {
            stage.finish(&mut self.executor)?;
        }
        self.settle()?;
        for stage in &mut self.stages {
            stage.save_state(true, &self.on_warning);
        }
        match &mut self.consumer {
            Some(consumer) => consumer.end(self.sink),
            None => Ok(()),
        }
    }

    /// Takes datagrams of the reader until there are no more.
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
                    // Events are handed on as soon as there are no more of them for the moment.
                    if context.when_idle() {
                        self.hand_on(batch, context, tally)?;
                    }
                    self.tick()?;
                    let resync = self.resync.as_ref().and_then(Resync::patience);
                    let patience = self.stages.iter().filter_map(Stage::patience).chain(resync).min();
                    match queue.wait(patience) {
                        Ok(datagram) => datagram?,
                        Err(RecvTimeoutError::Timeout) => continue,
                        Err(RecvTimeoutError::Disconnected) => return Ok(()),
                    }
                }
            };
            self.decode(&datagram, self.batch_rows, context, batch, tally)?;
            queue.give_back(datagram);
        }
    }

    /// Decodes a datagram, handing on the batch whenever it has so many rows.
    fn decode(
        &mut self,
        datagram: &Datagram,
        rows: usize,
        context: &mut Context,
        batch: &mut T,
        tally: &mut Tally,
    ) -> Result<(), RunError> {
        if datagram.flush {
            self.hand_on(batch, context, tally)?;
            if let Some(consumer) = &mut self.consumer {
                consumer.pause();
            }
            return Ok(());
        }
        if context.turns(datagram) {
            self.hand_on(batch, context, tally)?;
        }
        context.meet(datagram);
        if datagram.gap {
            self.counters.gap(datagram.lost.unwrap_or(0));
            (self.on_gap)();
            tally.gaps += 1;
            tally.lost += u64::from(datagram.lost.unwrap_or(0));
            if let Err(error) = batch.push_gap(&mut self.decoder, datagram.received, datagram.lost) {
                self.on_warning.line(&skipped(&error.into()));
            }
            self.hand_on(batch, context, tally)?;
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
                self.hand_on(batch, context, tally)?;
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
                self.on_warning.line(&skipped(&malformed));
            }
            if batch.rows() >= rows {
                self.hand_on(batch, context, tally)?;
            }
        }
        Ok(())
    }

    /// Begins to make up for lost events, or at the start takes the table as it is.
    fn resync(&mut self, start: bool) -> Result<(), RunError> {
        let Some(resync) = &mut self.resync else { return Ok(()) };
        if let Err(error) = resync.begin(start) {
            self.on_warning.line(&cannot_resync(&error));
        }
        Ok(())
    }

    /// Tells what a part of the table has shown to be lost, and reads the next part.
    fn make_up(&mut self, batch: &mut T, context: &mut Context, tally: &mut Tally) -> Result<(), RunError> {
        while let Some(resync) = &mut self.resync
            && batch.made_up(&mut self.decoder, resync, self.batch_rows)
        {
            self.hand_on(batch, context, tally)?;
        }
        match self.resync.as_mut().map(Resync::advance) {
            Some(Ok(true)) if self.resync.as_ref().is_some_and(Resync::was_silent) => Ok(()),
            // A stage that looks back does so when the stream is whole again, and starts over from there.
            Some(Ok(true)) => {
                self.counters.resync();
                self.look_back(Some(Reason::Gap))
            }
            Some(Err(error)) => {
                self.on_warning.line(&cannot_resync(&error));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Runs a batch through the stages, the format and the sink, and empties it.
    fn hand_on(&mut self, batch: &mut T, context: &mut Context, tally: &mut Tally) -> Result<(), RunError> {
        if batch.rows() == 0 {
            return Ok(());
        }
        self.counters.rows(batch.rows(), batch.kinds());
        batch.stamp(context.time());
        if let Some(programs) = context.programs() {
            batch.name_programs(programs);
        }
        if let Some(resync) = &mut self.resync {
            batch.follow(resync);
        }
        for stage in &mut self.stages {
            if batch.rows() == 0 {
                break;
            }
            stage.batch(batch, &mut self.executor)?;
        }
        let rows = batch.rows();
        if rows > 0 {
            batch.stamp(context.time());
            if let Some(consumer) = &mut self.consumer {
                consumer.take(batch, self.sink)?;
            }
            let shown = batch.entries() as u64;
            tally.shown += shown;
            self.counters.shown(shown);
        }
        batch.clear(&mut self.decoder);
        self.settle()?;
        self.tick()?;
        // A stage whose plugin was restarted may want to know the table.
        self.look_back(None)
    }

    /// After something was acted on: prints what a dry run has to say, and ends the run if that is to be.
    fn settle(&mut self) -> Result<(), RunError> {
        let printed = self.executor.take_printed()?;
        if !printed.is_empty() {
            self.sink.write(&printed)?;
        }
        match self.executor.take_failure() {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }

    /// Gives the stages the ticks that are due, and writes what they keep now and then.
    fn tick(&mut self) -> Result<(), RunError> {
        for stage in &mut self.stages {
            T::tick(stage, &mut self.executor)?;
            stage.save_state(false, &self.on_warning);
        }
        if let Some(Err(error)) = self.resync.as_mut().map(Resync::retry) {
            self.on_warning.line(&cannot_resync(&error));
        }
        self.settle()
    }

    /// Offers the table to the stages that want it, for this reason or since their plugin is new.
    fn look_back(&mut self, reason: Option<Reason>) -> Result<(), RunError> {
        let Some(open) = &mut self.look_back else { return Ok(()) };
        let wanting: Vec<Option<Reason>> = self.stages.iter().map(|stage| stage.wants_look_back(reason)).collect();
        if wanting.iter().all(Option::is_none) {
            return Ok(());
        }
        if reason == Some(Reason::Gap) && self.resync.is_none() {
            self.counters.resync();
        }
        let mut source = open()?;
        for (stage, reason) in self.stages.iter_mut().zip(&wanting) {
            if let Some(reason) = reason {
                T::look_back(Part::Begin(*reason), stage, &mut self.executor)?;
            }
        }
        let mut part = T::default();
        let mut datagram = Datagram::new();
        loop {
            let more = source.next(&mut datagram)?;
            if more {
                for message in Messages::new(datagram.bytes()) {
                    let pushed = message
                        .map_err(Malformed::from)
                        .and_then(|message| Ok(part.push(&mut self.decoder, &message, datagram.arrival(false, 0))?));
                    if let Err(malformed) = pushed {
                        self.on_warning.line(&skipped(&malformed));
                    }
                }
            }
            if part.rows() >= self.batch_rows || !more {
                self.offer(&mut part, &wanting)?;
                part.clear(&mut self.decoder);
            }
            if !more {
                break;
            }
        }
        for (stage, _) in self.stages.iter_mut().zip(&wanting).filter(|(_, reason)| reason.is_some()) {
            T::look_back(Part::End, stage, &mut self.executor)?;
        }
        self.settle()
    }

    /// Offers a part of the table to the stages that want it: what the command's selector leaves of it.
    fn offer(&mut self, part: &mut T, wanting: &[Option<Reason>]) -> Result<(), RunError> {
        part.stamp(now());
        for stage in self.stages.iter_mut().filter(|stage| stage.selects()) {
            stage.batch(part, &mut self.executor)?;
        }
        for (stage, _) in self.stages.iter_mut().zip(wanting).filter(|(_, reason)| reason.is_some()) {
            T::look_back(Part::Entries(part), stage, &mut self.executor)?;
        }
        Ok(())
    }

    /// The stream begins.
    fn begin(&mut self) -> Result<(), RunError> {
        match &mut self.consumer {
            Some(consumer) => consumer.begin(self.sink),
            None => Ok(()),
        }
    }
}

fn cannot_resync(error: &SourceError) -> String {
    format!("WARNING: the table cannot be read to make up for lost events: {error}; trying again in a second.")
}

/// The reader: receives until the source ends, or until the worker is gone.
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

#[cfg(test)]
mod tests;
