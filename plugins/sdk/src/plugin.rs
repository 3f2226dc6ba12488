//! The traits that a plugin implements, one per interface of the WIT package.

use std::time::Duration;

use crate::{
    Counts, Description, ExpectationOutcome, Expectations, Flow, Flows, Notes, Outcome, Results, Selection, Setup,
    verdict,
};

/// What every plugin is: something that can be described and configured. Interface `plugin`.
pub trait Plugin: Sized + 'static {
    /// Says what the plugin is; called first, perhaps alone.
    fn describe() -> Description;

    /// Makes the plugin from its options. An error is shown to the user, so it should name the option and the value, and
    /// say what would be right.
    ///
    /// # Errors
    /// Whatever keeps the plugin from starting.
    fn configure(setup: &Setup) -> Result<Self, String>;
}

/// A stage that sees whole batches. Interface `flow-stage`.
pub trait FlowStage: Plugin {
    /// Looks at a batch and says what is to become of it.
    fn process(&mut self, batch: &Flows) -> Outcome;

    /// The stream has ended. Only actions on flows outside a batch make sense now.
    fn finish(&mut self) -> Outcome {
        Outcome::default()
    }
}

/// A stage that looks at one flow at a time: the easy way to [`FlowStage`].
pub trait Filter: Plugin {
    /// Whether the flow is to be seen by later stages and by the format. Annotations and actions go into `notes`.
    fn keep(&mut self, flow: &Flow<'_>, notes: &mut Notes) -> bool;

    /// The stream has ended.
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

/// A stage that is called from time to time. Interface `flow-tick`; needs the grant `tick`.
pub trait FlowTick: Plugin {
    /// From one tick to the next: 100 ms at least.
    fn interval(&self) -> Duration;

    /// A tick, at this wall clock time in nanoseconds since 1970. Actions on flows that a [`crate::Key`] names go into
    /// `notes`.
    fn tick(&mut self, time: u64, notes: &mut Notes);
}

/// A stage that hears what became of its actions. Interface `action-results`.
pub trait ActionResults: Plugin {
    /// Results ([`crate::result`]) of the actions since the last time, in the order in which they were asked for.
    fn learn(&mut self, results: &Results);
}

/// A stage that is offered the whole table before live events, and again after some were lost. Interface `flow-look-back`;
/// needs the grant `look-back`.
pub trait FlowLookBack: Plugin {
    /// The table follows: 1 at the start, 2 because events were lost, 3 because this instance is new.
    fn begin(&mut self, _reason: u8) {}

    /// An entry of the table. Actions go into `notes`; annotations make no sense here.
    fn entry(&mut self, flow: &Flow<'_>, notes: &mut Notes);

    /// That was all.
    fn end(&mut self, _notes: &mut Notes) {}
}

/// The interval in milliseconds, as it crosses.
#[doc(hidden)]
pub fn milliseconds(interval: Duration) -> u32 {
    u32::try_from(interval.as_millis()).unwrap_or(u32::MAX)
}

/// The outcome of a call that can only ask for actions.
#[doc(hidden)]
pub fn actions_of(call: impl FnOnce(&mut Notes)) -> Outcome {
    let mut notes = Notes::default();
    call(&mut notes);
    notes.outcome(Vec::new())
}

/// A stage that applies the command's selector. Interface `flow-selection`.
pub trait FlowSelection: Plugin {
    /// Takes the selector; called before the first batch.
    ///
    /// # Errors
    /// A selector that the stage cannot apply.
    fn select(&mut self, selection: Selection) -> Result<(), String>;
}

/// A stage that sets the values of a template. Interface `flow-template`.
pub trait FlowTemplate: Plugin {
    /// Takes a table of one row; called before the first batch.
    ///
    /// # Errors
    /// A template that the stage cannot apply.
    fn template(&mut self, values: Flows) -> Result<(), String>;
}

/// A format for flows. Interface `flow-format`.
pub trait FlowFormat: Plugin {
    /// What stands before everything, even if no flow follows.
    fn begin(&mut self) -> Vec<u8> {
        Vec::new()
    }

    /// A batch as bytes.
    fn render(&mut self, batch: &Flows) -> Vec<u8>;

    /// What stands after everything.
    fn finish(&mut self) -> Vec<u8> {
        Vec::new()
    }
}

/// A stage for expectations. Interface `expectation-stage`.
pub trait ExpectationStage: Plugin {
    /// Looks at a batch.
    fn process(&mut self, batch: &Expectations) -> ExpectationOutcome;

    /// The stream has ended.
    fn finish(&mut self) -> ExpectationOutcome {
        ExpectationOutcome::default()
    }
}

/// A format for expectations. Interface `expectation-format`.
pub trait ExpectationFormat: Plugin {
    /// What stands before everything, even if no expectation follows.
    fn begin(&mut self) -> Vec<u8> {
        Vec::new()
    }

    /// A batch as bytes.
    fn render(&mut self, batch: &Expectations) -> Vec<u8>;

    /// What stands after everything.
    fn finish(&mut self) -> Vec<u8> {
        Vec::new()
    }
}

/// A format for statistics. Interface `statistics-format`.
pub trait StatisticsFormat: Plugin {
    /// The counters as bytes.
    fn render(&mut self, counts: &Counts) -> Vec<u8>;
}
