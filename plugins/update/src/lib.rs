//! Stock stage `update`: asks for the values of a template to be set in every flow that reaches it, and drops the flows that
//! have them already.

mod values;

use flowgate_sdk::{
    Description, FlowStage, FlowTemplate, Flows, Outcome, Plugin, Setup, action,
    bindings::flowgate::conntrack::action::Actions, event, field, verdict,
};

#[derive(Default)]
struct Update {
    /// A table of one row: what the command line said.
    template: Flows,
}

impl Plugin for Update {
    fn describe() -> Description {
        Description::new("update", env!("CARGO_PKG_VERSION"), "Sets values in every flow")
            .wants("update")
            .reads(field::PROTOCOL | field::STATUS | field::TIMEOUT | field::MARK | field::STATE | field::LABELS)
    }

    fn configure(_setup: &Setup) -> Result<Self, String> {
        Ok(Update::default())
    }
}

impl FlowTemplate for Update {
    fn template(&mut self, values: Flows) -> Result<(), String> {
        match values.length {
            1 => {
                self.template = values;
                Ok(())
            }
            length => Err(format!("a template has one row, not {length}")),
        }
    }
}

impl FlowStage for Update {
    fn process(&mut self, batch: &Flows) -> Outcome {
        let template = self.template.flow(0);
        let mut verdicts = Vec::with_capacity(batch.length as usize);
        let mut actions = Actions::default();
        let mut values = Flows::default();
        for flow in batch.flows() {
            let set = match template {
                Some(template) if flow.event() != event::GAP => values::of(&flow, &template),
                _ => None,
            };
            verdicts.push(if set.is_some() { verdict::KEEP } else { verdict::DROP });
            if let Some(set) = set {
                actions.kinds.push(action::UPDATE);
                actions.rows.push(flow.row() as u32);
                actions.values.push(values.length);
                set.append_to(&mut values);
            }
        }
        Outcome { verdicts, actions: Some(actions), values: Some(values), ..Outcome::default() }
    }
}

flowgate_sdk::template_stage!(Update);

#[cfg(test)]
mod tests;
