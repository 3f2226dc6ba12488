//! The loop that joins source, stages, executor, format and sink.
//!
//! The first datagrams of a dump are received and processed in turn, which is all that most commands need. Larger dumps
//! and endless sources have two threads: the reader only receives, so that the kernel's work on the next datagram
//! overlaps with everything else; the worker decodes, runs the plugins and writes. A fixed number of buffers circulates
//! between them, so that the memory does not depend on the table's size. If no second thread can be started, one does
//! everything.
//!
//! This module has the pipeline, and what becomes of a batch; `receive` takes datagrams from the source, `decode` fills
//! the batch, `resync` makes up for lost events, and `look_back` offers the table to stages.

mod decode;
mod direct;
mod look_back;
mod receive;
mod resync;

use std::sync::{Arc, Mutex};

pub use decode::Malformed;
pub use look_back::LookBack;

use super::{
    consumer::{Charged, Consumer},
    context::Context,
    counters::Counters,
    entries::Entries,
    executor::{Delegate, Executor, ExecutorError, Shows},
    kernel::{self, KernelTable, OpenError, OpenOptions},
    resync::{Kernel, READS, Resync, ResyncCounts},
    sink::{Sink, SinkError},
    spec::{Source as SourceSpec, Spec},
    stage::{self, Reason, Stage},
};
use flowgate_base::{TokenBucket, Warnings};
use flowgate_model::{EventGroups, field};
use flowgate_netlink::{
    Stop,
    source::{Source, SourceError},
};
use flowgate_runtime::{PluginEngine, PluginError};
use resync::cannot_resync;

/// The warning of a gap in a stream of events, in the words of conntrack.
pub const GAP_WARNING: [&str; 3] = [
    "WARNING: We have hit ENOBUFS! We are losing events.",
    "This message means that the current netlink socket buffer size is too small.",
    "Please, check --buffer-size in conntrack(8) manpage.",
];
/// Number of rows of early batches if no plugin from a file sees them: reusing memory costs less than the additional
/// calls.
const EARLY_ROWS: usize = 256;

/// The reason for which a pipeline ended before its source did.
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
    /// The executor stopped.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
}

/// The counts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Number of rows that reached the format.
    pub shown: u64,
    /// Number of messages from the kernel.
    pub messages: u64,
    /// Number of messages that could not be decoded.
    pub malformed: u64,
    /// Number of gaps in a stream of events.
    pub gaps: u64,
    /// Number of events that are known to be lost in them.
    pub lost: u64,
}

/// A pipeline that can be run: the parts of a [`Spec`], loaded and joined
/// ([`LoadedSpec::pipeline`](crate::LoadedSpec::pipeline)).
pub struct Pipeline<'a, T: Entries> {
    spec: Spec,
    /// Number of rows of a batch before a second thread is started: smaller batches reuse the same memory, where a
    /// large one would allocate memory for all rows of a short command.
    early_rows: usize,
    /// Decodes what the source yields.
    decoder: T::Decoder,
    /// The stages, in order.
    stages: Vec<Stage>,
    /// Performs the actions that stages request.
    executor: Executor<T>,
    /// Takes the rows at the end; `None` if they are not shown.
    consumer: Option<Box<dyn Consumer<T> + 'a>>,
    /// Receives the bytes of a format and of a dry run.
    sink: &'a mut dyn Sink,
    warnings: Warnings,
    /// True if gaps in a stream of events are reported as warnings.
    warns_of_gaps: bool,
    /// Dumps the table, for stages that look back; `None` if stages are not offered the table.
    look_back: Option<LookBack<'a>>,
    counters: Counters,
    /// Makes up for lost events; `None` if lost events are ignored.
    resync: Option<Resync<'a>>,
    /// The engine, until its clock is started.
    engine: Option<PluginEngine>,
}

impl<'a, T: Entries> Pipeline<'a, T> {
    /// Returns a pipeline that shows nothing.
    pub(crate) fn new(
        spec: Spec,
        stages: Vec<Stage>,
        executor: Executor<T>,
        engine: PluginEngine,
        sink: &'a mut dyn Sink,
    ) -> Self {
        let short = !spec.has_plugins() && spec.shows == Shows::Entries;
        let early_rows = if short { spec.batch.min(EARLY_ROWS) } else { spec.batch };
        let decoder = Self::decoder(&spec, &stages, 0);
        Pipeline {
            spec,
            early_rows,
            decoder,
            stages,
            executor,
            consumer: None,
            sink,
            warnings: Warnings::ignored(),
            warns_of_gaps: true,
            look_back: None,
            counters: Counters::default(),
            resync: None,
            engine: Some(engine),
        }
    }

    /// Returns the decoder of the fields that the stages and the pipeline itself need, and a consumer that reads these.
    fn decoder(spec: &Spec, stages: &[Stage], reads: u64) -> T::Decoder {
        let reads = match &spec.source {
            // Which fields a dry run prints depends on its format.
            _ if spec.dry_run => field::ALL,
            SourceSpec::Events(events) if events.resync => reads | READS,
            _ => reads,
        };
        T::decoder(stage::needed(stages, reads))
    }

    /// Sets what receives warnings; without it they are dropped.
    #[must_use]
    pub fn with_warnings(mut self, warnings: Warnings) -> Self {
        self.executor = self.executor.with_warnings(warnings.clone());
        self.warnings = warnings;
        self
    }

    /// Omits warnings of gaps in a stream of events, for callers that report gaps in another way.
    #[must_use]
    pub fn without_gap_warnings(mut self) -> Self {
        self.warns_of_gaps = false;
        self
    }

    /// Sets the counters of received data.
    #[must_use]
    pub fn with_counters(mut self, counters: Counters) -> Self {
        self.counters = counters;
        self
    }

    /// Replaces the consumer of the rows by one that reads these fields.
    #[must_use]
    pub fn with_consumer(mut self, reads: u64, consumer: Box<dyn Consumer<T> + 'a>) -> Self {
        self.decoder = Self::decoder(&self.spec, &self.stages, reads);
        self.consumer = Some(consumer);
        self
    }

    /// Charges the time of the consumer to a budget.
    #[must_use]
    pub fn with_budget(mut self, budget: Arc<Mutex<TokenBucket>>) -> Self
    where
        T: 'a,
    {
        self.consumer =
            self.consumer.map(|consumer| Box::new(Charged::new(consumer, budget)) as Box<dyn Consumer<T> + 'a>);
        self
    }

    /// Has actions of plugins from files performed elsewhere.
    #[must_use]
    pub fn with_delegate(mut self, delegate: Box<dyn Delegate<T>>) -> Self {
        self.executor = self.executor.guarded().delegating(delegate);
        self
    }

    /// Keeps stages from changing the fields that identify an entry, because the caller acts on the shown rows.
    #[must_use]
    pub fn with_fixed_identity(mut self) -> Self {
        self.executor = self.executor.guarded();
        self
    }

    /// Sends no actions to the kernel, because the entries are not those of its current table.
    #[must_use]
    pub fn detached(mut self) -> Self {
        self.executor.detach();
        self
    }

    /// Sets the table that the events are about, for sources other than the kernel's own events. Its entries are
    /// reported as new events at the start, stages can look back at it, and lost events of these groups are made up
    /// for.
    #[must_use]
    pub fn with_table<K: Kernel + 'a>(mut self, groups: EventGroups, open: impl Fn() -> K + 'a) -> Self {
        self.resync = Some(Resync::new(Box::new(open()), groups).reporting_start());
        self.look_back = Some(Box::new(move || open().list()));
        self
    }

    /// Returns the number of actions that were performed, or printed in a dry run.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.executor.done()
    }

    /// Returns the number of performed actions that changed an existing entry, if creations are merged.
    #[must_use]
    pub fn changed(&self) -> u64 {
        self.executor.changed()
    }

    /// Returns the number of actions that were refused for want of a grant.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.executor.refused()
    }

    /// Returns the rows whose action the kernel has refused since the last call, with the errors, if refusals are noted
    /// ([`OnRefusal::Note`](crate::spec::OnRefusal)).
    pub fn take_refusals(&mut self) -> Vec<(usize, ExecutorError)> {
        self.executor.take_refusals()
    }

    /// Returns the rows of which values were omitted since the last call, with these values.
    pub fn take_kept(&mut self) -> Vec<(usize, String)> {
        self.executor.take_kept()
    }

    /// Returns the counts of lost events that were made up for; `None` if lost events are ignored.
    #[must_use]
    pub fn resync_counts(&self) -> Option<ResyncCounts> {
        self.resync.as_ref().map(Resync::counts)
    }

    /// Runs the pipeline to the end of its own source, which must yield entries. Actions on entries of a recording are
    /// not sent. The tally is also filled in when the run fails.
    ///
    /// # Errors
    /// [`RunError`]; rows shown before it have been written.
    pub fn run(&mut self, stop: &Stop, tally: &mut Tally) -> Result<(), RunError> {
        self.run_reporting(stop, tally, || ())
    }

    /// Does the work of [`Pipeline::run`], and calls `opened` once the kernel's source is open: all events from then on
    /// are received.
    ///
    /// # Errors
    /// As [`Pipeline::run`].
    pub fn run_reporting(&mut self, stop: &Stop, tally: &mut Tally, opened: impl FnOnce()) -> Result<(), RunError> {
        match &mut self.spec.source {
            SourceSpec::Given(batch) => {
                let rows = T::take(batch).ok_or(OpenError::NoEntries)?;
                return self.feed(rows, tally);
            }
            SourceSpec::Recording(recording) => {
                let mut source = recording.open(stop).map_err(OpenError::Recording)?;
                self.executor.detach();
                return self.run_on(&mut source, tally);
            }
            SourceSpec::Events(events) => {
                let table = KernelTable::new(self.spec.namespace.as_ref(), stop);
                self.resync = events.resync.then(|| Resync::new(Box::new(table), events.groups));
                let (selection, namespace) = (self.spec.kernel_selection().into_owned(), self.spec.namespace.clone());
                let stop = stop.clone();
                self.look_back = Some(Box::new(move || kernel::open_flows(&selection, namespace.as_ref(), &stop)));
            }
            _ => {}
        }
        let (counters, warnings) = (&self.counters, &self.warnings);
        let mut source = self.spec.open_kernel(&OpenOptions { stop, counters, warnings, flush_when_idle: false })?;
        opened();
        self.run_on(source.as_mut(), tally)
    }

    /// Runs the pipeline to the end of another source. The tally is also filled in when the run fails.
    ///
    /// # Errors
    /// [`RunError`]; rows shown before it have been written.
    pub fn run_on(&mut self, source: &mut dyn Source, tally: &mut Tally) -> Result<(), RunError> {
        let mut context = Context::of(source);
        if let Some(resync) = &mut self.resync {
            resync.set_barriers(source.barriers());
        }
        self.begin()?;
        let mut batch = T::default();
        if context.events() {
            if let Some(consumer) = self.consumer.as_mut().filter(|_| context.when_idle()) {
                consumer.follow_clock();
            }
            self.start_clock();
            self.resync(true)?;
            self.look_back(Some(Reason::Start))?;
        }
        let ended = self.take_all(source, &mut context, &mut batch, tally);
        // Rows received before an error of the source are still shown.
        if matches!(ended, Ok(()) | Err(RunError::Source(_))) {
            self.process_batch(&mut batch, &mut context, tally)?;
        }
        ended?;
        self.finish()
    }

    /// Enforces the deadlines of plugin calls from now on. Without another thread there is no clock: stock plugins need
    /// no deadline, and the clock of plugins from files has already been started, or they were not instantiated.
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
        self.process_batch(&mut rows, &mut Context::default(), tally)?;
        self.finish()
    }

    /// Ends the stream.
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

    /// Runs a batch through the stages, the format and the sink, and empties it.
    fn process_batch(&mut self, batch: &mut T, context: &mut Context, tally: &mut Tally) -> Result<(), RunError> {
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
        // A stage whose plugin was restarted may have to be offered the table.
        self.look_back(None)
    }

    /// Completes actions: writes the output of a dry run, and ends the run if the executor stopped.
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

    /// Calls the stages whose ticks are due, and saves their states periodically.
    fn tick(&mut self) -> Result<(), RunError> {
        for stage in &mut self.stages {
            stage.tick(&mut self.executor)?;
            stage.save_state(false, &self.warnings);
        }
        if let Some(Err(error)) = self.resync.as_mut().map(Resync::retry) {
            self.warnings.line(&cannot_resync(&error));
        }
        if let Some(consumer) = &mut self.consumer {
            consumer.tick(self.sink)?;
        }
        self.settle()
    }

    /// Begins the stream.
    fn begin(&mut self) -> Result<(), RunError> {
        match &mut self.consumer {
            Some(consumer) => consumer.begin(self.sink),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
