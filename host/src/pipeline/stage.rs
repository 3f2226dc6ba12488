//! A stage: a plugin that looks at batches, and the check of what it returns.

use std::{cell::RefCell, rc::Rc};

use crate::{
    model::{Actions, Annotations, Changes, ExpectationOutcome, Expectations, Flows, Outcome, action, field, verdict},
    pipeline::{
        batch,
        executor::{Acted, Asker, Executor},
        grants::Grants,
    },
    wasm::{Failure, Instance, PluginError},
};

/// A configured plugin in the pipeline.
pub struct Stage {
    instance: Instance,
    reads: u64,
    grants: Grants,
    hidden: Flows,
    seen: Option<Rc<RefCell<Seen>>>,
}

/// What a stage returned, for those who test it. Nothing of it has been checked.
#[derive(Debug, Default)]
pub struct Seen {
    /// For each batch of flows, and for the end of the stream.
    pub flows: Vec<Outcome>,
    /// The same for expectations.
    pub expectations: Vec<ExpectationOutcome>,
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
    /// A stage of a configured plugin that reads these fields and may do these things.
    #[must_use]
    pub fn new(instance: Instance, reads: u64, grants: Grants) -> Self {
        Stage { instance, reads, grants, hidden: Flows::default(), seen: None }
    }

    /// The stage, which from now on also notes down what its plugin returns.
    #[must_use]
    pub fn watched(mut self, seen: Rc<RefCell<Seen>>) -> Self {
        self.seen = Some(seen);
        self
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

    /// Bytes of linear memory that the plugin uses. They never become fewer.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.instance.memory()
    }

    fn see(&self, note: impl FnOnce(&mut Seen)) {
        if let Some(seen) = &self.seen {
            note(&mut seen.borrow_mut());
        }
    }

    fn asker(&self) -> Asker<'_> {
        Asker { plugin: self.instance.name(), grants: self.grants }
    }

    /// Lets the plugin look at a batch. First its actions are performed, on the batch as the kernel said it is; then the
    /// changes of what is shown are made, and the rows that it dropped are removed.
    ///
    /// # Errors
    /// The plugin failed, or returned what makes no sense; the batch is as it was then, and nothing was done.
    pub fn flows(&mut self, flows: &mut Flows, executor: &mut Executor<Flows>) -> Result<(), PluginError> {
        let instance = &mut self.instance;
        let outcome = batch::shown(flows, self.reads, &mut self.hidden, |shown| instance.process_flows(shown))?;
        self.see(|seen| seen.flows.push(outcome.clone()));
        let values = outcome.values.unwrap_or_default();
        check_flows(&outcome.verdicts, &outcome.changes, &outcome.annotations, &outcome.actions, flows, &values)
            .map_err(|reason| self.instance.error(Failure::BadValue(reason)))?;

        let requests = Requests { actions: outcome.actions.unwrap_or_default(), values };
        let acted = match requests.actions.kinds.is_empty() {
            true => Acted::default(),
            false => executor.perform(self.asker(), flows, &requests),
        };
        if let Some(changes) = &outcome.changes {
            // What a later stage is to act on must stay what the kernel said it is.
            let fixed = if executor.acts() { batch::IDENTITY } else { 0 };
            batch::change(flows, changes, &requests.values, fixed);
        }
        if let Some(annotations) = outcome.annotations.filter(|annotations| !annotations.rows.is_empty()) {
            batch::annotate(flows, &annotations);
        }
        if let Some(verdicts) = both(outcome.verdicts, acted.keep) {
            batch::retain(flows, &verdicts);
        }
        if let Some(replacement) = acted.replacement {
            *flows = replacement;
        }
        Ok(())
    }

    /// Tells the plugin that the stream of flows has ended.
    ///
    /// # Errors
    /// As [`Stage::flows`].
    pub fn finish_flows(&mut self, executor: &mut Executor<Flows>) -> Result<(), PluginError> {
        let outcome = self.instance.finish_flows()?;
        self.see(|seen| seen.flows.push(outcome.clone()));
        let values = outcome.values.unwrap_or_default();
        let none = Flows::default();
        check_flows(&outcome.verdicts, &outcome.changes, &outcome.annotations, &outcome.actions, &none, &values)
            .map_err(|reason| self.instance.error(Failure::BadValue(reason)))?;
        if let Some(actions) = outcome.actions {
            executor.perform(self.asker(), &none, &Requests { actions, values });
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
        executor: &mut Executor<Expectations>,
    ) -> Result<(), PluginError> {
        let outcome = self.instance.process_expectations(rows)?;
        self.see(|seen| seen.expectations.push(outcome.clone()));
        let values = outcome.values.unwrap_or_default();
        check_expectations(&outcome.verdicts, &outcome.annotations, &outcome.actions, rows, &values)
            .map_err(|reason| self.instance.error(Failure::BadValue(reason)))?;
        let requests = Requests { actions: outcome.actions.unwrap_or_default(), values };
        let acted = match requests.actions.kinds.is_empty() {
            true => Acted::default(),
            false => executor.perform(self.asker(), rows, &requests),
        };
        if let Some(annotations) = outcome.annotations.filter(|annotations| !annotations.rows.is_empty()) {
            batch::annotate_expectations(rows, &annotations);
        }
        if let Some(verdicts) = both(outcome.verdicts, acted.keep) {
            batch::retain_expectations(rows, &verdicts);
        }
        if let Some(replacement) = acted.replacement {
            *rows = replacement;
        }
        Ok(())
    }

    /// Tells the plugin that the stream of expectations has ended.
    ///
    /// # Errors
    /// As [`Stage::flows`].
    pub fn finish_expectations(&mut self, executor: &mut Executor<Expectations>) -> Result<(), PluginError> {
        let outcome = self.instance.finish_expectations()?;
        self.see(|seen| seen.expectations.push(outcome.clone()));
        let values = outcome.values.unwrap_or_default();
        let none = Expectations::default();
        check_expectations(&outcome.verdicts, &outcome.annotations, &outcome.actions, &none, &values)
            .map_err(|reason| self.instance.error(Failure::BadValue(reason)))?;
        if let Some(actions) = outcome.actions {
            executor.perform(self.asker(), &none, &Requests { actions, values });
        }
        Ok(())
    }
}

/// The rows that both the stage and the executor keep; none if these are all.
fn both(verdicts: Vec<u8>, keep: Option<Vec<u8>>) -> Option<Vec<u8>> {
    match keep {
        None => (!verdicts.is_empty()).then_some(verdicts),
        Some(keep) if verdicts.is_empty() => Some(keep),
        Some(keep) => Some(verdicts.iter().zip(&keep).map(|(verdict, keep)| verdict & keep).collect()),
    }
}

/// Whether an outcome for flows makes sense for this batch.
fn check_flows(
    verdicts: &[u8],
    changes: &Option<Changes>,
    annotations: &Option<Annotations>,
    actions: &Option<Actions>,
    batch: &Flows,
    values: &Flows,
) -> Result<(), String> {
    let rows = batch.length as usize;
    check_verdicts(verdicts, rows)?;
    batch::check(values)?;
    if let Some(changes) = changes {
        let lists = [changes.rows.len(), changes.values.len(), changes.clear.len()];
        if lists.iter().any(|&length| length != changes.rows.len()) {
            return Err(format!("changes in lists of different lengths: {lists:?}"));
        }
        check_rows("a change", &changes.rows, rows, false)?;
        check_rows("a change by values", &changes.values, values.length as usize, false)?;
    }
    check_notes(annotations, actions, rows, values.length as usize)
}

/// Whether an outcome for expectations makes sense for this batch.
fn check_expectations(
    verdicts: &[u8],
    annotations: &Option<Annotations>,
    actions: &Option<Actions>,
    batch: &Expectations,
    values: &Expectations,
) -> Result<(), String> {
    let rows = batch.length as usize;
    check_verdicts(verdicts, rows)?;
    batch::check_expectations(values)?;
    check_notes(annotations, actions, rows, values.length as usize)
}

fn check_notes(
    annotations: &Option<Annotations>,
    actions: &Option<Actions>,
    rows: usize,
    values: usize,
) -> Result<(), String> {
    if let Some(annotations) = annotations {
        check_annotations(annotations, rows)?;
    }
    actions.as_ref().map_or(Ok(()), |actions| check_actions(actions, rows, values))
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
