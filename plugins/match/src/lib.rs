//! Stock plugin: keeps the flows that match the selector of a command or a pipeline.
//!
//! Each condition runs over its own column of the batch in a tight loop and clears the verdicts of rows that do not
//! match, which costs a nanosecond or two per flow and condition.

mod condition;
mod nat;
#[cfg(test)]
mod tests;

use condition::Condition;
use flowgate_sdk::{
    Description, FlowSelection, FlowStage, Flows, Outcome, Plugin, Selection, Setup, event, field, verdict,
};

/// The plugin and its compiled selector. Without a selector every flow is kept.
pub struct Match {
    /// Fields that a flow must carry.
    required: u64,
    conditions: Vec<Condition>,
}

/// The fields that a selector can compare.
const READS: u64 = field::TUPLES
    | field::ZONES
    | field::STATUS
    | field::TIMEOUT
    | field::MARK
    | field::SECMARK
    | field::ID
    | field::STATE
    | field::LABELS;

impl Plugin for Match {
    fn describe() -> Description {
        Description::new("match", env!("CARGO_PKG_VERSION"), "Keeps the flows that the selector is about").reads(READS)
    }

    fn configure(_setup: &Setup) -> Result<Self, String> {
        Ok(Match { required: 0, conditions: Vec::new() })
    }
}

impl FlowSelection for Match {
    fn select(&mut self, selection: Selection) -> Result<(), String> {
        self.conditions = condition::compile(selection);
        self.required = self.conditions.iter().fold(0, |all, condition| all | condition.requires());
        Ok(())
    }
}

impl FlowStage for Match {
    fn process(&mut self, batch: &Flows) -> Outcome {
        if self.conditions.is_empty() {
            return Outcome::default();
        }
        let mut verdicts = vec![verdict::KEEP; batch.length as usize];
        condition::and(&mut verdicts, &batch.has, |has| has & self.required == self.required);
        for condition in &self.conditions {
            condition.apply(batch, &mut verdicts);
        }
        if let Some(events) = &batch.events {
            // A gap concerns the stream and not a flow: it must reach everything that sees part of the stream.
            for (verdict, &kind) in verdicts.iter_mut().zip(&events.kind) {
                if kind == event::GAP {
                    *verdict = verdict::KEEP;
                }
            }
        }
        if verdicts.iter().all(|&verdict| verdict == verdict::KEEP) {
            verdicts = Vec::new();
        }
        Outcome { verdicts, ..Outcome::default() }
    }
}

flowgate_sdk::selecting_stage!(Match);
