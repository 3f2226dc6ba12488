//! What a filter has to say besides its verdicts: annotations and actions, collected over a batch.

use std::fmt::{Display, Write as _};

use crate::{
    Change, Flow, Key, NewFlow, Outcome, Update, action,
    bindings::flowgate::conntrack::{
        action::{Actions, Changes},
        columns::{Annotations, Texts},
    },
    values::{Table, Zones},
};

/// Annotations and actions of one batch.
///
/// All of it is a request: the host checks it against what the user granted the plugin, and does it after the plugin has
/// looked at the batch, in the order in which it was asked for.
#[derive(Default)]
pub struct Notes {
    annotations: Annotations,
    changes: Changes,
    actions: Actions,
    values: Table,
    scratch: String,
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

    /// Changes what later stages and the format see of the flow; the kernel's entry stays as it is.
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

    /// Asks for the flow to be removed from the kernel's table. Needs the grant `delete`. A flow that has gone meanwhile is
    /// passed over.
    pub fn delete(&mut self, flow: &Flow<'_>) {
        self.action(action::DELETE, flow.row() as u32, action::NO_ROW);
    }

    /// Asks for a flow that need not be in the batch to be removed from the kernel's table: the one with this direction,
    /// be it the original or the reply. Needs the grant `delete`.
    ///
    /// [`crate::Filter::finish`] is the place for what is known at the end only.
    pub fn delete_at(&mut self, key: &Key) {
        let values = self.meant(key, |_| ());
        self.action(action::DELETE, action::NO_ROW, values);
    }

    /// Asks for the flow to be changed in the kernel's table. Needs the grant `update`. Asks nothing if nothing is to be set.
    ///
    /// The plugin has to read [`crate::field::PROTOCOL`], without which protocol state is left out; for a status also
    /// [`crate::field::STATUS`].
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

    /// Asks for a flow that need not be in the batch to be changed: the one with this direction, be it the original or the
    /// reply. Needs the grant `update`. Asks nothing if nothing is to be set.
    ///
    /// A status has to name all the bits that the flow is to have, those of SEEN_REPLY, ASSURED and EXPECTED that it has
    /// included; the kernel refuses it otherwise (EBUSY).
    pub fn update_at(&mut self, key: &Key, update: &Update) {
        if update.is_empty() {
            return;
        }
        let values = self.meant(key, |row| row.values(&update.values_at(key.protocol, None)));
        self.action(action::UPDATE, action::NO_ROW, values);
    }

    /// Asks for a flow to be made; the kernel refuses it if there is one with one of its directions (EEXIST). Needs the grant
    /// `create`.
    pub fn create(&mut self, flow: &NewFlow) {
        self.make(action::CREATE, flow);
    }

    /// Asks for a flow to be made, or, if there is one with one of its directions, for that to be changed. Needs the grants
    /// `create` and `update`. Translation and master can only be given to a flow that is made (EOPNOTSUPP).
    pub fn create_or_update(&mut self, flow: &NewFlow) {
        self.make(action::CREATE_OR_UPDATE, flow);
    }

    fn make(&mut self, kind: u8, flow: &NewFlow) {
        let mut row = self.values.begin(flow.original.family(), Some(flow.original.protocol));
        // Without its tuples the flow is refused, which is what has to become of one in two families at once.
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

    /// A row of values that means a flow by its key.
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

    /// The outcome of a batch with these verdicts.
    #[must_use]
    pub fn outcome(self, verdicts: Vec<u8>) -> Outcome {
        let annotations = (!self.annotations.rows.is_empty()).then_some(self.annotations);
        let actions = (!self.actions.kinds.is_empty()).then_some(self.actions);
        let changes = (!self.changes.rows.is_empty()).then_some(self.changes);
        Outcome { verdicts, changes, annotations, actions, values: self.values.finish() }
    }
}

impl Texts {
    /// Whether there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

#[cfg(test)]
mod tests;
