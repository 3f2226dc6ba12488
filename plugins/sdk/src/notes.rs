//! Annotations and actions that a filter returns besides its verdicts, collected over a batch.

use std::fmt::{Display, Write as _};

use crate::{
    Change, Flow, Key, NewFlow, Outcome, Update, action,
    bindings::flowgate::conntrack::{
        action::{Actions, Changes},
        columns::{Annotations, Texts},
    },
    values::{Table, Zones},
};

/// Annotations and actions for a batch.
///
/// All of them are requests: the host checks them against the plugin's grants, and performs them in order after the
/// plugin has processed the batch.
#[derive(Default)]
pub struct Notes {
    annotations: Annotations,
    changes: Changes,
    actions: Actions,
    values: Table,
    scratch: String,
}

impl Notes {
    /// Adds an annotation, a key and a value, to a flow. Formats show it; in JSON it is a member of the object
    /// `annotations`.
    pub fn annotate(&mut self, flow: &Flow<'_>, key: &str, value: impl Display) {
        self.scratch.clear();
        if write!(self.scratch, "{value}").is_err() {
            return;
        }
        self.annotations.rows.push(flow.row() as u32);
        self.annotations.keys.push(key.as_bytes());
        self.annotations.values.push(self.scratch.as_bytes());
    }

    /// Changes what later stages and the format see of the flow; the kernel's entry is not changed.
    pub fn change(&mut self, flow: &Flow<'_>, change: &Change) {
        let number = flow.has(crate::field::PROTOCOL).then(|| flow.protocol());
        let family = change.original.or(change.reply).map_or(flow.family(), |key| key.family());
        let mut row = self.values.begin(family, number);
        if let Some(key) = change.original.filter(Key::is_sound) {
            row.original(&key);
        }
        if let Some(key) = change.reply.filter(Key::is_sound) {
            row.reply(&key);
        }
        row.values(&change.values);
        let values = row.number();
        self.changes.rows.push(flow.row() as u32);
        self.changes.values.push(values);
        self.changes.clear.push(change.clear);
    }

    /// Requests that the flow is deleted from the kernel's table. Needs the grant `delete`. A flow that is gone by then
    /// is skipped.
    pub fn delete(&mut self, flow: &Flow<'_>) {
        self.action(action::DELETE, flow.row() as u32, action::NO_ROW);
    }

    /// Requests that the flow with this direction, original or reply, is deleted from the kernel's table; it need not
    /// be in the batch. Needs the grant `delete`.
    ///
    /// Use it in [`crate::Filter::finish`] for flows that are known only at the end.
    pub fn delete_at(&mut self, key: &Key) {
        let values = self.meant(key, |_| ());
        self.action(action::DELETE, action::NO_ROW, values);
    }

    /// Requests that the flow is changed in the kernel's table. Needs the grant `update`. Requests nothing if the
    /// update is empty.
    ///
    /// The plugin must read [`crate::field::PROTOCOL`], without which the protocol state is left out, and for a status
    /// also [`crate::field::STATUS`].
    pub fn update(&mut self, flow: &Flow<'_>, update: &Update) {
        if update.is_empty() {
            return;
        }
        let number = flow.has(crate::field::PROTOCOL).then(|| flow.protocol());
        let mut row = self.values.begin(flow.family(), number);
        row.values(&update.values_for(flow));
        let values = row.number();
        self.action(action::UPDATE, flow.row() as u32, values);
    }

    /// Requests that the flow with this direction, original or reply, is changed; it need not be in the batch. Needs
    /// the grant `update`. Requests nothing if the update is empty.
    ///
    /// A status must include those of SEEN_REPLY, ASSURED and EXPECTED that the flow has; the kernel rejects it
    /// otherwise (EBUSY).
    pub fn update_at(&mut self, key: &Key, update: &Update) {
        if update.is_empty() {
            return;
        }
        let values = self.meant(key, |row| row.values(&update.values_at(key.protocol, None)));
        self.action(action::UPDATE, action::NO_ROW, values);
    }

    /// Requests that a flow is created; the kernel rejects it if one with either of its directions exists (EEXIST).
    /// Needs the grant `create`.
    pub fn create(&mut self, flow: &NewFlow) {
        self.make(action::CREATE, flow);
    }

    /// Requests that a flow is created, or, if one with either of its directions exists, that it is changed. Needs the
    /// grants `create` and `update`. NAT and master can only be given to a new flow (EOPNOTSUPP).
    pub fn create_or_update(&mut self, flow: &NewFlow) {
        self.make(action::CREATE_OR_UPDATE, flow);
    }

    fn make(&mut self, kind: u8, flow: &NewFlow) {
        let mut row = self.values.begin(flow.original.family(), Some(flow.original.protocol));
        // No flow has two families; such a flow is written without its tuples, so that it is rejected.
        if flow.is_sound() {
            row.original(&flow.original);
            if let Some(reply) = &flow.reply {
                row.reply(reply);
            }
        }
        row.zones(flow.zones);
        row.values(&flow.values);
        let values = row.number();
        self.action(kind, action::NO_ROW, values);
    }

    /// Adds a row of values that identifies a flow by its key, and returns its number.
    fn meant(&mut self, key: &Key, set: impl FnOnce(&mut crate::values::LastRow<'_>)) -> u32 {
        let mut row = self.values.begin(key.family(), Some(key.protocol));
        if key.is_sound() {
            row.original(key);
        }
        row.zones(Zones { both: key.zone, ..Zones::default() });
        set(&mut row);
        row.number()
    }

    fn action(&mut self, kind: u8, row: u32, value: u32) {
        self.actions.kinds.push(kind);
        self.actions.rows.push(row);
        self.actions.values.push(value);
    }

    /// Returns the outcome of a batch with these verdicts.
    #[must_use]
    pub fn outcome(self, verdicts: Vec<u8>) -> Outcome {
        let annotations = (!self.annotations.rows.is_empty()).then_some(self.annotations);
        let actions = (!self.actions.kinds.is_empty()).then_some(self.actions);
        let changes = (!self.changes.rows.is_empty()).then_some(self.changes);
        Outcome { verdicts, changes, annotations, actions, values: self.values.finish() }
    }
}

impl Texts {
    /// Returns true if there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

#[cfg(test)]
mod tests;
