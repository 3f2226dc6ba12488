//! The outcome that a plugin returns for a batch, and the results of the actions in it. The checks are in
//! [`stage`](crate::stage).

use flowgate_model::{Actions, Annotations, Changes, ExpectationOutcome, Expectations, Flows, Outcome, action};

/// The actions that a stage requests, and the batch of values that they refer to.
#[derive(Clone, Debug, Default)]
pub struct Requests<T> {
    /// The actions. Row numbers have been checked.
    pub actions: Actions,
    /// The rows to set or create, or that identify entries.
    pub values: T,
}

impl<T> Requests<T> {
    /// Returns an action: its kind, the row of the batch that it names, and the row of values. Returns `None` behind
    /// the last one.
    #[must_use]
    pub fn action(&self, index: usize) -> Option<(u8, Option<usize>, Option<usize>)> {
        let Actions { kinds, rows, values } = &self.actions;
        let named = |rows: &[u32]| rows.get(index).filter(|&&row| row != action::NO_ROW).map(|&row| row as usize);
        Some((*kinds.get(index)?, named(rows), named(values)))
    }
}

/// The effect of the executor's work on the batch.
#[derive(Debug)]
pub struct ActionResults<T> {
    /// One element per row: 0 for rows that are not shown; `None` if all are.
    pub keep: Option<Vec<u8>>,
    /// The batch to show instead of the rows that are kept.
    pub replacement: Option<T>,
    /// The result of each action ([`result`](flowgate_model::result)) with the kernel's error number, in the order of
    /// the requests.
    pub results: Vec<(u8, u32)>,
}

impl<T> Default for ActionResults<T> {
    fn default() -> Self {
        ActionResults { keep: None, replacement: None, results: Vec::new() }
    }
}

/// The outcome that a stage returns for a batch, for both types of entries.
#[derive(Clone, Debug)]
pub struct StageOutcome<T> {
    /// One verdict for each row, or none to keep all.
    pub verdicts: Vec<u8>,
    /// Changes of the shown rows.
    pub changes: Option<Changes>,
    /// Annotations of rows.
    pub annotations: Option<Annotations>,
    /// The requested actions.
    pub requests: Requests<T>,
}

impl<T: Default> Default for StageOutcome<T> {
    fn default() -> Self {
        StageOutcome { verdicts: Vec::new(), changes: None, annotations: None, requests: Requests::default() }
    }
}

impl From<Outcome> for StageOutcome<Flows> {
    fn from(outcome: Outcome) -> Self {
        let Outcome { verdicts, changes, annotations, actions, values } = outcome;
        let requests = Requests { actions: actions.unwrap_or_default(), values: values.unwrap_or_default() };
        StageOutcome { verdicts, changes, annotations, requests }
    }
}

impl From<ExpectationOutcome> for StageOutcome<Expectations> {
    fn from(outcome: ExpectationOutcome) -> Self {
        let ExpectationOutcome { verdicts, annotations, actions, values } = outcome;
        let requests = Requests { actions: actions.unwrap_or_default(), values: values.unwrap_or_default() };
        StageOutcome { verdicts, changes: None, annotations, requests }
    }
}

/// Recorded outcomes, for tests of plugins.
#[derive(Debug, Default)]
pub struct RecordedOutcomes {
    /// The outcomes of flows: one for each batch, and one for the end of the stream.
    pub flows: Vec<StageOutcome<Flows>>,
    /// The outcomes of expectations, likewise.
    pub expectations: Vec<StageOutcome<Expectations>>,
}
