//! The loop that joins source, stages, executor, format and sink.
//!
//! The first datagrams of a dump are received and dealt with in turn, which is all that there is to most commands. What goes on, and
//! what does not end by itself, has two threads: the reader only receives, so that the kernel's work on the next datagram overlaps
//! with everything else; the worker decodes, runs the plugins and writes. Between them a fixed number of buffers goes round, so
//! the memory is the same whatever the table's size. Where no second thread can be had, one does all.

use std::{
    sync::{Arc, Mutex, mpsc::RecvTimeoutError},
    thread,
};

use super::{
    consumer::{Charged, Consumer},
    context::Context,
    counters::Counters,
    entries::Entries,
    executor::{Executor, ExecutorError, Guard},
    kernel::{self, KernelTable, OpenError, OpenOptions},
    queue::{self, Draining, Filling},
    resync::{Healed, Kernel, Resync},
    sink::{Sink, SinkError},
    spec::{Dump, Source as SourceSpec, Spec},
    stage::{self, Reason, Stage},
};
use flowgate_base::{TokenBucket, Warnings, clock::now};
use flowgate_model::{EventGroups, Selection};
use flowgate_netlink::{
    Namespace, Stop,
    decode::DecodeError,
    message::{MessageError, Messages},
    source::{Datagram, Source, SourceError},
    wire::NLMSG_ERROR,
};
use flowgate_runtime::{PluginEngine, PluginError};

/// The warning of a gap in a stream of events, which conntrack prints in these words.
pub const GAP_WARNING: [&str; 3] = [
    "WARNING: We have hit ENOBUFS! We are losing events.",
    "This message means that the current netlink socket buffer size is too small.",
    "Please, check --buffer-size in conntrack(8) manpage.",
];
/// How many datagrams of a dump are dealt with before there is a second thread: about a thousand flows, which take no longer than
/// it takes to start one and to wake it.
const ALONE: usize = 8;
/// Early rows of a batch that no plugin from a file sees: to go on with memory that has been used costs less than the further
/// calls.
pub(crate) const EARLY_ROWS: usize = 256;

/// Why a pipeline ended before its source did.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The source cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
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

/// The parts of a pipeline.
pub(crate) struct Parts<'a, T: Entries> {
    /// Rows of a batch.
    pub(crate) batch_rows: usize,
    /// Rows of a batch as long as there is no second thread: smaller batches use the same memory again, where a large one
    /// would take new memory for everything that a short command has.
    pub(crate) early_rows: usize,
    /// Decodes what the source yields.
    pub(crate) decoder: T::Decoder,
    /// The stages, in order.
    pub(crate) stages: Vec<Stage>,
    /// Performs the actions that stages request.
    pub(crate) executor: Executor<T>,
    /// Takes the rows at the end; `None` if they are not shown.
    pub(crate) consumer: Option<Box<dyn Consumer<T> + 'a>>,
    /// Takes the bytes: those of a format, and those of a dry run.
    pub(crate) sink: &'a mut dyn Sink,
    /// The engine of the plugins, whose clock is started when the pipeline runs for long.
    pub(crate) engine: PluginEngine,
    /// Where entries come from.
    pub(crate) source: SourceSpec,
    /// The selected flows.
    pub(crate) selection: Selection,
    /// The network namespace; `None` for the namespace of the process.
    pub(crate) namespace: Option<Namespace>,
}

/// A pipeline that can be run: the parts of a [`Spec`](crate::Spec), loaded and joined
/// ([`LoadedSpec::pipeline`](crate::LoadedSpec::pipeline)).
pub struct Pipeline<'a, T: Entries> {
    batch_rows: usize,
    early_rows: usize,
    decoder: T::Decoder,
    stages: Vec<Stage>,
    executor: Executor<T>,
    consumer: Option<Box<dyn Consumer<T> + 'a>>,
    sink: &'a mut dyn Sink,
    warnings: Warnings,
    /// True if gaps in a stream of events are reported as warnings.
    warns_of_gaps: bool,
    /// Dumps the table, for stages that look back; `None` if stages are not offered the table.
    look_back: Option<LookBack<'a>>,
    counters: Counters,
    /// Makes up for lost events; `None` if that is not wanted.
    resync: Option<Resync<'a>>,
    /// The engine, as long as its clock has not been started.
    engine: Option<PluginEngine>,
    source: SourceSpec,
    selection: Selection,
    namespace: Option<Namespace>,
}

/// Opens a dump of the table.
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

impl<'a, T: Entries> Pipeline<'a, T> {
    /// Joins parts.
    pub(crate) fn new(parts: Parts<'a, T>) -> Self {
        Pipeline {
            batch_rows: parts.batch_rows,
            early_rows: parts.early_rows,
            decoder: parts.decoder,
            stages: parts.stages,
            executor: parts.executor,
            consumer: parts.consumer,
            sink: parts.sink,
            warnings: Warnings::ignored(),
            warns_of_gaps: true,
            look_back: None,
            counters: Counters::default(),
            resync: None,
            engine: Some(parts.engine),
            source: parts.source,
            selection: parts.selection,
            namespace: parts.namespace,
        }
    }

    /// Sets what receives warnings; without it they are dropped.
    #[must_use]
    pub fn with_warnings(mut self, warnings: Warnings) -> Self {
        self.executor = self.executor.with_warnings(warnings.clone());
        self.warnings = warnings;
        self
    }

    /// Leaves gaps in a stream of events out of the warnings, for callers that report them in another way.
    #[must_use]
    pub fn without_gap_warnings(mut self) -> Self {
        self.warns_of_gaps = false;
        self
    }

    /// Sets the counters of what is received.
    #[must_use]
    pub fn with_counters(mut self, counters: Counters) -> Self {
        self.counters = counters;
        self
    }

    /// Replaces what takes the rows at the end; it reads these fields.
    #[must_use]
    pub fn with_consumer(mut self, reads: u64, consumer: Box<dyn Consumer<T> + 'a>) -> Self {
        self.decoder = T::decoder(stage::needed(&self.stages, reads));
        self.consumer = Some(consumer);
        self
    }

    /// Charges the time of whatever takes the rows at the end to a budget.
    #[must_use]
    pub fn with_budget(mut self, budget: Arc<Mutex<TokenBucket>>) -> Self
    where
        T: 'a,
    {
        self.consumer =
            self.consumer.map(|consumer| Box::new(Charged::new(consumer, budget)) as Box<dyn Consumer<T> + 'a>);
        self
    }

    /// Has a guard decide about each action of plugins from files, instead of their grants alone.
    #[must_use]
    pub fn with_guard(mut self, guard: Box<dyn Guard<T>>) -> Self {
        self.executor = self.executor.guarded().watched_by(guard);
        self
    }

    /// Keeps stages from changing what identifies an entry, because the caller acts on what is shown.
    #[must_use]
    pub fn with_fixed_identity(mut self) -> Self {
        self.executor = self.executor.guarded();
        self
    }

    /// Sends no action to the kernel: the entries are not those of its table as it is now.
    #[must_use]
    pub fn detached(mut self) -> Self {
        self.executor.detach();
        self
    }

    /// Sets the table that events are about, for sources other than the kernel's own events. Its entries are reported as
    /// new events at the start, stages can look back at it, and events of these groups that were lost are made up for.
    #[must_use]
    pub fn with_table<K: Kernel + 'a>(mut self, groups: EventGroups, open: impl Fn() -> K + 'a) -> Self {
        self.resync = Some(Resync::new(Box::new(open()), groups).telling());
        self.look_back = Some(Box::new(move || open().list()));
        self
    }

    /// Returns the number of actions that were done, or printed in a dry run.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.executor.done()
    }

    /// Returns how many of the actions that were done changed an entry that existed, where creations are merged.
    #[must_use]
    pub fn changed(&self) -> u64 {
        self.executor.changed()
    }

    /// Returns the number of actions that were refused for want of a grant.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.executor.refused()
    }

    /// Returns the rows whose action the kernel has refused since the last call, if refusals are noted
    /// ([`OnRefusal::Note`](crate::spec::OnRefusal)).
    pub fn take_refusals(&mut self) -> Vec<(usize, ExecutorError)> {
        self.executor.take_refusals()
    }

    /// Returns the rows of which something was left out since the last call, and what.
    pub fn take_kept(&mut self) -> Vec<(usize, String)> {
        self.executor.take_kept()
    }

    /// Returns how often lost events were made up for; `None` if the pipeline does not do that.
    #[must_use]
    pub fn healed(&self) -> Option<Healed> {
        self.resync.as_ref().map(Resync::healed)
    }

    /// Runs the pipeline on its own source, which must yield entries, to its end. Nothing is done to the entries of a
    /// recording. The tally also counts when
    /// the run fails.
    ///
    /// # Errors
    /// [`RunError`]; what was shown until then has been written.
    pub fn run(&mut self, stop: &Stop, tally: &mut Tally) -> Result<(), RunError> {
        let source = std::mem::replace(&mut self.source, SourceSpec::Dump(Dump::flows()));
        if let SourceSpec::Given(batch) = source {
            let rows = T::from_batch(batch).ok_or(OpenError::NoEntries)?;
            return self.feed(rows, tally);
        }
        if let SourceSpec::Recording(recording) = &source {
            self.executor.detach();
            let mut source = recording.open(stop).map_err(OpenError::Recording)?;
            return self.run_on(&mut source, tally);
        }
        if let SourceSpec::Events(events) = &source {
            let table = KernelTable::new(self.namespace.as_ref(), stop);
            self.resync = events.resync.then(|| Resync::new(Box::new(table), events.groups));
            let (selection, namespace, stop) = (self.selection.clone(), self.namespace.clone(), stop.clone());
            self.look_back = Some(Box::new(move || kernel::open_flows(&selection, namespace.as_ref(), &stop)));
        }
        let spec = Spec { selection: self.selection.clone(), namespace: self.namespace.clone(), ..Spec::new(source) };
        let (counters, warnings) = (&self.counters, &self.warnings);
        let mut source = spec.open_kernel(&OpenOptions { stop, counters, warnings, flush_when_idle: false })?;
        self.run_on(source.as_mut(), tally)
    }

    /// Runs the pipeline on another source to its end. The tally also counts when the run fails.
    ///
    /// # Errors
    /// [`RunError`]; what was shown until then has been written.
    pub fn run_on(&mut self, source: &mut dyn Source, tally: &mut Tally) -> Result<(), RunError> {
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

    /// Runs the pipeline on rows instead of a source.
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
            stage.save_state(true, &self.warnings);
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
            if self.warns_of_gaps {
                GAP_WARNING.iter().for_each(|line| self.warnings.line(line));
            }
            tally.gaps += 1;
            tally.lost += u64::from(datagram.lost.unwrap_or(0));
            if let Err(error) = batch.push_gap(&mut self.decoder, datagram.received, datagram.lost) {
                self.warnings.line(&skipped(&error.into()));
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
                self.warnings.line(&skipped(&malformed));
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
            self.warnings.line(&cannot_resync(&error));
        }
        Ok(())
    }

    /// Tells what a part of the table has shown to be lost, and reads the next part.
    fn make_up(&mut self, batch: &mut T, context: &mut Context, tally: &mut Tally) -> Result<(), RunError> {
        while let Some(resync) = &mut self.resync
            && batch.make_up(&mut self.decoder, resync, self.batch_rows)
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
                self.warnings.line(&cannot_resync(&error));
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
            batch.add_names(programs);
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
            let shown = batch.count_entries() as u64;
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
            stage.tick(&mut self.executor)?;
            stage.save_state(false, &self.warnings);
        }
        if let Some(Err(error)) = self.resync.as_mut().map(Resync::retry) {
            self.warnings.line(&cannot_resync(&error));
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
                stage.begin_look_back(*reason, &mut self.executor)?;
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
                        self.warnings.line(&skipped(&malformed));
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
            stage.end_look_back(&mut self.executor)?;
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
            stage.look_back(part, &mut self.executor)?;
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
