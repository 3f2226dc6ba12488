//! The loop that joins source, stages, executor, format and sink.
//!
//! Two threads: the reader only receives, so that the kernel's work on the next datagram overlaps with everything else; the
//! worker decodes, runs the plugins and writes. Between them a fixed number of buffers goes round, so the memory is the same
//! whatever the table's size.

use std::{io, thread};

use super::{
    context::Context,
    executor::{Actionable, Executor, ExecutorError},
    format::Format,
    queue::{self, Draining, Filling},
    sink::Sink,
    source::{Datagram, Source, SourceError},
    stage::Stage,
};
use crate::{
    netlink::{
        decode::DecodeError,
        message::{MessageError, Messages},
    },
    wasm::PluginError,
};

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
    #[error("cannot write: {0}")]
    Sink(io::Error),
    /// The executor will not go on.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// No thread can be had.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows that reached the format.
    pub shown: u64,
    /// Messages of the kernel that could not be read.
    pub malformed: u64,
}

/// A pipeline without its source: what happens to the rows.
pub struct Pipeline<'a, T: Actionable> {
    /// Rows of a batch.
    pub batch_rows: usize,
    /// Decodes what the source yields.
    pub decoder: T::Decoder,
    /// The stages, in order.
    pub stages: Vec<Stage>,
    /// Deals with what the stages ask for.
    pub executor: Executor<T>,
    /// The format; none if nothing is shown.
    pub format: Option<Format>,
    /// Where the bytes go.
    pub sink: &'a mut dyn Sink,
    /// Told of messages that could not be read; the stream goes on.
    pub on_malformed: fn(Malformed),
    /// Told of gaps in a stream of events; the stream goes on.
    pub on_gap: fn(),
}

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

impl<T: Actionable> Pipeline<'_, T> {
    /// Runs the source to its end. The tally also counts when the run fails.
    ///
    /// # Errors
    /// [`RunError`]; what was shown until then has been written.
    pub fn run(&mut self, source: &mut dyn Source, tally: &mut Tally) -> Result<(), RunError> {
        let context = Context::of(source);
        let (filling, draining) = queue::queue();
        thread::scope(|scope| {
            thread::Builder::new()
                .name("reader".into())
                .spawn_scoped(scope, move || read(source, &filling))
                .map_err(RunError::Thread)?;
            // Dropping its end of the queue, also when it fails, tells the reader to stop.
            self.work(draining, context, tally)
        })
    }

    /// Runs rows that are at hand already, instead of a source.
    ///
    /// # Errors
    /// As [`Pipeline::run`].
    pub fn feed(&mut self, mut rows: T, tally: &mut Tally) -> Result<(), RunError> {
        self.write(T::begin)?;
        self.hand_on(&mut rows, &mut Context::default(), tally)?;
        for stage in &mut self.stages {
            T::finish(stage, &mut self.executor)?;
        }
        self.write(T::end)
    }

    /// The worker.
    fn work(&mut self, queue: Draining, mut context: Context, tally: &mut Tally) -> Result<(), RunError> {
        self.write(T::begin)?;
        let mut batch = T::default();
        let ended = self.drain(&queue, &mut context, &mut batch, tally);
        // What came before an error of the source is still shown.
        if matches!(ended, Ok(()) | Err(RunError::Source(_))) {
            self.hand_on(&mut batch, &mut context, tally)?;
        }
        ended?;
        for stage in &mut self.stages {
            T::finish(stage, &mut self.executor)?;
        }
        self.write(T::end)
    }

    /// Takes datagrams until there are no more.
    fn drain(
        &mut self,
        queue: &Draining,
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
                    match queue.wait() {
                        Ok(datagram) => datagram?,
                        Err(_) => return Ok(()),
                    }
                }
            };
            self.decode(&datagram, context, batch, tally)?;
            queue.give_back(datagram);
        }
    }

    /// Decodes a datagram, handing on the batch whenever it is full.
    fn decode(
        &mut self,
        datagram: &Datagram,
        context: &mut Context,
        batch: &mut T,
        tally: &mut Tally,
    ) -> Result<(), RunError> {
        if datagram.pause {
            return self.hand_on(batch, context, tally);
        }
        context.meet(datagram);
        if datagram.gap {
            (self.on_gap)();
            if let Err(error) = batch.push_gap(&mut self.decoder, datagram.received) {
                (self.on_malformed)(error.into());
            }
            return Ok(());
        }
        let arrival = datagram.arrival(context.events());
        for message in Messages::new(datagram.bytes()) {
            let pushed = message
                .map_err(Malformed::from)
                .and_then(|message| Ok(batch.push(&mut self.decoder, &message, arrival)?));
            if let Err(malformed) = pushed {
                tally.malformed += 1;
                (self.on_malformed)(malformed);
            }
            if batch.rows() >= self.batch_rows {
                self.hand_on(batch, context, tally)?;
            }
        }
        Ok(())
    }

    /// Runs a batch through the stages, the format and the sink, and empties it.
    fn hand_on(&mut self, batch: &mut T, context: &mut Context, tally: &mut Tally) -> Result<(), RunError> {
        if batch.rows() == 0 {
            return Ok(());
        }
        batch.stamp(context.time());
        if let Some(programs) = context.programs() {
            batch.name_programs(programs);
        }
        for stage in &mut self.stages {
            batch.stage(stage, &mut self.executor)?;
            if batch.rows() == 0 {
                break;
            }
        }
        let rows = batch.rows();
        if rows > 0 {
            batch.stamp(context.time());
            if let Some(format) = &mut self.format {
                let bytes = batch.render(format)?;
                if !bytes.is_empty() {
                    self.sink.write(&bytes).map_err(RunError::Sink)?;
                }
            }
            tally.shown += batch.entries() as u64;
        }
        batch.clear(&mut self.decoder);
        match self.executor.take_failure() {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }

    /// Writes what stands before or after everything.
    fn write(&mut self, part: fn(&mut Format) -> Result<Vec<u8>, PluginError>) -> Result<(), RunError> {
        let Some(format) = &mut self.format else { return Ok(()) };
        let bytes = part(format)?;
        if bytes.is_empty() { Ok(()) } else { self.sink.write(&bytes).map_err(RunError::Sink) }
    }
}

/// The reader: receives until the source ends, or until the worker is gone.
fn read(source: &mut dyn Source, queue: &Filling) {
    while let Some(mut datagram) = queue.buffer() {
        match source.next(&mut datagram) {
            Ok(true) => {
                if !queue.hand(Ok(datagram)) {
                    return;
                }
            }
            Ok(false) => return,
            Err(error) => {
                queue.hand(Err(error));
                return;
            }
        }
    }
}
