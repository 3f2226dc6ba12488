//! Stock stage `delete`: asks for every entry that reaches it to be removed from the kernel's table.

use flowgate_sdk::{
    Description, ExpectationOutcome, ExpectationStage, Expectations, FlowStage, Flows, Outcome, Plugin, Setup, action,
    bindings::flowgate::conntrack::action::Actions, event,
};

struct Delete;

impl Plugin for Delete {
    fn describe() -> Description {
        Description::new("delete", env!("CARGO_PKG_VERSION"), "Deletes every entry").wants("delete").reads(0)
    }

    fn configure(_setup: &Setup) -> Result<Self, String> {
        Ok(Delete)
    }
}

/// A deletion for each of these rows: the entry says all that is needed.
fn delete(rows: Vec<u32>) -> Option<Actions> {
    let length = rows.len();
    (length > 0).then(|| Actions { kinds: vec![action::DELETE; length], rows, values: vec![action::NO_ROW; length] })
}

impl FlowStage for Delete {
    fn process(&mut self, batch: &Flows) -> Outcome {
        let entries = batch.flows().filter(|flow| flow.event() != event::GAP).map(|flow| flow.row() as u32);
        Outcome { actions: delete(entries.collect()), ..Outcome::default() }
    }
}

impl ExpectationStage for Delete {
    fn process(&mut self, batch: &Expectations) -> ExpectationOutcome {
        ExpectationOutcome { actions: delete((0..batch.length).collect()), ..ExpectationOutcome::default() }
    }
}

flowgate_sdk::full_stage!(Delete);

#[cfg(test)]
mod tests {
    use flowgate_sdk::{bindings::flowgate::conntrack::flow::Events, family};

    use super::*;

    #[test]
    fn every_entry_and_no_gap() {
        let mut batch = Flows { length: 3, has: vec![0; 3], family: vec![family::IPV4; 3], ..Flows::default() };
        let all = FlowStage::process(&mut Delete, &batch);
        assert!(all.verdicts.is_empty());
        assert_eq!(all.actions.unwrap().rows, [0, 1, 2]);

        batch.events = Some(Events { kind: vec![event::NEW, event::GAP, event::UPDATE], ..Events::default() });
        let actions = FlowStage::process(&mut Delete, &batch).actions.unwrap();
        assert_eq!(actions.rows, [0, 2]);
        assert_eq!(actions.kinds, [action::DELETE; 2]);
        assert_eq!(actions.values, [action::NO_ROW; 2]);
    }

    #[test]
    fn nothing_of_nothing() {
        assert!(FlowStage::process(&mut Delete, &Flows::default()).actions.is_none());
        assert!(ExpectationStage::process(&mut Delete, &Expectations::default()).actions.is_none());
    }
}
