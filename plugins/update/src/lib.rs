//! Stock stage `update`: requests that the values of a template are set in every flow, and drops the flows that would
//! not change.

mod decision;

use flowgate_sdk::{
    Description, Filter, Flow, FlowTemplate, Flows, Notes, Plugin, Setup, Update as Values, event, field,
};

/// The plugin and its template. Without a template nothing changes.
#[derive(Default)]
struct Update {
    /// A table of one row, from the command line.
    template: Flows,
    /// The values to request.
    values: Values,
    /// The values for a flow without labels. If none are added, none are sent: the kernel may have left the flow no
    /// room for any, and would fail even to remove them (ENOSPC) after it has set everything else.
    values_without_labels: Values,
}

/// The fields that decide if a flow changes.
const READS: u64 = field::PROTOCOL | field::STATUS | field::TIMEOUT | field::MARK | field::STATE | field::LABELS;

impl Plugin for Update {
    fn describe() -> Description {
        Description::new("update", env!("CARGO_PKG_VERSION"), "Sets values in every flow").wants("update").reads(READS)
    }

    fn configure(_setup: &Setup) -> Result<Self, String> {
        Ok(Update::default())
    }
}

impl FlowTemplate for Update {
    fn template(&mut self, values: Flows) -> Result<(), String> {
        match (values.length, values.flow(0)) {
            (1, Some(template)) => {
                self.values = Values::of_template(&template);
                self.values_without_labels = self.values.clone();
                if !decision::adds_labels(&template) {
                    let mut rest = values.clone();
                    rest.has.iter_mut().for_each(|has| *has &= !(field::LABELS | field::LABELS_MASK));
                    self.values_without_labels =
                        rest.flow(0).map_or_else(Values::default, |rest| Values::of_template(&rest));
                }
                self.template = values;
                Ok(())
            }
            (length, _) => Err(format!("a template has one row, not {length}")),
        }
    }
}

impl Filter for Update {
    fn keep(&mut self, flow: &Flow<'_>, notes: &mut Notes) -> bool {
        if flow.event() == event::GAP {
            // A gap concerns the stream and not a flow: it must reach everything that sees part of the stream.
            return true;
        }
        let changes = self.template.flow(0).is_some_and(|template| decision::changes(flow, &template));
        if changes {
            notes.update(flow, if flow.labels().is_some() { &self.values } else { &self.values_without_labels });
        }
        changes
    }
}

flowgate_sdk::template_stage!(Update);

#[cfg(test)]
mod tests;
