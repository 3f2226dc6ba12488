//! Consumers take the rows at the end of a pipeline. A format that writes to the sink is one, a screen another.

use flowgate_base::TokenBucket;
use flowgate_base::clock::thread_time;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{entries::Entries, format::Format, run::RunError, sink::Sink};

/// A consumer of the rows of a pipeline.
pub trait Consumer<T> {
    /// Begins the stream.
    ///
    /// # Errors
    /// [`RunError`] if the pipeline cannot continue.
    fn begin(&mut self, sink: &mut dyn Sink) -> Result<(), RunError> {
        let _ = sink;
        Ok(())
    }

    /// Takes a batch, which is not empty. Its rows must not be removed.
    ///
    /// # Errors
    /// [`RunError`] if the pipeline cannot continue.
    fn take(&mut self, batch: &mut T, sink: &mut dyn Sink) -> Result<(), RunError>;

    /// Says that the rows are those of a live stream, which also goes on while nothing comes; called after `begin`.
    fn follow_clock(&mut self) {}

    /// Returns the time until [`tick`](Self::tick) has to be called although no rows come; `None` if it need not.
    fn patience(&self) -> Option<Duration> {
        None
    }

    /// Called between batches, and when [`patience`](Self::patience) is over.
    ///
    /// # Errors
    /// [`RunError`] if the pipeline cannot continue.
    fn tick(&mut self, sink: &mut dyn Sink) -> Result<(), RunError> {
        let _ = sink;
        Ok(())
    }

    /// Handles a flush of the source ([`flowgate_netlink::source::Datagram::flush`]); all rows before it have been
    /// taken.
    ///
    /// # Errors
    /// [`RunError`] if the pipeline cannot continue.
    fn pause(&mut self) -> Result<(), RunError> {
        Ok(())
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// [`RunError`] if the pipeline cannot continue.
    fn end(&mut self, sink: &mut dyn Sink) -> Result<(), RunError> {
        let _ = sink;
        Ok(())
    }
}

impl<T: Entries> Consumer<T> for Format {
    fn begin(&mut self, sink: &mut dyn Sink) -> Result<(), RunError> {
        write(sink, &self.begin::<T>()?)
    }

    fn take(&mut self, batch: &mut T, sink: &mut dyn Sink) -> Result<(), RunError> {
        let Some(parts) = batch.parts() else { return write(sink, &self.render(batch)?) };
        for range in parts {
            write(sink, &self.render(&mut batch.part(range))?)?;
        }
        Ok(())
    }

    fn end(&mut self, sink: &mut dyn Sink) -> Result<(), RunError> {
        write(sink, &self.end::<T>()?)
    }
}

/// A consumer whose CPU time, in nanoseconds, is charged to a budget.
pub struct Charged<'a, T> {
    consumer: Box<dyn Consumer<T> + 'a>,
    budget: Arc<Mutex<TokenBucket>>,
}

impl<'a, T> Charged<'a, T> {
    /// Returns a consumer whose time is charged to this budget.
    #[must_use]
    pub fn new(consumer: Box<dyn Consumer<T> + 'a>, budget: Arc<Mutex<TokenBucket>>) -> Self {
        Charged { consumer, budget }
    }
}

impl<T> Consumer<T> for Charged<'_, T> {
    fn begin(&mut self, sink: &mut dyn Sink) -> Result<(), RunError> {
        self.consumer.begin(sink)
    }

    fn take(&mut self, batch: &mut T, sink: &mut dyn Sink) -> Result<(), RunError> {
        let before = thread_time();
        let taken = self.consumer.take(batch, sink);
        let used = thread_time().saturating_sub(before);
        let used = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX);
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).charge(used);
        taken
    }

    fn pause(&mut self) -> Result<(), RunError> {
        self.consumer.pause()
    }

    fn follow_clock(&mut self) {
        self.consumer.follow_clock();
    }

    fn patience(&self) -> Option<Duration> {
        self.consumer.patience()
    }

    fn tick(&mut self, sink: &mut dyn Sink) -> Result<(), RunError> {
        self.consumer.tick(sink)
    }

    fn end(&mut self, sink: &mut dyn Sink) -> Result<(), RunError> {
        self.consumer.end(sink)
    }
}

/// Writes the bytes, if there are any.
fn write(sink: &mut dyn Sink, bytes: &[u8]) -> Result<(), RunError> {
    if bytes.is_empty() { Ok(()) } else { Ok(sink.write(bytes)?) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::Stage;
    use flowgate_model::{Flows, field, grants::Grants};
    use flowgate_runtime::{Instance, Limits, PluginComponent, PluginEngine, Services, services::state::State};

    /// Returns a budget that any work exhausts.
    fn nothing() -> Arc<Mutex<TokenBucket>> {
        Arc::new(Mutex::new(TokenBucket::per_second(1)))
    }

    fn is_used_up(budget: &Mutex<TokenBucket>) -> bool {
        budget.lock().unwrap().is_empty()
    }

    struct Idle;

    impl Consumer<Flows> for Idle {
        fn take(&mut self, _batch: &mut Flows, _sink: &mut dyn Sink) -> Result<(), RunError> {
            Ok(())
        }
    }

    /// A format renders in parts a batch that is too large for one call; the output is the same.
    #[test]
    fn a_batch_that_is_too_much_for_one_call_of_a_format_is_written_in_parts() {
        let component = PluginComponent::stock(&PluginEngine::new(None).unwrap(), "json").unwrap();
        let format = || {
            let mut instance = Instance::new(&component, Limits::default()).unwrap();
            let reads = instance.describe().unwrap().reads;
            instance.configure(&flowgate_model::Setup::default()).unwrap();
            instance.end_start_up();
            Format::new(instance, reads)
        };
        // Each of these bytes becomes six in JSON, which exceeds the maximum size of one call's result.
        let (rows, bytes) = (60, 200_000);
        let mut flows = Flows {
            length: rows,
            has: vec![field::HELPER | field::MARK; rows as usize],
            family: vec![2; rows as usize],
            mark: (0..rows).collect(),
            ..Flows::default()
        };
        for row in 0..rows as usize {
            let helper = &mut flows.rare.get_or_insert_default().helper;
            flowgate_model::batch::push_sparse(helper, row, &vec![1; bytes]);
        }
        assert!(format().render(&mut flows.clone()).is_err());
        let (mut written, mut one_by_one, mut one) = (Vec::new(), Vec::new(), format());
        format().take(&mut flows.clone(), &mut written).unwrap();
        for row in 0..rows as usize {
            one_by_one.extend(one.render(&mut flows.part(row..row + 1)).unwrap());
        }
        assert!(written.len() > 6 * bytes * rows as usize && written == one_by_one, "{} bytes", written.len());
    }

    #[test]
    fn writing_rows_is_paid_for() {
        let budget = nothing();
        assert!(!is_used_up(&budget));
        let mut consumer = Charged::new(Box::new(Idle), budget.clone());
        let mut sink: Arc<Mutex<Vec<u8>>> = Arc::default();
        consumer.take(&mut Flows::default(), &mut sink).unwrap();
        assert!(is_used_up(&budget));
    }

    #[test]
    fn saving_state_is_paid_for() {
        let component = PluginComponent::stock(&PluginEngine::new(None).unwrap(), "match").unwrap();
        let instance = Instance::new(&component, Limits::default()).unwrap();
        let (budget, state) = (nothing(), Arc::new(Mutex::new(State::in_memory(1000))));
        let services = Services { state: Some(state), ..Services::default() };
        let mut stage = Stage::new(instance, field::ALL, Grants::NONE).serving(services).within(budget.clone());
        assert!(!is_used_up(&budget));
        stage.save_state(true, &flowgate_base::Warnings::ignored());
        assert!(is_used_up(&budget));
    }
}
