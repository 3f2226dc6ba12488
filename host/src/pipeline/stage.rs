//! A stage: a plugin that looks at batches, and the check of what it returns.

use crate::{
    model::{Actions, Annotations, Expectations, Flows, action, expectation_field as expected, field, verdict},
    pipeline::batch,
    wasm::{Failure, Instance, PluginError},
};

/// A configured plugin in the pipeline.
pub struct Stage {
    instance: Instance,
    reads: u64,
    hidden: Flows,
}

/// What a stage asks the kernel's table to become: actions, and the table that they refer to.
#[derive(Debug, Default)]
pub struct Requests<T> {
    /// What to do. Row numbers have been checked.
    pub actions: Actions,
    /// What to set, make or mean.
    pub values: T,
}

impl Stage {
    /// A stage of a configured plugin that reads these fields.
    #[must_use]
    pub fn new(instance: Instance, reads: u64) -> Self {
        Stage { instance, reads, hidden: Flows::default() }
    }

    /// The plugin's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.instance.name()
    }

    /// The fields that the plugin reads.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads
    }

    /// Lets the plugin look at a batch. `act` gets the actions, and sees the batch as the kernel said it is; then the changes
    /// of what is shown are made, and the rows that the plugin dropped are removed.
    ///
    /// # Errors
    /// The plugin failed, or returned what makes no sense; the batch is as it was then.
    pub fn flows(
        &mut self,
        flows: &mut Flows,
        act: impl FnOnce(&str, &Flows, Requests<Flows>),
    ) -> Result<(), PluginError> {
        let instance = &mut self.instance;
        let outcome = batch::shown(flows, self.reads, &mut self.hidden, |shown| instance.process_flows(shown))?;
        let rows = flows.length as usize;
        let values = outcome.values.unwrap_or_default();
        let check = || -> Result<(), String> {
            check_verdicts(&outcome.verdicts, rows)?;
            batch::check(&values)?;
            if let Some(changes) = &outcome.changes {
                let lists = [changes.rows.len(), changes.values.len(), changes.clear.len()];
                if lists.iter().any(|&length| length != changes.rows.len()) {
                    return Err(format!("changes in lists of different lengths: {lists:?}"));
                }
                check_rows("a change", &changes.rows, rows, false)?;
                check_rows("a change by values", &changes.values, values.length as usize, false)?;
            }
            if let Some(annotations) = &outcome.annotations {
                check_annotations(annotations, rows)?;
            }
            if let Some(actions) = &outcome.actions {
                check_actions(actions, rows, values.length as usize)?;
            }
            Ok(())
        };
        check().map_err(|reason| self.instance.error(Failure::BadValue(reason)))?;

        if let Some(actions) = outcome.actions {
            act(self.instance.name(), flows, Requests { actions, values: values.clone() });
        }
        if let Some(changes) = &outcome.changes {
            batch::change(flows, changes, &values);
        }
        if let Some(annotations) = outcome.annotations.filter(|annotations| !annotations.rows.is_empty()) {
            batch::annotate(flows, &annotations);
        }
        if !outcome.verdicts.is_empty() {
            batch::retain(flows, &outcome.verdicts);
        }
        Ok(())
    }

    /// Tells the plugin that the stream of flows has ended.
    ///
    /// # Errors
    /// As [`Stage::flows`].
    pub fn finish_flows(&mut self, act: impl FnOnce(&str, &Flows, Requests<Flows>)) -> Result<(), PluginError> {
        let outcome = self.instance.finish_flows()?;
        let values = outcome.values.unwrap_or_default();
        let check = || -> Result<(), String> {
            check_verdicts(&outcome.verdicts, 0)?;
            batch::check(&values)?;
            if outcome.changes.is_some_and(|changes| !changes.rows.is_empty()) {
                return Err("changes after the last batch".into());
            }
            outcome.actions.as_ref().map_or(Ok(()), |actions| check_actions(actions, 0, values.length as usize))
        };
        check().map_err(|reason| self.instance.error(Failure::BadValue(reason)))?;
        if let Some(actions) = outcome.actions {
            act(self.instance.name(), &Flows::default(), Requests { actions, values });
        }
        Ok(())
    }

    /// As [`Stage::flows`], for expectations.
    ///
    /// # Errors
    /// As [`Stage::flows`].
    pub fn expectations(
        &mut self,
        rows: &mut Expectations,
        act: impl FnOnce(&str, &Expectations, Requests<Expectations>),
    ) -> Result<(), PluginError> {
        let outcome = self.instance.process_expectations(rows)?;
        let length = rows.length as usize;
        let values = outcome.values.unwrap_or_default();
        let check = || -> Result<(), String> {
            check_verdicts(&outcome.verdicts, length)?;
            if let Some(annotations) = &outcome.annotations {
                check_annotations(annotations, length)?;
            }
            outcome.actions.as_ref().map_or(Ok(()), |actions| check_actions(actions, length, values.length as usize))
        };
        check().map_err(|reason| self.instance.error(Failure::BadValue(reason)))?;
        if let Some(actions) = outcome.actions {
            act(self.instance.name(), rows, Requests { actions, values });
        }
        if let Some(annotations) = outcome.annotations.filter(|annotations| !annotations.rows.is_empty()) {
            let mut all = rows.annotations.take().unwrap_or_default();
            batch::merge_annotations(&mut all, &annotations);
            for &row in &annotations.rows {
                if let Some(has) = rows.has.get_mut(row as usize) {
                    *has |= expected::ANNOTATIONS;
                }
            }
            rows.annotations = Some(all);
        }
        if !outcome.verdicts.is_empty() {
            batch::retain_expectations(rows, &outcome.verdicts);
        }
        Ok(())
    }

    /// Tells the plugin that the stream of expectations has ended.
    ///
    /// # Errors
    /// As [`Stage::flows`].
    pub fn finish_expectations(
        &mut self,
        act: impl FnOnce(&str, &Expectations, Requests<Expectations>),
    ) -> Result<(), PluginError> {
        let outcome = self.instance.finish_expectations()?;
        let values = outcome.values.unwrap_or_default();
        let check = || -> Result<(), String> {
            check_verdicts(&outcome.verdicts, 0)?;
            outcome.actions.as_ref().map_or(Ok(()), |actions| check_actions(actions, 0, values.length as usize))
        };
        check().map_err(|reason| self.instance.error(Failure::BadValue(reason)))?;
        if let Some(actions) = outcome.actions {
            act(self.instance.name(), &Expectations::default(), Requests { actions, values });
        }
        Ok(())
    }
}

/// The fields that all of these stages and a format that reads `format` need decoded.
#[must_use]
pub fn needed(stages: &[Stage], format: u64) -> u64 {
    stages.iter().fold(format, |fields, stage| fields | stage.reads()) & field::ALL
}

fn check_verdicts(verdicts: &[u8], rows: usize) -> Result<(), String> {
    if !verdicts.is_empty() && verdicts.len() != rows {
        return Err(format!(
            "{} verdicts for a batch of {rows} rows; it must be one for each row, or none to keep all",
            verdicts.len()
        ));
    }
    match verdicts.iter().position(|&byte| byte != verdict::KEEP && byte != verdict::DROP) {
        Some(row) => Err(format!(
            "the verdict {} for row {row}; known are 0 (drop) and 1 (keep)",
            verdicts.get(row).copied().unwrap_or_default()
        )),
        None => Ok(()),
    }
}

/// Whether all of these rows exist.
fn check_rows(what: &str, rows: &[u32], length: usize, may_be_none: bool) -> Result<(), String> {
    match rows.iter().find(|&&row| row as usize >= length && !(may_be_none && row == action::NO_ROW)) {
        Some(row) => Err(format!("{what} for row {row} of a batch of {length} rows")),
        None => Ok(()),
    }
}

fn check_annotations(annotations: &Annotations, length: usize) -> Result<(), String> {
    batch::check_texts("an annotation", length, &annotations.rows, &annotations.keys)?;
    batch::check_texts("an annotation", length, &annotations.rows, &annotations.values)
}

fn check_actions(actions: &Actions, rows: usize, values: usize) -> Result<(), String> {
    let lists = [actions.kinds.len(), actions.rows.len(), actions.values.len()];
    if lists.iter().any(|&length| length != actions.kinds.len()) {
        return Err(format!("actions in lists of different lengths: {lists:?}"));
    }
    check_rows("an action", &actions.rows, rows, true)?;
    check_rows("an action by values", &actions.values, values, true)
}
