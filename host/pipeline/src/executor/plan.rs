//! A dry run: what would be done, as command lines.

use crate::{format::Format, table::Table};
use flowgate_model::{Changes, Expectations, Flows, action, batch};
use flowgate_runtime::PluginError;

/// Actions that are written at a time.
const AT_ONCE: usize = 1024;

/// Formats that write actions as command lines, and the actions that wait to be written.
pub struct Plan<T> {
    delete: Format,
    update: Format,
    create: Format,
    add: Format,
    /// Actions of one kind.
    waiting: T,
    kind: u8,
    written: Vec<u8>,
    failure: Option<PluginError>,
}

/// A table whose actions can be planned.
pub trait Planned: Table {
    /// One row that says what an action is about and what it would set.
    fn planned(kind: u8, target: Option<(&Self, usize)>, values: Option<(&Self, usize)>) -> Self;

    /// Whether more than one row is written at a time.
    const TOGETHER: bool;

    /// Puts a row at the end.
    fn add_row(&mut self, row: &Self);
}

impl<T: Planned> Plan<T> {
    /// A plan; the formats write entries as commands that delete, update, create, and create or update.
    #[must_use]
    pub fn new([delete, update, create, add]: [Format; 4]) -> Self {
        Plan { delete, update, create, add, waiting: T::default(), kind: 0, written: Vec::new(), failure: None }
    }
}

impl<T: Planned> Plan<T> {
    /// Adds an action.
    pub fn add(&mut self, kind: u8, target: Option<(&T, usize)>, values: Option<(&T, usize)>) {
        if kind != self.kind || !T::TOGETHER || self.waiting.rows() >= AT_ONCE {
            self.write();
            self.kind = kind;
        }
        self.waiting.add_row(&T::planned(kind, target, values));
    }

    /// Writes what waits.
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
        match std::mem::take(&mut self.waiting).render(format) {
            Ok(bytes) => self.written.extend_from_slice(&bytes),
            Err(error) => {
                self.failure.get_or_insert(error);
            }
        }
    }

    /// What was written since the last time.
    ///
    /// # Errors
    /// The plugin that writes failed.
    pub fn take(&mut self) -> Result<Vec<u8>, PluginError> {
        self.write();
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(std::mem::take(&mut self.written)),
        }
    }
}

impl Planned for Flows {
    const TOGETHER: bool = true;

    fn planned(kind: u8, target: Option<(&Self, usize)>, values: Option<(&Self, usize)>) -> Self {
        let mut planned = match (target, values) {
            (Some((batch, row)), None) => batch::pick(batch, row),
            (None, Some((values, row))) => batch::pick(values, row),
            (Some((batch, row)), Some((values, value))) => {
                let mut planned = batch::pick(values, value);
                if matches!(kind, action::DELETE | action::UPDATE) {
                    // The row of the batch says which flow it is, the values what it gets.
                    let named = Changes { rows: vec![0], values: vec![row as u32], clear: vec![batch::IDENTITY] };
                    batch::change(&mut planned, &named, batch, !batch::IDENTITY);
                    if let (Some(family), Some(of)) = (planned.family.first_mut(), batch.family.get(row)) {
                        *family = *of;
                    }
                }
                planned
            }
            (None, None) => Flows::default(),
        };
        if let (action::DELETE, Some(has)) = (kind, planned.has.first_mut()) {
            // Which flow it is, and no more: the rest has changed by the time that the line is used.
            *has &= batch::IDENTITY;
        }
        // What is printed is an action, not the event that it came with.
        planned.events = None;
        planned
    }

    fn add_row(&mut self, row: &Self) {
        batch::append(self, row);
    }
}

impl Planned for Expectations {
    // They are few, and there is no need to join tables of them.
    const TOGETHER: bool = false;

    fn planned(_kind: u8, target: Option<(&Self, usize)>, values: Option<(&Self, usize)>) -> Self {
        target.or(values).map_or_else(Self::default, |(rows, row)| batch::pick_expectation(rows, row))
    }

    fn add_row(&mut self, row: &Self) {
        *self = row.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowgate_model::field;

    #[test]
    fn a_planned_update_names_the_flow_and_what_it_gets() {
        let batch = Flows {
            length: 2,
            has: vec![field::SOURCE | field::MARK; 2],
            family: vec![2, 10],
            mark: vec![1, 2],
            original: flowgate_model::Tuples {
                source: flowgate_model::Addresses { hi: vec![0, 1], lo: vec![3, 4] },
                ..Default::default()
            },
            ..Flows::default()
        };
        let values =
            Flows { length: 1, has: vec![field::TIMEOUT], family: vec![2], timeout: vec![60], ..Flows::default() };
        let planned = Flows::planned(action::UPDATE, Some((&batch, 1)), Some((&values, 0)));
        assert_eq!(planned.has, [field::SOURCE | field::TIMEOUT]);
        assert_eq!((planned.family[0], planned.original.source.lo[0], planned.timeout[0]), (10, 4, 60));
        batch::check(&planned).unwrap();
    }
}
