//! What a plugin says of a batch, and what flows and expectations have in common when it does.

use super::{Part, Stage, check};
use crate::executor::{Acted, Actionable, Executor, Requests};
use flowgate_model::{
    Annotations, Changes, ExpectationOutcome, Expectations, Flows, Outcome, Texts,
    batch::{self, Annotated, Written},
    bounds, verdict,
};
use flowgate_runtime::{Failure, Instance, PluginError, deadline::Watch};

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

impl<T: Staged> Said<T> {
    /// Checks the outcome against the batch and the bounds of what the host does because of it ([`bounds`]), and makes ready what can
    /// fail: nothing has been done, and the batch is as it was. `actions` is how many may be asked for, `fixed` the fields that
    /// cannot be changed.
    ///
    /// # Errors
    /// It makes no sense, asks for more than it may, or there is no time left.
    pub fn checked(self, batch: &T, actions: usize, fixed: u64, watch: &mut Watch) -> Result<Checked<T>, Failure> {
        let rows = batch.rows();
        self.requests.values.check().map_err(Failure::BadValue)?;
        check::outcome(&self, rows, self.requests.values.rows()).map_err(Failure::BadValue)?;
        let asked = self.requests.actions.kinds.len();
        if asked > actions {
            return Err(Failure::Actions { asked, limit: actions });
        }
        if let Some(changes) = &self.changes {
            let Written { crossed, bytes } =
                batch.written(changes, &self.requests.values, fixed).map_err(Failure::BadValue)?;
            let limit = bounds::allowance(crossed);
            if bytes > limit {
                return Err(Failure::Amplified { returned: crossed, bytes, limit });
            }
        }
        let annotated = match self.annotations {
            Some(annotations) if !annotations.rows.is_empty() => {
                Some(batch::annotated(batch.annotations(), annotations, rows, || watch.check())?)
            }
            _ => None,
        };
        watch.check()?;
        Ok(Checked { verdicts: self.verdicts, changes: self.changes, annotated, requests: self.requests, fixed })
    }
}

/// An outcome that has been checked.
#[derive(Debug)]
pub struct Checked<T> {
    verdicts: Vec<u8>,
    changes: Option<Changes>,
    annotated: Option<Annotated>,
    /// What is to be done.
    pub requests: Requests<T>,
    fixed: u64,
}

impl<T: Staged> Checked<T> {
    /// Changes what is shown of a batch, the same that it was checked against, after its actions came to `acted`. How many rows the
    /// plugin dropped is returned.
    pub fn apply(self, batch: &mut T, acted: Acted<T>) -> usize {
        if let Some(changes) = &self.changes {
            batch.change(changes, &self.requests.values, self.fixed);
        }
        if let Some(annotated) = self.annotated {
            batch.annotate(annotated);
        }
        let dropped = self.verdicts.iter().filter(|&&verdict| verdict == verdict::DROP).count();
        if let Some(verdicts) = both(self.verdicts, acted.keep) {
            batch.retain(&verdicts);
        }
        if let Some(replacement) = acted.replacement {
            *batch = replacement;
        }
        dropped
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

/// What a stage said, noted down for those who test it.
#[derive(Debug, Default)]
pub struct Seen {
    /// Of flows: for each batch, and for the end of the stream.
    pub flows: Vec<Said<Flows>>,
    /// The same of expectations.
    pub expectations: Vec<Said<Expectations>>,
}

/// A table that a stage can look at.
pub trait Staged: Actionable {
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

    /// What [`Staged::change`] would write into fields of text.
    ///
    /// # Errors
    /// A text is longer than the kernel's own can be.
    fn written(&self, changes: &Changes, values: &Self, fixed: u64) -> Result<Written, String>;

    /// The annotations of the rows.
    fn annotations(&self) -> &Annotations;

    /// Puts annotations in their place.
    fn annotate(&mut self, annotated: Annotated);

    /// Removes the rows whose verdict is 0.
    fn retain(&mut self, verdicts: &[u8]);

    /// Verdicts that keep nothing but word of gaps.
    fn gaps(&self) -> Vec<u8>;

    /// Gives a stage a tick if one is due.
    ///
    /// # Errors
    /// The stage failed.
    fn tick(stage: &mut Stage, executor: &mut Executor<Self>) -> Result<(), PluginError>;

    /// Offers a stage the table, part by part, as `dump` yields it.
    ///
    /// # Errors
    /// The stage failed.
    fn look_back(part: Part<'_, Self>, stage: &mut Stage, executor: &mut Executor<Self>) -> Result<(), PluginError>;

    /// Notes down what a stage said.
    fn see(said: &Said<Self>, seen: &mut Seen);

    /// Takes back what was noted last: it made no sense.
    fn forget(seen: &mut Seen);
}

/// The annotations of a batch without any.
static NO_ANNOTATIONS: Annotations = Annotations {
    rows: Vec::new(),
    keys: Texts { ends: Vec::new(), bytes: Vec::new() },
    values: Texts { ends: Vec::new(), bytes: Vec::new() },
};

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

    fn written(&self, changes: &Changes, values: &Self, fixed: u64) -> Result<Written, String> {
        batch::written(self, changes, values, fixed)
    }

    fn annotations(&self) -> &Annotations {
        self.rare.as_ref().map_or(&NO_ANNOTATIONS, |rare| &rare.annotations)
    }

    fn annotate(&mut self, annotated: Annotated) {
        batch::annotate(self, annotated);
    }

    fn retain(&mut self, verdicts: &[u8]) {
        batch::retain(self, verdicts);
    }

    fn gaps(&self) -> Vec<u8> {
        super::gaps(self)
    }

    fn tick(stage: &mut Stage, executor: &mut Executor<Self>) -> Result<(), PluginError> {
        stage.tick(executor)
    }

    fn look_back(part: Part<'_, Self>, stage: &mut Stage, executor: &mut Executor<Self>) -> Result<(), PluginError> {
        match part {
            Part::Begin(reason) => stage.begin_look_back(reason, executor),
            Part::Entries(entries) => stage.look_back(entries, executor),
            Part::End => stage.end_look_back(executor),
        }
    }

    fn see(said: &Said<Self>, seen: &mut Seen) {
        seen.flows.push(said.clone());
    }

    fn forget(seen: &mut Seen) {
        seen.flows.pop();
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

    fn written(&self, _changes: &Changes, _values: &Self, _fixed: u64) -> Result<Written, String> {
        Ok(Written::default())
    }

    fn annotations(&self) -> &Annotations {
        self.annotations.as_ref().unwrap_or(&NO_ANNOTATIONS)
    }

    fn annotate(&mut self, annotated: Annotated) {
        batch::annotate_expectations(self, annotated);
    }

    fn retain(&mut self, verdicts: &[u8]) {
        batch::retain_expectations(self, verdicts);
    }

    fn gaps(&self) -> Vec<u8> {
        vec![0; self.length as usize]
    }

    /// Ticks are about flows.
    fn tick(_stage: &mut Stage, _executor: &mut Executor<Self>) -> Result<(), PluginError> {
        Ok(())
    }

    /// Look-backs are about flows.
    fn look_back(_part: Part<'_, Self>, _stage: &mut Stage, _executor: &mut Executor<Self>) -> Result<(), PluginError> {
        Ok(())
    }

    fn see(said: &Said<Self>, seen: &mut Seen) {
        seen.expectations.push(said.clone());
    }

    fn forget(seen: &mut Seen) {
        seen.expectations.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A batch of rows without any field.
    fn batch(rows: u32) -> Flows {
        let (has, family) = (vec![0; rows as usize], vec![2; rows as usize]);
        Flows { length: rows, has, family, ..Flows::default() }
    }

    fn checked(outcome: Outcome, watch: &mut Watch) -> Result<(), Failure> {
        Said::from(outcome).checked(&batch(2), 0, 0, watch).map(drop)
    }

    /// A time that was over before it began.
    fn over() -> Watch {
        Watch::begin(Duration::ZERO, Some(Duration::ZERO))
    }

    /// Whatever an outcome says, it is of no use when the time is over.
    #[test]
    fn an_outcome_has_no_more_time_than_the_call() {
        let outcome = Outcome { verdicts: vec![verdict::KEEP, verdict::DROP], ..Outcome::default() };
        for outcome in [outcome, Outcome::default()] {
            assert_eq!(checked(outcome.clone(), &mut over()), Err(Failure::Deadline(Duration::ZERO)));
            assert_eq!(checked(outcome, &mut Watch::unlimited()), Ok(()));
        }
    }

    /// Annotations are not gone through to their end when the time is over: that there are too many is not found out any more.
    #[test]
    fn annotations_are_not_added_when_the_time_is_over() {
        let many = bounds::ROW_ANNOTATIONS + 1;
        let texts = || Texts { ends: (1..=many as u32).collect(), bytes: vec![b'x'; many] };
        let annotations = Annotations { rows: vec![1; many], keys: texts(), values: texts() };
        let outcome = Outcome { annotations: Some(annotations), ..Outcome::default() };
        let failure = checked(outcome.clone(), &mut Watch::unlimited()).unwrap_err();
        assert!(matches!(failure, Failure::BadValue(_)), "{failure}");
        assert_eq!(checked(outcome, &mut over()), Err(Failure::Deadline(Duration::ZERO)));
    }
}
