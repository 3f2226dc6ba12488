//! Stock plugin: keeps the flows that match the selector and the query of a command or a pipeline.
//!
//! Each condition runs over its own column of the batch in a tight loop and clears the verdicts of rows that do not
//! match, which costs a nanosecond or two per flow and condition.

mod condition;
mod nat;
#[cfg(test)]
mod tests;

use condition::Condition;
use flowgate_plugin_query as query;
use flowgate_sdk::{
    Description, FlowQuery, FlowSelection, FlowStage, Flows, Outcome, Plugin, Program, Selection, Setup, event, field,
    verdict,
};

/// The plugin with its compiled selector and query. Without them every flow is kept.
pub struct Match {
    /// Fields that a flow must carry.
    required: u64,
    conditions: Vec<Condition>,
    query: Option<query::Condition>,
    labels: Vec<(u16, String)>,
}

/// The fields that a query can read. The host has those decoded that the selector and the query do read.
const READS: u64 = field::ALL;

impl Plugin for Match {
    fn describe() -> Description {
        Description::new("match", env!("CARGO_PKG_VERSION"), "Keeps the flows that the selector is about").reads(READS)
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        let labels = setup.labels.iter().map(|label| (label.bit, label.name.clone())).collect();
        Ok(Match { required: 0, conditions: Vec::new(), query: None, labels })
    }
}

impl FlowSelection for Match {
    fn select(&mut self, selection: Selection) -> Result<(), String> {
        self.conditions = condition::compile(selection);
        self.required = self.conditions.iter().fold(0, |all, condition| all | condition.requires());
        Ok(())
    }
}

impl FlowQuery for Match {
    fn query(&mut self, condition: Program) -> Result<(), String> {
        self.query = Some(query::Condition::compile(condition)?);
        Ok(())
    }
}

impl FlowStage for Match {
    fn process(&mut self, batch: &Flows) -> Outcome {
        if self.conditions.is_empty() && self.query.is_none() {
            return Outcome::default();
        }
        let mut verdicts = vec![verdict::KEEP; batch.length as usize];
        query::carrying(batch, self.required, &mut verdicts);
        for condition in &self.conditions {
            condition.apply(batch, &mut verdicts);
        }
        if let Some(query) = &self.query {
            query.apply(batch, &self.labels, &mut verdicts);
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

flowgate_sdk::querying_stage!(Match);
