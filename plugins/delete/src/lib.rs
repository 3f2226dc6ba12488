//! Stock stage `delete`: requests that every entry is deleted from the kernel's table.

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

/// Returns a deletion of each of these rows, without values.
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
        let entries = batch.expectations().filter(|entry| entry.event() != event::GAP).map(|entry| entry.row() as u32);
        ExpectationOutcome { actions: delete(entries.collect()), ..ExpectationOutcome::default() }
    }
}

flowgate_sdk::full_stage!(Delete);

#[cfg(test)]
mod tests {
    use flowgate_sdk::{
        family, protocol,
        testing::{Expected, Row, batch, expectations},
    };

    use super::*;

    fn rows(actions: Option<Actions>) -> Vec<u32> {
        let actions = actions.unwrap();
        assert_eq!(actions.kinds, vec![action::DELETE; actions.rows.len()]);
        assert_eq!(actions.values, vec![action::NO_ROW; actions.rows.len()]);
        actions.rows
    }

    #[test]
    fn every_flow_and_no_gap() {
        let entry = || Row::ipv4(protocol::TCP);
        let all = FlowStage::process(&mut Delete, &batch([entry(), Row::ipv6(50), entry()]));
        assert!(all.verdicts.is_empty() && all.values.is_none() && all.changes.is_none());
        assert_eq!(rows(all.actions), [0, 1, 2]);

        let events = [entry().event(event::NEW), Row::default().event(event::GAP), entry().event(event::UPDATE)];
        let some = FlowStage::process(&mut Delete, &batch(events));
        assert!(some.verdicts.is_empty());
        assert_eq!(rows(some.actions), [0, 2]);
    }

    #[test]
    fn every_expectation_and_no_gap() {
        let entry = |kind| Expected { event: kind, ..Expected::new(family::IPV4, protocol::UDP) };
        let all = ExpectationStage::process(&mut Delete, &expectations([entry(event::NONE), entry(event::NONE)]));
        assert!(all.verdicts.is_empty() && all.values.is_none());
        assert_eq!(rows(all.actions), [0, 1]);
        let some = ExpectationStage::process(&mut Delete, &expectations([entry(event::GAP), entry(event::NEW)]));
        assert_eq!(rows(some.actions), [1]);
    }

    #[test]
    fn nothing_of_nothing() {
        assert!(FlowStage::process(&mut Delete, &Flows::default()).actions.is_none());
        assert!(FlowStage::process(&mut Delete, &batch([Row::default().event(event::GAP)])).actions.is_none());
        assert!(ExpectationStage::process(&mut Delete, &Expectations::default()).actions.is_none());
    }
}
