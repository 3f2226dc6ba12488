//! A dry run: the actions as command lines.

use crate::{entries::Entries, format::Format};
use flowgate_model::action;
use flowgate_runtime::PluginError;

/// Number of actions that are rendered at a time.
const AT_ONCE: usize = 1024;

/// Formats that render actions as command lines, and the actions that wait to be rendered.
pub struct Plan<T> {
    delete: Format,
    update: Format,
    create: Format,
    add: Format,
    /// Waiting actions of one kind.
    waiting: T,
    kind: u8,
    written: Vec<u8>,
    failure: Option<PluginError>,
}

impl<T: Entries> Plan<T> {
    /// Returns a plan. The formats render entries as commands that delete, update, create, and create or update.
    #[must_use]
    pub fn new([delete, update, create, add]: [Format; 4]) -> Self {
        Plan { delete, update, create, add, waiting: T::default(), kind: 0, written: Vec::new(), failure: None }
    }

    /// Adds an action.
    pub fn add(&mut self, kind: u8, target: Option<(&T, usize)>, values: Option<(&T, usize)>) {
        if kind != self.kind || !T::PRINTS_BATCHES || self.waiting.rows() >= AT_ONCE {
            self.write();
            self.kind = kind;
        }
        self.waiting.append(&T::planned(kind, target, values));
    }

    /// Renders the waiting actions.
    fn write(&mut self) {
        if self.waiting.rows() == 0 {
            return;
        }
        let format = match self.kind {
            action::DELETE => &mut self.delete,
            action::UPDATE => &mut self.update,
            action::CREATE => &mut self.create,
            _ => &mut self.add,
        };
        match format.render(&mut std::mem::take(&mut self.waiting)) {
            Ok(bytes) => self.written.extend_from_slice(&bytes),
            Err(error) => {
                self.failure.get_or_insert(error);
            }
        }
    }

    /// Returns the output since the last call.
    ///
    /// # Errors
    /// [`PluginError`] if a format failed.
    pub fn take(&mut self) -> Result<Vec<u8>, PluginError> {
        self.write();
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(std::mem::take(&mut self.written)),
        }
    }
}
