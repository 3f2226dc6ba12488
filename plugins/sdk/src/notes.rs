//! What a filter has to say besides its verdicts: annotations and actions, collected over a batch.

use std::fmt::{Display, Write as _};

use crate::{
    Flow, Flows, Outcome, action,
    bindings::flowgate::conntrack::{
        action::Actions,
        columns::{Annotations, Texts},
    },
    field,
};

/// Annotations and actions of one batch.
#[derive(Default)]
pub struct Notes {
    annotations: Annotations,
    actions: Actions,
    values: Flows,
    scratch: String,
}

/// A row of values: what an update sets. Fields that are not set stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// New timeout in seconds.
    pub timeout: Option<u32>,
    /// New mark, and which bits of it are changed.
    pub mark: Option<(u32, u32)>,
}

impl Notes {
    /// Notes a key and a value on a flow. Formats show it; in JSON it is a member of the object `annotations`.
    pub fn annotate(&mut self, flow: &Flow<'_>, key: &str, value: impl Display) {
        self.scratch.clear();
        if write!(self.scratch, "{value}").is_err() {
            return;
        }
        self.annotations.rows.push(flow.row() as u32);
        self.annotations.keys.push(key.as_bytes());
        self.annotations.values.push(self.scratch.as_bytes());
    }

    /// Asks for the flow to be removed from the kernel's table. Needs the grant `delete`.
    pub fn delete(&mut self, flow: &Flow<'_>) {
        self.action(action::DELETE, flow.row() as u32, action::NO_ROW);
    }

    /// Asks for the flow to be changed in the kernel's table. Needs the grant `update`, or one for each field.
    pub fn update(&mut self, flow: &Flow<'_>, update: Update) {
        let value = self.values.length;
        let mut has = 0;
        if update.timeout.is_some() {
            has |= field::TIMEOUT;
        }
        if update.mark.is_some() {
            has |= field::MARK | field::MARK_MASK;
        }
        let (mark, mask) = update.mark.unwrap_or_default();
        self.values.length += 1;
        self.values.has.push(has);
        self.values.family.push(flow.family());
        self.values.timeout.push(update.timeout.unwrap_or_default());
        self.values.mark.push(mark & mask);
        self.values.rare.get_or_insert_default().mark_mask.push(mask);
        self.action(action::UPDATE, flow.row() as u32, value);
    }

    fn action(&mut self, kind: u8, row: u32, value: u32) {
        self.actions.kinds.push(kind);
        self.actions.rows.push(row);
        self.actions.values.push(value);
    }

    /// The outcome of a batch with these verdicts.
    #[must_use]
    pub fn outcome(self, verdicts: Vec<u8>) -> Outcome {
        fn some<T>(value: T, empty: bool) -> Option<T> {
            if empty { None } else { Some(value) }
        }
        let no_annotations = self.annotations.rows.is_empty();
        let no_actions = self.actions.kinds.is_empty();
        let no_values = self.values.length == 0;
        Outcome {
            verdicts,
            changes: None,
            annotations: some(self.annotations, no_annotations),
            actions: some(self.actions, no_actions),
            values: some(self.values, no_values),
        }
    }
}

impl Texts {
    /// Whether there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}
