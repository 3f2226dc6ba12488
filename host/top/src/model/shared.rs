//! A model that two threads use.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Model;
use flowgate_model::Flows;
use flowgate_pipeline::{RunError, consumer::Consumer, sink::Sink};

/// A model that a pipeline fills while others read it.
#[derive(Clone)]
pub struct SharedModel(Arc<Mutex<Model>>);

impl SharedModel {
    /// Shares a model.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self(Arc::new(Mutex::new(model)))
    }

    /// Locks the model. A panic with the lock held leaves a state that the next dump repairs.
    pub fn lock(&self) -> MutexGuard<'_, Model> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Consumer<Flows> for SharedModel {
    fn take(&mut self, batch: &mut Flows, _sink: &mut dyn Sink) -> Result<(), RunError> {
        self.lock().take(batch);
        Ok(())
    }

    fn pause(&mut self) -> Result<(), RunError> {
        self.lock().complete_dump();
        Ok(())
    }
}
