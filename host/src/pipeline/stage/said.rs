//! What a plugin says of a batch, and what flows and expectations have in common when it does.

use crate::{
    model::{Actions, Annotations, Changes, ExpectationOutcome, Expectations, Flows, Outcome},
    pipeline::{batch, table::Table},
    wasm::{Instance, PluginError},
};

/// What a stage asks the kernel's table to become: actions, and the table that they refer to.
#[derive(Clone, Debug, Default)]
pub struct Requests<T> {
    /// What to do. Row numbers have been checked.
    pub actions: Actions,
    /// What to set, make or mean.
    pub values: T,
}

/// An outcome, whatever its subject.
#[derive(Clone, Debug)]
pub struct Said<T> {
    /// One per row, or none.
    pub verdicts: Vec<u8>,
    /// Changes of what is shown.
    pub changes: Option<Changes>,
    /// Notes.
    pub annotations: Option<Annotations>,
    /// What is to be done.
    pub requests: Requests<T>,
}

impl From<Outcome> for Said<Flows> {
    fn from(outcome: Outcome) -> Self {
        let Outcome { verdicts, changes, annotations, actions, values } = outcome;
        let requests = Requests { actions: actions.unwrap_or_default(), values: values.unwrap_or_default() };
        Said { verdicts, changes, annotations, requests }
    }
}

impl From<ExpectationOutcome> for Said<Expectations> {
    fn from(outcome: ExpectationOutcome) -> Self {
        let ExpectationOutcome { verdicts, annotations, actions, values } = outcome;
        let requests = Requests { actions: actions.unwrap_or_default(), values: values.unwrap_or_default() };
        Said { verdicts, changes: None, annotations, requests }
    }
}

/// What a stage said, noted down for those who test it.
#[derive(Debug, Default)]
pub struct Seen {
    /// Of flows: for each batch, and for the end of the stream.
    pub flows: Vec<Said<Flows>>,
    /// The same of expectations.
    pub expectations: Vec<Said<Expectations>>,
}

/// A table that a stage can look at.
pub trait Staged: Table {
    /// Shows the plugin a batch, no more of it than it reads; `hidden` is where the rest is kept meanwhile.
    ///
    /// # Errors
    /// The plugin failed.
    fn process(&mut self, instance: &mut Instance, reads: u64, hidden: &mut Flows) -> Result<Said<Self>, PluginError>;

    /// Tells the plugin that the stream has ended.
    ///
    /// # Errors
    /// The plugin failed.
    fn finish(instance: &mut Instance) -> Result<Said<Self>, PluginError>;

    /// Whether a table that a plugin made is one.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    fn check(&self) -> Result<(), String>;

    /// Changes what is shown, but for the fields in `fixed`.
    fn change(&mut self, changes: &Changes, values: &Self, fixed: u64);

    /// Adds notes.
    fn annotate(&mut self, annotations: &Annotations);

    /// Removes the rows whose verdict is 0.
    fn retain(&mut self, verdicts: &[u8]);

    /// Verdicts that keep nothing but word of gaps.
    fn gaps(&self) -> Vec<u8>;

    /// Notes down what a stage said.
    fn see(said: &Said<Self>, seen: &mut Seen);
}

impl Staged for Flows {
    fn process(&mut self, instance: &mut Instance, reads: u64, hidden: &mut Flows) -> Result<Said<Self>, PluginError> {
        batch::shown(self, reads, hidden, |shown| instance.process_flows(shown)).map(Said::from)
    }

    fn finish(instance: &mut Instance) -> Result<Said<Self>, PluginError> {
        instance.finish_flows().map(Said::from)
    }

    fn check(&self) -> Result<(), String> {
        batch::check(self)
    }

    fn change(&mut self, changes: &Changes, values: &Self, fixed: u64) {
        batch::change(self, changes, values, fixed);
    }

    fn annotate(&mut self, annotations: &Annotations) {
        batch::annotate(self, annotations);
    }

    fn retain(&mut self, verdicts: &[u8]) {
        batch::retain(self, verdicts);
    }

    fn gaps(&self) -> Vec<u8> {
        super::gaps(self)
    }

    fn see(said: &Said<Self>, seen: &mut Seen) {
        seen.flows.push(said.clone());
    }
}

impl Staged for Expectations {
    fn process(
        &mut self,
        instance: &mut Instance,
        _reads: u64,
        _hidden: &mut Flows,
    ) -> Result<Said<Self>, PluginError> {
        instance.process_expectations(self).map(Said::from)
    }

    fn finish(instance: &mut Instance) -> Result<Said<Self>, PluginError> {
        instance.finish_expectations().map(Said::from)
    }

    fn check(&self) -> Result<(), String> {
        batch::check_expectations(self)
    }

    /// There are no changes of expectations.
    fn change(&mut self, _changes: &Changes, _values: &Self, _fixed: u64) {}

    fn annotate(&mut self, annotations: &Annotations) {
        batch::annotate_expectations(self, annotations);
    }

    fn retain(&mut self, verdicts: &[u8]) {
        batch::retain_expectations(self, verdicts);
    }

    fn gaps(&self) -> Vec<u8> {
        vec![0; self.length as usize]
    }

    fn see(said: &Said<Self>, seen: &mut Seen) {
        seen.expectations.push(said.clone());
    }
}
