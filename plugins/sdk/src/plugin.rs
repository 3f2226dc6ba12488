//! The traits that a plugin implements, one for each interface of the WIT package.

use std::time::Duration;

use crate::{
    Aggregation, Counts, Description, ExpectationOutcome, Expectations, Flow, Flows, Groups, Notes, Outcome, Program,
    Results, Selection, Setup, verdict,
};

/// Implemented by every plugin. Interface `plugin`.
pub trait Plugin: Sized + 'static {
    /// Returns the plugin's description; called first, perhaps alone.
    fn describe() -> Description;

    /// Makes the plugin from its options. The error is shown to the user; it should name the option and the value, and
    /// say what would be right.
    ///
    /// # Errors
    /// Anything that prevents the plugin from starting.
    fn configure(setup: &Setup) -> Result<Self, String>;
}

/// A stage that processes whole batches. Interface `flow-stage`.
pub trait FlowStage: Plugin {
    /// Processes a batch and returns the outcome.
    fn process(&mut self, batch: &Flows) -> Outcome;

    /// Returns the called at the end of the stream. Only actions on flows outside a batch make sense here.
    fn finish(&mut self) -> Outcome {
        Outcome::default()
    }
}

/// A stage that processes one flow at a time; every [`Filter`] is a [`FlowStage`].
pub trait Filter: Plugin {
    /// Returns true if later stages and the format see the flow. Annotations and actions are added to `notes`.
    fn keep(&mut self, flow: &Flow<'_>, notes: &mut Notes) -> bool;

    /// Called at the end of the stream.
    fn finish(&mut self, _notes: &mut Notes) {}
}

impl<T: Filter> FlowStage for T {
    fn process(&mut self, batch: &Flows) -> Outcome {
        let mut notes = Notes::default();
        let mut dropped = false;
        let verdicts = batch
            .flows()
            .map(|flow| {
                let keep = self.keep(&flow, &mut notes);
                dropped |= !keep;
                if keep { verdict::KEEP } else { verdict::DROP }
            })
            .collect();
        notes.outcome(if dropped { verdicts } else { Vec::new() })
    }

    fn finish(&mut self) -> Outcome {
        let mut notes = Notes::default();
        Filter::finish(self, &mut notes);
        notes.outcome(Vec::new())
    }
}

/// A stage that is called periodically. Interface `flow-tick`; needs the grant `tick`.
pub trait FlowTick: Plugin {
    /// Returns the interval between ticks, at least 100 ms.
    fn interval(&self) -> Duration;

    /// Called at this wall clock time in nanoseconds since 1970. Actions on flows with a [`crate::Key`] are added to
    /// `notes`.
    fn tick(&mut self, time: u64, notes: &mut Notes);
}

/// A stage that receives the results of its actions. Interface `action-results`.
pub trait ActionResults: Plugin {
    /// Receives the results ([`crate::result`]) of the actions since the last call, in the order of the requests.
    fn learn(&mut self, results: &Results);
}

/// A stage that receives the whole table before live events, and again after events were lost. Interface
/// `flow-look-back`; needs the grant `look-back`.
pub trait FlowLookBack: Plugin {
    /// Called before the table, with the reason: 1 at the start, 2 because events were lost, 3 because this instance is
    /// new.
    fn begin(&mut self, _reason: u8) {}

    /// Processes an entry of the table. Actions are added to `notes`; annotations make no sense here.
    fn entry(&mut self, flow: &Flow<'_>, notes: &mut Notes);

    /// Called after the last entry.
    fn end(&mut self, _notes: &mut Notes) {}
}

/// Returns the interval in milliseconds, as WIT has it.
#[doc(hidden)]
pub fn milliseconds(interval: Duration) -> u32 {
    u32::try_from(interval.as_millis()).unwrap_or(u32::MAX)
}

/// Returns the outcome of a call that can only request actions.
#[doc(hidden)]
pub fn actions_of(call: impl FnOnce(&mut Notes)) -> Outcome {
    let mut notes = Notes::default();
    call(&mut notes);
    notes.outcome(Vec::new())
}

/// A stage that applies the command's selector. Interface `flow-selection`.
pub trait FlowSelection: Plugin {
    /// Receives the selector; called before the first batch.
    ///
    /// # Errors
    /// Returns an error for a selector that the stage cannot apply.
    fn select(&mut self, selection: Selection) -> Result<(), String>;
}

/// A stage that applies the command's query. Interface `flow-query`.
pub trait FlowQuery: Plugin {
    /// Receives the condition that a flow must satisfy; called before the first batch.
    ///
    /// # Errors
    /// Returns an error for a program that the stage cannot evaluate.
    fn query(&mut self, condition: Program) -> Result<(), String>;
}

/// Groups flows. Interface `flow-aggregate`.
pub trait FlowAggregate: Plugin {
    /// Receives what is computed; called before the first batch.
    ///
    /// # Errors
    /// Returns an error for what it cannot compute.
    fn aggregate(&mut self, aggregation: Aggregation) -> Result<(), String>;

    /// Adds the flows of a batch.
    ///
    /// # Errors
    /// Returns an error if there are more groups than allowed.
    fn add(&mut self, batch: &Flows) -> Result<(), String>;

    /// Returns the groups since the last call, and forgets them. Beginning and end of the window are in nanoseconds
    /// since 1970; both are 0 for a whole stream.
    fn take(&mut self, since: u64, until: u64) -> Groups;
}

/// A format for the results of aggregations. Interface `groups-format`.
pub trait GroupsFormat: Plugin {
    /// Returns a result as bytes.
    fn render(&mut self, groups: &Groups) -> Vec<u8>;
}

/// A stage that sets the values of a template. Interface `flow-template`.
pub trait FlowTemplate: Plugin {
    /// Receives a table of one row; called before the first batch.
    ///
    /// # Errors
    /// Returns an error for a template that the stage cannot apply.
    fn template(&mut self, values: Flows) -> Result<(), String>;
}

/// A format for flows. Interface `flow-format`.
pub trait FlowFormat: Plugin {
    /// Returns the beginning of the output, even if no flow follows.
    fn begin(&mut self) -> Vec<u8> {
        Vec::new()
    }

    /// Returns a batch as bytes.
    fn render(&mut self, batch: &Flows) -> Vec<u8>;

    /// Returns the end of the output.
    fn finish(&mut self) -> Vec<u8> {
        Vec::new()
    }
}

/// A stage for expectations. Interface `expectation-stage`.
pub trait ExpectationStage: Plugin {
    /// Processes a batch and returns the outcome.
    fn process(&mut self, batch: &Expectations) -> ExpectationOutcome;

    /// Returns the called at the end of the stream.
    fn finish(&mut self) -> ExpectationOutcome {
        ExpectationOutcome::default()
    }
}

/// A format for expectations. Interface `expectation-format`.
pub trait ExpectationFormat: Plugin {
    /// Returns the beginning of the output, even if no expectation follows.
    fn begin(&mut self) -> Vec<u8> {
        Vec::new()
    }

    /// Returns a batch as bytes.
    fn render(&mut self, batch: &Expectations) -> Vec<u8>;

    /// Returns the end of the output.
    fn finish(&mut self) -> Vec<u8> {
        Vec::new()
    }
}

/// A format for statistics. Interface `statistics-format`.
pub trait StatisticsFormat: Plugin {
    /// Returns the counters as bytes.
    fn render(&mut self, counts: &Counts) -> Vec<u8>;
}
