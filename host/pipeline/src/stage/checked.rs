//! Checks of the outcome that a plugin returned, before any of it is used.
//!
//! Plugins are not trusted: counts, row numbers, lengths and texts are checked ([`StageOutcome::checked`]), and the
//! work that the host does because of them is bounded ([`bounds`]).

use super::check;
use crate::{
    entries::Entries,
    outcome::{ActionResults, Requests, StageOutcome},
};
use flowgate_model::{
    Changes,
    batch::{self, MergedAnnotations, TextCost},
    bounds, verdict,
};
use flowgate_runtime::{Failure, deadline::Watch};

impl<T: Entries> StageOutcome<T> {
    /// Checks the outcome against the batch and against the [`bounds`] of the work that it causes, and prepares
    /// everything that can fail. The batch is not changed. `actions` is the maximum number of actions, `fixed` the set
    /// of fields that cannot be changed.
    ///
    /// # Errors
    /// [`Failure`] if the outcome is malformed, exceeds a bound, or the time of the call is over.
    pub fn checked(
        self,
        batch: &T,
        actions: usize,
        fixed: u64,
        watch: &mut Watch,
    ) -> Result<CheckedOutcome<T>, Failure> {
        let rows = batch.rows();
        self.requests.values.check().map_err(Failure::BadValue)?;
        check::check_outcome(&self, rows, self.requests.values.rows()).map_err(Failure::BadValue)?;
        let asked = self.requests.actions.kinds.len();
        if asked > actions {
            return Err(Failure::Actions { asked, limit: actions });
        }
        if let Some(changes) = &self.changes {
            let TextCost { crossed, bytes } =
                batch.written(changes, &self.requests.values, fixed).map_err(Failure::BadValue)?;
            let limit = bounds::text_allowance(crossed);
            if bytes > limit {
                return Err(Failure::Amplified { returned: crossed, bytes, limit });
            }
        }
        let annotated = match self.annotations {
            Some(annotations) if !annotations.rows.is_empty() => {
                Some(batch::merge_annotations(batch.annotations(), annotations, rows, || watch.check())?)
            }
            _ => None,
        };
        watch.check()?;
        Ok(CheckedOutcome { verdicts: self.verdicts, changes: self.changes, annotated, requests: self.requests, fixed })
    }
}

/// An outcome that has been checked.
#[derive(Debug)]
pub struct CheckedOutcome<T> {
    verdicts: Vec<u8>,
    changes: Option<Changes>,
    annotated: Option<MergedAnnotations>,
    /// The requested actions.
    pub requests: Requests<T>,
    fixed: u64,
}

impl<T: Entries> CheckedOutcome<T> {
    /// Applies the outcome to the batch that it was checked against, with the results of its actions in `acted`.
    /// Returns the number of rows that the plugin dropped.
    pub fn apply(self, batch: &mut T, acted: ActionResults<T>) -> usize {
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

/// Returns the rows that both the stage and the executor keep; `None` if both keep all rows.
fn both(verdicts: Vec<u8>, keep: Option<Vec<u8>>) -> Option<Vec<u8>> {
    match keep {
        None => (!verdicts.is_empty()).then_some(verdicts),
        Some(keep) if verdicts.is_empty() => Some(keep),
        Some(keep) => Some(verdicts.iter().zip(&keep).map(|(verdict, keep)| verdict & keep).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowgate_model::{Annotations, Flows, Outcome, Texts};
    use std::time::Duration;

    /// Returns a batch of rows without any field.
    fn batch(rows: u32) -> Flows {
        let (has, family) = (vec![0; rows as usize], vec![2; rows as usize]);
        Flows { length: rows, has, family, ..Flows::default() }
    }

    fn checked(outcome: Outcome, watch: &mut Watch) -> Result<(), Failure> {
        StageOutcome::from(outcome).checked(&batch(2), 0, 0, watch).map(drop)
    }

    /// Returns a watch whose time is already over.
    fn over() -> Watch {
        Watch::begin(Duration::ZERO, Some(Duration::ZERO))
    }

    /// No outcome is accepted once the time is over.
    #[test]
    fn an_outcome_has_no_more_time_than_the_call() {
        let outcome = Outcome { verdicts: vec![verdict::KEEP, verdict::DROP], ..Outcome::default() };
        for outcome in [outcome, Outcome::default()] {
            assert_eq!(checked(outcome.clone(), &mut over()), Err(Failure::Deadline(Duration::ZERO)));
            assert_eq!(checked(outcome, &mut Watch::unlimited()), Ok(()));
        }
    }

    /// The check of annotations stops when the time is over, before it finds that there are too many.
    #[test]
    fn annotations_are_not_added_when_the_time_is_over() {
        let many = bounds::ANNOTATIONS_PER_ROW + 1;
        let texts = || Texts { ends: (1..=many as u32).collect(), bytes: vec![b'x'; many] };
        let annotations = Annotations { rows: vec![1; many], keys: texts(), values: texts() };
        let outcome = Outcome { annotations: Some(annotations), ..Outcome::default() };
        let failure = checked(outcome.clone(), &mut Watch::unlimited()).unwrap_err();
        assert!(matches!(failure, Failure::BadValue(_)), "{failure}");
        assert_eq!(checked(outcome, &mut over()), Err(Failure::Deadline(Duration::ZERO)));
    }
}
